/** Reports for tests, so that each names only what it is about. */
import type { ReceivedReport, SidecarReport } from '@farebox/crds/delivery.ts'
import type { SidecarStatus, TierTotals } from '@farebox/crds/sidecar-status.ts'

/** Of a tier that nobody has used, but for what is given. */
export function totalsOf(parts: Partial<TierTotals>): TierTotals {
  return {
    conversations: 0,
    turns: 0,
    byRung: {},
    spent: '0.00',
    held: '0.00',
    cost: { p50: '0.00', p95: '0.00', p99: '0.00', max: '0.00' },
    alerts: {},
    resolutions: { started: 0, confirmed: 0, reversed: 0, costPer: null },
    ...parts,
  }
}

export interface ReportParts extends Partial<
  Pick<SidecarReport, 'inForce' | 'refused' | 'staleMs' | 'books' | 'turns' | 'heldKeys' | 'bypass'>
> {
  /** Its uid as well. */
  readonly pod: string
  readonly namespace?: string
  /** `desk` where it is not said. */
  readonly budget?: string
  readonly receivedAtMs: number
  readonly runSinceMs?: number
  readonly tiers?: Readonly<Record<string, TierTotals>>
  readonly store?: Partial<SidecarStatus['store']>
}

/** Of a sidecar that is well, shares a store, and has had no calls. */
export function reportOf({
  pod,
  namespace = 'support',
  budget = 'desk',
  receivedAtMs,
  runSinceMs = 0,
  tiers = {},
  store = {},
  ...parts
}: ReportParts): ReceivedReport {
  return {
    pod: { namespace, name: pod, uid: pod },
    receivedAtMs,
    report: {
      protocol: 1,
      run: '0'.repeat(32),
      runSinceMs,
      sequence: 1,
      sidecarVersion: '0.1.0',
      inForce: null,
      refused: null,
      staleMs: 0,
      books: 'shared',
      turns: { count: 0, lastMs: null, withoutUser: 0 },
      heldKeys: [],
      bypass: { looks: 0, found: 0, lastSeen: null, lastMs: null },
      status: {
        config: { budget: `${namespace}/${budget}`, mode: 'Enforce', version: 1, hash: '0'.repeat(16) },
        rejected: null,
        tiers: { ...tiers },
        callsInFlight: 0,
        store: { kind: 'Shared', state: 'Ready', reason: null, since: '2026-11-24T12:00:00.000Z', unsent: 0, ...store },
      },
      ...parts,
    },
  }
}
