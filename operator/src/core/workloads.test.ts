import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ANNOTATIONS, LABELS } from '@farebox/crds/cluster.ts'
import type { ReceivedReport } from '@farebox/crds/delivery.ts'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { compile } from './compile.ts'
import type { Finding } from './conditions.ts'
import { readManifests } from './manifests.ts'
import type { NotStarting } from './not-starting.ts'
import { reportOf } from './reports.testing.ts'
import type { ReportParts } from './reports.testing.ts'
import { withWorkloads } from './workloads.ts'
import type { Gate, Pod } from './workloads.ts'

const NOW = Date.UTC(2026, 10, 24, 12)
const HASH = 'hash-of-injection'

function configOf(more = '', tier = 'pricing: { model: PerConversation, price: "1.00" }', economics = ''): SidecarConfig {
  const text = `apiVersion: farebox.dev/v1alpha1
kind: PricingTier
metadata: { name: pro }
spec:
  displayName: Pro
  ${tier}
  unitEconomics: { targetGrossMarginPercent: 70${economics} }
---
apiVersion: farebox.dev/v1alpha1
kind: ConversationBudget
metadata: { name: desk, namespace: support }
spec:
  selector: { matchLabels: { app: desk } }
  tier: { default: pro }
${more}`
  const { snapshot, problems } = readManifests([{ path: 'all.yaml', text }])
  assert.deepEqual(problems, [])
  const config = compile(snapshot, { nowMs: NOW, previous: new Map() }).configs.get('support/desk')
  assert.ok(config)
  return config
}
const CONFIG = configOf()
const IN_FORCE = { budget: 'support/desk', version: CONFIG.version, hash: CONFIG.hash }
const OTHER = { ...IN_FORCE, version: 1, hash: '1'.repeat(16) }

const pod = (name: string, annotations: Readonly<Record<string, string>> = { [ANNOTATIONS.injectionHash]: HASH }): Pod => ({
  name,
  uid: name,
  creationTimestamp: '2026-11-24T11:00:00Z',
  annotations,
})
const skipped = (name: string, reason?: string): Pod => pod(name, reason === undefined ? {} : { [ANNOTATIONS.skipped]: reason })
const said = (name: string, parts: Partial<ReportParts> = {}): ReceivedReport =>
  reportOf({ pod: name, receivedAtMs: NOW - 1_000, inForce: IN_FORCE, ...parts })

interface Case {
  readonly pods: readonly Pod[]
  readonly reports?: readonly ReceivedReport[]
  readonly config?: SidecarConfig | null
  /** Of one that cannot be read. */
  readonly hash?: string
  readonly gate?: Gate
  readonly budgetBornAt?: string
  readonly isExcluded?: boolean
  readonly isRequired?: boolean
  readonly storeIsEphemeral?: boolean
  /** Names of pods. */
  readonly notStarted?: readonly string[]
  /** By name of a pod. */
  readonly notStarting?: Readonly<Record<string, NotStarting>>
  readonly found?: readonly Finding[]
}
const FOUND: readonly Finding[] = [
  { type: 'Accepted', status: 'True', reason: 'Accepted', message: '' },
  { type: 'Programmed', status: 'True', reason: 'Programmed', message: 'config is written' },
]

function judge({
  pods,
  reports = [],
  config = CONFIG,
  hash,
  gate,
  budgetBornAt = '2026-11-24T10:00:00Z',
  isExcluded = false,
  isRequired = false,
  storeIsEphemeral = false,
  notStarted = [],
  notStarting = {},
  found = FOUND,
}: Case) {
  const result = withWorkloads(found, {
    nowMs: NOW,
    config,
    hash: config === null ? hash : config.hash,
    pods,
    reports: new Map(reports.map((received) => [received.pod.uid, received])),
    isOutdated: ({ annotations }) => annotations?.[ANNOTATIONS.injectionHash] !== HASH,
    startedMs: ({ name, creationTimestamp = '' }) => (notStarted.includes(name) ? null : Date.parse(creationTimestamp)),
    notStarting: ({ name }) => notStarting[name] ?? null,
    gate: gate ?? null,
    budgetBornAt,
    isExcluded,
    isRequired,
    storeIsEphemeral,
  })
  const conditions = Object.fromEntries(result.findings.map(({ type, status, reason }) => [type, `${status} ${reason}`]))
  return { ...result, conditions }
}

