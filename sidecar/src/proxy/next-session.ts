/** How a conversation passes from one session to the next: when the next one opens, and what it begins with. */
import { turnStarts } from '../core/message.ts'
import { resetEdits, standingAlone } from '../core/reset.ts'
import { isAskedAgain, isBesideChat, isUserTurn, resetRefusal, sessionEnds } from '../core/sessions.ts'
import type { ResetRefusal, SessionEnd } from '../core/sessions.ts'
import { noticesOf } from './exchange.ts'
import type { Turn } from './exchange.ts'
import { placeTurn } from './locate.ts'
import { keptForMs, recall } from './memory.ts'
import { reportAlerts } from './report.ts'
import { countStart, takeBack } from './resolutions.ts'
import { NONE_FIRED } from '../store/store.ts'

/**
 * The turn in the session that it belongs to: the next one, where the tier's `maxTurns` or `idleAfter` says that the open one is
 * over and another may follow; otherwise that one goes on. `Observe` opens none.
 */
export async function inItsSession(turn: Turn): Promise<Turn> {
  const { gateway, policy, terms, conversation, request, taskBoundary } = turn
  if (!turn.exists || policy.config.mode === 'Observe') return turn
  const why = sessionEnds({
    conversation,
    contract: terms.contract,
    nowMs: gateway.nowMs(),
    atBoundary: isUserTurn(request),
    isBeside: isBesideChat(request, conversation),
    isAgain: () => isAskedAgain(request, conversation),
    taskBoundary,
    isBusy: turn.balances.some(({ kind, state }) => kind === 'conversation' && state.held > 0n),
  })
  return why === null ? turn : ((await openNextSession(turn, why)) ?? turn)
}

/** The turn in the session that it opens, with a budget of its own; null where none may follow: that is counted. */
export async function openNextSession(turn: Turn, why: SessionEnd): Promise<Turn | null> {
  const { gateway, conversation, terms } = turn
  const { contract } = terms
  const refusal = refusalOf(turn, conversation)
  if (refusal !== null) {
    gateway.metrics.resetsSkipped.add([contract.tier, why, refusal])
    gateway.log.debug({ conversation: conversation.id, tier: contract.tier, why, reason: refusal }, 'no new session follows')
    return null
  }
  if (why === 'budget') await fireAlerts(turn)
  const session = conversation.session + 1
  const { recap } = contract.sessions
  const addEdits = resetEdits({
    request: turn.request,
    conversation,
    why,
    recap,
    isSearchable: keptForMs(turn) !== null,
    // Without a history there is no message to put them in.
    passages: recap === 'Summary' && turnStarts(turn.request.messages).length > 1 ? await recall(turn) : null,
    session,
  })
  // What of it stands is the resolution of the session that ends.
  await takeBack(turn, conversation)
  const updated = await gateway.store.update({
    conversation: conversation.id,
    // The first request of a conversation may bring a history that no budget pays for.
    ...(turn.exists || !turn.isNamed ? {} : { initial: conversation }),
    change: {
      openSession: session,
      ladderApplies: await gateway.outcomes.ladderApplies(contract, gateway.nowMs()),
      addEdits,
      addNotices: noticesOf({ ...turn, conversation: { ...conversation, session, notices: [] } }, ['Reset']),
    },
    nowMs: gateway.nowMs(),
  })
  if (updated === null) return null
  gateway.metrics.sessions.add([contract.tier, why])
  gateway.log.info({ conversation: conversation.id, tier: conversation.tier, session, why }, 'conversation reset: a new session begins')
  await countStart(gateway, contract, updated.conversation)
  const request = standingAlone(turn.request) ?? turn.request
  const earlierTokens = request.onlyNamed === true ? turn.earlierTokens : 0
  const placed = await placeTurn({ ...turn, request, earlierTokens, counted: [] }, terms, {
    conversation: updated.conversation,
    accounts: new Map(),
  })
  return placed.status === 'ok' ? placed.turn : null
}

/** A budget that is used up has reached every threshold, also where no end tells of it: those that have not fired do, once over all sidecars. */
async function fireAlerts(turn: Turn): Promise<void> {
  const { gateway, conversation, terms } = turn
  const { alerts } = terms.contract
  if (alerts.every((percent) => conversation.alerts.includes(percent))) return
  const change = { ofSession: conversation.session, addAlerts: alerts }
  reportAlerts(turn, (await gateway.store.update({ conversation: conversation.id, change, nowMs: gateway.nowMs() })) ?? NONE_FIRED)
}

/** Why no session may follow the one that `conversation` is in; null when one may. */
export function refusalOf(turn: Turn, conversation: Turn['conversation']): ResetRefusal | null {
  return resetRefusal({
    conversation,
    contract: turn.terms.contract,
    hasUserBudget: turn.user !== null && turn.draws.some((draw) => draw.kind === 'user'),
    canCut: standingAlone(turn.request) !== null && !turn.gateway.uneditable.has(turn.conversationId),
  })
}
