/** The SQL of the embedded store, prepared once. Rows come as arrays, in the order of their columns. */
import type { DatabaseSync, StatementSync } from 'node:sqlite'
import type { Values } from './rows.ts'

export type Statements = ReturnType<typeof prepareStatements>

export function prepareStatements(database: DatabaseSync) {
  const statement = (sql: string): StatementSync => {
    const prepared = database.prepare(sql)
    prepared.setReturnArrays(true)
    return prepared
  }
  const account = 'id, spent, held, held_input, touched'
  const operation = 'id, accounts, hold, input, expires, status, cost, note, touched'
  return {
    begin: statement('BEGIN'),
    commit: statement('COMMIT'),
    getMeta: statement('SELECT value FROM meta WHERE name = ?'),
    putMeta: statement('INSERT OR REPLACE INTO meta VALUES (?, ?)'),

    putJournal: statement('INSERT INTO journal VALUES (?, ?)'),
    readJournal: statement('SELECT body FROM journal ORDER BY sequence'),
    dropJournal: statement('DELETE FROM journal WHERE sequence <= ?'),

    getAccount: statement(`SELECT ${account} FROM accounts WHERE id = ?`),
    putAccount: statement(`INSERT OR REPLACE INTO accounts (${account}) VALUES (?, ?, ?, ?, ?)`),
    walkAccounts: statement('SELECT id, touched, held FROM accounts WHERE id > ? ORDER BY id LIMIT ?'),
    dropAccount: statement('DELETE FROM accounts WHERE id = ?'),

    getOperation: statement(`SELECT ${operation} FROM operations WHERE id = ?`),
    putOperation: statement(
      `INSERT INTO operations (${operation}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT (id) DO UPDATE SET accounts = excluded.accounts, hold = excluded.hold, input = excluded.input, expires = excluded.expires,
         status = excluded.status, cost = excluded.cost, note = excluded.note, touched = excluded.touched`,
    ),
    heldOperations: statement(`SELECT ${operation} FROM operations WHERE status = 'held' ORDER BY id`),
    walkOperations: statement('SELECT sequence, id, touched, status FROM operations WHERE sequence > ? ORDER BY sequence LIMIT ?'),
    dropOperation: statement('DELETE FROM operations WHERE id = ?'),

    putEntry: statement('INSERT OR REPLACE INTO ledger (sequence, operation, kind, accounts, cost, at, note) VALUES (?, ?, ?, ?, ?, ?, ?)'),
    readEntries: statement(
      'SELECT sequence, operation, kind, accounts, cost, at, note FROM ledger WHERE sequence > ? ORDER BY sequence LIMIT ?',
    ),
    lastEntry: statement('SELECT max(sequence) FROM ledger'),

    getConversation: statement('SELECT id, state, last_turn, touched FROM conversations WHERE id = ?'),
    putConversation: statement(
      `INSERT INTO conversations (id, state, last_turn, touched) VALUES (?, ?, ?, ?)
       ON CONFLICT (id) DO UPDATE SET state = excluded.state, last_turn = excluded.last_turn, touched = excluded.touched`,
    ),
    newestConversations: statement('SELECT id FROM conversations WHERE touched >= ? ORDER BY last_turn DESC, id LIMIT ?'),
    walkConversations: statement('SELECT sequence, id, touched FROM conversations WHERE sequence > ? ORDER BY sequence LIMIT ?'),
    dropConversation: statement('DELETE FROM conversations WHERE id = ?'),

    getEdits: statement('SELECT sequence, conversation, id, ready, body FROM edits WHERE conversation = ? ORDER BY sequence'),
    putEdit: statement('INSERT OR REPLACE INTO edits (sequence, conversation, id, ready, body) VALUES (?, ?, ?, ?, ?)'),
    lastEdit: statement('SELECT max(sequence) FROM edits'),
    dropEdits: statement('DELETE FROM edits WHERE conversation = ?'),

    getChain: statement('SELECT digest, conversation, touched FROM chain WHERE digest = ?'),
    putChain: statement('INSERT OR REPLACE INTO chain (digest, conversation, touched) VALUES (?, ?, ?)'),
    walkChain: statement('SELECT digest, touched FROM chain WHERE digest > ? ORDER BY digest LIMIT ?'),
    dropChain: statement('DELETE FROM chain WHERE digest = ?'),

    putContract: statement('INSERT OR REPLACE INTO contracts VALUES (?, ?)'),
    getContract: statement('SELECT body FROM contracts WHERE hash = ?'),

    putOutcome: statement('INSERT OR IGNORE INTO outcomes VALUES (?, ?, ?, ?)'),
    countOutcomes: statement('SELECT kind, count(*) FROM outcomes WHERE tier = ? AND day BETWEEN ? AND ? GROUP BY kind'),
    getTierDay: statement('SELECT tier, day, cost FROM tier_days WHERE tier = ? AND day = ?'),
    putTierDay: statement('INSERT OR REPLACE INTO tier_days VALUES (?, ?, ?)'),
    getTierDays: statement('SELECT tier, day, cost FROM tier_days WHERE tier = ? AND day BETWEEN ? AND ?'),
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
