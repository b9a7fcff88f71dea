import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkObject } from '@farebox/crds/check.ts'
import { ANNOTATIONS } from '@farebox/crds/cluster.ts'
import type { ConversationBudget, ConversationBudgetStatus } from '@farebox/crds/conversation-budget.ts'
import { clusterStatuses, invalidStatus, STATUS_BYTES_MAX, storeKey } from './cluster-status.ts'
import type { ClusterView } from './cluster-status.ts'
import { compile } from './compile.ts'
import type { ObjectStatus, Snapshot } from './compile.ts'
import { readManifests } from './manifests.ts'
import { reportOf, totalsOf } from './reports.testing.ts'
import type { Pod } from './workloads.ts'

const NOW = Date.UTC(2026, 10, 24, 12)
const tier = (name: string): string => `---
apiVersion: farebox.dev/v1alpha1
kind: PricingTier
metadata: { name: ${name}, generation: 1 }
spec:
  displayName: ${name.slice(0, 9)}
  pricing: { model: PerConversation, price: "1.00" }
  unitEconomics: { targetGrossMarginPercent: 70 }
`
const budget = (name: string, tiers: readonly string[], more = ''): string => `---
apiVersion: farebox.dev/v1alpha1
kind: ConversationBudget
metadata: { name: ${name}, namespace: support, generation: 2 }
spec:
  selector: { matchLabels: { app: ${name.slice(0, 60)} } }
  tier: { default: ${tiers[0]}, allowed: [${tiers.join(', ')}], claim: {} }
${more}`

const pod = (name: string): Pod => ({
  name,
  uid: name,
  creationTimestamp: '2026-11-24T11:00:00Z',
  annotations: { [ANNOTATIONS.injectionHash]: 'x' },
})

function snapshotOf(text: string): Snapshot {
  const { snapshot, problems } = readManifests([{ path: 'all.yaml', text }])
  assert.deepEqual(problems, [])
  return snapshot
}

function statusesOf(snapshot: Snapshot, view: Partial<ClusterView>): ReadonlyMap<string, ObjectStatus> {
  const compiled = compile(snapshot, { nowMs: NOW, previous: new Map() })
  const statuses = clusterStatuses({
    nowMs: NOW,
    snapshot,
    compiled,
    configs: compiled.configs,
    pods: new Map(),
    elsewhere: new Map(),
    reports: new Map(),
    shared: new Map(),
    isOutdated: () => false,
    startedMs: ({ creationTimestamp = '' }) => Date.parse(creationTimestamp),
    notStarting: () => null,
    storeIsEphemeral: false,
    isExcluded: () => false,
    gates: new Map(),
    isSettling: false,
    hindered: new Map(),
    ...view,
  })
  for (const object of [...snapshot.tiers, ...snapshot.budgets]) {
    const key = object.kind === 'PricingTier' ? object.metadata.name : `${object.metadata.namespace}/${object.metadata.name}`
    const checked = checkObject({ ...object, status: statuses.get(`${object.kind}/${key}`) })
    assert.deepEqual(checked.status === 'invalid' ? checked.problems : [], [])
  }
  return statuses
}

function budgetStatus(statuses: ReadonlyMap<string, ObjectStatus>, name = 'desk'): ConversationBudgetStatus {
  const status: ConversationBudgetStatus | undefined = statuses.get(`ConversationBudget/support/${name}`)
  assert.ok(status)
  return status
}

function conditions({ conditions = [] }: ObjectStatus): Record<string, string> {
  return Object.fromEntries(conditions.map(({ type, status, reason }) => [type, `${status} ${reason}`]))
}

/** What the budget had before, by another leader. */
function knowing(snapshot: Snapshot, status: ConversationBudgetStatus): Snapshot {
  return { ...snapshot, budgets: snapshot.budgets.map((budget): ConversationBudget => ({ ...budget, status })) }
}

