/**
 * Endpoints that keep a call in a region, of providers that charge more for that. No answer says it, and a price has no place for it: it
 * is the host that is asked.
 */
import { servedAs, servedWords } from './prices.ts'
import type { PricedModel, PriceList } from './prices.ts'

/** The word for it among service tiers: a PriceBook's `serviceTierPercent` can have a factor of its own. */
export const REGIONAL = 'regional'

interface Surcharge {
  readonly provider: string
  readonly host: RegExp
  readonly percent: number
  /** Models that cost the same everywhere. */
  readonly except?: RegExp
  readonly source: string
}

/** OpenAI's that were released before 2026-03-05, the day of gpt-5.4: what is not known to be older costs more. */
const OPENAI_BEFORE_SURCHARGE =
  /^(?:ft:)?(?:gpt-3\.5|gpt-4|chatgpt-4o|gpt-5(?:\.[0-3])?(?:-|$)|o1|o3|o4-mini|codex-mini|computer-use|text-embedding-|tts-1|whisper-1|dall-e-|gpt-image-1|gpt-audio(?:-mini)?(?:-2025|$)|davinci-002|babbage-002)/

const SURCHARGES: readonly Surcharge[] = [
  {
    provider: 'openai',
    host: /^https?:\/\/[a-z]{2}\.api\.openai\.com(?::\d+)?(?:\/|$)/i,
    percent: 110,
    except: OPENAI_BEFORE_SURCHARGE,
    source: 'https://developers.openai.com/api/docs/guides/data-residency',
  },
  {
    provider: 'together',
    host: /^https?:\/\/[a-z]{2}-api\.together\.ai(?::\d+)?(?:\/|$)/i,
    percent: 125,
    source: 'https://docs.together.ai/docs/serverless/geo-specific-inference',
  },
]

/** Whether calls to an upstream are kept in a region, at a price of its own. */
export function isRegional({ provider, baseUrl }: { readonly provider: string; readonly baseUrl: string }): boolean {
  return SURCHARGES.some((surcharge) => surcharge.provider === provider && surcharge.host.test(baseUrl))
}

/** In percent of the standard price, what a model's tokens cost there. */
export function regionalPercent(provider: string, model: string): number {
  const surcharge = SURCHARGES.find((each) => each.provider === provider)
  return surcharge === undefined || surcharge.except?.test(model) === true ? 100 : surcharge.percent
}

/** The list as it holds at a regional endpoint, or elsewhere. */
export function pricesAt(list: PriceList, upstream: Parameters<typeof isRegional>[0]): PriceList {
  return isRegional(upstream) ? regionalPrices(list) : list
}

function regionalPrices(list: PriceList): PriceList {
  return {
    find: (provider, model, atMs) => regionally(list.find(provider, model, atMs)),
    ceiling: (provider, model, atMs) => regionally(list.ceiling(provider, model, atMs)),
    free: (provider, model) => list.free(provider, model),
    catalogue: list.catalogue,
  }
}

function regionally(priced: PricedModel | null): PricedModel | null {
  if (priced === null) return null
  return {
    ...priced,
    pricesFor: (inputTokens, serviceTier) => priced.pricesFor(inputTokens, servedAs([...servedWords(serviceTier), REGIONAL])),
  }
}
