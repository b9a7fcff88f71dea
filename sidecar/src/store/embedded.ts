/**
 * The embedded store: SQLite in one file, owned by one process. Steps run as they are asked for, in memory and in an open
 * transaction; the transaction of an event-loop turn is committed before any of its steps is answered, so nobody acts on
 * what a crash could undo. A killed process loses nothing that was answered (a power cut may: `synchronous=NORMAL`).
 */
import { DatabaseSync } from 'node:sqlite'
import type { StatementSync } from 'node:sqlite'
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import { LRUCache } from 'lru-cache'
import { added, charged, EMPTY_ACCOUNT, entered, heldOperation, holdTaken, offer, settled, voided } from '../core/budget.ts'
import type { Account, AccountId, Operation, OperationId, Outcome, ReserveResult, SettleResult } from '../core/budget.ts'
import { applyChange } from '../core/conversation-change.ts'
import type { Conversation, ConversationChange, ConversationId, Digest, Edit } from '../core/conversation.ts'
import type { EntryNote, LedgerEntry } from '../core/ledger.ts'
import { accountOf, conversationOf, conversationText, entryOf, money, noteText, operationOf } from './rows.ts'
import type { Row } from './rows.ts'
import { CONVERSATION_LIFE_MS, StoreError } from './store.ts'
import type { BudgetStore, OutcomeKind, OutcomeTotals, ReserveAnswer, ReserveStep, SettleAnswer, SettleStep, Snapshot, UpdateAnswer } from './store.ts'
import { TABLES, TABLES_VERSION } from './tables.ts'

/** Rows kept in memory beside the file; what falls out is read again. */
const ACCOUNTS_CACHED = 100_000
const CONVERSATIONS_CACHED = 20_000
/** Operations that have ended are known this long, so that a late repeat changes nothing. */
const ENDED_OPERATION_LIFE_MS = 24 * 3_600_000
/** Accounts outlive the longest period and the life of its conversations. */
const ACCOUNT_LIFE_MS = 70 * 24 * 3_600_000
/** Rows of each table dropped in one sweep. */
const DROPPED_MAX = 1_000
const LEDGER_PAGE_MAX = 10_000

export interface EmbeddedOptions {
  /** Path of the database; its folder must exist. `:memory:` for tests. */
  readonly file: string
  readonly nowMs: () => number
}

/** Throws `StoreError`: `away` when another process owns the file, `corrupt` when it is not ours or is damaged. */
export function openEmbeddedStore(options: EmbeddedOptions): BudgetStore {
  return new EmbeddedStore(options)
}

interface Waiting {
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

class EmbeddedStore implements BudgetStore {
  readonly #database: DatabaseSync
  readonly #sql: Statements
  readonly #nowMs: () => number
  readonly #accounts = new LRUCache<AccountId, Account>({ max: ACCOUNTS_CACHED })
  readonly #conversations = new LRUCache<ConversationId, Conversation>({ max: CONVERSATIONS_CACHED })
  #waiting: Waiting[] = []
  #isOpen = true
  /** The store's clock: never runs backwards, not even over a restart. */
  #clockMs = 0

  constructor({ file, nowMs }: EmbeddedOptions) {
    this.#nowMs = nowMs
    this.#database = openDatabase(file)
    this.#sql = prepare(this.#database)
    this.#clockMs = Number(this.#sql.readMeta.get('clock')?.['value'] ?? 0)
    this.#chargeAbandoned()
  }

  async read({ conversation, accounts, nowMs }: { readonly conversation: ConversationId; readonly accounts: readonly AccountId[]; readonly nowMs: number }): Promise<Snapshot> {
    return this.#guarded(() => ({ conversation: this.#alive(conversation, nowMs), accounts: this.#balances(accounts) }))
  }

  async findByChain(digests: readonly Digest[], nowMs: number): Promise<ConversationId | null> {
    return this.#guarded(() => {
      for (const digest of digests) {
        const found = this.#sql.findChain.get(digest)
        const id = found?.['conversation']
        if (typeof id === 'string' && this.#alive(id, nowMs) !== null) return id
      }
      return null
    })
  }