test('a tier shows what all namespaces left of its price, and a budget what its own books did', () => {
  const snapshot = snapshotOf(tier('pro') + budget('desk', ['pro']))
  const own = reportOf({ pod: 'a', receivedAtMs: NOW, tiers: { pro: totalsOf({ conversations: 2, spent: '0.50' }) } })
  const other = reportOf({ pod: 'z', namespace: 'sales', receivedAtMs: NOW, tiers: { pro: totalsOf({ conversations: 2, spent: '1.50' }) } })
  const statuses = statusesOf(snapshot, {
    pods: new Map([['support/desk', [pod('a')]]]),
    reports: new Map([own, other].map((received) => [received.pod.uid, received])),
  })
  assert.partialDeepStrictEqual(statuses.get('PricingTier/pro'), { margin: { targetPercent: 70, realisedPercent: 50 }, boundBudgets: 1 })
  assert.partialDeepStrictEqual(budgetStatus(statuses), {
    conversations: { total: 2 },
    spend: { spent: '0.50' },
    tiers: [{ tier: 'pro', margin: { realisedPercent: 75 } }],
    workloads: { matched: 1, injected: 1 },
  })
})

test('budgets that share books show their own tiers; a tier of none is shown by all', () => {
  const snapshot = snapshotOf(tier('pro') + tier('free') + budget('desk', ['pro']) + budget('bot', ['free']))
  const tiers = {
    pro: totalsOf({ conversations: 2, spent: '0.50' }),
    free: totalsOf({ conversations: 3, spent: '0.10' }),
    gone: totalsOf({ conversations: 1, spent: '0.01' }),
  }
  const reports = [reportOf({ pod: 'a', receivedAtMs: NOW, tiers }), reportOf({ pod: 'b', receivedAtMs: NOW - 5, tiers })]
  const statuses = statusesOf(snapshot, {
    pods: new Map([
      ['support/desk', [pod('a')]],
      ['support/bot', [pod('b')]],
    ]),
    reports: new Map(reports.map((received) => [received.pod.uid, received])),
  })
  assert.deepEqual(
    budgetStatus(statuses).tiers?.map(({ tier }) => tier),
    ['pro', 'gone'],
  )
  assert.deepEqual(
    budgetStatus(statuses, 'bot').tiers?.map(({ tier }) => tier),
    ['free', 'gone'],
  )
})

test('a budget shows how much of the limits that hold for its pods is used, by what they tell, and by what was known', () => {
  const month = 'limits: [{ amount: "50.00", period: { unit: Month } }]'
  const snapshot = snapshotOf(tier('pro') + budget('desk', ['pro'], `  ${month}\n`) + budget('bot', ['pro']))
  const use = { amount: '50.00', since: '2026-11-01', spent: '12.40', held: '0.10' }
  const telling = (pod: string, name: string) => {
    const received = reportOf({ pod, budget: name, receivedAtMs: NOW })
    const { status } = received.report
    return { ...received, report: { ...received.report, status: status && { ...status, limits: { 'Month UTC': use } } } }
  }
  const view = { pods: new Map([['support/desk', [pod('a')]]]), reports: new Map([['a', telling('a', 'desk')]]) }
  const limits = [{ period: 'Month UTC', ...use, usedPercent: 24 }]
  assert.deepEqual(budgetStatus(statusesOf(snapshot, view)).limits, limits)
  assert.equal(budgetStatus(statusesOf(snapshot, view), 'bot').limits, undefined)
  const ofBot = { ...view, reports: new Map([['a', telling('a', 'bot')]]) }
  assert.equal(budgetStatus(statusesOf(snapshot, ofBot)).limits, undefined, 'of another budget')
  assert.deepEqual(budgetStatus(statusesOf(knowing(snapshot, { limits }), ofBot)).limits, limits, 'what was known stays')
  const gone = { shared: new Map([[storeKey(snapshot.budgets[0] ?? assert.fail()) ?? '', [telling('a', 'desk')]]]) }
  assert.deepEqual(budgetStatus(statusesOf(snapshot, gone)).limits, limits, 'the books stay when the pods go')
  const old = { ...view, reports: new Map([['a', reportOf({ pod: 'a', receivedAtMs: NOW })]]) }
  assert.equal(budgetStatus(statusesOf(snapshot, old)).limits, undefined, 'an older sidecar does not tell')
})

