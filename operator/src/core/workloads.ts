/** What the pods of a budget and their sidecars tell: counts, the pods that somebody should look at, and conditions. Pure. */
import { ANNOTATIONS, LABELS, SIDECAR_CONTAINER, SKIP_REASONS } from '@farebox/crds/cluster.ts'
import type { SkipReason } from '@farebox/crds/cluster.ts'
import { POD_MESSAGE_CHARS_MAX, PODS_SHOWN_MAX } from '@farebox/crds/conversation-budget.ts'
import type { ConversationBudget, ConversationBudgetStatus } from '@farebox/crds/conversation-budget.ts'
import type { ReceivedReport, SidecarReport } from '@farebox/crds/delivery.ts'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import type { Finding } from './conditions.ts'
import { coordinationOf } from './coordination.ts'
import type { NotStarting } from './not-starting.ts'
import { bornAt } from './same-pods.ts'

/** Sidecars report every few seconds: one that has not for so long is not known any more. */
export const FRESH_MS = 60_000
/** A sidecar that has just begun may have no config yet. */
const BEGINS_MS = 10_000
/** A connection past the sidecar is held against the pod for so long. */
const BYPASS_HELD_MS = 10 * 60_000

/** What is read of a pod's metadata. */
export interface Pod {
  readonly name: string
  readonly namespace?: string
  readonly uid?: string
  readonly creationTimestamp?: string
  readonly deletionTimestamp?: string
  readonly labels?: Readonly<Record<string, string>>
  readonly annotations?: Readonly<Record<string, string>>
}

/** What a dry-run pod without a sidecar met with, in a namespace that demands sidecars. */
export type Gate =
  | { readonly status: 'Holds' }
  | { readonly status: 'Open'; readonly reason: string }
  /** It was refused for another reason, which says nothing of ours. */
  | { readonly status: 'Unknown'; readonly reason: string }

/** What tells why nobody was asked about a pod. */
export interface Asking {
  /** `creationTimestamp` of the budget that governs it; empty: it was never in a cluster. */
  readonly budgetBornAt: string
  /** The webhook leaves its namespace out. */
  readonly isExcluded: boolean
  /** The budget demands a sidecar of each pod: no label takes a pod out of that. */
  readonly isRequired: boolean
}

export function askingOf(budget: ConversationBudget, isExcluded: boolean): Asking {
  return { budgetBornAt: bornAt(budget), isExcluded, isRequired: budget.spec.injection.mode === 'Required' }
}

export interface WorkloadsView extends Asking {
  readonly nowMs: number
  /** The config that sidecars should have; null: none, or one that another version wrote. */
  readonly config: SidecarConfig | null
  /** Of that config, though it cannot be read here. */
  readonly hash: string | undefined
  /** Those that the budget governs. */
  readonly pods: readonly Pod[]
  /** By uid of the pod: the newest of each. */
  readonly reports: ReadonlyMap<string, ReceivedReport>
  /** Whether a pod was injected otherwise than it would be today. */
  readonly isOutdated: (pod: Pod) => boolean
  /** From when on the sidecar of a pod may speak; null: the pod has not started. */
  readonly startedMs: (pod: Pod) => number | null
  /** How the container that was added to a pod keeps it from starting; null: it does not. */
  readonly notStarting: (pod: Pod) => NotStarting | null
  /** Null: no sidecars are demanded, or it was not tried yet. */
  readonly gate: Gate | null
  /** The store that the sidecars share forgets all when its pod goes. */
  readonly storeIsEphemeral: boolean
}

type Workloads = NonNullable<ConversationBudgetStatus['workloads']>
type Worst = NonNullable<Workloads['worst']>[number]

export interface WorkloadsFound {
  readonly workloads: Workloads
  readonly findings: readonly Finding[]
}

/** A pod that has a sidecar, with what that said last. */
interface Injected {
  readonly pod: Pod
  readonly received: ReceivedReport | null
  readonly startedMs: number | null
}

