/**
 * The file of the embedded store: one SQLite database, owned by one process, and its journal. A commit is appended to
 * the journal; the rows themselves reach their tables later, many commits at once, so that a turn costs little and nobody
 * waits for the disk.
 */
import { rmSync } from 'node:fs'
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import type { Operation } from '../core/budget.ts'
import type { ConversationId, UserId } from '../core/conversation.ts'
import type { SequencedEntry } from '../core/ledger.ts'
import { IN_MEMORY, openDatabase } from './database.ts'
import type { OwnedDatabase } from './database.ts'
import { Journal, journalParts, JournalReader } from './journal.ts'
import * as rows from './rows.ts'
import type {
  AccountRow,
  ChainRow,
  ConversationRow,
  EditRow,
  MemoryRow,
  MemoryUserRow,
  OperationRow,
  OutcomeRow,
  TierDay,
  TierDayRow,
  TierUserRow,
  UserDayRow,
  Values,
} from './rows.ts'
import { Shelf } from './shelf.ts'
import { allValues, firstValues, prepareReads } from './statements.ts'
import type { ReadStatements } from './statements.ts'
import { journalReader, keepInline, MemoryJournal, TablesThread } from './tables-keeper.ts'
import type { TablesKeeper } from './tables-keeper.ts'
import { DROPPED, FORGOTTEN, TablesWriter, TEXTLESS } from './tables-writer.ts'
import type { DropTimes } from './tables-writer.ts'

const ACCOUNTS_CACHED = 5_000
const CHAIN_CACHED = 5_000
const TIER_DAYS_CACHED = 2_000
const TIER_USERS_CACHED = 5_000
const USER_DAYS_CACHED = 5_000
const MEMORY_USERS_CACHED = 5_000
const CONTRACTS_CACHED = 200
const OUTCOMES_CACHED = 200
const CONVERSATIONS_CACHED = 3_000
const CONVERSATION_BYTES_CACHED = 24 * 1024 * 1024
/** About what a conversation takes without its edits. */
const CONVERSATION_BYTES = 1_500

type AnyShelf = Pick<
  Shelf<never>,
  'name' | 'hasFresh' | 'hasLeaving' | 'unwritten' | 'freshValues' | 'committed' | 'leave' | 'arrived' | 'clear'
>