test('numbers that are known stay while nobody reports; a new leader keeps what only reports can tell, for a while', () => {
  const bare = snapshotOf(tier('pro') + budget('desk', ['pro']))
  const pods = new Map([['support/desk', [pod('a')]]])
  const report = reportOf({
    pod: 'a',
    receivedAtMs: NOW,
    tiers: { pro: totalsOf({ conversations: 2, spent: '0.50' }) },
    turns: { count: 1, lastMs: NOW, withoutUser: 0 },
  })
  const { config } = budgetStatus(statusesOf(bare, {}))
  const inForce = { budget: 'support/desk', version: config?.version ?? 0, hash: config?.hash ?? '' }
  const reports = new Map([['a', { ...report, report: { ...report.report, inForce } }]])
  const known = budgetStatus(statusesOf(bare, { pods, reports }))
  assert.equal(conditions(known)['Enforced'], 'True TrafficSeen')
  assert.equal(known.workloads?.inSync, 1)
  const settling = budgetStatus(statusesOf(knowing(bare, known), { pods, isSettling: true }))
  assert.deepEqual(settling, known)
  // It may have heard of the pod itself, by another day's connection: that says nothing of now.
  const old = reportOf({
    pod: 'a',
    receivedAtMs: NOW - 9 * 86_400_000,
    tiers: { pro: totalsOf({ conversations: 1, spent: '0.10' }) },
    inForce,
  })
  const reminded = statusesOf(knowing(bare, known), { pods, reports: new Map([['a', old]]), isSettling: true })
  assert.deepEqual(budgetStatus(reminded), known)
  const settled = budgetStatus(statusesOf(knowing(bare, known), { pods }))
  assert.equal(conditions(settled)['Enforced'], 'Unknown NoTraffic')
  assert.equal(conditions(settled)['UsageFresh'], 'False Stale')
  assert.equal(conditions(settled)['Ready'], 'True Ready', 'all is in force as far as is known')
  assert.deepEqual([settled.conversations, settled.spend, settled.tiers], [known.conversations, known.spend, known.tiers])
})

test('where the pods are gone, the shared store is not: its last numbers stay in status and in the margin of the tier', () => {
  const snapshot = snapshotOf(tier('pro') + budget('desk', ['pro']) + budget('alone', ['pro'], '  store: { kind: Embedded }\n'))
  const today = { turns: 4, spent: '0.50', users: 1 }
  const last = reportOf({ pod: 'a', receivedAtMs: NOW, tiers: { pro: totalsOf({ conversations: 2, spent: '0.50', today }) } })
  const [desk, alone] = snapshot.budgets
  assert.ok(desk && alone)
  assert.equal(storeKey(alone), null)
  const shared = new Map([[storeKey(desk) ?? '', [last]]])
  const other = reportOf({ pod: 'z', namespace: 'sales', receivedAtMs: NOW, tiers: { pro: totalsOf({ conversations: 2, spent: '1.50' }) } })
  const reports = new Map([['z', other]])
  const gone = statusesOf(snapshot, { shared, reports })
  assert.partialDeepStrictEqual(budgetStatus(gone), { conversations: { total: 2 }, spend: { spent: '0.50', today: '0.50' } })
  assert.equal(budgetStatus(gone, 'alone').conversations, undefined)
  assert.partialDeepStrictEqual(gone.get('PricingTier/pro'), { margin: { realisedPercent: 50 } })
  // The day after nothing was spent.
  const tomorrow = statusesOf(snapshot, { shared, nowMs: NOW + 86_400_000 })
  assert.partialDeepStrictEqual(budgetStatus(tomorrow), { spend: { spent: '0.50', today: '0.00' } })
  // A leader that never heard of these books has what status says, and does not claim to know of today.
  const known = { ...snapshot, budgets: [{ ...desk, status: budgetStatus(gone) }, alone] }
  const later = statusesOf(known, { reports })
  assert.deepEqual(budgetStatus(later).spend, { spent: '0.50', held: '0.00' })
  assert.partialDeepStrictEqual(later.get('PricingTier/pro'), { margin: { realisedPercent: 50 } })
})

