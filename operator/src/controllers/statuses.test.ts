import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { ANNOTATIONS } from '@farebox/crds/cluster.ts'
import type { ReceivedReport } from '@farebox/crds/delivery.ts'
import { waitFor } from '../../../test/support/wait-for.ts'
import type { FakeApiServer } from '../../../test/kube/fake-api-server.ts'
import { putDesk, putTier, stageCluster } from '../../../test/kube/staged-cluster.ts'
import { reportOf, totalsOf } from '../core/reports.testing.ts'
import { readyBudgets } from '../core/status-counts.ts'
import { ReportBook } from '../delivery/report-book.ts'
import { CONVERSATION_BUDGETS, PODS, PRICING_TIERS } from '../kube/resources.ts'
import type { StatusTarget, StatusValue } from '../kube/status-writer.ts'
import { StatusTooLargeError } from '../kube/status-writer.ts'
import { createLog } from '../telemetry/log.ts'
import type { Cluster } from './cluster.ts'
import { Configs } from './configs.ts'
import { Statuses } from './statuses.ts'

const NOW = Date.UTC(2026, 10, 24, 12)
const today = { turns: 2, spent: '0.50', users: 1 }
const tiers = { pro: totalsOf({ conversations: 2, spent: '0.50', today }) }

interface Stage {
  readonly statuses: Statuses
  readonly reports: ReportBook
  readonly wanted: Map<string, StatusValue>
  readonly server: FakeApiServer
  readonly cluster: Cluster
  readonly configs: Configs
  readonly refused: Set<string>
  nowMs: number
}

/** Two namespaces with a budget each, in which the pods `a` and `z` run. `heard`: before this replica came to lead. */
async function stage(context: TestContext, heard: readonly ReceivedReport[] = []): Promise<Stage> {
  const { server, kube, cluster } = await stageCluster(context, (empty) => {
    putTier(empty, 'pro')
    for (const [namespace, pod] of [
      ['support', 'a'],
      ['sales', 'z'],
    ] as const) {
      putDesk(empty, namespace)
      const annotations = { [ANNOTATIONS.injectionHash]: 'x' }
      empty.put(PODS, pod, { namespace, fields: { metadata: { name: pod, namespace, uid: pod, labels: { app: 'desk' }, annotations } } })
    }
  })
  const parts = {
    cluster,
    client: kube,
    reports: new ReportBook(),
    trust: () => null,
    hasStore: true,
    log: createLog('silent'),
    onOutcome: () => undefined,
  }
  const configs = new Configs({ ...parts, nowMs: () => NOW, steadyMs: () => 0 })
  await configs.reconcile()
  const wanted = new Map<string, StatusValue>()
  const refused = new Set<string>()
  const reports = new ReportBook()
  for (const received of heard) reports.put(received)
  const stage = { reports, wanted, server, cluster, configs, refused, nowMs: NOW }
  const want = (target: StatusTarget, value: StatusValue): 'AtOnce' => {
    const key = [target.resource.kind, target.namespace, target.name].filter((part) => part !== undefined).join('/')
    if (refused.has(key)) throw new StatusTooLargeError(target, 1)
    wanted.set(key, value)
    return 'AtOnce'
  }
  let steadyMs = 0
  const statuses = new Statuses({
    cluster,
    configs,
    reports,
    writer: { want, forget: () => undefined },
    injection: {
      sidecarImage: 'farebox',
      sidecarVersion: '0.1.0',
      pullPolicy: 'IfNotPresent',
      resources: { requests: { cpu: '10m', memory: '64Mi' }, limits: { memory: '128Mi' } },
      pullSecrets: [],
      deliveryUrl: 'https://farebox',
      logLevel: 'info',
      ledgerDays: null,
    },
    hindered: () => new Map(),
    gates: () => new Map(),
    storeIsEphemeral: false,
    nowMs: () => stage.nowMs,
    steadyMs: () => (steadyMs += 60_000),
  })
  return Object.assign(stage, { statuses })
}

