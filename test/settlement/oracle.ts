/**
 * What a call costs, a second time: from the provider's own words and the prices that genai-prices publishes, in fractions. It shares
 * nothing with the product but the rules of docs/prices.md: neither code, nor the catalogue, nor the kinds of usage.
 */
import assert from 'node:assert/strict'
import { findProvider } from '@pydantic/genai-prices'

/** JSON as it came. */
export type Raw = null | boolean | number | string | readonly Raw[] | { readonly [field: string]: Raw | undefined }
type Fields = Readonly<Record<string, Raw | undefined>>

export interface SettlementCase {
  readonly name: string
  /** As it was asked for; the answer may name another. */
  readonly model: string
  /** Day of the call, UTC. */
  readonly atDay: string
  readonly wire: (typeof WIRES)[number]
  /** The answer, or the events of a stream. */
  readonly payload: Raw
  /** Text to speak, where the answer says nothing of it. */
  readonly spoken?: string
  /** Why the calculator of genai-prices says something else, where it prices the case at all. */
  readonly differs?: string
  readonly expectedUsd: string
}
export const WIRES = ['chat', 'responses', 'messages', 'gemini', 'embeddings', 'images', 'transcription', 'speech'] as const

/** An owner's prices, for servers that no list has: USD per million tokens. */
export type OwnPrices = Readonly<Record<string, OwnKinds>>
interface OwnKinds extends Readonly<Record<'input' | 'output' | 'cacheRead', string>> {
  readonly cacheWriteShort?: string
  readonly cacheWriteLong?: string
}

/** Nine digits after the point, rounded up: `0.000000001` is the least there is. */
export function costInUsd(provider: string, asked: SettlementCase, own: OwnPrices = {}): string {
  const bill = readAnswer(asked)
  const tariffs = new Tariffs(provider, asked.atDay, own)
  const total = bill.passes
    .map((pass) => {
      const context = sum(CONTEXT.map((name) => pass.counts[name] ?? 0))
      const names = pass.model === undefined ? [bill.model ?? asked.model, asked.model] : [pass.model]
      const rates = tariffs.ratesOf(names, context)
      const factor = bill.words.map((word) => tariffs.factorOf(pass.model ?? bill.model ?? asked.model, word)).reduce(times, ONE)
      return Object.entries(pass.counts)
        .map(([name, count]) => {
          const cost = times(rates(name), fraction(BigInt(count), 1n))
          return TOKENS.has(name) ? times(cost, factor) : cost
        })
        .reduce(plus, ZERO)
    })
    .reduce(plus, ZERO)
  return inNanos(total)
}

/** Named as genai-prices names what it prices, less the unit. */
type Counts = Readonly<Record<string, number>>
const CONTEXT = ['input', 'cache_read', 'cache_audio_read', 'cache_write', 'cache_write_1h', 'input_audio', 'input_image']
const TOKENS: ReadonlySet<string> = new Set([...CONTEXT, 'output', 'output_audio', 'output_image'])

interface Bill {
  /** As the answer names it. */
  readonly model: string | null
  /** Of a service tier, of speed, of a region. */
  readonly words: readonly string[]
  readonly passes: readonly { readonly model?: string; readonly counts: Counts }[]
}

function readAnswer({ wire, payload, spoken }: SettlementCase): Bill {
  const events = Array.isArray(payload) ? (payload as readonly Fields[]) : null
  const answer = (events === null ? payload : lastWithUsage(events, wire)) as Fields
  const words = [text(answer['service_tier'])].filter((word) => word !== null)
  const bill = (counts: Counts): Bill => ({ model: text(answer['model']), words, passes: [{ counts }] })
  switch (wire) {
    case 'chat':
    case 'embeddings':
      return bill(ofChat(fields(answer['usage'])))
    case 'responses':
      return { ...bill({}), passes: ofResponse(answer) }
    case 'messages':
      return events === null ? ofMessage(answer) : ofMessage(joined(events))
    case 'gemini':
      return ofGemini(answer, events ?? [answer])
    case 'images':
      return { ...bill({}), passes: ofImages(answer) }
    case 'transcription':
      return bill(ofTranscript(answer))
    case 'speech':
      return bill(spoken === undefined ? ofSpeech(fields(answer['usage'])) : { characters: Array.from(spoken).length })
  }
}

