/** Vectors of texts. https://ai.google.dev/api/embeddings */
import { isObject } from '../fields.ts'
import type { JsonObject } from '../fields.ts'
import type { Model } from '../models.ts'
import { hashOf, randomOf } from '../random.ts'
import { countTokens } from '../tokens.ts'
import { invalidArgument } from './errors.ts'
import { readMessage } from './proto.ts'

export const EMBEDDING_MODEL: Model = {
  id: 'gemini-embedding-001',
  snapshot: 'gemini-embedding-001',
  contextTokens: 2_048,
  maxOutputTokens: 1,
  tokenPercent: 100,
  reasoning: false,
  images: { kind: 'tiles', base: 0, tile: 258 },
  price: { input: '0.15', cachedInput: '0.15', output: '0' },
  tiers: {},
}
const REQUESTS_MAX = 100
const DIMENSIONS = 3_072

/** What an answer to `body` has in it, and the tokens that were read for it. */
export function embed(body: unknown, method: 'embedContent' | 'batchEmbedContents'): { readonly tokens: number; readonly answer: object } {
  if (method === 'embedContent') {
    const { tokens, vector } = embedded(readMessage(body, 'EmbedContentRequest'))
    return { tokens, answer: { embedding: vector, ...usageOf(tokens) } }
  }
  const requests = readMessage(body, 'BatchEmbedContentsRequest')['requests']
  const list = Array.isArray(requests) ? requests.filter(isObject) : []
  if (list.length === 0 || list.length > REQUESTS_MAX)
    throw invalidArgument(`* BatchEmbedContentsRequest.requests: at most ${REQUESTS_MAX} requests can be in one batch, and at least one`)
  const all = list.map(embedded)
  const tokens = all.reduce((sum, one) => sum + one.tokens, 0)
  return { tokens, answer: { embeddings: all.map(({ vector }) => vector), ...usageOf(tokens) } }
}

function usageOf(tokens: number): object {
  return { usageMetadata: { promptTokenCount: tokens, promptTokenDetails: [{ modality: 'TEXT', tokenCount: tokens }] } }
}

function embedded({ content, outputDimensionality }: JsonObject): { readonly tokens: number; readonly vector: object } {
  const parts = isObject(content) && Array.isArray(content['parts']) ? content['parts'].filter(isObject) : []
  const text = parts.map((part) => String(part['text'])).join('\n')
  if (text === '') throw invalidArgument('* EmbedContentRequest.content: contents is not specified')
  const random = randomOf(hashOf(text))
  const length = typeof outputDimensionality === 'number' ? outputDimensionality : DIMENSIONS
  return { tokens: countTokens(text), vector: { values: Array.from({ length }, () => random.below(2_000) / 1_000 - 1) } }
}
