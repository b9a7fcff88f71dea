/**
 * The file of the embedded store: one SQLite database, owned by one process. A commit appends one row to the journal; the
 * rows themselves are written to their tables later, a few at a time, so that a turn costs little and nobody waits long.
 */
import type { DatabaseSync } from 'node:sqlite'
import type { Operation } from '../core/budget.ts'
import type { ConversationId } from '../core/conversation.ts'
import { openDatabase } from './database.ts'
import * as rows from './rows.ts'
import type { AccountRow, ChainRow, ConversationRow, EditRow, OperationRow, SequencedEntry, TierDayRow, Values } from './rows.ts'
import { Shelf } from './shelf.ts'
import { allValues, firstValues, prepareStatements } from './statements.ts'
import type { Statements } from './statements.ts'

const ACCOUNTS_CACHED = 20_000
const OPERATIONS_CACHED = 2_000
const CHAIN_CACHED = 20_000
const TIER_DAYS_CACHED = 1_000
const CONVERSATIONS_CACHED = 10_000
const CONVERSATION_BYTES_CACHED = 24 * 1024 * 1024
/** About what a conversation takes without its edits. */
const CONVERSATION_BYTES = 1_500

export class BooksFile {
  readonly accounts: Shelf<AccountRow>
  readonly operations: Shelf<OperationRow>
  readonly conversations: Shelf<ConversationRow>
  readonly edits: Shelf<EditRow>
  readonly entries: Shelf<SequencedEntry>
  readonly chain: Shelf<ChainRow>
  readonly tierDays: Shelf<TierDayRow>
  /** For what is rare enough to go to its table at once. Rows that wait on a shelf are not there yet: `flush` first. */
  readonly sql: Statements
  readonly #database: DatabaseSync
  readonly #shelves: readonly Pick<
    Shelf<never>,
    'name' | 'hasFresh' | 'waitingCount' | 'leavingCount' | 'freshValues' | 'committed' | 'leave' | 'write' | 'arrived' | 'clear'
  >[]
  readonly #writers: ReadonlyMap<string, (values: Values) => void>
  /** Of the journal: the newest row, the newest whose changes are on their way to the tables, and the newest that the tables have. */
  #sequence = 0
  #leavingSequence = 0
  #writtenSequence = 0
  #clockMs = 0
  #nextEntry = 1
  #nextEdit = 1

