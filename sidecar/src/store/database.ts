/** Opens the database of the embedded store, for this process alone; and tells what went wrong with it. */
import { DatabaseSync } from 'node:sqlite'
import { messageOf } from '../error-text.ts'
import { StoreError } from './store.ts'
import { APPLICATION_ID, TABLES, TABLES_VERSION } from './tables.ts'

/** Result codes of SQLite (https://www.sqlite.org/rescode.html). */
const BUSY = 5
const CORRUPT = 11
const NOT_A_DATABASE = 26
const PRIMARY_CODE = 0xff

/** Two connections of one process share the file, one writes; each waits this long for the other at most. */
const BUSY_TIMEOUT_MS = 5_000
/** Of each connection; what is asked for often is remembered in another place. */
const PAGE_CACHE_KB = 1_024

export interface OwnedDatabase {
  readonly database: DatabaseSync
  /** Closes it, and lets others have the file. */
  close(): void
}

/**
 * Opens the file for this process alone, its tables made where they are missing. Throws `StoreError`: `away` when the file
 * is in use or cannot be opened, `corrupt` when it is damaged or not ours.
 */
export function openDatabase(path: string): OwnedDatabase {
  let lock: DatabaseSync | null = null
  let database: DatabaseSync | null = null
  try {
    if (path !== IN_MEMORY) lock = locked(`${path}.lock`)
    database = connectToTables(path)
    assertOurs(database, path)
    database.exec(`PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${TABLES_VERSION}; ${TABLES}`)
  } catch (error) {
    database?.close()
    lock?.close()
    throw storeError(path, error)
  }
  const opened = database
  return {
    database: opened,
    close() {
      opened.close()
      lock?.close()
    },
  }
}

export const IN_MEMORY = ':memory:'

/** A connection to a file that this process owns. */
export function connectToTables(path: string): DatabaseSync {
  const database = new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS })
  try {
    database.exec(
      `PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -${PAGE_CACHE_KB}; PRAGMA secure_delete = ON`,
    )
    return database
  } catch (error) {
    database.close()
    throw error
  }
}

/** A database of which only the lock is of use: the kernel gives it up when the process ends, however it ends. */
function locked(path: string): DatabaseSync {
  const lock = new DatabaseSync(path)
  try {
    lock.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT')
    return lock
  } catch (error) {
    lock.close()
    throw error
  }
}

/** What a failure means for who asked. Errors of a caller (`RangeError`) are not the store's. */
export function storeError(path: string, error: unknown): StoreError {
  if (error instanceof StoreError) return error
  const reason = messageOf(error)
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
