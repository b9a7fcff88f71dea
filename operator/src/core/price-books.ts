/** What the PriceBooks say together: prices and exchange rates, and whether one of them is in the way. Pure. */
import { loadCatalogue } from '@farebox/crds/catalogue.ts'
import type { PriceBook } from '@farebox/crds/price-book.ts'
import type { PriceEntry } from '@farebox/crds/price-entry.ts'
import { createPriceList } from '@farebox/crds/price-list.ts'
import type { PriceList } from '@farebox/crds/prices.ts'
import type { Snapshot } from './compile.ts'
import type { Fault } from './conditions.ts'
import { invalidFinding } from './not-understood.ts'
import { refusalOfBook } from './price-book-findings.ts'

const CATALOGUE = loadCatalogue()

export interface BookPrices {
  /** In order: of two equal entries the first counts. One list for all configs. */
  readonly entries: PriceEntry[]
  /** The entries, and below them the catalogue. */
  readonly list: PriceList
  /** The name of the book by whose entry a model is priced; null: none has one for it. */
  readonly bookOf: (provider: string, model: string, atMs: number) => string | null
  /** Days from which a model may have another price, rising. */
  readonly daysAfter: (provider: string, model: string, atMs: number) => readonly string[]
  readonly rates: ExchangeRates
  /** By name, the books that are understood and not accepted. */
  readonly refusals: ReadonlyMap<string, Fault>
  /** Why one of them is not accepted: then no budget is compiled with half of them. Null: all are. */
  readonly refused: string | null
}

export interface ExchangeRates {
  /** US dollars for one unit of a currency, as decimals. */
  readonly byCurrency: ReadonlyMap<string, string>
  /** Why there may be more of them: a PriceBook that is not understood; null: there are not. */
  readonly unread: string | null
}

/** What all books say. Of two that say something of the same model or currency, the one whose name comes last counts. */
export function pricesOf({ priceBooks, notUnderstood }: Pick<Snapshot, 'priceBooks' | 'notUnderstood'>, nowMs: number): BookPrices {
  const books = priceBooks.toSorted(byName)
  const entries = books.toReversed().flatMap(({ spec }) => spec.entries)
  const list = createPriceList(entries, CATALOGUE)
  const refusals = new Map(
    books.flatMap((book) => {
      const refusal = refusalOfBook(book, nowMs)
      return refusal === null ? [] : [[book.metadata.name, refusal] as const]
    }),
  )
  const strange = (notUnderstood?.priceBooks ?? []).map(({ name, problems }) => bookRefused(name, invalidFinding(problems)))
  const unread = strange.toSorted()[0] ?? null
  return {
    entries,
    list,
    bookOf: (provider, model, atMs) => {
      const entry = list.entryOf(provider, model, atMs)
      return books.find(({ spec }) => spec.entries.some((own) => own === entry))?.metadata.name ?? null
    },
    daysAfter: (provider, model, atMs) => list.daysAfter(provider, model, atMs),
    rates: { byCurrency: new Map(books.flatMap(({ spec }) => Object.entries(spec.exchangeRates))), unread },
    refusals,
    refused: unread ?? [...refusals].map(([name, refusal]) => bookRefused(name, refusal))[0] ?? null,
  }
}

function bookRefused(name: string, { message }: Pick<Fault, 'message'>): string {
  return `PriceBook "${name}" is not accepted: ${message}`
}

function byName(a: PriceBook, b: PriceBook): number {
  return a.metadata.name < b.metadata.name ? -1 : 1
}
