/** From what the rounds measured to figures with their targets. */
import type { BodyName } from './loads.ts'
import { quantile, spreadOf } from './statistics.ts'
import type { Spread } from './statistics.ts'

/** What stands between client and provider: the baseline, the least that Node can do there, and what is measured. */
export const PROXIES = ['nginx', 'relay', 'sidecar'] as const
export type Proxy = (typeof PROXIES)[number]
export type Party = 'direct' | Proxy

/** What one round saw of one load; times in microseconds. */
export interface RoundFigures {
  /** CPU of the proxy per request at the fixed rate, or per chunk of a stream. */
  readonly cpu: Readonly<Record<Proxy, number>>
  /** As fast as each can. Null for streams, whose pace the provider sets. */
  readonly saturated: Readonly<Record<Proxy, Saturated>> | null
  /** Per request at the fixed rate, or per chunk, as the client saw it. */
  readonly latencies: Readonly<Record<Party, readonly number[]>>
}

export interface Saturated {
  readonly cpu: number
  readonly perSecond: number
}

export interface Figure {
  readonly name: string
  readonly unit: string
  readonly value: Spread
  /** Null: shown for comparison. */
  readonly target: Target | null
  readonly met: boolean | null
}

type Target = { readonly atMost: number } | { readonly atLeast: number }

const CPU_RATIO_MAX: Readonly<Record<BodyName, number>> = { small: 10, large: 14, stream: 2 }
const ADDED_P99_MS_MAX = 2
const RESIDENT_MB_MAX = 130
/** Of a shared store, above the embedded one. */
const SHARED_CPU_US_MAX = 60
const TOGETHER_PER_SECOND_MIN = 1_000
/** One reads, one holds, one settles; what comes on top is of no turn: sweeps, renewals. */
const ROUND_TRIPS_MAX = 3.1
const SERVER_BYTES_MAX = { conversation: 1_000, operation: 200, digest: 100 }

export const LOAD_TITLES: Readonly<Record<BodyName, string>> = { small: '2 KB JSON', large: '100 KB JSON', stream: 'SSE chunk' }

export function figuresOf(load: BodyName, rounds: readonly RoundFigures[]): readonly Figure[] {
  const title = LOAD_TITLES[load]
  const over = (value: (round: RoundFigures) => number): Spread => spreadOf(rounds.map(value))
  const direct = (percent: number): Spread => over(({ latencies }) => quantile(latencies.direct, percent) / 1_000)
  const added = (proxy: Proxy, percent: number): Spread =>
    over(({ latencies }) => (quantile(latencies[proxy], percent) - quantile(latencies.direct, percent)) / 1_000)
  const cpu = (proxy: Proxy): Spread => over((round) => round.cpu[proxy])
  const toNginx = (proxy: Proxy): Spread => over((round) => round.cpu[proxy] / round.cpu.nginx)
  const saturated = rounds.flatMap((round) => (round.saturated === null ? [] : [round.saturated]))
  const mostToNginx = (proxy: Proxy): Spread => spreadOf(saturated.map((round) => round[proxy].cpu / round.nginx.cpu))
  return [
    ...PROXIES.map((proxy) => figure(`${title}: CPU, ${proxy}`, 'us', cpu(proxy))),
    figure(`${title}: CPU, relay to nginx`, 'times', toNginx('relay')),
    figure(`${title}: CPU, sidecar to nginx`, 'times', toNginx('sidecar'), { atMost: CPU_RATIO_MAX[load] }),
    figure(`${title}: direct p50`, 'ms', direct(50)),
    figure(`${title}: direct p99`, 'ms', direct(99)),
    ...PROXIES.flatMap((proxy) => [
      figure(`${title}: added p50, ${proxy}`, 'ms', added(proxy, 50)),
      figure(
        `${title}: added p99, ${proxy}`,
        'ms',
        added(proxy, 99),
        proxy === 'sidecar' && load !== 'stream' ? { atMost: ADDED_P99_MS_MAX } : null,
      ),
    ]),
    ...(saturated.length === 0
      ? []
      : [
          ...PROXIES.map((proxy) =>
            figure(`${title}: most requests/s, ${proxy}`, '', spreadOf(saturated.map((round) => round[proxy].perSecond))),
          ),
          figure(`${title}: CPU at the most, relay to nginx`, 'times', mostToNginx('relay')),
          figure(`${title}: CPU at the most, sidecar to nginx`, 'times', mostToNginx('sidecar')),
        ]),
  ]
}

/** Memory in MB: of the sidecar when it was ready, and after the first load; of both after the last, and two minutes later. */
export function memoryFigures(resident: {
  readonly idle: number
  readonly warm: number
  readonly end: Readonly<Record<'sidecar' | 'relay', number>>
  readonly atRest: Readonly<Record<'sidecar' | 'relay', number>>
}): readonly Figure[] {
  const { idle, warm, end, atRest } = resident
  return [
    figure('Resident memory: relay, after load', 'MB', spreadOf([end.relay])),
    figure('Resident memory: relay, two minutes later', 'MB', spreadOf([atRest.relay])),
    figure('Resident memory: ready', 'MB', spreadOf([idle])),
    figure('Resident memory: after load', 'MB', spreadOf([end.sidecar]), { atMost: RESIDENT_MB_MAX }),
    figure('Resident memory: two minutes later', 'MB', spreadOf([atRest.sidecar])),
    figure('Resident memory: growth from the first round to the last', 'MB', spreadOf([end.sidecar - warm])),
  ]
}

