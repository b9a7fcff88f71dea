/** The policy by which turns go, and what the log and the metrics say of configs that come into force, or do not. */
import type { Catalogue } from '@farebox/crds/catalogue.ts'
import { createPriceList } from '@farebox/crds/price-list.ts'
import type { ConfigSource, ReadConfig, RefusedConfig } from '../config/in-force.ts'
import type { Log } from '../telemetry/log.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { policyOf } from './gateway.ts'
import type { Gateway, Policy } from './gateway.ts'

/** Fields of a later version that one line names: a list of prices may have the same one in each entry. */
const LATER_FIELDS_TOLD_MAX = 16

export class PolicyInForce {
  readonly #catalogue: Catalogue
  readonly #metrics: Metrics
  readonly #log: Log
  #policy: Policy | null = null
  #rejected: ReturnType<Gateway['rejectedConfig']> = null

  constructor({ catalogue, metrics, log }: { readonly catalogue: Catalogue; readonly metrics: Metrics; readonly log: Log }) {
    this.#catalogue = catalogue
    this.#metrics = metrics
    this.#log = log
  }

  /** Null until the first valid config came. */
  get policy(): Policy | null {
    return this.#policy
  }

  /** The last config refused since the one in force. */
  get rejected(): ReturnType<Gateway['rejectedConfig']> {
    return this.#rejected
  }

  /** Throws for a config that no policy can be made of; the one in force stays. */
  accept({ config, later }: ReadConfig, source: ConfigSource): void {
    this.#policy = policyOf(config, createPriceList(config.prices, this.#catalogue))
    this.#rejected = null
    const { budgetKey: budget } = this.#policy
    const { version, hash } = config
    this.#metrics.config.reset()
    this.#metrics.config.set({ budget, hash }, 1)
    this.#metrics.configs.add(['accepted'])
    this.#metrics.follow(config)
    this.#log.info({ budget, version, hash, source }, 'config in force')
    if (later.length > 0)
      this.#log.warn(
        { budget, version, hash, fields: later.slice(0, LATER_FIELDS_TOLD_MAX), count: later.length },
        'the config has fields that this version does not know, and they do nothing here: a later operator wrote them',
      )
    this.#metrics.configSource.reset()
    this.#metrics.configSource.set({ source }, 1)
  }

  refuse({ version, hash, reason }: RefusedConfig, atMs: number): void {
    this.#rejected = { reason, at: new Date(atMs).toISOString() }
    this.#metrics.configs.add(['rejected'])
    this.#log.error({ version, hash, reason }, 'config refused; the last good one stays in force')
  }
}
