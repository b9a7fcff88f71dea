/** Where each conversation stands while they run: redrawn in place on a terminal, a line for each change of rung elsewhere. */
import { RUNGS } from '@farebox/crds/ladder.ts'
import type { Column, Style } from './table.ts'
import { renderTable, truncate, widthOf, widthOfStream } from './table.ts'

export interface LiveRow {
  readonly conversation: string
  readonly tier: string
  readonly rung: string
  readonly percent: number
  /** Amounts as shown. */
  readonly spent: string
  readonly budget: string
  readonly turns: number
  /** `running`, or how it ended. */
  readonly state: string
}

const NAME_WIDTH = 32
const CLEAR_BELOW = '\u001b[0J'
/** Long lines are cut at the edge, so that a row is one line. */
const NO_WRAP = '\u001b[?7l'
const WRAP = '\u001b[?7h'
/** Lines of a terminal that the table leaves free: for its head, the line below it, and what stands above. */
const LINES_FREE = 5
/** Columns keep their width when the first conversation climbs. */
const RUNG_WIDTH = Math.max(...RUNGS.map((rung) => rung.length))
/** What narrow terminals show, the widest first: names are cut, then the state goes, which a dim name tells as well. */
const LAYOUTS = [
  { nameWidth: NAME_WIDTH, columns: 'all' },
  { nameWidth: 20, columns: 'all' },
  { nameWidth: 16, columns: 'all' },
  { nameWidth: 20, columns: 'noState' },
  { nameWidth: 16, columns: 'noState' },
  { nameWidth: 12, columns: 'noState' },
  { nameWidth: 8, columns: 'noState' },
] as const

type Layout = (typeof LAYOUTS)[number]
type Paint = (style: Style, text: string) => string

/** Lines of at most `width` characters, if there is a layout that narrow. */
export function liveLines(rows: readonly LiveRow[], paint: Paint, width: number = Infinity): readonly string[] {
  let lines: readonly string[] = []
  for (const layout of LAYOUTS) {
    lines = renderTable(columnsOf(layout, paint), rows, width)
    if (lines.every((line) => widthOf(line) <= width)) break
  }
  return lines
}

function columnsOf({ nameWidth, columns }: Layout, paint: Paint): readonly Column<LiveRow>[] {
  const state: Column<LiveRow> = { head: 'STATE', cell: (row) => (row.state === 'running' ? row.state : paint('dim', row.state)) }
  return [
    {
      head: truncate('CONVERSATION', nameWidth),
      cell: (row) => paint(row.state === 'running' ? 'bold' : 'dim', truncate(row.conversation, nameWidth)),
    },
    { head: 'TIER', cell: (row) => truncate(row.tier, nameWidth) },
    { head: 'RUNG', cell: (row) => paint(rungStyle(row.rung), row.rung.padEnd(RUNG_WIDTH)) },
    { head: 'USED', align: 'right', cell: (row) => `${row.percent} %` },
    { head: 'SPENT', align: 'right', cell: (row) => row.spent },
    { head: 'BUDGET', align: 'right', cell: (row) => row.budget },
    { head: 'TURNS', align: 'right', cell: (row) => String(row.turns) },
    ...(columns === 'all' ? [state] : []),
  ]
}

/** Those that fit into `count` lines: running ones first, then the ones that came last; in the order given. */
export function rowsThatFit<Row extends Pick<LiveRow, 'state'>>(rows: readonly Row[], count: number): readonly Row[] {
  if (rows.length <= count) return rows
  const ranked = rows
    .map((row, index) => ({ row, index }))
    .toSorted((a, b) => Number(b.row.state === 'running') - Number(a.row.state === 'running') || b.index - a.index)
  return ranked
    .slice(0, Math.max(1, count))
    .toSorted((a, b) => a.index - b.index)
    .map(({ row }) => row)
}

/** One line of what changed, for logs. */
export function changeLine(row: LiveRow): string {
  return `${truncate(row.conversation, NAME_WIDTH).padEnd(NAME_WIDTH)} ${row.tier.padEnd(16)} ${row.rung.padEnd(15)} ${String(row.percent).padStart(3)} %  ${row.spent} of ${row.budget}  ${row.turns} turns  ${row.state}`
}

export class LiveTable {
  readonly #stream: NodeJS.WriteStream
  readonly #paint: Paint
  #drawn = 0
  readonly #said = new Map<string, string>()

  constructor(stream: NodeJS.WriteStream, paint: Paint) {
    this.#stream = stream
    this.#paint = paint
  }

  /** `below`: a line that says how far it is; shown on a terminal only. */
  update(rows: readonly LiveRow[], below: string): void {
    if (this.#stream.isTTY) this.#redraw(rows, below)
    else this.#sayChanges(rows)
  }

  #redraw(rows: readonly LiveRow[], below: string): void {
    const shown = rowsThatFit(rows, (this.#stream.rows || 24) - LINES_FREE)
    const lines = [...liveLines(shown, this.#paint, widthOfStream(this.#stream)), below]
    const up = this.#drawn === 0 ? '' : `\u001b[${this.#drawn}A`
    this.#stream.write(`${up}\r${CLEAR_BELOW}${NO_WRAP}${lines.join('\n')}${WRAP}\n`)
    this.#drawn = lines.length
  }

  #sayChanges(rows: readonly LiveRow[]): void {
    for (const row of rows) {
      const key = `${row.rung} ${row.state}`
      const before = this.#said.get(row.conversation)
      if (before === key) continue
      this.#said.set(row.conversation, key)
      if (before === undefined && row.rung === 'None' && row.state === 'running') continue // nothing to tell yet
      this.#stream.write(`${changeLine(row)}\n`)
    }
  }
}

function rungStyle(rung: string): Style {
  if (rung === 'None') return 'dim'
  return rung === 'EndConversation' ? 'red' : 'yellow'
}
