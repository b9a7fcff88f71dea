/** Time as the runtime reads it. What measures spans reads `nowMs`, which no operator of a machine can turn back. */

export interface Clock {
  /** Monotonic milliseconds; the same for all threads of the process. */
  nowMs(): number
  /** Milliseconds since 1970, only for what is shown. */
  wallMs(): number
  after(delayMs: number, run: () => void): Timer
}

export interface Timer {
  cancel(): void
}

/** Node takes longer delays for no delay at all. */
const TIMEOUT_MAX_MS = 2_147_483_647

export const systemClock: Clock = {
  nowMs: () => Number(process.hrtime.bigint() / 1_000n) / 1_000,
  wallMs: () => Date.now(),
  after(delayMs, run) {
    const timer = setTimeout(run, Math.min(delayMs, TIMEOUT_MAX_MS))
    return { cancel: () => clearTimeout(timer) }
  },
}

/** Ends early, without a throw, when `signal` aborts. */
export function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted === true) return Promise.resolve()
  return new Promise((resolve) => {
    const end = () => {
      timer.cancel()
      signal?.removeEventListener('abort', end)
      resolve()
    }
    const timer = clock.after(delayMs, end)
    signal?.addEventListener('abort', end, { once: true })
  })
}

/** Doubles from `minMs` with each failure up to `maxMs`; between half of that and all of it, so that many do not come at once. `failures` is 1 for the first. */
export function backoffMs(failures: number, bounds: { readonly minMs: number; readonly maxMs: number }, random: () => number): number {
  const full = Math.min(bounds.maxMs, bounds.minMs * 2 ** Math.min(failures - 1, 40))
  return full * (0.5 + random() / 2)
}
