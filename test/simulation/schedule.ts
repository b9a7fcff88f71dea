/**
 * Random schedules of what happens to budgets: conversations of one user whose turns run in parallel, are retried, crash,
 * are metered late, expire or are renewed, while the wall clock jumps. A schedule asks for batches of actions, which run at
 * the same time, and is told the answers; `Oracle` says what they had to be.
 */
import { DEFAULT_LADDER } from '@farebox/crds/ladder.ts'
import { newConversation } from '@farebox/sidecar/core/conversation-change.ts'
import type { Conversation } from '@farebox/sidecar/core/conversation.ts'
import { risenRungs } from '@farebox/sidecar/core/ladder.ts'
import type { LedgerEntry } from '@farebox/sidecar/core/ledger.ts'
import type { Totals } from '@farebox/sidecar/core/totals.ts'
import type { BudgetStore, ReserveAnswer, SettleAnswer, Snapshot, UpdateAnswer } from '@farebox/sidecar/store/store.ts'
import { randomOf } from '../provider/random.ts'
import type { Random } from '../provider/random.ts'
import { ALERT_PERCENTS, CAPS, CONVERSATIONS, Oracle, sessionAccount, USER_ACCOUNT, WORKLOAD_ACCOUNT } from './oracle.ts'

export const START_MS = Date.UTC(2026, 10, 24, 12)
const HOLD_LIFE_MS = 90_000
const ROUNDS_MAX = 9
const BATCH_MAX = 4

type Step<Method extends keyof BudgetStore> = Parameters<BudgetStore[Method]>[0]

export type Action =
  | { readonly kind: 'reserve'; readonly step: Step<'reserve'> }
  | { readonly kind: 'settle'; readonly step: Step<'settle'> }
  | { readonly kind: 'void'; readonly step: Step<'void'> }
  | { readonly kind: 'renew'; readonly ids: readonly string[]; readonly expiresAtMs: number }
  | { readonly kind: 'charge'; readonly step: Step<'charge'> }
  | { readonly kind: 'update'; readonly step: Step<'update'> }
  | { readonly kind: 'sweep'; readonly step: Step<'sweep'> }
  | { readonly kind: 'read'; readonly query: Step<'read'> }
  | { readonly kind: 'ledger' }
  | { readonly kind: 'totals'; readonly query: Step<'readTotals'> }
  | { readonly kind: 'clock'; readonly byMs: number }
  | { readonly kind: 'crash' }

export type Answer =
  | { readonly kind: 'reserve'; readonly answer: ReserveAnswer }
  | { readonly kind: 'settle'; readonly answer: SettleAnswer }
  | { readonly kind: 'void'; readonly status: 'voided' | 'exists' | 'unknown' }
  | { readonly kind: 'charge'; readonly status: 'charged' | 'exists' }
  | { readonly kind: 'update'; readonly answer: UpdateAnswer | null }
  | { readonly kind: 'sweep'; readonly expired: readonly string[] }
  | { readonly kind: 'read'; readonly snapshot: Snapshot }
  | { readonly kind: 'ledger'; readonly entries: readonly LedgerEntry[] }
  | { readonly kind: 'totals'; readonly totals: Totals }
  /** `charged`: the store died with it, and charged every hold when it came back. */
  | { readonly kind: 'crash'; readonly charged: boolean }
  | { readonly kind: 'done' }

/** The same seed asks for the same, as long as it is answered the same. Throws `SimulationError` for an answer that must not be. */
export function* schedule(seed: number): Generator<readonly Action[], void, readonly Answer[]> {
  const people = new People(randomOf(seed))
  const { oracle } = people
  const ask = function* (actions: readonly Action[]): Generator<readonly Action[], void, readonly Answer[]> {
    const answers = yield actions
    actions.forEach((action, index) => oracle.judge(action, answers[index] ?? { kind: 'done' }))
  }
  const rounds = 2 + people.random.below(ROUNDS_MAX)
  for (let round = 0; round < rounds; round++) {
    yield* ask(people.batch())
    yield* ask(people.interlude())
    yield* ask(people.look())
  }
  yield* ask([{ kind: 'ledger' }, { kind: 'totals', query: { tier: 'pro', fromDay: '2026-11-23', toDay: '2026-11-25' } }])
}

/** Who asks: the turns of an app, and the sidecars that serve them. They know what they read last, which may be old. */
class People {
  readonly random: Random
  readonly oracle = new Oracle(START_MS)
  #nextId = 1

  constructor(random: Random) {
    this.random = random
  }

