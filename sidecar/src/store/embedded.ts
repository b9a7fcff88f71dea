/**
 * The embedded store: SQLite in one file, owned by one process. Steps run in memory as they are asked for; what a turn of
 * the event loop changed is committed together, to the journal, before any of its steps is answered, so nobody acts on what
 * a crash could undo. A killed process loses nothing that was answered (a power cut may: nobody waits for the disk itself).
 */
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import {
  added,
  assertCost,
  assertReservation,
  charged,
  EMPTY_ACCOUNT,
  entered,
  heldOperation,
  holdTaken,
  offer,
  overdue,
  settled,
  voided,
} from '../core/budget.ts'
import type { Account, AccountId, Operation, OperationId, Outcome, ReserveResult, SettleResult } from '../core/budget.ts'
import { applyChange } from '../core/conversation-change.ts'
import type { Conversation, ConversationChange, ConversationId, Digest, Edit } from '../core/conversation.ts'
import type { LedgerEntry } from '../core/ledger.ts'
import { BooksFile, tierDayKey } from './books-file.ts'
import { storeError } from './database.ts'
import * as rows from './rows.ts'
import { allValues } from './statements.ts'
import { StoreClock } from './store-clock.ts'
import { CONVERSATION_LIFE_MS, StoreError } from './store.ts'
import type { BudgetStore, OutcomeTotals, ReserveAnswer, ReserveStep, SettleAnswer, SettleStep, Snapshot, UpdateAnswer } from './store.ts'

/** How long a commit waits at most until its rows are on their way to the tables. Rows that change again meanwhile go once. */
const WRITE_EVERY_MS = 250
/** After rows could not be written; until then the journal has them. */
const WRITE_AGAIN_MS = 2_000
/** With more rows than this waiting for their tables, memory would run out before the disk came back: steps are refused. */
const UNWRITTEN_MAX = 200_000
/** Rows that outlived their life are looked for this often. */
const DROP_EVERY_MS = 3_600_000
const LEDGER_PAGE_MAX = 10_000
const DAY_MS = 24 * 3_600_000

export interface EmbeddedOptions {
  /** Path of the database; its folder must exist. `:memory:` for tests. */
  readonly file: string
  /** The wall clock. */
  readonly nowMs: () => number
  /** Who writes the tables: a thread of their own (the default), or the one that asks, at the cost of its turns. */
  readonly writer?: 'thread' | 'inline'
  /** Told when rows could not be written to their tables; they are tried again. */
  readonly onTrouble?: (error: StoreError) => void
}

