/**
 * Brings what the journal has to the tables: many commits at once, of each row only its newest image, in one transaction
 * that also notes how far the tables are. Drops what outlived its life.
 */
import type { DatabaseSync } from 'node:sqlite'
import type { JournalRecord } from './journal.ts'
import { text, whole } from './rows.ts'
import type { Values } from './rows.ts'
import { allValues, firstValues, prepareWrites } from './statements.ts'
import type { WriteStatements } from './statements.ts'
import { indexedTerms } from './memory-index.ts'
import { CONVERSATION_LIFE_MS, COST_LIFE_MS, ENDED_OPERATION_LIFE_MS, MEMORY_ENTRIES_MAX, oldestDay } from './store.ts'
import { dayText } from '../core/utc-day.ts'

/** Rows looked at in one transaction while outlived ones are dropped: readers and the journal wait for none of it. */
const DROP_BATCH_ROWS = 500

export class TablesWriter {
  readonly #database: DatabaseSync
  readonly #sql: WriteStatements
  readonly #puts: ReadonlyMap<string, { readonly keyLength: number; readonly put: (values: Values) => void }>
  #applied: number
  /** Of the last commit whose end was applied; the pieces after it are in a transaction that is open until theirs is. */
  #committed: number

  constructor(database: DatabaseSync) {
    this.#database = database
    const sql = prepareWrites(database)
    this.#sql = sql
    this.#applied = whole(firstValues(sql.getMeta, 'applied')?.[0] ?? 0)
    this.#committed = this.#applied
    const put = (statement: WriteStatements['putAccount'], keyLength = 1) => ({
      keyLength,
      put: (values: Values): void => void statement.run(...values.map(column)),
    })
    this.#puts = new Map([
      ['accounts', put(sql.putAccount)],
      ['operations', put(sql.putOperation)],
      ['edits', put(sql.putEdit, 2)],
      ['conversations', put(sql.putConversation)],
      ['entries', put(sql.putEntry)],
      ['chain', put(sql.putChain)],
      ['tierDays', put(sql.putTierDay, 3)],
      ['tierUsers', put(sql.putTierUser, 3)],
      ['userDays', put(sql.putUserDay, 3)],
      ['memoryUsers', { keyLength: 1, put: (values) => this.#putMemoryUser(values) }],
      ['memory', { keyLength: 3, put: (values) => this.#putMemory(values) }],
      ['contracts', put(sql.putContract)],
      ['outcomes', put(sql.putOutcome)],
    ])
  }

  /** Up to which record the tables have everything. */
  get applied(): number {
    return this.#applied
  }

  /** What the store's clock showed at the last commit that the tables have. */
  get clockMs(): number {
    return whole(firstValues(this.#sql.getMeta, 'clock')?.[0] ?? 0)
  }

  /**
   * All of them, or none that is not committed yet. The pieces of a commit whose end is not among them are there for this writer alone,
   * until it is.
   */
  apply(records: readonly JournalRecord[]): void {
    const ended = 1 + records.findLastIndex(({ goesOn }) => goesOn === undefined)
    this.#applyAll(ended === records.length ? records : records.slice(0, ended))
    if (ended < records.length) this.#applyAll(records.slice(ended))
  }

  /** Takes back the pieces of a commit whose end has not come; whether there were any. */
  undoUnfinished(): boolean {
    if (this.#applied === this.#committed) return false
    this.#rollBack()
    return true
  }

  /** The last of them ends a commit, or none does. */
  #applyAll(records: readonly JournalRecord[]): void {
    const last = records.at(-1)
    if (last === undefined) return
    const newest = new Map<string, Map<string, Values>>()
    const forgotten = new Set<string>()
    const dropped = new Set<string>()
    const textless = new Set<string>()
    let clockMs = this.clockMs
    for (const record of records) {
      clockMs = Math.max(clockMs, record.clockMs)
      for (const [table, images] of record.rows) {
        if (table === FORGOTTEN) for (const [id] of images) this.#forget(text(id), newest, forgotten)
        else if (table === TEXTLESS) for (const [id] of images) forgetTexts(text(id), newest, textless)
        else if (table === DROPPED) for (const [sequence] of images) dropEntry(keyPart(sequence), newest, dropped)
        else keepNewest(newest, table, images, this.#puts.get(table)?.keyLength ?? 1)
      }
    }
    const write = (): void => {
      for (const id of forgotten) this.#dropConversation(id)
      for (const id of textless) this.#sql.dropTexts.run(id)
      for (const sequence of dropped) this.#sql.dropEntry.run(Number(sequence))
      for (const [table, { put }] of this.#puts) for (const values of newest.get(table)?.values() ?? []) put(values)
      for (const user of new Set([...(newest.get('memory')?.values() ?? [])].map(([user]) => text(user)))) this.#trimMemory(user, clockMs)
      this.#sql.putMeta.run('applied', last.sequence)
      this.#sql.putMeta.run('clock', clockMs)
    }
    this.#begun(write, last.goesOn === undefined)
    this.#applied = last.sequence
    if (last.goesOn === undefined) this.#committed = last.sequence
  }

  /** Brings all that the tables have to the disk itself; false while a reader is in the way. */
  checkpoint(): boolean {
    const values = firstValues(this.#sql.checkpoint)
    return values === null || (whole(values[0]) === 0 && whole(values[1]) === whole(values[2]))
  }

  /**
   * Drops rows that were last touched too long before `nowMs`, by the store's clock, and days that were over too long before `wallMs`,
   * by the wall clock, which they were named by (but for what expiries came to: those are dated by the store's); yields between
   * transactions.
   */
  *dropOutlived({ nowMs, wallMs }: DropTimes): Generator<void> {
    const walks: readonly Walk[] = [
      (after) => this.#walkOperations(after, nowMs),
      (after) => this.#walkAccounts(after, nowMs),
      (after) => this.#walkConversations(after, nowMs),
      (after) => this.#walkChain(after, nowMs),
      () => dropDays(this.#sql.dropTierDays, wallMs),
      () => dropDays(this.#sql.dropTierUsers, wallMs),
      () => dropDays(this.#sql.dropUserDays, wallMs),
      () => this.#dropMemories(allValues(this.#sql.outlivedMemory, nowMs, DROP_BATCH_ROWS)),
      () => dropDays(this.#sql.dropOutcomes, wallMs),
    ]
    for (const walk of walks) {
      let after: Place = null
      do {
        const from: Place = after
        after = this.#transaction(() => walk(from))
        yield
      } while (after !== null)
    }
  }

  #walkOperations(after: Place, nowMs: number): Place {
    let last: Place = null
    for (const [sequence, id, touched, status, isCost] of allValues(this.#sql.walkOperations, after ?? 0, DROP_BATCH_ROWS)) {
      last = whole(sequence)
      if (status === 'held') continue
      // Later rows began later, so that they are hardly older.
      if (whole(touched) >= nowMs - ENDED_OPERATION_LIFE_MS) return null
      if (isCost === 1 && whole(touched) >= nowMs - COST_LIFE_MS) continue
      this.#sql.dropOperation.run(text(id))
    }
    return last
  }

  #walkAccounts(after: Place, nowMs: number): Place {
    let last: Place = null
    for (const [id, touched, held] of allValues(this.#sql.walkAccounts, after ?? '', DROP_BATCH_ROWS)) {
      last = text(id)
      if (held === 0 && whole(touched) < nowMs - CONVERSATION_LIFE_MS) this.#sql.dropAccount.run(last)
    }
    return last
  }

  #walkConversations(after: Place, nowMs: number): Place {
    let last: Place = null
    for (const [sequence, id, touched] of allValues(this.#sql.walkConversations, after ?? 0, DROP_BATCH_ROWS)) {
      last = whole(sequence)
      if (whole(touched) < nowMs - CONVERSATION_LIFE_MS) this.#dropConversation(text(id))
    }
    return last
  }

  #walkChain(after: Place, nowMs: number): Place {
    let last: Place = null
    for (const [digest, touched] of allValues(this.#sql.walkChain, after ?? '', DROP_BATCH_ROWS)) {
      last = text(digest)
      if (whole(touched) < nowMs - CONVERSATION_LIFE_MS) this.#sql.dropChain.run(last)
    }
    return last
  }

  /** Of an earlier round all is forgotten. */
  #putMemoryUser([user, round]: Values): void {
    this.#sql.putMemoryUser.run(text(user), whole(round))
    this.#dropMemories(allValues(this.#sql.forgottenMemory, text(user), whole(round)))
  }

  #putMemory(values: Values): void {
    const [user, round, id, sequence] = values
    if (whole(round) < whole(firstValues(this.#sql.getMemoryUser, text(user))?.[1] ?? 0)) return
    this.#dropMemories(allValues(this.#sql.sameMemory, text(user), text(id)))
    const terms = indexedTerms(text(user), text(values.at(-1)))
    this.#sql.putMemory.run(...values.map(column), terms)
    this.#sql.putWords.run(whole(sequence), terms)
  }

  /** Who has too many entries loses the oldest. */
  #trimMemory(user: string, clockMs: number): void {
    this.#dropMemories(allValues(this.#sql.outlivedMemoryOf, user, clockMs))
    this.#dropMemories(allValues(this.#sql.oldMemoryOf, user, MEMORY_ENTRIES_MAX))
  }

  #dropMemories(listed: readonly Values[]): Place {
    for (const [sequence] of listed) {
      this.#sql.dropWords.run(whole(sequence))
      this.#sql.dropMemory.run(whole(sequence))
    }
    return listed.length === DROP_BATCH_ROWS ? DROP_BATCH_ROWS : null
  }

  /** What was written under this id before now is gone; what comes after it stays. */
  #forget(id: string, newest: Map<string, Map<string, Values>>, forgotten: Set<string>): void {
    forgotten.add(id)
    newest.get('conversations')?.delete(id)
    const edits = newest.get('edits')
    if (edits !== undefined) for (const [key, values] of edits) if (values[1] === id) edits.delete(key)
  }

  #dropConversation(id: string): void {
    this.#sql.dropEdits.run(id)
    this.#sql.dropConversation.run(id)
  }

  #transaction<T>(run: () => T): T {
    return this.#begun(run, true)
  }

  /** In the transaction that is open, or in a new one. */
  #begun<T>(run: () => T, ends: boolean): T {
    try {
      if (this.#applied === this.#committed) this.#sql.begin.run()
      const result = run()
      if (ends) this.#sql.commit.run()
      return result
    } catch (error) {
      this.#rollBack()
      throw error
    }
  }

  #rollBack(): void {
    if (this.#database.isTransaction) this.#database.exec('ROLLBACK')
    this.#applied = this.#committed
  }
}

export interface DropTimes {
  readonly nowMs: number
  readonly wallMs: number
}

/** Where a walk over a table is: the last key seen; null before its beginning and after its end. */
type Place = string | number | null
type Walk = (after: Place) => Place

/** A batch of rows of days whose totals are gone. */
function dropDays(statement: WriteStatements['dropTierDays'], wallMs: number): Place {
  const { changes } = statement.run(dayText(oldestDay(wallMs)), DROP_BATCH_ROWS)
  return Number(changes) === DROP_BATCH_ROWS ? DROP_BATCH_ROWS : null
}

/** Table name in a commit for conversations that begin anew: what is stored under their id goes first. */
export const FORGOTTEN = 'forgotten'

/** Table name in a commit for entries that are no more. One that comes after it in their place stays. */
export const DROPPED = 'dropped'

/** Table name in a commit for conversations whose edits lose what a user or a model wrote: `withoutTexts`. Edits that come after it stay. */
export const TEXTLESS = 'textless'

function forgetTexts(id: string, newest: Map<string, Map<string, Values>>, textless: Set<string>): void {
  textless.add(id)
  const edits = newest.get('edits')
  if (edits !== undefined) for (const [key, values] of edits) if (values[1] === id && !isNotice(values[4])) edits.delete(key)
}
function isNotice(edit: Values[number] | undefined): boolean {
  return typeof edit === 'object' && edit !== null && 'kind' in edit && edit.kind === 'notice'
}

function dropEntry(sequence: string, newest: Map<string, Map<string, Values>>, dropped: Set<string>): void {
  dropped.add(sequence)
  newest.get('entries')?.delete(sequence)
}

/** The key of a row is its first columns. */
function keepNewest(newest: Map<string, Map<string, Values>>, table: string, images: readonly Values[], keyLength: number): void {
  let rows = newest.get(table)
  if (rows === undefined) {
    rows = new Map()
    newest.set(table, rows)
  }
  for (const values of images)
    rows.set(keyLength === 1 ? keyPart(values[0]) : values.slice(0, keyLength).map(keyPart).join('\u0000'), values)
}

function keyPart(value: Values[number] | undefined): string {
  if (typeof value === 'string') return value
  if (typeof value === 'number') return String(value)
  throw new TypeError('a key is a text or a number')
}

/** Objects and lists are JSON in the tables. */
function column(value: Values[number]): string | number | null {
  return typeof value === 'object' && value !== null ? JSON.stringify(value) : value
}
