/**
 * What must be true once all is quiet, whatever went wrong before. The provider's bill says what was bought, the ledger what
 * was charged, the clients what they saw, and the log of faults who died when. Pure.
 *
 * Two things cannot be promised, and are stated call by call, never as a margin over everything (`doubtsOf`):
 *
 * - `unsettled`: its sidecar died before the call was in the books. Its hold is charged whole when it expires: so as much as
 *   was billed or more, and perhaps for a call that never reached the provider.
 * - `lost`: the store lost the last of what it was told, and the sidecar that could have told it again had died too. The call may
 *   be missing from the ledger, and others may have spent its money: a cap may be exceeded by what such calls cost.
 *
 * So the bill is held to the caps and what was spent alone, by what calls cost; the ledger to the same, by what they may be charged.
 */
import type { NanoUsd } from '@farebox/crds/usd.ts'
import { formatUsd, percentOf } from '@farebox/crds/usd.ts'

/** A call as its client saw it. Times are of one wall clock, that of the test. */
export interface Call {
  /** Also the tag of its line on the bill. */
  readonly id: string
  readonly conversation: string
  readonly user: string
  readonly sidecar: number
  readonly startedAtMs: number
  readonly endedAtMs: number
  /** `answered`: whole. `refused`: by the sidecar or the provider. `broken`: anything else, above all a client that left early. */
  readonly ending: 'answered' | 'refused' | 'broken'
}

export interface Death {
  readonly sidecar: number
  readonly atMs: number
}
/** The store went on without what it was told after `fromMs`; sidecars could tell it again from `backMs` on. */
export interface TailLoss {
  readonly fromMs: number
  readonly atMs: number
  readonly backMs: number
}

/** A sidecar was without the store, once or several times, and may have gone on by itself. */
export interface Spell {
  readonly sidecar: number
  readonly fromMs: number
  readonly toMs: number
  readonly outages: number
}

export type Doubt = 'unsettled' | 'lost'

export interface Line {
  readonly tag: string
  readonly nanoUsd: NanoUsd
}
/** All that the ledger says of one operation, summed up. */
export interface Charged {
  readonly operation: string
  readonly conversation: string
  readonly cost: NanoUsd
}

export interface Caps {
  readonly perConversation: NanoUsd
  readonly perUser: NanoUsd
  readonly workload: NanoUsd
}

export interface Evidence {
  readonly calls: readonly Call[]
  readonly doubts: ReadonlyMap<string, Doubt>
  readonly bill: readonly Line[]
  readonly charged: readonly Charged[]
  readonly caps: Caps
  /** The most that one call can hold. */
  readonly holdMax: NanoUsd
  readonly spells: readonly Spell[]
  /** What a sidecar by itself may spend of a cap in one outage. */
  readonly allowancePercent: number
}

/** From the end of an answer until it is in the books, or in the journal of its sidecar, on a busy machine. */
const BOOKED_WITHIN_MS = 1_000
/** From the return of the store until a sidecar has told it its last steps again. */
const TOLD_AGAIN_WITHIN_MS = 5_000

export interface Troubles {
  readonly deaths: readonly Death[]
  readonly losses: readonly TailLoss[]
  readonly spells: readonly Spell[]
}

export function doubtsOf(calls: readonly Call[], { deaths, losses, spells }: Troubles): ReadonlyMap<string, Doubt> {
  const doubts = new Map<string, Doubt>()
  for (const death of deaths) {
    const own = calls.filter(({ sidecar }) => sidecar === death.sidecar)
    for (const { id, startedAtMs, endedAtMs } of own)
      if (startedAtMs <= death.atMs && endedAtMs >= death.atMs - BOOKED_WITHIN_MS && !doubts.has(id)) doubts.set(id, 'unsettled')
    for (const { fromMs, atMs, backMs } of losses) {
      if (death.atMs < fromMs || death.atMs > backMs + TOLD_AGAIN_WITHIN_MS) continue
      for (const call of own) if (call.startedAtMs <= atMs && toldUntilMs(call, spells) >= fromMs) doubts.set(call.id, 'lost')
    }
  }
  return doubts
}

