/**
 * How a user's memory is searched, whatever engine keeps it. A text is a set of terms: its words without case and accents;
 * and where a script has no spaces between words (Chinese, Japanese, Thai), or joins them (Korean), each character and each
 * two that stand together. A query asks for its words, the longer ones also as the beginning of others. What is found is
 * ranked by the entries of its user alone: that others said a word too changes nothing, and so tells nothing.
 */
import { setImmediate as nextTick } from 'node:timers/promises'
import { MEMORY_PAGE_MAX, MEMORY_TEXT_BYTES_MAX } from './store.ts'
import type { MemoryEntry, MemoryHit, MemoryPage, MemoryQuery } from './store.ts'

/** Terms of a query beyond these are left out. */
const QUERY_TERMS_MAX = 32
/** Characters of a query that are looked at. */
const QUERY_LENGTH_MAX = 1_000
/** A shorter word is not the beginning of others: `go` does not find `google`. */
const PREFIX_LENGTH_MIN = 3
/** So much text is looked at before others get their turn. */
const SLICE_LENGTH = 64 * 1024

const UNSPACED =
  '\\p{Script=Han}\\p{Script=Hiragana}\\p{Script=Katakana}\\p{Script=Hangul}\\p{Script=Thai}\\p{Script=Lao}\\p{Script=Khmer}\\p{Script=Myanmar}'
/** A run of a script without spaces, with the marks that follow its characters (U+30FC is one of them); or any other word. */
const RUNS = new RegExp(`[${UNSPACED}][${UNSPACED}\\p{M}ー]*|[[\\p{L}\\p{N}\\p{M}]--[${UNSPACED}]]+`, 'gv')
const UNSPACED_START = new RegExp(`^[${UNSPACED}]`, 'v')
/** Most texts are of nothing else, and these are looked at ten times as fast. */
const NOT_ASCII = /\P{ASCII}/u
const ASCII_WORDS = /[a-z0-9]+/g
const ACCENTS = /[\u0300-\u036f]/g

export interface QueryTerm {
  readonly term: string
  /** Longer words that begin with it count too. */
  readonly isPrefix: boolean
}

/** What a query asks for, each once. Empty for one that has no words. */
export function queryTerms(query: string): readonly QueryTerm[] {
  const terms = new Map<string, QueryTerm>()
  for (const run of runsOf(query.slice(0, QUERY_LENGTH_MAX))) {
    const isUnspaced = UNSPACED_START.test(run)
    for (const term of isUnspaced ? pairsOf(run) : [run]) {
      if (terms.size === QUERY_TERMS_MAX) return [...terms.values()]
      terms.set(term, { term, isPrefix: !isUnspaced && term.length >= PREFIX_LENGTH_MIN })
    }
  }
  return [...terms.values()]
}

/** What a text can be found by; as often as it is there. */
export function termsOf(text: string): readonly string[] {
  const runs = runsOf(text)
  return NOT_ASCII.test(text) ? runs.flatMap((run) => (UNSPACED_START.test(run) ? [...charactersOf(run), ...pairsOf(run)] : run)) : runs
}

/** No more of a text than is kept, without half a character at its end. */
export function keptText(text: string): string {
  if (text.length * 3 <= MEMORY_TEXT_BYTES_MAX) return text
  const bytes = Buffer.from(text, 'utf8')
  if (bytes.length <= MEMORY_TEXT_BYTES_MAX) return text
  let end = MEMORY_TEXT_BYTES_MAX
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end -= 1
  return bytes.toString('utf8', 0, end)
}

function runsOf(text: string): readonly string[] {
  if (!NOT_ASCII.test(text)) return text.toLowerCase().match(ASCII_WORDS) ?? []
  return text.normalize('NFKD').replace(ACCENTS, '').normalize('NFKC').toLowerCase().match(RUNS) ?? []
}

function charactersOf(run: string): readonly string[] {
  return Array.from(run)
}
/** A single character is asked for as itself. */
function pairsOf(run: string): readonly string[] {
  const characters = charactersOf(run)
  return characters.length < 2 ? characters : characters.slice(1).map((character, index) => `${characters[index] ?? ''}${character}`)
}

/** BM25, as https://en.wikipedia.org/wiki/Okapi_BM25 has it, with an average length that does not depend on what else is kept. */
const SATURATION = 1.2
const LENGTH_WEIGHT = 0.5
const USUAL_TERMS = 60
/** What only begins with a term counts so much of it. */
const PREFIX_WEIGHT = 0.6

interface Found {
  readonly entry: MemoryEntry
  /** How often each term of the query is there. */
  readonly counts: readonly number[]
  readonly length: number
}

/** Ranks entries for a query, of which all that may be hits are shown to it. */
export class Ranking {
  readonly #terms: readonly QueryTerm[]
  readonly #places: ReadonlyMap<string, number>
  /** The places of terms that may be a beginning, by how they begin. */
  readonly #beginnings: ReadonlyMap<string, readonly number[]>
  readonly #found: Found[] = []

