/** One priced model: the shape of a PriceBook entry, in decimal USD per million tokens. */
import * as z from 'zod'
import { PRICE_PATTERN, USD_PATTERN } from './usd.ts'

const PerMillion = z.string().max(16).regex(PRICE_PATTERN)

/** Prices by kind; what is absent follows from `input` and `output` (see `prices.ts`). */
const KindPrices = {
  input: PerMillion.optional().describe('Uncached input, USD per million tokens.'),
  output: PerMillion.optional().describe('Output including reasoning, USD per million tokens.'),
  cacheRead: PerMillion.optional().describe('Input read from the cache.'),
  cacheWriteShort: PerMillion.optional().describe('Input written to the short-lived cache (minutes).'),
  cacheWriteLong: PerMillion.optional().describe('Input written to the long-lived cache (hours).'),
  audioInput: PerMillion.optional(),
  audioOutput: PerMillion.optional(),
  imageInput: PerMillion.optional(),
}

export const PriceEntrySchema = z.strictObject({
  provider: z.string().min(1).max(63).describe('Provider id, such as `openai`.'),
  model: z.string().min(1).max(128).describe('Model name; a trailing `*` matches the rest of a name.'),
  from: z.iso.date().max(10).optional().describe('First day (UTC) on which the price holds; absent: always.'),
  ...KindPrices,
  steps: z
    .array(z.strictObject({ inputOver: z.int().min(1).max(100_000_000).describe('Applies to the whole call when its input exceeds this many tokens.'), ...KindPrices }))
    .max(8)
    .default([])
    .describe('Long-context steps, rising.'),
  serviceTierPercent: z.record(z.string().max(32), z.int().min(1).max(10_000)).default({}).describe('Factor by served tier, in percent: `flex: 50`.'),
  toolFees: z
    .strictObject({
      webSearch: z.string().max(20).regex(USD_PATTERN).optional(),
      fileSearch: z.string().max(20).regex(USD_PATTERN).optional(),
      codeContainer: z.string().max(20).regex(USD_PATTERN).optional(),
    })
    .default({})
    .describe('USD per call.'),
  capabilities: z
    .strictObject({
      contextTokens: z.int().min(1).max(100_000_000).optional(),
      maxOutputTokens: z.int().min(1).max(100_000_000).optional(),
      modalities: z.array(z.enum(['image', 'audio', 'file'])).max(3).optional(),
      tools: z.enum(['Supported', 'Unsupported']).optional(),
      structuredOutput: z.enum(['Supported', 'Unsupported']).optional(),
      reasoning: z.enum(['Always', 'Never']).optional(),
      drop: z.array(z.string().max(64)).max(32).optional(),
      rename: z.record(z.string().max(64), z.string().max(64)).optional(),
      source: z.string().max(256).optional().describe('Where this was read.'),
    })
    .optional()
    .describe('What the model can take; absent fields follow the catalogue.'),
})
export type PriceEntry = z.infer<typeof PriceEntrySchema>