/** When the store had been told of a call at the latest: what ended without the store is told after it. */
function toldUntilMs({ sidecar, startedAtMs, endedAtMs }: Call, spells: readonly Spell[]): number {
  const bookedMs = endedAtMs + BOOKED_WITHIN_MS
  const during = spells.filter((spell) => spell.sidecar === sidecar && spell.fromMs <= bookedMs && spell.toMs >= startedAtMs)
  return Math.max(bookedMs, ...during.map(({ toMs }) => toMs + BOOKED_WITHIN_MS))
}

/** One sentence for each thing that must not be; none: all is well. */
export function violationsOf(evidence: Evidence): readonly string[] {
  const { calls, bill, charged } = evidence
  const known = new Map(calls.map((call) => [call.id, call]))
  const strangers = bill.filter(({ tag }) => !known.has(tag)).map(({ tag }) => `${tag} was billed, and nobody made that call`)
  const bought = bill.flatMap((line) => {
    const call = known.get(line.tag)
    return call === undefined ? [] : [{ call, cost: line.nanoUsd }]
  })
  const doubles = [...Map.groupBy(bill, ({ tag }) => tag)].filter(([, lines]) => lines.length > 1).map(([tag]) => `${tag} was billed twice`)
  const conversations = new Set([...calls.map(({ conversation }) => conversation), ...charged.map(({ conversation }) => conversation)])
  const linesOf = Map.groupBy(bought, ({ call }) => call.conversation)
  const chargesOf = Map.groupBy(charged, ({ conversation }) => conversation)
  const callsOf = Map.groupBy(calls, ({ conversation }) => conversation)
  return [
    ...strangers,
    ...doubles,
    ...capViolations(evidence, bought),
    ...[...conversations].flatMap((conversation) =>
      bookViolations({
        conversation,
        evidence,
        calls: callsOf.get(conversation) ?? [],
        lines: linesOf.get(conversation) ?? [],
        charged: chargesOf.get(conversation) ?? [],
      }),
    ),
  ]
}

interface Bought {
  readonly call: Call
  readonly cost: NanoUsd
}

/** Neither the bill nor the ledger is above a cap, but for what is stated. */
function capViolations(evidence: Evidence, bought: readonly Bought[]): string[] {
  const { caps, calls, doubts, charged, spells, allowancePercent, holdMax } = evidence
  // What nobody saw the end of is charged whole, even where it was billed less, or not at all; what broke off, for what it may have come to.
  const isDoubtful = ({ id, ending }: Call): boolean => doubts.has(id) || ending === 'broken'
  const doubtful = calls.filter(isDoubtful).map((call) => ({ call, cost: holdMax }))
  const chargeable = [...bought.filter(({ call }) => !isDoubtful(call)), ...doubtful]
  const userOf = new Map(calls.map(({ conversation, user }) => [conversation, user]))
  const groups = [
    { name: 'conversation', cap: caps.perConversation, of: (conversation: string) => conversation },
    { name: 'user', cap: caps.perUser, of: (conversation: string) => userOf.get(conversation) ?? '' },
    { name: 'workload', cap: caps.workload, of: () => 'workload' },
  ]
  return groups.flatMap(({ name, cap, of }) => {
    const lines = Map.groupBy(bought, ({ call }) => of(call.conversation))
    const whole = Map.groupBy(chargeable, ({ call }) => of(call.conversation))
    const charges = Map.groupBy(charged, ({ conversation }) => of(conversation))
    const allowance = percentOf(cap, allowancePercent)
    const above = (did: string, id: string, amount: NanoUsd, own: readonly Bought[]): readonly string[] => {
      const lost = sum(own.filter(({ call }) => doubts.get(call.id) === 'lost'))
      const alone = spells.reduce((total, spell) => total + aloneIn(spell, own, allowance), 0n)
      const most = cap + lost + alone
      const bound = `${formatUsd(most)} (cap ${formatUsd(cap)}, lost ${formatUsd(lost)}, spent alone ${formatUsd(alone)})`
      return amount > most ? [`${name} ${id} was ${did} ${formatUsd(amount)}, which is above ${bound}`] : []
    }
    return [...new Set([...lines.keys(), ...charges.keys()])].flatMap((id) => [
      ...above('billed', id, sum(lines.get(id) ?? []), lines.get(id) ?? []),
      ...above('charged', id, sum(charges.get(id) ?? []), whole.get(id) ?? []),
    ])
  })
}