function ofChat(usage: Fields): Counts {
  const asked = number(usage['prompt_tokens'])
  const detail = fields(usage['prompt_tokens_details'])
  const made = fields(usage['completion_tokens_details'])
  const said = number(usage['completion_tokens'])
  const cached =
    optional(detail['cached_tokens']) ??
    optional(usage['prompt_cache_hit_tokens']) ??
    optional(usage['cached_tokens']) ??
    number(usage['cache_read_input_tokens'])
  const written =
    optional(detail['cache_write_tokens']) ?? optional(detail['cache_creation_tokens']) ?? number(usage['cache_creation_input_tokens'])
  const long =
    optional(fields(detail['cache_write_tokens_details'])['ttl_12h_tokens']) ??
    number(fields(detail['cache_creation_token_details'])['ephemeral_1h_input_tokens'])
  const audio = number(detail['audio_tokens'])
  const image = number(detail['image_tokens'])
  const loud = number(made['audio_tokens'])
  const unexplained = Math.max(0, number(usage['total_tokens']) - asked - said)
  const seconds = typeof usage['prompt_audio_seconds'] === 'number' ? usage['prompt_audio_seconds'] : null
  return {
    input: asked - cached - written - audio - image,
    cache_read: cached,
    cache_write: written - long,
    cache_write_1h: long,
    input_audio: audio + (seconds === null ? 0 : unexplained),
    input_image: image,
    output: said - loud + (seconds === null ? unexplained : 0),
    output_audio: loud,
    search: number(fields(usage['server_tool_use'])['web_search_requests']),
    second: seconds ?? 0,
  }
}

function ofResponse(response: Fields): Bill['passes'] {
  const usage = fields(response['usage'])
  const detail = fields(usage['input_tokens_details'])
  const tools = fields(response['tool_usage'])
  const items = list(response['output'])
  const cached = optional(detail['cached_tokens']) ?? number(detail['cache_read_input_tokens'])
  const written = optional(detail['cache_write_tokens']) ?? number(detail['cache_creation_input_tokens'])
  const long = number(fields(detail['cache_write_tokens_details'])['ttl_12h_tokens'])
  const searches = items.filter(
    (item) => item['type'] === 'web_search_call' && (text(fields(item['action'])['type']) ?? 'search') === 'search',
  ).length
  const counted = usage['server_side_tool_usage_details'] === undefined ? null : fields(usage['server_side_tool_usage_details'])
  const boxes = new Set(items.filter((item) => item['type'] === 'code_interpreter_call').map((item) => item['container_id']))
  const drawn = fields(tools['image_gen'])
  const drawer = list(response['tools']).find((tool) => tool['type'] === 'image_generation')
  const image = ofImageTokens(drawn)
  return [
    {
      counts: {
        input: number(usage['input_tokens']) - cached - written,
        cache_read: cached,
        cache_write: written - long,
        cache_write_1h: long,
        output: number(usage['output_tokens']),
        ...(counted === null
          ? {
              search: optional(fields(tools['web_search'])['num_requests']) ?? searches,
              file_search: items.filter((item) => item['type'] === 'file_search_call').length,
              container: boxes.size,
            }
          : {
              search: number(counted['web_search_calls']) + number(counted['x_search_calls']),
              file_search: number(counted['file_search_calls']) + number(counted['document_search_calls']),
              container: number(counted['code_interpreter_calls']),
            }),
      },
    },
    ...(number(drawn['output_tokens']) === 0 ? [] : [{ model: text(drawer?.['model']) ?? 'gpt-image-1', counts: image }]),
  ]
}