test('sidecars that have the config of another version in force have what is in force', () => {
  const { workloads } = judge({ pods: [pod('a')], config: null, hash: IN_FORCE.hash, reports: [said('a')] })
  assert.equal(workloads.inSync, 1)
  assert.equal(judge({ pods: [pod('a')], config: null, reports: [said('a')] }).workloads.inSync, 0)
})

test('what is well is counted, and said to be well', () => {
  const { workloads, conditions } = judge({
    pods: [pod('a'), pod('b'), { ...pod('going'), deletionTimestamp: '2026-11-24T12:00:00Z' }],
    reports: [said('a', { turns: { count: 3, lastMs: NOW, withoutUser: 3 } }), said('b')],
  })
  assert.deepEqual(workloads, { matched: 2, injected: 2, inSync: 2, outdated: 0, nacked: 0, stale: 0, skipped: {} })
  assert.deepEqual(conditions, {
    Accepted: 'True Accepted',
    Programmed: 'True Programmed',
    Injected: 'True Injected',
    Enforced: 'True TrafficSeen',
    Coordinated: 'True StoreReady',
    UsageFresh: 'True Reported',
  })
})

test('pods without sidecars are counted by reason; those that opted out are nobody’s fault', () => {
  const { workloads, conditions } = judge({ pods: [pod('a'), skipped('b', 'HostNetwork'), skipped('c'), skipped('d', 'OptedOut')] })
  assert.deepEqual(workloads.skipped, { HostNetwork: 1, Missed: 1, OptedOut: 1 })
  assert.equal(conditions['Injected'], 'False MissingSidecars')
  assert.deepEqual(
    workloads.worst?.map(({ pod, trouble, message }) => [pod, trouble, message]),
    [
      ['b', 'NotInjected', 'HostNetwork'],
      ['c', 'NotInjected', 'Missed'],
      ['a', 'Stale', 'nothing was heard of it'],
    ],
  )
  assert.equal(judge({ pods: [pod('a'), skipped('d', 'OptedOut')] }).conditions['Injected'], 'True Injected')
  assert.equal(judge({ pods: [skipped('d', 'OptedOut')] }).conditions['Injected'], 'Unknown NoPods')
  assert.equal(judge({ pods: [] }).conditions['Injected'], 'Unknown NoPods')
})

test('a pod that is as old as its budget or older was not missed: replacing it is what helps', () => {
  const later = { ...skipped('later'), creationTimestamp: '2026-11-24T11:00:01Z' }
  const opted = { ...skipped('opted'), labels: { [LABELS.inject]: 'disabled' } }
  const pods = [skipped('older'), skipped('host', 'HostNetwork'), later, opted]
  const { workloads, findings } = judge({ pods, budgetBornAt: '2026-11-24T11:00:00Z' })
  assert.deepEqual(workloads.skipped, { HostNetwork: 1, Missed: 1, OlderThanBudget: 1, OptedOut: 1 })
  assert.match(
    findings.find(({ type }) => type === 'Injected')?.message ?? '',
    /3 pods of 4 have no sidecar: 1 HostNetwork, 1 Missed, 1 OlderThanBudget; replace those that are older than the budget \(kubectl rollout restart\)$/,
  )
  assert.match(workloads.worst?.find(({ pod }) => pod === 'older')?.message ?? '', /made before its budget/)
})

test('a label that keeps the sidecar out takes no pod out of a budget that requires one', () => {
  const later = { ...skipped('later'), labels: { [LABELS.inject]: 'disabled' } }
  assert.equal(judge({ pods: [later] }).conditions['Injected'], 'Unknown NoPods')
  const { workloads, conditions } = judge({ pods: [later], isRequired: true, gate: { status: 'Holds' } })
  assert.deepEqual(workloads.skipped, { Missed: 1 })
  assert.equal(conditions['Injected'], 'False MissingSidecars')
})

test('where the webhook leaves the namespace out, that is said before there is a pod, and whatever its gate says', () => {
  const excluded = { isExcluded: true, budgetBornAt: '2026-11-24T11:00:00Z' }
  assert.equal(judge({ pods: [], ...excluded }).conditions['Injected'], 'False NamespaceExcluded')
  const open: Gate = { status: 'Open', reason: 'it was let in' }
  const { workloads, conditions } = judge({ pods: [skipped('a'), skipped('b', 'OptedOut')], gate: open, ...excluded })
  assert.equal(conditions['Injected'], 'False NamespaceExcluded')
  assert.deepEqual(workloads.skipped, { NamespaceExcluded: 1, OptedOut: 1 })
  const { message = '' } = judge({ pods: [], ...excluded }).findings.find(({ type }) => type === 'Injected') ?? {}
  assert.match(message, /the operator's own and the chart's webhook\.excludedNamespaces$/)
})

