/** Vectors of texts, and what a text is judged by. https://developers.openai.com/api/docs/api-reference/embeddings */
import { badRequest } from '../api-error.ts'
import { onlyKeys } from '../fields.ts'
import { hashOf, randomOf } from '../random.ts'
import { countTokens } from '../tokens.ts'
import { unitModel } from './models.ts'
import type { UnitCall } from './call.ts'

const INPUT_TOKENS_MAX = 8_192
const INPUTS_MAX = 2_048
const DIMENSIONS = 1_536

export function embed(call: UnitCall): void {
  const { fields } = call
  onlyKeys(fields, new Set(['model', 'input', 'encoding_format', 'dimensions', 'user']), '')
  const model = unitModel(fields['model'], 'embeddings')
  const tokens = inputsOf(fields['input']).map(tokensOf)
  for (const count of tokens)
    if (count > INPUT_TOKENS_MAX)
      throw badRequest('input', 'context_length_exceeded', `This model's maximum context length is ${INPUT_TOKENS_MAX} tokens.`)
  const total = tokens.reduce((sum, count) => sum + count, 0)
  const line = call.open(model, { promptTokens: total })
  line.use({ input: total })
  const dimensions = typeof fields['dimensions'] === 'number' ? fields['dimensions'] : DIMENSIONS
  const data = tokens.map((count, index) => {
    const random = randomOf(hashOf(`${model.id} ${count} ${index}`))
    const vector = Float32Array.from({ length: dimensions }, () => random.below(2_000) / 1_000 - 1)
    const embedding = fields['encoding_format'] === 'base64' ? Buffer.from(vector.buffer).toString('base64') : [...vector]
    return { object: 'embedding', index, embedding }
  })
  call.sendJson({ object: 'list', data, model: model.id, usage: { prompt_tokens: total, total_tokens: total } })
  line.close('complete')
}

/** Costs nothing. */
export function moderate(call: UnitCall): void {
  const categories = Object.fromEntries(['harassment', 'hate', 'self-harm', 'sexual', 'violence'].map((name) => [name, false]))
  call.sendJson({
    id: `modr-${call.requestId}`,
    model: 'omni-moderation-latest',
    results: [{ flagged: false, categories, category_scores: {} }],
  })
}

function inputsOf(value: unknown): readonly unknown[] {
  const isTokens = Array.isArray(value) && value.length > 0 && value.every((each) => typeof each === 'number')
  const inputs: readonly unknown[] = typeof value === 'string' || isTokens ? [value] : Array.isArray(value) ? value : []
  if (inputs.length > 0 && inputs.length <= INPUTS_MAX) return inputs
  throw badRequest('input', null, `'$.input' is invalid. It must be a text, a list of tokens, or 1 to ${INPUTS_MAX} of these.`)
}

function tokensOf(input: unknown): number {
  if (typeof input === 'string' && input !== '') return countTokens(input)
  if (Array.isArray(input) && input.length > 0 && input.every(Number.isInteger)) return input.length
  throw badRequest('input', null, "'$.input' is invalid: it must not be empty.")
}