  reserve(step: ReserveStep): Promise<ReserveAnswer> {
    return this.#step(() => {
      const { reservation } = step
      const accounts = reservation.draws.map((draw) => draw.account)
      const found = this.#alive(step.conversation, step.nowMs)
      const snapshotOf = (conversation: Conversation | null): Snapshot => ({ conversation, accounts: this.#balances(accounts) })
      const known = this.#operation(reservation.operationId)
      if (known !== null) return answerOf({ status: 'exists', operation: known }, snapshotOf(found))
      if (found !== null && hasMoved(found, step.seen ?? step.initial)) return { status: 'moved', snapshot: snapshotOf(found) }
      const result = offer(reservation, (account) => this.#account(account))
      if (result.status !== 'held') return answerOf(result, snapshotOf(found))
      const operation = heldOperation(reservation, result.granted)
      this.#writeOperation(operation)
      this.#move(operation.accounts, holdTaken(operation))
      const { conversation } = this.#change(step.conversation, found ?? step.initial, step.change, found === null)
      return answerOf(result, snapshotOf(conversation))
    })
  }

  renew(operationIds: readonly OperationId[], expiresAtMs: number): Promise<void> {
    return this.#step(() => {
      for (const id of operationIds) this.#sql.renew.run(expiresAtMs, id, expiresAtMs)
    })
  }

  settle(step: SettleStep): Promise<SettleAnswer> {
    return this.#step(() => {
      const { settlement } = step
      const operation = this.#operation(settlement.operationId)
      const outcome = operation === null ? null : settled(operation, settlement)
      const drawn = step.alerts.draws.map((draw) => draw.account)
      const before = this.#conversation(step.conversation)
      if (operation === null || outcome === null) {
        const result: SettleResult = { status: operation === null ? 'unknown' : 'exists' }
        return { result, firedAlerts: [], snapshot: { conversation: before, accounts: this.#balances(drawn) } }
      }
      this.#book(outcome)
      for (const digest of step.chain) this.#sql.putChain.run(digest, step.conversation, this.#now())
      const accounts = this.#balances([...new Set([...operation.accounts, ...drawn])])
      const result: SettleResult = { status: outcome.corrects ? 'corrected' : 'settled', entries: outcome.entries }
      if (before === null) return { result, firedAlerts: [], snapshot: { conversation: null, accounts } }
      const addAlerts = reachedPercents(step.alerts, accounts)
      const { conversation, firedAlerts } = this.#change(step.conversation, before, { ...step.change, addAlerts: [...(step.change.addAlerts ?? []), ...addAlerts] }, false)
      return { result, firedAlerts, snapshot: { conversation, accounts } }
    })
  }

  void({ operationId }: { readonly operationId: OperationId; readonly atMs: number }): Promise<'voided' | 'exists' | 'unknown'> {
    return this.#step(() => {
      const operation = this.#operation(operationId)
      if (operation === null) return 'unknown'
      if (operation.state.status !== 'held') return 'exists'
      this.#book(voided(operation))
      return 'voided'
    })
  }

  update({ conversation, initial, change, nowMs }: { readonly conversation: ConversationId; readonly initial?: Conversation; readonly change: ConversationChange; readonly nowMs: number }): Promise<UpdateAnswer | null> {
    return this.#step(() => {
      const found = this.#alive(conversation, nowMs)
      const before = found ?? initial
      return before === undefined ? null : this.#change(conversation, before, change, found === null)
    })
  }

  charge(step: Parameters<BudgetStore['charge']>[0]): Promise<'charged' | 'exists'> {
    return this.#step(() => {
      if (this.#operation(step.operationId) !== null) return 'exists'
      this.#book(entered(step))
      const conversation = this.#conversation(step.conversation)
      if (conversation !== null) this.#change(step.conversation, conversation, step.change, false)
      return 'charged'
    })
  }

  sweep({ nowMs, limit }: { readonly nowMs: number; readonly limit: number }): Promise<{ readonly expired: readonly Operation[] }> {
    return this.#step(() => {
      const now = this.#now(nowMs)
      const expired = this.#sql.dueOperations.all(now, limit).map((row) => operationOf(row))
      for (const operation of expired) this.#book(charged(operation, now))
      this.#dropOutlived(now)
      this.#sql.putMeta.run('clock', now)
      return { expired }
    })
  }

  putContract(contract: Contract): Promise<void> {
    return this.#step(() => void this.#sql.putContract.run(contract.hash, JSON.stringify(contract)))
  }

  async getContract(hash: string): Promise<Contract | null> {
    return this.#guarded(() => {
      const body = this.#sql.getContract.get(hash)?.['body']
      return typeof body === 'string' ? (JSON.parse(body) as Contract) : null
    })
  }

  addOutcome({ key, tier, day, kind }: { readonly key: string; readonly tier: string; readonly day: string; readonly kind: OutcomeKind }): Promise<'added' | 'exists'> {
    return this.#step(() => (this.#sql.putOutcome.run(key, tier, day, kind).changes === 0 ? 'exists' : 'added'))
  }

  async readOutcomes({ tier, fromDay, toDay }: { readonly tier: string; readonly fromDay: string; readonly toDay: string }): Promise<OutcomeTotals> {
    return this.#guarded(() => {
      const counts = new Map(this.#sql.countOutcomes.all(tier, fromDay, toDay).map((row) => [row['kind'], Number(row['count'])]))
      const cost = this.#sql.tierCost.get(tier, fromDay, toDay)?.['cost']
      return { started: counts.get('started') ?? 0, confirmed: counts.get('confirmed') ?? 0, reversed: counts.get('reversed') ?? 0, cost: money(cost ?? 0) }
    })
  }

  async readLedger({ afterSequence, limit }: { readonly afterSequence: number; readonly limit: number }): Promise<readonly (LedgerEntry & { readonly sequence: number })[]> {
    return this.#guarded(() => this.#sql.readLedger.all(afterSequence, Math.min(limit, LEDGER_PAGE_MAX)).map((row) => entryOf(row)))
  }

  async listConversations({ limit, nowMs }: { readonly limit: number; readonly nowMs: number }): Promise<readonly Conversation[]> {
    return this.#guarded(() =>
      this.#sql.newestConversations.all(nowMs - CONVERSATION_LIFE_MS, limit).flatMap((row) => {
        const conversation = this.#conversation(String(row['id']))
        return conversation === null ? [] : [conversation]
      }),
    )
  }

  async close(): Promise<void> {
    if (!this.#isOpen) return
    this.#commit()
    this.#isOpen = false
    this.#database.close()
  }

  /** Runs a step now, in the transaction of this turn of the event loop; answers it when that is committed. */
  #step<T>(run: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      if (!this.#isOpen) return reject(new StoreError('closed', 'the store is closed'))
      let answer: T
      try {
        if (this.#waiting.length === 0) {
          this.#database.exec('BEGIN')
          setImmediate(() => this.#commit())
        }
        this.#waiting.push({ resolve: () => resolve(answer), reject })
        answer = run()
      } catch (error) {
        this.#abandon(storeError(error))
      }
    })
  }

  #commit(): void {
    if (this.#waiting.length === 0) return
    const waiting = this.#waiting
    try {
      this.#database.exec('COMMIT')
    } catch (error) {
      return this.#abandon(storeError(error))
    }
    this.#waiting = []
    for (const { resolve } of waiting) resolve()
  }

  /** Nothing of this turn happened: memory is read again from the file, and everyone is told. */
  #abandon(error: StoreError): void {
    const waiting = this.#waiting
    this.#waiting = []
    this.#accounts.clear()
    this.#conversations.clear()
    try {
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK')
    } catch {
      // the transaction is gone already, which is what was wanted
    }
    for (const { reject } of waiting) reject(error)
  }

  #guarded<T>(run: () => T): T {
    if (!this.#isOpen) throw new StoreError('closed', 'the store is closed')
    try {
      return run()
    } catch (error) {
      throw storeError(error)
    }
  }

  #now(nowMs = this.#nowMs()): number {
    if (nowMs > this.#clockMs) this.#clockMs = nowMs
    return this.#clockMs
  }

  /** Holds of an earlier run: their owner is dead, so the truth will not come. */
  #chargeAbandoned(): void {
    const now = this.#now()
    this.#database.exec('BEGIN')
    for (const row of this.#sql.heldOperations.all()) this.#book(charged(operationOf(row), now))
    this.#database.exec('COMMIT')
  }

  #book({ operation, delta, entries }: Outcome): void {
    this.#writeOperation(operation)
    this.#move(operation.accounts, delta)
    for (const entry of entries) this.#enter(entry)
  }

  #enter(entry: LedgerEntry): void {
    this.#sql.putEntry.run(entry.operationId, entry.kind, JSON.stringify(entry.accounts), entry.cost, entry.atMs, noteText(entry.note))
    const { tier }: EntryNote = entry.note
    if (tier !== undefined) this.#sql.addTierCost.run(tier, new Date(entry.atMs).toISOString().slice(0, 10), entry.cost)
  }

  #writeOperation({ id, accounts, hold, input, expiresAtMs, state, note }: Operation): void {
    if (state.status === 'held') this.#sql.putOperation.run(id, JSON.stringify(accounts), hold, input, expiresAtMs, 'held', 0n, noteText(note), this.#now())
    else if (hold === 0n && state.status === 'settled') {
      this.#sql.putOperation.run(id, JSON.stringify(accounts), hold, input, expiresAtMs, 'settled', state.cost, noteText(note), this.#now())
    } else this.#sql.endOperation.run(state.status, state.status === 'settled' ? state.cost : 0n, this.#now(), id)
  }

  #operation(id: OperationId): Operation | null {
    const row = this.#sql.getOperation.get(id)
    return row === undefined ? null : operationOf(row)
  }

  #move(ids: readonly AccountId[], delta: Account): void {
    for (const id of ids) {
      const account = added(this.#account(id), delta)
      this.#accounts.set(id, account)
      this.#sql.putAccount.run(id, account.spent, account.held, account.heldInput, this.#now())
    }
  }

  #account(id: AccountId): Account {
    const known = this.#accounts.get(id)
    if (known !== undefined) return known
    const row = this.#sql.getAccount.get(id)
    const account = row === undefined ? EMPTY_ACCOUNT : accountOf(row)
    this.#accounts.set(id, account)
    return account
  }

  #balances(ids: readonly AccountId[]): ReadonlyMap<AccountId, Account> {
    return new Map(ids.map((id) => [id, this.#account(id)]))
  }

  #alive(id: ConversationId, nowMs: number): Conversation | null {
    const conversation = this.#conversation(id)
    return conversation === null || nowMs - conversation.lastTurnAtMs > CONVERSATION_LIFE_MS ? null : conversation
  }

  #conversation(id: ConversationId): Conversation | null {
    const known = this.#conversations.get(id)
    if (known !== undefined) return known
    const state = this.#sql.getConversation.get(id)?.['state']
    if (typeof state !== 'string') return null
    const edits: Edit[] = []
    const ready: Edit[] = []
    for (const row of this.#sql.getEdits.all(id)) (row['ready'] === 0n || row['ready'] === 0 ? edits : ready).push(JSON.parse(String(row['body'])) as Edit)
    const conversation = conversationOf(state, edits, ready)
    this.#conversations.set(id, conversation)
    return conversation
  }

  #change(id: ConversationId, before: Conversation, change: ConversationChange, isNew: boolean): UpdateAnswer {
    if (isNew) this.#forget(id) // what outlived its life under this id is gone before it begins anew
    const changed = applyChange(before, change)
    const { conversation } = changed
    this.#conversations.set(id, conversation)
    this.#sql.putConversation.run(id, conversationText(conversation), conversation.lastTurnAtMs)
    if (isNew || conversation.edits !== before.edits) this.#writeEdits(id, isNew ? [] : before.edits, conversation.edits, 0)
    if (isNew || conversation.readyEdits !== before.readyEdits) this.#writeEdits(id, isNew ? [] : before.readyEdits, conversation.readyEdits, 1)
    return changed
  }

  /** Lists only grow at their end, or lose what moved to the other one, where the same id is written over. */
  #writeEdits(conversation: ConversationId, before: readonly Edit[], after: readonly Edit[], ready: 0 | 1): void {
    const known = new Set(before.map((edit) => edit.id))
    after.forEach((edit, position) => {
      if (!known.has(edit.id)) this.#sql.putEdit.run(conversation, position, edit.id, ready, JSON.stringify(edit))
    })
  }

  #forget(id: ConversationId): void {
    this.#sql.dropEdits.run(id)
    this.#sql.dropChain.run(id)
    this.#sql.dropConversation.run(id)
    this.#conversations.delete(id)
  }

  #dropOutlived(now: number): void {
    for (const row of this.#sql.oldConversations.all(now - CONVERSATION_LIFE_MS, DROPPED_MAX)) this.#forget(String(row['id']))
    this.#sql.dropOperations.run(now - ENDED_OPERATION_LIFE_MS, DROPPED_MAX)
    for (const row of this.#sql.oldAccounts.all(now - ACCOUNT_LIFE_MS, DROPPED_MAX)) {
      this.#sql.dropAccount.run(String(row['id']))
      this.#accounts.delete(String(row['id']))
    }
  }
}

