/**
 * What a call that fits in no way comes to: by its price, by a file, by its tools or by its question it may be in its own way, and is refused
 * alone; else the conversation is at its end. What is tried to tell them apart is tried on other balances, or with less of the request.
 */
import type { Rung } from '@farebox/crds/ladder.ts'
import { tryWith } from './attempt.ts'
import type { At } from './attempt.ts'
import { attachmentOf, questionPart } from './attachment.ts'
import { EMPTY_ACCOUNT } from './budget.ts'
import { replay } from './edit-log.ts'
import { holdsFiles } from './estimate.ts'
import { withoutTools } from './hold.ts'
import { candidates, isBoundary } from './ladder.ts'
import { turnStarts } from './message.ts'
import type { DecideInput, Decision, TooLarge } from './plan.ts'
import type { ModelRequest } from './request.ts'
import { instructionsAlone, lastTurnAlone } from './reset.ts'
import { isUserTurn } from './sessions.ts'
import { tightestOf } from './terms.ts'
import type { Balance, CapKind } from './terms.ts'

/** What was tried in vain. */
interface Tried {
  /** Each set of rungs. */
  readonly ways: readonly (readonly Rung[])[]
  readonly at: At
  /** Where the room was wanting in the end; null where that was not the reason. */
  readonly short: Balance | null
  /** It was too dear by a price, not only by the ceiling of its provider. */
  readonly isPriced: boolean
  /** As `areToolsTooDear` says, where the ladder cannot refuse them. */
  readonly toolsTooDear: boolean
}

export function nothingFits(input: DecideInput, { ways, at, short, isPriced, toolsTooDear }: Tried): Decision {
  const { request, balances } = input
  const attachment = attachmentInTheWay(input, ways, at)
  if (attachment === null && short !== null && !isPriced && !isLedUnpriced(input, ways, at))
    return { status: 'refuse', refusal: { code: 'model_unpriced', param: 'model', message: unpricedMessage(request.model) } }
  const { account, kind } = short ?? tightestOf(balances)
  const end = { status: 'end', percent: at.percent, reason: 'fit', account } as const
  if (attachment !== null) return { ...end, ...attachment }
  if (toolsTooDear && fitsAnyWay(withoutTools(input), ways, at))
    return { ...end, tooLarge: { what: 'tools', param: 'tools' }, fitsAfresh: false }
  const fitsAfresh = fitsAsFirst(input)
  // That says nothing of what else the conversation can afford.
  if (kind !== 'workload' && isTooLong(input, { kind, fitsAfresh }))
    return { ...end, tooLarge: { what: 'message', param: questionPart(request) }, fitsAfresh: false }
  return { ...end, fitsAfresh }
}

/** The attachment but for which the call would fit, under one of these sets of rungs; null where that is not so. */
function attachmentInTheWay(
  input: DecideInput,
  ways: readonly (readonly Rung[])[],
  at: At,
): { readonly tooLarge: TooLarge; readonly fitsAfresh: boolean } | null {
  const { request, balances } = input
  if (!holdsFiles(request.messages, request.model)) return null
  if (!ways.some((rungs) => tryWith(input, rungs, { ...at, withoutFiles: true }).status === 'fits')) return null
  const fresh = balances.map((balance) => (balance.kind === 'conversation' ? { ...balance, state: EMPTY_ACCOUNT } : balance))
  const tooLarge = { what: 'attachment', param: attachmentOf(request) } as const
  return { tooLarge, fitsAfresh: fitsAnyWay({ ...input, balances: fresh }, ways, at) }
}

function fitsAnyWay(input: DecideInput, ways: readonly (readonly Rung[])[], at: At): boolean {
  return ways.some((rungs) => tryWith(input, rungs, at).status === 'fits')
}

/**
 * Whether it is the user's question itself that fits into no budget, where any shorter one would: by itself, or beside what the session begins
 * with. Not so of a tool's result: each later call of the conversation brings that along.
 */
