/** The operator's delivery listener for tests: the real one, with a certificate and token keys of its own, and pods as the test says. */
import { generateKeyPairSync, randomUUID, sign } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { TOKEN_AUDIENCE } from '@farebox/crds/cluster.ts'
import type { SidecarReport } from '@farebox/crds/delivery.ts'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import type { DeliveryCount, DeliveryEvents } from '@farebox/operator/delivery/events.ts'
import { ReportBook } from '@farebox/operator/delivery/report-book.ts'
import { createDeliveryServer } from '@farebox/operator/delivery/server.ts'
import type { DeliveryServer, DeliveryServerOptions } from '@farebox/operator/delivery/server.ts'
import { streamConfigOf, StreamHub } from '@farebox/operator/delivery/stream-hub.ts'
import type { StreamConfig, StreamHubOptions } from '@farebox/operator/delivery/stream-hub.ts'
import { TokenVerifier } from '@farebox/operator/delivery/token-verifier.ts'
import { selfSigned } from '@farebox/sidecar/proxy/certificates.testing.ts'
import { onFreePorts } from './free-ports.ts'

const ISSUER = 'https://kubernetes.default.svc'
const UNTIL_MS_MAX = 60_000

export interface TestPod {
  readonly namespace: string
  readonly name: string
  readonly uid: string
}

export interface TestOperator {
  readonly url: string
  /** PEM. */
  readonly ca: string
  readonly book: ReportBook
  readonly hub: StreamHub
  readonly server: DeliveryServer
  count(what: DeliveryCount): number
  /** In the pod cache from now on. */
  addPod(name: string, namespace?: string, uid?: string): TestPod
  removePod(pod: TestPod): void
  /** Signed by the cluster's key, or as `claims` and `key` say. */
  token(pod: TestPod | null, claims?: Readonly<Record<string, unknown>>, key?: KeyObject): string
  /** Of all pods. `null`: no budget governs any. */
  publish(config: SidecarConfig | StreamConfig | null): void
  /** What a pod last said. */
  report(pod: TestPod): SidecarReport | undefined
  /** Waits for a report of the pod. */
  untilReport(pod: TestPod, isIt: (report: SidecarReport) => boolean): Promise<SidecarReport>
  /** The environment of a sidecar in this pod. */
  environment(pod: TestPod): Record<string, string>
  /** Whether the API server answers who asks for its keys. */
  setApiServer(isThere: boolean): void
  /** Away: streams break off without a word, or with a goodbye. */
  stop(how?: 'cut' | 'goodbye'): Promise<void>
  /** Back on the same port. */
  start(): Promise<void>
  close(): Promise<void>
}

export interface TestOperatorOptions {
  readonly hub?: Partial<StreamHubOptions>
  readonly server?: Partial<DeliveryServerOptions>
  readonly podWaitMs?: number
}

/** Whole, in the place of the one that was there: nobody reads half of it. */
export function mountFile(path: string, text: string): void {
  writeFileSync(`${path}.new`, text)
  renameSync(`${path}.new`, path)
}

