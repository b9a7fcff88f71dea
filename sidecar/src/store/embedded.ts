/**
 * The embedded store: SQLite in one file, owned by one process. Steps run in memory as they are asked for; what a turn of
 * the event loop changed is committed together, to the journal, before any of its steps is answered, so nobody acts on what
 * a crash could undo. A killed process loses nothing that was answered (a power cut may: nobody waits for the disk itself).
 */
import { setImmediate as nextTick } from 'node:timers/promises'
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import {
  assertCost,
  assertReservation,
  charged,
  entered,
  heldOperation,
  holdTaken,
  offer,
  overdue,
  settled,
  voided,
} from '../core/budget.ts'
import type { AccountId, Operation, OperationId, SettleResult } from '../core/budget.ts'
import type { Conversation, ConversationId, Digest } from '../core/conversation.ts'
import { watchedDraws, withReached } from '../core/reached-percents.ts'
import type { SequencedEntry } from '../core/ledger.ts'
import { outcomeEntry } from '../core/outcomes.ts'
import type { Totals } from '../core/totals.ts'
import type { UserTotals } from '../core/totals-by-user.ts'
import { dayOf } from '../core/utc-day.ts'
import { BooksFile } from './books-file.ts'
import { storeError } from './database.ts'
import { DayReports } from './day-reports.ts'
import { LedgerSweep } from './ledger-sweep.ts'
import { MemoryFinder } from './memory-finder.ts'
import { FORGOTTEN_AT_ONCE, OpenBooks } from './open-books.ts'
import * as rows from './rows.ts'
import { allValues } from './statements.ts'
import { StoreClock } from './store-clock.ts'
import { assertLedgerLife, CONVERSATION_LIFE_MS, hasMoved, LEDGER_READ_MAX, NONE_FIRED, StoreError } from './store.ts'
import type {
  AccountsPage,
  AccountsQuery,
  BudgetStore,
  DaysQuery,
  ForgetStep,
  Forgotten,
  ListedConversation,
  ListQuery,
  MemoryPage,
  MemoryQuery,
  OutcomeTotals,
  QuietQuery,
  RememberStep,
  ReserveAnswer,
  ReserveStep,
  SettleAnswer,
  SettleStep,
  Snapshot,
  UpdateAnswer,
} from './store.ts'
import type { StoreTurns } from './store-turns.ts'
import type { DropTimes } from './tables-writer.ts'

/** How long a commit waits at most until its rows are on their way to the tables. Rows that change again meanwhile go once. */
const WRITE_EVERY_MS = 250
/** After rows could not be written; until then the journal has them. */
const WRITE_AGAIN_MS = 2_000
/** With more rows than this waiting for their tables, memory would run out before the disk came back: steps are refused. */
const UNWRITTEN_MAX = 200_000
/** While steps cannot be kept, it is tried this often. */
const TRY_EVERY_MS = 1_000
/** Rows that outlived their life are looked for this often. */
const DROP_EVERY_MS = 3_600_000
/** Conversations that are read before others have their turn. */
const CONVERSATIONS_READ = 100

export interface EmbeddedOptions {
  /** Path of the database; its folder must exist. `:memory:` for tests. */
  readonly file: string
  /** The wall clock. */
  readonly nowMs: () => number
  /** Ledger entries older than this are dropped, their sums carried over; at least `LEDGER_LIFE_MS_MIN`. Absent: kept for good. */
  readonly ledgerLifeMs?: number | undefined
  /** Who writes the tables: a thread of their own (the default), or the one that asks, at the cost of its turns. */
  readonly writer?: 'thread' | 'inline'
  /** Told when rows could not be written to their tables; they are tried again. */
  readonly onTrouble?: (error: StoreError) => void
  /** Told why steps are refused (the disk is full, or takes no writes), and null when they are taken again. Absent: nobody tries whether they are. */
  readonly onStanding?: ((failure: StoreError | null) => void) | undefined
  /** Steps of one sweep in which entries are dropped: tests take fewer. */
  readonly dropsMax?: number
  /** Told of the holds that an earlier run left, when they were charged. */
  readonly onExpired?: ((expired: readonly Operation[]) => void) | undefined
}