export class BooksFile {
  readonly accounts: Shelf<AccountRow>
  readonly operations: Shelf<OperationRow>
  readonly conversations: Shelf<ConversationRow>
  readonly edits: Shelf<EditRow>
  readonly entries: Shelf<SequencedEntry>
  readonly chain: Shelf<ChainRow>
  readonly tierDays: Shelf<TierDayRow>
  readonly tierUsers: Shelf<TierUserRow>
  readonly userDays: Shelf<UserDayRow>
  readonly memoryUsers: Shelf<MemoryUserRow>
  readonly memory: Shelf<MemoryRow>
  readonly contracts: Shelf<Contract>
  readonly outcomes: Shelf<OutcomeRow>
  /** For queries over the tables. Rows that wait on a shelf are not there yet: `write` first. */
  readonly sql: ReadStatements
  readonly #owned: OwnedDatabase
  readonly #journal: Journal | MemoryJournal
  readonly #keeper: TablesKeeper
  readonly #forgotten = new Shelf<object>({ name: FORGOTTEN, cached: 0, load: () => null, encode: (_row, id) => [id] })
  readonly #textless = new Shelf<object>({ name: TEXTLESS, cached: 0, load: () => null, encode: (_row, id) => [id] })
  readonly #dropped = new Shelf<object>({ name: DROPPED, cached: 0, load: () => null, encode: (_row, sequence) => [Number(sequence)] })
  readonly #shelves: readonly AnyShelf[]
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
      const first = <Row>(values: Values | null, row: (values: Values) => Row): Row | null => (values === null ? null : row(values))
      this.accounts = new Shelf({
        name: 'accounts',
        cached: ACCOUNTS_CACHED,
        load: (id) => first(firstValues(sql.getAccount, id), rows.accountRow),
        encode: rows.accountValues,
      })
      this.operations = new Shelf({
        name: 'operations',
        cached: 0, // those that are held are known; the others are hardly asked for
        load: (id) => first(firstValues(sql.getOperation, id), rows.operationRow),
        encode: rows.operationValues,
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
      })
      this.edits = new Shelf({ name: 'edits', cached: 0, load: () => null, encode: rows.editValues })
      this.entries = new Shelf({ name: 'entries', cached: 0, load: () => null, encode: rows.entryValues })
      this.chain = new Shelf({
        name: 'chain',
        cached: CHAIN_CACHED,
        load: (digest) => first(firstValues(sql.getChain, digest), rows.chainRow),
        encode: rows.chainValues,
      })
      this.tierDays = new Shelf({
        name: 'tierDays',
        cached: TIER_DAYS_CACHED,
        load: (key) => first(firstValues(sql.getTierDay, ...fromTierKey(key)), rows.tierDayRow),
        encode: rows.tierDayValues,
      })
      this.tierUsers = new Shelf({
        name: 'tierUsers',
        cached: TIER_USERS_CACHED,
        load: (key) => first(firstValues(sql.getTierUser, ...fromTierKey(key)), rows.tierUserRow),
        encode: rows.tierUserValues,
      })
      this.userDays = new Shelf({
        name: 'userDays',
        cached: USER_DAYS_CACHED,
        load: (key) => first(firstValues(sql.getUserDay, ...fromTierKey(key)), rows.userDayRow),
        encode: rows.userDayValues,
      })
      this.memoryUsers = new Shelf({
        name: 'memoryUsers',
        cached: MEMORY_USERS_CACHED,
        load: (user) => first(firstValues(sql.getMemoryUser, user), rows.memoryUserRow),
        encode: rows.memoryUserValues,
      })
      this.memory = new Shelf({
        name: 'memory',
        cached: 0, // each is hardly asked for again
        load: (key) => first(firstValues(sql.getMemory, ...fromMemoryKey(key)), rows.memoryRow),
        encode: rows.memoryValues,
      })
      this.contracts = new Shelf({
        name: 'contracts',
        cached: CONTRACTS_CACHED,
        load: (hash) => first(firstValues(sql.getContract, hash), rows.contractRow),
        encode: rows.contractValues,
      })
      this.outcomes = new Shelf({
        name: 'outcomes',
        cached: OUTCOMES_CACHED,
        load: (key) => first(firstValues(sql.getOutcome, key), rows.outcomeRow),
        encode: rows.outcomeValues,
      })
      this.#shelves = [
        this.#forgotten,
        this.#textless,
        this.#dropped,
        this.accounts,
        this.operations,
        this.edits,
        this.conversations,
        this.entries,
        this.chain,
        this.tierDays,
        this.tierUsers,
        this.userDays,
        this.memoryUsers,
        this.memory,
        this.contracts,
        this.outcomes,
      ]
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
    return this.#shelves.reduce((sum, shelf) => sum + shelf.unwritten, 0)
  }

  /** The operations that are held, by the tables. */
  held(): readonly Operation[] {
    return allValues(this.sql.heldOperations).map((values) => rows.operationRow(values).operation)
  }

  /** Makes everything that was changed survive this process. All or nothing. */
  commit(clockMs: number): void {
    const changed: [string, Values[]][] = []
    for (const shelf of this.#shelves) if (shelf.hasFresh) changed.push([shelf.name, shelf.freshValues()])
    if (changed.length === 0) return
    this.#sequence = this.#journal.append({ sequence: this.#sequence + 1, clockMs, rows: changed })
    this.#clockMs = clockMs
    for (const shelf of this.#shelves) if (shelf.hasFresh) shelf.committed()
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
    for (const shelf of this.#shelves) shelf.clear()
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

  /** The conversation, for whoever looks at many: it need not have its edits, and is not remembered for it. */
  listed(id: ConversationId): ConversationRow | null {
    return this.conversations.glimpse(id, () => {
      const values = firstValues(this.sql.getConversation, id)
      return values === null ? null : rows.conversationRow(values, [])
    })
  }

  /** The edits of the conversation lose what a user or a model wrote. */
  forgetTexts(id: ConversationId): void {
    this.edits.withdraw((row) => row.conversation === id && row.edit.kind !== 'notice')
    this.#textless.set(id, {})
  }

  /** Conversations of a user, as the tables and what has not reached them know them. */
  conversationsOf(user: UserId): ReadonlySet<ConversationId> {
    const ids = new Set(allValues(this.sql.conversationsOfUser, user).map(([id]) => rows.text(id)))
    for (const { conversation } of this.conversations.unwrittenRows()) if (conversation.user === user) ids.add(conversation.id)
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

  async #writeAll(): Promise<void> {
    // What left before and did not arrive goes again: the keeper knows how far it came.
    if (!this.#shelves.some((shelf) => shelf.hasLeaving)) for (const shelf of this.#shelves) shelf.leave()
    const upTo = this.#sequence
    await this.#keeper.write(upTo)
    for (const shelf of this.#shelves) shelf.arrived()
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

/** The key of a row of a tier's day: `item` is the name of a sum, or a user. */
export function tierKey({ tier, day }: TierDay, item: string): string {
  return `${day}\u0000${tier}\u0000${item}`
}
function fromTierKey(key: string): readonly string[] {
  return key.split('\u0000')
}

export function memoryKey(user: UserId, round: number, id: string): string {
  return `${user}\u0000${round}\u0000${id}`
}
function fromMemoryKey(key: string): readonly [user: string, round: number, id: string] {
  const [user = '', round, id = ''] = key.split('\u0000')
  return [user, Number(round), id]
}

function conversationBytes({ conversation }: ConversationRow): number {
  let bytes = CONVERSATION_BYTES
  for (const edit of conversation.edits) bytes += 2 * edit.text.length
  for (const edit of conversation.readyEdits) bytes += 2 * edit.text.length
  return bytes
}
