/**
 * Every metric, with its unit and its labels; docs/metrics.md lists the same. Labels are bounded: tiers and rungs come from
 * the config, models from the price list (others are `other`), codes from the error table. Never a conversation or a user.
 */
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client'
import { NANO_PER_USD } from '@farebox/crds/usd.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'

/** Distinct label sets of one metric; past it, series go to `other`. */
const SERIES_MAX = 2_000
const SECONDS_BUCKETS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84]

export class Metrics {
  readonly registry = new Registry()
  readonly turns = this.#counter('farebox_turns_total', 'Turns by how they ended', ['tier', 'outcome'])
  readonly refusals = this.#counter('farebox_refusals_total', 'Requests refused, by error code', ['code'])
  readonly cost = this.#counter('farebox_cost_usd_total', 'Settled cost in US dollars, by what drove it', ['tier', 'driver'])
  readonly modelCost = this.#counter('farebox_model_cost_usd_total', 'Settled cost in US dollars, by the model that served', [
    'model',
    'origin',
  ])
  readonly tokens = this.#counter('farebox_units_total', 'Tokens (or calls, for tool kinds) settled, by disjoint kind', ['model', 'kind'])
  readonly rungs = this.#counter('farebox_rung_transitions_total', 'Rungs that came into effect', ['tier', 'rung', 'reason'])
  readonly rungsSkipped = this.#counter('farebox_rung_skipped_total', 'Rungs that had nothing to do', ['rung', 'reason'])
  readonly alerts = this.#counter('farebox_alerts_total', 'Alert thresholds reached, each once per conversation', ['tier', 'percent'])
  readonly overrun = this.#counter('farebox_overrun_usd_total', 'Billed above the hold, in US dollars', ['model'])
  readonly summaries = this.#counter('farebox_summaries_total', 'Summaries by outcome', ['tier', 'outcome'])
  readonly partial = this.#counter('farebox_partial_settlements_total', 'Turns settled without the final word of the provider', ['source'])
  readonly savedBytes = this.#counter('farebox_saved_bytes_total', 'Bytes of history that shaping kept from the provider', ['tier'])
  readonly waits = this.#counter('farebox_money_waits_total', 'Calls that waited for money held by others', ['outcome'])
  readonly configs = this.#counter('farebox_config_changes_total', 'Configs received', ['outcome'])
  readonly turnSeconds = this.#histogram('farebox_turn_seconds', 'Time from a request to the end of its answer, in seconds', ['tier'])
  readonly headSeconds = this.#histogram('farebox_time_to_head_seconds', 'Time from a request to the head of its answer, in seconds', [
    'tier',
  ])
  readonly inFlight = new Gauge({ name: 'farebox_calls_in_flight', help: 'Provider calls under way', registers: [this.registry] })
  readonly config = new Gauge({
    name: 'farebox_config_info',
    help: 'The config in force; always 1',
    labelNames: ['budget', 'hash'],
    registers: [this.registry],
  })
  readonly catalogue = new Gauge({
    name: 'farebox_price_catalogue_info',
    help: 'The shipped price catalogue; always 1',
    labelNames: ['version', 'date'],
    registers: [this.registry],
  })

  constructor() {
    collectDefaultMetrics({ register: this.registry, prefix: 'farebox_' })
  }

  render(): Promise<string> {
    return this.registry.metrics()
  }
  get contentType(): string {
    return this.registry.contentType
  }

  #counter<const L extends string>(name: string, help: string, labels: readonly L[]): CounterFamily<L> {
    return new CounterFamily(new Counter({ name, help, labelNames: [...labels], registers: [this.registry] }), labels)
  }
  #histogram<const L extends string>(name: string, help: string, labels: readonly L[]): HistogramFamily<L> {
    return new HistogramFamily(
      new Histogram({ name, help, labelNames: [...labels], buckets: SECONDS_BUCKETS, registers: [this.registry] }),
      labels,
    )
  }
}

/** US dollars as a float: for graphs only, never the book of record. */
export function usdFloat(amount: NanoUsd): number {
  return Number(amount) / Number(NANO_PER_USD)
}

/** Finds the child of a label set once and keeps it: a look-up by label object costs a microsecond on each turn. */
class Children<T> {
  readonly #children = new Map<string, T>()
  readonly #make: (values: readonly string[]) => T
  constructor(make: (values: readonly string[]) => T) {
    this.#make = make
  }
  of(values: readonly string[]): T {
    const key = values.length === 1 ? (values[0] as string) : values.join('\u0000')
    const known = this.#children.get(key)
    if (known !== undefined) return known
    if (this.#children.size >= SERIES_MAX && values.some((value) => value !== 'other')) return this.of(values.map(() => 'other'))
    const child = this.#make(values)
    this.#children.set(key, child)
    return child
  }
}

/** A counter whose label values are given in the order of its label names. */
export class CounterFamily<L extends string> {
  readonly #children: Children<{ inc(value?: number): void }>
  constructor(counter: Counter<L>, labels: readonly L[]) {
    this.#children = new Children((values) => counter.labels(labelsOf(labels, values)))
  }
  add(values: readonly string[], by = 1): void {
    if (by > 0) this.#children.of(values).inc(by)
  }
}

export class HistogramFamily<L extends string> {
  readonly #children: Children<{ observe(value: number): void }>
  constructor(histogram: Histogram<L>, labels: readonly L[]) {
    this.#children = new Children((values) => histogram.labels(labelsOf(labels, values)))
  }
  observe(values: readonly string[], value: number): void {
    this.#children.of(values).observe(value)
  }
}

function labelsOf<L extends string>(names: readonly L[], values: readonly string[]): Record<L, string> {
  const labels: Partial<Record<L, string>> = {}
  names.forEach((name, index) => {
    labels[name] = values[index] ?? 'other'
  })
  return labels as Record<L, string>
}