  /** Throws what `openDatabase` throws. `recover` comes before anything else. */
  constructor(path: string) {
    this.#database = openDatabase(path)
    const sql = prepareStatements(this.#database)
    this.sql = sql
    const writers = new Map<string, (values: Values) => void>()
    this.#writers = writers
    const first = <Row>(values: Values | null, row: (values: Values) => Row): Row | null => (values === null ? null : row(values))
    const writer = (name: string, statement: Statements['putAccount']): ((values: Values) => void) => {
      const write = (values: Values): void => void statement.run(...values)
      writers.set(name, write)
      return write
    }
    this.accounts = new Shelf({
      name: 'accounts',
      cached: ACCOUNTS_CACHED,
      load: (id) => first(firstValues(sql.getAccount, id), rows.accountRow),
      encode: rows.accountValues,
      write: writer('accounts', sql.putAccount),
    })
    this.operations = new Shelf({
      name: 'operations',
      cached: OPERATIONS_CACHED,
      load: (id) => first(firstValues(sql.getOperation, id), rows.operationRow),
      encode: rows.operationValues,
      write: writer('operations', sql.putOperation),
    })
    this.conversations = new Shelf({
      name: 'conversations',
      cached: CONVERSATIONS_CACHED,
      cachedBytes: { max: CONVERSATION_BYTES_CACHED, of: conversationBytes },
      // Whose edits wait waits itself, so that a conversation that is read has all its edits in the table.
      load: (id) =>
        first(firstValues(sql.getConversation, id), (values) =>
          rows.conversationRow(values, allValues(sql.getEdits, id).map(rows.editRow)),
        ),
      encode: rows.conversationValues,
      write: writer('conversations', sql.putConversation),
    })
    this.edits = new Shelf({ name: 'edits', cached: 0, load: () => null, encode: rows.editValues, write: writer('edits', sql.putEdit) })
    this.entries = new Shelf({
      name: 'entries',
      cached: 0,
      load: () => null,
      encode: rows.entryValues,
      write: writer('entries', sql.putEntry),
    })
    this.chain = new Shelf({
      name: 'chain',
      cached: CHAIN_CACHED,
      load: (digest) => first(firstValues(sql.getChain, digest), rows.chainRow),
      encode: rows.chainValues,
      write: writer('chain', sql.putChain),
    })
    this.tierDays = new Shelf({
      name: 'tierDays',
      cached: TIER_DAYS_CACHED,
      load: (key) => first(firstValues(sql.getTierDay, ...fromTierDayKey(key)), rows.tierDayRow),
      encode: rows.tierDayValues,
      write: writer('tierDays', sql.putTierDay),
    })
    // Edits before conversations: whose edits have not arrived has not arrived either.
    this.#shelves = [this.accounts, this.operations, this.edits, this.conversations, this.entries, this.chain, this.tierDays]
  }

  /** What the store's clock showed at the last commit. */
  get clockMs(): number {
    return this.#clockMs
  }
  /** How many commits there were, and up to which of them the tables have everything. */
  get sequence(): number {
    return this.#sequence
  }
  get writtenSequence(): number {
    return this.#writtenSequence
  }
  /** The next number of the ledger; each is given once. */
  nextEntry(): number {
    return this.#nextEntry++
  }
  nextEdit(): number {
    return this.#nextEdit++
  }

  /**
   * Forgets whatever was not committed, and brings the tables up to date with the journal: after a crash, or after a
   * commit that failed. Returns the operations that are held.
   */
  recover(): readonly Operation[] {
    for (const shelf of this.#shelves) shelf.clear()
    this.#clockMs = Math.max(this.#clockMs, rows.whole(firstValues(this.sql.getMeta, 'clock')?.[0] ?? 0))
    this.transaction(() => {
      for (const [body] of allValues(this.sql.readJournal)) {
        const record = JSON.parse(rows.text(body)) as JournalRecord
        this.#clockMs = Math.max(this.#clockMs, record.clockMs)
        for (const [name, images] of record.rows) for (const values of images) this.#writers.get(name)?.(values)
      }
      this.sql.dropJournal.run(Number.MAX_SAFE_INTEGER)
      this.sql.putMeta.run('clock', this.#clockMs)
    })
    this.#leavingSequence = this.#sequence
    this.#writtenSequence = this.#sequence
    this.#nextEntry = 1 + rows.whole(firstValues(this.sql.lastEntry)?.[0] ?? 0)
    this.#nextEdit = 1 + rows.whole(firstValues(this.sql.lastEdit)?.[0] ?? 0)
    return allValues(this.sql.heldOperations).map((values) => rows.operationRow(values).operation)
  }

  /** Makes everything that was changed survive this process. All or nothing. */
  commit(clockMs: number): void {
    const images: [string, Values[]][] = []
    for (const shelf of this.#shelves) if (shelf.hasFresh) images.push([shelf.name, shelf.freshValues()])
    if (images.length === 0) return
    const record: JournalRecord = { clockMs, rows: images }
    this.sql.putJournal.run(this.#sequence + 1, JSON.stringify(record))
    this.#sequence += 1
    this.#clockMs = clockMs
    for (const shelf of this.#shelves) shelf.committed()
  }

  /** Rows that have not reached their tables. */
  get unwritten(): number {
    return this.#shelves.reduce((sum, shelf) => sum + shelf.waitingCount + shelf.leavingCount, 0)
  }

  /** Writes about `limit` rows to their tables. Nothing may be fresh. */
  write(limit: number): void {
    if (this.#shelves.every((shelf) => shelf.leavingCount === 0)) {
      for (const shelf of this.#shelves) shelf.leave()
      this.#leavingSequence = this.#sequence
    }
    const written: (readonly string[])[] = []
    let isComplete = false
    this.transaction(() => {
      let left = limit
      for (const shelf of this.#shelves) {
        const keys = shelf.write(left)
        left -= keys.length
        written.push(keys)
      }
      isComplete = this.#shelves.every((shelf, index) => shelf.leavingCount === written[index]?.length)
      if (!isComplete) return
      this.sql.dropJournal.run(this.#leavingSequence)
      this.sql.putMeta.run('clock', this.#clockMs)
    })
    this.#shelves.forEach((shelf, index) => shelf.arrived(written[index] ?? []))
    if (isComplete) this.#writtenSequence = this.#leavingSequence
  }

  /** Brings the tables up to date, for queries over them. Nothing may be fresh. */
  flush(): void {
    while (this.unwritten > 0) this.write(Number.MAX_SAFE_INTEGER)
  }

  /** The conversation begins anew under its id: what the one before it left is gone. */
  dropConversation(id: ConversationId): void {
    this.flush()
    this.transaction(() => {
      this.sql.dropEdits.run(id)
      this.sql.dropConversation.run(id)
    })
    this.conversations.dropped(id)
  }

  transaction(run: () => void): void {
    this.sql.begin.run()
    try {
      run()
      this.sql.commit.run()
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK')
      throw error
    }
  }

  close(): void {
    this.#database.close()
  }
}

/** One commit: the new images of all rows that it changed, by shelf. */
interface JournalRecord {
  readonly clockMs: number
  readonly rows: readonly (readonly [string, readonly Values[]])[]
}

export function tierDayKey(tier: string, day: string): string {
  return `${day} ${tier}`
}
function fromTierDayKey(key: string): readonly [tier: string, day: string] {
  const space = key.indexOf(' ')
  return [key.slice(space + 1), key.slice(0, space)]
}

function conversationBytes({ conversation }: ConversationRow): number {
  let bytes = CONVERSATION_BYTES
  for (const edit of conversation.edits) bytes += 2 * edit.text.length
  for (const edit of conversation.readyEdits) bytes += 2 * edit.text.length
  return bytes
}
