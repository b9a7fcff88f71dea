/** Opens the database of the embedded store, for this process alone; and tells what went wrong with it. */
import { DatabaseSync } from 'node:sqlite'
import { StoreError } from './store.ts'
import { APPLICATION_ID, TABLES, TABLES_VERSION } from './tables.ts'

/** Result codes of SQLite (https://www.sqlite.org/rescode.html). */
const BUSY = 5
const CORRUPT = 11
const NOT_A_DATABASE = 26
const PRIMARY_CODE = 0xff

/** Throws `StoreError`: `away` when the file is in use or cannot be opened, `corrupt` when it is damaged or not ours. */
export function openDatabase(path: string): DatabaseSync {
  let database: DatabaseSync | null = null
  try {
    database = new DatabaseSync(path)
    // The lock is taken by the first transaction and kept until the file is closed.
    database.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE; COMMIT')
    assertOurs(database, path)
    database.exec(`PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${TABLES_VERSION}; ${TABLES}`)
    return database
  } catch (error) {
    database?.close()
    throw storeError(path, error)
  }
}

/** What a failure means for who asked. Errors of a caller (`RangeError`) are not the store's. */
export function storeError(path: string, error: unknown): StoreError {
  if (error instanceof StoreError) return error
  const reason = error instanceof Error ? error.message : String(error)
  const code = error instanceof Error && 'errcode' in error && typeof error.errcode === 'number' ? error.errcode & PRIMARY_CODE : null
  if (code === BUSY)
    return new StoreError('away', `${path} is in use by another process: each sidecar needs a data folder of its own`, error)
  // A row that cannot be read as what was written is damage, too.
  const isDamage = code === CORRUPT || code === NOT_A_DATABASE || error instanceof SyntaxError || error instanceof TypeError
  return isDamage
    ? new StoreError('corrupt', `${path} is damaged or not a Farebox store: ${reason}`, error)
    : new StoreError('away', `${path} cannot be used: ${reason}`, error)
}

function assertOurs(database: DatabaseSync, path: string): void {
  const number = (sql: string): number => Number(Object.values(database.prepare(sql).get() ?? {})[0] ?? 0)
  const owner = number('PRAGMA application_id')
  const isNew = owner === 0 && number('SELECT count(*) FROM sqlite_schema') === 0
  if (!isNew && owner !== APPLICATION_ID)
    throw new StoreError('corrupt', `${path} is a database of another program, or of an early version of this one`)
  const version = number('PRAGMA user_version')
  if (!isNew && version !== TABLES_VERSION)
    throw new StoreError('corrupt', `${path} has format ${version}; this version reads format ${TABLES_VERSION}`)
}