/** A pod that our container keeps from starting. */
interface Failing {
  readonly pod: Pod
  readonly reason: NotStarting
}

/** For people: the rest is in the pod's own status. */
const NOT_STARTING: Readonly<Record<NotStarting, string>> = {
  ImagePullFailing: `the image of its container ${SIDECAR_CONTAINER} cannot be pulled`,
  ContainerFailing: `its container ${SIDECAR_CONTAINER} cannot run`,
}

/** `found`: what compile said. `Programmed` is True only once the sidecars that are connected have the config in force. */
export function withWorkloads(found: readonly Finding[], view: WorkloadsView): WorkloadsFound {
  const pods = view.pods.filter(({ deletionTimestamp }) => deletionTimestamp === undefined)
  const injected = pods
    .filter(isInjected)
    .map((pod) => ({ pod, received: view.reports.get(pod.uid ?? '') ?? null, startedMs: view.startedMs(pod) }))
  const skipped = pods.filter((pod) => !isInjected(pod))
  const connected = injected.flatMap(({ received }) => (received !== null && isFresh(received, view.nowMs) ? [received] : []))
  const stale = injected.filter((sidecar) => isStale(sidecar, view.nowMs))
  const outdated = injected.filter(({ pod }) => view.isOutdated(pod))
  // What was tried for a moment may come right by the next try.
  const failing = byName(injected.filter((sidecar) => isWaiting(sidecar, view.nowMs))).flatMap(({ pod }): readonly Failing[] => {
    const reason = view.notStarting(pod)
    return reason === null ? [] : [{ pod, reason }]
  })
  const nacked = injected.filter(({ received }) => received !== null && received.report.refused !== null)
  const { hash } = view
  const worst: readonly Worst[] = [
    ...failing.map(({ pod, reason }) => trouble(pod, 'NotStarting', NOT_STARTING[reason])),
    ...byName(nacked).map(({ pod, received }) => trouble(pod, 'Nacked', received?.report.refused?.reason ?? '')),
    ...skipped
      .filter((pod) => !IS_AS_MEANT.has(skipReason(pod, view)))
      .toSorted((a, b) => (a.name < b.name ? -1 : 1))
      .map((pod) => trouble(pod, 'NotInjected', skippedFor(skipReason(pod, view)))),
    ...byName(stale).map(({ pod, received }) =>
      trouble(
        pod,
        'Stale',
        received === null ? 'nothing was heard of it' : 'it has not been heard of for a minute, or has not heard of us',
      ),
    ),
    ...byName(outdated).map(({ pod }) => trouble(pod, 'Outdated', 'replace it to bring its sidecar up to date')),
  ]
  const workloads: Workloads = {
    matched: pods.length,
    injected: injected.length,
    inSync: connected.filter(({ report }) => hash !== undefined && report.inForce?.hash === hash).length,
    outdated: outdated.length,
    nacked: nacked.length,
    stale: stale.length,
    ...(failing.length === 0 ? {} : { notStarting: failing.length }),
    skipped: countedBy(skipped.map((pod) => skipReason(pod, view))),
    ...(worst.length === 0 ? {} : { worst: worst.slice(0, PODS_SHOWN_MAX) }),
  }
  const findings = found.map((finding) => (finding.type === 'Programmed' ? programmed(finding, view, connected) : finding))
  return {
    workloads,
    findings: [
      ...findings,
      injectedFinding(workloads, failing, view),
      enforced(view, injected, connected, skipped.length),
      coordinated(
        connected.map(({ report }) => report),
        view,
      ),
      usageFresh({
        injected: injected.length,
        connected: connected.length,
        stale: stale.length,
        waiting: byName(injected.filter((sidecar) => isWaiting(sidecar, view.nowMs))).map(({ pod }) => pod.name),
      }),
    ],
  }
}

