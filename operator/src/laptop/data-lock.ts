/** One operator for a data folder: of two, each would write the config that the other's sidecar follows. */
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

/** Result codes of SQLite (https://www.sqlite.org/rescode.html). */
const BUSY = 5
const READ_ONLY = 8
const PRIMARY_CODE = 0xff

export interface DataLock {
  /** Lets others have the folder. */
  release(): void
}

/**
 * A file that may only be read is opened all the same, and then `BEGIN EXCLUSIVE` keeps nobody out: so something is written, and taken
 * back in memory. The disk may be full.
 */
const TAKE = 'PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE; PRAGMA user_version = 1; ROLLBACK'

/** Of a folder that is there. Null: somebody has it. Throws when the file of the lock cannot be made or written to. */
export function lockData(dataDir: string): DataLock | null {
  // A database of which only the lock is of use: the kernel gives it up when the process ends, however it ends.
  const file = join(dataDir, 'run.lock')
  const lock = new DatabaseSync(file)
  try {
    lock.exec(TAKE)
  } catch (error) {
    lock.close()
    const code = primaryCodeOf(error)
    if (code === BUSY) return null
    throw code === READ_ONLY ? new Error(`${file} cannot be written to`, { cause: error }) : error
  }
  return {
    release() {
      if (lock.isOpen) lock.close()
    },
  }
}

/** Null where it is no error of SQLite. */
function primaryCodeOf(error: unknown): number | null {
  return error instanceof Error && 'errcode' in error && typeof error.errcode === 'number' ? error.errcode & PRIMARY_CODE : null
}
