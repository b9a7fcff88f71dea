import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { readChat } from '../wire/bodies.testing.ts'
import type { ExactCount } from './conversation.ts'
import type { ModelRequest, JsonObject } from './request.ts'
import { assistant, chatRequest, conversations, system, user } from './requests.testing.ts'
import { assumedFactor } from './token-factor.ts'
import { inputBound } from './estimate.ts'
import type { InputQuery } from './estimate.ts'
import { messagesDigest } from './message-digests.ts'
import { heuristicTokens } from './text-tokens.ts'
import { takesLessThan } from './work.testing.ts'

/** What o200k counts, by an independent tokenizer (gpt-tokenizer 4.0.0). */
const COUNTED: readonly (readonly [name: string, tokens: number, text: string])[] = [
  [
    'English',
    26,
    'Your order left our warehouse this morning and should reach you by Thursday. If the parcel does not arrive, write to us again.',
  ],
  ['German', 17, 'Ihre Bestellung hat heute Morgen unser Lager verlassen und sollte bis Donnerstag bei Ihnen eintreffen.'],
  ['Norwegian', 18, 'Alle mennesker er født frie og med samme menneskeverd og menneskerettigheter.'],
  ['Polish', 38, 'Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Zażółć gęślą jaźń.'],
  ['Russian', 17, 'Все люди рождаются свободными и равными в своем достоинстве и правах.'],
  ['Greek', 31, 'Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.'],
  ['Arabic', 17, 'يولد جميع الناس أحرارا متساوين في الكرامة والحقوق.'],
  ['Hindi', 25, 'सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।'],
  ['Thai', 31, 'มนุษย์ทั้งปวงเกิดมามีอิสระและเสมอภาคกันในศักดิ์ศรีและสิทธิ'],
  ['Lao', 129, 'ມະນຸດທຸກຄົນເກີດມາມີກຽດສັກສີ, ສິດທິ, ເສລີພາບ ແລະ ຄວາມສະເໝີພາບເທົ່າທຽມກັນ.'],
  ['Amharic', 72, 'ሁሉም ሰው ሲወለድ ነጻና በክብርና በመብት እኩልነት ያለው ነው።'],
  ['Yoruba', 33, 'Gbogbo ènìyàn ni a bí ní òmìnira; iyì àti ẹ̀tọ́ kọ̀ọ̀kan sì dọ́gba.'],
  ['Chinese', 35, '人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。'],
  ['Japanese', 35, 'すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。'],
  ['Korean', 24, '모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.'],
  ['emoji', 23, '😀😃😄 great 👩‍🚀🇩🇪👍🏽 ❤️🔥✨🎉'],
  [
    'code',
    51,
    'export function costOf(usage: Usage, prices: Prices): NanoUsd {\n  let picoUsd = 0n\n  for (const kind of KINDS) picoUsd += BigInt(usage[kind]) * prices[kind]\n}\n',
  ],
  [
    'JSON',
    51,
    '{"order":{"id":"ord_8f2c91","items":[{"sku":"A-1042","quantity":2,"price":"19.90"},{"sku":"B-7","quantity":1,"price":"4.50"}]}}',
  ],
  ['UUIDs', 74, '3f2b8c1d-9a4e-4b7f-8c2d-1e5a6b9c0d3f\n7c1e9d2a-5b8f-4c3e-9a1d-2f6b8e4c7a5d\n'],
  ['flags', 48, '1,0,1,1,0,0,1,0\n0,1,0,0,1,1,0,1\n1,1,0,1,0,1,0,0\n'],
  ['decimals', 34, '0.4213, 0.0071, 0.9985, 0.1250, 0.3333, 0.7071'],
  ['dates', 47, '2026-11-24T08:30:00.000Z 2026-11-25T09:15:30.500Z 2026-12-01T23:59:59.999Z'],
  ['base64', 66, 'iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4//8/w38GIAXDIBKE0DHxgljNBAAO9TXL0Y4OHwAAAABJRU5ErkJggg=='],
]

