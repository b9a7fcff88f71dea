/**
 * The file of the embedded store: one SQLite database, owned by one process, and its journal. A commit is appended to
 * the journal; the rows themselves reach their tables later, many commits at once, so that a turn costs little and nobody
 * waits for the disk.
 */
import { rmSync } from 'node:fs'
import type { AccountId, Operation } from '../core/budget.ts'
import type { ConversationId, UserId } from '../core/conversation.ts'
import type { SequencedEntry } from '../core/ledger.ts'
import { IN_MEMORY, openDatabase } from './database.ts'
import type { OwnedDatabase } from './database.ts'
import { Journal, journalParts, JournalReader } from './journal.ts'
import type { JournalRecord } from './journal.ts'
import * as rows from './rows.ts'
import type { ConversationRow, Values } from './rows.ts'
import { Shelf } from './shelf.ts'
import { openShelves } from './shelves.ts'
import type { Shelves } from './shelves.ts'
import { allValues, firstValues, prepareReads } from './statements.ts'
import type { ReadStatements } from './statements.ts'
import { journalReader, keepInline, MemoryJournal, TablesThread } from './tables-keeper.ts'
import type { TablesKeeper } from './tables-keeper.ts'
import { DROPPED, FORGOTTEN, TablesWriter, TEXTLESS } from './tables-writer.ts'
import type { DropTimes } from './tables-writer.ts'

type AnyShelf = Pick<
  Shelf<never>,
  'name' | 'hasFresh' | 'hasLeaving' | 'unwritten' | 'freshValues' | 'committed' | 'leave' | 'arrived' | 'clear'
>

/**
 * What is set on its shelves, and what it is told to forget, is committed together or not at all. It owns the database, the journal and
 * whoever writes the tables, and closes them with itself. Methods throw, or reject with, what SQLite and the file system do.
 */
export class BooksFile {
  readonly shelves: Shelves
  /** For queries over the tables. Rows that wait on a shelf are not there yet: `write` first. */
  readonly sql: ReadStatements
  readonly #owned: OwnedDatabase
  readonly #journal: Journal | MemoryJournal
  readonly #keeper: TablesKeeper
  readonly #forgotten = new Shelf<object>({ name: FORGOTTEN, cached: 0, load: () => null, encode: (_row, id) => [id] })
  readonly #textless = new Shelf<object>({ name: TEXTLESS, cached: 0, load: () => null, encode: (_row, id) => [id] })
  readonly #dropped = new Shelf<object>({ name: DROPPED, cached: 0, load: () => null, encode: (_row, sequence) => [Number(sequence)] })
  /** In the order in which a commit has them: what is gone first. */
  readonly #allShelves: readonly AnyShelf[]
  /** Of the last record of the newest commit. */
  #sequence: number
  /** Up to which commit all rows have arrived in their tables. */
  #writtenSequence: number
  #writing: Promise<void> | null = null
  #clockMs: number
  #nextEntry = 1
  #nextEdit = 1
  #nextMemory = 1

  /** Brings the tables up to date with what an earlier run left in the journal. Throws what `openDatabase` throws. */
  constructor(path: string, writer: 'thread' | 'inline') {
    this.#owned = openDatabase(path)
    try {
      const { database } = this.#owned
      const sql = prepareReads(database)
      this.sql = sql
      const tables = new TablesWriter(database)
      if (path !== IN_MEMORY) catchUp(path, tables)
      this.#sequence = tables.applied
      this.#writtenSequence = tables.applied
      this.#clockMs = tables.clockMs
      if (path === IN_MEMORY) {
        const memory = new MemoryJournal()
        this.#journal = memory
        this.#keeper = keepInline(tables, () => memory)
      } else {
        this.#journal = new Journal(path)
        this.#keeper = writer === 'thread' ? new TablesThread(path) : keepInline(tables, () => journalReader(path, tables))
      }
      this.shelves = openShelves(sql)
      this.#allShelves = [this.#forgotten, this.#textless, this.#dropped, ...Object.values(this.shelves)]
      this.#countOn()
    } catch (error) {
      this.#owned.close()
      throw error
    }
  }

  /** What the store's clock showed at the last commit. */
  get clockMs(): number {
    return this.#clockMs
  }
  /** The next number of the ledger; each is given once. */
  nextEntry(): number {
    return this.#nextEntry++
  }
  nextEdit(): number {
    return this.#nextEdit++
  }
  nextMemory(): number {
    return this.#nextMemory++
  }
  /** Rows that have not reached their tables. */
  get unwritten(): number {
    return this.#allShelves.reduce((sum, shelf) => sum + shelf.unwritten, 0)
  }

  /** The operations that are held, by the tables. */
  held(): readonly Operation[] {
    return allValues(this.sql.heldOperations).map((values) => rows.operationRow(values).operation)
  }