test('a margin that sessions were counted for stays while only status knows of the conversations', () => {
  const snapshot = snapshotOf(tier('pro') + budget('desk', ['pro']))
  const totals = { pro: totalsOf({ conversations: 1, sessions: 4, spent: '1.00' }) }
  const told = reportOf({ pod: 'a', receivedAtMs: NOW, tiers: totals })
  const statuses = statusesOf(snapshot, { reports: new Map([['a', told]]), pods: new Map([['support/desk', [pod('a')]]]) })
  const margin = { targetPercent: 70, realisedPercent: 75 }
  assert.partialDeepStrictEqual(statuses.get('PricingTier/pro'), { margin })
  const known = {
    ...knowing(snapshot, budgetStatus(statuses)),
    tiers: snapshot.tiers.map((one) => ({ ...one, status: { margin } })),
  }
  assert.partialDeepStrictEqual(statusesOf(known, {}).get('PricingTier/pro'), { margin })
  const idle = reportOf({ pod: 'z', namespace: 'sales', receivedAtMs: NOW, tiers: { pro: totalsOf({}) } })
  assert.partialDeepStrictEqual(statusesOf(known, { reports: new Map([['z', idle]]) }).get('PricingTier/pro'), { margin })
  const busy = reportOf({ pod: 'a', receivedAtMs: NOW, tiers: { pro: totalsOf({ conversations: 1, sessions: 2, spent: '1.00' }) } })
  assert.partialDeepStrictEqual(statusesOf(known, { reports: new Map([['a', busy]]) }).get('PricingTier/pro'), {
    margin: { realisedPercent: 50 },
  })
})

test('a budget whose sidecars leave the telling to those of another one shows what these tell', () => {
  const snapshot = snapshotOf(tier('pro') + tier('free') + budget('desk', ['pro']) + budget('bot', ['free']))
  const tiers = { pro: totalsOf({ conversations: 2, spent: '0.50' }), free: totalsOf({ conversations: 3, spent: '0.10' }) }
  const [teller, silent] = [reportOf({ pod: 'a', receivedAtMs: NOW, tiers }), reportOf({ pod: 'b', receivedAtMs: NOW + 1 })]
  const [desk] = snapshot.budgets
  assert.ok(desk)
  const parts = {
    pods: new Map([
      ['support/desk', [pod('a')]],
      ['support/bot', [pod('b')]],
    ]),
    reports: new Map([teller, silent].map((received) => [received.pod.uid, received])),
  }
  // Its own sidecars name the books; and where they are gone, the store is the same.
  const views: readonly Partial<ClusterView>[] = [
    parts,
    { ...parts, pods: new Map([['support/desk', [pod('a')]]]), shared: new Map([[storeKey(desk) ?? '', [teller]]]) },
  ]
  for (const view of views) {
    const statuses = statusesOf(snapshot, view)
    assert.partialDeepStrictEqual(budgetStatus(statuses), { conversations: { total: 2 }, spend: { spent: '0.50' } })
    assert.partialDeepStrictEqual(budgetStatus(statuses, 'bot'), { conversations: { total: 3 }, spend: { spent: '0.10' } })
  }
})

test('budgets of different tiers that share books keep the users of theirs, whichever told last, and nothing counts twice', () => {
  const snapshot = snapshotOf(tier('pro') + tier('free') + budget('desk', ['pro']) + budget('bot', ['free']))
  const users = { active: 2, spent: '0.50', heavy: 1, heavySpent: '0.40', upgradeCandidates: 0, byUse: {} }
  const today = { turns: 4, spent: '0.50', users: 2 }
  const pro = totalsOf({ conversations: 2, spent: '0.50', today })
  const free = totalsOf({ conversations: 3, spent: '0.10' })
  const ofDesk = reportOf({ pod: 'a', receivedAtMs: NOW - 9_000, tiers: { pro: { ...pro, users }, free } })
  const ofBot = reportOf({ pod: 'b', budget: 'bot', receivedAtMs: NOW, tiers: { free: { ...free, users }, pro } })
  const parts = {
    pods: new Map([
      ['support/desk', [pod('a'), pod('silent')]],
      ['support/bot', [pod('b')]],
    ]),
    reports: new Map([ofDesk, ofBot, reportOf({ pod: 'silent', receivedAtMs: NOW })].map((received) => [received.pod.uid, received])),
  }
  const shown = { active: 2, heavy: 1, heavySharePercent: 80, upgradeCandidates: 0, byUse: {} }
  const statuses = statusesOf(snapshot, parts)
  assert.partialDeepStrictEqual(budgetStatus(statuses), {
    conversations: { total: 2 },
    spend: { spent: '0.50', today: '0.50' },
    tiers: [{ tier: 'pro', users: shown }],
  })
  assert.partialDeepStrictEqual(budgetStatus(statuses, 'bot'), {
    conversations: { total: 3 },
    spend: { spent: '0.10' },
    tiers: [{ tier: 'free', users: shown }],
  })
  assert.partialDeepStrictEqual(statuses.get('PricingTier/pro'), { margin: { realisedPercent: 75 } })
})

