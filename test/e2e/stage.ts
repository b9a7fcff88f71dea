/**
 * What the tests on a real node play on: a cluster with the charts installed from this checkout's images, and the fake provider on
 * this machine, where pods reach it.
 */
import assert from 'node:assert/strict'
import { chmodSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { CARRIERS } from '@farebox/crds/identity.ts'
import { parseUsd } from '@farebox/crds/usd.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import type { Cluster } from '../cluster/cluster.ts'
import { runOnNode } from '../cluster/on-node.ts'
import { packageOf, requirePackages } from '../cluster/system-packages.ts'
import { waitFor } from '../support/wait-for.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider, SeenRequest } from '../provider/server.ts'
import { IMAGES, loadImages } from './images.ts'

export const SYSTEM = 'farebox-system'
/** Of pods that are deleted. */
export const GRACE_S = 5
/** The provider takes this key alone: no app of these tests has it. */
export const REAL_KEY = 'sk-real-and-secret'
const CHARTS = fileURLToPath(new URL('../../charts/', import.meta.url))
const READY_MS_MAX = 120_000
const ADMIN_PORT = 4181
const APP_PORT = 8080

export interface Stage {
  readonly cluster: Cluster
  readonly provider: Provider
  /** Requests that the provider got, the oldest first. */
  readonly seen: readonly SeenRequest[]
  apply(...objects: readonly object[]): Promise<void>
  /** JSON of one object; null where there is none. */
  get<T>(kind: string, name: string, namespace?: string): Promise<T | null>
  close(): Promise<void>
}

/** Loads the images, and starts the provider. Nothing is installed yet. */
export async function openStage(cluster: Cluster): Promise<Stage> {
  requirePackages('a look into pods', [packageOf('curl')], console.log)
  await loadImages(cluster)
  const seen: SeenRequest[] = []
  const provider = await startProvider({ host: cluster.host, apiKeys: [REAL_KEY], onRequest: (request) => seen.push(request) })
  return {
    cluster,
    provider,
    seen,
    async apply(...objects) {
      const list = { apiVersion: 'v1', kind: 'List', items: objects }
      await cluster.kubectl(['apply', '--server-side', '--force-conflicts', '-f', '-'], { input: JSON.stringify(list) })
    },
    async get<T>(kind: string, name: string, namespace?: string) {
      const place = namespace === undefined ? [] : ['-n', namespace]
      const { stdout } = await cluster.kubectl(['get', kind, name, ...place, '-o', 'json', '--ignore-not-found'])
      return stdout.trim() === '' ? null : (JSON.parse(stdout) as T)
    },
    close: () => provider.close(),
  }
}

/** Both charts, as a newcomer installs them: with the images of this checkout, and a volume for the store. */
export async function install({ cluster, apply }: Pick<Stage, 'cluster' | 'apply'>): Promise<void> {
  const folder = join(cluster.folder, 'store')
  mkdirSync(folder, { recursive: true })
  chmodSync(folder, 0o777)
  await apply({
    apiVersion: 'v1',
    kind: 'PersistentVolume',
    metadata: { name: 'store' },
    spec: {
      capacity: { storage: '4Gi' },
      accessModes: ['ReadWriteOnce'],
      persistentVolumeReclaimPolicy: 'Retain',
      storageClassName: 'by-hand',
      hostPath: { path: folder },
    },
  })
  const image = (tagged: string): object => {
    const [repository, tag] = tagged.split(':')
    return { repository, tag, pullPolicy: 'Never' }
  }
  const values = {
    operator: { image: image(IMAGES.operator) },
    sidecar: { image: image(IMAGES.sidecar) },
    store: { valkey: { image: image(IMAGES.store), persistence: { storageClassName: 'by-hand' } } },
  }
  await cluster.helm(['install', 'farebox-crds', join(CHARTS, 'farebox-crds'), '-n', SYSTEM, '--create-namespace'])
  const release = ['install', 'farebox', join(CHARTS, 'farebox'), '-n', SYSTEM, '--wait', '--timeout', '120s', '-f', '-']
  await cluster.helm(release, { input: JSON.stringify(values) })
}

/** A namespace in which nothing runs that asks for privileges. */
export function namespaceOf(name: string): object {
  const labels = { 'pod-security.kubernetes.io/enforce': 'restricted', 'pod-security.kubernetes.io/enforce-version': 'latest' }
  return { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } }
}

/** A price per conversation, a tenth of which may go to the provider. */
export function tierOf(name: string, price: string): object {
  return {
    apiVersion: 'farebox.dev/v1alpha1',
    kind: 'PricingTier',
    metadata: { name },
    spec: {
      displayName: name,
      pricing: { model: 'PerConversation', price },
      unitEconomics: { targetGrossMarginPercent: 90 },
      models: { downgrades: [{ from: 'gpt-4o', to: 'gpt-4o-mini' }] },
    },
  }
}

