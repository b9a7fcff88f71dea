/**
 * The real operator as a process of its own, with the rights that the chart gives it, on a test's control plane. Several at once are
 * replicas of one installation.
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { TOKEN_AUDIENCE } from '@farebox/crds/cluster.ts'
import type { Cluster } from '../cluster/cluster.ts'
import { established } from '../cluster/established.ts'
import { waitFor } from './wait-for.ts'
import { endsWithUs } from './children.ts'
import { onFreePorts } from './free-ports.ts'
import { OPERATOR_MAIN } from './programs.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
export const OPERATOR_NAMESPACE = 'farebox'
const SERVICE_ACCOUNT = 'farebox-operator'
const WEBHOOK = 'farebox'
const READY_MS_MAX = 30_000
const LOG_KEPT = 4 * 1_048_576
/** What needs a node, or what a test does by itself. */
const LEFT_OUT = new Set(['StatefulSet', 'Service', 'PodDisruptionBudget', 'NetworkPolicy', 'Pod', 'Job'])

/** The chart on a cluster, less what needs a node. */
export interface Installation {
  /** What the chart gives the operator by its environment. */
  readonly environment: Readonly<Record<string, string>>
  /** A kubeconfig of the operator's service account. */
  readonly kubeconfig: string
  /** A file with a token by which replicas speak to the leader. */
  readonly tokenFile: string
}

export interface OperatorOptions {
  /** Of the pod that it takes itself for. */
  readonly name?: string
  /** Added to its environment; empty: taken away. */
  readonly environment?: Readonly<Record<string, string>>
  /** The API server asks this one for sidecars: true for the first. */
  readonly isAsked?: boolean
  /** Wait until it is ready. */
  readonly isAwaited?: boolean
  /** Those of one that has ended, so that sidecars find this one where it was; new ones when absent. */
  readonly ports?: Ports
}

export interface Ports {
  readonly webhook: number
  readonly delivery: number
  readonly admin: number
}

export interface Operator {
  readonly name: string
  readonly ports: Ports
  readonly process: ChildProcess
  readonly deliveryUrl: string
  readonly adminUrl: string
  readonly webhookUrl: string
  /** All that it wrote to standard error: JSON, a line per event. */
  log(): string
  metrics(): Promise<string>
  isReady(): Promise<boolean>
  isLeading(): Promise<boolean>
  /** From now on the API server asks this one for sidecars, or whoever is behind `url`. */
  ask(url?: string): Promise<void>
  signal(signal: NodeJS.Signals): void
  /** Asks it to end, and waits until it has; gives its exit code. */
  stop(): Promise<number | null>
  kill(): Promise<void>
}

/** Renders the chart with `values` (`--set` of each), and applies what an operator outside of the cluster needs. Once for a cluster. */
export async function install(cluster: Cluster, values: readonly string[] = []): Promise<Installation> {
  await cluster.kubectl(['create', 'namespace', OPERATOR_NAMESPACE], { mayFail: true })
  const set = values.flatMap((value) => ['--set', value])
  const crds = await cluster.helm(['template', 'farebox-crds', join(ROOT, 'charts/farebox-crds')])
  await cluster.kubectl(['apply', '--server-side', '-f', '-'], { input: crds.stdout })
  await established(cluster, 'crd', '--all')
  const rendered = await cluster.helm(['template', 'farebox', join(ROOT, 'charts/farebox'), '--namespace', OPERATOR_NAMESPACE, ...set])
  const { stdout } = await cluster.kubectl(['create', '--dry-run=client', '--validate=false', '-o', 'json', '-f', '-'], {
    input: rendered.stdout,
  })
  const objects = objectsIn(stdout)
  const deployment = objects.find(({ kind }) => kind === 'Deployment')
  const applied = objects.filter(({ kind }) => !LEFT_OUT.has(kind) && kind !== 'Deployment' && kind !== 'MutatingWebhookConfiguration')
  await cluster.kubectl(['apply', '-f', '-'], { input: JSON.stringify({ apiVersion: 'v1', kind: 'List', items: applied }) })
  const webhook = objects.find(({ kind }) => kind === 'MutatingWebhookConfiguration')
  writeFileSync(join(cluster.folder, 'webhook.json'), JSON.stringify(webhook))
  const tokenFile = join(cluster.folder, 'operator-token')
  writeFileSync(tokenFile, await cluster.tokenOf(OPERATOR_NAMESPACE, SERVICE_ACCOUNT, [TOKEN_AUDIENCE]), { mode: 0o600 })
  return {
    environment: environmentOf(deployment),
    kubeconfig: await cluster.kubeconfigOfServiceAccount(OPERATOR_NAMESPACE, SERVICE_ACCOUNT),
    tokenFile,
  }
}

export async function startOperator(cluster: Cluster, installation: Installation, options: OperatorOptions = {}): Promise<Operator> {
  if (options.ports !== undefined) return startOn(options.ports, cluster, installation, options)
  return onFreePorts(3, ([webhook = 0, delivery = 0, admin = 0]) => startOn({ webhook, delivery, admin }, cluster, installation, options))
}

