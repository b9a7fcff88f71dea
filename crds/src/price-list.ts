/** Finds the price of a model: by the owner's PriceBooks first, then by the shipped catalogue. Look-ups are cheap: answers are kept. */
import { knownCapabilities, knownEfforts, UNKNOWN, UNKNOWN_SERVICE_TIER_PERCENT } from './capabilities.ts'
import { matchesClause } from './catalogue.ts'
import type { Catalogue, CatalogueEntry } from './catalogue.ts'
import { DAY_MS } from './duration.ts'
import type { PriceEntry } from './price-entry.ts'
import { servedWords } from './prices.ts'
import type { Capabilities, PricedModel, PriceList, PriceOrigin, Prices } from './prices.ts'
import { REGIONAL, regionalPercent } from './regions.ts'
import { divideCeil, parsePricePerMillion, parseUsd, PICO_PER_NANO } from './usd.ts'
import { INPUT_KINDS, METERED_KINDS, OUTPUT_KINDS } from './usage.ts'
import type { MeteredKind } from './usage.ts'

/** Models remembered; a client may ask for any name. */
const MODELS_KEPT = 2_000
/** Combinations of service tiers remembered for a model. */
const SCALED_KEPT = 64

/**
 * A PriceBook entry with the exact name wins, then the one with the longest pattern, then the one for the catalogue's name of
 * the model (a call for `gpt-4o` is answered by `gpt-4o-2024-08-06`), then the catalogue. Within one name, the
 * entry with the newest `from` that is not in the future counts. A book may be partial: what it leaves out follows the
 * catalogue's entry for the model, or its own `input` and `output`; what the catalogue lists above these never from below.
 */
export function createPriceList(entries: readonly PriceEntry[], catalogue: Catalogue): BookedPriceList {
  return new BookAndCatalogue(entries, catalogue)
}

interface BookedPriceList extends PriceList {
  /** The entry, of those that the list was made of, that a model whose price is of origin `book` is priced by. */
  entryOf(provider: string, model: string, atMs: number): PriceEntry | null
  /** Days (UTC) after this one from which an entry or the catalogue has a price of the model, rising; another may still count on them. */
  daysAfter(provider: string, model: string, atMs: number): readonly string[]
}

class BookAndCatalogue implements BookedPriceList {
  readonly catalogue: { readonly version: string; readonly date: string }
  readonly #book: readonly PriceEntry[]
  readonly #models: readonly CatalogueEntry[]
  /** By provider and model; forgotten when the day changes, since prices are dated. */
  readonly #known = new Map<string, PricedModel | null>()
  readonly #ceilings = new Map<string, Tariff | null>()
  #day = ''
  #dayNumber = Number.NaN

  constructor(entries: readonly PriceEntry[], catalogue: Catalogue) {
    this.#book = entries
    this.#models = catalogue.models
    this.catalogue = { version: catalogue.version, date: catalogue.date }
  }