function coordinated(reports: readonly SidecarReport[], { storeIsEphemeral }: WorkloadsView): Finding {
  const finding = coordinationOf(reports)
  if (!storeIsEphemeral || finding.status !== 'True') return finding
  const message = 'the store that came with the chart has no volume: when its pod goes, what was spent is forgotten'
  return { ...finding, status: 'False', reason: 'EphemeralStore', message }
}

/** A pod made from the metadata of another may have what was said of that beside what was said of itself. */
export function isInjected({ annotations }: Pod): boolean {
  return annotations?.[ANNOTATIONS.injectionHash] !== undefined && annotations[ANNOTATIONS.skipped] === undefined
}

/** Whether the report came within `FRESH_MS`. */
export function isFresh({ receivedAtMs }: ReceivedReport, nowMs: number): boolean {
  return nowMs - receivedAtMs < FRESH_MS
}

/** It says nothing, or nobody says anything to it. One that has just begun is given its time, and one that has not begun cannot speak. */
function isStale({ received, startedMs }: Injected, nowMs: number): boolean {
  if (received === null) return startedMs !== null && nowMs - startedMs >= FRESH_MS
  const { staleMs, runSinceMs } = received.report
  return !isFresh(received, nowMs) || (staleMs ?? received.receivedAtMs - runSinceMs) >= FRESH_MS
}

/** For a node, an image, a Secret or its sidecar's first config: for longer than a pod takes as a rule. */
function isWaiting({ pod, received, startedMs }: Injected, nowMs: number): boolean {
  return received === null && startedMs === null && nowMs - Date.parse(pod.creationTimestamp ?? '') >= FRESH_MS
}

/** Of the kubelet, on a pod that is not the API server's to change. */
const MIRROR = 'kubernetes.io/config.mirror'
/** Who has none of these reasons should have a sidecar. */
const IS_AS_MEANT: ReadonlySet<SkipReason> = new Set(['OptedOut', 'MirrorPod'])

/** Of a pod that is not injected. Times are whole seconds: one that is as old as its budget was made before that was known. */
export function skipReason({ annotations, labels, creationTimestamp }: Pod, { budgetBornAt, isExcluded, isRequired }: Asking): SkipReason {
  if (annotations?.[MIRROR] !== undefined) return 'MirrorPod' // nobody is asked about these
  const said = annotations?.[ANNOTATIONS.skipped]
  const known = SKIP_REASONS.find((reason) => reason === said)
  if (known !== undefined) return known
  // Labels may be changed at any time, by whoever would rather not be governed.
  if (!isRequired && labels?.[LABELS.inject] === 'disabled') return 'OptedOut'
  if (isExcluded) return 'NamespaceExcluded'
  return creationTimestamp !== undefined && creationTimestamp <= budgetBornAt ? 'OlderThanBudget' : 'Missed'
}

/** For people: the reason, and what there is to do where that is known. */
export function skippedFor(reason: SkipReason): string {
  switch (reason) {
    case 'OlderThanBudget':
      return `${reason}: it was made before its budget: replace it, as kubectl rollout restart does`
    case 'NamespaceExcluded':
      return `${reason}: ${EXCLUDED}`
    default:
      return reason
  }
}

const EXCLUDED = "the webhook leaves this namespace out, as the operator's own and the chart's webhook.excludedNamespaces"

function programmed(finding: Finding, { config, nowMs }: WorkloadsView, connected: readonly ReceivedReport[]): Finding {
  if (finding.status !== 'True' || config === null) return finding
  const others = connected.filter(({ report }) => report.inForce?.hash !== config.hash)
  const refusing = others.filter(({ report }) => report.refused !== null)
  const [first] = refusing
  if (first !== undefined) {
    const message = `${count(refusing.length, 'sidecar')} of ${connected.length} refused config ${config.hash} and ${refusing.length === 1 ? 'goes' : 'go'} on with the one before: ${first.report.refused?.reason}`
    return { ...finding, status: 'False', reason: 'Refused', message }
  }
  const waiting = others.filter(({ report }) => report.inForce !== null || nowMs - report.runSinceMs >= BEGINS_MS)
  if (waiting.length > 0) {
    const message = `${count(waiting.length, 'sidecar')} of ${connected.length} ${waiting.length === 1 ? 'does' : 'do'} not have config ${config.hash} in force yet`
    return { ...finding, status: 'Unknown', reason: 'Reconciling', message }
  }
  return connected.length === 0
    ? finding
    : { ...finding, message: `${finding.message}, and in force in ${count(connected.length, 'sidecar')}` }
}

