/** Columns as kubectl prints them: upper-case heads, three blanks between, numbers to the right. */
import { stripVTControlCharacters, styleText } from 'node:util'

export interface Column<Row> {
  readonly head: string
  readonly align?: 'left' | 'right'
  readonly cell: (row: Row) => string
}

const GAP = '   '

/** The head and a line for each row; no blanks at line ends. Cells may carry colours. */
export function renderTable<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): readonly string[] {
  const cells = rows.map((row) => columns.map((column) => column.cell(row)))
  const widths = columns.map((column, index) => Math.max(widthOf(column.head), ...cells.map((line) => widthOf(line[index] ?? ''))))
  const line = (texts: readonly string[]): string =>
    columns
      .map((column, index) => pad(texts[index] ?? '', widths[index] ?? 0, column.align ?? 'left'))
      .join(GAP)
      .trimEnd()
  return [line(columns.map((column) => column.head)), ...cells.map(line)]
}

export type Style = 'bold' | 'dim' | 'red' | 'yellow' | 'green' | 'cyan'

/** Paints where the stream shows colours: a terminal, and no `NO_COLOR`. */
export function painter(stream: NodeJS.WriteStream): (style: Style, text: string) => string {
  return (style, text) => styleText(style, text, { stream })
}

/** Cuts to `width` visible characters, with an ellipsis. */
export function truncate(text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, Math.max(0, width - 1))}…`
}

function pad(text: string, width: number, align: 'left' | 'right'): string {
  const blanks = ' '.repeat(Math.max(0, width - widthOf(text)))
  return align === 'left' ? text + blanks : blanks + text
}

function widthOf(text: string): number {
  return Array.from(stripVTControlCharacters(text)).length
}
