import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { AUDIO_TOKENS_CEILING, IMAGE_TOKENS_CEILING, isUnbounded, mediaTokensBound, mediaTokensUsual } from './media-tokens.ts'
import type { ImagePart } from './request.ts'

const image = (width: number, height: number, detail: ImagePart['detail'] = 'high'): ImagePart => ({
  kind: 'image',
  size: { width, height },
  detail,
})
const linked = (detail: ImagePart['detail'] = 'auto'): ImagePart => ({ kind: 'image', size: null, detail })

// https://platform.openai.com/docs/guides/images-vision#calculating-costs gives these examples.
test('tiles: 1024 by 1024 is four tiles, 2048 by 4096 is six, low detail is the base', () => {
  assert.equal(mediaTokensBound(image(1_024, 1_024), 'gpt-4o'), 765)
  assert.equal(mediaTokensBound(image(2_048, 4_096), 'gpt-4o'), 1_105)
  assert.equal(mediaTokensBound(image(4_096, 8_192, 'low'), 'gpt-4o'), 85)
  assert.equal(mediaTokensBound(image(512, 512), 'gpt-4o'), 255)
  assert.equal(mediaTokensBound(image(1, 1), 'gpt-4o'), 255)
})

test('patches: 1024 by 1024 is 1,024 of them, larger images are brought down to 1,536', () => {
  assert.equal(mediaTokensBound(image(1_024, 1_024), 'gpt-4.1-mini'), Math.ceil(1_024 * 1.62))
  assert.equal(mediaTokensBound(image(1_800, 2_400), 'o4-mini'), Math.ceil(1_536 * 1.72))
  assert.equal(mediaTokensBound(image(33, 32), 'gpt-5-nano'), Math.ceil(2 * 2.46))
})

test('each family has its own rule, and the narrower name comes first', () => {
  const oneTile = (model: string): number => mediaTokensBound(image(512, 512), model)
  assert.equal(oneTile('gpt-4o-mini-2024-07-18'), 8_500)
  assert.equal(oneTile('chatgpt-4o-latest'), 255)
  assert.equal(oneTile('gpt-4.1-2025-04-14'), 255)
  assert.equal(oneTile('o1'), 225)
  assert.equal(oneTile('gpt-5'), 252)
  assert.equal(oneTile('gpt-5.1-mini'), Math.ceil(256 * 1.62))
})

test('auto is counted as high: the provider may look closely', () => {
  assert.equal(mediaTokensBound(image(1_024, 1_024, 'auto'), 'gpt-4o'), 765)
})

test('an image of unknown size costs the most that its model charges for one', () => {
  for (const model of ['gpt-4o', 'gpt-4o-mini', 'gpt-4.1-mini', 'gpt-5', 'o3', 'never-seen']) {
    const most = mediaTokensBound(linked(), model)
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 20_000 }), fc.integer({ min: 1, max: 20_000 }), (width, height) => {
        assert.ok(mediaTokensBound(image(width, height), model) <= most, `${model}: ${width} by ${height}`)
      }),
      { numRuns: 50 },
    )
  }
  assert.equal(mediaTokensBound(linked(), 'gpt-4o'), 85 + 8 * 170)
})

test('on a model without a rule the dearest rule counts', () => {
  assert.equal(mediaTokensBound(linked(), 'never-seen'), IMAGE_TOKENS_CEILING)
  assert.equal(mediaTokensBound(image(1_024, 1_024), 'never-seen'), Math.ceil(1_024 * 2.46))
  assert.equal(mediaTokensBound(image(3_200, 3_200), 'gpt-5.4'), IMAGE_TOKENS_CEILING)
})

test('Claude sees patches of 28 pixels, up to 4,784, whatever detail is asked for; nothing is held below what an unknown model is', () => {
  for (const model of ['claude-opus-4-7', 'claude-3-5-haiku-latest', 'anthropic/claude-opus-4.7', 'eu.anthropic.claude-opus-4-7-v1:0']) {
    assert.equal(mediaTokensBound(image(1_932, 1_932), model), 69 * 69)
    assert.equal(mediaTokensBound(image(1_932, 1_932, 'low'), model), 69 * 69)
    assert.equal(mediaTokensBound(image(2_000, 2_000), model), 4_784)
    for (const part of [image(500, 500), image(1_568, 1_568), image(3_000, 3_000), linked()])
      assert.ok(mediaTokensBound(part, model) >= mediaTokensBound(part, 'never-seen'))
  }
})

test('a model is known with its owner before its name, and by what it was tuned from', () => {
  for (const model of [
    'openai/gpt-4o-mini',
    'ft:gpt-4o-mini-2024-07-18:acme/x::id',
    'openai/ft:gpt-4o-mini:acme::id',
    'models/gpt-4o-mini',
  ])
    assert.equal(mediaTokensBound(image(512, 512), model), 8_500, model)
  assert.equal(mediaTokensBound(image(512, 512), 'ft:gpt-4.1:acme::id'), 255)
  for (const model of ['models/gemini-2.5-flash', 'google/gemini-2.5-flash', 'publishers/google/models/gemini-2.5-flash'])
    assert.ok(isUnbounded(linked(), model), model)
  assert.ok(!isUnbounded(linked(), 'my-gemini-2'))
})

test('what is usual is never above the bound, and equal to it where the size is known', () => {
  for (const model of ['gpt-4o', 'gpt-4.1-nano', 'never-seen']) {
    assert.ok(mediaTokensUsual(linked(), model) <= mediaTokensBound(linked(), model))
    assert.equal(mediaTokensUsual(image(800, 600), model), mediaTokensBound(image(800, 600), model))
  }
})

test('audio counts by its bytes where those are there, by a ceiling where they are not; nothing here bounds a file', () => {
  const audio = (embeddedBytes?: number): ImagePart => ({
    kind: 'audio',
    size: null,
    detail: 'auto',
    ...(embeddedBytes === undefined ? {} : { embeddedBytes }),
  })
  const file = (embeddedBytes?: number): ImagePart => ({ ...audio(embeddedBytes), kind: 'file' })
  assert.equal(mediaTokensBound(audio(), 'gpt-audio'), AUDIO_TOKENS_CEILING)
  assert.equal(mediaTokensBound(audio(100_000), 'gpt-audio'), 1_010)
  assert.ok(mediaTokensBound(audio(100_000), 'gemini-2.5-flash') >= 100 * 32)
  assert.ok(mediaTokensUsual(audio(), 'gemini-2.5-flash') < 30_000)
  assert.deepEqual(
    [audio(), audio(100_000)].map((part) => isUnbounded(part, 'gpt-audio')),
    [false, false],
  )
  assert.deepEqual(
    [audio(), audio(100_000)].map((part) => isUnbounded(part, 'gemini-2.5-flash')),
    [true, false],
  )
  assert.deepEqual(
    [linked(), image(9, 9)].map((part) => isUnbounded({ ...part, embeddedBytes: 9 }, 'gemini-2.5-flash')),
    [false, false],
  )
  assert.deepEqual(
    ['gemini-2.5-flash', 'gpt-4o'].map((model) => isUnbounded(linked(), model)),
    [true, false],
  )
  for (const part of [file(), file(10_000)]) {
    assert.equal(mediaTokensBound(part, 'gpt-4o'), Number.POSITIVE_INFINITY, 'a page may be a few bytes')
    assert.ok(mediaTokensUsual(part, 'gpt-4o') <= 30_000)
  }
  assert.equal(mediaTokensUsual(file(1_000), 'gpt-4o'), 4_000)
})