function ofMessage(message: Fields): Bill {
  const usage = fields(message['usage'])
  const searches = number(fields(usage['server_tool_use'])['web_search_requests'])
  const steps = list(usage['iterations'])
  const passes = (steps.length === 0 ? [usage] : steps).map((step) => {
    const model = text(step['model'])
    const made = fields(step['cache_creation'])
    const long = number(made['ephemeral_1h_input_tokens'])
    const written = optional(step['cache_creation_input_tokens']) ?? long + number(made['ephemeral_5m_input_tokens'])
    return {
      ...(model === null ? {} : { model }),
      counts: {
        input: number(step['input_tokens']),
        cache_read: number(step['cache_read_input_tokens']),
        cache_write: written - long,
        cache_write_1h: long,
        output: number(step['output_tokens']),
      },
    }
  })
  const words = [usage['service_tier'], usage['speed'], usage['inference_geo']].map(text).filter((word) => word !== null)
  return { model: text(message['model']), words, passes: [...passes, { counts: { search: searches } }] }
}

function ofGemini(answer: Fields, events: readonly Fields[]): Bill {
  const usage = fields(answer['usageMetadata'])
  const of = (field: string, ...names: readonly string[]): number =>
    sum(
      list(usage[field])
        .filter((part) => names.includes(text(part['modality']) ?? ''))
        .map((part) => number(part['tokenCount'])),
    )
  const asked = number(usage['promptTokenCount'])
  const cached = number(usage['cachedContentTokenCount'])
  const found = number(usage['toolUsePromptTokenCount'])
  const said = number(usage['candidatesTokenCount']) + number(usage['thoughtsTokenCount'])
  const all = Math.max(said, number(usage['totalTokenCount']) - asked - found)
  const cachedAudio = of('cacheTokensDetails', 'AUDIO')
  const audio = of('promptTokensDetails', 'AUDIO') - cachedAudio + of('toolUsePromptTokensDetails', 'AUDIO')
  const seen =
    of('promptTokensDetails', 'IMAGE', 'VIDEO') -
    of('cacheTokensDetails', 'IMAGE', 'VIDEO') +
    of('toolUsePromptTokensDetails', 'IMAGE', 'VIDEO')
  const drawn = of('candidatesTokensDetails', 'IMAGE', 'VIDEO')
  const loud = of('candidatesTokensDetails', 'AUDIO')
  const queries = sum(
    events
      .flatMap((event) => list(event['candidates']))
      .map((candidate) => list(fields(candidate['groundingMetadata'])['webSearchQueries'] ?? []).length),
  )
  const model = text(answer['modelVersion'])
  const tier = text(usage['serviceTier']) ?? TRAFFIC[text(usage['trafficType']) ?? ''] ?? null
  return {
    model,
    words: tier === null ? [] : [tier.toLowerCase().replace('service_tier_', '')],
    passes: [
      {
        counts: {
          input: asked - cached + found - audio - seen,
          cache_read: cached - cachedAudio,
          cache_audio_read: cachedAudio,
          input_audio: audio,
          input_image: seen,
          output: all - drawn - loud,
          output_image: drawn,
          output_audio: loud,
          search: /gemini-[12]/.test(model ?? '') ? Math.min(1, queries) : queries,
        },
      },
    ],
  }
}
const TRAFFIC: Readonly<Record<string, string>> = { ON_DEMAND_PRIORITY: 'priority', ON_DEMAND_FLEX: 'flex' }

function ofImages(answer: Fields): Bill['passes'] {
  if (answer['usage'] === undefined || answer['usage'] === null) return [{ counts: { image: list(answer['data']).length } }]
  const drawing = fields(answer['svg_usage'])
  const model = text(drawing['model'])
  const image = answer['data'] === undefined ? 1 : list(answer['data']).length
  return [
    { counts: { ...ofImageTokens(fields(answer['usage'])), image } },
    ...(model === null ? [] : [{ model, counts: { input: number(drawing['input_tokens']), output: number(drawing['output_tokens']) } }]),
  ]
}

