/**
 * Answers that are JSON though nothing in the request says so: apps ask for it in words, and parse what they get. No user reads one, and no
 * parser takes words of ours behind it.
 */

/** Whether a whole text is meant as JSON: an object or a list from its first character to its last. */
export function isJsonText(text: string): boolean {
  const trimmed = text.trim()
  return (trimmed.startsWith('{') && trimmed.endsWith('}')) || (trimmed.startsWith('[') && trimmed.endsWith(']'))
}

/**
 * Whether a text of which this is the first piece may be JSON, by its first character; null while there is nothing but space. `piece` may be
 * as it stands between the quotes of a JSON string.
 */
export function beginsJson(piece: string): boolean | null {
  const first = FIRST_CHARACTER.exec(piece)?.[1]
  return first === undefined ? null : first === '{' || first === '['
}

const FIRST_CHARACTER = /^(?:\s|\\[nrt])*(?!\\[nrt])(\S)/