export async function startOperator(options: TestOperatorOptions = {}): Promise<TestOperator> {
  const folder = mkdtempSync(join(tmpdir(), 'farebox-operator-'))
  const certificate = selfSigned(['localhost', 'farebox-operator.farebox.svc'], { byAddress: true })
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const jwks = JSON.stringify({ keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'one', alg: 'ES256', use: 'sig' }] })
  const pods = new Map<string, { readonly metadata: { readonly uid: string } }>()
  const counts = new Map<DeliveryCount, number>()
  const events: DeliveryEvents = {
    count: (what, by = 1) => counts.set(what, (counts.get(what) ?? 0) + by),
    log: () => undefined,
  }
  let isApiServerThere = true
  const verifier = new TokenVerifier({
    kube: {
      text: async (path) => {
        if (!isApiServerThere) throw new Error('the API server does not answer')
        return path === '/openid/v1/jwks' ? jwks : JSON.stringify({ issuer: ISSUER })
      },
    },
    pods,
    nowMs: Date.now,
    events,
    podWaitMs: options.podWaitMs ?? 2_000,
  })
  const book = new ReportBook()
  let config: StreamConfig | null = null
  let isReleased = false
  const newHub = (): StreamHub =>
    new StreamHub({
      configFor: () => (config !== null ? { status: 'governed', config } : { status: isReleased ? 'released' : 'pending' }),
      events,
      nowMs: Date.now,
      ...options.hub,
    })
  const newServer = (hub: StreamHub): DeliveryServer =>
    createDeliveryServer({
      certificate,
      verifier,
      hub,
      events,
      nowMs: Date.now,
      ownServiceAccount: { namespace: 'farebox', name: 'farebox-operator' },
      takeReport: (received) => void book.put(received),
      isLeader: () => true,
      tiersOf: () => ['pro'],
      knowsPod: ({ namespace, name, uid }) => pods.get(`${namespace}/${name}`)?.metadata.uid === uid,
      ...options.server,
    })
  let hub = newHub()
  let server = newServer(hub)
  const port = await onFreePorts(1, async ([free = 0]) => {
    await server.listen('127.0.0.1', free)
    return free
  })
  await verifier.start()

  const token: TestOperator['token'] = (pod, claims = {}, key = privateKey) => {
    const nowS = Math.floor(Date.now() / 1_000)
    const payload = {
      iss: ISSUER,
      aud: [TOKEN_AUDIENCE],
      iat: nowS,
      nbf: nowS,
      exp: nowS + 3_600,
      'kubernetes.io': {
        namespace: pod?.namespace ?? 'farebox',
        ...(pod === null ? {} : { pod: { name: pod.name, uid: pod.uid } }),
        serviceaccount: { name: pod === null ? 'farebox-operator' : 'default', uid: 'sa-uid' },
      },
      ...claims,
    }
    const text = [{ alg: 'ES256', kid: 'one' }, payload].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')
    return `${text}.${sign('sha256', Buffer.from(text), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`
  }
  const put = (name: string, text: string): string => {
    mountFile(join(folder, name), text)
    return join(folder, name)
  }
  const caFile = put('ca.crt', certificate.cert)

  return {
    url: `https://localhost:${port}`,
    ca: certificate.cert,
    book,
    get hub() {
      return hub
    },
    get server() {
      return server
    },
    count: (what) => counts.get(what) ?? 0,
    addPod(name, namespace = 'shop', uid = randomUUID()) {
      const pod = { namespace, name, uid }
      pods.set(`${namespace}/${name}`, { metadata: { uid: pod.uid } })
      return pod
    },
    removePod: ({ namespace, name }) => void pods.delete(`${namespace}/${name}`),
    token,
    publish(next) {
      config = next === null ? null : 'text' in next ? next : streamConfigOf(JSON.stringify(next))
      isReleased = next === null
      hub.changed()
    },
    report: (pod) => book.get(pod.uid)?.report,
    async untilReport(pod, isIt) {
      const end = performance.now() + UNTIL_MS_MAX
      for (;;) {
        const report = book.get(pod.uid)?.report
        if (report !== undefined && isIt(report)) return report
        if (performance.now() > end) throw new Error(`no such report; the last one: ${JSON.stringify(report)}`)
        await sleep(10)
      }
    },
    environment: (pod) => ({
      FAREBOX_OPERATOR: `https://localhost:${port}`,
      FAREBOX_OPERATOR_CA: caFile,
      FAREBOX_TOKEN: put(`token-${pod.name}`, `${token(pod)}\n`),
      FAREBOX_POD: pod.name,
      FAREBOX_NAMESPACE: pod.namespace,
    }),
    setApiServer: (isThere) => {
      isApiServerThere = isThere
    },
    async stop(how = 'goodbye') {
      if (how === 'cut') for (const { pod } of hub.connected()) hub.podGone(pod.uid)
      await server.drain(0)
    },
    async start() {
      hub = newHub()
      server = newServer(hub)
      await server.listen('127.0.0.1', port)
    },
    async close() {
      await server.drain(0).catch(() => undefined)
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