  /** Makes everything that was changed survive this process. All or nothing. False: nothing was changed, and nothing is written. */
  commit(clockMs: number): boolean {
    const changed: [string, Values[]][] = []
    for (const shelf of this.#allShelves) if (shelf.hasFresh) changed.push([shelf.name, shelf.freshValues()])
    if (changed.length === 0) return false
    this.#append(clockMs, changed)
    for (const shelf of this.#allShelves) if (shelf.hasFresh) shelf.committed()
    return true
  }

  /** Commits nothing, as what is something would be. Throws as `commit` would, also where there is hardly any room left. */
  tryCommit(clockMs: number): void {
    this.#journal.assertRoom()
    this.#append(clockMs, [])
  }

  /** Brings all that is committed by now to the tables. */
  async write(): Promise<void> {
    const target = this.#sequence
    while (this.#writtenSequence < target) {
      this.#writing ??= this.#writeAll().finally(() => {
        this.#writing = null
      })
      await this.#writing // rejects for all who wait for it
    }
  }

  dropOutlived(times: DropTimes): Promise<void> {
    return this.#keeper.dropOutlived(this.#sequence, times)
  }

  /** Forgets whatever was not committed: after a commit that failed. */
  async recover(): Promise<void> {
    while (this.#writing !== null) await this.#writing
    await this.#keeper.write(this.#sequence)
    for (const shelf of this.#allShelves) shelf.clear()
    this.#writtenSequence = this.#sequence
    this.#countOn()
  }

  /** The conversation begins anew under its id: what the one before it left is gone. */
  forget(id: ConversationId): void {
    this.#forgotten.set(id, {})
  }

  /** The oldest entries after this one; never the newest of all. By the tables: `write` first. */
  oldestEntries(afterSequence: number, limit: number): readonly SequencedEntry[] {
    return allValues(this.sql.oldestEntries, afterSequence, limit).map((values) => rows.entryRow(values))
  }

  /** What was carried last, before this entry, for all of these accounts together. By the tables: `write` first. */
  lastCarried(accounts: readonly AccountId[], beforeSequence: number): SequencedEntry | null {
    const values = firstValues(this.sql.lastCarried, JSON.stringify(accounts), beforeSequence)
    return values === null ? null : rows.entryRow(values)
  }

  /** The conversation, for whoever looks at many: it need not have its edits, and is not remembered for it. */
  listed(id: ConversationId): ConversationRow | null {
    return this.shelves.conversations.glimpse(id, () => {
      const values = firstValues(this.sql.getConversation, id)
      return values === null ? null : rows.conversationRow(values, [])
    })
  }

  /** The edits of the conversation lose what a user or a model wrote. */
  forgetTexts(id: ConversationId): void {
    this.shelves.edits.withdraw((row) => row.conversation === id && row.edit.kind !== 'notice')
    this.#textless.set(id, {})
  }

  /** Conversations of a user, as the tables and what has not reached them know them. */
  conversationsOf(user: UserId): ReadonlySet<ConversationId> {
    const ids = new Set(allValues(this.sql.conversationsOfUser, user).map(([id]) => rows.text(id)))
    for (const { conversation } of this.shelves.conversations.unwrittenRows()) if (conversation.user === user) ids.add(conversation.id)
    return ids
  }

  /** What was forgotten is in the journal no longer than until the next commits are in the tables. */
  beginJournalAnew(): void {
    this.#journal.beginAnew()
  }

  dropEntry(sequence: number): void {
    this.#dropped.set(String(sequence), {})
  }

  async close(): Promise<void> {
    try {
      await this.#keeper.close()
    } finally {
      this.#journal.close()
      this.#owned.close()
    }
  }

  #append(clockMs: number, changed: JournalRecord['rows']): void {
    this.#sequence = this.#journal.append({ sequence: this.#sequence + 1, clockMs, rows: changed })
    this.#clockMs = clockMs
  }

  async #writeAll(): Promise<void> {
    // What left before and did not arrive goes again: the keeper knows how far it came.
    if (!this.#allShelves.some((shelf) => shelf.hasLeaving)) for (const shelf of this.#allShelves) shelf.leave()
    const upTo = this.#sequence
    await this.#keeper.write(upTo)
    for (const shelf of this.#allShelves) shelf.arrived()
    this.#writtenSequence = upTo
  }

  #countOn(): void {
    this.#nextEntry = 1 + rows.whole(firstValues(this.sql.lastEntry)?.[0] ?? 0)
    this.#nextEdit = 1 + rows.whole(firstValues(this.sql.lastEdit)?.[0] ?? 0)
    this.#nextMemory = 1 + rows.whole(firstValues(this.sql.lastMemory)?.[0] ?? 0)
  }
}

/** Plays what an earlier run left in the journal over the tables; then the journal begins anew. */
function catchUp(path: string, tables: TablesWriter): void {
  let before: number
  do {
    before = tables.applied
    playOver(path, tables)
    // Behind a commit that was cut short there may be a part of a later run, which begins in its place.
  } while (tables.undoUnfinished() && tables.applied > before)
  if (tables.checkpoint()) for (const part of journalParts(path)) rmSync(part.path)
}

function playOver(path: string, tables: TablesWriter): void {
  const reader = new JournalReader(path, tables.applied)
  try {
    for (;;) {
      const records = reader.readTo(tables.applied + CAUGHT_UP_AT_ONCE, CAUGHT_UP_BYTES)
      if (records.length === 0) break
      tables.apply(records)
    }
  } finally {
    reader.close()
  }
}

/** Records of an earlier run that are read into memory at a time. */
const CAUGHT_UP_AT_ONCE = 2_000
const CAUGHT_UP_BYTES = 8 * 1024 * 1024
