/**
 * Answers that are JSON though nothing in the request says so: apps ask for it in words, and parse what they get. No user reads one, and no
 * parser takes words of ours behind it. Models often fence it, as a block of code in Markdown.
 */

/** Whether a whole text is meant as JSON: an object or a list from its first character to its last, or from fence to fence. */
export function isJsonText(text: string): boolean {
  const trimmed = text.trim()
  const isFenced = trimmed.startsWith(FENCE) && trimmed.endsWith(FENCE)
  const inside = isFenced ? trimmed.slice(FENCE.length, -FENCE.length).replace(LANGUAGE, '').trim() : trimmed
  return (inside.startsWith('{') && inside.endsWith('}')) || (inside.startsWith('[') && inside.endsWith(']'))
}

/** Whether a streamed text may be JSON, by its first characters: how it goes on, nobody knows in time. */
export class JsonBeginning {
  /** Null while what was seen may become either. */
  isJson: boolean | null = null
  #seen = ''

  /** Takes the next piece of the text. */
  add(piece: string): void {
    if (this.isJson !== null) return
    const seen = this.#seen + piece.replace(SPACE, '').slice(0, BEGINNING_LENGTH_MAX).toLowerCase()
    if (BEGINNINGS.some((beginning) => seen.startsWith(beginning))) this.isJson = true
    else if (!BEGINNINGS.some((beginning) => beginning.startsWith(seen))) this.isJson = false
    this.#seen = seen
  }
}

const FENCE = '```'
/** Behind the fence, with its dialects (`json5`, `jsonc`). */
const LANGUAGE = /^\s*json\w*/i
const SPACE = /\s/g
/** Without the space between them. */
const BEGINNINGS = ['{', '[', `${FENCE}json`, `${FENCE}{`, `${FENCE}[`]
const BEGINNING_LENGTH_MAX = Math.max(...BEGINNINGS.map(({ length }) => length))
