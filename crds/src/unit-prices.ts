/**
 * Prices that the catalogue's source does not know, kept by hand: of audio, and of what is not counted in tokens. `generate-catalogue.ts`
 * adds them to the source's entry of the model, or makes one for it. Where a price depends on size or quality, the dearest is taken.
 */

export interface UnitPrice {
  readonly provider: string
  readonly model: string
  /** Further names of the model; the catalogue's clauses, where the source has the model. */
  readonly names?: readonly string[]
  /** USD for a million tokens of audio, heard and made; what is text, the source has a price for. */
  readonly audio?: { readonly input: string; readonly output: string }
  /** USD for a minute of audio, to be counted by the second. */
  readonly perMinute?: string
  /** USD for a million characters of text to speak. */
  readonly perMillionCharacters?: string
  /** USD for an image. */
  readonly perImage?: string
  /** The page that says so. */
  readonly source: string
}

export const UNIT_PRICES: readonly UnitPrice[] = [
  {
    provider: 'openai',
    model: 'gpt-4o-audio-preview',
    audio: { input: '40.00', output: '80.00' },
    source: 'https://developers.openai.com/api/docs/models/gpt-4o-audio-preview',
  },
  {
    provider: 'openai',
    model: 'gpt-4o-mini-audio-preview',
    audio: { input: '10.00', output: '20.00' },
    source: 'https://developers.openai.com/api/docs/models/gpt-4o-mini-audio-preview',
  },
  {
    provider: 'openai',
    model: 'tts-1',
    names: ['tts-1-1106'],
    perMillionCharacters: '15.00',
    source: 'https://developers.openai.com/api/docs/models/tts-1',
  },
  {
    provider: 'openai',
    model: 'tts-1-hd',
    names: ['tts-1-hd-1106'],
    perMillionCharacters: '30.00',
    source: 'https://developers.openai.com/api/docs/models/tts-1-hd',
  },
  // Priced by tokens; OpenAI gives the minute for answers that say no more than how long the audio was.
  { provider: 'openai', model: 'gpt-4o-transcribe', perMinute: '0.006', source: 'https://developers.openai.com/api/docs/pricing' },
  { provider: 'openai', model: 'gpt-4o-mini-transcribe', perMinute: '0.003', source: 'https://developers.openai.com/api/docs/pricing' },
  { provider: 'openai', model: 'dall-e-2', perImage: '0.02', source: 'https://developers.openai.com/api/docs/models/dall-e-2' },
  { provider: 'openai', model: 'dall-e-3', perImage: '0.12', source: 'https://developers.openai.com/api/docs/models/dall-e-3' },
]

/** Models that the source takes for another, whose tokens they cost, but not whose fees. */
export const APART: readonly {
  readonly provider: string
  readonly model: string
  readonly names: readonly string[]
  readonly from: string
}[] = [
  {
    provider: 'openai',
    model: 'gpt-4o-mini-search-preview',
    names: ['gpt-4o-mini-search-preview', 'gpt-4o-mini-search-preview-2025-03-11'],
    from: 'gpt-4o-mini',
  },
]

/** Fees of searches that are not 0.01 USD, and of code that are not 0.03, by the beginning of the model's name; the first that fits counts. */
export const TOOL_FEES: readonly {
  readonly provider: string
  readonly prefix: string
  readonly perSearch: string
  /** Of a container, or of a run of code where the provider bills those. */
  readonly perContainer?: string
  readonly source: string
}[] = [
  // A search by `web_search_preview`, or by a model that always searches. By `web_search` it is 0.01, but a usage does not say by which.
  { provider: 'openai', prefix: 'gpt-4o', perSearch: '0.025', source: 'https://developers.openai.com/api/docs/pricing' },
  { provider: 'openai', prefix: 'gpt-4.1', perSearch: '0.025', source: 'https://developers.openai.com/api/docs/pricing' },
  { provider: 'openai', prefix: 'ft:gpt-4o', perSearch: '0.025', source: 'https://developers.openai.com/api/docs/pricing' },
  // A search each from Gemini 3 on; before, an answer with searches in it, however many.
  { provider: 'google', prefix: 'gemini-3', perSearch: '0.014', source: 'https://ai.google.dev/gemini-api/docs/pricing' },
  { provider: 'google', prefix: 'gemini-', perSearch: '0.035', source: 'https://ai.google.dev/gemini-api/docs/pricing' },
  // Searches of the web and of X, and each run of code.
  { provider: 'x-ai', prefix: '', perSearch: '0.005', perContainer: '0.005', source: 'https://docs.x.ai/developers/pricing' },
]