function answerOf(result: ReserveResult, snapshot: Snapshot): ReserveAnswer {
  return { status: result.status, result, snapshot }
}

function hasMoved(found: Conversation, seen: { readonly contractHash: string; readonly user: string | null; readonly session: number }): boolean {
  return found.contractHash !== seen.contractHash || found.user !== seen.user || found.session !== seen.session
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

function openDatabase(file: string): DatabaseSync {
  let database: DatabaseSync | null = null
  try {
    database = new DatabaseSync(file)
    database.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -16000; BEGIN IMMEDIATE; COMMIT')
    const version = Number(database.prepare('PRAGMA user_version').get()?.['user_version'] ?? 0)
    if (version > TABLES_VERSION) throw new StoreError('corrupt', `${file} was written by a newer version`)
    database.exec(TABLES)
    database.exec(`PRAGMA user_version = ${TABLES_VERSION}`)
    return database
  } catch (error) {
    database?.close()
    const reason = error instanceof Error ? error.message : String(error)
    if (error instanceof StoreError) throw error
    if (/locked|busy/.test(reason)) throw new StoreError('away', `${file} is in use by another process`, error)
    throw new StoreError('corrupt', `${file} cannot be used as the books: ${reason}`, error)
  }
}

function storeError(error: unknown): StoreError {
  if (error instanceof StoreError) return error
  const reason = error instanceof Error ? error.message : String(error)
  return new StoreError(/malformed|corrupt|not a database/.test(reason) ? 'corrupt' : 'away', `the store failed: ${reason}`, error)
}

type Statements = ReturnType<typeof prepare>

function prepare(database: DatabaseSync) {
  const statement = (sql: string): StatementSync & { get(...values: unknown[]): Row | undefined } => {
    const prepared = database.prepare(sql)
    prepared.setReadBigInts(true)
    return prepared
  }
  return {
    readMeta: statement('SELECT value FROM meta WHERE name = ?'),
    putMeta: statement('INSERT OR REPLACE INTO meta VALUES (?, ?)'),
    getAccount: statement('SELECT spent, held, held_input FROM accounts WHERE id = ?'),
    putAccount: statement('INSERT OR REPLACE INTO accounts VALUES (?, ?, ?, ?, ?)'),
    oldAccounts: statement('SELECT id FROM accounts WHERE touched < ? AND held = 0 LIMIT ?'),
    dropAccount: statement('DELETE FROM accounts WHERE id = ?'),
    getOperation: statement('SELECT * FROM operations WHERE id = ?'),
    putOperation: statement('INSERT OR REPLACE INTO operations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)'),
    endOperation: statement('UPDATE operations SET status = ?, cost = ?, touched = ? WHERE id = ?'),
    renew: statement("UPDATE operations SET expires = ? WHERE id = ? AND status = 'held' AND expires < ?"),
    dueOperations: statement("SELECT * FROM operations WHERE status = 'held' AND expires <= ? ORDER BY expires, id LIMIT ?"),
    heldOperations: statement("SELECT * FROM operations WHERE status = 'held' ORDER BY expires, id"),
    dropOperations: statement("DELETE FROM operations WHERE id IN (SELECT id FROM operations WHERE status <> 'held' AND touched < ? LIMIT ?)"),
    putEntry: statement('INSERT INTO ledger (operation, kind, accounts, cost, at, note) VALUES (?, ?, ?, ?, ?, ?)'),
    readLedger: statement('SELECT * FROM ledger WHERE sequence > ? ORDER BY sequence LIMIT ?'),
    getConversation: statement('SELECT state FROM conversations WHERE id = ?'),
    putConversation: statement('INSERT OR REPLACE INTO conversations VALUES (?, ?, ?)'),
    newestConversations: statement('SELECT id FROM conversations WHERE last_turn >= ? ORDER BY last_turn DESC LIMIT ?'),
    oldConversations: statement('SELECT id FROM conversations WHERE last_turn < ? LIMIT ?'),
    dropConversation: statement('DELETE FROM conversations WHERE id = ?'),
    getEdits: statement('SELECT ready, body FROM edits WHERE conversation = ? ORDER BY position'),
    putEdit: statement('INSERT OR REPLACE INTO edits VALUES (?, ?, ?, ?, ?)'),
    dropEdits: statement('DELETE FROM edits WHERE conversation = ?'),
    findChain: statement('SELECT conversation FROM chain WHERE digest = ?'),
    putChain: statement('INSERT OR REPLACE INTO chain VALUES (?, ?, ?)'),
    dropChain: statement('DELETE FROM chain WHERE conversation = ?'),
    putContract: statement('INSERT OR REPLACE INTO contracts VALUES (?, ?)'),
    getContract: statement('SELECT body FROM contracts WHERE hash = ?'),
    putOutcome: statement('INSERT OR IGNORE INTO outcomes VALUES (?, ?, ?, ?)'),
    countOutcomes: statement('SELECT kind, count(*) AS count FROM outcomes WHERE tier = ? AND day BETWEEN ? AND ? GROUP BY kind'),
    addTierCost: statement('INSERT INTO tier_days VALUES (?, ?, ?) ON CONFLICT (tier, day) DO UPDATE SET cost = cost + excluded.cost'),
    tierCost: statement('SELECT sum(cost) AS cost FROM tier_days WHERE tier = ? AND day BETWEEN ? AND ?'),
  }
}
