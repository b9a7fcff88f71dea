/** Between the main thread and the one that holds the Lease. */
import type { Credentials } from './credentials.ts'

export interface LeaseTask {
  readonly me: string
  readonly namespace: string
  readonly name: string
  readonly path: string
  readonly collectionPath: string
  readonly annotations: Readonly<Record<string, string>>
  readonly leaseMs: number
  readonly renewDeadlineMs: number
  readonly retryMs: number
  readonly userAgent: string
  readonly credentials: Credentials
  /** Two 64-bit integers, milliseconds of the monotonic clock. */
  readonly shared: SharedArrayBuffer
}

/** Index: until when writes are allowed; 0: not at all. Written by the worker. */
export const DEADLINE = 0
/** Index: when the main thread last turned its loop. Written by the main thread. */
export const BEAT = 1
export const SHARED_BYTES = 16

export type LeaseOrder = { readonly do: 'credentials'; readonly credentials: Credentials } | { readonly do: 'stop' }

export type LeaseReport =
  | { readonly what: 'leading' }
  | { readonly what: 'holder'; readonly identity: string; readonly annotations: Readonly<Record<string, string>> }
  | { readonly what: 'lost'; readonly reason: string }
  /** A call that failed, for another reason than the one before it; it is tried again. */
  | { readonly what: 'trouble'; readonly message: string }
  | { readonly what: 'released' }