test('what the pods of a shared store told last counts when they are gone, until the day is over', async (context) => {
  const staged = await stage(context)
  const { statuses, reports, wanted } = staged
  reports.put(reportOf({ pod: 'a', receivedAtMs: NOW, tiers }))
  statuses.reconcile()
  const before = wanted.get('ConversationBudget/support/desk')
  assert.partialDeepStrictEqual(before, { spend: { spent: '0.50', today: '0.50' } })
  assert.deepEqual([...statuses.spentToday()], [['pro', 0.5]])
  reports.forget('a')
  statuses.reconcile()
  assert.partialDeepStrictEqual(wanted.get('ConversationBudget/support/desk'), { spend: { spent: '0.50', today: '0.50' } })
  assert.partialDeepStrictEqual(wanted.get('PricingTier/pro'), { margin: { realisedPercent: 75 } })
  assert.equal(wanted.get('ConversationBudget/sales/desk')?.['spend'], undefined)
  staged.nowMs = NOW + 86_400_000
  statuses.reconcile()
  assert.partialDeepStrictEqual(wanted.get('ConversationBudget/support/desk'), { spend: { spent: '0.50', today: '0.00' } })
  assert.deepEqual([...statuses.spentToday()], [['pro', 0]])
})

test('what a leader heard long before it led counts no more: somebody else led, and heard newer', async (context) => {
  const old = reportOf({ pod: 'a', receivedAtMs: NOW - 9 * 86_400_000, tiers })
  const fresh = reportOf({ pod: 'z', namespace: 'sales', receivedAtMs: NOW - 5_000, tiers })
  const { statuses, reports, wanted } = await stage(context, [old, fresh])
  statuses.reconcile()
  assert.equal(wanted.get('ConversationBudget/support/desk')?.['spend'], undefined)
  assert.partialDeepStrictEqual(wanted.get('ConversationBudget/sales/desk'), { spend: { spent: '0.50' } })
  const again = (sequence: number, told: typeof tiers | undefined): void => {
    const received = reportOf({ pod: 'a', receivedAtMs: NOW, ...(told === undefined ? {} : { tiers: told }) })
    reports.put({ ...received, report: { ...received.report, sequence } })
    statuses.reconcile()
  }
  again(2, undefined) // its store is away
  assert.equal(wanted.get('ConversationBudget/support/desk')?.['spend'], undefined)
  again(3, { pro: totalsOf({ conversations: 3, spent: '0.80' }) })
  assert.partialDeepStrictEqual(wanted.get('ConversationBudget/support/desk'), { spend: { spent: '0.80' } })
})

test('no pod speaks for the budget of another namespace', async (context) => {
  const { statuses, reports, wanted } = await stage(context)
  const forged = reportOf({ pod: 'z', namespace: 'sales', receivedAtMs: NOW, tiers })
  const { status } = forged.report
  assert.ok(status !== null)
  const claim = { ...status, config: { ...status.config, budget: 'support/desk' } }
  reports.put({ ...forged, report: { ...forged.report, status: claim } })
  statuses.reconcile()
  assert.equal(wanted.get('ConversationBudget/support/desk')?.['spend'], undefined)
})

test('a pod that no budget governs is believed nothing', async (context) => {
  const { statuses, reports, wanted } = await stage(context)
  reports.put(reportOf({ pod: 'stranger', namespace: 'elsewhere', receivedAtMs: NOW, tiers }))
  reports.put(reportOf({ pod: 'stranger-at-home', namespace: 'support', receivedAtMs: NOW, tiers }))
  statuses.reconcile()
  assert.equal(wanted.get('ConversationBudget/support/desk')?.['spend'], undefined)
  assert.deepEqual(wanted.get('PricingTier/pro')?.['margin'], { targetPercent: 70 })
  assert.deepEqual([...statuses.spentToday()], [])
})

test('a status that cannot be written keeps no other from being', async (context) => {
  const { statuses, wanted, refused } = await stage(context)
  refused.add('PricingTier/pro')
  assert.throws(() => statuses.reconcile(), StatusTooLargeError)
  assert.deepEqual([...wanted.keys()].toSorted(), ['ConversationBudget/sales/desk', 'ConversationBudget/support/desk'])
  assert.deepEqual([...readyBudgets(statuses.counts)], [['True', 2]])
})