test('a tier that nobody who tells of the books knows of keeps what was known of it', () => {
  const snapshot = snapshotOf(tier('pro') + tier('free') + budget('desk', ['pro']) + budget('bot', ['free', 'pro']))
  const users = { active: 2, spent: '0.50', heavy: 1, heavySpent: '0.40', upgradeCandidates: 0, byUse: {} }
  const known = { pro: totalsOf({ conversations: 2, spent: '0.50', users }), free: totalsOf({ conversations: 3, spent: '0.10', users }) }
  const ofBot = reportOf({ pod: 'b', budget: 'bot', receivedAtMs: NOW, tiers: known })
  const pods = new Map([
    ['support/desk', [pod('a')]],
    ['support/bot', [pod('b')]],
  ])
  const before = budgetStatus(statusesOf(snapshot, { pods, reports: new Map([['b', ofBot]]) }), 'bot')
  // Another leader has heard of the other budget's pod alone.
  const ofDesk = reportOf({ pod: 'a', receivedAtMs: NOW, tiers: { pro: totalsOf({ conversations: 5, spent: '1.00', users }) } })
  const [desk, bot] = snapshot.budgets
  assert.ok(desk && bot)
  const later = { ...snapshot, budgets: [desk, { ...bot, status: before }] }
  const shared = new Map([[storeKey(desk) ?? '', [ofDesk]]])
  const statuses = statusesOf(later, { pods, shared, reports: new Map([['a', ofDesk]]) })
  const after = budgetStatus(statuses, 'bot')
  assert.partialDeepStrictEqual(after, { conversations: { total: 8 }, spend: { spent: '1.10' } })
  assert.deepEqual(
    after.tiers?.find((one) => one.tier === 'free'),
    before.tiers?.find((one) => one.tier === 'free'),
  )
  assert.partialDeepStrictEqual(statuses.get('PricingTier/pro'), { margin: { realisedPercent: 80 } })
  assert.partialDeepStrictEqual(statuses.get('PricingTier/free'), { margin: { realisedPercent: 96 } })
  // One that may use none of the tiers that are told stays as it was, and is not made up where nothing was known.
  const alone = snapshotOf(tier('pro') + tier('free') + budget('desk', ['pro']) + budget('bot', ['free']))
  assert.equal(budgetStatus(statusesOf(alone, { pods, shared, reports: new Map([['a', ofDesk]]) }), 'bot').conversations, undefined)
})

test('a sidecar that tells what no status can hold does not keep the rest from being told', () => {
  const snapshot = snapshotOf(tier('pro') + budget('desk', ['pro']))
  const most = '999999999.999999999'
  const strange = totalsOf({
    conversations: 2,
    turns: -1,
    byRung: { None: 1, Levitate: 1 },
    alerts: { '70': 1, often: 2, '250': 3 },
    spent: most,
    resolutions: { started: -4, confirmed: 0, reversed: 0, costPer: null },
  })
  const told = ['a', 'b'].map((name) =>
    reportOf({ pod: name, books: name, receivedAtMs: NOW, tiers: { pro: strange, 'No Name': strange } }),
  )
  const statuses = statusesOf(snapshot, {
    pods: new Map([['support/desk', [pod('a'), pod('b')]]]),
    reports: new Map(told.map((received) => [received.pod.uid, received])),
  })
  assert.partialDeepStrictEqual(budgetStatus(statuses), {
    conversations: { total: 4, turns: 0, byRung: { None: 2 } },
    alerts: { '70': 2 },
    spend: { spent: most },
    resolutions: { started: 0 },
  })
  assert.deepEqual(
    budgetStatus(statuses).tiers?.map(({ tier: name }) => name),
    ['pro'],
  )
})