function ofImageTokens(usage: Fields): Counts {
  const asked = number(usage['input_tokens'])
  const seen = number(fields(usage['input_tokens_details'])['image_tokens'])
  const made = number(usage['output_tokens'])
  const said = number(fields(usage['output_tokens_details'])['text_tokens'])
  return { input: asked - seen, input_image: seen, output: said, output_image: made - said }
}

function ofTranscript(answer: Fields): Counts {
  const usage = fields(answer['usage'])
  if (usage['type'] === 'duration') return { second: Math.ceil(number(usage['seconds'])) }
  if (usage['prompt_tokens'] !== undefined) return ofChat(usage)
  if (usage['input_tokens'] === undefined) return { second: Math.ceil(Number(answer['duration'])) }
  const audio = number(fields(usage['input_token_details'])['audio_tokens'])
  return { input: number(usage['input_tokens']) - audio, input_audio: audio, output: number(usage['output_tokens']) }
}

function ofSpeech(usage: Fields): Counts {
  return { input: number(usage['input_tokens']), output_audio: number(usage['output_tokens']) }
}

/** A stream gives its counts more than once, and the last ones stand. */
function lastWithUsage(events: readonly Fields[], wire: SettlementCase['wire']): Fields {
  const field = wire === 'gemini' ? 'usageMetadata' : 'usage'
  const whole = events.map((event) => (event['response'] === undefined ? event : fields(event['response'])))
  const found = whole.findLast((event) => event[field] !== undefined && event[field] !== null)
  return { ...whole[0], ...found }
}

function joined(events: readonly Fields[]): Fields {
  const message = fields(events.find((event) => event['type'] === 'message_start')?.['message'])
  let usage = fields(message['usage'])
  for (const event of events) {
    if (event['type'] !== 'message_delta') continue
    const known = Object.entries(fields(event['usage'])).filter(([, value]) => value !== null)
    usage = { ...usage, ...Object.fromEntries(known) }
  }
  return { ...message, usage }
}

// Prices.

interface Listed {
  readonly id: string
  readonly match: Match
  readonly prices: Keyed | readonly Dated[]
}
type Match = Readonly<Record<string, unknown>>
type Keyed = Readonly<Record<string, unknown>>
interface Dated {
  readonly constraint?: { readonly type?: string; readonly start_date?: string }
  readonly prices: Keyed
}