test('pods that wait because our container cannot run are told, counted and wrong; those that wait for anything else are not', () => {
  const pods = ['a', 'b', 'c', 'd'].map((name) => pod(name))
  const young = { ...pod('young'), creationTimestamp: '2026-11-24T11:59:30Z' }
  const stuck = { b: 'ImagePullFailing', c: 'ContainerFailing', young: 'ImagePullFailing' } as const
  const notStarted = ['a', 'b', 'c', 'young']
  const { workloads, conditions, findings } = judge({ pods: [...pods, young], notStarted, notStarting: stuck, reports: [said('d')] })
  assert.equal(conditions['Injected'], 'False ImagePullFailing')
  assert.match(
    findings.find(({ type }) => type === 'Injected')?.message ?? '',
    /^2 pods of 5 cannot start, "b" among them: the image of its container farebox cannot be pulled$/,
  )
  assert.equal(workloads.notStarting, 2)
  assert.deepEqual(
    workloads.worst?.map(({ pod, trouble }) => [pod, trouble]),
    [
      ['b', 'NotStarting'],
      ['c', 'NotStarting'],
    ],
  )
  const waiting = judge({ pods, notStarted, reports: [said('d')] })
  assert.equal(waiting.conditions['Injected'], 'True Injected', 'for a node, say')
  assert.equal(waiting.workloads.notStarting, undefined)
  const missed = judge({ pods: [...pods, skipped('e')], notStarted, notStarting: stuck })
  assert.equal(missed.conditions['Injected'], 'False MissingSidecars', 'those spend past their budgets')
})

test('an old sidecar is told and nothing is wrong; a gate that is open is', () => {
  const old = pod('old', { [ANNOTATIONS.injectionHash]: 'another' })
  assert.equal(judge({ pods: [pod('a'), old] }).conditions['Injected'], 'True Outdated')
  assert.equal(judge({ pods: [pod('a'), old] }).workloads.outdated, 1)
  assert.equal(judge({ pods: [pod('a')], gate: { status: 'Open', reason: 'it was let in' } }).conditions['Injected'], 'False GateOpen')
  assert.equal(judge({ pods: [pod('a')], gate: { status: 'Holds' } }).conditions['Injected'], 'True Injected')
  const refused = { status: 'Unknown', reason: 'pods "farebox-gate-check" is forbidden: minimum cpu usage per Pod is 1' } as const
  const unproved = judge({ pods: [pod('a')], gate: refused })
  assert.equal(unproved.conditions['Injected'], 'True Injected')
  assert.match(unproved.findings.find(({ type }) => type === 'Injected')?.message ?? '', /could not be found out, .*: minimum cpu usage/)
})

test('programmed is what all connected sidecars have in force', () => {
  const pods = [pod('a'), pod('b')]
  const waiting = judge({ pods, reports: [said('a'), said('b', { inForce: OTHER })] })
  assert.equal(waiting.conditions['Programmed'], 'Unknown Reconciling')
  assert.equal(waiting.workloads.inSync, 1)
  const refused = { version: CONFIG.version, hash: CONFIG.hash, reason: 'limits[0] is beyond me' }
  const nacked = judge({ pods, reports: [said('a'), said('b', { inForce: OTHER, refused })] })
  assert.equal(nacked.conditions['Programmed'], 'False Refused')
  assert.match(nacked.findings.find(({ type }) => type === 'Programmed')?.message ?? '', /limits\[0\] is beyond me/)
  assert.deepEqual(nacked.workloads.worst, [{ pod: 'b', trouble: 'Nacked', message: 'limits[0] is beyond me' }])
  const corrupt = judge({ pods, reports: [said('a'), said('b', { refused })] })
  assert.equal(corrupt.conditions['Programmed'], 'True Programmed', 'what was refused was not the config in force')
  assert.equal(corrupt.workloads.nacked, 1)
  const silent = judge({ pods, reports: [said('a'), said('b', { inForce: OTHER, receivedAtMs: NOW - 60_000 })] })
  assert.equal(silent.conditions['Programmed'], 'True Programmed', 'one that is not connected is stale, and holds up nobody')
  assert.equal(silent.workloads.stale, 1)
  assert.equal(silent.conditions['UsageFresh'], 'False Stale')
  const begins = judge({ pods, reports: [said('a'), said('b', { inForce: null, runSinceMs: NOW - 1_000 })] })
  assert.equal(begins.conditions['Programmed'], 'True Programmed', 'one that begins is given its time')
  const stuck = judge({ pods, reports: [said('a'), said('b', { inForce: null, runSinceMs: NOW - 20_000 })] })
  assert.equal(stuck.conditions['Programmed'], 'Unknown Reconciling')
  const refusedByUs: readonly Finding[] = [{ type: 'Programmed', status: 'False', reason: 'NotAccepted', message: '' }]
  assert.equal(judge({ pods, reports: [said('a')], found: refusedByUs }).conditions['Programmed'], 'False NotAccepted')
})