test('an exhausted budget is ready: it works', () => {
  const snapshot = snapshotOf(tier('pro') + budget('desk', ['pro']))
  const tiers = { pro: totalsOf({ conversations: 5, byRung: { EndConversation: 5 }, alerts: { '100': 5 }, spent: '1.50' }) }
  const statuses = statusesOf(snapshot, {
    pods: new Map([['support/desk', [pod('a')]]]),
    reports: new Map([['a', reportOf({ pod: 'a', receivedAtMs: NOW, tiers, turns: { count: 9, lastMs: NOW, withoutUser: 0 } })]]),
  })
  const { config } = budgetStatus(statuses)
  const inForce = { budget: 'support/desk', version: config?.version ?? 0, hash: config?.hash ?? '' }
  const again = statusesOf(snapshot, {
    pods: new Map([['support/desk', [pod('a')]]]),
    reports: new Map([['a', reportOf({ pod: 'a', receivedAtMs: NOW, tiers, inForce, turns: { count: 9, lastMs: NOW, withoutUser: 0 } })]]),
  })
  assert.equal(conditions(budgetStatus(again))['Ready'], 'True Ready')
})

test('a config that could not be written is not programmed', () => {
  const snapshot = snapshotOf(tier('pro') + budget('desk', ['pro']))
  const hindered = new Map([['support/desk', { reason: 'NotWritten', message: 'forbidden' } as const]])
  const said = conditions(budgetStatus(statusesOf(snapshot, { hindered })))
  assert.equal(said['Programmed'], 'False NotWritten')
  assert.equal(said['Ready'], 'False NotWritten')
})

test('what keeps pods from starting, and what does not come right by itself, is told apart', () => {
  const snapshot = snapshotOf(tier('pro') + budget('desk', ['pro']))
  const told = (reason: 'NoRuntimeSecret' | 'TooLarge' | 'NoStore'): Record<string, string> =>
    conditions(budgetStatus(statusesOf(snapshot, { hindered: new Map([['support/desk', { reason, message: 'why' }]]) })))
  const waiting = told('NoRuntimeSecret')
  assert.deepEqual(
    [waiting['Ready'], waiting['Reconciling'], waiting['Stalled']],
    ['False NoRuntimeSecret', 'True NoRuntimeSecret', undefined],
  )
  for (const reason of ['TooLarge', 'NoStore'] as const) {
    const lasting = told(reason)
    assert.deepEqual([lasting['Ready'], lasting['Reconciling'], lasting['Stalled']], [`False ${reason}`, undefined, `True ${reason}`])
  }
})

test('an object that is none of ours any more is invalid, and somebody must act', () => {
  const status = invalidStatus({ generation: 4, conditions: [] }, [{ field: 'spec.mode', message: 'must be Enforce or Observe' }], NOW)
  assert.deepEqual(conditions(status), { Accepted: 'False Invalid', Ready: 'False Invalid', Stalled: 'True Invalid' })
  assert.equal(status.conditions?.[0]?.message, 'spec.mode must be Enforce or Observe')
  assert.equal(status.observedGeneration, 4)
})