/** Prices that the list does not have, from the pages of the providers. */
const BY_HAND: Readonly<Record<string, Readonly<Record<string, Fraction>>>> = {
  'openai/gpt-4o-audio-preview': heard('40', '80'),
  'openai/gpt-4o-mini-audio-preview': heard('10', '20'),
  'openai/tts-1': { characters: usd('15', 1_000_000n) },
  'openai/tts-1-hd': { characters: usd('30', 1_000_000n) },
  'openai/dall-e-2': { image: usd('0.02') },
  'openai/dall-e-3': { image: usd('0.12') },
  'openai/gpt-4o-transcribe': { second: usd('0.0001') },
  'openai/gpt-4o-mini-transcribe': { second: usd('0.00005') },
}
/** Percent, by the beginning of the name; the first that fits. */
const FACTORS: Readonly<Record<string, readonly (readonly [beginning: string, percents: Readonly<Record<string, number>>])[]>> = {
  openai: [
    ['gpt-4o-mini', { priority: 167, fast: 167 }],
    ['gpt-4o', { priority: 170, fast: 170 }],
    ['gpt-4.1-nano', { priority: 200, fast: 200 }],
    ['gpt-4.1', { priority: 175, fast: 175 }],
    ['gpt-5-mini', { flex: 50, priority: 180, fast: 180 }],
    ['gpt-5.5', { flex: 50, priority: 250, fast: 250 }],
    ['gpt-5', { flex: 50, priority: 200, fast: 200 }],
    ['gpt-6', { flex: 50, priority: 200, fast: 200 }],
    ['o4-mini', { flex: 50, priority: 182, fast: 182 }],
    ['o3-mini', {}],
    ['o3', { flex: 50, priority: 175, fast: 175 }],
  ],
  anthropic: [
    ['claude-opus-4-6', { batch: 50, priority: 100, us: 110, fast: 600 }],
    ['claude-opus-4-7', { batch: 50, priority: 100, us: 110, fast: 600 }],
    ['claude-opus-4-8', { batch: 50, priority: 100, us: 110, fast: 200 }],
    ['claude-opus-5', { batch: 50, priority: 100, us: 110, fast: 200 }],
    ['claude-', { batch: 50, priority: 100, us: 110 }],
  ],
  google: [
    ['gemini-3.7', { flex: 50, priority: 180 }],
    ['gemini-3.8', { flex: 50, priority: 180 }],
    ['gemini-3-pro-image', {}],
    ['gemini-3.1-flash-image', {}],
    ['gemini-3.1-flash-lite-image', {}],
    ['gemini-2.5-flash-image', {}],
    ['gemini-3', { flex: 50, priority: 200 }],
    ['gemini-2.5-flash-preview-tts', {}],
    ['gemini-2.5-flash-tts', {}],
    ['gemini-2.5-flash-lite-preview-tts', {}],
    ['gemini-2.5-pro-preview-tts', {}],
    ['gemini-2.5-pro-tts', {}],
    ['gemini-2.5-', { flex: 50, priority: 200 }],
  ],
}
const AT_MOST: Readonly<Record<string, number>> = { priority: 250, fast: 600, ultrafast: 600, us: 110 }
const SEARCH = usd('0.01')
/** OpenAI's models that do not reason can be asked to search by its preview tool, which costs more; nobody says which tool it was. */
const PREVIEW_SEARCH = { models: /^(ft:)?gpt-4(o|\.1)/, usd: usd('0.025') }
/** They write nothing. */
const VECTORS = /embed/
const GOOGLE_SEARCH = { since3: usd('0.014'), before: usd('0.035') }
const XAI_CALL = usd('0.005')
const FILE_SEARCH = usd('0.0025')
const CONTAINER = usd('0.03')

class Tariffs {
  readonly #provider: string
  readonly #day: string
  readonly #own: OwnPrices
  constructor(provider: string, day: string, own: OwnPrices) {
    this.#provider = provider
    this.#day = day
    this.#own = own
  }

  /** Of the first of these models that is known, or of the dearest. */
  ratesOf(names: readonly string[], context: number): (name: string) => Fraction {
    for (const name of names) {
      const own = this.#own[name]
      if (own !== undefined) return (kind) => usd(own[OWN[kind] ?? 'input'] ?? own.input, 1_000_000n)
      const found = this.#find(name)
      if (found !== null) return (kind) => this.#rate(found.provider, found.model, context, kind)
      if (BY_HAND[`${this.#provider}/${name}`] !== undefined)
        return (kind) => BY_HAND[`${this.#provider}/${name}`]?.[kind] ?? this.#fee(name, kind) ?? ZERO
    }
    const all = this.#houses().flatMap((provider) => listed(provider).map((each) => ({ provider, each })))
    return (kind) =>
      all
        .flatMap(({ provider, each }) => [0, Number.MAX_SAFE_INTEGER].map((size) => this.#rate(provider, each, size, kind)))
        .reduce(larger, ZERO)
  }

  factorOf(model: string, word: string): Fraction {
    if (['default', 'standard', 'auto'].includes(word)) return ONE
    const provider = this.#provider === 'azure' ? 'openai' : this.#provider
    const known = (FACTORS[provider] ?? []).find(([beginning]) => model.startsWith(beginning))?.[1]
    return fraction(BigInt(known?.[word] ?? AT_MOST[word] ?? 100), 100n)
  }

  /** Azure sells OpenAI's models, most of them unlisted. */
  #houses(): readonly string[] {
    return this.#provider === 'azure' ? ['azure', 'openai'] : [this.#provider]
  }

  #find(name: string): { readonly provider: string; readonly model: Listed } | null {
    for (const provider of this.#houses()) {
      const model = listed(provider).find(({ match }) => fits(match, name))
      if (model !== undefined && Object.keys(model.prices).length > 0) return { provider, model }
    }
    return null
  }

