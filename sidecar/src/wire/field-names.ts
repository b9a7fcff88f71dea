/**
 * Names of top-level fields, which not everybody tells apart by case: servers written in Go take "Model" for "model", and of both the last
 * that comes. What is metered must be what they read. https://pkg.go.dev/encoding/json#Unmarshal
 */

/** Longer names, in UTF-16 units, are no spelling of a field that any format has; so no name, however long, is work. */
const NAME_UNITS_MAX = 64
/** Their own folded form: most names. */
const FOLDED = /^[\0-@[-\x7f]*$/

/** One form for all spellings of a name that somebody may take for each other. */
export function foldedName(name: string): string {
  if (isFolded(name)) return name
  // The first makes a K of the Kelvin sign, and an s of the long one, as Go does.
  return name.normalize('NFKC').toLowerCase()
}

/** Whether that is the name itself. */
export function isFolded(name: string): boolean {
  return name.length > NAME_UNITS_MAX || FOLDED.test(name)
}

/** Of names that differ, the first that was there in another spelling; null: none was. */
export function spelledAgain(names: readonly string[]): string | null {
  if (names.every(isFolded)) return null
  const seen = new Set<string>()
  for (const name of names) {
    const folded = foldedName(name)
    if (seen.has(folded)) return name
    seen.add(folded)
  }
  return null
}