function query(request: ModelRequest, more: Partial<InputQuery> = {}): InputQuery {
  const { messages, fixedBytes, fixedDigest, model } = request
  return { messages, fixedBytes, fixedDigest, model, exact: null, factor: 1, contextTokens: 128_000, ...more }
}

for (const [name, tokens, text] of COUNTED) {
  test(`${name}: the heuristic is close to what o200k counts, and not below`, () => {
    assert.ok(heuristicTokens(text) >= tokens * 0.95, `${heuristicTokens(text)} for ${tokens}`)
    assert.ok(heuristicTokens(text) <= tokens * 2.5, `${heuristicTokens(text)} for ${tokens}`)
  })

  test(`${name}: on a model never seen, what counts 1.8 times o200k is still below the bound`, () => {
    const bytes = Buffer.byteLength(text) // no byte-level tokenizer makes more tokens than bytes
    assert.ok(Math.min(bytes, heuristicTokens(text) * assumedFactor('never-seen')) >= Math.min(bytes, tokens * 1.8))
    assert.ok(inputBound(query(chatRequest([user(text)]))).bytes >= bytes)
  })
}

test('the heuristic is linear: hostile text takes no longer than prose', () => {
  const text = ['a', ' ', '\n', '😀', '\ud83d', '\udc00', 'é', '0', 'aB'].map((unit) => unit.repeat(300_000))
  takesLessThan(1_000, () => {
    for (const hostile of text) heuristicTokens(hostile)
  })
})

test('text that goes on never counts less, and halves of a pair count as three bytes each', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 40 }), fc.string({ unit: 'grapheme', maxLength: 10 }), (text, more) => {
      assert.ok(heuristicTokens(text + more) >= heuristicTokens(text))
    }),
  )
  assert.equal(heuristicTokens(''), 0)
  assert.equal(heuristicTokens('\udc00'.repeat(10)), 30)
})

test('the hard bound holds all bytes of the messages and of the rest of the body', () => {
  fc.assert(
    fc.property(conversations(), fc.nat(5_000), (messages, fixedBytes) => {
      const bound = inputBound(query(chatRequest(messages, { fixedBytes, model: 'plain' }), { factor: 100 }))
      const text = messages.map(({ content }) => (typeof content === 'string' ? content : '')).join('')
      assert.ok(bound.bytes >= Buffer.byteLength(text) + fixedBytes)
      assert.equal(bound.known, 0)
      assert.equal(bound.heuristic, bound.bytes, 'whatever the factor, no more than the hard bound')
    }),
    { numRuns: 50 },
  )
})

test('the factor multiplies what is not known, and below 1 counts as 1', () => {
  const request = chatRequest([user('word '.repeat(400))])
  const at = (factor: number): number => inputBound(query(request, { factor })).heuristic
  assert.equal(at(1.5), Math.ceil(inputBound(query(request)).freshHeuristic * 1.5))
  assert.equal(at(0.2), at(1))
})

test('embedded media count by their size, not by the bytes of their base64', async () => {
  const png = Buffer.alloc(30_000)
  png.writeUInt32BE(0x89504e47, 0)
  png.writeUInt32BE(0x0d0a1a0a, 4)
  png.write('IHDR', 12, 'latin1')
  png.writeUInt32BE(512, 16)
  png.writeUInt32BE(512, 20)
  const image = { type: 'image_url', image_url: { url: `data:image/png;base64,${png.toString('base64')}` } }
  const request = await readChat({
    model: 'gpt-4o',
    messages: [{ role: 'user', content: [{ type: 'text', text: 'What is this?' }, image] }],
  })
  const { bytes, heuristic } = inputBound(query(request))
  assert.ok(bytes >= 255 && bytes < 500, `${bytes}`) // 85 + 170 for one tile, and the text
  assert.ok(heuristic >= 255 && heuristic < 330, `${heuristic}`)
})