async function startOn(ports: Ports, cluster: Cluster, installation: Installation, options: OperatorOptions): Promise<Operator> {
  const { name = 'operator-a', isAsked = true, isAwaited = true } = options
  const deliveryUrl = `https://127.0.0.1:${ports.delivery}`
  const adminUrl = `http://127.0.0.1:${ports.admin}`
  const webhookUrl = `https://127.0.0.1:${ports.webhook}/v1/pods`
  const environment: Record<string, string | undefined> = {
    ...process.env,
    ...installation.environment,
    POD_NAME: name,
    POD_NAMESPACE: OPERATOR_NAMESPACE,
    POD_IP: '127.0.0.1',
    SERVICE_ACCOUNT,
    KUBECONFIG: installation.kubeconfig,
    FAREBOX_TOKEN: installation.tokenFile,
    FAREBOX_WEBHOOK_NAME: WEBHOOK,
    FAREBOX_WEBHOOK_LISTEN: `127.0.0.1:${ports.webhook}`,
    FAREBOX_DELIVERY_LISTEN: `127.0.0.1:${ports.delivery}`,
    FAREBOX_ADMIN_LISTEN: `127.0.0.1:${ports.admin}`,
    FAREBOX_DELIVERY_URL: deliveryUrl,
    FAREBOX_TLS_NAMES: 'localhost,127.0.0.1',
    FAREBOX_LEAVE: '200',
    // No Valkey is reached: sidecars of these tests keep books of their own unless the test says otherwise.
    FAREBOX_STORE_ADDRESS: '',
    ...options.environment,
  }
  const ask = async (url = webhookUrl): Promise<void> => {
    const webhook: unknown = JSON.parse(
      (await cluster.kubectl(['create', '--dry-run=client', '-o', 'json', '-f', join(cluster.folder, 'webhook.json')])).stdout,
    )
    await cluster.kubectl(['apply', '--server-side', '--field-manager=test', '--force-conflicts', '-f', '-'], {
      input: JSON.stringify(withUrl(webhook, url)),
    })
  }
  if (isAsked) await ask()
  let log = ''
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', OPERATOR_MAIN], {
    env: environment,
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  child.stderr.on('data', (chunk: Buffer) => {
    log = `${log}${chunk.toString()}`.slice(-LOG_KEPT)
  })
  const exited = once(child, 'exit')
  endsWithUs(child)
  const metrics = async (): Promise<string> => (await fetch(`${adminUrl}/metrics`)).text()
  const operator: Operator = {
    name,
    ports,
    process: child,
    deliveryUrl,
    adminUrl,
    webhookUrl,
    log: () => log,
    metrics,
    isReady: async () => (await fetch(`${adminUrl}/readyz`)).ok,
    isLeading: async () => /^farebox_operator_leader 1$/m.test(await metrics()),
    ask,
    signal: (signal) => child.kill(signal),
    async stop() {
      child.kill('SIGCONT')
      child.kill('SIGTERM')
      await exited
      return child.exitCode
    },
    async kill() {
      child.kill('SIGKILL')
      if (child.exitCode === null && child.signalCode === null) await exited
    },
  }
  if (isAwaited) {
    try {
      const is = await waitFor(
        `operator ${name}`,
        async () => {
          if (child.exitCode !== null) return 'ended' as const
          const answer = await fetch(`${adminUrl}/readyz`)
          if (!answer.ok) throw new Error(await answer.text())
          return 'ready' as const
        },
        { withinMs: READY_MS_MAX },
      )
      if (is === 'ended') throw new Error('it ended')
    } catch (error) {
      child.kill('SIGKILL')
      throw new Error(`operator ${name} did not become ready (${String(error)}):\n${log.slice(-8_000)}`, { cause: error })
    }
  }
  return operator
}

interface Rendered {
  readonly kind: string
  readonly [field: string]: unknown
}

/** What `kubectl -o json` wrote: one object, a list, or several one after the other. */
function objectsIn(text: string): readonly Rendered[] {
  const parsed = JSON.parse(`[${text.replaceAll(/^\}\n\{/gm, '},\n{')}]`) as (Rendered & { readonly items?: readonly Rendered[] })[]
  return parsed.flatMap((object) => (object.kind === 'List' ? (object.items ?? []) : [object]))
}

function environmentOf(deployment: Rendered | undefined): Record<string, string> {
  const { spec } = (deployment ?? {}) as {
    readonly spec?: { template: { spec: { containers: { env?: { name: string; value?: string }[] }[] } } }
  }
  const variables = spec?.template.spec.containers.flatMap(({ env }) => env ?? []) ?? []
  return Object.fromEntries(variables.flatMap(({ name, value }) => (value === undefined ? [] : [[name, value]])))
}

/** `caBundle` is the operator's, unless the chart was given one. */
function withUrl(configuration: unknown, url: string): unknown {
  const { webhooks, ...rest } = configuration as {
    readonly webhooks: readonly { readonly clientConfig: { readonly service?: object; readonly caBundle?: string } }[]
  }
  return {
    ...rest,
    webhooks: webhooks.map((webhook) => {
      const { service: _service, ...clientConfig } = webhook.clientConfig
      return { ...webhook, clientConfig: { ...clientConfig, url } }
    }),
  }
}
