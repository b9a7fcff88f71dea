/**
 * Every metric, with its unit and its labels; docs/metrics.md lists the same. Labels are bounded: tiers and rungs come from
 * the config, models from the price list (others are `other`), codes from the error table. Never a conversation or a user.
 */
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client'
import { RUNG_REASONS, RUNGS } from '@farebox/crds/ladder.ts'
import type { Rung } from '@farebox/crds/ladder.ts'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { standingResolutions } from '@farebox/crds/sidecar-status.ts'
import type { LimitUse, TierTotals } from '@farebox/crds/sidecar-status.ts'
import { USAGE_SOURCES } from '@farebox/crds/usage.ts'
import { NANO_PER_USD } from '@farebox/crds/usd.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import { DRIVERS } from '../core/conversation.ts'
import { OUTCOME_KINDS } from '../core/outcomes.ts'
import { RESET_REFUSALS, SESSION_ENDS } from '../core/sessions.ts'
import type { Shaped } from '../core/shape.ts'
import type { CapKind } from '../core/terms.ts'
import { ERRORS } from '../errors.ts'
import type { ErrorCode } from '../errors.ts'
import type { StoreStanding } from '../store/store-standing.ts'

/** Distinct label sets of one metric; past it, series go to `other`. */
const SERIES_MAX = 2_000
/** Tiers that gauges are told of. */
const TIERS_SHOWN_MAX = 64
/** Limits of the workload that gauges are told of. */
const LIMITS_SHOWN_MAX = 16
/** How a turn ends, and how what is not metered is told apart. `limited`: by a limit of the workload; the conversation goes on after it. */
const TURN_OUTCOMES = ['settle', 'charge', 'void', 'refused', 'ended', 'limited'] as const
const UNMETERED = ['free', 'ungoverned'] as const
/** What a request may be refused for that goes on under `Observe`, beside want of money. */
const OBSERVED = [
  'tool_calls_refused',
  'context_window_exceeded',
  'model_not_allowed',
  'model_unpriced',
  'conversation_id_required',
  'identity_rejected',
  'endpoint_not_governed',
  'thread_unsupported_request',
] as const satisfies readonly ErrorCode[]
/** Whose money may be short. */
const CAPS = ['conversation', 'user', 'workload'] as const satisfies readonly CapKind[]
/** How a call ends at its provider: by the class of its answer, or without one. `left`: its client did, before there was an answer. */
const PROVIDER_OUTCOMES = [
  '2xx',
  '3xx',
  '4xx',
  '401',
  '402',
  '403',
  '404',
  '429',
  '5xx',
  'connect',
  'timeout',
  'cut',
  'unread',
  'left',
] as const
export type ProviderOutcome = (typeof PROVIDER_OUTCOMES)[number]
/** What becomes of a summary that was wanted, and of what is to be remembered. */
const SUMMARY_OUTCOMES = ['made', 'elsewhere', 'unaffordable', 'refused', 'failed', 'blank'] as const
const MEMORY_OUTCOMES = ['kept', 'failed'] as const
/** Which rungs may have nothing to do, by why. */
const SKIPPED_RUNGS: Readonly<Record<Shaped['skipped'][number]['reason'], readonly Rung[]>> = {
  noMarker: ['DropRetrieval'],
  noSummary: ['Summarize'],
  serverHistory: ['DropRetrieval', 'Summarize'],
  noDowngrade: ['DowngradeModel'],
  refused: ['DowngradeModel'],
  incapable: ['DowngradeModel'],
  noSaving: ['DropRetrieval', 'DowngradeModel'],
  noTools: ['RefuseTools'],
}

const SECONDS_BUCKETS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84]

