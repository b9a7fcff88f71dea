/** Why a PriceBook is not accepted, and what it says that its author may not have meant. Pure. */
import { isDeepStrictEqual } from 'node:util'
import { loadCatalogue } from '@farebox/crds/catalogue.ts'
import type { ConversationBudget } from '@farebox/crds/conversation-budget.ts'
import type { PriceBook } from '@farebox/crds/price-book.ts'
import type { PriceEntry } from '@farebox/crds/price-entry.ts'
import { createPriceList, isWhole, listersOf } from '@farebox/crds/price-list.ts'
import { parsePricePerMillion } from '@farebox/crds/usd.ts'
import { acceptedFinding } from './conditions.ts'
import type { Fault, Finding } from './conditions.ts'
import { upstreamsOf } from './upstreams.ts'

const CATALOGUE = loadCatalogue()
const CATALOGUE_PRICES = createPriceList([], CATALOGUE)
/** Providers that a message names. */
const PROVIDERS_SHOWN_MAX = 24
/** US dollars for one unit, as a price: the dearest currency in circulation is worth less than four. */
const RATE_UNLIKELY = parsePricePerMillion('10')
/** A price per thousand tokens is a thousandth of the one per million; nobody is given discounts of 99 percent. */
const TIMES_CHEAPER_UNLIKELY = 100n

/** Null: the book can be in use. */
export function refusalOfBook(book: PriceBook, nowMs: number): Fault | null {
  return incompleteEntry(book, nowMs) ?? repeatedEntry(book)
}

/** Of a book that is in use. What an owner may well mean counts all the same: of several doubts the first is told. */
export function bookFinding(book: PriceBook, budgets: readonly ConversationBudget[], nowMs: number): Finding {
  return acceptedFinding('prices are in use', unlikelyRate(book) ?? unusedProvider(book, budgets) ?? unlikelyPrice(book, nowMs))
}

/** Of the catalogue, and of entries that price a model by themselves. */
export function pricedProviders(entries: readonly PriceEntry[]): string {
  return shownNames(new Set([...CATALOGUE.models, ...entries.filter(isWhole)].map(({ provider }) => provider)))
}

/** The first entry that would leave a model without a price for its input or its output. */
function incompleteEntry({ spec }: PriceBook, nowMs: number): Fault | null {
  const index = spec.entries.findIndex((entry) => !isWhole(entry) && !isListed(entry, nowMs))
  const entry = spec.entries[index]
  if (entry === undefined) return null
  const missing = entry.input === undefined ? 'input' : 'output'
  const message = `the ${missing} of "${entry.model}" must have a price, "0" where it is free: the catalogue of ${entry.provider} does not have it`
  return { reason: 'PriceIncomplete', field: `spec.entries[${index}].${missing}`, message }
}

/** The first entry for a model that an earlier one prices from the same day on: only one of them could count. */
function repeatedEntry({ spec }: PriceBook): Fault | null {
  const first = new Map<string, number>()
  for (const [index, { provider, model, from }] of spec.entries.entries()) {
    const key = JSON.stringify([provider, model, from ?? null])
    const earlier = first.get(key)
    // The very same twice is no question.
    if (earlier !== undefined && !isDeepStrictEqual(spec.entries[earlier], spec.entries[index])) {
      const since = from === undefined ? 'without a `from`' : `from ${from} on`
      const message = `${provider}/${model} must be priced once ${since}: spec.entries[${earlier}] does so already`
      return { reason: 'PriceRepeated', field: `spec.entries[${index}]`, message }
    }
    first.set(key, earlier ?? index)
  }
  return null
}

function unlikelyRate({ spec }: PriceBook): Fault | null {
  for (const currency of Object.keys(spec.exchangeRates).toSorted()) {
    const rate = spec.exchangeRates[currency] ?? '0'
    if (parsePricePerMillion(rate) < RATE_UNLIKELY) continue
    const message = `${rate} US dollars for one ${currency} is more than any currency is worth: is the rate the other way round?`
    return { reason: 'RateUnlikely', field: `spec.exchangeRates.${currency}`, message }
  }
  return null
}

/** Entries may be there before the upstream that they are for; beside budgets that have none, a name is misspelt more often than early. */
function unusedProvider({ spec }: PriceBook, budgets: readonly ConversationBudget[]): Fault | null {
  const known = new Set([
    ...CATALOGUE.models.map(({ provider }) => provider),
    ...budgets.flatMap((budget) => upstreamsOf(budget).map(({ provider }) => provider)),
  ])
  const index = budgets.length === 0 ? -1 : spec.entries.findIndex(({ provider }) => !known.has(provider))
  const entry = spec.entries[index]
  if (entry === undefined) return null
  const message = `no upstream has the provider "${entry.provider}", nor has the catalogue: its prices hold for no call. Known are ${shownNames(known)}`
  return { reason: 'ProviderUnused', field: `spec.entries[${index}].provider`, message }
}

/** Zero is meant: somebody wrote that a model is free. Of a pattern, a price that is too low for each model that it means. */
function unlikelyPrice({ spec }: PriceBook, nowMs: number): Fault | null {
  for (const [index, entry] of spec.entries.entries()) {
    for (const [field, kind] of [
      ['input', 'uncachedInput'],
      ['output', 'output'],
    ] as const) {
      const own = entry[field] === undefined ? 0n : parsePricePerMillion(entry[field])
      const listed = listedModels(entry).flatMap((model) => {
        const priced = CATALOGUE_PRICES.find(entry.provider, model, nowMs)
        return priced === null ? [] : [priced.pricesFor(1, null)[kind]]
      })
      if (own === 0n || listed.length === 0 || !listed.every((price) => own * TIMES_CHEAPER_UNLIKELY < price)) continue
      const message = `${entry[field]} for the ${field} of "${entry.model}" is less than a hundredth of the catalogue's price: it is US dollars per million tokens`
      return { reason: 'PriceUnlikely', field: `spec.entries[${index}].${field}`, message }
    }
  }
  return null
}

/** Whether the catalogue has the model, or one that the pattern may mean. */
function isListed(entry: PriceEntry, nowMs: number): boolean {
  if (entry.model.endsWith('*')) return listedModels(entry).length > 0
  return CATALOGUE_PRICES.find(entry.provider, entry.model, nowMs) !== null
}

/** The models of the catalogue that a pattern may mean; of a name, the name. */
function listedModels({ provider, model }: PriceEntry): readonly string[] {
  if (!model.endsWith('*')) return [model]
  const prefix = model.slice(0, -1)
  const listers = listersOf(provider)
  return CATALOGUE.models.flatMap((listed) => (listers.includes(listed.provider) && listed.model.startsWith(prefix) ? [listed.model] : []))
}

/** By name; no more than a message has room for. */
function shownNames(names: ReadonlySet<string>): string {
  const shown = [...names].toSorted().slice(0, PROVIDERS_SHOWN_MAX)
  return `${shown.join(', ')}${names.size > shown.length ? ' and others' : ''}`
}
