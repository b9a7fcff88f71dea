/** One text for one value: keys sorted, absent fields left out. What is hashed and compared is always this. */
import { createHash } from 'node:crypto'

/** Of parts that many values share, by identity: their text is made once. */
export type SharedTexts = ReadonlyMap<unknown, string>

/** Of a value that JSON can hold: keys in order of their UTF-16 units. Throws `TypeError` for a `bigint`. */
export function canonicalJson(value: unknown, shared?: SharedTexts): string {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  const known = shared?.get(value)
  if (known !== undefined) return known
  if (Array.isArray(value)) return `[${value.map((item) => canonicalJson(item, shared)).join(',')}]`
  const fields = Object.entries(value)
    .filter(([, field]) => field !== undefined)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, field]) => `${JSON.stringify(key)}:${canonicalJson(field, shared)}`)
  return `{${fields.join(',')}}`
}

/** First 64 bits of SHA-256 over the canonical JSON, in hex. */
export function contentHash(value: unknown, shared?: SharedTexts): string {
  return createHash('sha256').update(canonicalJson(value, shared)).digest('hex').slice(0, 16)
}
