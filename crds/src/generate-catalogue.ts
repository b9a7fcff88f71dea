/**
 * Writes `catalogue.json` from the data of `@pydantic/genai-prices`: `make generate`. With `--check` it writes nothing and exits
 * 1 when the file is stale. What our kinds cannot express is left out, and so priced at the provider's ceiling: models by
 * the page or request. Where a price depends on the time of day, the dearest is taken.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { findProvider } from '@pydantic/genai-prices'
import { knownCapabilities } from './capabilities.ts'
import type { CatalogueEntry, Clause } from './catalogue.ts'
import { APART, TOOL_FEES, UNIT_PRICES } from './unit-prices.ts'
import type { UnitPrice } from './unit-prices.ts'
import { divideCeil, parsePricePerMillion, parseUsd, PICO_PER_NANO } from './usd.ts'
import { METERED_KINDS } from './usage.ts'
import type { MeteredKind } from './usage.ts'

/** Day on which this version of the source was published; both change together. */
const SOURCE = { package: '@pydantic/genai-prices', version: '0.1.8', date: '2026-09-23' }
const PROVIDERS = [
  'openai',
  'azure',
  'anthropic',
  'google',
  'groq',
  'mistral',
  'deepseek',
  'x-ai',
  'together',
  'fireworks',
  'cerebras',
  'cohere',
]
/** A name with a day after it, and a name without a voice, as the source's regular expressions say them. */
const DATED_NAME = /^\^([a-zA-Z0-9/\\.-]+)-(?:\\d\{4\}-\\d\{2\}-\\d\{2\}|\\d\{8\})\$$/
const NO_VOICE = '^(?!.*-[tT][tT][sS](?:$|-))'
/** Models that write nothing: what they are given comes back as vectors. */
const VECTORS = /embed/
const TARGET = new URL('./catalogue.json', import.meta.url)

/** Fees where the source names none: a provider's search costs 10 USD per 1,000 calls, a code container 0.03 USD (OpenAI's price list). */
const WEB_SEARCH_PICO = 10_000_000_000
const FILE_SEARCH_PICO = 2_500_000_000
const CONTAINER_PICO = 30_000_000_000

type Provider = NonNullable<ReturnType<typeof findProvider>>
type SourceModel = Provider['models'][number]
type SourcePrices = Readonly<Record<string, unknown>>
type Units = Record<MeteredKind, number>

const text = `${JSON.stringify(catalogue(), null, 1)}\n`
if (process.argv.includes('--check')) {
  if (readFileSync(TARGET, 'utf8') !== text) {
    console.error('crds/src/catalogue.json is stale: run make generate')
    process.exit(1)
  }
} else writeFileSync(TARGET, text)

function catalogue(): object {
  const { devDependencies } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    readonly devDependencies: Readonly<Record<string, string>>
  }
  const version = devDependencies[SOURCE.package]
  if (version !== SOURCE.version)
    throw new Error(`package.json has ${SOURCE.package} ${version}: set its version and date in generate-catalogue.ts`)
  const models = PROVIDERS.flatMap((providerId) => {
    const provider = findProvider({ providerId })
    if (provider === undefined) throw new Error(`${SOURCE.package} has no provider ${providerId}`)
    const listed = provider.models
      .flatMap((model) => entryOf(providerId, model))
      .flatMap(setApart)
      .map(withOwnPrices)
    listed.forEach(refuseAudioAsText)
    const missing = UNIT_PRICES.filter(
      (price) => price.provider === providerId && price.audio === undefined && !listed.some(({ model }) => model === price.model),
    )
    return [...listed, ...missing.map(ownEntry)]
  })
  return {
    version: `${SOURCE.package}@${SOURCE.version}`,
    date: SOURCE.date,
    source: 'https://github.com/pydantic/genai-prices (MIT)',
    models,
  }
}

function entryOf(provider: string, model: SourceModel): CatalogueEntry[] {
  const match = clausesOf(model.match)
  const dated = datedPrices(model)
  if (match.length === 0 || dated.length === 0) return []
  const contextTokens = model.context_window
  return [{ provider, model: model.id, match, dated, ...(contextTokens === undefined ? {} : { contextTokens }) }]
}

/** The entry, and those of its names that cost something else. */
function setApart(entry: CatalogueEntry): CatalogueEntry[] {
  const apart = APART.filter(({ provider, from }) => provider === entry.provider && from === entry.model)
  const names = new Set(apart.flatMap((each) => each.names))
  return [
    { ...entry, match: entry.match.filter(({ equals }) => equals === undefined || !names.has(equals)) },
    ...apart.map((each) => ({ ...entry, model: each.model, match: each.names.map((name) => ({ equals: name })) })),
  ]
}

