/** All that ties this sidecar to an operator: the stream, reports, how stale the config is, and a look at who goes past it. */
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import type { ConfigInForce } from '../config/in-force.ts'
import { readConfig } from '../config/watch.ts'
import type { OperatorSettings } from '../settings.ts'
import type { Log } from '../telemetry/log.ts'
import type { DeliveryState } from '../telemetry/metrics.ts'
import { BypassWatch } from './bypass-watch.ts'
import type { Upstreams } from './bypass-watch.ts'
import { OperatorClient } from './operator-client.ts'
import type { StreamEnd } from './reconnect.ts'
import { Reporter } from './reporter.ts'
import type { ReportFacts } from './reporter.ts'
import type { RunFile } from './run-file.ts'
import { StalenessWatch } from './staleness.ts'
import { Trust } from './trust.ts'

export interface DeliveryOptions {
  readonly operator: OperatorSettings
  readonly run: RunFile
  readonly config: ConfigInForce
  readonly upstreams: Upstreams
  /** What a report says beside what is known here. */
  readonly facts: (withTotals: boolean) => Promise<Omit<ReportFacts, 'inForce' | 'refused' | 'staleMs' | 'bypass'>>
  readonly onReport: (outcome: 'taken' | 'refused' | 'failed') => void
  readonly log: Log
}

/** Where there is no operator. */
export const NO_DELIVERY: DeliveryState = { isConnected: false, reconnects: 0, staleMs: 0, clockSkewMs: 0, bypass: { looks: 0, found: 0 } }

const REASON_LENGTH_MAX = 1_024

/**
 * Owns the connection to the operator from `start` to `stop`. Nothing of it throws then: what fails is told to the log, once for each reason, and
 * tried again.
 */
export class Delivery {
  readonly #options: DeliveryOptions
  readonly staleness: StalenessWatch
  readonly #client: OperatorClient
  readonly #reporter: Reporter
  readonly #bypass: BypassWatch
  #clockSkewMs = 0
  /**
   * Whether this stream has said which config is ours: then each beat says so again. That one may have been refused here: what is wrong then is
   * the config, which the report says, and not that nobody speaks to us.
   */
  #isTold = false
  /** Told once for each reason. */
  #streamTrouble = ''
  #reportTrouble = ''

  constructor(options: DeliveryOptions) {
    const { operator, run, config, upstreams, log } = options
    this.#options = options
    this.staleness = new StalenessWatch(run)
    this.#client = new OperatorClient({
      url: operator.url,
      trust: new Trust(operator.caFile, run),
      tokenFile: operator.tokenFile,
      have: () => config.inForce?.hash ?? null,
      listener: {
        config: (text) => this.#offered(text),
        current: () => this.#told(),
        released: () => {
          log.info({}, 'no budget governs this pod any more; its last config stays in force')
          this.#told()
        },
        beat: (nowMs) => {
          this.#clockSkewMs = nowMs - Date.now()
          if (this.#isTold) this.staleness.confirmed()
        },
        connected: () => {
          this.#streamTrouble = ''
          this.#isTold = false
          log.info({}, 'the stream of the operator is there')
          this.changed() // it may not know what happened meanwhile
        },
        ended: (end) => this.#ended(end),
      },
    })
    this.#reporter = new Reporter({
      client: this.#client,
      runSinceMs: run.runSinceMs,
      facts: (withTotals) => this.#facts(withTotals),
      onOutcome: (outcome, reason) => this.#reported(outcome, reason),
    })
    this.#bypass = new BypassWatch(upstreams, (place) => {
      log.warn({ place }, 'the pod has a connection to a provider that does not go through this sidecar')
      this.changed()
    })
  }

  start(): void {
    this.#client.start()
    this.#reporter.start()
    this.#bypass.start()
  }

  /** What a report tells has changed. */
  changed(): void {
    this.#reporter.changed()
  }

  follow(config: SidecarConfig): void {
    this.staleness.follow(config)
    this.changed()
  }

  get state(): DeliveryState {
    return {
      isConnected: this.#client.isConnected,
      reconnects: this.#client.reconnects,
      staleMs: this.staleness.sinceMs,
      clockSkewMs: this.#clockSkewMs,
      bypass: this.#bypass.state,
    }
  }

  /** One last report, within this time. Never rejects. */
  async stop(withinMs: number): Promise<void> {
    this.#bypass.stop()
    this.staleness.stop()
    await this.#reporter.last(withinMs)
    this.#client.close()
  }

  #offered(text: string): void {
    const { config } = this.#options
    const reading = readConfig(text)
    if (reading.status === 'invalid') {
      const { version, hash, reason } = reading
      config.refuse({ version, hash, reason })
    } else config.offer(reading, 'stream')
    this.#told()
  }

  #told(): void {
    this.#isTold = true
    this.staleness.confirmed()
  }

  #ended(end: StreamEnd): void {
    this.#isTold = false
    const { log } = this.#options
    if (end.kind === 'goodbye') return log.info({}, 'this replica of the operator goes; another is looked for')
    if (end.reason === this.#streamTrouble) return
    this.#streamTrouble = end.reason
    log.warn({ reason: end.reason }, 'the stream of the operator is not there; it is called again, and the last config stays in force')
  }

  #reported(outcome: 'taken' | 'refused' | 'failed', reason: string): void {
    this.#options.onReport(outcome)
    if (reason !== '' && reason !== this.#reportTrouble) this.#options.log.warn({ outcome, reason }, 'the operator did not take a report')
    this.#reportTrouble = reason
  }

  async #facts(withTotals: boolean): Promise<ReportFacts> {
    const { config, facts } = this.#options
    const rest = await facts(withTotals)
    const { inForce, refused } = config
    return {
      ...rest,
      inForce: inForce === null ? null : { budget: inForce.budget, version: inForce.version, hash: inForce.hash },
      refused: refused === null ? null : { ...refused, reason: refused.reason.slice(0, REASON_LENGTH_MAX) },
      staleMs: this.staleness.inThisRunMs,
      bypass: this.#bypass.state,
    }
  }
}
