/** Where each conversation stands while they run: redrawn in place on a terminal, a line for each change of rung elsewhere. */
import type { Style } from './table.ts'
import { renderTable, truncate } from './table.ts'

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
/** Lines of a terminal that the table leaves free. */
const LINES_FREE = 4

export function liveLines(rows: readonly LiveRow[], paint: (style: Style, text: string) => string): readonly string[] {
  return renderTable<LiveRow>(
    [
      { head: 'CONVERSATION', cell: (row) => truncate(row.conversation, NAME_WIDTH) },
      { head: 'TIER', cell: (row) => row.tier },
      { head: 'RUNG', cell: (row) => paint(rungStyle(row.rung), row.rung) },
      { head: 'PERCENT', align: 'right', cell: (row) => String(row.percent) },
      { head: 'SPENT', align: 'right', cell: (row) => row.spent },
      { head: 'OF BUDGET', align: 'right', cell: (row) => row.budget },
      { head: 'TURNS', align: 'right', cell: (row) => String(row.turns) },
      { head: 'STATE', cell: (row) => (row.state === 'running' ? row.state : paint('dim', row.state)) },
    ],
    rows,
  )
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
  readonly #paint: (style: Style, text: string) => string
  #drawn = 0
  readonly #said = new Map<string, string>()

  constructor(stream: NodeJS.WriteStream, paint: (style: Style, text: string) => string) {
    this.#stream = stream
    this.#paint = paint
  }

  update(rows: readonly LiveRow[]): void {
    if (this.#stream.isTTY) this.#redraw(rows)
    else this.#sayChanges(rows)
  }

  #redraw(rows: readonly LiveRow[]): void {
    const lines = liveLines(rowsThatFit(rows, (this.#stream.rows || 24) - LINES_FREE), this.#paint)
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