export class Metrics {
  readonly registry = new Registry()
  readonly turns = this.#counter('farebox_turns_total', 'Turns by how they ended', ['tier', 'outcome'])
  readonly refusals = this.#counter('farebox_refusals_total', 'Requests refused, by error code', ['code'])
  readonly observedRefusals = this.#counter(
    'farebox_observed_refusals_total',
    'Requests that went on under Observe and would be refused under Enforce, by error code and by whose money was short',
    ['code', 'cap'],
  )
  readonly providerCalls = this.#counter('farebox_provider_calls_total', 'Calls to providers, by how they ended', ['upstream', 'outcome'])
  readonly cost = this.#counter('farebox_cost_usd_total', 'Settled cost in US dollars, by what drove it', ['tier', 'driver'])
  readonly modelCost = this.#counter('farebox_model_cost_usd_total', 'Settled cost in US dollars, by the model that served', [
    'model',
    'origin',
  ])
  readonly tokens = this.#counter('farebox_units_total', 'Tokens (or calls, for tool kinds) settled, by disjoint kind', ['model', 'kind'])
  readonly rungs = this.#counter('farebox_rung_transitions_total', 'Rungs that came into effect', ['tier', 'rung', 'reason'])
  readonly rungsSkipped = this.#counter('farebox_rung_skipped_total', 'Rungs that had nothing to do', ['rung', 'reason'])
  readonly alerts = this.#counter(
    'farebox_alerts_total',
    'Alert thresholds reached, of a conversation once per session, of its user once per conversation and period',
    ['tier', 'percent'],
  )
  readonly overruns = this.#counter('farebox_overruns_total', 'Settlements above their hold', [])
  readonly overrun = this.#counter('farebox_overrun_usd_total', 'Billed above the hold, in US dollars', ['model'])
  readonly expiredHolds = this.#counter('farebox_expired_holds_total', 'Holds charged because their time ran out', [])
  readonly expiredUsd = this.#counter('farebox_expired_holds_usd_total', 'What those came to, in US dollars', [])
  readonly unchargedHolds = this.#counter('farebox_uncharged_holds_total', 'Looks at a hold that is due and cannot be charged', [])
  readonly summaries = this.#counter('farebox_summaries_total', 'Summaries by outcome', ['tier', 'outcome'])
  readonly sessions = this.#counter('farebox_sessions_opened_total', 'Further sessions of conversations, by why the one before was over', [
    'tier',
    'why',
  ])
  readonly unfound = this.#counter(
    'farebox_conversations_unfound_total',
    'Calls whose history has an answer in it and leads to no conversation',
    ['tier'],
  )
  readonly resetsSkipped = this.#counter('farebox_resets_skipped_total', 'Sessions that were over while no other might follow', [
    'tier',
    'why',
    'reason',
  ])
  readonly memory = this.#counter('farebox_memory_entries_total', 'Questions and answers to be remembered, by whether they were', [
    'tier',
    'outcome',
  ])
  readonly outcomes = this.#counter('farebox_outcomes_total', 'What became of conversations, as this sidecar entered it', [
    'tier',
    'outcome',
  ])
  readonly partial = this.#counter('farebox_partial_settlements_total', 'Turns settled without the final word of the provider', ['source'])
  readonly doubts = this.#counter('farebox_doubtful_usages_total', 'Usages of providers that cannot be as they are', ['doubt'])
  readonly savedBytes = this.#counter('farebox_saved_bytes_total', 'Bytes of history that shaping kept from the provider', ['tier'])
  readonly waits = this.#counter('farebox_money_waits_total', 'Calls that waited for money held by others', ['outcome'])
  readonly droppedSteps = this.#counter('farebox_store_dropped_steps_total', 'Steps that the books of the store lack for good', [])
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
  readonly configSource = new Gauge({
    name: 'farebox_delivery_config_source_info',
    help: 'Which way the config in force came; always 1',
    labelNames: ['source'],
    registers: [this.registry],
  })
  readonly reports = this.#counter('farebox_delivery_reports_total', 'Reports to the operator', ['outcome'])
  readonly catalogue = new Gauge({
    name: 'farebox_price_catalogue_info',
    help: 'The shipped price catalogue; always 1',
    labelNames: ['version', 'date'],
    registers: [this.registry],
  })

  constructor() {
    collectDefaultMetrics({ register: this.registry, prefix: 'farebox_' })
    // What is there at 0 can be seen to rise: of rare things the first is often the only one.
    for (const code of Object.keys(ERRORS)) this.refusals.begin([code])
    for (const code of OBSERVED) this.observedRefusals.begin([code, 'none'])
    for (const cap of CAPS) this.observedRefusals.begin(['conversation_budget_exhausted', cap])
    for (const source of USAGE_SOURCES) if (source !== 'exact') this.partial.begin([source])
    for (const kind of UNMETERED) this.turns.begin(['none', kind])
    for (const [reason, rungs] of Object.entries(SKIPPED_RUNGS)) for (const rung of rungs) this.rungsSkipped.begin([rung, reason])
    for (const doubt of ['invalid', 'clamped']) this.doubts.begin([doubt])
    for (const outcome of ['admitted', 'timeout', 'observed']) this.waits.begin([outcome])
    for (const outcome of ['accepted', 'rejected']) this.configs.begin([outcome])
    for (const outcome of ['taken', 'refused', 'failed']) this.reports.begin([outcome])
    for (const one of [this.overruns, this.expiredHolds, this.expiredUsd, this.unchargedHolds, this.droppedSteps]) one.begin([])
  }

  /** The series whose labels a config names. */
  follow({ upstreams, contracts }: Pick<SidecarConfig, 'upstreams' | 'contracts'>): void {
    for (const { name } of upstreams) for (const outcome of PROVIDER_OUTCOMES) this.providerCalls.begin([name, outcome])
    for (const { tier, alerts } of Object.values(contracts).slice(0, TIERS_SHOWN_MAX)) {
      for (const outcome of TURN_OUTCOMES) this.turns.begin([tier, outcome])
      for (const percent of alerts) this.alerts.begin([tier, String(percent)])
      for (const driver of DRIVERS) this.cost.begin([tier, driver])
      for (const rung of RUNGS) for (const reason of RUNG_REASONS) this.rungs.begin([tier, rung, reason])
      for (const outcome of SUMMARY_OUTCOMES) this.summaries.begin([tier, outcome])
      for (const why of SESSION_ENDS) {
        this.sessions.begin([tier, why])
        for (const reason of RESET_REFUSALS) this.resetsSkipped.begin([tier, why, reason])
      }
      this.unfound.begin([tier])
      for (const outcome of MEMORY_OUTCOMES) this.memory.begin([tier, outcome])
      for (const kind of OUTCOME_KINDS) this.outcomes.begin([tier, kind])
      this.savedBytes.begin([tier])
    }
  }

  /** Asked for when somebody looks. */
  watchStore(standing: () => StoreStanding): void {
    this.#gauge('farebox_store_ready', '1: steps reach the store; 0: it is away, or is told what it missed', () =>
      standing().state === 'Ready' ? 1 : 0,
    )
    this.#gauge('farebox_store_unsent_steps', 'Steps that the shared store has not been told yet', () => standing().unsent)
    this.#gauge('farebox_store_journal_bytes', 'Bytes that were kept for the store in this outage', () => standing().journal?.bytes ?? 0)
    this.#gauge(
      'farebox_store_journal_room_bytes',
      'Bytes of them at which nothing new is begun; 0: the store is embedded',
      () => standing().journal?.bytesMax ?? 0,
    )
    this.#total('farebox_store_outages_total', 'How often the store went away', () => standing().outages)
    this.#total('farebox_store_replayed_steps_total', 'Steps told to the shared store afterwards', () => standing().replayed)
  }

  /** The same of the bodies that are held. */
  watchBodies(room: { readonly bytes: number; readonly bytesMax: number; readonly waiting: number }): void {
    this.#gauge('farebox_body_bytes', 'Bytes of bodies that are held for calls under way', () => room.bytes)
    this.#gauge('farebox_body_room_bytes', 'Bytes that large bodies may come to, and small ones beside them', () => room.bytesMax)
    this.#gauge('farebox_body_waits', 'Calls that wait for room for their body', () => room.waiting)
  }

  /** Asked for when somebody looks. */
  watchDelivery(state: () => DeliveryState): void {
    this.#gauge('farebox_delivery_connected', '1: the stream of the operator is there', () => (state().isConnected ? 1 : 0))
    this.#total('farebox_delivery_reconnects_total', 'How often the stream came back', () => state().reconnects)
    this.#gauge(
      'farebox_delivery_stale_seconds',
      'Time since a replica of the operator last said which config is to be in force, or a newer one was mounted, in seconds',
      () => Math.round(state().staleMs / 1_000),
    )
    this.#gauge('farebox_delivery_clock_skew_seconds', "The operator's clock less this one, in seconds", () => state().clockSkewMs / 1_000)
    this.#total('farebox_bypass_looks_total', "Looks at the pod's connections", () => state().bypass.looks)
    this.#total('farebox_bypass_found_total', 'Looks that found a connection to a provider past this sidecar', () => state().bypass.found)
  }

  /** Asked for when somebody looks. Of all that share the store, so that each tells the same. */
  watchTiers(tiers: () => Iterable<ShownTier>): void {
    const gauge = (name: string, help: string, value: (tier: ShownTier) => number | undefined): void =>
      this.#tierGauge(name, help, [], tiers, (shown) => {
        const told = value(shown)
        return told === undefined ? [] : [[{ tier: shown.tier }, told]]
      })
    const usd = (amount: string | undefined | null): number | undefined =>
      amount === undefined || amount === null ? undefined : Number(amount)
    this.#tierGauge(
      'farebox_resolutions',
      'Outcomes of the last 28 days: assumed and confirmed resolutions, and those taken back',
      ['outcome'],
      tiers,
      ({ tier, totals: { resolutions } }) =>
        (['started', 'assumed', 'confirmed', 'reversed'] as const).map((outcome) => [{ tier, outcome }, resolutions[outcome] ?? 0]),
    )
    gauge('farebox_resolution_ratio', 'Of the conversations that began, the share whose resolution stands, in 28 days', ({ totals }) =>
      totals.resolutions.started === 0 ? undefined : standingResolutions(totals.resolutions) / totals.resolutions.started,
    )
    gauge('farebox_resolution_cost_usd', 'What a resolution cost in the last 28 days, in US dollars', ({ totals }) =>
      usd(totals.resolutions.costPer),
    )
    gauge('farebox_resolution_target_usd', 'What a resolution may cost, in US dollars', ({ targetCostPer }) => usd(targetCostPer))
    gauge('farebox_resolution_price_usd', 'What a resolution is sold for, in US dollars', ({ pricePer }) => usd(pricePer))
    gauge('farebox_resolution_over_target', '1: conversations that begin now climb the ladder below their cap', ({ totals }) =>
      totals.resolutions.isOverTarget === undefined ? undefined : Number(totals.resolutions.isOverTarget),
    )
    gauge('farebox_unresolved_cost_usd', 'What conversations without a resolution cost in the last 28 days, in US dollars', ({ totals }) =>
      usd(totals.resolutions.unresolvedCost),
    )
    gauge('farebox_users', 'Users of the current period who cost something', ({ totals }) => totals.users?.active)
    gauge('farebox_heavy_users', 'Of them, those who cost many times the median user', ({ totals }) => totals.users?.heavy)
    gauge('farebox_heavy_users_cost_usd', 'What those cost, in US dollars', ({ totals }) => usd(totals.users?.heavySpent))
    gauge('farebox_users_cost_usd', 'What all of them cost, in US dollars', ({ totals }) => usd(totals.users?.spent))
    gauge(
      'farebox_upgrade_candidates',
      'Users past the share of their budget at which the next plan is told of',
      ({ totals }) => totals.users?.upgradeCandidates,
    )
    this.#tierGauge('farebox_users_by_use', 'Users by the percent of their budget that they used', ['percent'], tiers, ({ tier, totals }) =>
      Object.entries(totals.users?.byUse ?? {}).map(([percent, count]) => [{ tier, percent }, count]),
    )
  }

  /** As `watchTiers`, of the workload's limits in their current periods. */
  watchLimits(limits: () => readonly ShownLimit[]): void {
    const gauge = (name: string, help: string, usd: (use: LimitUse) => string): void => {
      const shown: Gauge = new Gauge({
        name,
        help,
        labelNames: ['budget', 'period'],
        registers: [this.registry],
        collect() {
          shown.reset()
          for (const { budget, period, use } of limits().slice(0, LIMITS_SHOWN_MAX)) shown.set({ budget, period }, Number(usd(use)))
        },
      })
    }
    gauge('farebox_limit_usd', 'What a limit of the workload lets through in a period, in US dollars', ({ amount }) => amount)
    gauge('farebox_limit_spent_usd', 'What was spent of it in the current period, in US dollars', ({ spent }) => spent)
  }

  render(): Promise<string> {
    return this.registry.metrics()
  }
  get contentType(): string {
    return this.registry.contentType
  }

  #gauge(name: string, help: string, value: () => number): void {
    const gauge: Gauge = new Gauge({ name, help, registers: [this.registry], collect: () => gauge.set(value()) })
  }
  #tierGauge(
    name: string,
    help: string,
    more: readonly string[],
    tiers: () => Iterable<ShownTier>,
    samples: (tier: ShownTier) => readonly (readonly [labels: Readonly<Record<string, string>>, value: number])[],
  ): void {
    const gauge: Gauge = new Gauge({
      name,
      help,
      labelNames: ['tier', ...more],
      registers: [this.registry],
      collect() {
        gauge.reset()
        for (const tier of [...tiers()].slice(0, TIERS_SHOWN_MAX)) for (const [labels, value] of samples(tier)) gauge.set(labels, value)
      },
    })
  }
  #total(name: string, help: string, value: () => number): void {
    const counter: Counter = new Counter({
      name,
      help,
      registers: [this.registry],
      collect() {
        counter.reset()
        counter.inc(value())
      },
    })
  }
  #counter<const L extends string>(name: string, help: string, labels: readonly L[]): CounterFamily<L> {
    return new CounterFamily({ name, help, labels, registry: this.registry })
  }
  #histogram<const L extends string>(name: string, help: string, labels: readonly L[]): HistogramFamily<L> {
    return new HistogramFamily({ name, help, labels, registry: this.registry })
  }
}