/** What hears and speaks costs more by it than by reading and writing: where the source is silent of it, `unit-prices.ts` must not be. */
function refuseAudioAsText({ provider, model, dated }: CatalogueEntry): void {
  if (knownCapabilities(provider, model)?.modalities.join(' ') !== 'audio') return
  if (dated.every(({ prices }) => prices.audioInput > prices.uncachedInput && prices.audioOutput > prices.output)) return
  throw new Error(`${provider}/${model} is for audio, of which ${SOURCE.package} has no price: add it to unit-prices.ts`)
}

/** The entry with the prices that are kept by hand. */
function withOwnPrices(entry: CatalogueEntry): CatalogueEntry {
  const { provider, model } = entry
  const units = UNIT_PRICES.find((price) => price.provider === provider && price.model === model)
  const fees = TOOL_FEES.find((fee) => fee.provider === provider && model.startsWith(fee.prefix))
  const own = {
    ...(units === undefined ? {} : unitPrices(units)),
    ...(fees === undefined ? {} : { webSearchCalls: feePico(fees.perSearch) }),
    ...(fees?.perContainer === undefined ? {} : { codeContainers: feePico(fees.perContainer) }),
  }
  return {
    ...entry,
    dated: entry.dated.map(({ prices, steps, ...day }) => ({
      ...day,
      prices: { ...prices, ...own },
      steps: steps.map((step) => ({ ...step, prices: { ...step.prices, ...own } })),
    })),
  }
}

function feePico(usd: string): number {
  return Number(parseUsd(usd) * PICO_PER_NANO)
}

/** A model that the source does not have: tokens cost nothing, for nobody counts them. */
function ownEntry(price: UnitPrice): CatalogueEntry {
  const names = [price.model, ...(price.names ?? [])]
  return {
    provider: price.provider,
    model: price.model,
    match: names.map((name) => ({ equals: name })),
    dated: [{ prices: { ...kindPrices({}, 0), ...unitPrices(price) }, steps: [] }],
  }
}

function unitPrices({ audio, perMinute, perMillionCharacters, perImage }: UnitPrice): Partial<Units> {
  return {
    ...(audio === undefined ? {} : audioPrices(audio)),
    ...(perMinute === undefined ? {} : { seconds: Number(divideCeil(parseUsd(perMinute) * PICO_PER_NANO, 60n)) }),
    ...(perMillionCharacters === undefined ? {} : { characters: Number(parsePricePerMillion(perMillionCharacters)) }),
    ...(perImage === undefined ? {} : { images: Number(parseUsd(perImage) * PICO_PER_NANO) }),
  }
}

function audioPrices({ input, output }: NonNullable<UnitPrice['audio']>): Partial<Units> {
  const heard = Number(parsePricePerMillion(input))
  return { audioInput: heard, cacheReadAudioInput: heard, audioOutput: Number(parsePricePerMillion(output)) }
}

/**
 * Of regular expressions those are understood that mean a day after the name, or all names of a beginning but voices; what only another
 * one would find is priced at the ceiling.
 */
function clausesOf(match: Readonly<Record<string, unknown>>): Clause[] {
  const { or, and, equals, starts_with: prefix, ends_with: suffix, contains, regex } = match
  if (Array.isArray(or)) return or.flatMap((part) => clausesOf(part as Readonly<Record<string, unknown>>))
  if (typeof equals === 'string') return [{ equals }]
  if (typeof prefix === 'string') return [{ prefix }]
  if (typeof suffix === 'string') return [{ suffix }]
  if (typeof contains === 'string') return [{ contains }]
  if (typeof regex === 'string') {
    const name = DATED_NAME.exec(regex)?.[1]
    return name === undefined ? [] : [{ dated: name.replaceAll('\\', '') }]
  }
  return Array.isArray(and) ? allOf(and as readonly Readonly<Record<string, unknown>>[]) : []
}

function allOf(parts: readonly Readonly<Record<string, unknown>>[]): Clause[] {
  const prefix = parts.find((part) => typeof part['starts_with'] === 'string')?.['starts_with']
  if (typeof prefix === 'string')
    return parts.length === 2 && parts.some(({ regex }) => regex === NO_VOICE) ? [{ prefix, except: '-tts' }] : []
  const texts = parts.map(({ contains }) => contains)
  return texts.every((text) => typeof text === 'string') ? [{ all: texts }] : []
}

function datedPrices({ id, prices }: SourceModel): CatalogueEntry['dated'] {
  const list = Array.isArray(prices)
    ? (prices as unknown as readonly { readonly constraint?: SourcePrices; readonly prices: SourcePrices }[])
    : [{ prices: prices as unknown as SourcePrices }]
  const byDate = new Map<string, { prices: Units; steps: { inputOver: number; prices: Units }[] }[]>()
  let from = ''
  for (const { constraint, prices: own } of list) {
    // What writes and has no price for that is not free: it costs what it reads.
    const converted = convert(VECTORS.test(id) ? own : { output_mtok: own['input_mtok'], ...own })
    if (converted === null) return []
    // Prices for hours of the day stand after those for all day which they are exceptions of.
    if (typeof constraint?.['start_date'] === 'string') from = constraint['start_date']
    byDate.set(from, [...(byDate.get(from) ?? []), converted])
  }
  return [...byDate]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([from, alternatives]) => ({ ...(from === '' ? {} : { from }), ...dearest(alternatives) }))
}