  #rate(provider: string, model: Listed, context: number, kind: string): Fraction {
    const hand = BY_HAND[`${provider}/${model.id}`]?.[kind]
    if (hand !== undefined) return hand
    if (kind === 'search' && provider === 'openai' && PREVIEW_SEARCH.models.test(model.id)) return PREVIEW_SEARCH.usd
    return this.#inForce(model)
      .map((prices) => rateIn(VECTORS.test(model.id) ? prices : withOutput(prices), context, kind) ?? this.#fee(model.id, kind) ?? ZERO)
      .reduce(larger, ZERO)
  }

  /** Those of the day, and of its dearer hours. */
  #inForce({ prices }: Listed): readonly Keyed[] {
    if (!Array.isArray(prices)) return [prices as Keyed]
    const dated = prices as readonly Dated[]
    const start = dated.findLastIndex(
      ({ constraint }) => (constraint?.start_date ?? '') <= this.#day && constraint?.type !== 'time_of_date',
    )
    const after = dated.slice(start + 1)
    const end = after.findIndex(({ constraint }) => constraint?.type !== 'time_of_date')
    return [dated[start], ...after.slice(0, end < 0 ? after.length : end)].flatMap((each) => (each === undefined ? [] : [each.prices]))
  }

  #fee(model: string, kind: string): Fraction | null {
    if (kind === 'file_search') return FILE_SEARCH
    if (this.#provider === 'x-ai' && (kind === 'search' || kind === 'container')) return XAI_CALL
    if (kind === 'container') return CONTAINER
    if (kind !== 'search') return null
    if (this.#provider !== 'google' || !model.startsWith('gemini')) return SEARCH
    return model.startsWith('gemini-3') ? GOOGLE_SEARCH.since3 : GOOGLE_SEARCH.before
  }
}

const OWN: Readonly<Record<string, keyof OwnKinds>> = {
  cache_read: 'cacheRead',
  cache_write: 'cacheWriteShort',
  cache_write_1h: 'cacheWriteLong',
  output: 'output',
  output_audio: 'output',
  output_image: 'output',
}

/** Text is not written for nothing: where nobody says at what price, at that of what is read. */
function withOutput(prices: Keyed): Keyed {
  return prices['output_mtok'] === undefined ? { ...prices, output_mtok: prices['input_mtok'] } : prices
}

/** By what a kind follows where it has no price of its own; null where there is nothing to follow. */
function rateIn(prices: Keyed, context: number, kind: string): Fraction | null {
  const own = (name: string): Fraction | null => perToken(prices[`${name}_mtok`], context)
  const input = own('input') ?? ZERO
  const output = own('output') ?? ZERO
  switch (kind) {
    case 'input':
      return input
    case 'cache_read':
    case 'cache_write':
    case 'input_audio':
      return own(kind) ?? input
    case 'cache_write_1h':
      return own(kind) ?? (own('cache_write') === null ? input : larger(own('cache_write') ?? ZERO, times(input, fraction(2n, 1n))))
    case 'cache_audio_read':
      return own(kind) ?? own('input_audio') ?? own('cache_read') ?? input
    case 'input_image':
      return larger(own(kind) ?? input, own('input_video') ?? ZERO)
    case 'output':
      return larger(output, own('output_reasoning') ?? ZERO)
    case 'output_audio':
      return own(kind) ?? larger(output, own('output_reasoning') ?? ZERO)
    case 'output_image':
      return larger(own(kind) ?? output, own('output_video') ?? ZERO)
    case 'search':
      return perThousand(prices['web_searches_kcount'])
    case 'file_search':
      return perThousand(prices['storage_searches_kcount'])
    case 'second':
      return perSecond(prices['input_audio_hours'])
    default:
      return null
  }
}

