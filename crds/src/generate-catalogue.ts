/**
 * Writes `catalogue.json` from the data of `@pydantic/genai-prices`: `make generate`. With `--check` it writes nothing and exits
 * 1 when the file is stale. What our kinds cannot express is left out, and so priced at the provider's ceiling: models by
 * the hour, page or request. Where a price depends on the time of day, the dearest is taken.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { findProvider } from '@pydantic/genai-prices'
import type { CatalogueEntry, Clause } from './catalogue.ts'
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
    return provider.models.flatMap((model) => entryOf(providerId, model))
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
  const dated = datedPrices(
    model.prices as unknown as SourcePrices | readonly { readonly constraint?: SourcePrices; readonly prices: SourcePrices }[],
  )
  if (match.length === 0 || dated.length === 0) return []
  const contextTokens = model.context_window
  return [{ provider, model: model.id, match, dated, ...(contextTokens === undefined ? {} : { contextTokens }) }]
}

/** Regular expressions are left out: a name that only they would find is priced at the ceiling. */
function clausesOf(match: Readonly<Record<string, unknown>>): Clause[] {
  if (Array.isArray(match['or'])) return match['or'].flatMap((part) => clausesOf(part as Readonly<Record<string, unknown>>))
  if (typeof match['equals'] === 'string') return [{ equals: match['equals'] }]
  if (typeof match['starts_with'] === 'string') return [{ prefix: match['starts_with'] }]
  if (typeof match['ends_with'] === 'string') return [{ suffix: match['ends_with'] }]
  if (typeof match['contains'] === 'string') return [{ contains: match['contains'] }]
  if (Array.isArray(match['and'])) {
    const parts = match['and'].map((part) => (part as Readonly<Record<string, unknown>>)['contains'])
    return parts.every((part) => typeof part === 'string') ? [{ all: parts }] : []
  }
  return []
}

function datedPrices(
  prices: SourcePrices | readonly { readonly constraint?: SourcePrices; readonly prices: SourcePrices }[],
): CatalogueEntry['dated'] {
  const list = Array.isArray(prices)
    ? (prices as readonly { readonly constraint?: SourcePrices; readonly prices: SourcePrices }[])
    : [{ prices: prices as SourcePrices }]
  const byDate = new Map<string, { prices: Units; steps: { inputOver: number; prices: Units }[] }[]>()
  for (const { constraint, prices: own } of list) {
    const converted = convert(own)
    if (converted === null) return []
    const from = typeof constraint?.['start_date'] === 'string' ? constraint['start_date'] : ''
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
    prices['input_mtok'] === undefined ||
    ['audio_hours', 'input_audio_hours', 'requests_kcount', 'input_document_kpages', 'input_text_messages_kcount'].some(
      (key) => prices[key] !== undefined,
    )
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
  const output = Math.max(per('output_mtok') ?? 0, per('output_reasoning_mtok') ?? 0, per('output_image_mtok') ?? 0)
  const write = per('cache_write_mtok')
  const fee = (key: string, otherwise: number): number => (typeof prices[key] === 'number' ? Math.round(prices[key] * 1e9) : otherwise)
  return {
    uncachedInput: input,
    cacheReadInput: per('cache_read_mtok') ?? input,
    cacheWriteInput: write ?? input,
    cacheWriteLongInput: per('cache_write_1h_mtok') ?? (write === undefined ? input : Math.max(write, 2 * input)),
    audioInput: per('input_audio_mtok') ?? input,
    imageInput: per('input_image_mtok') ?? input,
    output,
    audioOutput: per('output_audio_mtok') ?? output,
    webSearchCalls: fee('web_searches_kcount', WEB_SEARCH_PICO),
    fileSearchCalls: fee('storage_searches_kcount', FILE_SEARCH_PICO),
    codeContainers: CONTAINER_PICO,
  }
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