test('counts what every status says, those of objects that cannot be understood too', async (context) => {
  const { statuses, server, cluster, configs, wanted, reports } = await stage(context)
  const metadata = { name: 'missed', namespace: 'support', uid: 'missed', labels: { app: 'desk' } }
  server.put(PODS, 'missed', { namespace: 'support', fields: { metadata } })
  const spec = { selector: { matchLabels: { app: 'desk' } }, tier: { default: 'pro' }, fieldOfALaterVersion: true }
  server.put(CONVERSATION_BUDGETS, 'desk', { namespace: 'sales', fields: { spec } })
  const pricing = { model: 'PerConversation', price: '1.00' }
  const unused = { displayName: 'Unused', pricing, unitEconomics: { targetGrossMarginPercent: 100 } }
  server.put(PRICING_TIERS, 'unused', { fields: { spec: unused } })
  await waitFor(
    'the objects',
    () => cluster.pods.size === 3 && cluster.tiers.size === 2 && cluster.budgets.get('sales/desk')?.checked.status === 'invalid',
  )
  await configs.reconcile()
  reports.put(reportOf({ pod: 'a', receivedAtMs: NOW - 3_600_000, tiers }))
  statuses.reconcile()
  const said = [...wanted].flatMap(([key, { conditions = [] }]) =>
    conditions.map(({ type, status, reason }) => `${key.slice(0, key.indexOf('/'))} ${type} ${status} ${reason}`),
  )
  const counted = statuses.counts.conditions.flatMap(({ kind, type, status, reason, objects }) =>
    Array.from({ length: objects }, () => `${kind} ${type} ${status} ${reason}`),
  )
  assert.deepEqual(counted.toSorted(), said.toSorted())
  assert.ok(counted.includes('ConversationBudget Ready False Invalid'))
  assert.ok(counted.includes('ConversationBudget UsageFresh False Stale'))
  assert.ok(counted.includes('PricingTier Ready False MarginLeavesNothing'))
  assert.deepEqual([...readyBudgets(statuses.counts)], [['False', 2]])
  const { pods, podsWithoutSidecar } = statuses.counts
  assert.deepEqual(Object.fromEntries(pods), { matched: 3, injected: 2, inSync: 0, outdated: 2, nacked: 0, stale: 1, notStarting: 0 })
  assert.deepEqual(Object.fromEntries(podsWithoutSidecar), { Missed: 1 })
})

test('of a budget that is not understood the pods are counted, and what is in force is said; of one that cannot be read at all nothing changes', async (context) => {
  const { statuses, server, cluster, configs, wanted } = await stage(context)
  const put = async (spec: object, status: object): Promise<void> => {
    server.put(CONVERSATION_BUDGETS, 'desk', { namespace: 'sales', fields: { spec, status } })
    const isHere = () => JSON.stringify(cluster.budgets.get('sales/desk')?.object['spec']) === JSON.stringify(spec)
    await waitFor('the budget as it is now', () => cluster.pods.size === 2 && isHere())
    await configs.reconcile()
    statuses.reconcile()
  }
  const said = () => wanted.get('ConversationBudget/sales/desk')
  const conditions = () => new Map((said()?.conditions ?? []).map(({ type, reason, message }) => [type, `${reason}: ${message}`]))
  await configs.reconcile()
  const config = configs.inForce?.configs.get('sales/desk')
  assert.ok(config !== undefined)

  await put({ selector: { matchLabels: { app: 'desk' } }, tier: { default: 'pro' }, fieldOfALaterVersion: true }, {})
  assert.equal(conditions().get('Accepted'), 'Invalid: spec.fieldOfALaterVersion is not a field here')
  assert.equal(conditions().get('Programmed'), 'NotAccepted: the last good config stays in force')
  assert.partialDeepStrictEqual(said(), { config: { version: config.version, hash: config.hash }, workloads: { matched: 1 } })

  server.remove(CONVERSATION_BUDGETS, 'desk', 'sales')
  await waitFor('the budget to be gone', () => cluster.budgets.get('sales/desk') === undefined)
  await put({ selector: 'of a later version' }, { workloads: { matched: 7 } })
  assert.match(conditions().get('Accepted') ?? '', /^Invalid: spec\.selector must be/)
  assert.partialDeepStrictEqual(said(), { workloads: { matched: 7 } })
})