function perToken(price: unknown, context: number): Fraction | null {
  if (typeof price === 'number') return usd(price.toFixed(6), 1_000_000n)
  if (typeof price !== 'object' || price === null) return null
  const { base, tiers } = price as { readonly base: number; readonly tiers: readonly { readonly start: number; readonly price: number }[] }
  const reached = tiers.filter(({ start }) => context > start).toSorted((a, b) => b.start - a.start)[0]
  return usd((reached?.price ?? base).toFixed(6), 1_000_000n)
}

function perThousand(price: unknown): Fraction | null {
  return typeof price === 'number' ? usd(price.toFixed(6), 1_000n) : null
}

/** An hour's price by the second is rounded up to a millionth of a millionth of a dollar. */
function perSecond(price: unknown): Fraction | null {
  if (typeof price !== 'number') return null
  const exact = usd(price.toFixed(6), 3_600n)
  const [top, bottom] = [exact.top * 1_000_000_000_000n, exact.bottom]
  return fraction((top + bottom - 1n) / bottom, 1_000_000_000_000n)
}

function listed(provider: string): readonly Listed[] {
  return findProvider({ providerId: provider })?.models ?? []
}

function fits(match: Match, name: string): boolean {
  const of = (value: unknown): string => (typeof value === 'string' ? value : '')
  if ('equals' in match) return name === of(match['equals'])
  if ('starts_with' in match) return name.startsWith(of(match['starts_with']))
  if ('ends_with' in match) return name.endsWith(of(match['ends_with']))
  if ('contains' in match) return name.includes(of(match['contains']))
  if ('regex' in match) return new RegExp(of(match['regex'])).test(name)
  if ('or' in match) return (match['or'] as readonly Match[]).some((part) => fits(part, name))
  if ('and' in match) return (match['and'] as readonly Match[]).every((part) => fits(part, name))
  return false
}

// Fractions.

interface Fraction {
  readonly top: bigint
  readonly bottom: bigint
}
function fraction(top: bigint, bottom: bigint): Fraction {
  return { top, bottom }
}
const ZERO = fraction(0n, 1n)
const ONE = fraction(1n, 1n)

/** A decimal of dollars for so many. */
function usd(decimal: string, each = 1n): Fraction {
  const [whole = '0', digits = ''] = decimal.split('.')
  return fraction(BigInt(whole + digits), 10n ** BigInt(digits.length) * each)
}
/** Audio, for a million tokens of it. */
function heard(input: string, output: string): Readonly<Record<string, Fraction>> {
  const read = usd(input, 1_000_000n)
  return { input_audio: read, cache_audio_read: read, output_audio: usd(output, 1_000_000n) }
}
function plus(a: Fraction, b: Fraction): Fraction {
  return fraction(a.top * b.bottom + b.top * a.bottom, a.bottom * b.bottom)
}
function times(a: Fraction, b: Fraction): Fraction {
  return fraction(a.top * b.top, a.bottom * b.bottom)
}
function larger(a: Fraction, b: Fraction): Fraction {
  return a.top * b.bottom >= b.top * a.bottom ? a : b
}
function inNanos({ top, bottom }: Fraction): string {
  const scaled = top * 1_000_000_000n
  const nanos = scaled / bottom + (scaled % bottom === 0n ? 0n : 1n)
  return `${nanos / 1_000_000_000n}.${(nanos % 1_000_000_000n).toString().padStart(9, '0')}`
}

// JSON.

function fields(value: Raw | undefined): Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : {}
}
function list(value: Raw | undefined): readonly Fields[] {
  return Array.isArray(value) ? (value as readonly Fields[]) : []
}
function text(value: Raw | undefined): string | null {
  return typeof value === 'string' && value !== '' ? value : null
}
function optional(value: Raw | undefined): number | null {
  return typeof value === 'number' ? value : null
}
function number(value: Raw | undefined): number {
  const count = optional(value) ?? 0
  assert.ok(count >= 0, `${count} is no count`)
  return count
}
function sum(counts: readonly number[]): number {
  return counts.reduce((total, count) => total + count, 0)
}
