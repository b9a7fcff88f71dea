/** Models that are not talked to: what they are called and what they cost. https://developers.openai.com/api/docs/pricing */
import { ApiError } from '../api-error.ts'
import { picoPerToken } from '../bill.ts'
import type { Model } from '../models.ts'

/** USD per million tokens or characters, per image, per minute, as decimal strings; what is left out costs nothing. */
export interface UnitPrice {
  readonly input?: string
  readonly imageInput?: string
  readonly audioInput?: string
  readonly output?: string
  readonly characters?: string
  readonly perMinute?: string
}

export interface UnitModel {
  readonly id: string
  readonly kind: 'embeddings' | 'completions' | 'images' | 'speech' | 'transcriptions'
  readonly price: UnitPrice
}

const MODELS: readonly UnitModel[] = [
  { id: 'text-embedding-3-small', kind: 'embeddings', price: { input: '0.02' } },
  { id: 'text-embedding-3-large', kind: 'embeddings', price: { input: '0.13' } },
  { id: 'gpt-3.5-turbo-instruct', kind: 'completions', price: { input: '1.50', output: '2.00' } },
  { id: 'gpt-image-1', kind: 'images', price: { input: '5.00', imageInput: '10.00', output: '40.00' } },
  { id: 'gpt-image-1-mini', kind: 'images', price: { input: '2.00', imageInput: '2.50', output: '8.00' } },
  { id: 'dall-e-3', kind: 'images', price: {} },
  { id: 'dall-e-2', kind: 'images', price: {} },
  { id: 'tts-1', kind: 'speech', price: { characters: '15.00' } },
  { id: 'tts-1-hd', kind: 'speech', price: { characters: '30.00' } },
  { id: 'gpt-4o-mini-tts', kind: 'speech', price: { input: '0.60', output: '12.00' } },
  { id: 'whisper-1', kind: 'transcriptions', price: { perMinute: '0.006' } },
  { id: 'gpt-transcribe', kind: 'transcriptions', price: { perMinute: '0.0045' } },
  { id: 'gpt-4o-transcribe-diarize', kind: 'transcriptions', price: { input: '2.50', audioInput: '6.00', output: '10.00' } },
  { id: 'gpt-4o-transcribe', kind: 'transcriptions', price: { input: '2.50', audioInput: '6.00', output: '10.00' } },
  { id: 'gpt-4o-mini-transcribe', kind: 'transcriptions', price: { input: '1.25', audioInput: '3.00', output: '5.00' } },
]

export function unitModel(id: unknown, kind: UnitModel['kind']): UnitModel {
  const model = MODELS.find((each) => each.id === id && each.kind === kind)
  if (model !== undefined) return model
  if (typeof id !== 'string') throw new ApiError(400, 'you must provide a model parameter')
  throw new ApiError(404, `The model \`${id}\` does not exist or you do not have access to it.`, { code: 'model_not_found' })
}

/** What a call used; whole numbers. */
export interface UnitUse {
  readonly input?: number
  readonly imageInput?: number
  readonly audioInput?: number
  readonly output?: number
  readonly characters?: number
  readonly seconds?: number
  /** Images at a price each, in USD. */
  readonly images?: { readonly count: number; readonly each: string }
}

/** Rounded up once, to nano-dollars. */
export function priceOf({ price }: UnitModel, use: UnitUse): bigint {
  const tokens = (count: number | undefined, rate: string | undefined): bigint => BigInt(count ?? 0) * picoPerToken(rate ?? '0')
  let pico = tokens(use.input, price.input) + tokens(use.imageInput, price.imageInput) + tokens(use.audioInput, price.audioInput)
  pico += tokens(use.output, price.output) + tokens(use.characters, price.characters)
  // A price per million in pico-dollars, a million times over, is the price of one; a minute's is shared by its seconds.
  pico += (BigInt(use.seconds ?? 0) * picoPerToken(price.perMinute ?? '0') * 1_000_000n + 59n) / 60n
  pico += BigInt(use.images?.count ?? 0) * picoPerToken(use.images?.each ?? '0') * 1_000_000n
  return (pico + 999n) / 1000n
}

/** The model as the bill has it: what it used is put on as a fee. */
export function billed({ id }: UnitModel): Model {
  return {
    id,
    snapshot: id,
    tokenPercent: 100,
    contextTokens: 300_000,
    maxOutputTokens: 4_096,
    reasoning: false,
    images: { kind: 'tiles', base: 65, tile: 129 },
    price: { input: '0', cachedInput: '0', output: '0' },
    tiers: {},
  }
}
