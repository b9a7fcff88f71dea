/** What the provider keeps of the last call: for how long, at what price it is written, and how much of the next input it is. */
import type { PricedModel, Prices } from '@farebox/crds/prices.ts'
import type { ExactCount } from './conversation.ts'
import type { ModelRequest } from './request.ts'

/** Most keep a prefix for some minutes after its last use: https://platform.openai.com/docs/guides/prompt-caching (5 to 10). */
const CACHE_LIFE_MS = 5 * 60_000
/** The least life of what OpenAI's models bill the writing of, from GPT-5.6 on (`prompt_cache_options.ttl`). */
const OPENAI_WRITTEN_LIFE_MS = 30 * 60_000
/** Of what a request asks to be kept for longer: an hour at Anthropic, more at OpenAI. */
const LONG_LIFE_MS = 60 * 60_000

type CacheRequest = Pick<ModelRequest, 'cacheWrites'>

/** Whether the provider still has what it read and wrote for the last call, which `priced` answered. */
export function isWarm(request: CacheRequest, { atMs }: Pick<ExactCount, 'atMs'>, priced: PricedModel, nowMs: number): boolean {
  return nowMs - atMs <= cacheLifeMs(request, priced)
}

function cacheLifeMs({ cacheWrites }: CacheRequest, priced: PricedModel): number {
  if (cacheWrites === 'long') return LONG_LIFE_MS
  const { cacheWriteInput, uncachedInput } = priced.pricesFor(0, null)
  return isOpenAi(priced) && cacheWriteInput > uncachedInput ? OPENAI_WRITTEN_LIFE_MS : CACHE_LIFE_MS
}

/** By who serves it, or by its name: routers have it as `openai/gpt-5.6`. */
function isOpenAi({ provider, model }: PricedModel): boolean {
  return provider === 'openai' || provider === 'azure' || /(?:^|\/)gpt-/.test(model)
}

/** Prices whose `cacheWriteInput` is of the cache that this request asks for. */
export function asWritten({ cacheWrites }: CacheRequest, prices: Prices): Prices {
  return cacheWrites === 'long' ? { ...prices, cacheWriteInput: prices.cacheWriteLongInput } : prices
}
