/**
 * Tells the operator what is in force here and what was spent: soon after something changed, otherwise from time to time. Each
 * report says all, so that one which is lost costs nothing but time: the next one is made anew.
 */
import { randomBytes } from 'node:crypto'
import { DELIVERY_PROTOCOL } from '@farebox/crds/delivery.ts'
import type { SidecarReport } from '@farebox/crds/delivery.ts'
import { messageOf } from '../error-text.ts'
import { SIDECAR_VERSION } from '../version.ts'
import type { OperatorClient } from './operator-client.ts'

export type ReportFacts = Omit<SidecarReport, 'protocol' | 'run' | 'runSinceMs' | 'sequence' | 'sidecarVersion'>

export interface ReporterOptions {
  readonly client: Pick<OperatorClient, 'report'>
  readonly runSinceMs: number
  /** May reject: then it is asked again. `withTotals`: those of the books, too, which cost the store much. */
  readonly facts: (withTotals: boolean) => Promise<ReportFacts>
  readonly onOutcome: (outcome: 'taken' | 'refused' | 'failed', reason: string) => void
}

const EVERY_MS = 15_000
/** After a change: so long others are waited for, so many sidecars spread over. */
const SOON_MS = 50
const SOON_SPREAD_MS = 350
const RETRY_MS = 1_000

export class Reporter {
  readonly #options: ReporterOptions
  readonly #run = randomBytes(16).toString('hex')
  #sequence = 0
  #failures = 0
  #timer: NodeJS.Timeout | null = null
  #dueAtMs = Number.POSITIVE_INFINITY
  #sending: Promise<void> | null = null
  #hasChanged = false
  /** The operator says so, in its answer: the first report of a run is without. */
  #withTotals = false
  #isStopped = false

  constructor(options: ReporterOptions) {
    this.#options = options
  }

  start(): void {
    this.#within(SOON_MS + Math.random() * SOON_SPREAD_MS)
  }

  /** Something of what it tells is different now. */
  changed(): void {
    if (this.#sending !== null) this.#hasChanged = true
    else this.#within(SOON_MS + Math.random() * SOON_SPREAD_MS)
  }

  /** One more, with all that there was, then none. Resolves within this time; never rejects. */
  async last(withinMs: number): Promise<void> {
    this.stop()
    await Promise.race([
      Promise.resolve(this.#sending).then(() => this.#send(withinMs)),
      new Promise<void>((resolve) => setTimeout(resolve, withinMs).unref()),
    ])
  }

  stop(): void {
    this.#isStopped = true
    if (this.#timer !== null) clearTimeout(this.#timer)
  }

  /** Earlier than it would be anyway, or not at all. */
  #within(ms: number): void {
    const atMs = performance.now() + ms
    if (this.#isStopped || (this.#timer !== null && this.#dueAtMs <= atMs)) return
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#dueAtMs = atMs
    this.#timer = setTimeout(() => {
      this.#timer = null
      this.#hasChanged = false
      this.#sending = this.#send().finally(() => {
        this.#sending = null
        this.#next()
      })
    }, ms).unref()
  }

  #next(): void {
    if (this.#failures > 0) this.#within(Math.min(EVERY_MS, RETRY_MS * 2 ** Math.min(this.#failures - 1, 8)) * (0.5 + Math.random() / 2))
    else if (this.#hasChanged) this.changed()
    else this.#within(EVERY_MS * (0.8 + Math.random() * 0.4))
  }

  /** Never rejects. */
  async #send(withinMs?: number): Promise<void> {
    const { client, facts, runSinceMs, onOutcome } = this.#options
    try {
      const told = await facts(this.#withTotals)
      this.#sequence += 1
      const report: SidecarReport = {
        protocol: DELIVERY_PROTOCOL,
        run: this.#run,
        runSinceMs,
        sequence: this.#sequence,
        sidecarVersion: SIDECAR_VERSION,
        ...told,
      }
      const { status, error, totals } = await client.report(JSON.stringify(report), withinMs)
      if (status === 202) {
        this.#failures = 0
        if (totals && !this.#withTotals) this.#hasChanged = true
        this.#withTotals = totals
        return onOutcome('taken', '')
      }
      // What will not do now will not do in a second either: the next one may.
      this.#failures = status === 413 || status === 422 ? 0 : this.#failures + 1
      onOutcome('refused', `${status} ${error}`.trim())
    } catch (error) {
      this.#failures += 1
      onOutcome('failed', messageOf(error))
    }
  }
}
