/** The SQL of the embedded store, prepared once. Rows come as arrays, in the order of their columns. */
import type { DatabaseSync, StatementSync } from 'node:sqlite'
import type { Values } from './rows.ts'
import { LONE, NOT_LONE, stateField } from './tables.ts'

export type ReadStatements = ReturnType<typeof prepareReads>
export type WriteStatements = ReturnType<typeof prepareWrites>

const ACCOUNT = 'id, spent, held, held_input, touched, tier, day'
const OPERATION = 'id, accounts, hold, input, expires, status, cost, note, touched'
const USER_DAY = 'day, tier, user, spent'
const MEMORY = 'user, round, id, sequence, conversation, session, at, role, expires, text'
const ENTRY = 'sequence, operation, kind, accounts, cost, at, note'

export function prepareReads(database: DatabaseSync) {
  const statement = preparing(database)
  return {
    getAccount: statement(`SELECT ${ACCOUNT} FROM accounts WHERE id = ?`),
    listAccounts: statement('SELECT id FROM accounts WHERE id > ? ORDER BY id LIMIT ?'),
    getOperation: statement(`SELECT ${OPERATION} FROM operations WHERE id = ?`),
    heldOperations: statement(`SELECT ${OPERATION} FROM operations WHERE status = 'held' ORDER BY id`),
    readEntries: statement(`SELECT ${ENTRY} FROM ledger WHERE sequence > ? ORDER BY sequence LIMIT ?`),
    // The newest entry stays, so that numbers go on from it.
    oldestEntries: statement(
      `SELECT ${ENTRY} FROM ledger WHERE sequence > ? AND sequence < (SELECT max(sequence) FROM ledger) ORDER BY sequence LIMIT ?`,
    ),
    lastCarried: statement(
      `SELECT ${ENTRY} FROM ledger WHERE kind = 'carried' AND accounts = ? AND sequence < ? ORDER BY sequence DESC LIMIT 1`,
    ),
    lastEntry: statement('SELECT max(sequence) FROM ledger'),
    getConversation: statement('SELECT id, state, last_turn, touched FROM conversations WHERE id = ?'),
    newestConversations: statement(`SELECT id FROM conversations WHERE ${NOT_LONE} AND touched >= ? ORDER BY last_turn DESC, id LIMIT ?`),
    // The planner would look them up by id, and sort them all.
    newestLoneCalls: statement(
      `SELECT id FROM conversations INDEXED BY conversations_lone WHERE ${LONE} AND touched >= ? ORDER BY last_turn DESC, id LIMIT ?`,
    ),
    quietConversations: statement(
      `SELECT id, last_turn FROM conversations
       WHERE ${stateField('tier')} = ? AND ${stateField('resolution')} IN ('none', 'reversed') AND last_turn < ? AND touched >= ?
         AND ${stateField('turns')} > 0 AND ${stateField('state')} = 'open' AND (${stateField('resolution')} = 'none' OR last_turn > ${stateField('resolvedAtMs')})
         AND ${NOT_LONE}
       ORDER BY last_turn, id LIMIT ?`,
    ),
    conversationsOfUser: statement(`SELECT id FROM conversations WHERE ${stateField('user')} = ?`),
    getEdits: statement('SELECT sequence, conversation, id, ready, body FROM edits WHERE conversation = ? ORDER BY sequence'),
    lastEdit: statement('SELECT max(sequence) FROM edits'),
    getChain: statement('SELECT digest, conversation, touched FROM chain WHERE digest = ?'),
    getContract: statement('SELECT hash, body FROM contracts WHERE hash = ?'),
    getOutcome: statement('SELECT key, tier, day, kind FROM outcomes WHERE key = ?'),
    countOutcomes: statement(
      `SELECT kind, count(*), max(key) FROM (SELECT key, kind FROM outcomes WHERE day = ? AND tier = ? AND key > ? ORDER BY key LIMIT ?)
       GROUP BY kind`,
    ),
    getTierDay: statement('SELECT day, tier, name, sum FROM tier_days WHERE day = ? AND tier = ? AND name = ?'),
    getTierDays: statement('SELECT day, tier, name, sum FROM tier_days WHERE tier = ? AND day BETWEEN ? AND ?'),
    getTierUser: statement('SELECT day, tier, user FROM tier_users WHERE day = ? AND tier = ? AND user = ?'),
    // The days are a list in JSON. So many users of the day with most of them are before the edge; NULL: all that are left.
    nextUsersEdge: statement(
      `SELECT min(edge) FROM (
         SELECT (SELECT user FROM tier_users WHERE day = days.value AND tier = ? AND user > ? ORDER BY user LIMIT 1 OFFSET ?) AS edge
         FROM json_each(?) AS days)`,
    ),
    countUsersTo: statement(
      `SELECT count(DISTINCT user) FROM tier_users WHERE day IN (SELECT value FROM json_each(?)) AND tier = ? AND user > ? AND user <= ?`,
    ),
    countUsersAfter: statement(
      `SELECT count(DISTINCT user) FROM tier_users WHERE day IN (SELECT value FROM json_each(?)) AND tier = ? AND user > ?`,
    ),
    getUserDay: statement(`SELECT ${USER_DAY} FROM user_days WHERE day = ? AND tier = ? AND user = ?`),
    walkUserDays: statement(`SELECT ${USER_DAY} FROM user_days WHERE day = ? AND tier = ? AND user > ? ORDER BY user LIMIT ?`),

    getMemoryUser: statement('SELECT user, round FROM memory_users WHERE user = ?'),
    getMemory: statement(`SELECT ${MEMORY} FROM memory WHERE user = ? AND round = ? AND id = ?`),
    getMemoryAt: statement(`SELECT ${MEMORY} FROM memory WHERE sequence = ? AND user = ? AND round = ? AND expires > ?`),
    memoryIds: statement('SELECT id FROM memory WHERE user = ? AND round = ? AND expires > ?'),
    memoryTalks: statement('SELECT id, conversation FROM memory WHERE user = ? AND round = ? AND expires > ?'),
    newestMemory: statement(
      `SELECT ${MEMORY} FROM memory WHERE user = ? AND round = ? AND expires > ? AND (at, id) < (?, ?) ORDER BY at DESC, id DESC LIMIT ?`,
    ),
    findMemory: statement('SELECT rowid FROM memory_words WHERE memory_words MATCH ?'),
    lastMemory: statement('SELECT max(sequence) FROM memory'),
  }
}