/**
 * Throws `RangeError` for a `ledgerLifeMs` that is too short, and `StoreError`: `away` when another process owns the file,
 * `corrupt` when it is not ours or is damaged. Holds of an earlier run are charged at once: their owner is dead, so the truth
 * will not come in time.
 */
export function openEmbeddedStore(options: EmbeddedOptions): BudgetStore {
  return new EmbeddedStore(options)
}

interface Waiting {
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

class EmbeddedStore implements BudgetStore {
  readonly #file: string
  readonly #books: BooksFile
  readonly #clock: StoreClock
  readonly #open: OpenBooks
  readonly #days: DayReports
  readonly #memory: MemoryFinder
  /** Null: entries are kept for good. */
  readonly #ledger: LedgerSweep | null
  readonly #onTrouble: (error: StoreError) => void
  readonly #onStanding: EmbeddedOptions['onStanding']
  #waiting: Waiting[] = []
  #isCommitDue = false
  #isOpen = true
  /** A commit failed: memory holds what was never committed, until it is read again. */
  #isAstray = false
  #recovery: Promise<void> | null = null
  #timer: NodeJS.Timeout | null = null
  /** Null: steps are taken. */
  #tryTimer: NodeJS.Timeout | null = null
  /** What became of the steps since it was tried last whether they are taken. */
  #sinceTry: 'nothing' | 'held' | 'failed' = 'nothing'
  #nextDropMs = 0
  /** One after the other: entries that are being carried over must not be carried twice. */
  #dropping: Promise<void> = Promise.resolve()
  /** Until it is the turn of the next page of a report. */
  #pages: Promise<unknown> = Promise.resolve()