  find(provider: string, model: string, atMs: number): PricedModel | null {
    this.#turnDay(atMs)
    const key = `${provider}\u0000${model}`
    const known = this.#known.get(key)
    if (known !== undefined) return known
    if (this.#known.size >= MODELS_KEPT) this.#known.clear()
    const found = this.#look(provider, model)
    this.#known.set(key, found)
    return found
  }

  entryOf(provider: string, model: string, atMs: number): PriceEntry | null {
    this.#turnDay(atMs)
    return this.#booked(provider, model, this.#listed(provider, model))
  }

  daysAfter(provider: string, model: string, atMs: number): readonly string[] {
    this.#turnDay(atMs)
    const listed = this.#listed(provider, model)
    const names = listed === null ? [model] : [model, listed.model]
    const booked = this.#book.filter((entry) => entry.provider === provider && names.some((name) => recognises(entry.model, name)))
    const days = [...booked, ...(listed?.dated ?? [])].flatMap(({ from }) => (from !== undefined && from > this.#day ? [from] : []))
    return [...new Set(days)].toSorted()
  }

  ceiling(provider: string, model: string, atMs: number): PricedModel | null {
    this.#turnDay(atMs)
    let tariff = this.#ceilings.get(provider)
    if (tariff === undefined) {
      tariff = this.#dearest(provider)
      this.#ceilings.set(provider, tariff)
    }
    return tariff === null ? null : pricedModel(provider, model, 'ceiling', tariff, capabilitiesOf(provider, model, null, undefined))
  }

  free(provider: string, model: string): PricedModel {
    const nothing = pricesOf(() => 0n)
    return pricedModel(
      provider,
      model,
      'free',
      { prices: nothing, steps: [], serviceTierPercent: {} },
      capabilitiesOf(provider, model, null, undefined),
    )
  }

  /** Prices change at midnight UTC: what was found before is forgotten. */
  #turnDay(atMs: number): void {
    const dayNumber = Math.floor(atMs / DAY_MS)
    if (dayNumber === this.#dayNumber) return
    this.#dayNumber = dayNumber
    this.#day = new Date(atMs).toISOString().slice(0, 10)
    this.#known.clear()
    this.#ceilings.clear()
  }

  #look(provider: string, model: string): PricedModel | null {
    const listed = this.#listed(provider, model)
    const booked = this.#booked(provider, model, listed)
    if (listed === null && booked === null) return null
    const base = listed === null ? null : tariffOf(listed, this.#day)
    // Half a price of a model that nobody else prices is none: what is left out would be free.
    if (base === null && (booked === null || !isWhole(booked))) return null
    const capabilities = capabilitiesOf(provider, model, listed, booked?.capabilities)
    const known = described(provider, model, listed)
    const tiers = tierPercents(provider, listed?.model ?? model, known?.serviceTierPercent)
    if (booked !== null) return pricedModel(provider, listed?.model ?? booked.model, 'book', bookTariff(booked, base, tiers), capabilities)
    return base === null
      ? null
      : pricedModel(provider, listed?.model ?? model, 'catalogue', { ...base, serviceTierPercent: tiers }, capabilities)
  }

  /** By the name that was asked for, or else by the catalogue's. */
  #booked(provider: string, model: string, listed: CatalogueEntry | null): PriceEntry | null {
    const named = bookEntry(this.#book, provider, model, this.#day)
    return named ?? (listed === null ? null : bookEntry(this.#book, provider, listed.model, this.#day))
  }

  #listed(provider: string, model: string): CatalogueEntry | null {
    for (const lister of listersOf(provider)) {
      const found = this.#listedAt(lister, model)
      if (found !== null) return found
    }
    return null
  }

  #listedAt(lister: string, model: string): CatalogueEntry | null {
    const own = this.#models.filter((entry) => entry.provider === lister)
    const exact = own.find((entry) => entry.match.some((clause) => clause.equals === model))
    return exact ?? own.find((entry) => entry.match.some((clause) => matchesClause(clause, model))) ?? null
  }

  /**
   * The most that any model of the provider costs, kind by kind: no call can cost more, whatever the model was. Of what few models are
   * priced by, the most that any model of the catalogue costs.
   */
  #dearest(provider: string): Tariff | null {
    const listed = this.#models.filter((entry) => listersOf(provider).includes(entry.provider))
    const booked = this.#book.filter((entry) => entry.provider === provider)
    if (listed.length === 0 && !booked.some(isWhole)) return null
    const tariffs = [
      ...listed.map((entry) => tariffOf(entry, this.#day)),
      ...booked.flatMap((entry) => [
        bookTariff(entry, null, {}),
        ...listed.filter(({ model }) => recognises(entry.model, model)).map((model) => bookTariff(entry, tariffOf(model, this.#day), {})),
      ]),
    ]
    const all = tariffs.flatMap((tariff) => [tariff.prices, ...tariff.steps.map((step) => step.prices)])
    // No provider's list has every kind of model: what it says no price of would be free.
    const everywhere = [...all, ...this.#models.map((entry) => tariffOf(entry, this.#day).prices)]
    const most = (kind: MeteredKind): bigint => {
      const known = COUNTED_OTHERWISE.has(kind) ? everywhere : all
      return known.reduce((found, prices) => (prices[kind] > found ? prices[kind] : found), 0n)
    }
    return {
      prices: pricesOf(most),
      steps: [],
      serviceTierPercent: tierPercents(provider, ''),
    }
  }
}

/** Prices of a model on one day. */
interface Tariff {
  readonly prices: Prices
  /** Rising; a step applies to the whole call when its input exceeds `inputOver`. */
  readonly steps: readonly { readonly inputOver: number; readonly prices: Prices }[]
  readonly serviceTierPercent: Readonly<Record<string, number>>
}

function pricedModel(provider: string, model: string, origin: PriceOrigin, tariff: Tariff, capabilities: Capabilities): PricedModel {
  const scaled = new Map<string, Prices>()
  return {
    provider,
    model,
    origin,
    capabilities,
    steps: tariff.steps.map(({ inputOver }) => inputOver),
    pricesFor(inputTokens, serviceTier) {
      const step = tariff.steps.findLast(({ inputOver }) => inputTokens > inputOver)
      const prices = step?.prices ?? tariff.prices
      const words = servedWords(serviceTier)
      const percents = words.map((word) =>
        Object.hasOwn(tariff.serviceTierPercent, word) ? (tariff.serviceTierPercent[word] ?? 100) : 100,
      )
      if (percents.every((percent) => percent === 100)) return prices
      const key = `${percents.join(' ')}/${step?.inputOver ?? 0}`
      const known = scaled.get(key)
      if (known !== undefined) return known
      const [factor, whole] = percents.reduce(([over, under], percent) => [over * BigInt(percent), under * 100n], [1n, 1n])
      const made = pricesOf((kind) => (TOKEN_PRICED.has(kind) ? divideCeil(prices[kind] * factor, whole) : prices[kind]))
      if (scaled.size >= SCALED_KEPT) scaled.clear()
      scaled.set(key, made)
      return made
    },
  }
}

/** Service tiers change the price of tokens, and of nothing else. */
const TOKEN_PRICED: ReadonlySet<MeteredKind> = new Set<MeteredKind>([...INPUT_KINDS, ...OUTPUT_KINDS])

/** What few models are priced by. */
const COUNTED_OTHERWISE: ReadonlySet<MeteredKind> = new Set<MeteredKind>(['seconds', 'characters', 'images'])

function tariffOf(entry: CatalogueEntry, day: string): Tariff {
  const dated = entry.dated.findLast(({ from }) => from === undefined || from <= day) ?? entry.dated[0]
  if (dated === undefined) throw new RangeError(`${entry.model} has no price`)
  const toPrices = (units: Readonly<Record<MeteredKind, number>>): Prices => pricesOf((kind) => BigInt(units[kind]))
  return {
    prices: toPrices(dated.prices),
    steps: dated.steps.map(({ inputOver, prices }) => ({ inputOver, prices: toPrices(prices) })),
    serviceTierPercent: {},
  }
}

/** Factors by the words of a service tier; `known`: those of the model. */
function tierPercents(provider: string, model: string, known: Readonly<Record<string, number>> = {}): Readonly<Record<string, number>> {
  return { ...UNKNOWN_SERVICE_TIER_PERCENT, [REGIONAL]: regionalPercent(provider, model), ...known }
}

function bookEntry(book: readonly PriceEntry[], provider: string, model: string, day: string): PriceEntry | null {
  const valid = book.filter(
    (entry) => entry.provider === provider && (entry.from === undefined || entry.from <= day) && recognises(entry.model, model),
  )
  const rank = (entry: PriceEntry): number => (entry.model === model ? Number.MAX_SAFE_INTEGER : entry.model.length)
  return valid.toSorted((a, b) => rank(b) - rank(a) || ((b.from ?? '') < (a.from ?? '') ? -1 : 1))[0] ?? null
}

/**
 * The providers under whose names the catalogue lists a provider's models. Azure serves OpenAI's at OpenAI's prices, and the catalogue's
 * Azure has few of them; discounts in a book are for one provider.
 */
export function listersOf(provider: string): readonly string[] {
  return provider === 'azure' ? ['azure', 'openai'] : [provider]
}

/** Whether an entry prices a model by itself. */
export function isWhole({ input, output }: Pick<PriceEntry, 'input' | 'output'>): boolean {
  return input !== undefined && output !== undefined
}

/** Whether an entry's name of a model, which may be a pattern, means this one. */
export function recognises(pattern: string, model: string): boolean {
  return pattern.endsWith('*') ? model.startsWith(pattern.slice(0, -1)) : pattern === model
}

type KindPrices = Pick<
  PriceEntry,
  | 'input'
  | 'output'
  | 'cacheRead'
  | 'cacheReadAudio'
  | 'cacheWriteShort'
  | 'cacheWriteLong'
  | 'audioInput'
  | 'audioOutput'
  | 'imageInput'
  | 'imageOutput'
>

const KIND_OF: Readonly<Record<keyof KindPrices, MeteredKind>> = {
  input: 'uncachedInput',
  output: 'output',
  cacheRead: 'cacheReadInput',
  cacheReadAudio: 'cacheReadAudioInput',
  cacheWriteShort: 'cacheWriteInput',
  cacheWriteLong: 'cacheWriteLongInput',
  audioInput: 'audioInput',
  audioOutput: 'audioOutput',
  imageInput: 'imageInput',
  imageOutput: 'imageOutput',
}

/** An entry over what the catalogue says. Explicit zero is zero; what neither says follows input and output, never from below. */
function bookTariff(entry: PriceEntry, base: Tariff | null, tiers: Readonly<Record<string, number>>): Tariff {
  const fee = (own: string | undefined, known: bigint | undefined): bigint =>
    own === undefined ? (known ?? 0n) : parseUsd(own) * PICO_PER_NANO
  // What `kept` says and `own` does not is as it is under them, and counts as said.
  const over = (own: KindPrices, under: Prices | null, kept: KindPrices = {}): Prices => {
    const given = (name: keyof KindPrices): bigint | undefined => {
      const text = own[name]
      if (text !== undefined) return parsePricePerMillion(text)
      return kept[name] === undefined ? undefined : under?.[KIND_OF[name]]
    }
    // A price that the owner changed takes its relatives along; one that is unchanged leaves the catalogue's in place.
    const along = (kind: MeteredKind, relative: MeteredKind, price: bigint): bigint =>
      under === null ? price : raisedAlike(price, under[relative], under[kind])
    const input = given('input') ?? under?.uncachedInput ?? 0n
    const output = given('output') ?? under?.output ?? 0n
    const cacheRead = given('cacheRead') ?? along('cacheReadInput', 'uncachedInput', input)
    const audioInput = given('audioInput') ?? along('audioInput', 'uncachedInput', input)
    const cacheReadAudio =
      (own.audioInput ?? kept.audioInput) !== undefined && (own.cacheRead ?? kept.cacheRead) === undefined
        ? along('cacheReadAudioInput', 'audioInput', audioInput)
        : along('cacheReadAudioInput', 'cacheReadInput', cacheRead)
    const short = given('cacheWriteShort') ?? along('cacheWriteInput', 'uncachedInput', input)
    const long = under === null ? short : dearer(short, along('cacheWriteLongInput', 'uncachedInput', input))
    return {
      uncachedInput: input,
      cacheReadInput: cacheRead,
      cacheReadAudioInput: given('cacheReadAudio') ?? cacheReadAudio,
      cacheWriteInput: short,
      cacheWriteLongInput: given('cacheWriteLong') ?? long,
      audioInput,
      imageInput: given('imageInput') ?? along('imageInput', 'uncachedInput', input),
      output,
      audioOutput: given('audioOutput') ?? along('audioOutput', 'output', output),
      imageOutput: given('imageOutput') ?? along('imageOutput', 'output', output),
      webSearchCalls: fee(entry.toolFees.webSearch, under?.webSearchCalls),
      fileSearchCalls: fee(entry.toolFees.fileSearch, under?.fileSearchCalls),
      codeContainers: fee(entry.toolFees.codeContainer, under?.codeContainers),
      seconds: fee(entry.perSecond, under?.seconds),
      characters: entry.perMillionCharacters === undefined ? (under?.characters ?? 0n) : parsePricePerMillion(entry.perMillionCharacters),
      images: fee(entry.perImage, under?.images),
    }
  }
  const prices = over(entry, base?.prices ?? null)
  const listed = base === null ? [] : stepsOver(prices, base)
  const ownSteps = entry.steps
    .toSorted((a, b) => a.inputOver - b.inputOver)
    .map((step) => {
      // What a step leaves out is as the catalogue has it in the same step, where it has one: the entry's own prices are raised like there.
      const under = listed.find(({ inputOver }) => inputOver === step.inputOver)
      return {
        inputOver: step.inputOver,
        prices: under === undefined ? over({ ...entry, ...step }, prices) : over(step, under.prices, entry),
      }
    })
  const steps = ownSteps.length > 0 ? ownSteps : listed
  return { prices, steps, serviceTierPercent: { ...tiers, ...entry.serviceTierPercent } }
}

/** The catalogue's long-context steps over prices of one's own: whether a discount holds above the step, nobody said. */
function stepsOver(own: Prices, base: Tariff): Tariff['steps'] {
  return base.steps.map(({ inputOver, prices: listed }) => ({
    inputOver,
    prices: pricesOf((kind) => raisedAlike(own[kind], base.prices[kind], listed[kind])),
  }))
}

/**
 * What the catalogue lists at `listed`, where it lists at `base` what one has a price of one's `own` for. What it lists above `base` is
 * dearer by the same factor, and never below the catalogue's: a discount on the one need not be one on the other. What it lists below
 * was a discount of its own, which is gone. What is free stays free.
 */
function raisedAlike(own: bigint, base: bigint, listed: bigint): bigint {
  if (own === base) return listed
  if (own === 0n || listed <= base) return own
  return dearer(listed, base === 0n ? own : divideCeil(own * listed, base))
}

function dearer(one: bigint, other: bigint): bigint {
  return one > other ? one : other
}

/** By the name that was asked for, which may say more than the catalogue's. */
function described(provider: string, model: string, listed: CatalogueEntry | null): ReturnType<typeof knownCapabilities> {
  return knownCapabilities(provider, model) ?? (listed === null ? null : knownCapabilities(provider, listed.model))
}

function capabilitiesOf(
  provider: string,
  model: string,
  listed: CatalogueEntry | null,
  declared: PriceEntry['capabilities'],
): Capabilities {
  const known = described(provider, model, listed) ?? UNKNOWN
  const efforts = knownEfforts(provider, model)
  const choice = (own: 'Supported' | 'Unsupported' | undefined, otherwise: boolean): boolean =>
    own === undefined ? otherwise : own === 'Supported'
  return {
    contextTokens:
      declared?.contextTokens ??
      (known === UNKNOWN ? (listed?.contextTokens ?? known.contextTokens) : Math.max(known.contextTokens, listed?.contextTokens ?? 0)),
    maxOutputTokens: declared?.maxOutputTokens ?? known.maxOutputTokens,
    modalities: declared?.modalities ?? known.modalities,
    tools: choice(declared?.tools, known.tools),
    structuredOutput: choice(declared?.structuredOutput, known.structuredOutput),
    reasoning: declared?.reasoning === undefined ? known.reasoning : declared.reasoning === 'Always',
    ...(efforts === null ? {} : { efforts }),
    drop: declared?.drop ?? known.drop,
    rename: declared?.rename ?? known.rename,
  }
}

function pricesOf(price: (kind: MeteredKind) => bigint): Prices {
  const prices: Partial<Record<MeteredKind, bigint>> = {}
  for (const kind of METERED_KINDS) prices[kind] = price(kind)
  return prices as Prices
}