test('enforced: custody before traffic, and what contradicts them before both', () => {
  const turns = { count: 5, lastMs: NOW, withoutUser: 0 }
  const held = configOf(
    '  upstreams: [{ name: openai, baseURL: "https://api.openai.com/v1", credential: { secretRef: { name: k, key: v } } }]\n',
  )
  const enforced = (parts: Case): string | undefined => judge(parts).conditions['Enforced']
  const pods = [pod('a'), pod('b')]
  assert.equal(enforced({ pods, reports: [said('a')] }), 'Unknown NoTraffic')
  const keys = { heldKeys: ['openai'] }
  assert.equal(enforced({ pods, config: held, reports: [said('a', keys), said('b', keys)] }), 'True KeyCustody')
  assert.equal(
    enforced({ pods, config: held, reports: [said('a', keys), said('b', { turns })] }),
    'True TrafficSeen',
    'b was admitted before',
  )
  assert.equal(enforced({ pods: [...pods, skipped('c')], config: held, reports: [said('a', keys), said('b', keys)] }), 'Unknown NoTraffic')
  const bypass = { looks: 9, found: 1, lastSeen: '203.0.113.7:443', lastMs: NOW - 2_000 }
  assert.equal(enforced({ pods, reports: [said('a', { turns }), said('b', { bypass })] }), 'False Bypassed')
  const longAgo = { ...bypass, lastMs: NOW - 3_600_000 }
  assert.equal(enforced({ pods, reports: [said('a', { turns }), said('b', { bypass: longAgo })] }), 'True TrafficSeen')
  const seat = configOf(
    '',
    'pricing: { model: FlatPerUser, price: "19.00", period: { unit: Month } }',
    ', expectedConversationsPerUser: 10',
  )
  const anonymous = { turns: { ...turns, withoutUser: 5 } }
  assert.equal(enforced({ pods, config: seat, reports: [said('a', anonymous)] }), 'False NoUserIdentity')
  assert.equal(enforced({ pods, config: seat, reports: [said('a', anonymous), said('b', { turns })] }), 'True TrafficSeen')
  assert.equal(enforced({ pods, reports: [said('a', anonymous)] }), 'True TrafficSeen', 'no budget of users')
  assert.equal(enforced({ pods, config: configOf('  mode: Observe\n'), reports: [said('a', { turns })] }), 'Unknown Observing')
})

test('a pod that has not started goes past nothing and is not silent: it only waits, which is told after a minute', () => {
  const held = configOf(
    '  upstreams: [{ name: openai, baseURL: "https://api.openai.com/v1", credential: { secretRef: { name: k, key: v } } }]\n',
  )
  const reports = [said('a', { heldKeys: ['openai'] })]
  const young: Pod = { ...pod('young'), creationTimestamp: '2026-11-24T11:59:58Z' }
  for (const [more, notStarted, message] of [
    [young, ['young'], 'all sidecars that run have reported within a minute'],
    [young, [], 'all sidecars that run have reported within a minute'],
    [
      pod('queued'),
      ['queued'],
      'all sidecars that run have reported within a minute; 1 pod has waited for more than a minute to start, "queued" among them',
    ],
  ] as const) {
    const { conditions, workloads, findings } = judge({ pods: [pod('a'), more], config: held, reports, notStarted })
    assert.equal(conditions['Enforced'], 'True KeyCustody')
    assert.equal(conditions['UsageFresh'], 'True Reported')
    assert.equal(findings.find(({ type }) => type === 'UsageFresh')?.message, message)
    assert.deepEqual([workloads.injected, workloads.stale, workloads.worst], [2, 0, undefined])
  }
  const silent = judge({ pods: [pod('a'), pod('silent')], config: held, reports }).conditions
  assert.equal(silent['Enforced'], 'Unknown NoTraffic', 'it runs, and nobody knows with which key')
  assert.equal(silent['UsageFresh'], 'False Stale')
})