  constructor(terms: readonly QueryTerm[]) {
    this.#terms = terms
    this.#places = new Map(terms.map(({ term }, place) => [term, place]))
    const places = terms.flatMap(({ isPrefix }, place) => (isPrefix ? place : []))
    this.#beginnings = Map.groupBy(places, (place) => terms[place]?.term.slice(0, PREFIX_LENGTH_MIN) ?? '')
  }

  see(entry: MemoryEntry): void {
    const terms = termsOf(entry.text)
    const counts = this.#terms.map(() => 0)
    let isHit = false
    const count = (place: number, by: number): void => {
      counts[place] = (counts[place] ?? 0) + by
      isHit = true
    }
    for (const known of terms) {
      const same = this.#places.get(known)
      if (same !== undefined) count(same, 1)
      for (const place of this.#beginnings.get(known.slice(0, PREFIX_LENGTH_MIN)) ?? [])
        if (place !== same && known.startsWith(this.#terms[place]?.term ?? known)) count(place, PREFIX_WEIGHT)
    }
    if (isHit) this.#found.push({ entry, counts, length: terms.length })
  }

  /** Best first; of equal ones the newer. `total`: how many entries the user has. */
  hits(total: number): readonly MemoryHit[] {
    const weights = this.#terms.map((_, index) => {
      const known = this.#found.filter(({ counts }) => (counts[index] ?? 0) > 0).length
      return Math.log(1 + (total - known + 0.5) / (known + 0.5))
    })
    return this.#found
      .map(({ entry, counts, length }) => ({ ...entry, score: scoreOf(counts, weights, length) }))
      .toSorted((a, b) => b.score - a.score || newerFirst(a, b))
  }
}

function scoreOf(counts: readonly number[], weights: readonly number[], length: number): number {
  const norm = SATURATION * (1 - LENGTH_WEIGHT + (LENGTH_WEIGHT * length) / USUAL_TERMS)
  return counts.reduce((sum, count, index) => sum + ((weights[index] ?? 0) * count * (SATURATION + 1)) / (count + norm), 0)
}

/** By time, and by id among equals. */
export function newerFirst(a: Pick<MemoryEntry, 'atMs' | 'id'>, b: Pick<MemoryEntry, 'atMs' | 'id'>): number {
  return b.atMs - a.atMs || (a.id < b.id ? 1 : a.id === b.id ? 0 : -1)
}

/** The hits among entries that are read in parts, best first; `total`: how many entries the user has. Lets others have their turn between parts. */
export async function rankedHits(
  terms: readonly QueryTerm[],
  pages: AsyncIterable<readonly MemoryEntry[]> | Iterable<readonly MemoryEntry[]>,
  total: number,
): Promise<readonly MemoryHit[]> {
  const ranking = new Ranking(terms)
  let length = 0
  for await (const page of pages) {
    for (const entry of page) {
      ranking.see(entry)
      length += entry.text.length
      if (length < SLICE_LENGTH) continue
      length = 0
      await nextTick()
    }
  }
  return ranking.hits(total)
}

/** Where a search goes on: after so many ranked hits, or after this one of those that are told newest first. */
export type Place = { readonly after: number } | { readonly before: { readonly atMs: number; readonly id: string } | null }

/** Throws `RangeError` for a cursor that no page of such a query gave. */
export function placeOf({ query, cursor }: Pick<MemoryQuery, 'query' | 'cursor'>): Place {
  const isBlank = query.trim() === ''
  if (cursor === undefined) return isBlank ? { before: null } : { after: 0 }
  const [, at = '', id = ''] = (isBlank ? /^before:(-?\d{1,16}):(.*)$/s : /^after:(\d{1,6})$/).exec(cursor) ?? []
  if (at === '') throw new RangeError('a cursor must be one that a page of this search gave')
  return isBlank ? { before: { atMs: Number(at), id } } : { after: Number(at) }
}

/** Of hits that come best first: those after the first `after`. */
export function rankedPage(hits: readonly MemoryHit[], after: number, limit: number): MemoryPage {
  const end = after + pageLength(limit)
  return { hits: hits.slice(after, end), next: end < hits.length ? `after:${end}` : null }
}

/** Of entries that come newest first; one more than the page has says that there are more. */
export function newestPage(entries: readonly MemoryEntry[], limit: number): MemoryPage {
  const hits = entries.slice(0, pageLength(limit))
  const last = hits.at(-1)
  return { hits, next: entries.length > hits.length && last !== undefined ? `before:${last.atMs}:${last.id}` : null }
}

/** How many hits a page has at most: 1 to `MEMORY_PAGE_MAX`. */
export function pageLength(limit: number): number {
  return Math.max(1, Math.min(Math.floor(limit), MEMORY_PAGE_MAX))
}
