/** Status for people: each object as `kubectl get -o yaml` would show its status, and what the traffic came to. */
import { parseUsd } from '@farebox/crds/usd.ts'
import { RUNGS } from '@farebox/crds/ladder.ts'
import { dump } from 'js-yaml'
import type { ObjectStatus } from '../core/compile.ts'
import type { SidecarStatus, TierTotals } from '../laptop/sidecar-client.ts'
import { roundedUsd } from './money.ts'
import { renderTable } from './table.ts'

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

/** One line for each object: is it in force, and what was made of it. */
export function objectLines(statuses: ReadonlyMap<string, ObjectStatus>): readonly string[] {
  return renderTable(
    [
      { head: 'OBJECT', cell: ([key]: readonly [string, ObjectStatus]) => key },
      { head: 'READY', cell: ([, status]) => readyOf(status)?.status ?? 'Unknown' },
      { head: 'REASON', cell: ([, status]) => readyOf(status)?.reason ?? '' },
      { head: 'CONVERSATION', align: 'right', cell: ([, status]) => ('derived' in status ? (status.derived?.perConversation ?? '') : '') },
      { head: 'USER', align: 'right', cell: ([, status]) => ('derived' in status ? (status.derived?.perUser ?? '') : '') },
      { head: 'CONFIG', cell: ([, status]) => ('config' in status ? (status.config?.hash ?? '') : '') },
    ],
    [...statuses],
  )
}

/** What each tier's conversations came to so far. */
export function trafficLines({ tiers }: SidecarStatus): readonly string[] {
  type Row = readonly [tier: string, totals: TierTotals]
  return renderTable<Row>(
    [
      { head: 'TIER', cell: ([tier]) => tier },
      { head: 'CONVERSATIONS', align: 'right', cell: ([, totals]) => String(totals.conversations) },
      { head: 'TURNS', align: 'right', cell: ([, totals]) => String(totals.turns) },
      { head: 'SPENT', align: 'right', cell: ([, totals]) => roundedUsd(parseUsd(totals.spent)) },
      { head: 'P50', align: 'right', cell: ([, totals]) => roundedUsd(parseUsd(totals.cost.p50)) },
      { head: 'P95', align: 'right', cell: ([, totals]) => roundedUsd(parseUsd(totals.cost.p95)) },
      { head: 'MAX', align: 'right', cell: ([, totals]) => roundedUsd(parseUsd(totals.cost.max)) },
      { head: 'BY RUNG', cell: ([, totals]) => byRung(totals) },
    ],
    Object.entries(tiers),
  )
}

function byRung({ byRung: counts }: TierTotals): string {
  return ['None', ...RUNGS].flatMap((rung) => ((counts[rung] ?? 0) > 0 ? [`${rung} ${counts[rung]}`] : [])).join(', ')
}

function readyOf(status: ObjectStatus): { readonly status: string; readonly reason: string } | undefined {
  return status.conditions?.find(({ type }) => type === 'Ready')
}