/** A budget, and what the provider billed while many more calls than it affords came at once; in USD. */
export function capFigures(cap: { readonly name: string; readonly budgetUsd: number; readonly billedUsd: number }): readonly Figure[] {
  return [
    figure(`${cap.name}: billed of the budget`, '%', spreadOf([(100 * cap.billedUsd) / cap.budgetUsd])),
    figure(`${cap.name}: overshoot`, 'USD', spreadOf([Math.max(0, cap.billedUsd - cap.budgetUsd)]), { atMost: 0 }),
  ]
}

/** What one round saw of a shared store beside the embedded one; times in microseconds. */
export interface SharedRound {
  /** Per turn at the fixed rate: of a sidecar on either engine, and of the server that is shared. */
  readonly cpu: { readonly embedded: number; readonly shared: number; readonly server: number }
  /** As many round trips as a turn makes, one after the other at the same rate, with nothing around them. */
  readonly bareCpu: number
  /** The same with as many turns as go, of one sidecar. */
  readonly cpuAtMost: { readonly embedded: number; readonly shared: number }
  readonly latencies: { readonly embedded: readonly number[]; readonly shared: readonly number[] }
  /** Scripts that the server ran, per turn. */
  readonly roundTrips: number
  /** Two sidecars on one server, as fast as they can. */
  readonly together: { readonly perSecond: number; readonly latenciesUs: readonly number[] }
}

/** What the server needs for one of each. */
export interface ServerMemory {
  /** Its record, its balance, its place in the list; without edits. */
  readonly conversationBytes: number
  /** One that ended, as a repeat of it finds it. */
  readonly operationBytes: number
  /** Of a message by which a conversation is found. */
  readonly digestBytes: number
}

export function sharedStoreFigures(rounds: readonly SharedRound[], memory: ServerMemory): readonly Figure[] {
  const title = 'Shared store'
  const over = (value: (round: SharedRound) => number): Spread => spreadOf(rounds.map(value))
  const above = (percent: number): Spread =>
    over(({ latencies }) => (quantile(latencies.shared, percent) - quantile(latencies.embedded, percent)) / 1_000)
  const together = (percent: number): Spread => over((round) => quantile(round.together.latenciesUs, percent) / 1_000)
  const bytes = (value: number, atMost: number) => ['bytes', spreadOf([value]), { atMost }] as const
  return [
    figure(
      `${title}: CPU, embedded`,
      'us',
      over(({ cpu }) => cpu.embedded),
    ),
    figure(
      `${title}: CPU, Redis`,
      'us',
      over(({ cpu }) => cpu.shared),
    ),
    figure(
      `${title}: CPU, Redis above embedded`,
      'us',
      over(({ cpu }) => cpu.shared - cpu.embedded),
      { atMost: SHARED_CPU_US_MAX },
    ),
    figure(
      `${title}: CPU, as many bare round trips`,
      'us',
      over(({ bareCpu }) => bareCpu),
    ),
    figure(
      `${title}: CPU at the most, Redis above embedded`,
      'us',
      over(({ cpuAtMost }) => cpuAtMost.shared - cpuAtMost.embedded),
    ),
    figure(
      `${title}: CPU of the server`,
      'us',
      over(({ cpu }) => cpu.server),
    ),
    figure(`${title}: p50, Redis above embedded`, 'ms', above(50)),
    figure(`${title}: p99, Redis above embedded`, 'ms', above(99)),
    figure(
      `${title}: round trips per turn`,
      '',
      over(({ roundTrips }) => roundTrips),
      { atMost: ROUND_TRIPS_MAX },
    ),
    figure(
      `${title}: most turns/s of two sidecars`,
      '',
      over((round) => round.together.perSecond),
      { atLeast: TOGETHER_PER_SECOND_MIN },
    ),
    figure(`${title}: p50 at the most`, 'ms', together(50)),
    figure(`${title}: p99 at the most`, 'ms', together(99)),
    figure(`${title}: memory per conversation`, ...bytes(memory.conversationBytes, SERVER_BYTES_MAX.conversation)),
    figure(`${title}: memory per operation that ended`, ...bytes(memory.operationBytes, SERVER_BYTES_MAX.operation)),
    figure(`${title}: memory per chained message`, ...bytes(memory.digestBytes, SERVER_BYTES_MAX.digest)),
  ]
}

/** The table for people: one line a figure, its spread over the rounds, its target and whether it was met. */
export function tableOf(figures: readonly Figure[]): string {
  const rows = figures.map(({ name, unit, value, target, met }) => [
    name,
    `${number(value.median)} ${unit}`.trimEnd(),
    value.least === value.most ? '' : `${number(value.least)} .. ${number(value.most)}`,
    target === null ? '' : 'atMost' in target ? `<= ${target.atMost}` : `>= ${target.atLeast}`,
    met === null ? '' : met ? 'pass' : 'MISS',
  ])
  const all = [['figure', 'median', 'rounds', 'target', ''], ...rows]
  const widths = [0, 1, 2, 3, 4].map((column) => Math.max(...all.map((row) => row[column]?.length ?? 0)))
  return all
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

function figure(name: string, unit: string, value: Spread, target: Target | null = null): Figure {
  return { name, unit, value, target, met: target === null ? null : isMet(value.median, target) }
}

function isMet(value: number, target: Target): boolean {
  return 'atMost' in target ? value <= target.atMost : value >= target.atLeast
}

function number(value: number): string {
  return Math.abs(value) >= 100 ? value.toFixed(0) : Math.abs(value) >= 10 ? value.toFixed(1) : value.toFixed(2)
}
