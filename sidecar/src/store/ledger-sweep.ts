/**
 * Drops the entries of the embedded store's ledger that outlived their life, oldest first, a page in a step, so that no turn waits for long. What
 * living accounts need of them is carried over in the step that drops them.
 */
import { LIVES_APART_MS } from '@farebox/crds/ledger-page.ts'
import type { AccountId } from '../core/budget.ts'
import { accountsName, carriedOver } from '../core/ledger.ts'
import type { SequencedEntry } from '../core/ledger.ts'
import type { BooksFile } from './books-file.ts'
import type { StoreTurns } from './store-turns.ts'

/** Entries dropped in one step; and steps of one sweep. */
const DROPPED_ENTRIES = 200
const DROPS_MAX = 1_000
/** Entries that are looked at in one page for one that is old; and pages of one search. */
const ENTRIES_SOUGHT = 1_000
const PAGES_SOUGHT = 1_000

export interface LedgerSweepOptions extends Pick<StoreTurns, 'step' | 'page' | 'query'> {
  readonly books: Pick<BooksFile, 'oldestEntries' | 'lastCarried' | 'dropEntry' | 'shelves'>
  readonly isAlive: (account: AccountId) => boolean
  /** How old an entry may be; at least `LEDGER_LIFE_MS_MIN`. */
  readonly lifeMs: number
  /** Steps of one sweep. Absent: `DROPS_MAX`. */
  readonly dropsMax?: number | undefined
}

/** What of the ledger is old: what is dated before `beforeMs`, by the wall clock. */
interface Age {
  readonly beforeMs: number
  readonly wallMs: number
}

/**
 * Entries are dated by the wall clock, but for expiries, which are by the store's: one that is dated ahead of the wall clock is as old as the
 * next that is not.
 *
 * What was carried before is where it was, at the beginning: it is looked at in each walk, for accounts that have died since, and is not
 * written where it stays as it is. Where there is more than one sweep looks at, the next one goes on from there: else no sweep would come
 * to the entries behind it.
 */
export class LedgerSweep {
  readonly #from: LedgerSweepOptions
  /** The entry up to which the walk over those that are old has come; 0 where it begins. */
  #upTo = 0

  constructor(from: LedgerSweepOptions) {
    this.#from = from
  }

  /**
   * Drops what is old at `wallMs`; rejects as the store does. Not while another one is under way: entries that are being carried over must
   * not be carried twice.
   */
  async drop(wallMs: number): Promise<void> {
    const { books, query, lifeMs, dropsMax = DROPS_MAX } = this.#from
    const age = { beforeMs: wallMs - lifeMs, wallMs }
    /** Before this one, entries that are dated ahead are old as well. */
    let oldUpTo = 0
    for (let drop = 0; drop < dropsMax; drop++) {
      const from = this.#upTo
      const page = await query(() => books.oldestEntries(from, DROPPED_ENTRIES))
      const young = page.findIndex(({ atMs }) => atMs >= age.beforeMs && atMs <= wallMs)
      const candidates = young < 0 ? page : page.slice(0, young)
      const last = candidates.at(-1)
      if (last !== undefined && last.atMs > wallMs && oldUpTo < last.sequence && young < 0)
        oldUpTo = (await this.#nextOld(last.sequence, age)) ?? oldUpTo
      const old = candidates.slice(0, 1 + candidates.findLastIndex(({ atMs, sequence }) => atMs < age.beforeMs || sequence < oldUpTo))
      const dropped = old.at(-1)
      if (dropped === undefined) {
        this.#upTo = 0
        return
      }
      await this.#carryOver(old)
      this.#upTo = dropped.sequence
    }
  }

  /** The first old entry after this one, where all between are dated ahead; null: there is none as far as it is looked for. */
  async #nextOld(afterSequence: number, { beforeMs, wallMs }: Age): Promise<number | null> {
    const { books, page } = this.#from
    let after = afterSequence
    for (let pages = 0; pages < PAGES_SOUGHT; pages++) {
      const from = after
      const entries = await page(() => books.oldestEntries(from, ENTRIES_SOUGHT))
      const found = entries.find(({ atMs }) => atMs <= wallMs)
      if (found !== undefined) return found.atMs < beforeMs ? found.sequence : null
      const last = entries.at(-1)
      if (last === undefined) return null
      after = last.sequence
    }
    return null
  }

  /** Drops these, in order and none between them left out, but for what living accounts need of them. */
  #carryOver(old: readonly SequencedEntry[]): Promise<void> {
    const { books, step, isAlive } = this.#from
    return step(() => {
      const kept = carriedOver(old, isAlive, LIVES_APART_MS, this.#carriedBefore(old))
      const places = new Set(kept.map(({ sequence }) => sequence))
      for (const entry of old) if (!places.has(entry.sequence)) books.dropEntry(entry.sequence)
      for (const entry of kept) if (!old.includes(entry)) books.shelves.entries.set(String(entry.sequence), entry)
    })
  }

  /** What pages before this one carried last for the accounts of its entries that live, by `accountsName`. */
  #carriedBefore(page: readonly SequencedEntry[]): ReadonlyMap<string, SequencedEntry> {
    const { books, isAlive } = this.#from
    const known = new Map<string, SequencedEntry>()
    const [first] = page
    if (first === undefined) return known
    const names = new Map(
      page.map((entry) => {
        const accounts = entry.accounts.filter(isAlive)
        return [accountsName(accounts), accounts] as const
      }),
    )
    for (const [name, accounts] of names) {
      const carried = accounts.length === 0 ? null : books.lastCarried(accounts, first.sequence)
      if (carried !== null) known.set(name, carried)
    }
    return known
  }
}
