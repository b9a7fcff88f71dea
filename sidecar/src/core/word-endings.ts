/** Whether a string of a message ends in certain words, as its JSON has it: without reading it. */

const QUOTE = 0x22
const BACKSLASH = 0x5c
const SPACE = 0x20
/** What whitespace is written by behind a backslash. */
const SPACE_ESCAPES: ReadonlySet<number | undefined> = new Set(Buffer.from('nrt'))
/** Ends of strings that are looked at, from the end of the message on. */
const QUOTES_MAX = 64
const ENDING_UNITS_MAX = 16

export class WordEndings {
  /** How the words end as JSON, by their last byte. */
  readonly #byLast = new Map<number, Buffer[]>()
  /** Some may end in anything. */
  readonly #isOpen: boolean

  /** `ends`: the last words of each text; empty where a value ends it. */
  constructor(ends: readonly string[]) {
    const letters = ends.map((end) => /[^\s/]*$/u.exec(end)?.[0].slice(-ENDING_UNITS_MAX) ?? '')
    this.#isOpen = letters.includes('')
    for (const ending of new Set(letters.flatMap(writtenWays))) {
      const bytes = Buffer.from(ending)
      const last = bytes.at(-1)
      if (last !== undefined) this.#byLast.set(last, [...(this.#byLast.get(last) ?? []), bytes])
    }
  }

  /** Whether a string of this JSON ends so; null where that is not told by so little. */
  areIn(json: Buffer): boolean | null {
    if (this.#isOpen) return null
    let quotes = 0
    for (let at = json.lastIndexOf(QUOTE); at > 0; at = json.lastIndexOf(QUOTE, at - 1)) {
      if (this.#endBefore(json, at)) return true
      quotes += 1
      if (quotes === QUOTES_MAX) return null
    }
    return false
  }

  #endBefore(json: Buffer, quote: number): boolean {
    let last = quote - 1
    for (; last > 0; last -= 1) {
      if (json[last] === SPACE) continue
      if (json[last - 1] !== BACKSLASH || !SPACE_ESCAPES.has(json[last])) break
      last -= 1
    }
    return this.#byLast.get(json[last] ?? 0)?.some((ending) => endsAt(json, last, ending)) === true
  }
}

function endsAt(json: Buffer, last: number, ending: Buffer): boolean {
  const start = last + 1 - ending.length
  if (start < 0) return false
  for (let index = ending.length - 1; index >= 0; index -= 1) if (json[start + index] !== ending[index]) return false
  return true
}

/** As JSON, with what is not ASCII as it is, and escaped, as some libraries write it. */
function writtenWays(text: string): readonly string[] {
  const written = JSON.stringify(text).slice(1, -1)
  const escaped = written.replaceAll(/[^\x20-\x7e]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
  return [written, escaped]
}