test('pods that an older budget governs are counted for the later one that selects them, too', async (context) => {
  const { statuses, wanted, server, cluster, configs } = await stage(context)
  const limits = [{ amount: '1.00', period: { unit: 'Day', timeZone: 'UTC' } }]
  const spec = { selector: { matchLabels: { track: 'canary' } }, tier: { default: 'pro' }, limits }
  server.put(CONVERSATION_BUDGETS, 'later', { namespace: 'support', fields: { spec } })
  const put = (name: string, labels: Readonly<Record<string, string>>, annotations: Readonly<Record<string, string>>): void => {
    server.put(PODS, name, { namespace: 'support', fields: { metadata: { name, namespace: 'support', uid: name, labels, annotations } } })
  }
  put('b', { app: 'desk', track: 'canary' }, { [ANNOTATIONS.injectionHash]: 'x' })
  put('c', { app: 'desk', track: 'canary' }, { [ANNOTATIONS.injectionHash]: 'x' })
  put('without-sidecar', { app: 'desk', track: 'canary' }, {})
  put('own', { track: 'canary' }, { [ANNOTATIONS.injectionHash]: 'x' })
  await waitFor('the pods', () => cluster.pods.size === 6 && cluster.budgets.size === 3)
  await configs.reconcile()
  statuses.reconcile()
  const { conditions = [] } = wanted.get('ConversationBudget/support/later') ?? {}
  assert.partialDeepStrictEqual(
    conditions.find(({ type }) => type === 'Programmed'),
    {
      status: 'False',
      reason: 'PartiallyProgrammed',
      message:
        'ConversationBudget "desk" comes before this one and governs 2 of the pods that this one selects, without the limits of this one',
    },
  )
  assert.partialDeepStrictEqual(wanted.get('ConversationBudget/support/later'), { workloads: { matched: 1 } })
})

test('of budgets that share a store each is remembered by its own sidecars, while the store keeps the books', async (context) => {
  const staged = await stage(context)
  const { statuses, reports, wanted, server, cluster, configs } = staged
  putTier(server, 'free')
  const spec = { selector: { matchLabels: { app: 'bot' } }, tier: { default: 'free' } }
  server.put(CONVERSATION_BUDGETS, 'bot', { namespace: 'support', fields: { spec } })
  const metadata = { name: 'b', namespace: 'support', uid: 'b', labels: { app: 'bot' }, annotations: { [ANNOTATIONS.injectionHash]: 'x' } }
  server.put(PODS, 'b', { namespace: 'support', fields: { metadata } })
  await waitFor('the pods', () => cluster.pods.size === 3 && cluster.budgets.size === 3 && cluster.tiers.size === 2)
  await configs.reconcile()
  const users = { active: 2, spent: '0.50', heavy: 0, heavySpent: '0.00', upgradeCandidates: 0, byUse: {} }
  const said = (
    pod: string,
    sequence: number,
    receivedAtMs: number,
    parts: { readonly budget?: string; readonly books?: string; readonly tiers?: typeof tiers | { free: (typeof tiers)['pro'] } },
  ): void => {
    const received = reportOf({ pod, receivedAtMs, ...parts })
    reports.put({ ...received, report: { ...received.report, sequence } })
    statuses.reconcile()
  }
  const [pro, free] = [{ ...tiers.pro, users }, totalsOf({ conversations: 3, spent: '0.10', users })]
  said('a', 1, NOW - 2_000, { tiers: { pro } })
  said('b', 1, NOW - 1_000, { budget: 'bot', tiers: { free } })
  said('a', 2, NOW, {}) // another is asked to tell
  const desk = (): StatusValue | undefined => wanted.get('ConversationBudget/support/desk')
  const bot = (): StatusValue | undefined => wanted.get('ConversationBudget/support/bot')
  assert.partialDeepStrictEqual(desk(), { spend: { spent: '0.50' }, tiers: [{ tier: 'pro', users: { active: 2 } }] })
  assert.partialDeepStrictEqual(bot(), { spend: { spent: '0.10' }, tiers: [{ tier: 'free', users: { active: 2 } }] })
  assert.deepEqual([...statuses.spentToday()], [['pro', 0.5]])
  // The store lost its books: what the others told was of those.
  said('b', 2, NOW + 1, { budget: 'bot', books: 'anew', tiers: { free: totalsOf({ conversations: 1, spent: '0.01', users }) } })
  assert.partialDeepStrictEqual(bot(), { spend: { spent: '0.01' } })
  assert.deepEqual([...statuses.spentToday()], [])
})
