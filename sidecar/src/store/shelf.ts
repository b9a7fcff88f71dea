/**
 * The rows of one table, by key: a bounded cache, and whatever has not reached the table yet. The newest image of a row is
 * the cached one, else the one that waits to be written, else the one in the table.
 */
import { LRUCache } from 'lru-cache'
import type { Values } from './rows.ts'

export interface ShelfSpec<Row extends object> {
  /** Of the table, and in the journal. */
  readonly name: string
  /** Rows kept in memory beside those that wait; 0 where rows are never asked for by key. */
  readonly cached: number
  /** Where rows differ much: also how many bytes of them. */
  readonly cachedBytes?: { readonly max: number; readonly of: (row: Row) => number }
  /** Reads the table; null when the row is absent. */
  readonly load: (key: string) => Row | null
  readonly encode: (row: Row, key: string) => Values
}

export class Shelf<Row extends object> {
  readonly name: string
  readonly #spec: ShelfSpec<Row>
  readonly #cache: LRUCache<string, Row> | null
  /** Keys changed since the last commit. */
  readonly #fresh = new Set<string>()
  /** Not in the table yet; in the journal, but for the fresh ones. */
  #waiting = new Map<string, Row>()
  /** An older generation of the same, on its way to the table. */
  #leaving = new Map<string, Row>()

  constructor(spec: ShelfSpec<Row>) {
    this.name = spec.name
    this.#spec = spec
    const { cached, cachedBytes: bytes } = spec
    this.#cache =
      cached === 0
        ? null
        : new LRUCache(bytes === undefined ? { max: cached } : { max: cached, maxSize: bytes.max, sizeCalculation: bytes.of })
  }

  /** What memory has of it; null when only the table may have it. */
  recent(key: string): Row | null {
    return this.#cache?.get(key) ?? this.#waiting.get(key) ?? this.#leaving.get(key) ?? null
  }

  get(key: string): Row | null {
    const known = this.recent(key)
    if (known !== null) return known
    const row = this.#spec.load(key)
    if (row !== null) this.#cache?.set(key, row)
    return row
  }

  /** The same, for whoever looks at many rows: none is remembered for it. */
  glimpse(key: string, load = this.#spec.load): Row | null {
    return this.#cache?.peek(key) ?? this.#waiting.get(key) ?? this.#leaving.get(key) ?? load(key)
  }

  set(key: string, row: Row): void {
    this.#cache?.set(key, row)
    this.#waiting.set(key, row)
    this.#fresh.add(key)
  }

  get hasFresh(): boolean {
    return this.#fresh.size > 0
  }
  get hasLeaving(): boolean {
    return this.#leaving.size > 0
  }
  /** Rows that the table has not, or not as they are. */
  get unwritten(): number {
    return this.#waiting.size + this.#leaving.size
  }

  /** Rows that the table has not, or not as they are; of one that changed again meanwhile each image. */
  *unwrittenRows(): Generator<Row> {
    yield* this.#leaving.values()
    yield* this.#waiting.values()
  }

  /** As if these rows had not been set since the last commit. Only of a shelf that has no cache. */
  withdraw(isMeant: (row: Row) => boolean): void {
    for (const key of this.#fresh) {
      const row = this.#waiting.get(key)
      if (row === undefined || !isMeant(row)) continue
      this.#waiting.delete(key)
      this.#fresh.delete(key)
    }
  }

  /** Images of what changed since the last commit. */
  freshValues(): Values[] {
    const images: Values[] = []
    for (const key of this.#fresh) {
      const row = this.#waiting.get(key)
      if (row !== undefined) images.push(this.#spec.encode(row, key))
    }
    return images
  }

  /** The journal has the fresh ones. */
  committed(): void {
    this.#fresh.clear()
  }

  /** Whatever the journal has is on its way to the table; what is fresh stays for its commit. Only when nothing is leaving. */
  leave(): void {
    const fresh = new Map<string, Row>()
    for (const key of this.#fresh) {
      const row = this.#waiting.get(key)
      if (row !== undefined) fresh.set(key, row)
      this.#waiting.delete(key)
    }
    this.#leaving = this.#waiting
    this.#waiting = fresh
  }

  /** The table has what was leaving. */
  arrived(): void {
    this.#leaving = new Map()
  }

  /** Forgets everything but the table. */
  clear(): void {
    this.#cache?.clear()
    this.#fresh.clear()
    this.#waiting.clear()
    this.#leaving.clear()
  }
}