function isTooLong(input: DecideInput, { kind, fitsAfresh }: { readonly kind: CapKind; readonly fitsAfresh: boolean }): boolean {
  const { session, userTurns } = input.conversation
  const spent = input.balances.find((balance) => balance.kind === 'conversation')?.state.spent ?? 0n
  // Opened for this question, and holding no other: it has that and our own message, and another session would be no larger.
  const isUntouched = kind === 'conversation' && input.mayEdit && session > 1 && userTurns === 0 && spent === 0n
  const isJustOpened = isUntouched && turnStarts(replay(input.request, input.conversation.edits).messages).length <= 1
  return (isJustOpened || !fitsAfresh) && fitsAsFirst(input, instructionsAlone(input.request))
}

/**
 * Whether it is tools that the provider runs which fit into no budget, and are in the way now: the last turn of the request would be too dear with
 * them as the first of a session, and would not without. `active`: the rungs in effect, to which the call is taken down further.
 */
export function areToolsTooDear(input: DecideInput, active: readonly Rung[], at: At): boolean {
  if (!input.request.hosted.rereads || active.includes('RefuseTools')) return false
  const steps = input.terms.contract.ladder.filter(({ rung }) => rung !== 'RefuseTools')
  if (fitsAnyWay(input, [...candidates(steps, active, at.atBoundary)], at)) return false
  const first = asFirst(input, input.request)
  const ways = [...candidates(steps, [], at.atBoundary)]
  return !fitsAnyWay(first, ways, atFirst(at)) && fitsAnyWay(withoutTools(first), ways, atFirst(at))
}

/**
 * Whether the last turn of a request would fit as the first of a session, under any rungs, with nothing spent of any budget of its user's.
 * Files, which are refused by themselves, count for nothing.
 */
export function fitsAsFirst(input: DecideInput, request: ModelRequest = input.request): boolean {
  // Only a question opens a session, or is refused by itself; and the last turn of a long loop is a long request.
  if (!isUserTurn(input.request)) return false
  const atBoundary = isBoundary(input.request)
  return fitsAnyWay(asFirst(input, request), [...candidates(input.terms.contract.ladder, [], atBoundary)], atFirst({ atBoundary }))
}

function asFirst(input: DecideInput, request: ModelRequest): DecideInput {
  const caps = input.balances.filter(({ kind }) => kind !== 'workload')
  return {
    ...input,
    request: lastTurnAlone(request),
    balances: caps.map((balance) => ({ ...balance, state: EMPTY_ACCOUNT })),
    // What is only named is read by the provider alone: nobody knows how much of that is of the last turn.
    earlierTokens: request.onlyNamed === true ? input.earlierTokens : 0,
  }
}

function atFirst({ atBoundary }: Pick<At, 'atBoundary'>): At {
  return { atBoundary, percent: 0, percentUser: 0, ready: [], known: [], withoutFiles: true }
}

/**
 * Whether the conversation is led with a model that nobody prices, and this call would fit but for what it has cost: then it ends as any other
 * does. Otherwise the model is a slip, or newer than the prices: that it is too dear at the ceiling says nothing of what others cost.
 */
function isLedUnpriced(input: DecideInput, ways: readonly (readonly Rung[])[], at: At): boolean {
  const { exact, turns } = input.conversation
  // Without an exact count nothing says that another model led it.
  if (turns === 0 || (exact !== null && exact.model !== input.request.model)) return false
  return fitsAnyWay({ ...input, balances: input.balances.map((balance) => ({ ...balance, state: EMPTY_ACCOUNT })) }, ways, at)
}

function unpricedMessage(model: string): string {
  return (
    `Nobody prices the model "${model}", and at the highest price of its provider this call does not fit the budget. ` +
    'Other models go on. It needs an entry in a PriceBook, or another onUnknownModel in the ConversationBudget.'
  )
}
