/**
 * Apps and their users, while things go wrong: conversations that go from sidecar to sidecar, one call after another or several
 * at once, plain and streamed, short and long, left early now and then, on a provider that fails now and then. A conversation
 * that is refused is followed by a new one, and a user whose budget is used up by a new user.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import { parseUsd } from '@farebox/crds/usd.ts'
import type { Random } from '../provider/random.ts'
import { randomOf } from '../provider/random.ts'
import { MODEL, OUTPUT_MAX } from '../support/burst.ts'
import type { Call } from './oracle.ts'

/** Five whole holds of `OUTPUT_MAX` tokens, and some twenty answers as they are. */
export const PER_CONVERSATION = '0.05'
/** Two to three conversations. */
export const PER_USER = '0.12'
/** The output that every call asks for, and far more than its input. */
export const HOLD_MAX = parseUsd('0.011')

/** Conversations at the same time, and users that share them. */
const TALKS = 24
const USERS = 8
const BURST_MAX = 4
const OUTPUT_TOKENS = { min: 20, spread: 400 }
/** Shares no factor with the spread: the calls of a conversation differ in what they cost, so that none passes for another. */
const OUTPUT_STEP = 149
/** Longer than any call that the provider was told to take. */
const PATIENCE_MS = 45_000
/** An app that finds nobody, or nobody who may serve it, tries again soon. */
const TRY_AGAIN_MS = 400

export interface TrafficOptions {
  readonly seed: number
  readonly sidecars: readonly { readonly url: string }[]
  /** What the provider has billed by now. */
  readonly billed: () => NanoUsd
  /** What it may have billed by now: a workload's limit is to be reached at the end, not at the beginning. */
  readonly mayBeBilled: () => NanoUsd
}

/** `answered`, or the code of the refusal, or what else it came to; and how often. */
export type Outcomes = ReadonlyMap<string, number>

export class Traffic {
  readonly calls: Call[] = []
  readonly #options: TrafficOptions
  readonly #outcomes = new Map<string, number>()
  readonly #talks: Promise<void>[]
  #isOver = false

  constructor(options: TrafficOptions) {
    this.#options = options
    const users = Array.from({ length: USERS }, (_, user) => ({ name: `user-${user}`, successors: 0 }))
    this.#talks = Array.from({ length: TALKS }, (_, talk) => {
      const user = users[talk % USERS]
      if (user === undefined) throw new RangeError('a talk needs a user')
      return this.#talk(`talk-${talk}`, user, randomOf(options.seed + talk))
    })
  }

  get outcomes(): Outcomes {
    return this.#outcomes
  }

  /** Nobody begins anything; resolves when all that was begun has ended. */
  async stop(): Promise<void> {
    this.#isOver = true
    await Promise.all(this.#talks)
  }

  async #talk(name: string, user: { readonly name: string; successors: number }, random: Random): Promise<void> {
    for (let count = 0; !this.#isOver; count++) {
      const successor = user.successors
      const conversation = { id: `${name}-${count}`, user: `${user.name}-${successor}`, calls: 0 }
      const wasAnswered = await this.#untilRefused(conversation, random)
      // Not a single answer: it is the user's budget that is used up, or the workload's.
      if (!wasAnswered && user.successors === successor) user.successors += 1
    }
  }

  /** Whether any call was answered. */
  async #untilRefused(conversation: { readonly id: string; readonly user: string; calls: number }, random: Random): Promise<boolean> {
    const { billed, mayBeBilled } = this.#options
    let wasAnswered = false
    while (!this.#isOver) {
      await sleep(20 + random.below(500))
      if (billed() > mayBeBilled()) continue
      const size = random.below(3) === 0 ? 1 + random.below(BURST_MAX) : 1
      const outcomes = await Promise.all(Array.from({ length: size }, () => this.#call(conversation, random)))
      wasAnswered ||= outcomes.includes('answered')
      if (outcomes.every((outcome) => outcome === 'conversation_budget_exhausted')) break
      if (outcomes.includes('unreached') || outcomes.includes('budget_store_unavailable')) await sleep(TRY_AGAIN_MS)
    }
    return wasAnswered
  }

  async #call(conversation: { readonly id: string; readonly user: string; calls: number }, random: Random): Promise<string> {
    const number = conversation.calls++
    const id = `${conversation.id}/${number}`
    const sidecar = random.below(this.#options.sidecars.length)
    const stream = random.below(10) < 4
    const headers = {
      'content-type': 'application/json',
      authorization: 'Bearer test',
      'x-farebox-conversation': conversation.id,
      'x-farebox-user': conversation.user,
      'x-fake-tag': id,
      'x-fake-output-tokens': String(OUTPUT_TOKENS.min + ((number * OUTPUT_STEP) % OUTPUT_TOKENS.spread)),
      ...providerMood(random),
    }
    const body = JSON.stringify({
      model: MODEL,
      stream,
      max_tokens: OUTPUT_MAX,
      messages: [{ role: 'user', content: `Question ${number}.` }],
    })
    const leavesAfterMs = random.below(100) < 8 ? 10 + random.below(600) : PATIENCE_MS
    const url = `${this.#options.sidecars[sidecar]?.url}/openai/v1/chat/completions`
    const startedAtMs = Date.now()
    const outcome = await asked(url, { method: 'POST', headers, body, signal: AbortSignal.timeout(leavesAfterMs) })
    const ending =
      outcome === 'answered' ? outcome : outcome === 'unreached' || outcome === 'broken' || outcome === 'left' ? 'broken' : 'refused'
    this.calls.push({ id, conversation: conversation.id, user: conversation.user, sidecar, startedAtMs, endedAtMs: Date.now(), ending })
    this.#outcomes.set(outcome, (this.#outcomes.get(outcome) ?? 0) + 1)
    return outcome
  }
}

/** What the provider does to a call beside answering it. */
function providerMood(random: Random): Record<string, string> {
  // No faster than a sidecar reckons for output that it did not see: 1,000 tokens a second.
  const pace = { 'x-fake-token-delay-ms': String(1 + random.below(2)) }
  const luck = random.below(100)
  if (luck < 3) return { 'x-fake-status': random.below(2) === 0 ? '500' : '429' }
  if (luck < 4) return { 'x-fake-cut-after-tokens': 'headers', 'x-fake-delay-ms': String(random.below(200)) }
  if (luck < 6) return { ...pace, 'x-fake-cut-after-tokens': String(1 + random.below(15)) }
  // Across a fault and what comes after it.
  if (luck < 10) return { ...pace, 'x-fake-delay-ms': String(3_000 + random.below(9_000)) }
  return { ...pace, 'x-fake-delay-ms': String(random.below(200)) }
}

/** `answered`, the code of a refusal, `left` by ourselves, `unreached` when nobody listened, `broken` otherwise. */
async function asked(url: string, request: RequestInit): Promise<string> {
  let answer: Response | null = null
  try {
    answer = await fetch(url, request)
    const text = await answer.text()
    if (!answer.ok) return codeOf(answer.status, text)
    return isWhole(text) ? 'answered' : 'broken'
  } catch {
    if (request.signal?.aborted === true) return 'left'
    return answer === null ? 'unreached' : 'broken'
  }
}

function codeOf(status: number, text: string): string {
  try {
    return (JSON.parse(text) as { error: { code: string | null } }).error.code ?? String(status)
  } catch {
    return String(status)
  }
}

function isWhole(text: string): boolean {
  if (text.startsWith('data:')) return text.trimEnd().endsWith('data: [DONE]')
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}
