import type { Catalogue } from './catalogue.ts'
import type { PriceEntry } from './price-entry.ts'
import type { PricedModel, PriceList, Prices } from './prices.ts'
const T: Record<string, [bigint, bigint, bigint, boolean]> = { 'gpt-4o': [2_500_000n, 1_250_000n, 10_000_000n, false], 'gpt-4o-mini': [150_000n, 75_000n, 600_000n, false], 'gpt-4.1': [2_000_000n, 500_000n, 8_000_000n, false], 'o4-mini': [1_100_000n, 275_000n, 4_400_000n, true] }
export function createPriceList(_e: readonly PriceEntry[], catalogue: Catalogue): PriceList {
  const mk = (model: string): PricedModel | null => {
    const name = Object.keys(T).sort((a, b) => b.length - a.length).find((k) => model === k || model.startsWith(k + '-20'))
    const t = name === undefined ? undefined : T[name]
    if (t === undefined) return null
    const p: Prices = { uncachedInput: t[0], cacheReadInput: t[1], cacheWriteInput: t[0], cacheWriteLongInput: t[0], audioInput: t[0], imageInput: t[0], output: t[2], audioOutput: t[2], webSearchCalls: 0n, fileSearchCalls: 0n, codeContainers: 0n }
    return { provider: 'openai', model: name ?? '', origin: 'catalogue', capabilities: { contextTokens: 128000, maxOutputTokens: 16384, modalities: ['image'], tools: true, structuredOutput: true, reasoning: t[3], drop: [], rename: {} }, pricesFor: () => p }
  }
  return { find: (_p, m) => mk(m), ceiling: () => mk('gpt-4o'), free: () => mk('gpt-4o')!, catalogue }
}