/**
 * Throws `StoreError`: `away` when another process owns the file, `corrupt` when it is not ours or is damaged. Holds of an
 * earlier run are charged at once: their owner is dead, so the truth will not come in time.
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
  readonly #onTrouble: (error: StoreError) => void
  #held = new Map<OperationId, Operation>()
  #waiting: Waiting[] = []
  #isCommitDue = false
  #isOpen = true
  /** A commit failed: memory holds what was never committed, until it is read again. */
  #isAstray = false
  #recovery: Promise<void> | null = null
  #timer: NodeJS.Timeout | null = null
  #nextDropMs = 0
  #today = { number: 0, text: '1970-01-01' }

  constructor({ file, nowMs, writer = 'thread', onTrouble = () => undefined }: EmbeddedOptions) {
    this.#file = file
    this.#onTrouble = onTrouble
    try {
      this.#books = new BooksFile(file, writer)
    } catch (error) {
      throw storeError(file, error)
    }
    this.#clock = new StoreClock(nowMs, this.#books.clockMs)
    this.#takeHeld()
    const now = this.#clock.now()
    for (const operation of overdue(this.#held.values(), Number.POSITIVE_INFINITY)) this.#book(charged(operation, now), null)
    this.#books.commit(now)
  }

  read({ conversation, accounts, nowMs }: Parameters<BudgetStore['read']>[0]): Promise<Snapshot> {
    return this.#look(() => ({ conversation: this.#alive(conversation, this.#clock.at(nowMs)), accounts: this.#balances(accounts) }))
  }

  findByChain(digests: readonly Digest[], nowMs: number): Promise<ConversationId | null> {
    return this.#look(() => {
      const now = this.#clock.at(nowMs)
      for (const digest of digests) {
        const found = this.#books.chain.get(digest)
        if (found !== null && !hasOutlived(found, now) && this.#alive(found.conversation, now) !== null) return found.conversation
      }
      return null
    })
  }

  reserve(step: ReserveStep): Promise<ReserveAnswer> {
    return this.#step(() => {
      const { reservation } = step
      assertReservation(reservation)
      const accounts = reservation.draws.map((draw) => draw.account)
      const found = this.#alive(step.conversation, this.#clock.at(step.nowMs))
      const snapshotOf = (conversation: Conversation | null): Snapshot => ({ conversation, accounts: this.#balances(accounts) })
      const known = step.isFirst === true ? this.#recentOperation(reservation.operationId) : this.#operation(reservation.operationId)
      if (known !== null) return answerOf({ status: 'exists', operation: known }, snapshotOf(found))
      if (hasMoved(found, step)) return { status: 'moved', snapshot: snapshotOf(found) }
      const result = offer(reservation, (account) => this.#account(account))
      if (result.status !== 'held') return answerOf(result, snapshotOf(found))
      const operation = heldOperation({ ...reservation, expiresAtMs: this.#clock.at(reservation.expiresAtMs) }, result.granted)
      const balances = this.#moved(operation.accounts, holdTaken(operation))
      if (found === null) this.#beginAnew(step.conversation)
      const now = this.#clock.now()
      this.#putOperation(operation, now)
      this.#putAccounts(balances, now)
      const { conversation } = this.#change(step.conversation, found, found ?? step.initial, step.change, now)
      return answerOf(result, snapshotOf(conversation))
    })
  }

  renew(operationIds: readonly OperationId[], expiresAtMs: number): Promise<void> {
    return this.#step(() => {
      const expires = this.#clock.at(expiresAtMs)
      for (const id of operationIds) {
        const operation = this.#held.get(id)
        if (operation !== undefined && operation.expiresAtMs < expires)
          this.#putOperation({ ...operation, expiresAtMs: expires }, this.#clock.now())
      }
    })
  }

  settle(step: SettleStep): Promise<SettleAnswer> {
    return this.#step(() => {
      const { settlement, alerts } = step
      assertCost(settlement.cost)
      const now = this.#clock.now()
      const operation = this.#operation(settlement.operationId)
      const outcome = operation === null ? null : settled(operation, settlement)
      const drawn = alerts.draws.map((draw) => draw.account)
      const before = this.#alive(step.conversation, now)
      if (operation === null || outcome === null) {
        const result: SettleResult = { status: operation === null ? 'unknown' : 'exists' }
        return { result, firedAlerts: [], snapshot: { conversation: before, accounts: this.#balances(drawn) } }
      }
      this.#book(outcome, now)
      const accounts = this.#balances([...new Set([...operation.accounts, ...drawn])])
      const result: SettleResult = { status: outcome.corrects ? 'corrected' : 'settled', entries: outcome.entries }
      if (before === null) return { result, firedAlerts: [], snapshot: { conversation: null, accounts } }
      for (const digest of step.chain) this.#books.chain.set(digest, { conversation: step.conversation, touched: now })
      const addAlerts = [...(step.change.addAlerts ?? []), ...reachedPercents(alerts, accounts)]
      const { conversation, firedAlerts } = this.#change(step.conversation, before, before, { ...step.change, addAlerts }, now)
      return { result, firedAlerts, snapshot: { conversation, accounts } }
    })
  }

  void({ operationId, atMs }: Parameters<BudgetStore['void']>[0]): Promise<'voided' | 'exists' | 'unknown'> {
    return this.#step(() => {
      const operation = this.#operation(operationId)
      if (operation === null) return 'unknown'
      const outcome = voided(operation, atMs)
      if (outcome === null) return 'exists'
      this.#book(outcome, null)
      return 'voided'
    })
  }

  update({ conversation: id, initial, change, nowMs }: Parameters<BudgetStore['update']>[0]): Promise<UpdateAnswer | null> {
    return this.#step(() => {
      const found = this.#alive(id, this.#clock.at(nowMs))
      const before = found ?? initial
      if (before === undefined) return null
      if (found === null) this.#beginAnew(id)
      const isTurn = found === null || change.turnAtMs !== undefined
      return this.#change(id, found, before, change, isTurn ? this.#clock.now() : null)
    })
  }

  charge(step: Parameters<BudgetStore['charge']>[0]): Promise<'charged' | 'exists'> {
    return this.#step(() => {
      assertCost(step.cost)
      if (this.#operation(step.operationId) !== null) return 'exists'
      const now = this.#clock.now()
      this.#book(entered(step), now)
      const found = this.#alive(step.conversation, now)
      if (found !== null) this.#change(step.conversation, found, found, step.change, now)
      return 'charged'
    })
  }

  sweep({ nowMs, limit }: { readonly nowMs: number; readonly limit: number }): Promise<{ readonly expired: readonly Operation[] }> {
    return this.#step(() => {
      const now = this.#clock.at(nowMs)
      const expired = overdue(this.#held.values(), now).slice(0, limit)
      for (const operation of expired) this.#book(charged(operation, now), null)
      if (now >= this.#nextDropMs) {
        this.#nextDropMs = now + DROP_EVERY_MS
        void this.#dropOutlived(now)
      }
      return { expired }
    })
  }

  putContract(contract: Contract): Promise<void> {
    return this.#step(() => {
      if (this.#books.contracts.get(contract.hash) === null) this.#books.contracts.set(contract.hash, contract)
    })
  }

  getContract(hash: string): Promise<Contract | null> {
    return this.#look(() => this.#books.contracts.get(hash))
  }

  addOutcome({ key, tier, day, kind }: Parameters<BudgetStore['addOutcome']>[0]): Promise<'added' | 'exists'> {
    return this.#step(() => {
      if (this.#books.outcomes.get(key) !== null) return 'exists'
      this.#books.outcomes.set(key, { tier, day, kind })
      return 'added'
    })
  }

  readOutcomes({ tier, fromDay, toDay }: Parameters<BudgetStore['readOutcomes']>[0]): Promise<OutcomeTotals> {
    return this.#query(() => {
      const counts = new Map(
        allValues(this.#books.sql.countOutcomes, tier, fromDay, toDay).map(([kind, count]) => [kind, rows.whole(count)]),
      )
      const days = allValues(this.#books.sql.getTierDays, tier, fromDay, toDay).map((values) => rows.tierDayRow(values))
      return {
        started: counts.get('started') ?? 0,
        confirmed: counts.get('confirmed') ?? 0,
        reversed: counts.get('reversed') ?? 0,
        cost: days.reduce((sum, { cost }) => sum + cost, 0n),
      }
    })
  }

  readLedger({ afterSequence, limit }: Parameters<BudgetStore['readLedger']>[0]): Promise<readonly rows.SequencedEntry[]> {
    return this.#query(() =>
      allValues(this.#books.sql.readEntries, afterSequence, Math.min(limit, LEDGER_PAGE_MAX)).map((values) => rows.entryRow(values)),
    )
  }

  listConversations({ limit, nowMs }: { readonly limit: number; readonly nowMs: number }): Promise<readonly Conversation[]> {
    return this.#query(() => {
      const now = this.#clock.at(nowMs)
      const listed: Conversation[] = []
      for (const [id] of allValues(this.#books.sql.newestConversations, now - CONVERSATION_LIFE_MS, limit)) {
        const conversation = this.#alive(rows.text(id), now)
        if (conversation !== null) listed.push(conversation)
      }
      return listed
    })
  }

  async close(): Promise<void> {
    if (!this.#isOpen) return
    this.#commit()
    this.#isOpen = false
    if (this.#timer !== null) clearTimeout(this.#timer)
    try {
      await this.#recovery
      if (!this.#isAstray) await this.#books.write()
    } catch (error) {
      throw storeError(this.#file, error)
    } finally {
      await this.#books.close()
    }
  }

  /** Runs a step now; answers it when this turn of the event loop is committed. A step that throws `RangeError` has changed nothing. */
  #step<T>(run: () => T): Promise<T> {
    if (this.#isAstray) return this.#recovered().then(() => this.#step(run))
    return new Promise((resolve, reject) => {
      try {
        const answer = this.#guarded(run)
        this.#waiting.push({ resolve: () => resolve(answer), reject })
        this.#commitSoon()
      } catch (error) {
        if (error instanceof StoreError && error.code === 'corrupt') this.#abandon(error)
        reject(error instanceof Error ? error : new Error(String(error)))
      }
    })
  }

  /** Reads what memory has, or a row of the tables. */
  async #look<T>(run: () => T): Promise<T> {
    if (this.#isAstray) await this.#recovered()
    return this.#guarded(run)
  }

  /** Reads the tables, once they have all that was committed before. */
  async #query<T>(run: () => T): Promise<T> {
    if (this.#isAstray) await this.#recovered()
    this.#guarded(() => undefined)
    this.#commit()
    try {
      await this.#books.write()
    } catch (error) {
      throw storeError(this.#file, error)
    }
    return this.#look(run)
  }

  #guarded<T>(run: () => T): T {
    if (!this.#isOpen) throw new StoreError('closed', 'the store is closed')
    if (this.#books.unwritten > UNWRITTEN_MAX) throw new StoreError('away', `${this.#file}: rows cannot be written to their tables`)
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
      this.#books.commit(this.#clock.now())
    } catch (error) {
      return this.#abandon(storeError(this.#file, error))
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
      this.#takeHeld()
      this.#isAstray = false
    } catch (error) {
      throw storeError(this.#file, error)
    }
  }

  #takeHeld(): void {
    this.#held = new Map(this.#books.held().map((operation) => [operation.id, operation]))
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

  async #dropOutlived(now: number): Promise<void> {
    try {
      await this.#books.dropOutlived(now)
    } catch (error) {
      if (this.#isOpen) this.#onTrouble(storeError(this.#file, error))
    }
  }

  /** `touched`: when the accounts were last used by a caller; null leaves that as it is. */
  #book({ operation, delta, entries }: Outcome, touched: number | null): void {
    const balances = this.#moved(operation.accounts, delta)
    this.#putOperation(operation, this.#clock.now())
    this.#putAccounts(balances, touched)
    for (const entry of entries) this.#enter(entry)
  }

  #enter(entry: LedgerEntry): void {
    const { tier } = entry.note
    const sequence = this.#books.nextEntry()
    this.#books.entries.set(String(sequence), { ...entry, sequence })
    if (tier === undefined) return
    const key = tierDayKey(tier, this.#dayOf(entry.atMs))
    const known = this.#books.tierDays.get(key)
    this.#books.tierDays.set(key, { tier, day: this.#dayOf(entry.atMs), cost: (known?.cost ?? 0n) + entry.cost })
  }

  /** Of UTC. */
  #dayOf(atMs: number): string {
    const number = Math.floor(atMs / DAY_MS)
    if (number !== this.#today.number) this.#today = { number, text: new Date(atMs).toISOString().slice(0, 10) }
    return this.#today.text
  }

  #operation(id: OperationId): Operation | null {
    return this.#held.get(id) ?? this.#books.operations.get(id)?.operation ?? null
  }

  /** The same, by memory alone. */
  #recentOperation(id: OperationId): Operation | null {
    return this.#held.get(id) ?? this.#books.operations.recent(id)?.operation ?? null
  }

  #putOperation(operation: Operation, touched: number): void {
    this.#books.operations.set(operation.id, { operation, touched })
    if (operation.state.status === 'held') this.#held.set(operation.id, operation)
    else this.#held.delete(operation.id)
  }

  /** What the accounts come to; throws `RangeError` where one would go beyond `AMOUNT_MAX`. */
  #moved(ids: readonly AccountId[], delta: Account): ReadonlyMap<AccountId, Account> {
    return new Map(ids.map((id) => [id, added(this.#account(id), delta)]))
  }

  #putAccounts(accounts: ReadonlyMap<AccountId, Account>, touched: number | null): void {
    for (const [id, account] of accounts)
      this.#books.accounts.set(id, { account, touched: touched ?? this.#books.accounts.get(id)?.touched ?? this.#clock.now() })
  }

  #account(id: AccountId): Account {
    const row = this.#books.accounts.get(id)
    return row === null || (row.account.held === 0n && hasOutlived(row, this.#clock.now())) ? EMPTY_ACCOUNT : row.account
  }

  #balances(ids: readonly AccountId[]): ReadonlyMap<AccountId, Account> {
    return new Map(ids.map((id) => [id, this.#account(id)]))
  }

  /** `now` by the store's clock. */
  #alive(id: ConversationId, now: number): Conversation | null {
    const row = this.#books.conversations.get(id)
    return row === null || hasOutlived(row, now) ? null : row.conversation
  }

  /** What outlived its life under this id is gone before a conversation begins under it. */
  #beginAnew(id: ConversationId): void {
    if (this.#books.conversations.get(id) !== null) this.#books.forget(id)
  }

  /** `found`: as it is stored; null when it begins as `before`. `touched`: null leaves its life as it is. */
  #change(
    id: ConversationId,
    found: Conversation | null,
    before: Conversation,
    change: ConversationChange,
    touched: number | null,
  ): UpdateAnswer {
    const changed = applyChange(before, change)
    const { conversation } = changed
    const row = this.#books.conversations.get(id)
    this.#books.conversations.set(id, { conversation, touched: touched ?? row?.touched ?? this.#clock.now() })
    this.#putEdits(id, found?.readyEdits ?? [], conversation.readyEdits, true)
    this.#putEdits(id, found?.edits ?? [], conversation.edits, false)
    return changed
  }

  /** Lists only grow at their end, or lose what moved to the other one, where the same id is written over. */
  #putEdits(conversation: ConversationId, before: readonly Edit[], after: readonly Edit[], ready: boolean): void {
    if (after === before || after.length === 0) return
    const known = new Set(before.map((edit) => edit.id))
    for (const edit of after)
      if (!known.has(edit.id))
        this.#books.edits.set(`${conversation} ${edit.id}`, { sequence: this.#books.nextEdit(), conversation, ready, edit })
  }
}

function answerOf(result: ReserveResult, snapshot: Snapshot): ReserveAnswer {
  return { status: result.status, result, snapshot }
}

/** Whether the decision was made on another conversation than there is. Who began it alike meanwhile decided alike. */
function hasMoved(found: Conversation | null, { seen, initial }: ReserveStep): boolean {
  if (found === null) return false
  const { contractHash, user, session } = seen ?? initial
  return found.contractHash !== contractHash || found.user !== user || found.session !== session
}

function hasOutlived({ touched }: { readonly touched: number }, now: number): boolean {
  return now - touched > CONVERSATION_LIFE_MS
}

/** Thresholds that the tightest of the watched accounts has reached: spent and the input of calls under way, of its cap. */
function reachedPercents({ draws, percents }: SettleStep['alerts'], accounts: ReadonlyMap<AccountId, Account>): number[] {
  return percents.filter((percent) =>
    draws.some(({ account, cap }) => {
      const { spent, heldInput } = accounts.get(account) ?? EMPTY_ACCOUNT
      return cap !== null && (spent + heldInput) * 100n >= cap * BigInt(percent)
    }),
  )
}
