/**
 * The shelves of the embedded store's books: for each table what is kept of it in memory, and how its rows are read and written. They
 * are in the order in which a commit has them.
 */
import type { UserId } from '../core/conversation.ts'
import type { SequencedEntry } from '../core/ledger.ts'
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
import { allValues, firstValues } from './statements.ts'
import type { ReadStatements } from './statements.ts'

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

export type Shelves = ReturnType<typeof openShelves>

/** Empty shelves, which look a row up in its table by `sql` when they have to. */
export function openShelves(sql: ReadStatements) {
  return {
    accounts: new Shelf<AccountRow>({
      name: 'accounts',
      cached: ACCOUNTS_CACHED,
      load: (id) => first(firstValues(sql.getAccount, id), rows.accountRow),
      encode: rows.accountValues,
    }),
    operations: new Shelf<OperationRow>({
      name: 'operations',
      cached: 0, // those that are held are known; the others are hardly asked for
      load: (id) => first(firstValues(sql.getOperation, id), rows.operationRow),
      encode: rows.operationValues,
    }),
    edits: new Shelf<EditRow>({ name: 'edits', cached: 0, load: () => null, encode: rows.editValues }),
    conversations: new Shelf<ConversationRow>({
      name: 'conversations',
      cached: CONVERSATIONS_CACHED,
      cachedBytes: { max: CONVERSATION_BYTES_CACHED, of: conversationBytes },
      // Whose edits wait waits itself, so that a conversation that is read has all its edits in the table.
      load: (id) =>
        first(firstValues(sql.getConversation, id), (values) =>
          rows.conversationRow(values, allValues(sql.getEdits, id).map(rows.editRow)),
        ),
      encode: rows.conversationValues,
    }),
    entries: new Shelf<SequencedEntry>({ name: 'entries', cached: 0, load: () => null, encode: rows.entryValues }),
    chain: new Shelf<ChainRow>({
      name: 'chain',
      cached: CHAIN_CACHED,
      load: (digest) => first(firstValues(sql.getChain, digest), rows.chainRow),
      encode: rows.chainValues,
    }),
    tierDays: new Shelf<TierDayRow>({
      name: 'tierDays',
      cached: TIER_DAYS_CACHED,
      load: (key) => first(firstValues(sql.getTierDay, ...fromTierKey(key)), rows.tierDayRow),
      encode: rows.tierDayValues,
    }),
    tierUsers: new Shelf<TierUserRow>({
      name: 'tierUsers',
      cached: TIER_USERS_CACHED,
      load: (key) => first(firstValues(sql.getTierUser, ...fromTierKey(key)), rows.tierUserRow),
      encode: rows.tierUserValues,
    }),
    userDays: new Shelf<UserDayRow>({
      name: 'userDays',
      cached: USER_DAYS_CACHED,
      load: (key) => first(firstValues(sql.getUserDay, ...fromTierKey(key)), rows.userDayRow),
      encode: rows.userDayValues,
    }),
    memoryUsers: new Shelf<MemoryUserRow>({
      name: 'memoryUsers',
      cached: MEMORY_USERS_CACHED,
      load: (user) => first(firstValues(sql.getMemoryUser, user), rows.memoryUserRow),
      encode: rows.memoryUserValues,
    }),
    memory: new Shelf<MemoryRow>({
      name: 'memory',
      cached: 0, // each is hardly asked for again
      load: (key) => first(firstValues(sql.getMemory, ...fromMemoryKey(key)), rows.memoryRow),
      encode: rows.memoryValues,
    }),
    contracts: new Shelf<object>({
      name: 'contracts',
      cached: CONTRACTS_CACHED,
      load: (hash) => first(firstValues(sql.getContract, hash), rows.contractRow),
      encode: rows.contractValues,
    }),
    outcomes: new Shelf<OutcomeRow>({
      name: 'outcomes',
      cached: OUTCOMES_CACHED,
      load: (key) => first(firstValues(sql.getOutcome, key), rows.outcomeRow),
      encode: rows.outcomeValues,
    }),
  }
}

function first<Row>(values: Values | null, row: (values: Values) => Row): Row | null {
  return values === null ? null : row(values)
}

/** The key of a row of a tier's day: `item` is the name of a sum, or a user. */
export function tierKey({ tier, day }: TierDay, item: string): string {
  return `${day}\u0000${tier}\u0000${item}`
}
function fromTierKey(key: string): readonly string[] {
  return key.split('\u0000')
}

/** The key of an entry of a user's memory, in its round: forgetting begins the next one. */
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
