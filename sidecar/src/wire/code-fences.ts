/** Blocks of code in Markdown, between fences: https://spec.commonmark.org/0.31.2/#fenced-code-blocks */

/**
 * Whether a text that comes in pieces has come into a block of code and not out of it. What it keeps does not grow with the text. Lists and
 * quotes are not followed: what is behind one is outside of the code in it.
 */
export class CodeFences {
  /** Of the block that is open. */
  #opener: Fence | null = null
  #line: Line = newLine()

  /** The next piece of the text, cut wherever. */
  add(piece: string): void {
    for (const character of piece) {
      if (character !== '\n' && character !== '\r') {
        addTo(this.#line, character)
        continue
      }
      this.#opener = openAfter(this.#line, this.#opener)
      this.#line = newLine()
    }
  }

  /** As if the line had ended with the last piece. */
  get isOpen(): boolean {
    return openAfter(this.#line, this.#opener) !== null
  }
}

interface Fence {
  readonly mark: string
  readonly length: number
}

/** What counts of a line: spaces, a row of one mark, and what stands behind the row. */
interface Line {
  /** By how it begins it is no fence. */
  isText: boolean
  indent: number
  mark: string
  /** Of the row. */
  length: number
  isBehind: boolean
  /** Behind the row: the mark again. */
  hasMark: boolean
  /** Behind the row: anything but spaces. */
  hasMore: boolean
}

const INDENT_MAX = 3
const FENCE_LENGTH_MIN = 3

function newLine(): Line {
  return { isText: false, indent: 0, mark: '', length: 0, isBehind: false, hasMark: false, hasMore: false }
}

function addTo(line: Line, character: string): void {
  if (line.isText) return
  if (line.mark === '') {
    if (character === ' ' && line.indent < INDENT_MAX) line.indent += 1
    else if (character === '`' || character === '~') {
      line.mark = character
      line.length = 1
    } else line.isText = true
    return
  }
  if (!line.isBehind && character === line.mark) {
    line.length += 1
    return
  }
  line.isBehind = true
  line.hasMark ||= character === line.mark
  line.hasMore ||= character !== ' ' && character !== '\t'
}

/** The fence that is open behind `line`, before which `opener` was. */
function openAfter({ mark, length, hasMore, hasMark, isText }: Line, opener: Fence | null): Fence | null {
  if (opener !== null) return !isText && mark === opener.mark && length >= opener.length && !hasMore ? null : opener
  // A mark behind backticks makes them code within a line.
  return !isText && length >= FENCE_LENGTH_MIN && !(mark === '`' && hasMark) ? { mark, length } : null
}
