/**
 * Who leads, decided from the Lease as it was read. Pure. Clocks of others are never compared: a holder is gone when *we* saw its
 * record unchanged for as long as it said, by our own monotonic clock.
 */

/** `spec` and what we put beside it of a coordination.k8s.io/v1 Lease. */
export interface LeaseRecord {
  /** Empty: released. */
  readonly holder: string
  readonly durationMs: number
  readonly acquireTime: string
  /** A text to compare with itself, no time. */
  readonly renewTime: string
  readonly transitions: number
  readonly resourceVersion: string
  readonly annotations: Readonly<Record<string, string>>
  /** Everything else of the object, as it came. */
  readonly metadata: Readonly<Record<string, unknown>>
}

/** The record as it last changed before our eyes, and when that was. */
export interface Sighting {
  readonly holder: string
  readonly renewTime: string
  readonly resourceVersion: string
  readonly atMs: number
}

export type LeaseStep =
  | { readonly do: 'create' }
  | { readonly do: 'take' }
  | { readonly do: 'renew' }
  | { readonly do: 'wait'; readonly untilMs: number }

/** What is remembered after `record` was read at `nowMs`. */
export function sight(before: Sighting | null, record: LeaseRecord, nowMs: number): Sighting {
  const { holder, renewTime, resourceVersion } = record
  if (before !== null && before.holder === holder && before.renewTime === renewTime && before.resourceVersion === resourceVersion)
    return before
  return { holder, renewTime, resourceVersion, atMs: nowMs }
}

export function nextStep(record: LeaseRecord | null, sighting: Sighting | null, me: string, nowMs: number): LeaseStep {
  if (record === null) return { do: 'create' }
  if (record.holder === me) return { do: 'renew' }
  if (record.holder === '') return { do: 'take' }
  const untilMs = (sighting?.atMs ?? nowMs) + record.durationMs
  return nowMs >= untilMs ? { do: 'take' } : { do: 'wait', untilMs }
}

/** `spec` of the Lease that we hold from or since now. `sequence` tells renewals apart whose wall clock says the same. */
export function heldSpec(
  me: string,
  before: LeaseRecord | null,
  at: { readonly wallMs: number; readonly sequence: number; readonly leaseMs: number },
): object {
  const now = microTime(at.wallMs, at.sequence)
  const ours = before?.holder === me
  return {
    holderIdentity: me,
    leaseDurationSeconds: Math.ceil(at.leaseMs / 1_000),
    acquireTime: ours && before.acquireTime !== '' ? before.acquireTime : now,
    renewTime: now,
    leaseTransitions: before === null ? 0 : before.transitions + (ours ? 0 : 1),
  }
}

/** `spec` of the Lease that we give back: whoever sees it leads at once. */
export function releasedSpec(before: LeaseRecord, at: { readonly wallMs: number; readonly sequence: number }): object {
  const now = microTime(at.wallMs, at.sequence)
  return { holderIdentity: '', leaseDurationSeconds: 1, acquireTime: now, renewTime: now, leaseTransitions: before.transitions }
}

/** `meta/v1 MicroTime`: six digits are a must. */
export function microTime(wallMs: number, sequence: number): string {
  return new Date(wallMs).toISOString().replace('Z', `${String(sequence % 1_000).padStart(3, '0')}Z`)
}

const DURATION_DEFAULT_MS = 15_000

export function recordOf(lease: unknown): LeaseRecord {
  const { metadata = {}, spec = {} } = lease as {
    metadata?: Record<string, unknown> & { annotations?: Record<string, string>; resourceVersion?: string }
    spec?: { holderIdentity?: string; leaseDurationSeconds?: number; acquireTime?: string; renewTime?: string; leaseTransitions?: number }
  }
  return {
    holder: spec.holderIdentity ?? '',
    durationMs: spec.leaseDurationSeconds === undefined ? DURATION_DEFAULT_MS : spec.leaseDurationSeconds * 1_000,
    acquireTime: spec.acquireTime ?? '',
    renewTime: spec.renewTime ?? '',
    transitions: spec.leaseTransitions ?? 0,
    resourceVersion: metadata.resourceVersion ?? '',
    annotations: metadata.annotations ?? {},
    metadata,
  }
}