  constructor(options: EmbeddedOptions) {
    const { file, nowMs, ledgerLifeMs, writer = 'thread', dropsMax, onExpired } = options
    const { onTrouble = () => undefined, onStanding } = options
    assertLedgerLife(ledgerLifeMs)
    this.#file = file
    this.#onTrouble = onTrouble
    this.#onStanding = onStanding
    try {
      this.#books = new BooksFile(file, writer)
    } catch (error) {
      throw storeError(file, error)
    }
    const shared: StoreTurns & { readonly books: BooksFile } = {
      books: this.#books,
      step: (run) => this.#step(run),
      look: (run) => this.#look(run),
      page: (run) => this.#page(run),
      query: (run) => this.#query(run),
    }
    this.#days = new DayReports({ ...shared, wallMs: nowMs, storeMs: () => this.#clock.now() })
    this.#memory = new MemoryFinder({ ...shared, roundOf: (user) => this.#open.memoryRound(user), at: (wallMs) => this.#clock.at(wallMs) })
    const isAlive = (account: AccountId): boolean => this.#open.isAlive(account)
    this.#ledger = ledgerLifeMs === undefined ? null : new LedgerSweep({ ...shared, isAlive, lifeMs: ledgerLifeMs, dropsMax })
    try {
      this.#clock = new StoreClock(nowMs, this.#books.clockMs)
      this.#open = new OpenBooks(this.#books, this.#clock)
      const now = this.#clock.now()
      const left = overdue(this.#open.held, Number.POSITIVE_INFINITY)
      for (const operation of left) this.#open.book(charged(operation, now), { touched: null, wallMs: nowMs() })
      this.#books.commit(now)
      if (left.length > 0) onExpired?.(left)
    } catch (error) {
      void this.#books.close()
      throw storeError(file, error)
    }
  }

  read({ conversation, accounts, nowMs }: Parameters<BudgetStore['read']>[0]): Promise<Snapshot> {
    return this.#look(() => ({
      conversation: this.#open.alive(conversation, this.#clock.at(nowMs)),
      accounts: this.#open.balances(accounts),
    }))
  }

  findByChain(digests: readonly Digest[], nowMs: number): Promise<ConversationId | null> {
    return this.#look(() => this.#open.findByChain(digests, this.#clock.at(nowMs)))
  }

  reserve(step: ReserveStep): Promise<ReserveAnswer> {
    return this.#step(() => {
      const { reservation } = step
      assertReservation(reservation)
      const accounts = reservation.draws.map((draw) => draw.account)
      const found = this.#open.alive(step.conversation, this.#clock.at(step.nowMs))
      const snapshotOf = (conversation: Conversation | null): Snapshot => ({ conversation, accounts: this.#open.balances(accounts) })
      const known =
        step.isFirst === true ? this.#open.recentOperation(reservation.operationId) : this.#open.operation(reservation.operationId)
      if (known !== null) return { status: 'exists', operation: known, snapshot: snapshotOf(found) }
      if (hasMoved(found, step)) return { status: 'moved', snapshot: snapshotOf(found) }
      const result = offer(reservation, (account) => this.#open.account(account))
      if (result.status !== 'held') return { ...result, snapshot: snapshotOf(found) }
      const operation = heldOperation({ ...reservation, expiresAtMs: this.#clock.at(reservation.expiresAtMs) }, result.granted)
      const balances = this.#open.moved(operation.accounts, holdTaken(operation))
      if (found === null) this.#open.beginAnew(step.conversation)
      const now = this.#clock.now()
      this.#open.putOperation(operation, now)
      const times = { touched: now, wallMs: step.nowMs }
      this.#open.putAccounts(balances, times, { status: 'held', tier: operation.note.tier })
      const { conversation } = this.#open.change(step.conversation, found, found ?? step.initial, step.change, times)
      return { ...result, snapshot: snapshotOf(conversation) }
    })
  }

  renew(operationIds: readonly OperationId[], expiresAtMs: number): Promise<void> {
    return this.#step(() => {
      const expires = this.#clock.at(expiresAtMs)
      for (const id of operationIds) {
        const operation = this.#open.heldOperation(id)
        if (operation !== null && operation.expiresAtMs < expires)
          this.#open.putOperation({ ...operation, expiresAtMs: expires }, this.#clock.now())
      }
    })
  }

  settle(step: SettleStep): Promise<SettleAnswer> {
    return this.#step(() => {
      const { settlement, alerts } = step
      assertCost(settlement.cost)
      const now = this.#clock.now()
      const operation = this.#open.operation(settlement.operationId)
      const outcome = operation === null ? null : settled(operation, settlement)
      const drawn = watchedDraws(alerts).map((draw) => draw.account)
      const before = this.#open.alive(step.conversation, now)
      if (operation === null || outcome === null) {
        const result: SettleResult = { status: operation === null ? 'unknown' : 'exists' }
        if (operation?.state.status === 'settled' && before !== null) this.#putLostChain(step, now)
        return { result, ...NONE_FIRED, snapshot: { conversation: before, accounts: this.#open.balances(drawn) } }
      }
      const times = { touched: now, wallMs: settlement.atMs }
      this.#open.book(outcome, times)
      const accounts = this.#open.balances([...new Set([...operation.accounts, ...drawn])])
      const result: SettleResult = { status: outcome.corrects ? 'corrected' : 'settled', entries: outcome.entries }
      if (before === null) return { result, ...NONE_FIRED, snapshot: { conversation: null, accounts } }
      for (const digest of step.chain) this.#books.shelves.chain.set(digest, { conversation: step.conversation, touched: now })
      const change = withReached(step.change, alerts, accounts)
      const { conversation, ...fired } = this.#open.change(step.conversation, before, before, change, times)
      return { result, ...fired, snapshot: { conversation, accounts } }
    })
  }

  #putLostChain({ chain, conversation }: SettleStep, now: number): void {
    for (const digest of chain) {
      const known = this.#books.shelves.chain.get(digest)
      if (known === null || now - known.touched > CONVERSATION_LIFE_MS)
        this.#books.shelves.chain.set(digest, { conversation, touched: now })
    }
  }

  void({ operationId, atMs }: Parameters<BudgetStore['void']>[0]): Promise<'voided' | 'exists' | 'unknown'> {
    return this.#step(() => {
      const operation = this.#open.operation(operationId)
      if (operation === null) return 'unknown'
      const outcome = voided(operation, atMs)
      if (outcome === null) return 'exists'
      this.#open.book(outcome, { touched: null, wallMs: atMs })
      return 'voided'
    })
  }

  update({ conversation: id, initial, change, nowMs }: Parameters<BudgetStore['update']>[0]): Promise<UpdateAnswer | null> {
    return this.#step(() => {
      const found = this.#open.alive(id, this.#clock.at(nowMs))
      const before = found ?? initial
      if (before === undefined) return null
      if (found === null) this.#open.beginAnew(id)
      const isTurn = found === null || change.turnAtMs !== undefined
      return this.#open.change(id, found, before, change, { touched: isTurn ? this.#clock.now() : null, wallMs: nowMs })
    })
  }

  charge(step: Parameters<BudgetStore['charge']>[0]): Promise<'charged' | 'exists'> {
    return this.#step(() => {
      assertCost(step.cost)
      if (this.#open.operation(step.operationId) !== null) return 'exists'
      const now = this.#clock.now()
      const times = { touched: now, wallMs: step.atMs }
      this.#open.book(entered(step), times)
      const found = this.#open.alive(step.conversation, now)
      if (found !== null) this.#open.change(step.conversation, found, found, step.change, times)
      return 'charged'
    })
  }

  sweep({ nowMs, limit }: { readonly nowMs: number; readonly limit: number }): Promise<{ readonly expired: readonly Operation[] }> {
    return this.#step(() => {
      const now = this.#clock.at(nowMs)
      const expired = overdue(this.#open.held, now).slice(0, limit)
      for (const operation of expired) this.#open.book(charged(operation, now), { touched: null, wallMs: nowMs })
      if (now >= this.#nextDropMs) {
        this.#nextDropMs = now + DROP_EVERY_MS
        this.#dropping = this.#dropping.then(() => this.#dropOutlived({ nowMs: now, wallMs: nowMs }))
      }
      return { expired }
    })
  }

  putContract(contract: Contract): Promise<void> {
    return this.#step(() => {
      if (this.#books.shelves.contracts.get(contract.hash) === null) this.#books.shelves.contracts.set(contract.hash, contract)
    })
  }

  getContract(hash: string): Promise<unknown> {
    return this.#look(() => this.#books.shelves.contracts.get(hash))
  }

  addOutcome(outcome: Parameters<BudgetStore['addOutcome']>[0]): Promise<'added' | 'exists'> {
    return this.#step(() => {
      const { key, tier, atMs, kind, of } = outcome
      if (this.#books.shelves.outcomes.get(key) !== null) return 'exists'
      this.#books.shelves.outcomes.set(key, { tier, day: dayOf(atMs), kind, ...(of === undefined ? {} : { of }) })
      this.#open.enter(outcomeEntry(outcome))
      return 'added'
    })
  }

  readOutcomes(query: DaysQuery): Promise<OutcomeTotals> {
    return this.#days.outcomes(query)
  }
  readTotals(query: DaysQuery): Promise<Totals> {
    return this.#days.totals(query)
  }
  readUsers(query: Parameters<BudgetStore['readUsers']>[0]): Promise<UserTotals> {
    return this.#days.users(query)
  }

  readLedger({ afterSequence, limit }: Parameters<BudgetStore['readLedger']>[0]): Promise<readonly SequencedEntry[]> {
    return this.#query(() =>
      allValues(this.#books.sql.readEntries, afterSequence, Math.min(limit, LEDGER_READ_MAX)).map((values) => rows.entryRow(values)),
    )
  }

  /** The cursor is the last account of the page before. */
  async listAccounts({ limit, cursor = '' }: AccountsQuery): Promise<AccountsPage> {
    const accounts = await this.#query(() => allValues(this.#books.sql.listAccounts, cursor, limit).map(([id]) => rows.text(id)))
    return { accounts, next: accounts.length < limit ? null : (accounts.at(-1) ?? null) }
  }

  async listConversations({ limit, nowMs, areLone }: ListQuery): Promise<readonly ListedConversation[]> {
    const { newestConversations, newestLoneCalls } = this.#books.sql
    const newest = areLone === true ? newestLoneCalls : newestConversations
    const listed = await this.#query(() => {
      const now = this.#clock.at(nowMs)
      return { ids: allValues(newest, now - CONVERSATION_LIFE_MS, limit).map(([id]) => rows.text(id)), now }
    })
    return this.#listed(listed.ids, listed.now)
  }

  async listQuiet({ tiers, quietSinceMs, limit, nowMs }: QuietQuery): Promise<readonly ListedConversation[]> {
    const { quiet, now } = await this.#query(() => {
      const at = this.#clock.at(nowMs)
      const found: { readonly id: string; readonly lastTurn: number }[] = []
      for (const tier of new Set(tiers))
        for (const [id, lastTurn] of allValues(this.#books.sql.quietConversations, tier, quietSinceMs, at - CONVERSATION_LIFE_MS, limit))
          found.push({ id: rows.text(id), lastTurn: rows.whole(lastTurn) })
      return { quiet: found.toSorted((a, b) => a.lastTurn - b.lastTurn || (a.id < b.id ? -1 : 1)).slice(0, limit), now: at }
    })
    return this.#listed(
      quiet.map(({ id }) => id),
      now,
    )
  }

  /** As they are when it is their turn to be read. `now` by the store's clock. */
  async #listed(ids: readonly ConversationId[], now: number): Promise<readonly ListedConversation[]> {
    const listed: ListedConversation[] = []
    for (let from = 0; from < ids.length; from += CONVERSATIONS_READ) {
      const some = ids.slice(from, from + CONVERSATIONS_READ)
      listed.push(...(await this.#page(() => some.flatMap((id) => this.#open.listed(id, now) ?? []))))
    }
    return listed
  }

  remember({ user, entries, expiresAtMs, nowMs }: RememberStep): Promise<void> {
    return this.#step(() => this.#open.remember(user, entries, this.#clock.at(expiresAtMs), this.#clock.at(nowMs)))
  }

  searchMemory(query: MemoryQuery): Promise<MemoryPage> {
    return this.#memory.search(query)
  }

  /** Of many conversations a few at a time; then all that are left, with the memory. */
  async forgetUser({ user, conversations = [], nowMs }: ForgetStep): Promise<Forgotten> {
    const done = new Set<ConversationId>()
    for (;;) {
      const answer = await this.#step(() => this.#open.forgetUser(user, conversations, done, this.#clock.at(nowMs)))
      if (answer.status === 'forgotten') {
        this.#books.beginJournalAnew()
        return answer.forgotten
      }
      for (let from = 0; from < answer.conversations.length; from += FORGOTTEN_AT_ONCE) {
        const some = answer.conversations.slice(from, from + FORGOTTEN_AT_ONCE)
        await this.#step(() => this.#open.forgetTexts(some))
        for (const id of some) done.add(id)
      }
    }
  }

  async close(): Promise<void> {
    if (!this.#isOpen) return
    this.#commit()
    this.#isOpen = false
    if (this.#timer !== null) clearTimeout(this.#timer)
    if (this.#tryTimer !== null) clearTimeout(this.#tryTimer)
    try {
      await this.#recovery
      if (!this.#isAstray) await this.#books.write()
    } catch (error) {
      throw storeError(this.#file, error)
    } finally {
      await this.#books.close()
    }
  }

  /**
   * Runs a step now; answers it when this turn of the event loop is committed. A step that throws `RangeError` has changed nothing; one
   * that throws anything else may have ended in the middle, so that nothing of this turn happened.
   */
  #step<T>(run: () => T): Promise<T> {
    if (this.#isAstray) return this.#recovered().then(() => this.#step(run))
    return new Promise((resolve, reject) => {
      this.#assertUsable()
      try {
        const answer = run()
        this.#waiting.push({ resolve: () => resolve(answer), reject })
        this.#commitSoon()
      } catch (error) {
        if (error instanceof RangeError) return reject(error)
        const failure = storeError(this.#file, error)
        this.#abandon(failure)
        reject(failure)
      }
    })
  }

  /** Reads a page of a report: one in a turn of the event loop, however many reports are asked for. */
  #page<T>(run: () => T): Promise<T> {
    const page = this.#pages.then(() => this.#look(run))
    this.#pages = Promise.allSettled([page]).then(() => nextTick())
    return page
  }

  /** Reads what memory has, or a row of the tables. */
  async #look<T>(run: () => T): Promise<T> {
    if (this.#isAstray) await this.#recovered()
    return this.#guarded(run)
  }

  /** Reads the tables, once they have all that was committed before. */
  async #query<T>(run: () => T): Promise<T> {
    if (this.#isAstray) await this.#recovered()
    this.#assertUsable()
    this.#commit()
    try {
      await this.#books.write()
    } catch (error) {
      throw storeError(this.#file, error)
    }
    return this.#look(run)
  }

  #assertUsable(): void {
    if (!this.#isOpen) throw new StoreError('closed', 'the store is closed')
    if (this.#books.unwritten <= UNWRITTEN_MAX) return
    const failure = new StoreError('away', `${this.#file}: rows cannot be written to their tables`)
    this.#refuses(failure)
    throw failure
  }

  #guarded<T>(run: () => T): T {
    this.#assertUsable()
    try {
      return run()
    } catch (error) {
      throw error instanceof RangeError ? error : storeError(this.#file, error)
    }
  }

  #commitSoon(): void {
    if (this.#isCommitDue) return
    this.#isCommitDue = true
    setImmediate(() => this.#commit())
  }

  #commit(): void {
    this.#isCommitDue = false
    if (this.#waiting.length === 0) return
    try {
      const isReal = this.#books.commit(this.#clock.now())
      if (isReal && this.#sinceTry === 'nothing') this.#sinceTry = 'held'
    } catch (error) {
      const failure = storeError(this.#file, error)
      this.#refuses(failure)
      return this.#abandon(failure)
    }
    const waiting = this.#waiting
    this.#waiting = []
    for (const { resolve } of waiting) resolve()
    this.#writeSoon(WRITE_EVERY_MS)
  }

  /** Nothing of this turn happened: memory is read again from the file, and everyone is told. */
  #abandon(error: StoreError): void {
    const waiting = this.#waiting
    this.#waiting = []
    this.#isAstray = true
    for (const { reject } of waiting) reject(error)
  }

  /** Reads memory again from the file; rejects with `StoreError` while that cannot be done. */
  #recovered(): Promise<void> {
    this.#recovery ??= this.#recover().finally(() => {
      this.#recovery = null
    })
    return this.#recovery
  }

  async #recover(): Promise<void> {
    try {
      await this.#books.recover()
      this.#open.takeHeld()
      this.#isAstray = false
    } catch (error) {
      const failure = storeError(this.#file, error)
      this.#refuses(failure)
      throw failure
    }
  }

  /** Told once, until it is tried whether steps are taken again, and they are. */
  #refuses(failure: StoreError): void {
    this.#sinceTry = 'failed'
    if (this.#onStanding === undefined || failure.code !== 'away' || this.#tryTimer !== null || !this.#isOpen) return
    this.#tryLater()
    this.#onStanding(failure)
  }

  #tryLater(): void {
    this.#tryTimer = setTimeout(() => void this.#tryAgain(), TRY_EVERY_MS).unref()
  }

  /** Where calls were served meanwhile and none was refused, there is room for them, though the probe, which asks for more, may find too little. */
  async #tryAgain(): Promise<void> {
    const since = this.#sinceTry
    this.#sinceTry = 'nothing'
    try {
      if (this.#isAstray) await this.#recovered()
      this.#assertUsable()
      if (since !== 'held') this.#books.tryCommit(this.#clock.now())
    } catch {
      if (this.#isOpen) this.#tryLater() // why was told
      return
    }
    this.#tryTimer = null
    this.#onStanding?.(null)
  }

  #writeSoon(afterMs: number): void {
    this.#timer ??= setTimeout(() => void this.#writeInTheBackground(), afterMs).unref()
  }

  async #writeInTheBackground(): Promise<void> {
    this.#timer = null
    this.#commit()
    if (this.#isAstray) return
    try {
      await this.#books.write()
    } catch (error) {
      if (!this.#isOpen) return
      this.#onTrouble(storeError(this.#file, error))
      this.#writeSoon(WRITE_AGAIN_MS)
    }
  }

  async #dropOutlived(times: DropTimes): Promise<void> {
    try {
      await this.#books.dropOutlived(times)
      await this.#ledger?.drop(times.wallMs)
    } catch (error) {
      if (this.#isOpen) this.#onTrouble(storeError(this.#file, error))
    }
  }
}
