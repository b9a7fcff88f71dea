/** The heaviest users and conversations, for people. */
import { parseSignedUsd } from '@farebox/crds/usd.ts'
import { USE_BANDS } from '@farebox/crds/traffic-status.ts'
import type { UserLine, UsersPage } from '@farebox/crds/users-page.ts'
import type { Standing } from '../laptop/sidecar-client.ts'
import { roundedUsd } from './money.ts'
import { renderTable, truncate, wrap } from './table.ts'

const NAME_WIDTH = 32

/** What all users of the tier come to, then a line for each of the heaviest. */
export function usersLines(page: UsersPage, width: number = Infinity): readonly string[] {
  const { users, currency } = page
  const head = wrap(summaryOf(page), width)
  if (users.length === 0) return head
  const table = renderTable<UserLine>(
    [
      { head: 'USER', cell: ({ user }) => user },
      { head: `SPENT ${currency}`, align: 'right', cell: ({ spent }) => amount(spent) },
      { head: 'BUDGET', align: 'right', cell: ({ percent }) => (percent === null ? '-' : `${percent} %`) },
      { head: 'MEDIAN', align: 'right', cell: ({ timesMedian }) => (timesMedian === null ? '-' : `${timesMedian} x`) },
      { head: 'HEAVY', cell: ({ heavy }) => (heavy ? 'yes' : '') },
      { head: 'UPGRADE', cell: ({ upgradeCandidate }) => (upgradeCandidate ? `to ${page.upgradeTo ?? '?'}` : '') },
    ],
    users,
    width,
  )
  return [...head, '', ...table]
}

function summaryOf(page: UsersPage): string {
  const { tier, from, to, budget, active, spent, median, heavy, heavySharePercent, upgradeCandidates, upgradeTo, byUse, oneIn, currency } =
    page
  const about = oneIn === 1 ? '' : 'about '
  const span = from === to ? from : `${from} to ${to}`
  const parts = [
    `${tier}, ${span}: ${about}${active === 1 ? '1 user' : `${active} users`}, ${amount(spent)} ${currency}`,
    ...(budget === null ? [] : [`${amount(budget)} for each`]),
    `median ${amount(median)}`,
    heavy === 0 ? 'none heavy' : `heavy ${heavy}, who cost ${heavySharePercent} %`,
    ...(upgradeTo === null ? [] : [`for ${upgradeTo} ${upgradeCandidates}`]),
  ]
  const bands = USE_BANDS.flatMap((band) => ((byUse[band] ?? 0) > 0 ? [`${band} % ${byUse[band]}`] : []))
  return [parts.join(', '), ...(bands.length === 0 ? [] : [`by share of their budget ${bands.join(', ')}`])].join('; ')
}

/** Those that have used most of their budget, the most first. */
export function fullest(standings: readonly Standing[], limit: number): readonly Standing[] {
  return standings.toSorted((a, b) => b.percent - a.percent || (a.conversation < b.conversation ? -1 : 1)).slice(0, limit)
}

export function conversationsLines(standings: readonly Standing[], width: number = Infinity): readonly string[] {
  if (standings.length === 0) return ['no conversations']
  return renderTable<Standing>(
    [
      { head: 'CONVERSATION', cell: ({ conversation }) => truncate(conversation, NAME_WIDTH) },
      { head: 'TIER', need: 'optional', cell: ({ tier }) => truncate(tier, NAME_WIDTH) },
      { head: 'USED', align: 'right', cell: ({ percent }) => `${percent} %` },
      { head: 'SPENT', align: 'right', cell: ({ spent, currency }) => `${amount(spent)} ${currency}` },
      { head: 'BUDGET', align: 'right', need: 'optional', cell: ({ budget, currency }) => `${amount(budget)} ${currency}` },
      { head: 'RUNG', cell: ({ rung }) => rung },
      { head: 'TURNS', align: 'right', need: 'optional', cell: ({ turns }) => String(turns) },
      { head: 'STATE', need: 'optional', cell: ({ state }) => state },
      { head: 'RESOLUTION', need: 'optional', cell: ({ resolution }) => resolution },
    ],
    standings,
    width,
  )
}

function amount(decimal: string): string {
  return roundedUsd(parseSignedUsd(decimal))
}
