/**
 * Our own certificates, kept by the leader where nobody else provides them; and by a replica that starts, where the leader was told that
 * somebody else does: it is of the installation before an upgrade, and stays until this one is ready.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { createKeeper } from '../certificates/keeper.ts'
import type { CertificateReport, Keeper } from '../certificates/keeper.ts'
import type { KubeClient } from '../kube/kube.ts'

/** Timers do not reach further than 24 days; looking costs nothing. */
const LOOK_MS_MAX = 3_600_000
/** A leader that makes certificates does it in less. */
const STAND_IN_EVERY_MS = 5_000

export interface CertificatesOptions {
  readonly client: KubeClient
  readonly secret: { readonly namespace: string; readonly name: string }
  readonly webhookName: string
  readonly names: readonly string[]
  readonly nowMs: () => number
  readonly onReport: (report: CertificateReport) => void
}

/** Holds nothing open. Remembers the keys that it saw last, so that a Secret that somebody deleted is made again as it was. */
export class Certificates {
  readonly #keeper: Keeper
  readonly #nowMs: () => number

  constructor(options: CertificatesOptions) {
    this.#nowMs = options.nowMs
    this.#keeper = createKeeper(options)
  }

  /** Makes what is to be made or renewed by now. Not twice at a time. Rejects with `KubeError`. */
  async reconcile(): Promise<{ readonly againAfterMs: number }> {
    const { nextMs } = await this.#keeper.reconcile()
    return { againAfterMs: Math.min(Math.max(nextMs - this.#nowMs(), 1_000), LOOK_MS_MAX) }
  }
}

export interface StandInOptions {
  readonly certificates: Pick<Certificates, 'reconcile'>
  /** It is ready, or it leaves. */
  readonly isOver: () => Promise<boolean>
  readonly isLeading: () => boolean
  readonly onTrouble: (error: unknown) => void
  readonly everyMs?: number
}

/**
 * For a replica that starts: as long as it is not ready it sees to the certificates every few seconds, which does nothing where the
 * leader has. Never rejects.
 */
export async function standIn({ certificates, isOver, isLeading, onTrouble, everyMs = STAND_IN_EVERY_MS }: StandInOptions): Promise<void> {
  for (;;) {
    await sleep(everyMs, undefined, { ref: false })
    if (await isOver()) return
    if (!isLeading()) await certificates.reconcile().catch(onTrouble)
  }
}
