import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { usageOf } from '@farebox/crds/usage.ts'
import type { Usage } from '@farebox/crds/usage.ts'
import type { JsonObject } from '../core/request.ts'
import { readImagesUsage, saysTokens } from './images-usage.ts'

const USAGE = { input_tokens: 50, input_tokens_details: { image_tokens: 40, text_tokens: 10 }, output_tokens: 4_160, total_tokens: 4_210 }

describe('usage of images', () => {
  const cases: Record<string, [answer: JsonObject, expected: Partial<Usage>]> = {
    'all output is images where nothing else is said': [
      { data: [{ b64_json: '' }], usage: USAGE },
      { uncachedInput: 10, imageInput: 40, imageOutput: 4_160, images: 1 },
    ],
    'text in the output is apart': [
      { data: [{}], usage: { ...USAGE, output_tokens_details: { image_tokens: 4_000, text_tokens: 160 } } },
      { uncachedInput: 10, imageInput: 40, output: 160, imageOutput: 4_000, images: 1 },
    ],
    'text from the cache': [
      { usage: { ...USAGE, cached_tokens: 28, cached_tokens_details: { cached_image_tokens: 20, cached_text_tokens: 8 } } },
      { uncachedInput: 2, cacheReadInput: 8, imageInput: 40, imageOutput: 4_160 },
    ],
    'the event that ends a stream': [
      { type: 'image_generation.completed', b64_json: '', usage: USAGE },
      { uncachedInput: 10, imageInput: 40, imageOutput: 4_160, images: 1 },
    ],
    'models that are priced by the image say no tokens': [{ created: 1, data: [{ url: 'https://example.com' }, {}] }, { images: 2 }],
    'a streamed image without tokens is one': [{ type: 'image_generation.completed', b64_json: '', usage: null }, { images: 1 }],
    'no image is none': [{ data: [] }, {}],
  }
  for (const [name, [answer, expected]] of Object.entries(cases)) {
    test(name, () => assert.deepEqual(readImagesUsage(answer), { usage: usageOf(expected), clamped: false, invalid: false }))
  }
})

test('a model that writes SVG is priced on its own', () => {
  const read = readImagesUsage({
    usage: USAGE,
    svg_usage: { model: 'gpt-6-sol', input_tokens: 100, output_tokens: 900, reasoning_tokens: 500 },
  })
  assert.deepEqual(read.others, [{ model: 'gpt-6-sol', usage: usageOf({ uncachedInput: 100, output: 900 }) }])
})

test('parts above their total are cut, broken numbers make all invalid, half a usage is none', () => {
  const over = readImagesUsage({ usage: { ...USAGE, input_tokens: 30 } })
  assert.deepEqual(over, { usage: usageOf({ imageInput: 30, imageOutput: 4_160 }), clamped: true, invalid: false })
  for (const usage of [5, 'x', { ...USAGE, output_tokens: -1 }, { ...USAGE, input_tokens_details: { image_tokens: 0.5 } }])
    assert.deepEqual(readImagesUsage({ usage }), { usage: null, clamped: false, invalid: true })
  assert.equal(readImagesUsage({ usage: { input_tokens: 5 } }).usage, null)
})

test('who counts no tokens leaves them out, or says nothing but zeros of an image that was made', () => {
  const zeros = { input_tokens: 0, output_tokens: 0, total_tokens: 0 }
  for (const answer of [{ data: [{}] }, { data: [{}], usage: null }, { data: [{}], usage: zeros }, { b64_json: '', usage: zeros }])
    assert.equal(saysTokens(answer), false)
  for (const answer of [
    { data: [{}], usage: USAGE },
    { data: [], usage: zeros },
    { data: [{}], usage: { ...zeros, input_tokens: 9 } },
    { data: [{}], usage: 'x' },
    { data: [{}], usage: {} },
  ])
    assert.equal(saysTokens(answer), true)
})
