import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import {
  AUDIO_TOKENS_CEILING,
  IMAGE_TOKENS_CEILING,
  isUnbounded,
  mediaTokensBound,
  mediaTokensUsual,
  soundTokensBound,
} from './media-tokens.ts'
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

test('an image costs Gemini 3 as much whatever its size, twice where the most is asked for, and Gemini 2 by its crops', () => {
  const embedded = (...size: Parameters<typeof image>): ImagePart => ({ ...image(...size), embeddedBytes: 9 })
  for (const model of ['gemini-3-pro-preview', 'google/gemini-3.5-flash', 'models/gemini-2.5-flash']) {
    assert.equal(mediaTokensBound(embedded(64, 64), model), 1_120)
    assert.equal(mediaTokensBound(embedded(64, 64, 'low'), model), 1_120)
    assert.equal(mediaTokensBound(embedded(64, 64, 'ultraHigh'), model), 2_240)
    assert.equal(mediaTokensBound(embedded(960, 540), model), 6 * 258)
    assert.equal(mediaTokensBound(embedded(3_072, 384), model), 24 * 258)
    assert.equal(mediaTokensBound(embedded(6_000, 300), model), 24 * 258)
    for (const part of [embedded(500, 500), embedded(1_568, 1_568), { ...embedded(1, 1), size: null }])
      assert.ok(mediaTokensBound(part, model) >= mediaTokensBound(part, 'never-seen'))
  }
  assert.equal(mediaTokensBound(image(64, 64, 'ultraHigh'), 'gpt-4o'), mediaTokensBound(image(64, 64), 'gpt-4o'))
})

test('a link that reaches Gemini as one to a picture is no file', () => {
  assert.equal(mediaTokensBound({ ...linked(), linkedAs: 'picture' }, 'google/gemini-2.5-pro'), IMAGE_TOKENS_CEILING)
  assert.ok(!isUnbounded({ ...linked(), linkedAs: 'picture' }, 'google/gemini-2.5-pro'))
  assert.ok(isUnbounded({ ...linked(), kind: 'file', linkedAs: 'picture' }, 'google/gemini-2.5-pro'))
})

test('a link that ends as a file does is one to models that LiteLLM hands files, and a picture to any other', () => {
  const other: ImagePart = { ...linked(), linkedAs: 'other' }
  for (const model of ['gpt-5.4', 'ft:gpt-4o-mini:acme::id', 'grok-4', 'pixtral-large-latest', 'never-seen'])
    assert.deepEqual([isUnbounded(other, model), mediaTokensBound(other, model)], [false, mediaTokensBound(linked(), model)], model)
  for (const model of ['claude-opus-4-7', 'bedrock/us.anthropic.claude-sonnet-5', 'google/gemini-2.5-pro', 'us.amazon.nova-pro-v1:0']) {
    assert.equal(mediaTokensBound(other, model), Number.POSITIVE_INFINITY, model)
    assert.equal(mediaTokensUsual(other, model), 30_000, 'not a photo')
  }
})

test('sound is in recordings, and in files that may hold any', () => {
  const sound = { ...linked(), kind: 'audio', embeddedBytes: 100_000 } as const
  const file = { ...linked(), kind: 'file' } as const
  assert.equal(soundTokensBound(sound, 'gpt-audio'), mediaTokensBound(sound, 'gpt-audio'))
  for (const part of [file, { ...file, embeddedBytes: 9 }, linked(), { ...linked(), linkedAs: 'other' as const }])
    assert.equal(soundTokensBound(part, 'gemini-2.5-flash'), Number.POSITIVE_INFINITY)
  for (const part of [image(9, 9), { ...linked(), linkedAs: 'other' as const }]) assert.equal(soundTokensBound(part, 'gpt-audio'), 0)
  for (const part of [file, linked()]) assert.equal(soundTokensBound({ ...part, isSilent: true }, 'gemini-2.5-flash'), 0)
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