const HISTORY = [system('Be brief.'), user('How far is Bern?'), assistant('120 km.')]
const BEFORE = chatRequest(HISTORY.slice(0, 2))
function exactOf(more: Partial<ExactCount> = {}): ExactCount {
  const bound = inputBound(query(BEFORE))
  return { model: 'gpt-4o', ...bound.sent, inputTokens: 31, cachedTokens: 0, outputTokens: 5, atMs: 0, ...more }
}

test('thinking that is sent back counts by what it is encrypted in, however little of it is shown', () => {
  const said = { type: 'text', text: 'So.' }
  const heuristicOf = (...blocks: readonly JsonObject[]): number =>
    inputBound(query(chatRequest([{ role: 'assistant', content: [...blocks, said] }]))).heuristic
  const nothing = heuristicOf()
  const encrypted = 'x'.repeat(4_000)
  for (const thought of [
    { type: 'thinking', thinking: '', signature: encrypted },
    { type: 'thinking', thinking: 'Let me see.', signature: encrypted },
    { type: 'redacted_thinking', data: encrypted },
  ]) {
    const more = heuristicOf(thought) - nothing
    assert.ok(more >= 1_000 && more < 1_010, `${more}`)
  }
})

test('the next call starts from the exact count, and bounds only what is new', () => {
  const next = chatRequest([...HISTORY, user('And Basel?')])
  const bound = inputBound(query(next, { exact: exactOf() }))
  const fresh = next.messages.slice(2)
  assert.equal(bound.known, 31)
  assert.equal(bound.bytes, 31 + fresh.reduce((sum, { bytes }) => sum + bytes.length + 4, 0))
  assert.ok(bound.heuristic > 31 && bound.heuristic < bound.bytes)
  const same = inputBound(query(BEFORE, { exact: exactOf() }))
  assert.deepEqual([same.bytes, same.heuristic, same.freshHeuristic], [31, 31, 0])
})

test('an exact count serves no other model, no other tools, and no history that differs in a byte', () => {
  const next = chatRequest([...HISTORY, user('And Basel?')])
  const known = (request: ModelRequest, exact: ExactCount): number => inputBound(query(request, { exact })).known
  assert.equal(known(next, exactOf()), 31)
  assert.equal(known(next, exactOf({ model: 'gpt-4o-mini' })), 0)
  assert.equal(known({ ...next, fixedDigest: '1'.repeat(32) }, exactOf()), 0)
  assert.equal(known(next, exactOf({ messagesDigest: '1'.repeat(32) })), 0)
  assert.equal(known(chatRequest([system('Be brief!'), ...HISTORY.slice(1)]), exactOf()), 0)
  assert.equal(known(chatRequest(HISTORY.slice(0, 1)), exactOf()), 0, 'a history that became shorter')
  assert.equal(known(next, exactOf({ messages: 3 })), 0, 'a count of other messages under the same digest')
})

test('an exact count serves no call that says the same to what the provider keeps: the answer since is read as well', () => {
  const request = chatRequest([user('Go on.')])
  const exact = exactOf(inputBound(query(request)).sent)
  assert.equal(inputBound(query(request, { exact })).bytes, exact.inputTokens)
  const { bytes, known } = inputBound(query(request, { exact, earlierTokens: 500 }))
  assert.equal(known, 500)
  assert.ok(bytes > 500 + 'Go on.'.length, `${bytes}`)
})

test('without an exact count that fits, all is bounded as on a first call', () => {
  const next = chatRequest([...HISTORY, user('And Basel?')])
  const misfit = inputBound(query(next, { exact: exactOf({ model: 'other' }) }))
  const first = inputBound(query(next))
  assert.deepEqual([misfit.bytes, misfit.heuristic, misfit.freshHeuristic], [first.bytes, first.heuristic, first.freshHeuristic])
})

