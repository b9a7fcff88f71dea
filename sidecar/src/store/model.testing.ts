/**
 * For tests: what every engine must do, over plain values in memory: `core/books.testing.ts` and `core/conversation-change.ts` with
 * nothing between. Engines are compared with it, and schedules by the hundred thousand run on it; it takes the methods and the
 * arguments of `BudgetStore`, answers at once and keeps everything.
 */
import type { NanoUsd } from '@farebox/crds/usd.ts'
import * as budget from '../core/books.testing.ts'
import type { Books, VoidStatus } from '../core/books.testing.ts'
import { EMPTY_ACCOUNT } from '../core/budget.ts'
import type { Account, AccountId, Operation, OperationId, SettleResult } from '../core/budget.ts'
import { applyChange, awaitsResolution } from '../core/conversation-change.ts'
import type { Conversation, ConversationChange, ConversationId, Digest, UserId } from '../core/conversation.ts'
import { isLoneCall } from '../core/lone-call.ts'
import { watchedDraws, withReached } from '../core/reached-percents.ts'
import { bucketOf } from '../core/cost-buckets.ts'
import { OUTCOME_NAMES, outcomeEntry, outcomeNames } from '../core/outcomes.ts'
import type { OutcomeCounts, OutcomeName } from '../core/outcomes.ts'
import { countsAfter, isSessionAccount, isSoldSession, rungsBrought, totalsOf } from '../core/totals.ts'
import type { NamedSum, Totals } from '../core/totals.ts'
import { UserSums } from '../core/totals-by-user.ts'
import type { UserTotals } from '../core/totals-by-user.ts'
import { dayNamed, dayNumber } from '../core/utc-day.ts'
import { keptText, newerFirst, newestPage, placeOf, queryTerms, rankedPage, Ranking } from './memory-search.ts'
import { StoreClock } from './store-clock.ts'
import { withoutEdits, withoutTexts } from './texts.ts'
import { CONVERSATION_LIFE_MS, MEMORY_ENTRIES_MAX, NONE_FIRED, oldestDay } from './store.ts'
import type {
  BudgetStore,
  DaysQuery,
  Forgotten,
  ListedConversation,
  MemoryEntry,
  MemoryPage,
  OutcomeTotals,
  ReserveAnswer,
  ReserveStep,
  SettleAnswer,
  SettleStep,
  Snapshot,
  UpdateAnswer,
} from './store.ts'

/** The steps of a budget. Tests of the tests put a wrong one in place. */
export type BudgetRules = Pick<typeof budget, 'reserve' | 'renew' | 'settle' | 'voidHold' | 'expire' | 'charge'>

/** What happened to a tier on a day: a turn, of a user, or a rung that rose. */
interface TierEvent {
  readonly tier: string
  readonly day: number
  readonly name: string
  readonly user: string | null
}
/** A session of a conversation that was drawn on, and what it has spent. */
interface Session {
  readonly tier: string
  readonly day: number
  spent: NanoUsd
}

type Remembered = MemoryEntry & { readonly expiresAtMs: number }

type Step<Method extends keyof BudgetStore> = Parameters<BudgetStore[Method]>[0]

export class ModelStore {
  readonly #rules: BudgetRules
  readonly #clock: StoreClock
  readonly #conversations = new Map<ConversationId, { readonly conversation: Conversation; readonly touched: number }>()
  readonly #chain = new Map<Digest, { readonly conversation: ConversationId; readonly touched: number }>()
  readonly #accountsTouched = new Map<AccountId, number>()
  readonly #outcomes = new Map<string, Step<'addOutcome'>>()
  readonly #events: TierEvent[] = []
  readonly #sessions: Session[] = []
  readonly #openSessions = new Map<AccountId, Session>()
  readonly #memory = new Map<UserId, readonly Remembered[]>()
  #books: Books = budget.EMPTY_BOOKS

  constructor(nowMs: () => number, rules: BudgetRules = budget) {
    this.#clock = new StoreClock(nowMs, 0)
    this.#rules = rules
  }

  get books(): Books {
    return this.#books
  }