function injectedFinding(
  { matched, injected, outdated, skipped }: Workloads,
  failing: readonly Failing[],
  { gate, isExcluded }: WorkloadsView,
): Finding {
  const said = (status: Finding['status'], reason: string, message: string): Finding => ({ type: 'Injected', status, reason, message })
  // Nor does the gate look at it: that it is open says nothing of the policies.
  if (isExcluded) return said('False', 'NamespaceExcluded', `no pod gets a sidecar here: ${EXCLUDED}`)
  if (gate?.status === 'Open')
    return said('False', 'GateOpen', `sidecars are required, but a pod without one would be let in: ${gate.reason}`)
  const unproved =
    gate?.status === 'Unknown'
      ? `; whether a pod without one would be refused could not be found out, since it is for another reason: ${gate.reason}`
      : ''
  const optedOut = skipped['OptedOut'] ?? 0
  const missing = matched - injected - optedOut - (skipped['MirrorPod'] ?? 0)
  if (missing > 0) {
    const reasons = Object.entries(skipped).filter(([reason]) => reason !== 'OptedOut' && reason !== 'MirrorPod')
    const list = reasons.map(([reason, pods]) => `${pods} ${reason}`).join(', ')
    const older = skipped['OlderThanBudget'] === undefined ? '' : '; replace those that are older than the budget (kubectl rollout restart)'
    return said(
      'False',
      'MissingSidecars',
      `${count(missing, 'pod')} of ${matched} ${missing === 1 ? 'has' : 'have'} no sidecar: ${list}${older}${unproved}`,
    )
  }
  const [first] = failing
  if (first !== undefined) {
    const message = `${count(failing.length, 'pod')} of ${matched} cannot start, "${first.pod.name}" among them: ${NOT_STARTING[first.reason]}`
    return said('False', first.reason, `${message}${unproved}`)
  }
  const besides = `${optedOut === 0 ? '' : `; ${count(optedOut, 'pod')} opted out`}${unproved}`
  if (matched === 0) return said('Unknown', 'NoPods', `it governs no pod that runs${besides}`)
  // What is old is in force all the same: it is told, but nothing is wrong.
  if (outdated > 0)
    return said('True', 'Outdated', `${count(outdated, 'pod')} of ${matched} would get another sidecar today: replace them${besides}`)
  return injected === 0
    ? said('Unknown', 'NoPods', `no pod is to have a sidecar${besides}`)
    : said('True', 'Injected', `${count(injected, 'pod')} ${injected === 1 ? 'has a sidecar' : 'have sidecars'}${besides}`)
}