/** Governs the pods labelled `app: NAME`, and holds the key of the provider in their place. */
export function budgetOf(
  { provider }: Pick<Stage, 'provider'>,
  { name, namespace, tier, more = {} }: { name: string; namespace: string; tier: string; more?: Readonly<Record<string, unknown>> },
): readonly object[] {
  const upstream = {
    name: 'openai',
    provider: 'openai',
    baseURL: `${provider.url}/v1`,
    credential: { secretRef: { name: 'openai', key: 'api-key' } },
  }
  return [
    { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'openai', namespace }, stringData: { 'api-key': REAL_KEY } },
    {
      apiVersion: 'farebox.dev/v1alpha1',
      kind: 'ConversationBudget',
      metadata: { name, namespace },
      spec: {
        selector: { matchLabels: { app: name } },
        tier: { default: tier },
        upstreams: [upstream],
        identity: { carriers: [...CARRIERS] }, // the app has one `prompt_cache_key` for each chat
        ...more,
      },
    },
  ]
}

/** As its team wrote it: nothing in it speaks of Farebox. */
export function podSpec(args: readonly string[] = []): Readonly<Record<string, unknown>> {
  return {
    securityContext: { runAsNonRoot: true, runAsUser: 65_532, seccompProfile: { type: 'RuntimeDefault' } },
    terminationGracePeriodSeconds: GRACE_S,
    containers: [
      {
        name: 'app',
        image: IMAGES.app,
        imagePullPolicy: 'Never',
        // A Job's app serves nobody.
        ...(args.length === 0
          ? { readinessProbe: { tcpSocket: { port: APP_PORT }, periodSeconds: 1 } }
          : { args: ['/app/main.mjs', ...args] }),
        env: [{ name: 'OPENAI_API_KEY', value: 'sk-of-the-team' }],
        resources: { requests: { cpu: '20m', memory: '64Mi' }, limits: { cpu: '1', memory: '256Mi' } },
        securityContext: { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } },
      },
    ],
  }
}

export function deploymentOf(name: string, namespace: string, replicas: number, spec = podSpec()): object {
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name, namespace },
    spec: { replicas, selector: { matchLabels: { app: name } }, template: { metadata: { labels: { app: name } }, spec } },
  }
}

export interface Pod {
  readonly metadata: {
    readonly name: string
    readonly uid: string
    readonly annotations?: Readonly<Record<string, string>>
    readonly deletionTimestamp?: string
  }
  readonly spec: { readonly initContainers?: readonly { readonly name: string }[]; readonly terminationGracePeriodSeconds?: number }
  readonly status: {
    readonly phase: string
    readonly podIP?: string
    readonly qosClass?: string
    readonly containerStatuses?: readonly ContainerStatus[]
    readonly initContainerStatuses?: readonly ContainerStatus[]
  }
}
export interface ContainerStatus {
  readonly name: string
  readonly ready: boolean
  readonly started?: boolean
  readonly restartCount: number
  /** `containerd://ID` */
  readonly containerID?: string
  readonly state?: { readonly terminated?: { readonly exitCode: number } }
}

export async function podsOf({ cluster }: Stage, namespace: string, app: string): Promise<readonly Pod[]> {
  const { stdout } = await cluster.kubectl(['get', 'pods', '-n', namespace, '-l', `app=${app}`, '-o', 'json'])
  const { items } = JSON.parse(stdout) as { readonly items: readonly Pod[] }
  return items.filter(({ metadata }) => metadata.deletionTimestamp === undefined)
}

/** Waits until so many pods run with each container ready, the sidecar among them. */
export async function readyPods(stage: Stage, namespace: string, app: string, count: number): Promise<readonly Pod[]> {
  return waitFor(
    `${count} pods of ${app}, ready`,
    async () => {
      const pods = await podsOf(stage, namespace, app)
      const ready = pods.filter(({ status }) =>
        [...(status.containerStatuses ?? []), ...(status.initContainerStatuses ?? [])].every(({ ready: is }) => is),
      )
      return ready.length === count && pods.length === count && ready.every(({ status }) => status.phase === 'Running') ? ready : null
    },
    { withinMs: READY_MS_MAX },
  )
}

export interface Said {
  readonly status: number
  readonly code: string | null
  readonly text: string
  readonly headers: Readonly<Record<string, string>>
}

