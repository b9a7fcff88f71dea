/** The table that docs/study.md shows: made here, and read back from there. */
import { fileURLToPath } from 'node:url'
import { formatUsd } from '@farebox/crds/usd.ts'
import type { CachedShares } from './edits.ts'

export const PAGE = fileURLToPath(new URL('../../docs/study.md', import.meta.url))

export interface Row {
  readonly shape: string
  /** What becomes of a history that is longer than the window. */
  readonly how: string
  readonly edits: number
  readonly meanInput: number
  readonly mostInput: number
  readonly cached: CachedShares
  readonly cost: bigint
  readonly ungoverned: bigint
}

const CENT_NANO_USD = 10_000_000n
const HEAD = [
  '| provider, overflow | edits | input tokens, mean | most | cached before an edit | at it | after it | over all | cost | ungoverned | saved |',
  '| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |',
]

export function table(rows: readonly Row[]): string {
  return [...HEAD, ...rows.map(line)].join('\n')
}

/** The numbers of each row of such a table in a text, by provider and overflow. */
export function rowsIn(text: string): ReadonlyMap<string, readonly number[]> {
  const start = text.indexOf(HEAD[0] ?? '')
  const [table = ''] = start < 0 ? [] : text.slice(start).split('\n\n')
  const lines = table.trim().split('\n').slice(HEAD.length)
  return new Map(
    lines.map((row) => {
      const [name = '', ...cells] = row.split('|').slice(1, -1)
      return [name.trim(), cells.map((cell) => Number(cell.replaceAll(/[^\d.-]/g, '') || Number.NaN))]
    }),
  )
}

function line({ shape, how, edits, meanInput, mostInput, cached, cost, ungoverned }: Row): string {
  const percent = (share: number): string => (edits === 0 ? '–' : `${share.toFixed(0)}%`)
  const saved = Number((1_000n * (ungoverned - cost)) / ungoverned) / 10
  const cells = [
    `${shape}, ${how}`,
    String(edits),
    meanInput.toLocaleString('en'),
    mostInput.toLocaleString('en'),
    percent(cached.before),
    percent(cached.at),
    percent(cached.after),
    `${cached.all.toFixed(0)}%`,
    `$${inCents(cost)}`,
    `$${inCents(ungoverned)}`,
    `${saved.toFixed(0)}%`,
  ]
  return `| ${cells.join(' | ')} |`
}

function inCents(cost: bigint): string {
  return formatUsd(((cost + CENT_NANO_USD / 2n) / CENT_NANO_USD) * CENT_NANO_USD)
}
