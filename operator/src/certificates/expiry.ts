/** Whoever renews a certificate does so well before its end. Near it, somebody should know. Pure. */
import { DAY_MS } from '@farebox/crds/duration.ts'
import type { Served } from './serving.ts'

const WARN_BEFORE_MS = 7 * DAY_MS
/** Of its life: a short one is renewed later than that before its end, and nothing is wrong. */
const WARN_BEFORE_PART = 4

/** Null: there is time. */
export function expiryWarning({ beginsAtMs, expiresAtMs }: Pick<Served, 'beginsAtMs' | 'expiresAtMs'>, nowMs: number): string | null {
  const leftMs = expiresAtMs - nowMs
  if (leftMs > Math.min(WARN_BEFORE_MS, (expiresAtMs - beginsAtMs) / WARN_BEFORE_PART)) return null
  const when = new Date(expiresAtMs).toISOString()
  return leftMs > 0
    ? `the certificate runs out at ${when}: renew it, or new pods have no sidecar then`
    : `the certificate ran out at ${when}: renew it, new pods have no sidecar`
}
