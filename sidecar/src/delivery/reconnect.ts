/** How long to wait before the operator is called again: spread, so that a thousand sidecars do not call at once. */

export type StreamEnd =
  /** The replica goes, and asked to be left within this time. */
  | { readonly kind: 'goodbye'; readonly withinMs: number }
  /** It was there, and broke. */
  | { readonly kind: 'lost'; readonly reason: string }
  /** It did not come to be. `waitMs`: what the operator asked for. */
  | { readonly kind: 'refused'; readonly reason: string; readonly waitMs: number | null }

const SPREAD_MS = 15_000
const FIRST_WAIT_MS = 1_000
const WAIT_MS_MAX = 30_000

/** `failures`: attempts in a row that came to nothing. `random`: from 0 to 1, 1 excluded. */
export function reconnectWaitMs(end: StreamEnd, failures: number, random: number): number {
  switch (end.kind) {
    case 'goodbye':
      return Math.round(random * end.withinMs)
    case 'lost':
      return Math.round(random * SPREAD_MS)
    case 'refused': {
      const backoffMs = Math.min(WAIT_MS_MAX, FIRST_WAIT_MS * 2 ** Math.min(10, Math.max(0, failures - 1)))
      return Math.round(Math.min(WAIT_MS_MAX, Math.max(backoffMs, end.waitMs ?? 0)) * (0.5 + random / 2))
    }
  }
}
