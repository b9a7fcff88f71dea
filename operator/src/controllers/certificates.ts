/** Our own certificates, kept by the leader where nobody else provides them. */
import { createKeeper } from '../certificates/keeper.ts'
import type { CertificateReport, Keeper } from '../certificates/keeper.ts'
import type { KubeClient } from '../kube/kube.ts'

/** Timers do not reach further than 24 days; looking costs nothing. */
const LOOK_MS_MAX = 3_600_000

export interface CertificatesOptions {
  readonly client: KubeClient
  readonly secret: { readonly namespace: string; readonly name: string }
  readonly webhookName: string
  readonly names: readonly string[]
  readonly nowMs: () => number
  readonly onReport: (report: CertificateReport) => void
}

export class Certificates {
  readonly #keeper: Keeper
  readonly #nowMs: () => number

  constructor(options: CertificatesOptions) {
    this.#nowMs = options.nowMs
    this.#keeper = createKeeper(options)
  }

  /** Rejects with `KubeError`. */
  async reconcile(): Promise<{ readonly againAfterMs: number }> {
    const { nextMs } = await this.#keeper.reconcile()
    return { againAfterMs: Math.min(Math.max(nextMs - this.#nowMs(), 1_000), LOOK_MS_MAX) }
  }
}