/** Lets the app of a pod say something to its model, through the `openai` client. */
export async function say(pod: Pod, what: Readonly<Record<string, unknown>>): Promise<Said> {
  return (await ask(pod, '/say', what)) as Said
}

export async function ask(pod: Pod, path: string, body?: object): Promise<unknown> {
  const response = await fetch(`http://${pod.status.podIP}:${APP_PORT}${path}`, {
    ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }),
    signal: AbortSignal.timeout(60_000),
  })
  const said: unknown = await response.json()
  assert.equal(response.status, 200, JSON.stringify(said))
  return said
}

/** Hash of the config that a pod's sidecar has in force, by its metrics. */
export async function hashInForce(pod: Pod): Promise<string | null> {
  return /^farebox_config_info\{[^}]*hash="([0-9a-f]+)"/m.exec(await metricsOf(pod))?.[1] ?? null
}

/** Whether it has the operator's stream. */
export async function isConnected(pod: Pod): Promise<boolean> {
  return /^farebox_delivery_connected 1$/m.test(await metricsOf(pod))
}

async function metricsOf(pod: Pod): Promise<string> {
  const response = await fetch(`http://${pod.status.podIP}:${ADMIN_PORT}/metrics`, { signal: AbortSignal.timeout(2_000) })
  return response.text()
}

/** An answer of 2,000 tokens, 10 ms each, billed by the name of its conversation; resolves when it is over, however it ends. */
export async function slowStream(pod: Pod, conversation: string): Promise<void> {
  const fake = { 'x-fake-output-tokens': '2000', 'x-fake-token-delay-ms': '10', 'x-fake-tag': conversation }
  await say(pod, { conversation, user: 'bob', text: 'Count.', stream: true, fake }).catch(() => undefined)
}

export function sidecarOf({ status }: Pod): ContainerStatus | undefined {
  return status.initContainerStatuses?.find(({ name }) => name === 'farebox')
}

/** SIGKILL, from outside the pod. */
export function killSidecar(stage: Stage, pod: Pod): void {
  onTheNode(stage, 'ctr', ...engineOf(stage), 'tasks', 'kill', '--signal', 'SIGKILL', containerOf(pod))
}

export interface Books {
  /** What it was charged, and what is held for it. */
  readonly charged: NanoUsd
  readonly entries: readonly { readonly kind: string; readonly conversation?: string }[]
}

/** What the books say of a conversation of bob's, as the app of a pod may ask its sidecar. */
export function booksOf(stage: Stage, pod: Pod, name: string): Books {
  const read = (path: string): unknown =>
    JSON.parse(inNetworkOf(stage, pod, 'curl', '--silent', '--fail-with-body', `http://127.0.0.1:4180/farebox/v1/${path}`))
  const standing = read(`conversations/${name}?user=bob`) as { conversation: string; spent: string; held: string }
  const entries: Books['entries'][number][] = []
  for (let after: number | null = 0; after !== null;) {
    const page = read(`ledger?after=${after}&limit=1000`) as { entries: Books['entries']; next: number | null }
    entries.push(...page.entries.filter(({ conversation }) => conversation === standing.conversation))
    after = page.next
  }
  return { charged: parseUsd(standing.spent) + parseUsd(standing.held), entries }
}

/** Drops all that goes between a pod and the operator's delivery port, or lets it pass again. */
export function cutDelivery(stage: Stage, pod: Pod, isCut: boolean): void {
  for (const [chain, port] of [
    ['OUTPUT', '--dport'],
    ['INPUT', '--sport'],
  ] as const)
    inNetworkOf(stage, pod, 'iptables', isCut ? '-I' : '-D', chain, '-p', 'tcp', port, '9444', '-j', 'DROP')
}

function inNetworkOf(stage: Stage, pod: Pod, ...command: readonly string[]): string {
  const tasks = onTheNode(stage, 'ctr', ...engineOf(stage), 'tasks', 'list')
  const pid = new RegExp(`^${containerOf(pod)}\\s+(\\d+)`, 'm').exec(tasks)?.[1]
  assert.ok(pid !== undefined, tasks)
  return onTheNode(stage, 'nsenter', `--target=${pid}`, '--net', ...command)
}

function containerOf(pod: Pod): string {
  const id = sidecarOf(pod)?.containerID?.replace('containerd://', '')
  assert.ok(id !== undefined, `${pod.metadata.name} has no sidecar`)
  return id
}

function engineOf({ cluster }: Stage): readonly string[] {
  return ['--address', cluster.state.node?.engine ?? '', '--namespace', 'k8s.io']
}

function onTheNode({ cluster }: Stage, ...command: readonly string[]): string {
  const { node } = cluster.state
  assert.ok(node !== null)
  return runOnNode(node, command)
}