  read({ conversation, accounts }: Step<'read'>): Snapshot {
    this.#forgetOutlived()
    return { conversation: this.#conversation(conversation), accounts: this.#balances(accounts) }
  }

  findByChain(digests: readonly Digest[]): ConversationId | null {
    this.#forgetOutlived()
    return digests.map((digest) => this.#chain.get(digest)?.conversation).find((id) => id !== undefined) ?? null
  }

  reserve(step: ReserveStep): ReserveAnswer {
    const now = this.#forgetOutlived()
    const { reservation } = step
    const found = this.#conversation(step.conversation)
    const snapshotOf = (conversation: Conversation | null): Snapshot => ({
      conversation,
      accounts: this.#balances(reservation.draws.map(({ account }) => account)),
    })
    const expected = step.seen ?? step.initial
    const isKnown = this.#books.operations.has(reservation.operationId)
    if (
      !isKnown &&
      found !== null &&
      (found.contractHash !== expected.contractHash || found.user !== expected.user || found.session !== expected.session)
    )
      return { status: 'moved', snapshot: snapshotOf(found) }
    const { books, result } = this.#rules.reserve(this.#books, { ...reservation, expiresAtMs: this.#clock.at(reservation.expiresAtMs) })
    this.#books = books
    if (result.status !== 'held') return { ...result, snapshot: snapshotOf(found) }
    for (const { account } of reservation.draws) this.#accountsTouched.set(account, now)
    this.#countSessions([reservation.operationId])
    const { conversation } = this.#change(step.conversation, found ?? step.initial, step.change, now)
    return { ...result, snapshot: snapshotOf(conversation) }
  }

  renew(operationIds: readonly string[], expiresAtMs: number): void {
    this.#books = this.#rules.renew(this.#books, operationIds, this.#clock.at(expiresAtMs))
  }

  settle(step: SettleStep): SettleAnswer {
    const now = this.#forgetOutlived()
    const { books, result } = this.#rules.settle(this.#books, step.settlement)
    this.#books = books
    const drawn = watchedDraws(step.alerts).map(({ account }) => account)
    const found = this.#conversation(step.conversation)
    if (!isEntered(result)) {
      const isRepeat = books.operations.get(step.settlement.operationId)?.state.status === 'settled'
      if (isRepeat && found !== null)
        for (const digest of step.chain)
          if (!this.#chain.has(digest)) this.#chain.set(digest, { conversation: step.conversation, touched: now })
      return { result, ...NONE_FIRED, snapshot: { conversation: found, accounts: this.#balances(drawn) } }
    }
    const own = books.operations.get(step.settlement.operationId)?.accounts ?? []
    for (const account of own) this.#accountsTouched.set(account, now)
    this.#countSessions([step.settlement.operationId])
    const accounts = this.#balances([...new Set([...own, ...drawn])])
    if (found === null) return { result, ...NONE_FIRED, snapshot: { conversation: null, accounts } }
    for (const digest of step.chain) this.#chain.set(digest, { conversation: step.conversation, touched: now })
    const { conversation, ...fired } = this.#change(step.conversation, found, withReached(step.change, step.alerts, accounts), now)
    return { result, ...fired, snapshot: { conversation, accounts } }
  }

  void(step: Step<'void'>): VoidStatus {
    const { books, status } = this.#rules.voidHold(this.#books, step)
    this.#books = books
    if (status === 'voided') this.#countSessions([step.operationId])
    return status
  }

  update({ conversation: id, initial, change }: Step<'update'>): UpdateAnswer | null {
    const now = this.#forgetOutlived()
    const found = this.#conversation(id)
    const before = found ?? initial
    if (before === undefined) return null
    const touched = found === null || change.turnAtMs !== undefined ? now : (this.#conversations.get(id)?.touched ?? now)
    return this.#change(id, before, change, touched)
  }

  charge(step: Step<'charge'>): 'charged' | 'exists' {
    const now = this.#forgetOutlived()
    const { books, status } = this.#rules.charge(this.#books, step)
    this.#books = books
    if (status === 'exists') return status
    for (const account of step.accounts) this.#accountsTouched.set(account, now)
    this.#countSessions([step.operationId])
    const found = this.#conversation(step.conversation)
    if (found !== null) this.#change(step.conversation, found, step.change, now)
    return status
  }

  sweep({ nowMs, limit }: Step<'sweep'>): { readonly expired: readonly Operation[] } {
    const { books, expired } = this.#rules.expire(this.#books, this.#clock.at(nowMs), limit)
    this.#books = books
    this.#countSessions(expired.map(({ id }) => id))
    return { expired }
  }

  addOutcome(outcome: Step<'addOutcome'>): 'added' | 'exists' {
    if (this.#outcomes.has(outcome.key)) return 'exists'
    this.#outcomes.set(outcome.key, outcome)
    this.#books = { ...this.#books, ledger: [...this.#books.ledger, outcomeEntry(outcome)] }
    return 'added'
  }

  readOutcomes(query: DaysQuery): OutcomeTotals {
    const isAsked = this.#askedBy(query)
    const names = [...this.#outcomes.values()].flatMap((outcome) =>
      isAsked(outcome.tier, dayNumber(outcome.atMs)) ? outcomeNames(outcome) : [],
    )
    const countOf = (name: OutcomeName): number => names.filter((known) => known === name).length
    const counts = Object.fromEntries(OUTCOME_NAMES.map((name) => [name, countOf(name)])) as OutcomeCounts
    return { ...counts, cost: this.readTotals(query).spent }
  }

  readUsers(query: Step<'readUsers'>): UserTotals {
    const isAsked = this.#askedBy(query)
    const sums = new UserSums()
    for (const { kind, note, atMs, cost } of this.#books.ledger)
      if (kind !== 'outcome' && note.user !== undefined && isAsked(note.tier, dayNumber(atMs))) sums.add(note.user, cost)
    return sums.totals(query)
  }

  readTotals(query: DaysQuery): Totals {
    const isAsked = this.#askedBy(query)
    const events = this.#events.filter(({ tier, day }) => isAsked(tier, day))
    const sums: NamedSum[] = events.map(({ name }) => [name, 1n])
    for (const { note, atMs, cost } of this.#books.ledger) if (isAsked(note.tier, dayNumber(atMs))) sums.push(['spent', cost])
    for (const { tier, day, spent } of this.#sessions) if (isAsked(tier, day)) sums.push([String(bucketOf(spent)), 1n])
    return totalsOf(sums, new Set(events.flatMap(({ user }) => user ?? [])).size)
  }

  /** Those that every engine must list: of sessions such as have a conversation, by which an engine may find them. */
  listAccounts(): readonly AccountId[] {
    this.#forgetOutlived()
    const hasConversation = (session: AccountId): boolean => this.#conversations.has(session.slice('c:'.length, session.lastIndexOf(':')))
    return [...this.#books.accounts.keys()].filter((account) => !isSessionAccount(account) || hasConversation(account))
  }

  listConversations({ limit, areLone }: Step<'listConversations'>): readonly ListedConversation[] {
    this.#forgetOutlived()
    return [...this.#conversations.values()]
      .map(({ conversation }) => conversation)
      .filter(({ id }) => isLoneCall(id) === (areLone ?? false))
      .toSorted((a, b) => b.lastTurnAtMs - a.lastTurnAtMs || (a.id < b.id ? -1 : 1))
      .slice(0, limit)
      .map(withoutEdits)
  }

  listQuiet({ tiers, quietSinceMs, limit }: Step<'listQuiet'>): readonly ListedConversation[] {
    this.#forgetOutlived()
    return [...this.#conversations.values()]
      .map(({ conversation }) => conversation)
      .filter((one) => tiers.includes(one.tier) && one.lastTurnAtMs < quietSinceMs && awaitsResolution(one))
      .toSorted((a, b) => a.lastTurnAtMs - b.lastTurnAtMs || (a.id < b.id ? -1 : 1))
      .slice(0, limit)
      .map(withoutEdits)
  }

  remember({ user, entries, expiresAtMs }: Step<'remember'>): void {
    const now = this.#forgetOutlived()
    const expires = this.#clock.at(expiresAtMs)
    for (const entry of entries) {
      const known = this.#memory.get(user) ?? []
      if (expires <= now || known.some(({ id }) => id === entry.id)) continue
      const more = [...known, { ...entry, text: keptText(entry.text), expiresAtMs: expires }]
      this.#memory.set(user, more.toSorted(newerFirst).slice(0, MEMORY_ENTRIES_MAX))
    }
  }

  searchMemory(query: Step<'searchMemory'>): MemoryPage {
    this.#forgetOutlived()
    const entries = (this.#memory.get(query.user) ?? []).map(({ expiresAtMs: _expires, ...entry }) => entry)
    const place = placeOf(query)
    if ('before' in place) {
      const { before } = place
      return newestPage(before === null ? entries : entries.filter((entry) => newerFirst(before, entry) < 0), query.limit)
    }
    const ranking = new Ranking(queryTerms(query.query))
    for (const entry of entries) ranking.see(entry)
    return rankedPage(ranking.hits(entries.length), place.after, query.limit)
  }

  forgetUser({ user, conversations = [] }: Step<'forgetUser'>): Forgotten {
    this.#forgetOutlived()
    const entries = this.#memory.get(user) ?? []
    const named = new Set(entries.map(({ conversation }) => conversation))
    this.#memory.delete(user)
    for (const [id, { conversation, touched }] of this.#conversations)
      if (conversation.user === user || named.has(id) || conversations.includes(id))
        this.#conversations.set(id, { conversation: withoutTexts(conversation), touched })
    return { entries: entries.length, conversations: [...named].toSorted() }
  }

  #conversation(id: ConversationId): Conversation | null {
    return this.#conversations.get(id)?.conversation ?? null
  }

  #balances(ids: readonly AccountId[]): ReadonlyMap<AccountId, Account> {
    return new Map(ids.map((id) => [id, this.#books.accounts.get(id) ?? EMPTY_ACCOUNT]))
  }

  #change(id: ConversationId, before: Conversation, change: ConversationChange, touched: number): UpdateAnswer {
    const changed = applyChange(before, change)
    const { conversation } = changed
    this.#conversations.set(id, { conversation, touched })
    const { tier, user } = conversation
    const today = dayNumber(this.#clock.now())
    for (const rung of rungsBrought(before, conversation)) this.#events.push({ tier, day: today, name: rung, user: null })
    if (change.turnAtMs !== undefined) this.#events.push({ tier, day: dayNumber(change.turnAtMs), name: 'turns', user })
    return changed
  }

  /** What the sessions that these operations drew on have spent by now; one that is sold begins, and one that is not any more goes. */
  #countSessions(ids: readonly OperationId[]): void {
    const day = dayNumber(this.#clock.now())
    for (const { accounts, note, state } of ids.flatMap((id) => this.#books.operations.get(id) ?? [])) {
      for (const account of accounts.filter(isSoldSession)) {
        const { spent } = this.#books.accounts.get(account) ?? EMPTY_ACCOUNT
        const known = this.#openSessions.get(account)
        if (!countsAfter(state.status, { counts: known !== undefined, spent: known?.spent ?? 0n }, spent)) {
          if (known === undefined) continue
          this.#sessions.splice(this.#sessions.indexOf(known), 1)
          this.#openSessions.delete(account)
        } else if (known !== undefined) known.spent = spent
        else if (note.tier !== undefined) {
          const session = { tier: note.tier, day, spent }
          this.#sessions.push(session)
          this.#openSessions.set(account, session)
        }
      }
    }
  }

  #askedBy({ tier, fromDay, toDay }: DaysQuery): (of: string | undefined, day: number) => boolean {
    const from = Math.max(dayNamed(fromDay), oldestDay(this.#clock.now()))
    const to = dayNamed(toDay)
    return (of, day) => of === tier && day >= from && day <= to
  }

  #forgetOutlived(): number {
    const now = this.#clock.now()
    for (const known of [this.#conversations, this.#chain])
      for (const [key, { touched }] of known) if (now - touched > CONVERSATION_LIFE_MS) known.delete(key)
    for (const [user, entries] of this.#memory)
      this.#memory.set(
        user,
        entries.filter(({ expiresAtMs }) => expiresAtMs > now),
      )
    for (const [id, touched] of this.#accountsTouched) {
      if (now - touched <= CONVERSATION_LIFE_MS || this.#books.accounts.get(id)?.held !== 0n) continue
      const accounts = new Map(this.#books.accounts)
      accounts.delete(id)
      this.#books = { ...this.#books, accounts }
      this.#accountsTouched.delete(id)
      this.#openSessions.delete(id)
    }
    return now
  }
}

function isEntered(result: SettleResult): boolean {
  return result.status === 'settled' || result.status === 'corrected'
}
