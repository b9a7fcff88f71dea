/** Status for people: each object as `kubectl get -o yaml` would show its status, and what the traffic came to. */
import { parseUsd } from '@farebox/crds/usd.ts'
import { RUNGS } from '@farebox/crds/ladder.ts'
import { dump } from 'js-yaml'
import type { ObjectStatus } from '../core/compile.ts'
import { standingResolutions, usedPercent } from '@farebox/crds/sidecar-status.ts'
import type { LimitUse, ResolutionTotals, SidecarStatus, TierTotals } from '@farebox/crds/sidecar-status.ts'
import { roundedUsd } from './money.ts'
import { renderTable, wrap } from './table.ts'

const API_VERSION = 'farebox.dev/v1alpha1'

/** YAML documents, in order of kind and name. */
export function statusYaml(statuses: ReadonlyMap<string, ObjectStatus>): string {
  const documents = [...statuses].map(([key, status]) => {
    const [kind = '', ...path] = key.split('/')
    const [name = '', namespace] = path.toReversed()
    return dump({ apiVersion: API_VERSION, kind, metadata: { name, ...(namespace === undefined ? {} : { namespace }) }, status })
  })
  return documents.map((document) => `---\n${document}`).join('')
}

/** One line for each object: is it in force, and what was made of it. `currencies`: of the tiers, by their keys among the statuses. */
export function objectLines(
  statuses: ReadonlyMap<string, ObjectStatus>,
  currencies: ReadonlyMap<string, string>,
  width: number = Infinity,
): readonly string[] {
  const cap = ([key, status]: readonly [string, ObjectStatus], of: 'perConversation' | 'perUser'): string => {
    const amount = 'derived' in status ? status.derived?.[of] : undefined
    return amount === undefined ? '' : `${amount} ${currencies.get(key) ?? ''}`.trimEnd()
  }
  return renderTable(
    [
      { head: 'OBJECT', cell: ([key]: readonly [string, ObjectStatus]) => key },
      { head: 'READY', cell: ([, status]) => readyOf(status)?.status ?? 'Unknown' },
      { head: 'REASON', cell: ([, status]) => readyOf(status)?.reason ?? '' },
      { head: 'CONVERSATION', align: 'right', cell: (row) => cap(row, 'perConversation') },
      { head: 'USER', align: 'right', cell: (row) => cap(row, 'perUser') },
      { head: 'CONFIG', cell: ([, status]) => ('config' in status ? (status.config?.hash ?? '') : '') },
    ],
    [...statuses],
    width,
  )
}

/**
 * What each tier's conversations came to so far: money in US dollars, then how far they climbed, who was told, and what was resolved; and how
 * much of the workload's limits is used.
 */
export function trafficLines({ tiers, limits = {} }: SidecarStatus, width: number = Infinity): readonly string[] {
  type Row = readonly [tier: string, totals: TierTotals]
  const rows = Object.entries(tiers)
  const table = renderTable<Row>(
    [
      { head: 'TIER', cell: ([tier]) => tier },
      { head: 'CONVERSATIONS', align: 'right', cell: ([, totals]) => String(totals.conversations) },
      { head: 'TURNS', align: 'right', cell: ([, totals]) => String(totals.turns) },
      { head: 'SPENT USD', align: 'right', cell: ([, totals]) => roundedUsd(parseUsd(totals.spent)) },
      { head: 'HELD USD', align: 'right', need: 'optional', cell: ([, totals]) => roundedUsd(parseUsd(totals.held)) },
      { head: 'P50 USD', align: 'right', cell: ([, totals]) => roundedUsd(parseUsd(totals.cost.p50)) },
      { head: 'P95 USD', align: 'right', cell: ([, totals]) => roundedUsd(parseUsd(totals.cost.p95)) },
      { head: 'P99 USD', align: 'right', need: 'optional', cell: ([, totals]) => roundedUsd(parseUsd(totals.cost.p99)) },
      { head: 'MAX USD', align: 'right', cell: ([, totals]) => roundedUsd(parseUsd(totals.cost.max)) },
    ],
    rows,
    width,
  )
  const events = rows.flatMap(([tier, totals]) => (totals.conversations === 0 ? [] : wrap(`${tier}: ${eventsOf(totals)}`, width)))
  const used = Object.entries(limits).flatMap(([period, use]) => wrap(limitLine(period, use), width))
  return events.length + used.length === 0 ? table : [...table, '', ...events, ...used]
}

function limitLine(period: string, limit: LimitUse): string {
  const [amount, spent, held] = [limit.amount, limit.spent, limit.held].map((usd) => roundedUsd(parseUsd(usd)))
  return `limit of ${amount} USD each ${period}: ${spent} spent since ${limit.since}, ${held} held, ${usedPercent(limit)} %`
}

function eventsOf({ byRung, alerts, resolutions, users }: TierTotals): string {
  const rungs = ['None', ...RUNGS].flatMap((rung) => ((byRung[rung] ?? 0) > 0 ? [`${rung} ${byRung[rung]}`] : []))
  const told = Object.entries(alerts)
    .filter(([, count]) => count > 0)
    .toSorted(([a], [b]) => Number(a) - Number(b))
    .map(([percent, count]) => `${percent} % ${count}`)
  return [
    `by rung ${rungs.join(', ') || 'none'}`,
    `alerts ${told.join(', ') || 'none'}`,
    ...resolutionEvents(resolutions),
    ...(users === undefined || users.heavy === 0 ? [] : [`heavy users ${users.heavy} of ${users.active}`]),
    ...(users === undefined || users.upgradeCandidates === 0 ? [] : [`upgrade candidates ${users.upgradeCandidates}`]),
  ].join('; ')
}

function resolutionEvents(resolutions: ResolutionTotals): readonly string[] {
  const { started, confirmed, assumed = 0, reversed, costPer, unresolvedCost, isOverTarget } = resolutions
  const unresolved = parseUsd(unresolvedCost ?? '0')
  return [
    ...(confirmed + assumed === 0
      ? []
      : [
          [
            `resolutions ${standingResolutions(resolutions)}${started === 0 ? '' : ` of ${started}`}`,
            ...(assumed === 0 ? [] : [`${assumed} assumed`]),
            ...(reversed === 0 ? [] : [`${reversed} taken back`]),
          ].join(', '),
        ]),
    ...(costPer === null ? [] : [`${roundedUsd(parseUsd(costPer))} USD for each resolution`]),
    ...(isOverTarget === true ? ['over target: the ladder applies to conversations that begin now'] : []),
    ...(unresolved === 0n ? [] : [`${roundedUsd(unresolved)} USD unresolved`]),
  ]
}

function readyOf(status: ObjectStatus): { readonly status: string; readonly reason: string } | undefined {
  return status.conditions?.find(({ type }) => type === 'Ready')
}