test('a pod that says both that it was injected and that it was skipped has no sidecar', () => {
  const both = pod('copied', { [ANNOTATIONS.injectionHash]: HASH, [ANNOTATIONS.skipped]: 'HostNetwork' })
  const { workloads, conditions } = judge({ pods: [both] })
  assert.deepEqual([workloads.injected, workloads.skipped], [0, { HostNetwork: 1 }])
  assert.equal(conditions['Injected'], 'False MissingSidecars')
})

test('there is no custody while a pod may have a key beside its sidecar: who, and what to do, is said', () => {
  const held = configOf(
    '  upstreams: [{ name: openai, baseURL: "https://api.openai.com/v1", credential: { secretRef: { name: k, key: v } } }]\n',
  )
  const keys = { heldKeys: ['openai'], turns: { count: 5, lastMs: NOW, withoutUser: 0 } }
  const sharing = pod('b', { [ANNOTATIONS.injectionHash]: HASH, [ANNOTATIONS.sharedKeys]: 'openai' })
  const { conditions, findings } = judge({ pods: [pod('a'), sharing], config: held, reports: [said('a', keys), said('b', keys)] })
  assert.equal(conditions['Enforced'], 'Unknown KeyShared')
  assert.equal(
    findings.find(({ type }) => type === 'Enforced')?.message,
    '1 pod may have a key that the sidecar should hold alone, of openai: take it away, as the annotation farebox.dev/warnings of pod "b" says',
  )
  const passing = judge({ pods: [pod('a'), sharing], reports: [said('a', keys), said('b', keys)] })
  assert.equal(passing.conditions['Enforced'], 'True TrafficSeen', 'where keys pass through there is no custody to speak of')
})

test('coordinated: one store for all, which answers and outlives the pods', () => {
  const coordinated = (...reports: readonly ReceivedReport[]): string | undefined =>
    judge({ pods: reports.map(({ pod: { name } }) => pod(name)), reports }).conditions['Coordinated']
  const embedded = { kind: 'Embedded' } as const
  assert.equal(coordinated(), 'Unknown NoReports')
  assert.equal(coordinated(said('a'), said('b')), 'True StoreReady')
  assert.equal(coordinated(said('a', { store: embedded })), 'False EphemeralStore')
  assert.equal(coordinated(said('a', { store: embedded, books: 'a' }), said('b', { store: embedded, books: 'b' })), 'False SeparateStores')
  assert.equal(coordinated(said('a'), said('b', { books: 'another store' })), 'False SeparateStores')
  assert.equal(coordinated(said('a'), said('b', { store: { state: 'Away', reason: 'no route', unsent: 2 } })), 'False StoreAway')
  assert.equal(coordinated(said('a'), said('b', { store: { state: 'Replaying' } })), 'False StoreReplaying')
})

test('a store that forgets with its pod is told of, once it is known that all is well otherwise', () => {
  const coordinated = (more: Parameters<typeof said>[1]): string | undefined =>
    judge({ pods: [pod('a')], reports: [said('a', more)], storeIsEphemeral: true }).conditions['Coordinated']
  assert.equal(coordinated({}), 'False EphemeralStore')
  assert.equal(coordinated({ store: { state: 'Away', reason: 'no route', unsent: 2 } }), 'False StoreAway')
})

test('a mirror pod, about which nobody is asked, is none that lacks a sidecar', () => {
  const mirror: Pod = { ...skipped('m'), annotations: { 'kubernetes.io/config.mirror': 'x' } }
  const { workloads, conditions } = judge({ pods: [pod('a'), mirror], reports: [said('a')] })
  assert.deepEqual(workloads.skipped, { MirrorPod: 1 })
  assert.equal(workloads.worst, undefined)
  assert.equal(conditions['Injected'], 'True Injected')
})

test('a sidecar that nobody tells anything is stale, and so is one that never reported; a young pod is neither', () => {
  const young: Pod = { ...pod('young'), creationTimestamp: '2026-11-24T11:59:30Z' }
  const { workloads, conditions } = judge({
    pods: [pod('never'), pod('untold'), pod('told-long-ago'), young],
    reports: [said('untold', { staleMs: null, runSinceMs: NOW - 90_000 }), said('told-long-ago', { staleMs: 61_000 })],
  })
  assert.equal(workloads.stale, 3)
  assert.deepEqual(
    workloads.worst?.map(({ pod }) => pod),
    ['never', 'told-long-ago', 'untold'],
  )
  assert.equal(conditions['UsageFresh'], 'False Stale')
  assert.equal(judge({ pods: [young] }).conditions['UsageFresh'], 'Unknown NoReports')
})