test('the digest of messages is that of their bytes, as far as they are counted', () => {
  const { messages } = chatRequest(HISTORY)
  assert.equal(messagesDigest(messages, 2), inputBound(query(BEFORE)).sent.messagesDigest)
  assert.notEqual(messagesDigest(messages, 2), messagesDigest(messages, 3))
  assert.match(messagesDigest(messages, 3), /^[0-9a-f]{32}$/)
})

test("the provider's own count bounds the input, with a margin; what it did not count comes on top", () => {
  const next = chatRequest([...HISTORY, user('And Basel?')])
  const { messages, model } = next
  const boundBy = (counted: InputQuery['counted'] & object, more: Partial<InputQuery> = {}): number =>
    inputBound(query(next, { counted, ...more })).bytes
  const uncounted = inputBound(query(next)).bytes
  const all = { model, messages, tokens: 41 }
  assert.equal(boundBy([all]), 44, '5 % more, rounded up')
  assert.equal(boundBy([{ ...all, messages: [...messages] }]), 44, 'the same messages in another list')
  assert.equal(boundBy([{ ...all, tokens: 60 }, all, { ...all, tokens: 50 }]), 44, 'of several the least')
  const last = messages.at(-1)?.bytes.length ?? 0
  assert.equal(boundBy([{ ...all, messages: messages.slice(0, -1) }]), 44 + last + 4)
  for (const unfit of [
    { ...all, model: 'other' },
    { ...all, tokens: null },
    { ...all, tokens: 100_000 },
  ]) {
    assert.equal(boundBy([unfit]), uncounted)
    assert.equal(boundBy([unfit, all]), 44)
  }
  assert.equal(boundBy([all], { withoutFiles: true }), uncounted, 'it may have counted files')
  const bound = inputBound(query(next, { counted: [{ ...all, tokens: 20 }], exact: exactOf() }))
  assert.deepEqual([bound.bytes, bound.known, bound.heuristic], [21, 21, 21], 'below what was known before')
})

test('a file may come to the whole context; it is estimated at a usual size, and held for at the most', async () => {
  const pdf = `data:application/pdf;base64,${Buffer.alloc(999).toString('base64')}`
  const content = [
    { type: 'text', text: 'Sum this up.' },
    { type: 'file', file: { filename: 'terms.pdf', file_data: pdf } },
  ]
  const request = await readChat({ model: 'gpt-4o', messages: [{ role: 'user', content }] })
  const contextTokens = 50_000
  const bound = inputBound(query(request, { contextTokens }))
  const without = inputBound(query(request, { contextTokens, withoutFiles: true }))
  assert.deepEqual([bound.hasFiles, bound.unbounded, without.hasFiles, without.unbounded], [true, contextTokens, false, 0])
  assert.equal(bound.bytes, without.bytes + contextTokens)
  const words = bound.freshHeuristic - 3_999 // a page, and its bytes
  assert.ok(words > 40 && words < without.bytes / 1.3, `${words} tokens beside the file`)
  assert.equal(bound.at(1.3), Math.ceil(words * 1.3) + contextTokens)
  assert.equal(without.at(1.3), Math.ceil(words * 1.3))
  assert.equal(bound.at(1_000), bound.bytes)
  const counted = inputBound(query(request, { contextTokens, counted: [{ model: 'gpt-4o', messages: request.messages, tokens: 2_000 }] }))
  assert.deepEqual([counted.bytes, counted.hasFiles, counted.unbounded], [2_100, true, 0])
})

test('what is fixed in a request counts by its length, unless the exact count has it', () => {
  const tokens = (fixedBytes: number, more: Partial<InputQuery> = {}): number =>
    inputBound(query(chatRequest([user('Hello')], { fixedBytes }), more)).freshHeuristic
  assert.equal(tokens(1_001) - tokens(0), 451) // 0.45 a byte, rounded up
  assert.equal(inputBound(query(chatRequest([user('Hello')]), { earlierTokens: 700 })).known, 700)
})
