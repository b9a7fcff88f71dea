/** One priced model: the shape of a PriceBook entry, in decimal USD per million tokens. */
import * as z from 'zod'
import { boundedMap, decimal, IsoDate, ModelPattern, text, Tokens } from './fields.ts'
import { rules } from './rules.ts'
import { PRICE_PATTERN, USD_PATTERN } from './usd.ts'

/** Lists of others have prices per token, which have more digits: so the unit is told with the bounds. */
function perMillion(unit: string): z.ZodString {
  const bounds = `below 10 million, with at most 6 digits after the point: it is US dollars per million ${unit}`
  return decimal(PRICE_PATTERN, 14, { example: '2.50', bounds })
}
const PerMillion = perMillion('tokens')
/** USD for one of something. */
const Fee = decimal(USD_PATTERN, 19, {
  example: '0.01',
  bounds: 'below one billion, with at most 9 digits after the point: it is US dollars for one',
})

/** Prices by kind; what is absent follows from `input` and `output` (see `prices.ts`). */
const KindPrices = {
  input: PerMillion.optional().describe('Uncached input, USD per million tokens.'),
  output: PerMillion.optional().describe('Output including reasoning, USD per million tokens.'),
  cacheRead: PerMillion.optional().describe('Input read from the cache.'),
  cacheWriteShort: PerMillion.optional().describe('Input written to the short-lived cache (minutes).'),
  cacheWriteLong: PerMillion.optional().describe('Input written to the long-lived cache (hours).'),
  audioInput: PerMillion.optional().describe('Audio in, USD per million tokens.'),
  audioOutput: PerMillion.optional().describe('Audio out, USD per million tokens.'),
  imageInput: PerMillion.optional().describe('Images in, USD per million tokens.'),
  imageOutput: PerMillion.optional().describe('Images made, USD per million tokens.'),
  cacheReadAudio: PerMillion.optional().describe('Audio read from the cache, USD per million tokens.'),
}

/** Prices of what is not counted in tokens. Neither steps nor service tiers change them. */
const UnitPrices = {
  perSecond: Fee.optional().describe('A second of audio, heard or made; a second that has begun counts whole.'),
  perMillionCharacters: perMillion('characters').optional().describe('Text spoken, USD per million characters.'),
  perImage: Fee.optional().describe('An image made, whatever its size.'),
}

const STEPS_MAX = 8
const STEP_INDEXES = `[${Array.from({ length: STEPS_MAX - 1 }, (_, index) => index).join(', ')}]`
const Steps = rules(
  z
    .array(
      z.strictObject({ inputOver: Tokens.describe('Applies to the whole call when its input exceeds this many tokens.'), ...KindPrices }),
    )
    .max(STEPS_MAX),
  {
    rule: `${STEP_INDEXES}.all(i, i + 1 >= size(self) || self[i].inputOver < self[i + 1].inputOver)`,
    message: 'inputOver must rise from step to step',
  },
)

export const PriceEntrySchema = z.strictObject({
  provider: text(1, 63).describe('Provider id, such as `openai`.'),
  model: ModelPattern.describe('Model name; a trailing `*` matches the rest of a name.'),
  from: IsoDate.optional().describe('First day (UTC) on which the price holds; absent: always.'),
  ...KindPrices,
  ...UnitPrices,
  steps: Steps.default([]).describe("Long-context steps, rising; none: the catalogue's, raised where the prices here are higher."),
  serviceTierPercent: boundedMap(z.int().min(1).max(10_000), 16, {
    pattern: /^[a-z][a-z0-9_-]{0,31}$/,
    message: 'keys must be service tiers, in lower case',
  })
    .default({})
    .describe(
      'Factor by served tier, in percent: `flex: 50`. `auto`: what a call is held at that names no tier. `regional`: at an endpoint that keeps calls in a region, where the provider charges more for it.',
    ),
  toolFees: z
    .strictObject({
      webSearch: Fee.optional().describe('A web search.'),
      fileSearch: Fee.optional().describe('A search in files that the provider keeps.'),
      codeContainer: Fee.optional().describe('A container in which the provider runs code.'),
    })
    .default({})
    .describe('USD per call.'),
  capabilities: z
    .strictObject({
      contextTokens: Tokens.optional().describe('Input and output together.'),
      maxOutputTokens: Tokens.optional().describe('Longest answer, reasoning included.'),
      modalities: z
        .array(z.enum(['image', 'audio', 'file']))
        .max(3)
        .optional()
        .describe('Input that it takes beside text.'),
      tools: z.enum(['Supported', 'Unsupported']).optional().describe('Whether it can call tools.'),
      structuredOutput: z.enum(['Supported', 'Unsupported']).optional().describe('A strict JSON schema as `response_format`.'),
      reasoning: z.enum(['Always', 'Never']).optional().describe('Whether it reasons before it answers.'),
      drop: z.array(text(1, 64)).max(32).optional().describe('Request fields that it refuses: taken out when a request is moved to it.'),
      rename: boundedMap(text(1, 64), 16, { pattern: /^[a-z][a-z0-9_]{0,63}$/, message: 'keys must be request fields' })
        .optional()
        .describe('Request fields that it calls otherwise: `max_tokens: max_completion_tokens`.'),
      source: text(0, 256).optional().describe('Where this was read.'),
    })
    .optional()
    .describe('What the model can take; absent fields follow the catalogue.'),
})
export type PriceEntry = z.infer<typeof PriceEntrySchema>
