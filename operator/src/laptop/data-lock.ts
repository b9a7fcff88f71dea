/** One operator for a data folder: of two, each would write the config that the other's sidecar follows. */
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

/** Result code of SQLite (https://www.sqlite.org/rescode.html). */
const BUSY = 5
const PRIMARY_CODE = 0xff

export interface DataLock {
  /** Lets others have the folder. */
  release(): void
}

/** Of a folder that is there. Null: somebody has it. Throws when the file of the lock cannot be made. */
export function lockData(dataDir: string): DataLock | null {
  // A database of which only the lock is of use: the kernel gives it up when the process ends, however it ends.
  const lock = new DatabaseSync(join(dataDir, 'run.lock'))
  try {
    lock.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT')
  } catch (error) {
    lock.close()
    if (isBusy(error)) return null
    throw error
  }
  return {
    release() {
      if (lock.isOpen) lock.close()
    },
  }
}

function isBusy(error: unknown): boolean {
  return error instanceof Error && 'errcode' in error && typeof error.errcode === 'number' && (error.errcode & PRIMARY_CODE) === BUSY
}