export interface DeliveryState {
  readonly isConnected: boolean
  readonly reconnects: number
  readonly staleMs: number
  readonly clockSkewMs: number
  readonly bypass: { readonly looks: number; readonly found: number }
}

/** What status tells of a tier, and what its contract wants of it, in US dollars. */
export interface ShownTier {
  readonly tier: string
  readonly totals: TierTotals
  readonly targetCostPer?: string
  readonly pricePer?: string
}

/** How much of a limit is used. `period`: what it is called; `budget`: as `farebox_config_info` has it. */
export interface ShownLimit {
  readonly budget: string
  readonly period: string
  readonly use: LimitUse
}

/** Errors that say by themselves what is wrong: the key, the account's credit, a right that it lacks, the model or base URL, a limit. */
const TELLING = ['401', '402', '403', '404', '429'] as const satisfies readonly ProviderOutcome[]

/** By the status of an answer: classes, and of errors those that are telling by themselves. */
export function outcomeOfStatus(statusCode: number): ProviderOutcome {
  if (statusCode >= 500) return '5xx'
  if (statusCode >= 400) return TELLING.find((status) => status === String(statusCode)) ?? '4xx'
  return statusCode >= 300 ? '3xx' : '2xx'
}

/** US dollars as a float: for graphs only, never the book of record. */
export function usdFloat(amount: NanoUsd): number {
  return Number(amount) / Number(NANO_PER_USD)
}

