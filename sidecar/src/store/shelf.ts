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
  /** Writes the table, inside the caller's transaction. */
  readonly write: (values: Values) => void
}

interface Waiting<Row> {
  readonly row: Row
  values: Values | null
}

export class Shelf<Row extends object> {
  readonly name: string
  readonly #spec: ShelfSpec<Row>
  readonly #cache: LRUCache<string, Row> | null
  /** Keys changed since the last commit. */
  readonly #fresh = new Set<string>()
  /** Not in the table yet; in the journal, but for the fresh ones. */
  #waiting = new Map<string, Waiting<Row>>()
  /** An older generation of the same, on its way to the table. */
  #leaving = new Map<string, Waiting<Row>>()

  constructor(spec: ShelfSpec<Row>) {
    this.name = spec.name
    this.#spec = spec
    const { cached, cachedBytes: bytes } = spec
    this.#cache =
      cached === 0
        ? null
        : new LRUCache(bytes === undefined ? { max: cached } : { max: cached, maxSize: bytes.max, sizeCalculation: bytes.of })
  }

  get(key: string): Row | null {
    const known = this.#cache?.get(key) ?? this.#waiting.get(key)?.row ?? this.#leaving.get(key)?.row
    if (known !== undefined) return known
    const row = this.#spec.load(key)
    if (row !== null) this.#cache?.set(key, row)
    return row
  }

  set(key: string, row: Row): void {
    this.#cache?.set(key, row)
    this.#waiting.set(key, { row, values: null })
    this.#fresh.add(key)
  }

  /** Whether the table has an older image than we have. */
  isWaiting(key: string): boolean {
    return this.#waiting.has(key) || this.#leaving.has(key)
  }

  /** The table has lost this row. Not while it waits. */
  dropped(key: string): void {
    this.#cache?.delete(key)
  }

  get hasFresh(): boolean {
    return this.#fresh.size > 0
  }
  get waitingCount(): number {
    return this.#waiting.size
  }
  get leavingCount(): number {
    return this.#leaving.size
  }

  /** Images of what changed since the last commit. */
  freshValues(): Values[] {
    const images: Values[] = []
    for (const key of this.#fresh) {
      const waiting = this.#waiting.get(key)
      if (waiting !== undefined) images.push((waiting.values ??= this.#spec.encode(waiting.row, key)))
    }
    return images
  }

  /** The journal has the fresh ones. */
  committed(): void {
    this.#fresh.clear()
  }

  /** Everything that waits starts on its way to the table. Only when nothing is leaving or fresh. */
  leave(): void {
    this.#leaving = this.#waiting
    this.#waiting = new Map()
  }

  /** Writes up to `limit` of the leaving rows, inside the caller's transaction; tells which, for `arrived`. */
  write(limit: number): readonly string[] {
    const keys: string[] = []
    for (const [key, { row, values }] of this.#leaving) {
      if (keys.length >= limit) break
      this.#spec.write(values ?? this.#spec.encode(row, key))
      keys.push(key)
    }
    return keys
  }

  /** That transaction is committed. */
  arrived(keys: readonly string[]): void {
    for (const key of keys) this.#leaving.delete(key)
  }

  /** Forgets everything but the table. */
  clear(): void {
    this.#cache?.clear()
    this.#fresh.clear()
    this.#waiting.clear()
    this.#leaving.clear()
  }
}
