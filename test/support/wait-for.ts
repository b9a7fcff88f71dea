/** Waits in tests, for what other processes and other clocks bring about. */
import { setTimeout as sleep } from 'node:timers/promises'

const WITHIN_MS = 30_000
const EVERY_MS = 50

export interface Patience {
  /** 30 s when absent. */
  readonly withinMs?: number
  /** Between two looks: 50 ms when absent. */
  readonly everyMs?: number
}

/**
 * Waits until `look` gives something other than null, undefined and false, and gives that. A look that throws is one that saw
 * nothing yet. Throws when time is up: an error that names `what` was awaited and says what was last seen.
 */
export async function waitFor<T>(
  what: string,
  look: () => T | Promise<T>,
  { withinMs = WITHIN_MS, everyMs = EVERY_MS }: Patience = {},
): Promise<Exclude<T, null | undefined | false>> {
  const end = performance.now() + withinMs
  for (;;) {
    let seen: unknown
    try {
      const found = await look()
      if (found !== null && found !== undefined && found !== false) return found as Exclude<T, null | undefined | false>
      seen = found
    } catch (error) {
      seen = error
    }
    if (performance.now() > end) {
      const last = seen instanceof Error ? seen.message : String(seen)
      throw new Error(`${what}: not within ${withinMs / 1_000} s; the last look gave: ${last}`, { cause: seen })
    }
    await sleep(everyMs)
  }
}
