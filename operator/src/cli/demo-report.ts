/** The demo's summary in words and tables. */
import type { DemoResult } from '../laptop/demo.ts'
import { quantile } from '../laptop/quantile.ts'
import { differsBy } from '../laptop/summary.ts'
import type { TierSummary } from '../laptop/summary.ts'
import { roundedUsd } from './money.ts'
import type { Style } from './table.ts'
import { renderTable, wrap } from './table.ts'

type Paint = (style: Style, text: string) => string

/** Ledger and bill may differ by this much before we say that we cannot explain it. */
const GAP_PERCENT = 1
const FAILURES_SHOWN = 5
const BAR_WIDTH = 30

/** Whether all went as it must: nothing failed, and no bill was above its budget. */
export function isSound({ reports, overshoot }: DemoResult): boolean {
  return (overshoot === null || overshoot.beyondBudgets === 0n) && !reports.some(({ outcome }) => outcome === 'failed')
}

/** `width`: of the terminal. */
export function summaryLines(result: DemoResult, tiers: readonly TierSummary[], paint: Paint, width: number): readonly string[] {
  const { played, reports, calls, seconds } = result
  const costs = played.map(({ spent }) => spent)
  const at = (percent: number): string => roundedUsd(quantile(costs, percent) ?? 0n)
  return [
    paint('bold', `${played.length} conversations, ${calls} model calls, ${seconds.toFixed(1)} s`),
    `cost per conversation, USD: p50 ${at(50)}, p95 ${at(95)}, max ${at(100)}`,
    '',
    paint('bold', 'How far up the ladder they went'),
    ...rungLines(result, paint),
    '',
    paint('bold', 'What each plan came to, USD'),
    ...tierLines(tiers, paint, width),
    ...wrap(
      "REVENUE is the plan's price: per resolution, per conversation, or a seat's price shared by its expected conversations.",
      width,
    ).map((text) => paint('dim', text)),
    '',
    ...[...billLines(result, paint), ...endLines(reports, paint)].flatMap((text) => wrap(text, width)),
  ]
}

function rungLines({ byRung, played }: DemoResult, paint: Paint): readonly string[] {
  return renderTable<(typeof byRung)[number]>(
    [
      { head: 'RUNG', cell: ([rung]) => (rung === 'None' ? 'None (served as asked)' : rung) },
      { head: 'CONVERSATIONS', align: 'right', cell: ([, count]) => String(count) },
      { head: '', cell: ([rung, count]) => paint(rung === 'None' ? 'green' : 'yellow', bar(count, played.length)) },
    ],
    byRung,
  )
}

function bar(count: number, whole: number): string {
  return count === 0 ? '' : '#'.repeat(Math.max(1, Math.round((count / whole) * BAR_WIDTH)))
}

function tierLines(tiers: readonly TierSummary[], paint: Paint, width: number): readonly string[] {
  return renderTable<TierSummary>(
    [
      { head: 'TIER', cell: ({ tier }) => tier },
      { head: 'CONVERSATIONS', align: 'right', cell: ({ conversations }) => String(conversations) },
      { head: 'RESOLVED', align: 'right', cell: ({ resolved }) => String(resolved) },
      { head: 'P50', align: 'right', need: 'optional', cell: ({ p50 }) => roundedUsd(p50) },
      { head: 'P95', align: 'right', need: 'optional', cell: ({ p95 }) => roundedUsd(p95) },
      { head: 'MAX', align: 'right', need: 'optional', cell: ({ max }) => roundedUsd(max) },
      { head: 'REVENUE', align: 'right', cell: ({ revenue }) => roundedUsd(revenue, 2) },
      { head: 'INFERENCE', align: 'right', cell: ({ spent }) => roundedUsd(spent, 2) },
      {
        head: 'MARGIN',
        align: 'right',
        cell: ({ marginPercent, targetPercent }) =>
          marginPercent === null ? '-' : paint(marginPercent >= targetPercent ? 'green' : 'red', `${marginPercent} %`),
      },
      { head: 'TARGET', align: 'right', cell: ({ targetPercent }) => `${targetPercent} %` },
    ],
    tiers,
    width,
  )
}

function billLines({ overshoot, reports }: DemoResult, paint: Paint): readonly string[] {
  if (overshoot === null)
    return ["The provider's own bill is not known here: compare the total with its dashboard. There is no overshoot to show."]
  const { beyondBudgets, conversations, ledger, bill } = overshoot
  const wasCut = reports.some(({ outcome }) => outcome === 'stopped' || outcome === 'failed')
  const gapNote = !differsBy(overshoot, GAP_PERCENT)
    ? ''
    : wasCut && ledger > bill
      ? paint('dim', ' (calls that were cut are charged for what they may have cost)')
      : paint('red', ' (they should agree)')
  const verdict =
    beyondBudgets === 0n
      ? paint('green', '0: no conversation was billed more than its budget')
      : paint(
          'red',
          `${roundedUsd(beyondBudgets, 9)} in ${conversations.length} conversations: ${conversations.slice(0, FAILURES_SHOWN).join(', ')}`,
        )
  return [
    `${paint('bold', 'Overshoot')} against the provider's own bill: ${verdict}`,
    `our ledger ${roundedUsd(ledger, 6)}, the provider's bill ${roundedUsd(bill, 6)}${gapNote}`,
  ]
}

function endLines(reports: DemoResult['reports'], paint: Paint): readonly string[] {
  const counts = new Map<string, number>()
  for (const { outcome } of reports) counts.set(outcome, (counts.get(outcome) ?? 0) + 1)
  const failures = reports.filter(({ outcome }) => outcome === 'failed')
  const words: Readonly<Record<string, string>> = {
    finished: 'played to the end',
    ended: 'closed by their budget with a proper answer',
    refused: 'refused with 402',
    failed: 'failed',
    stopped: 'stopped by you',
  }
  return [
    [...counts].map(([outcome, count]) => `${count} ${words[outcome] ?? outcome}`).join(', '),
    ...failures.slice(0, FAILURES_SHOWN).map(({ id, error }) => paint('red', `${id}: ${error ?? 'failed'}`)),
  ]
}