test('T55: 10,000 conversations in 2,000 pods, with the longest names, are below 16 KiB', () => {
  const long = (name: string, length: number): string => `${name}-${'x'.repeat(length - name.length - 1)}`
  const names = Array.from({ length: 8 }, (_, index) => long(`t${index}`, 253))
  const snapshot = snapshotOf(names.map(tier).join('') + budget('desk', names))
  const pods = Array.from({ length: 2_000 }, (_, index) => pod(long(`p${index}`, 253)))
  const amount = '12345678.123456789'
  const thresholds = Object.fromEntries(Array.from({ length: 16 }, (_, index) => [String(85 + index), 1_000]))
  const byRung = { None: 1_000, DropRetrieval: 100, Summarize: 50, DowngradeModel: 50, RefuseTools: 25, EndConversation: 25 }
  const tiers = Object.fromEntries(
    names.map((name) => [
      name,
      totalsOf({
        conversations: 1_250,
        turns: 50_000,
        byRung,
        spent: amount,
        held: amount,
        cost: { p50: amount, p95: amount, p99: amount, max: amount },
        alerts: thresholds,
        resolutions: { started: 1_250, assumed: 300, confirmed: 800, reversed: 10, cost: amount, costPer: amount, unresolvedCost: amount },
        users: { active: 900, spent: amount, heavy: 10, heavySpent: amount, upgradeCandidates: 40, byUse: { '0-24': 800, '100': 100 } },
        today: { turns: 1, spent: `-${amount}`, users: 9 },
      }),
    ]),
  )
  const refused = { version: 1, hash: '0'.repeat(16), reason: 'r'.repeat(1_024) }
  const reports = new Map(pods.map(({ name }) => [name, reportOf({ pod: name, receivedAtMs: NOW, tiers, refused })]))
  const status = budgetStatus(statusesOf(snapshot, { pods: new Map([['support/desk', pods]]), reports, isOutdated: () => true }))
  assert.deepEqual([status.workloads?.matched, status.workloads?.nacked, status.conversations?.total], [2_000, 2_000, 10_000])
  const bytes = Buffer.byteLength(JSON.stringify(status))
  assert.ok(bytes <= STATUS_BYTES_MAX, `${bytes} bytes`)
  assert.ok(bytes > STATUS_BYTES_MAX / 2, `${bytes} bytes: as much is shown as there is room for`)
  assert.ok((status.tiers?.length ?? 0) > 0)
})

test('a budget whose limits are not in force for pods that others govern says for how many, and who governs them', () => {
  const limits = (amount: string): string => `  limits: [{ amount: "${amount}", period: { unit: Day, timeZone: UTC } }]\n`
  const snapshot = snapshotOf(
    tier('pro') + budget('old', ['pro'], limits('5.00')) + budget('older', ['pro']) + budget('desk', ['pro'], limits('9.00')),
  )
  const said = (others: Record<string, number>, of = snapshot) => {
    const counts = new Map(Object.entries(others).map(([name, pods]) => [`support/${name}`, pods]))
    const status = budgetStatus(statusesOf(of, { elsewhere: new Map([['support/desk', counts]]) }))
    return { ...conditions(status), message: status.conditions?.find(({ type }) => type === 'Programmed')?.message }
  }
  const partly = said({ older: 3 })
  assert.partialDeepStrictEqual(partly, {
    Programmed: 'False PartiallyProgrammed',
    Ready: 'False PartiallyProgrammed',
    Stalled: 'True PartiallyProgrammed',
    message:
      'ConversationBudget "older" comes before this one and governs 3 of the pods that this one selects, without the limits of this one',
  })
  assert.match(
    said({ older: 3, gone: 4, old: 8 }).message ?? '',
    /^ConversationBudget "gone" and 1 more come before this one and govern 7 of the pods/,
  )
  const tighter = said({ old: 8 })
  assert.partialDeepStrictEqual(tighter, { Programmed: 'True SelectorsOverlap', Ready: 'True Ready' })
  assert.match(
    tighter.message ?? '',
    /; but ConversationBudget "old" comes before this one and governs 8 of the pods that this one selects$/,
  )
  const unlimited = snapshotOf(tier('pro') + budget('older', ['pro']) + budget('desk', ['pro']))
  assert.partialDeepStrictEqual(said({ older: 3 }, unlimited), { Programmed: 'True SelectorsOverlap', Ready: 'True Ready' })
  const refused = snapshotOf(tier('pro') + budget('older', ['pro']) + budget('desk', ['gold'], limits('9.00')))
  assert.partialDeepStrictEqual(said({ older: 3 }, refused), { Programmed: 'False NotAccepted' })
  assert.partialDeepStrictEqual(said({}), { Programmed: 'True Programmed', Ready: 'True Ready' })
})