  batch(): Action[] {
    const actions: Action[] = []
    for (let size = 1 + this.random.below(BATCH_MAX); size > 0; size--) {
      const action = this.#action()
      actions.push(action)
      // A retry: the same step, under the same id.
      if (this.#percent(10)) actions.push(action)
    }
    return actions
  }

  /** What happens between the calls. */
  interlude(): Action[] {
    const luck = this.random.below(100)
    if (luck < 50) return [{ kind: 'clock', byMs: this.random.below(40_000) }]
    if (luck < 60) return [{ kind: 'clock', byMs: 60_000 + this.random.below(200_000) }]
    if (luck < 70) return [{ kind: 'clock', byMs: -this.random.below(3_600_000) }]
    return luck < 78 ? [{ kind: 'crash' }] : []
  }

  look(): Action[] {
    const { oracle } = this
    return CONVERSATIONS.map((conversation) => {
      const accounts = [sessionAccount(conversation, oracle.sessionOf(conversation)), USER_ACCOUNT, WORKLOAD_ACCOUNT]
      return { kind: 'read', query: { conversation, accounts, nowMs: oracle.wallMs } }
    })
  }

  #action(): Action {
    const luck = this.random.below(100)
    if (luck < 45) return this.#turn()
    if (luck < 75) return this.#end(this.#pick(this.oracle.open()))
    if (luck < 80) return this.#end(this.#pick(this.oracle.known()))
    if (luck < 86) return this.#cost()
    if (luck < 91) {
      const ids = this.oracle.open().filter(() => this.#percent(50))
      return { kind: 'renew', ids: [...ids, 'unheard-of'], expiresAtMs: this.oracle.wallMs + HOLD_LIFE_MS }
    }
    return { kind: 'sweep', step: { nowMs: this.oracle.wallMs, limit: this.#percent(30) ? 1 : 100 } }
  }

  #turn(): Action {
    const { random, oracle } = this
    const conversation = this.#pick(CONVERSATIONS) ?? 'A'
    const seen = oracle.lastRead(conversation)
    if (seen !== null && seen.percent >= 90 && this.#percent(30))
      return { kind: 'update', step: { conversation, change: { openSession: seen.conversation.session + 1 }, nowMs: oracle.wallMs } }
    const known = seen?.conversation ?? begun(conversation)
    const input = BigInt(1 + random.below(90))
    const atLeast = input + BigInt(random.below(90))
    const rungs = risenRungs({
      steps: DEFAULT_LADDER,
      percent: seen?.percent ?? 0,
      active: known.rungs,
      atBoundary: this.#percent(60),
      ladderApplies: true,
    })
    return {
      kind: 'reserve',
      step: {
        conversation,
        initial: known,
        seen: seen === null ? null : { contractHash: known.contractHash, user: known.user, session: known.session },
        change: rungs.length === 0 ? {} : { addRungs: { rungs, reason: 'threshold' } },
        reservation: {
          operationId: `o${this.#nextId++}`,
          draws: drawsOf(conversation, known.session),
          input,
          atLeast,
          atMost: atLeast + BigInt(random.below(400)),
          expiresAtMs: oracle.wallMs + HOLD_LIFE_MS,
          note: { conversation, session: known.session, tier: 'pro' },
        },
        nowMs: oracle.wallMs,
      },
    }
  }

  /** The call ends: mostly within its hold, sometimes above, sometimes without a bill. */
  #end(known: string | undefined): Action {
    const { random, oracle } = this
    if (known === undefined && this.#percent(90)) return this.#turn()
    const operationId = known ?? 'unheard-of'
    const atMs = oracle.wallMs
    if (this.#percent(15)) return { kind: 'void', step: { operationId, atMs } }
    const operation = oracle.operation(operationId)
    const hold = operation?.hold ?? 10n
    const cost = this.#percent(8) ? hold + BigInt(random.below(150)) : BigInt(random.below(Number(hold) + 1))
    const conversation = operation?.conversation ?? 'A'
    return {
      kind: 'settle',
      step: {
        settlement: { operationId, cost, atMs, note: { conversation, tier: 'pro' } },
        conversation,
        change: { turnAtMs: atMs, ofSession: operation?.session ?? 1 },
        chain: [],
        alerts: { draws: drawsOf(conversation, operation?.session ?? 1), percents: ALERT_PERCENTS },
      },
    }
  }

  #cost(): Action {
    const conversation = this.#pick(CONVERSATIONS) ?? 'A'
    const accounts = drawsOf(conversation, this.oracle.lastRead(conversation)?.conversation.session ?? 1).map(({ account }) => account)
    return {
      kind: 'charge',
      step: {
        operationId: `o${this.#nextId++}`,
        accounts,
        cost: BigInt(this.random.below(80)),
        atMs: this.oracle.wallMs,
        note: { conversation, tier: 'pro', label: 'search' },
        conversation,
        change: {},
      },
    }
  }

  #percent(likely: number): boolean {
    return this.random.below(100) < likely
  }

  #pick<Item>(items: readonly Item[]): Item | undefined {
    return items[this.random.below(items.length)]
  }
}

function begun(id: string): Conversation {
  return newConversation({ id, tier: 'pro', contractHash: 'k1', user: 'ann', nowMs: START_MS, ladderApplies: true })
}

function drawsOf(conversation: string, session: number): { readonly account: string; readonly cap: bigint | null }[] {
  return [sessionAccount(conversation, session), USER_ACCOUNT, WORKLOAD_ACCOUNT].map((account) => ({ account, cap: CAPS.of(account) }))
}
