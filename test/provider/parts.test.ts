import { Ajv } from 'ajv'
import fc from 'fast-check'
import { encode } from 'gpt-tokenizer/encoding/o200k_base'
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { newBill, picoPerToken, usd } from './bill.ts'
import { imageSize, imageTokens } from './images.ts'
import { instanceOf } from './json-instance.ts'
import { DEFAULT_MODELS, modelTable } from './models.ts'
import { prose } from './prose.ts'
import { randomOf } from './random.ts'
import { countTokens, scaled, tokenTexts } from './tokens.ts'

test('counts as o200k does, special tokens as plain text, and in bounded time on one long run', () => {
  for (const text of ['', 'Hello world', 'Grüße, 世界 👩‍👩‍👧', '<|endoftext|>', '\ud800 lone', 'tab\tand\r\nlines']) {
    assert.equal(countTokens(text), encode(text, { disallowedSpecial: new Set() }).length, JSON.stringify(text))
  }
  const startedAtMs = performance.now()
  assert.ok(countTokens('a'.repeat(100_000)) > 10_000)
  assert.ok(performance.now() - startedAtMs < 5_000)
})

test('the texts of the tokens joined are the text', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 1_500 }), (text) => {
      const pieces = tokenTexts(text)
      assert.equal(pieces.join(''), text)
      assert.equal(pieces.length, countTokens(text))
    }),
    { numRuns: 60 },
  )
  assert.equal(tokenTexts('\ud800\ufeffx').join(''), '\ud800\ufeffx')
})

test('no model counts more tokens than there are bytes', () => {
  assert.equal(scaled(10, 180, 100), 18)
  assert.equal(scaled(10, 150, 12), 12)
  assert.equal(scaled(1, 110, 100), 2)
})

test('made-up text has exactly the tokens asked for, and the same for the same seed', () => {
  for (const language of ['en', 'de'] as const) {
    for (const count of [0, 1, 2, 7, 100, 1_000]) {
      const pieces = prose(randomOf(count), count, language)
      assert.equal(pieces.length, count)
      assert.equal(encode(pieces.join('')).length, count)
      assert.deepEqual(pieces, prose(randomOf(count), count, language))
    }
  }
})

test('generated values are valid for their schemas', () => {
  const ajv = new Ajv({ strict: false, validateFormats: false })
  const schemas: readonly object[] = [
    {
      type: 'object',
      properties: { a: { type: 'string', minLength: 50 }, b: { type: 'integer', minimum: 3, maximum: 4 } },
      required: ['a', 'b'],
    },
    { type: 'array', items: { enum: ['x', 'y'] }, minItems: 3, maxItems: 5 },
    { type: 'object', properties: { id: { type: 'string', pattern: '^[A-Z]{2}-\\d{5}$' } }, required: ['id'] },
    { anyOf: [{ type: 'null' }, { type: 'number', multipleOf: 0.5, exclusiveMinimum: 2 }] },
    {
      $ref: '#/$defs/node',
      $defs: {
        node: { type: 'object', properties: { next: { anyOf: [{ $ref: '#/$defs/node' }, { type: 'null' }] } }, required: ['next'] },
      },
    },
    {
      allOf: [
        { type: 'object', properties: { a: { type: 'boolean' } }, required: ['a'] },
        { properties: { b: { const: 7 } }, required: ['b'] },
      ],
    },
    { type: ['string', 'null'], maxLength: 4 },
    { properties: { list: { type: 'array', items: { type: 'object', properties: { email: { type: 'string', format: 'email' } } } } } },
  ]
  for (const schema of schemas) {
    const isValid = ajv.compile(schema)
    for (let seed = 0; seed < 25; seed += 1) {
      const value = instanceOf({ ...schema }, randomOf(seed))
      assert.ok(isValid(value), `${JSON.stringify(value)} for ${JSON.stringify(schema)}`)
    }
  }
})

test('a schema that nothing fits is refused, not looped over', () => {
  const endless = { $ref: '#/$defs/a', $defs: { a: { type: 'object', properties: { a: { $ref: '#/$defs/a' } }, required: ['a'] } } }
  assert.throws(() => instanceOf(endless, randomOf(1)), /never ends/)
  assert.throws(() => instanceOf({ $ref: '#/$defs/none' }, randomOf(1)), /has no #\/\$defs\/none/)
})

test('image tokens are as the provider documents them', () => {
  const tiles = { kind: 'tiles', base: 85, tile: 170 } as const
  assert.equal(imageTokens(tiles, { width: 1_024, height: 1_024 }, 'high'), 765)
  assert.equal(imageTokens(tiles, { width: 2_048, height: 4_096 }, 'auto'), 1_105)
  assert.equal(imageTokens(tiles, { width: 4_096, height: 8_192 }, 'low'), 85)
  const patches = { kind: 'patches', percent: 100 } as const
  assert.equal(imageTokens(patches, { width: 1_024, height: 1_024 }, 'high'), 1_024)
  assert.equal(imageTokens(patches, { width: 1_800, height: 2_400 }, 'high'), 1_452)
})

test('sizes are read from PNG, JPEG, GIF and WebP', () => {
  const from = (hex: string): Buffer => Buffer.from(hex.replace(/\s/g, ''), 'hex')
  assert.deepEqual(imageSize(from('89504e470d0a1a0a 0000000d49484452 00000140 000000f0')), { width: 320, height: 240 })
  assert.deepEqual(imageSize(from('ffd8 ffe00004 0000 ffc0 0011 08 00f0 0140 03')), { width: 320, height: 240 })
  assert.deepEqual(imageSize(from('474946383961 4001 f000')), { width: 320, height: 240 })
  assert.deepEqual(imageSize(from('52494646 00000000 57454250 56503858 0a000000 00000000 3f0100 ef0000')), { width: 320, height: 240 })
  assert.equal(imageSize(Buffer.from('no image at all, but long enough to be one')), null)
})

test('a price is exact, and a call is rounded up once', () => {
  assert.equal(picoPerToken('0.0125'), 12_500n)
  assert.throws(() => picoPerToken('0.1234567'), /at most 6 digits/)
  assert.equal(usd(7_500_038n), '0.007500038')
  const [gpt4o] = DEFAULT_MODELS
  assert.ok(gpt4o)
  const model = { ...gpt4o, price: { input: '2.50', cachedInput: '0.0125', output: '10.00' } }
  const { bill, accept } = newBill(() => {})
  const call = {
    requestId: 'r',
    tag: null,
    model,
    serviceTier: 'default',
    stream: false,
    promptTokens: 1_003,
    cachedTokens: 3,
    startedAtMs: 0,
  } as const
  const entry = accept(call)
  entry.update({ outputTokens: 500, reasoningTokens: 0 })
  assert.equal(bill.totalNanoUsd(), 7_500_038n) // 0.0025 + 0.0000000375 + 0.005
  entry.close('complete')
  entry.update({ outputTokens: 900, reasoningTokens: 0 })
  assert.equal(bill.totalNanoUsd(), 7_500_038n)
})

test('models are added and changed by id, within bounds', () => {
  const table = modelTable([{ id: 'gpt-4o', tokenPercent: 150 }, { id: 'mine' }])
  assert.equal(table.get('gpt-4o-2024-08-06')?.tokenPercent, 150)
  const mine = table.get('mine')?.tokenPercent ?? 0
  assert.ok(mine >= 100 && mine <= 180)
  assert.throws(() => modelTable([{ id: 'mine', tokenPercent: 99 }]), /"mine".tokenPercent must be/)
})