interface FamilySpec<L extends string> {
  readonly name: string
  readonly help: string
  readonly labels: readonly L[]
  readonly registry: Registry
}

/**
 * The series of one metric, by their label values. Counting costs a look-up and an addition; prom-client sees the numbers
 * when somebody asks for them. Its own children cost ten times that, several times a turn.
 */
class Series<T> {
  readonly #series = new Map<string, { readonly values: readonly string[]; readonly state: T }>()
  readonly #make: () => T
  constructor(make: () => T) {
    this.#make = make
  }
  of(values: readonly string[]): T {
    const key = values.length === 1 ? (values[0] as string) : values.join('\u0000')
    const known = this.#series.get(key)
    if (known !== undefined) return known.state
    if (this.#series.size >= SERIES_MAX && values.some((value) => value !== 'other')) return this.of(values.map(() => 'other'))
    const state = this.#make()
    this.#series.set(key, { values, state })
    return state
  }
  all(): Iterable<{ readonly values: readonly string[]; readonly state: T }> {
    return this.#series.values()
  }
}

/** A counter whose label values are given in the order of its label names. */
export class CounterFamily<L extends string> {
  readonly #series = new Series(() => ({ value: 0 }))

  constructor({ name, help, labels, registry }: FamilySpec<L>) {
    const series = this.#series
    const counter = new Counter({
      name,
      help,
      labelNames: [...labels],
      registers: [registry],
      collect() {
        counter.reset()
        for (const { values, state } of series.all()) counter.inc(labelsOf(labels, values), state.value)
      },
    })
  }
  add(values: readonly string[], by = 1): void {
    if (by > 0) this.#series.of(values).value += by
  }
  /** It is there from now on, at 0 until something is counted. */
  begin(values: readonly string[]): void {
    this.#series.of(values)
  }
}

interface Distribution {
  /** By bucket, each on its own; the last is for what lies above all bounds. */
  readonly counts: number[]
  sum: number
}

export class HistogramFamily<L extends string> {
  readonly #series = new Series((): Distribution => ({ counts: Array.from({ length: SECONDS_BUCKETS.length + 1 }, () => 0), sum: 0 }))