function dearest(alternatives: readonly { prices: Units; steps: { inputOver: number; prices: Units }[] }[]): {
  prices: Units
  steps: { inputOver: number; prices: Units }[]
} {
  const [first, ...others] = alternatives
  if (first === undefined) throw new RangeError('a price needs an alternative')
  return others.reduce(
    (most, other) => ({
      prices: maxOf(most.prices, other.prices),
      steps: most.steps.length >= other.steps.length ? most.steps : other.steps,
    }),
    first,
  )
}

function maxOf(a: Units, b: Units): Units {
  return unitsOf((kind) => Math.max(a[kind], b[kind]))
}

/** Null when the model is priced by something that we do not count. */
function convert(prices: SourcePrices): { prices: Units; steps: { inputOver: number; prices: Units }[] } | null {
  if (
    (prices['input_mtok'] === undefined && prices['input_audio_hours'] === undefined) ||
    ['requests_kcount', 'input_document_kpages', 'input_text_messages_kcount'].some((key) => prices[key] !== undefined)
  )
    return null
  const starts = new Set<number>()
  for (const value of Object.values(prices)) for (const tier of tiersOf(value)) starts.add(tier.start)
  return {
    prices: kindPrices(prices, 0),
    steps: [...starts].toSorted((a, b) => a - b).map((start) => ({ inputOver: start, prices: kindPrices(prices, start) })),
  }
}

/** Prices of a call whose input exceeds `start`. What the source leaves out follows from input and output, never from below. */
function kindPrices(prices: SourcePrices, start: number): Units {
  const per = (key: string): number | undefined => picoPerToken(valueAt(prices[key], start))
  const input = per('input_mtok') ?? 0
  const output = Math.max(per('output_mtok') ?? 0, per('output_reasoning_mtok') ?? 0)
  const cacheRead = per('cache_read_mtok') ?? input
  const audio = per('input_audio_mtok')
  const write = per('cache_write_mtok')
  const fee = (key: string, otherwise: number): number => (typeof prices[key] === 'number' ? Math.round(prices[key] * 1e9) : otherwise)
  return {
    uncachedInput: input,
    cacheReadInput: cacheRead,
    cacheReadAudioInput: per('cache_audio_read_mtok') ?? audio ?? cacheRead,
    cacheWriteInput: write ?? input,
    cacheWriteLongInput: per('cache_write_1h_mtok') ?? (write === undefined ? input : Math.max(write, 2 * input)),
    audioInput: audio ?? input,
    // Providers count videos among images or apart; we among images, at the dearer price.
    imageInput: Math.max(per('input_image_mtok') ?? input, per('input_video_mtok') ?? 0),
    output,
    audioOutput: per('output_audio_mtok') ?? output,
    imageOutput: Math.max(per('output_image_mtok') ?? per('output_mtok') ?? 0, per('output_video_mtok') ?? 0),
    webSearchCalls: fee('web_searches_kcount', WEB_SEARCH_PICO),
    fileSearchCalls: fee('storage_searches_kcount', FILE_SEARCH_PICO),
    codeContainers: CONTAINER_PICO,
    seconds: picoPerSecond(prices['input_audio_hours']),
    characters: 0,
    images: 0,
  }
}

/** USD per hour -> pico-dollars per second, rounded up. */
function picoPerSecond(usdPerHour: unknown): number {
  return typeof usdPerHour === 'number' ? Math.ceil(Math.round(usdPerHour * 1e12) / 3_600) : 0
}

function valueAt(value: unknown, start: number): number | undefined {
  if (typeof value === 'number') return value
  if (typeof value !== 'object' || value === null) return undefined
  const reached = tiersOf(value).findLast((tier) => tier.start <= start)
  const base = (value as { readonly base?: unknown }).base
  return reached?.price ?? (typeof base === 'number' ? base : undefined)
}

function tiersOf(value: unknown): readonly { readonly start: number; readonly price: number }[] {
  if (typeof value !== 'object' || value === null || !('tiers' in value) || !Array.isArray(value.tiers)) return []
  return (value.tiers as readonly { readonly start: number; readonly price: number }[]).toSorted((a, b) => a.start - b.start)
}

/** USD per million tokens is micro-dollars per token times a million: the source's floats are whole after six digits. */
function picoPerToken(usdPerMillion: number | undefined): number | undefined {
  if (usdPerMillion === undefined) return undefined
  const pico = Math.round(usdPerMillion * 1e6)
  if (Math.abs(pico - usdPerMillion * 1e6) > 0.01) throw new RangeError(`${usdPerMillion} is not a whole number of pico-dollars per token`)
  return pico
}

function unitsOf(value: (kind: MeteredKind) => number): Units {
  const units: Partial<Units> = {}
  for (const kind of METERED_KINDS) units[kind] = value(kind)
  return units as Units
}