export function prepareWrites(database: DatabaseSync) {
  const statement = preparing(database)
  return {
    begin: statement('BEGIN IMMEDIATE'),
    commit: statement('COMMIT'),
    checkpoint: statement('PRAGMA wal_checkpoint(PASSIVE)'),
    getMeta: statement('SELECT value FROM meta WHERE name = ?'),
    putMeta: statement('INSERT OR REPLACE INTO meta VALUES (?, ?)'),

    putAccount: statement(`INSERT OR REPLACE INTO accounts (${ACCOUNT}) VALUES (?, ?, ?, ?, ?, ?, ?)`),
    walkAccounts: statement('SELECT id, touched, held FROM accounts WHERE id > ? ORDER BY id LIMIT ?'),
    dropAccount: statement('DELETE FROM accounts WHERE id = ?'),

    putOperation: statement(
      `INSERT INTO operations (${OPERATION}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT (id) DO UPDATE SET accounts = excluded.accounts, hold = excluded.hold, input = excluded.input, expires = excluded.expires,
         status = excluded.status, cost = excluded.cost, note = excluded.note, touched = excluded.touched`,
    ),
    // A cost of the app held nothing, and was due when it was entered.
    walkOperations: statement(
      `SELECT sequence, id, touched, status, status = 'settled' AND hold = 0 AND expires <= touched
       FROM operations WHERE sequence > ? ORDER BY sequence LIMIT ?`,
    ),
    dropOperation: statement('DELETE FROM operations WHERE id = ?'),

    putEntry: statement(`INSERT OR REPLACE INTO ledger (${ENTRY}) VALUES (?, ?, ?, ?, ?, ?, ?)`),
    dropEntry: statement('DELETE FROM ledger WHERE sequence = ?'),

    putConversation: statement(
      `INSERT INTO conversations (id, state, last_turn, touched) VALUES (?, ?, ?, ?)
       ON CONFLICT (id) DO UPDATE SET state = excluded.state, last_turn = excluded.last_turn, touched = excluded.touched`,
    ),
    walkConversations: statement('SELECT sequence, id, touched FROM conversations WHERE sequence > ? ORDER BY sequence LIMIT ?'),
    dropConversation: statement('DELETE FROM conversations WHERE id = ?'),

    putEdit: statement('INSERT OR REPLACE INTO edits (sequence, conversation, id, ready, body) VALUES (?, ?, ?, ?, ?)'),
    dropEdits: statement('DELETE FROM edits WHERE conversation = ?'),
    dropTexts: statement("DELETE FROM edits WHERE conversation = ? AND json_extract(body, '$.kind') <> 'notice'"),

    putChain: statement('INSERT OR REPLACE INTO chain (digest, conversation, touched) VALUES (?, ?, ?)'),
    walkChain: statement('SELECT digest, touched FROM chain WHERE digest > ? ORDER BY digest LIMIT ?'),
    dropChain: statement('DELETE FROM chain WHERE digest = ?'),

    putContract: statement('INSERT OR REPLACE INTO contracts VALUES (?, ?)'),
    putOutcome: statement('INSERT OR IGNORE INTO outcomes VALUES (?, ?, ?, ?)'),
    dropOutcomes: statement('DELETE FROM outcomes WHERE key IN (SELECT key FROM outcomes WHERE day < ? LIMIT ?)'),
    putTierDay: statement('INSERT OR REPLACE INTO tier_days VALUES (?, ?, ?, ?)'),
    dropTierDays: statement(
      'DELETE FROM tier_days WHERE (day, tier, name) IN (SELECT day, tier, name FROM tier_days WHERE day < ? LIMIT ?)',
    ),
    putTierUser: statement('INSERT OR IGNORE INTO tier_users VALUES (?, ?, ?)'),
    dropTierUsers: statement(
      'DELETE FROM tier_users WHERE (day, tier, user) IN (SELECT day, tier, user FROM tier_users WHERE day < ? LIMIT ?)',
    ),
    putUserDay: statement(`INSERT OR REPLACE INTO user_days (${USER_DAY}) VALUES (?, ?, ?, ?)`),
    dropUserDays: statement(
      'DELETE FROM user_days WHERE (day, tier, user) IN (SELECT day, tier, user FROM user_days WHERE day < ? LIMIT ?)',
    ),

    getMemoryUser: statement('SELECT user, round FROM memory_users WHERE user = ?'),
    putMemoryUser: statement('INSERT OR REPLACE INTO memory_users (user, round) VALUES (?, ?)'),
    putMemory: statement(`INSERT INTO memory (${MEMORY}, terms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`),
    putWords: statement('INSERT INTO memory_words (rowid, terms) VALUES (?, ?)'),
    sameMemory: statement('SELECT sequence FROM memory WHERE user = ? AND id = ?'),
    forgottenMemory: statement('SELECT sequence FROM memory WHERE user = ? AND round < ?'),
    outlivedMemory: statement('SELECT sequence FROM memory WHERE expires <= ? LIMIT ?'),
    outlivedMemoryOf: statement('SELECT sequence FROM memory WHERE user = ? AND expires <= ?'),
    oldMemoryOf: statement('SELECT sequence FROM memory WHERE user = ? ORDER BY at DESC, id DESC LIMIT -1 OFFSET ?'),
    dropMemory: statement('DELETE FROM memory WHERE sequence = ?'),
    dropWords: statement(
      "INSERT INTO memory_words (memory_words, rowid, terms) SELECT 'delete', sequence, terms FROM memory WHERE sequence = ?",
    ),
  }
}

function preparing(database: DatabaseSync): (sql: string) => StatementSync {
  return (sql) => {
    const prepared = database.prepare(sql)
    prepared.setReturnArrays(true)
    return prepared
  }
}

/** The one row, or null. */
export function firstValues(statement: StatementSync, ...keys: (string | number)[]): Values | null {
  return asValues(statement.get(...keys))
}

export function allValues(statement: StatementSync, ...keys: (string | number)[]): readonly Values[] {
  return statement.all(...keys).flatMap((row) => {
    const values = asValues(row)
    return values === null ? [] : [values]
  })
}

/** The types of `node:sqlite` do not know that rows may be arrays. */
function asValues(row: unknown): Values | null {
  return Array.isArray(row) ? row : null
}