  constructor({ name, help, labels, registry }: FamilySpec<L>) {
    const series = this.#series
    registry.registerMetric(
      new (class extends Histogram {
        /** What the registry and `get` ask for. */
        async getForPromString(): Promise<object> {
          const values = [...series.all()].flatMap(({ values: labelValues, state }) =>
            samplesOf(name, labelsOf(labels, labelValues), state),
          )
          return { name, help, type: 'histogram', values, aggregator: 'sum' }
        }
      })({ name, help, labelNames: [...labels], buckets: SECONDS_BUCKETS, registers: [] }),
    )
  }

  observe(values: readonly string[], value: number): void {
    const state = this.#series.of(values)
    let bucket = 0
    while (bucket < SECONDS_BUCKETS.length && value > (SECONDS_BUCKETS[bucket] ?? 0)) bucket += 1
    state.counts[bucket] = (state.counts[bucket] ?? 0) + 1
    state.sum += value
  }
}

/** A distribution as Prometheus has it: buckets that add up, then sum and count. */
function samplesOf(name: string, sharedLabels: Readonly<Record<string, string>>, { counts, sum }: Distribution): object[] {
  let count = 0
  const buckets = counts.map((own, index) => {
    count += own
    return { metricName: `${name}_bucket`, labels: { le: SECONDS_BUCKETS[index] ?? '+Inf' }, sharedLabels, value: count }
  })
  const total = (suffix: string, value: number): object => ({ metricName: `${name}_${suffix}`, labels: {}, sharedLabels, value })
  return [...buckets, total('sum', sum), total('count', count)]
}

function labelsOf<L extends string>(names: readonly L[], values: readonly string[]): Record<L, string> {
  const labels: Partial<Record<L, string>> = {}
  names.forEach((name, index) => {
    labels[name] = values[index] ?? 'other'
  })
  return labels as Record<L, string>
}
