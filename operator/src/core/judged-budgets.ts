/** What becomes of budgets beside each other: of those that select the same pods the oldest governs, with the limits of the others. Pure. */
import type { ConversationBudget } from '@farebox/crds/conversation-budget.ts'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { parseUsd } from '@farebox/crds/usd.ts'
import { canonicalJson } from './canonical.ts'
import type { CompileContext } from './compile.ts'
import { compileBudget, refusalOfBudget } from './compile-budget.ts'
import type { Parts } from './compile-budget.ts'
import { acceptedFinding, refusedFinding, withDoubt } from './conditions.ts'
import type { Fault, Finding } from './conditions.ts'
import { invalidFault } from './not-understood.ts'
import type { NotUnderstood } from './not-understood.ts'
import { budgetKey, sameSelector, sharingOf, whyFirst } from './same-pods.ts'
import type { Sharing } from './same-pods.ts'
import { WAITS } from './waiting.ts'

export type Judged =
  | { readonly status: 'compiled'; readonly config: SidecarConfig; readonly findings: readonly Finding[] }
  /** Refused, so that what was in force stays; or governed by an older budget of the same pods, and without a config. */
  | { readonly status: 'refused' | 'governed'; readonly findings: readonly Finding[] }

/** In groups of the same pods, by age. */
export function judgeBudgets(
  budgets: readonly ConversationBudget[],
  parts: Parts & {
    /** By key, budgets that are refused unseen. */
    readonly notUnderstood: readonly NotUnderstood[]
  },
  context: CompileContext,
): ReadonlyMap<ConversationBudget, Judged> {
  const invalid = new Map(parts.notUnderstood.map(({ name, problems }) => [name, invalidFault(problems)]))
  const refusals = new Map(
    budgets.flatMap((budget) => {
      const refusal = invalid.get(budgetKey(budget)) ?? refusalOfBudget(budget, parts, context.nowMs)
      return refusal === null ? [] : [[budget, refusal] as const]
    }),
  )
  const bench: Bench = { refusals, sharing: sharingOf(budgets, context.chosen), parts, context }
  return new Map(
    sameSelector(budgets, context.chosen).flatMap(([oldest, ...later]) => [
      [oldest, judgeGoverning(oldest, bench)] as const,
      ...later.map((budget) => [budget, judgeGoverned(budget, oldest, bench)] as const),
    ]),
  )
}

/** What each budget is judged by. */
interface Bench {
  /** Why budgets cannot be in force. */
  readonly refusals: ReadonlyMap<ConversationBudget, Fault>
  readonly sharing: Sharing
  readonly parts: Parts
  readonly context: CompileContext
}

/** Of the oldest of those that select the same pods. */
function judgeGoverning(budget: ConversationBudget, { refusals, sharing, parts, context }: Bench): Judged {
  const refusal = refusals.get(budget)
  if (refusal !== undefined) return { status: 'refused', findings: refusedBy(refusal, keptOf(budgetKey(budget), context)) }
  const adding = (sharing.adding.get(budget) ?? []).filter((later) => !refusals.has(later))
  const laterLimits = adding.flatMap(({ spec }) => spec.limits)
  const { config, accepted } = compileBudget(budget, laterLimits, parts, context)
  const older = sharing.older.get(budget)
  const isAdded = older !== undefined && sharing.adding.get(older)?.includes(budget) === true && !refusals.has(older)
  const programmed: Finding = { type: 'Programmed', status: 'True', reason: 'Programmed', message: `config ${config.hash} is written` }
  return {
    status: 'compiled',
    config,
    findings: [accepted, withDoubt(programmed, older === undefined ? null : overlap(budget, older, { isAdded, chosen: context.chosen }))],
  }
}

/** Of a later one than `governing`, which selects the same pods. */
function judgeGoverned(budget: ConversationBudget, governing: ConversationBudget, { refusals, context }: Bench): Judged {
  const refusal = refusals.get(budget)
  const isInForce = !refusals.has(governing)
  if (refusal === undefined)
    return { status: 'governed', findings: governedBy(governing, { isInForce, first: whyFirst(governing, budget, context.chosen) }) }
  const isKept = !isInForce && holds(context.previous.get(budgetKey(governing))?.limits ?? [], budget.spec.limits)
  return {
    status: 'governed',
    findings: refusedBy(refusal, isKept ? 'its limits stay as they were last' : 'its limits are not in force'),
  }
}

/** Whether none of `limits` lets more through than one of the same period that is in force. */
export function holds(inForce: SidecarConfig['limits'], limits: SidecarConfig['limits']): boolean {
  return limits.every(({ amount, period }) =>
    inForce.some((limit) => canonicalJson(limit.period) === canonicalJson(period) && parseUsd(limit.amount) <= parseUsd(amount)),
  )
}

/** That `older` selects some of the same pods, and what holds there. `isAdded`: the limits of `budget`. */
function overlap(
  budget: ConversationBudget,
  older: ConversationBudget,
  { isAdded, chosen }: { readonly isAdded: boolean; readonly chosen: string | undefined },
): Fault {
  const limits = isAdded ? ', with the limits of this one added' : ', without the limits of this one'
  const message = `ConversationBudget "${older.metadata.name}" ${whyFirst(older, budget, chosen)} and selects some of the same pods, which it governs${budget.spec.limits.length === 0 ? '' : limits}`
  return { reason: 'SelectorsOverlap', message, field: 'spec.selector' }
}

/** `first`: what `governing` has before the other. */
function governedBy(
  governing: ConversationBudget,
  { isInForce, first }: { readonly isInForce: boolean; readonly first: string },
): readonly Finding[] {
  const limits = isInForce ? ': of this one only the limits are in force' : ', but is not accepted: the limits of this one wait for it'
  const message = `ConversationBudget "${governing.metadata.name}" ${first} and selects the same pods${limits}`
  return [
    acceptedFinding('its limits are added', null),
    { type: 'Programmed', status: 'False', reason: 'PartiallyProgrammed', message, field: 'spec.selector' },
  ]
}

/** `message`: what is in force all the same. */
function refusedBy(refusal: Fault, message: string): readonly Finding[] {
  return [refusedFinding(refusal), { type: 'Programmed', status: 'False', reason: 'NotAccepted', message }]
}

const KEEPS_LAST = 'the last good config stays in force'
const KEEPS_UNREAD = 'the last config stays in force, which another version wrote: new pods wait where their sidecar cannot read it'
const NOT_IN_FORCE = `it is not in force, and ${WAITS}`

/** What is in force of a budget that is refused. */
function keptOf(key: string, { previous, unread }: CompileContext): string {
  if (previous.has(key)) return KEEPS_LAST
  return unread?.has(key) === true ? KEEPS_UNREAD : NOT_IN_FORCE
}
