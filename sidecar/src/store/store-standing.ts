/** Whether steps reach the store, for whoever shows it. */
import type { STORE_STATES } from '@farebox/crds/sidecar-status.ts'

/** `Away`: this sidecar goes on by itself, as far as it may; or its own books take no steps, and it refuses calls. `Replaying`: it is back, and is told what it missed. */
export type StoreState = (typeof STORE_STATES)[number]

export interface StoreStanding {
  readonly state: StoreState
  /** Why it is not `Ready`. */
  readonly reason: string | null
  readonly sinceMs: number
  /** So much waits for the store that nothing new is begun. */
  readonly isFull?: true
  /** Steps that the store has not been told. */
  readonly unsent: number
  /** Of a shared store: what this outage has written for it, and how much of that is too much. */
  readonly journal?: { readonly bytes: number; readonly bytesMax: number }
  /** Since this process began. */
  readonly outages: number
  readonly replayed: number
}
