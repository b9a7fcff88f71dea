/** What the leader looks at by the clock alone: nobody tells it of these, and nothing else goes on. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { ANNOTATIONS, RUNTIME_SECRET } from '@farebox/crds/cluster.ts'
import type { Condition } from '@farebox/crds/fields.ts'
import { waitFor } from '../../../test/support/wait-for.ts'
import type { FakeApiServer } from '../../../test/kube/fake-api-server.ts'
import { putTier, stageCluster } from '../../../test/kube/staged-cluster.ts'
import { reportOf } from '../core/reports.testing.ts'
import { ReportBook } from '../delivery/report-book.ts'
import { EventRecorder } from '../kube/events.ts'
import { KubeError } from '../kube/kube.ts'
import { CONVERSATION_BUDGETS, NAMESPACES, PODS, SECRETS } from '../kube/resources.ts'
import { readSettings } from '../settings.ts'
import { createLog } from '../telemetry/log.ts'
import { Metrics } from '../telemetry/metrics.ts'
import { EVENT_REASONS } from './event-reasons.ts'
import type { EventReason } from './event-reasons.ts'
import { Leader, whyUnwritten } from './leader.ts'
import { STORE_SECRET_KEYS } from './store-secret.ts'

/** Longer than what was written takes to come back and be looked at. */
const QUIET_MS = 1_500
const QUARTER_MINUTE_MS = 15_000
const TEN_MINUTES_MS = 10 * 60_000

const SETTINGS = readSettings({
  POD_NAME: 'operator-a',
  POD_NAMESPACE: 'farebox',
  POD_IP: '127.0.0.1',
  SERVICE_ACCOUNT: 'farebox-operator',
  FAREBOX_SIDECAR_IMAGE: 'sidecar:1',
  FAREBOX_DELIVERY_URL: 'https://farebox-operator.farebox.svc:9444',
  FAREBOX_WEBHOOK_NAME: 'farebox',
  FAREBOX_TLS_MODE: 'Given',
  FAREBOX_TLS_NAMES: 'localhost',
  FAREBOX_STORE_ADDRESS: 'redis://127.0.0.1:1',
  FAREBOX_STORE_MODE: 'Given',
  FAREBOX_STORE_SECRET: 'store',
})

interface Stage {
  readonly server: FakeApiServer
  readonly metrics: Metrics
  /** `UsageFresh=False Stale`, of the budget. */
  readonly until: (wanted: string) => Promise<unknown>
  /** The clocks go on, and no timer with them. */
  readonly later: (ms: number) => void
  /** So much time of timers that come again and again. */
  readonly tick: (ms: number) => void
}

/** A leader of a budget that requires sidecars, with a pod whose sidecar has just reported; all that there was to do is done. `isOpen`: the gate. */
async function stage(context: TestContext, isOpen: () => boolean = () => false): Promise<Stage> {
  const { server, kube, cluster } = await stageCluster(context, (empty) => {
    putTier(empty, 'pro')
    empty.put(NAMESPACES, 'shop')
    const spec = { selector: { matchLabels: { app: 'desk' } }, tier: { default: 'pro' }, injection: { mode: 'Required' } }
    empty.put(CONVERSATION_BUDGETS, 'desk', { namespace: 'shop', fields: { spec } })
    const metadata = { name: 'a', namespace: 'shop', uid: 'a', labels: { app: 'desk' }, annotations: { [ANNOTATIONS.injectionHash]: 'x' } }
    empty.put(PODS, 'a', { namespace: 'shop', fields: { metadata } })
    const base64 = (text: string): string => Buffer.from(text).toString('base64')
    const data = { [STORE_SECRET_KEYS.adminPassword]: base64('open'), [STORE_SECRET_KEYS.rootKey]: base64('k'.repeat(32)) }
    empty.put(SECRETS, 'store', { namespace: 'farebox', fields: { data } })
  })
  const refusal = { kind: 'Status', message: "ValidatingAdmissionPolicy 'farebox-injection-required' denied request", reason: 'Forbidden' }
  server.fault = ({ query }) => {
    if (!query.has('dryRun')) return null
    return isOpen() ? { code: 201, body: { kind: 'Pod', metadata: { name: 'tried' } } } : { code: 403, body: refusal }
  }
  const reports = new ReportBook()
  reports.put(reportOf({ pod: 'a', namespace: 'shop', receivedAtMs: Date.now() }))
  let passedMs = 0
  const [wallMs, steadyMs] = [Date.now.bind(Date), performance.now.bind(performance)]
  context.mock.method(Date, 'now', () => wallMs() + passedMs)
  context.mock.method(performance, 'now', () => steadyMs() + passedMs)
  context.mock.timers.enable({ apis: ['setInterval'] })
  const log = createLog('silent')
  const metrics = new Metrics(() => assert.fail('nobody looks'))
  const leader = new Leader({
    cluster,
    client: kube,
    reports,
    settings: SETTINGS,
    injection: {
      sidecarImage: SETTINGS.sidecar.image,
      sidecarVersion: '0.1.0',
      pullPolicy: SETTINGS.sidecar.pullPolicy,
      resources: SETTINGS.sidecar.resources,
      pullSecrets: [],
      deliveryUrl: SETTINGS.deliveryUrl,
      logLevel: 'info',
      ledgerDays: null,
    },
    trust: () => null,
    events: new EventRecorder<EventReason>({
      client: kube,
      controller: 'farebox',
      instance: 'operator-a',
      reasons: Object.values(EVENT_REASONS),
    }),
    metrics,
    log,
  })
  leader.start()
  context.after(() => leader.stop())
  const until = (wanted: string): Promise<unknown> =>
    waitFor(wanted, () => {
      const { conditions = [] } = (server.read(CONVERSATION_BUDGETS, 'desk', 'shop')?.['status'] ?? {}) as { conditions?: Condition[] }
      const said = conditions.map(({ type, status, reason }) => `${type}=${status} ${reason}`)
      return said.includes(wanted) || Promise.reject(new Error(said.join(', ')))
    })
  await until('UsageFresh=True Reported')
  await until('Injected=True Outdated')
  await waitFor('the secret of the namespace', () => server.read(SECRETS, RUNTIME_SECRET, 'shop') !== undefined)
  await sleep(QUIET_MS)
  return { server, metrics, until, later: (ms) => void (passedMs += ms), tick: (ms) => context.mock.timers.tick(ms) }
}

