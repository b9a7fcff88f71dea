/** Whether a notice may stand at the end of an answer, by its words: not in JSON, which a program reads, nor inside a block of code. */
import { isJsonText, JsonBeginning } from './asked-json.ts'
import { CodeFences } from './code-fences.ts'

/**
 * Whether a notice may follow a whole answer of these words. `isCut`: it ended at its limit. Only then may it have ended in the midst of
 * either: what a model leaves open at an end of its own is as it meant it.
 */
export function takesNotice(words: string, isCut: boolean): boolean {
  if (!isCut) return !isJsonText(words)
  const place = new NoticePlace()
  place.add(words)
  return place.isFree(true)
}

/** The same of words that come in pieces, with constant room. */
export class NoticePlace {
  readonly #beginning = new JsonBeginning()
  readonly #fences = new CodeFences()

  /** The next piece of the words, decoded. */
  add(piece: string): void {
    this.#beginning.add(piece)
    this.#fences.add(piece)
  }

  isFree(isCut: boolean): boolean {
    return this.#beginning.isJson !== true && !(isCut && this.#fences.isOpen)
  }
}
