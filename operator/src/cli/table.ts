/** Columns as kubectl prints them: upper-case heads, blanks between, numbers to the right. */
import { stripVTControlCharacters, styleText } from 'node:util'

export interface Column<Row> {
  readonly head: string
  readonly align?: 'left' | 'right'
  /** `optional`: left out where the table is too wide; the last such column goes first. */
  readonly need?: 'required' | 'optional'
  readonly cell: (row: Row) => string
}

const GAPS = ['   ', '  '] as const
/** Of a terminal that does not say how wide it is. */
const WIDTH_USUAL = 80

/**
 * The head and a line for each row; no blanks at line ends. Cells may carry colours. A table wider than `widthMax` gets narrower gaps, then
 * fewer columns; one that has nothing left to lose stays as wide as it is.
 */
export function renderTable<Row>(columns: readonly Column<Row>[], rows: readonly Row[], widthMax: number = Infinity): readonly string[] {
  for (const gap of GAPS) {
    const lines = linesOf(columns, rows, gap)
    if (lines.every((line) => widthOf(line) <= widthMax)) return lines
  }
  const least = columns.findLastIndex(({ need }) => need === 'optional')
  return least < 0 ? linesOf(columns, rows, GAPS[1]) : renderTable(columns.toSpliced(least, 1), rows, widthMax)
}

export type Style = 'bold' | 'dim' | 'red' | 'yellow' | 'green' | 'cyan'

/** Paints where the stream shows colours: a terminal, and no `NO_COLOR`. */
export function painter(stream: NodeJS.WriteStream): (style: Style, text: string) => string {
  return (style, text) => styleText(style, text, { stream })
}

/** Columns of a terminal; files and pipes take lines of any width. */
export function widthOfStream(stream: NodeJS.WriteStream): number {
  return stream.isTTY ? stream.columns || WIDTH_USUAL : Infinity
}

/** Lines of at most `width` characters, broken between words; a longer word has a line of its own. */
export function wrap(text: string, width: number): readonly string[] {
  const lines: string[] = []
  for (const word of text.split(' ')) {
    const last = lines.at(-1)
    if (last !== undefined && widthOf(last) + 1 + widthOf(word) <= width) lines[lines.length - 1] = `${last} ${word}`
    else lines.push(word)
  }
  return lines
}

/** Cuts to `width` characters with an ellipsis in the middle: names differ at both ends. */
export function truncate(text: string, width: number): string {
  const letters = Array.from(text)
  if (letters.length <= width) return text
  const tail = Math.floor((width - 1) / 2)
  return `${letters.slice(0, width - 1 - tail).join('')}…${letters.slice(letters.length - tail).join('')}`
}

/** Visible characters. */
export function widthOf(text: string): number {
  return Array.from(stripVTControlCharacters(text)).length
}

function linesOf<Row>(columns: readonly Column<Row>[], rows: readonly Row[], gap: string): readonly string[] {
  const cells = rows.map((row) => columns.map((column) => column.cell(row)))
  const widths = columns.map((column, index) => Math.max(widthOf(column.head), ...cells.map((line) => widthOf(line[index] ?? ''))))
  const line = (texts: readonly string[]): string =>
    columns
      .map((column, index) => pad(texts[index] ?? '', widths[index] ?? 0, column.align ?? 'left'))
      .join(gap)
      .trimEnd()
  return [line(columns.map((column) => column.head)), ...cells.map(line)]
}

function pad(text: string, width: number, align: 'left' | 'right'): string {
  const blanks = ' '.repeat(Math.max(0, width - widthOf(text)))
  return align === 'left' ? text + blanks : blanks + text
}