test('a sidecar that falls silent is said to be stale', async (context) => {
  const { until, later, tick } = await stage(context)
  later(61_000)
  tick(QUARTER_MINUTE_MS)
  await until('UsageFresh=False Stale')
})

test('a Secret of another namespace that somebody deleted is written again, and a gate that somebody opened is said, within ten minutes', async (context) => {
  let isOpen = false
  const { server, until, tick } = await stage(context, () => isOpen)
  isOpen = true
  server.remove(SECRETS, RUNTIME_SECRET, 'shop')
  tick(TEN_MINUTES_MS)
  await waitFor('the secret again', () => server.read(SECRETS, RUNTIME_SECRET, 'shop') !== undefined)
  await until('Injected=False GateOpen')
})

test('a status that the API server does not take is a failure of its own, which an alert is for', async (context) => {
  const { server, metrics, later, tick } = await stage(context)
  const outcomes = async (): Promise<Readonly<Record<string, number>>> => {
    const { values } = await metrics.reconcileSeconds.get()
    return Object.fromEntries(
      values.flatMap(({ metricName, labels, value }) =>
        metricName?.endsWith('_count') === true && labels['key'] === 'statusWrites' ? [[String(labels['outcome']), value]] : [],
      ),
    )
  }
  assert.equal((await outcomes())['failed'], undefined)
  server.fault = ({ path }) =>
    path.endsWith('/status')
      ? { code: 500, body: { kind: 'Status', message: '.status.workloads.notStarting: field not declared in schema' } }
      : null
  later(61_000)
  tick(QUARTER_MINUTE_MS) // it is stale by now, which is to be written
  await waitFor('the failure', async () => {
    tick(QUARTER_MINUTE_MS)
    return ((await outcomes())['failed'] ?? 0) > 0
  })
})

test('whoever reads why a status was not written is sent to the kinds where they are at fault, and not where a policy is', () => {
  const invalid = (message: string) => new KubeError(message, { status: 422, reason: 'Invalid' })
  const name = 'ConversationBudget.farebox.dev "desk"'
  for (const [error, isOfKinds] of [
    [invalid(`${name} is invalid: status.workloads.worst[0].trouble: Unsupported value: "NotStarting"`), true],
    [new Error('.status.workloads.notStarting: field not declared in schema'), true],
    [invalid(`${name} is forbidden: ValidatingAdmissionPolicy 'quiet' with binding 'quiet' denied request: not at night`), false],
    [invalid(`${name} is forbidden: ValidatingAdmissionPolicy 'quiet' with binding 'quiet' denied request: it is invalid: night`), false],
    [invalid('admission webhook "names.example.com" denied the request: not at night'), false],
    [new KubeError('quota exceeded', { status: 403, reason: 'Forbidden' }), false],
  ] as const)
    assert.equal(whyUnwritten(error).endsWith('upgrade farebox-crds)'), isOfKinds, error.message)
})
