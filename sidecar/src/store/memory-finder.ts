/** The search of a user's memory in the tables of the embedded store: a few entries in a turn of the event loop, so that steps have their turn. */
import type { UserId } from '../core/conversation.ts'
import type { BooksFile } from './books-file.ts'
import { matchOf } from './memory-index.ts'
import { newestPage, pageLength, placeOf, queryTerms, rankedHits, rankedPage } from './memory-search.ts'
import * as rows from './rows.ts'
import { allValues, firstValues } from './statements.ts'
import type { MemoryEntry, MemoryPage, MemoryQuery } from './store.ts'
import type { StoreTurns } from './store-turns.ts'

/** Entries that are read before others have their turn. */
const ENTRIES_READ = 50

export interface MemoryFinderOptions extends Pick<StoreTurns, 'look' | 'query'> {
  readonly books: Pick<BooksFile, 'sql'>
  /** Entries of an earlier round are forgotten. */
  readonly roundOf: (user: UserId) => number
  /** The store's clock at this time of the wall clock. */
  readonly at: (wallMs: number) => number
}

export class MemoryFinder {
  readonly #from: MemoryFinderOptions

  constructor(from: MemoryFinderOptions) {
    this.#from = from
  }

  /** As `searchMemory` of a store. */
  async search(query: MemoryQuery): Promise<MemoryPage> {
    const place = placeOf(query)
    return 'before' in place ? await this.#newest(query, place.before) : await this.#ranked(query, place.after)
  }

  async #newest({ user, limit, nowMs }: MemoryQuery, before: Pick<MemoryEntry, 'atMs' | 'id'> | null): Promise<MemoryPage> {
    const { books, query, roundOf, at } = this.#from
    const { atMs, id } = before ?? { atMs: Number.MAX_SAFE_INTEGER, id: '' }
    const entries = await query(() => {
      const [round, now] = [roundOf(user), at(nowMs)]
      const found = allValues(books.sql.newestMemory, user, round, now, atMs, id, pageLength(limit) + 1)
      return found.map((values) => rows.memoryRow(values).entry)
    })
    return newestPage(entries, limit)
  }

  async #ranked({ user, query: words, limit, nowMs }: MemoryQuery, after: number): Promise<MemoryPage> {
    const { books, query, roundOf, at } = this.#from
    const terms = queryTerms(words)
    const match = matchOf(user, terms)
    if (match === null) return { hits: [], next: null }
    const found = await query(() => {
      const [round, now] = [roundOf(user), at(nowMs)]
      const sequences = allValues(books.sql.findMemory, match).map(([sequence]) => rows.whole(sequence))
      return { sequences, total: allValues(books.sql.memoryIds, user, round, now).length, round, now }
    })
    const read = (sequence: number): readonly MemoryEntry[] => {
      const values = firstValues(books.sql.getMemoryAt, sequence, user, found.round, found.now)
      return values === null ? [] : [rows.memoryRow(values).entry]
    }
    return rankedPage(await rankedHits(terms, this.#pages(found.sequences, read), found.total), after, limit)
  }

  async *#pages(sequences: readonly number[], read: (sequence: number) => readonly MemoryEntry[]): AsyncGenerator<readonly MemoryEntry[]> {
    for (let from = 0; from < sequences.length; from += ENTRIES_READ)
      yield await this.#from.look(() => sequences.slice(from, from + ENTRIES_READ).flatMap(read))
  }
}