function enforced(
  { config, nowMs }: WorkloadsView,
  injected: readonly Injected[],
  connected: readonly ReceivedReport[],
  skipped: number,
): Finding {
  const said = (status: Finding['status'], reason: string, message: string): Finding => ({ type: 'Enforced', status, reason, message })
  const reports = connected.map(({ report }) => report)
  const past = connected.filter(
    ({ receivedAtMs, report: { bypass } }) => bypass.found > 0 && bypass.lastMs !== null && receivedAtMs - bypass.lastMs < BYPASS_HELD_MS,
  )
  const [first] = past
  if (first !== undefined) {
    const message = `${count(past.length, 'pod')} ${past.length === 1 ? 'talks' : 'talk'} to a provider past the sidecar, to ${first.report.bypass.lastSeen ?? 'an address of one'}`
    return said('False', 'Bypassed', message)
  }
  const turns = reports.reduce((sum, report) => sum + report.turns.count, 0)
  const withoutUser = reports.reduce((sum, report) => sum + report.turns.withoutUser, 0)
  const hasUserCap = Object.values(config?.contracts ?? {}).some(({ caps }) => caps.perUser !== undefined)
  if (config?.mode === 'Observe' && turns > 0)
    return said('Unknown', 'Observing', `${count(turns, 'turn')} seen; nothing is enforced in mode Observe`)
  if (hasUserCap && turns > 0 && withoutUser === turns)
    return said('False', 'NoUserIdentity', 'a plan has a budget for each user, but no turn says whose it is')
  const held = config === null ? [] : config.upstreams.filter(({ credential }) => credential === 'Held').map(({ name }) => name)
  const holds = ({ heldKeys }: ReceivedReport['report']): boolean => held.every((name) => heldKeys.includes(name))
  const hasCustody = config !== null && held.length === config.upstreams.length && skipped === 0 && connected.length > 0
  // A pod that has not started goes past nothing yet.
  const begun = injected.filter((sidecar) => sidecar.received !== null || isStale(sidecar, nowMs))
  if (hasCustody && connected.length === begun.length && reports.every(holds)) {
    const sharing = injected.filter(({ pod }) => pod.annotations?.[ANNOTATIONS.sharedKeys] !== undefined)
    if (sharing.length === 0) return said('True', 'KeyCustody', 'only the sidecars have the keys of the providers')
    return said('Unknown', 'KeyShared', sharedKeys(byName(sharing).map(({ pod }) => pod)))
  }
  if (turns > 0) return said('True', 'TrafficSeen', 'calls go through the sidecars, and none was seen past them')
  return said('Unknown', 'NoTraffic', 'no call has come yet')
}

function sharedKeys(pods: readonly Pod[]): string {
  const upstreams = new Set(pods.flatMap(({ annotations }) => annotations?.[ANNOTATIONS.sharedKeys]?.split(',') ?? []))
  return `${count(pods.length, 'pod')} may have a key that the sidecar should hold alone, of ${[...upstreams].toSorted().join(', ')}: take it away, as the annotation ${ANNOTATIONS.warnings} of pod "${pods[0]?.name ?? ''}" says`
}

function usageFresh({
  injected,
  connected,
  stale,
  waiting,
}: Readonly<Record<'injected' | 'connected' | 'stale', number>> & { readonly waiting: readonly string[] }): Finding {
  const [first] = waiting
  const besides =
    first === undefined
      ? ''
      : `; ${count(waiting.length, 'pod')} ${waiting.length === 1 ? 'has' : 'have'} waited for more than a minute to start, "${first}" among them`
  const said = (status: Finding['status'], reason: string, message: string): Finding => ({
    type: 'UsageFresh',
    status,
    reason,
    message: `${message}${besides}`,
  })
  if (stale > 0)
    return said(
      'False',
      'Stale',
      `${count(stale, 'sidecar')} of ${injected} ${stale === 1 ? 'has' : 'have'} not been heard of for a minute`,
    )
  return connected === 0
    ? said('Unknown', 'NoReports', 'no sidecar has reported yet')
    : said('True', 'Reported', 'all sidecars that run have reported within a minute')
}

function trouble({ name }: Pod, trouble: Worst['trouble'], message: string): Worst {
  return { pod: name, trouble, message: message.slice(0, POD_MESSAGE_CHARS_MAX) }
}

function byName(sidecars: readonly Injected[]): readonly Injected[] {
  return sidecars.toSorted((a, b) => (a.pod.name < b.pod.name ? -1 : 1))
}

function countedBy(reasons: readonly SkipReason[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const reason of reasons.toSorted()) counts[reason] = (counts[reason] ?? 0) + 1
  return counts
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`
}
