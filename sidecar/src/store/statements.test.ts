import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { prepareReads } from './statements.ts'
import type { ReadStatements } from './statements.ts'
import { TABLES } from './tables.ts'

/** Of any values: what SQLite does is settled by the words alone. */
function planOf(database: DatabaseSync, statement: ReadStatements[keyof ReadStatements]): string {
  const steps = database
    .prepare(`EXPLAIN QUERY PLAN ${statement.sourceSQL}`)
    .all(...Array.from(statement.sourceSQL.matchAll(/\?/g), () => 0))
  return steps.map(({ detail }) => String(detail)).join('; ')
}

test('conversations are listed by an index that has no lone call, and lone calls by one that has nothing else', () => {
  const database = new DatabaseSync(':memory:')
  try {
    database.exec(TABLES)
    const sql = prepareReads(database)
    assert.match(planOf(database, sql.quietConversations), /^SEARCH conversations USING INDEX conversations_awaiting /)
    assert.match(planOf(database, sql.newestConversations), /^SCAN conversations USING INDEX conversations_talked\b/)
    assert.match(planOf(database, sql.newestLoneCalls), /^SCAN conversations USING INDEX conversations_lone\b/)
    const indexed = database
      .prepare("SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'conversations' AND sql IS NOT NULL ORDER BY name")
      .all()
    assert.deepEqual(
      indexed.map(({ name }) => name),
      ['conversations_awaiting', 'conversations_by_user', 'conversations_lone', 'conversations_talked'],
    )
  } finally {
    database.close()
  }
})

test('a file of an earlier version loses the indexes in which lone calls stood among all others', () => {
  const database = new DatabaseSync(':memory:')
  try {
    database.exec(TABLES)
    database.exec('CREATE INDEX conversations_by_turn ON conversations (last_turn)')
    database.exec('CREATE INDEX conversations_unresolved ON conversations (last_turn)')
    database.exec(TABLES)
    const left = database
      .prepare("SELECT name FROM sqlite_schema WHERE name IN ('conversations_by_turn', 'conversations_unresolved')")
      .all()
    assert.deepEqual(left, [])
  } finally {
    database.close()
  }
})