/** What a spell explains: what its sidecar's calls of that time cost, as far as the allowance covers it. */
function aloneIn({ sidecar, fromMs, toMs, outages }: Spell, lines: readonly Bought[], allowance: NanoUsd): NanoUsd {
  const cost = sum(lines.filter(({ call }) => call.sidecar === sidecar && call.startedAtMs <= toMs && call.endedAtMs >= fromMs))
  const allowed = allowance * BigInt(outages)
  return cost < allowed ? cost : allowed
}

/** Every line of the bill is charged once, and nothing else is. */
function bookViolations(books: {
  readonly conversation: string
  readonly evidence: Evidence
  readonly calls: readonly Call[]
  readonly lines: readonly Bought[]
  readonly charged: readonly Charged[]
}): string[] {
  const { conversation, calls, lines, charged } = books
  const { doubts, holdMax } = books.evidence
  const told = ({ id, sidecar, startedAtMs, endedAtMs, ending }: Call): string =>
    `${id} (sidecar ${sidecar}, ${clockTime(startedAtMs)} to ${clockTime(endedAtMs)}, ${ending}${doubts.has(id) ? `, ${doubts.get(id)}` : ''})`
  const violations: string[] = []
  const left = charged.map(({ cost }) => cost).toSorted(ascending)
  for (const { operation, cost } of charged)
    if (cost > holdMax || cost < 0n)
      violations.push(`${conversation}: operation ${operation} was charged ${formatUsd(cost)}, which no call holds`)
  const isExact = ({ call }: Bought): boolean => call.ending === 'answered' && !doubts.has(call.id)
  for (const { call, cost } of lines.filter(isExact)) {
    const index = left.indexOf(cost)
    if (index < 0) violations.push(`${told(call)} was billed ${formatUsd(cost)}, and no operation was charged that`)
    else left.splice(index, 1)
  }
  const rest = lines.filter((line) => !isExact(line))
  const mustBeCovered = rest.filter(({ call }) => doubts.get(call.id) !== 'lost')
  // The dearest first, each with the cheapest charge that covers it: if any assignment works, this one does.
  for (const { call, cost } of mustBeCovered.toSorted((a, b) => ascending(b.cost, a.cost))) {
    const index = left.findIndex((entered) => entered >= cost)
    if (index >= 0) left.splice(index, 1)
    else
      violations.push(
        `${told(call)} was billed ${formatUsd(cost)}, and what is left in the ledger does not cover it: ` +
          `of ${charged.length} charges for ${lines.length} lines of the bill, ${left.length === 0 ? 'none' : left.map((entered) => formatUsd(entered)).join(', ')}`,
      )
  }
  // A client that left early may have left before its call reached the provider, which its sidecar cannot know.
  const billed = new Set(lines.map(({ call }) => call.id))
  const unbilled = calls.filter(({ id, ending }) => !billed.has(id) && (doubts.has(id) || ending === 'broken'))
  const mayBeLeft = unbilled.length + rest.length - mustBeCovered.length
  if (left.length > mayBeLeft)
    violations.push(
      `${conversation}: ${left.length} operations were charged that nobody billed (${left.map((cost) => formatUsd(cost)).join(', ')}); ${mayBeLeft} may be`,
    )
  return violations
}

/** UTC, as in the log of faults. */
export function clockTime(atMs: number): string {
  return new Date(atMs).toISOString().slice(11, 23)
}

function sum(items: readonly { readonly cost: NanoUsd }[]): NanoUsd {
  return items.reduce((total, { cost }) => total + cost, 0n)
}

function ascending(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0
}
