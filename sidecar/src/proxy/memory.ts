/**
 * What users may search later: each question and its answer, kept after the settlement where the tier says so and the user is
 * known. No turn fails, or waits, for it; no text of it is ever logged.
 */
import type { Contract, SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import type { Message } from '../core/request.ts'
import { begunAnswer, joinedAnswer } from '../core/message.ts'
import type { Said } from '../core/message.ts'
import { answerSaying, passagesText, PASSAGES_MAX, questionText, turnSayings } from '../core/memory.ts'
import type { TurnSayings } from '../core/memory.ts'
import { isUnsaid } from '../core/own-turn.ts'
import type { Plan } from '../core/plan.ts'
import { isTalk, isUserTurn, sentQuestion } from '../core/sessions.ts'
import { StoreError } from '../store/store.ts'
import type { MemoryHit } from '../store/store.ts'
import type { Turn } from './exchange.ts'

/** A reset waits so long for what is remembered; then the recap goes without. */
const RECALL_MS_MAX = 250
/** Hits looked at for those of the conversation at hand: a user may have others. */
const RECALLED_MAX = 40

/**
 * For how long what a turn says is kept, in ms; null: not at all. An owner who keeps less from now on means all that is said from now on, also
 * in conversations on a contract that kept more.
 */
export function keptForMs({ terms, policy }: Pick<Turn, 'terms' | 'policy'>): number | null {
  const { contract } = terms
  const newest = policy.config.contracts[contract.tier] ?? contract
  if (!isSearchable(contract) || !isSearchable(newest)) return null
  return Math.min(contract.sessions.memory.retentionMs, newest.sessions.memory.retentionMs)
}

/** Tiers of the config whose newest terms keep a memory. */
export function searchableTiers({ contracts, tiers }: Pick<SidecarConfig, 'contracts' | 'tiers'>): readonly string[] {
  return tiers.allowed.filter((tier) => contracts[tier] !== undefined && isSearchable(contracts[tier]))
}

function isSearchable({ sessions }: Pick<Contract, 'sessions'>): boolean {
  return sessions.memory.mode === 'Searchable'
}

/**
 * What this turn says, for `remember`; null where nothing of it is kept, nor of what no user said: an app asks for a title in words of its
 * own. Asked for before the call, while the history is at hand.
 */
export function sayingsOf(turn: Turn, plan: Pick<Plan, 'bound' | 'shaped'>): TurnSayings | null {
  const { request, conversation, policy } = turn
  if (turn.user === null || !isTalk(request) || isUnsaid(request, conversation, sentQuestion(plan)) || keptForMs(turn) === null) return null
  return turnSayings(request, conversation, policy.config)
}

/** Keeps the question and the answer, each once however often the turn is tried. Never rejects. */
export async function remember(turn: Turn, { question, answerId }: TurnSayings, answer: Message | null): Promise<void> {
  const { gateway, user, conversation, terms } = turn
  const forMs = keptForMs(turn)
  if (user === null || forMs === null) return
  const answered = answer === null ? null : answerSaying(answerId, withBeginning(turn, answer))
  const sayings = [question, answered].filter((saying) => saying !== null)
  if (sayings.length === 0) return
  const nowMs = gateway.nowMs()
  try {
    await gateway.store.remember({
      user,
      // An answer follows its question, also where both are told by their time.
      entries: sayings.map((saying) => ({
        ...saying,
        conversation: conversation.id,
        session: conversation.session,
        atMs: saying.role === 'user' ? Math.min(turn.startedAtMs, nowMs - 1) : nowMs,
      })),
      expiresAtMs: nowMs + forMs,
      nowMs,
    })
    gateway.metrics.memory.add([terms.contract.tier, 'kept'], sayings.length)
  } catch (error) {
    gateway.metrics.memory.add([terms.contract.tier, 'failed'], sayings.length)
    gateway.log.warn(
      { conversation: conversation.id, tier: terms.contract.tier, reason: reasonOf(error) },
      'what was said could not be remembered',
    )
  }
}

/** What the app has begun of a new answer is part of it. */
function withBeginning({ request }: Pick<Turn, 'request'>, answer: Message): Said {
  const begun = request.beginsAnswer === true ? begunAnswer(request.messages) : null
  return begun === null ? answer : joinedAnswer(begun, answer)
}

/**
 * The passages of earlier sessions of this conversation that match its new question best, as text for a recap. Null where nothing
 * is kept, found, or told in time. Never rejects.
 */
export async function recall(turn: Turn): Promise<string | null> {
  const { gateway, user, request, conversation, policy } = turn
  if (user === null || keptForMs(turn) === null || !isUserTurn(request)) return null
  const query = questionText(request, policy.config)
  if (query.trim() === '') return null
  const found = gateway.store
    .searchMemory({ user, query, limit: RECALLED_MAX, nowMs: gateway.nowMs() })
    .then(({ hits }) => passagesText(hits.filter((hit) => isOf(conversation.id, hit)).slice(0, PASSAGES_MAX)))
    .catch((error: unknown) => {
      gateway.log.warn({ conversation: conversation.id, reason: reasonOf(error) }, 'what was said earlier could not be looked up')
      return null
    })
  return Promise.race([found, afterMs(RECALL_MS_MAX)])
}

/** What was said in other conversations is not this one's. */
function isOf(conversation: string, hit: MemoryHit): boolean {
  return hit.conversation === conversation
}

function afterMs(ms: number): Promise<null> {
  return new Promise((resolve) => setTimeout(resolve, ms, null).unref())
}

/** A store's own words could quote what it was told. */
function reasonOf(error: unknown): string {
  return error instanceof StoreError ? error.code : 'failed'
}
