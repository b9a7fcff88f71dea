/**
 * Steps that must not be lost while the store is away: they are tried again until it is back. Each is keyed by its
 * operation, so that one which was done although its answer was lost changes nothing when it is done again.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { StoreError } from './store.ts'

const FIRST_WAIT_MS = 50
const WAIT_MS_MAX = 2_000

/** Rejects for anything but `away`: a closed store comes back no more, and damage does not heal. */
export async function untilBack<T>(step: () => Promise<T>): Promise<T> {
  for (let waitMs = FIRST_WAIT_MS; ; waitMs = Math.min(2 * waitMs, WAIT_MS_MAX)) {
    try {
      return await step()
    } catch (error) {
      if (!(error instanceof StoreError && error.code === 'away')) throw error
    }
    await sleep(waitMs)
  }
}
