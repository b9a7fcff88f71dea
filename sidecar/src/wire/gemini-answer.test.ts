import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as fc from 'fast-check'
import type { JsonObject } from '../core/request.ts'
import { contentText } from '../core/message.ts'
import { addGeminiNotice, readGeminiAnswer, syntheticGemini } from './gemini-answer.ts'
import { GeminiStream } from './gemini-stream.ts'
import { passedOn } from './bodies.testing.ts'

const NOTICE = '\n\n---\nLess from here on.'
const usageMetadata = { promptTokenCount: 10, candidatesTokenCount: 5, thoughtsTokenCount: 3, totalTokenCount: 18 }
const end = { usageMetadata, modelVersion: 'gemini-2.5-flash', responseId: 'r' }
const candidate = (parts: readonly object[], more: object = {}): object => ({ content: { parts, role: 'model' }, index: 0, ...more })
const plain = { candidates: [candidate([{ text: 'Hm', thought: true }, { text: 'All is well.' }], { finishReason: 'STOP' })], ...end }
const chunks: readonly object[] = [
  { candidates: [candidate([{ text: 'Hm', thought: true }])], ...end, usageMetadata: { promptTokenCount: 10, totalTokenCount: 10 } },
  {
    candidates: [candidate([{ text: 'All is' }])],
    ...end,
    usageMetadata: { promptTokenCount: 10, candidatesTokenCount: 2, thoughtsTokenCount: 3, totalTokenCount: 15 },
  },
  { candidates: [candidate([{ text: ' well.' }], { finishReason: 'STOP' })], ...end },
]
const calling = {
  candidates: [
    candidate([{ text: 'So:' }, { functionCall: { name: 'look', args: { a: 'b' } }, thoughtSignature: 's' }], { finishReason: 'STOP' }),
  ],
  ...end,
}

function events(list: readonly object[], line = '\r\n'): string {
  return list.map((chunk) => `data: ${JSON.stringify(chunk)}${line}${line}`).join('')
}
const whole = (list: object): ReturnType<typeof readGeminiAnswer> => readGeminiAnswer(Buffer.from(JSON.stringify(list)))

test('a whole answer, its stream, and the stream as a list say the same', () => {
  const one = whole(plain)
  assert.deepEqual(
    [one.facts.usage?.uncachedInput, one.facts.usage?.output, one.facts.finishReason, one.facts.model],
    [10, 8, 'STOP', 'gemini-2.5-flash'],
  )
  assert.equal(one.message === null ? null : contentText(one.message), 'All is well.')
  const list = whole(chunks)
  assert.deepEqual({ ...list.facts }, { ...one.facts })
  const stream = new GeminiStream({ notice: null, collect: true })
  assert.equal(passedOn(stream, events(chunks)), events(chunks))
  assert.deepEqual({ ...stream.facts }, { ...one.facts })
  assert.equal(stream.message?.texts.map((part) => part.text).join(''), 'All is well.')
  assert.equal(stream.observedOutputTokens(), 8)
})

test('each of several candidates is kept, whole or streamed', () => {
  const said = (text: string, index: number): object => ({ ...candidate([{ text }], { finishReason: 'STOP' }), index })
  const all = Array.from({ length: 10 }, (_, index) => said(`${index}`, index))
  const texts = ['1', '2', '3', '4', '5', '6', '7']
  assert.deepEqual(whole({ candidates: all, ...end }).alternatives?.map(contentText), texts)
  const stream = new GeminiStream({ notice: null, collect: true })
  passedOn(
    stream,
    events([
      { candidates: all, ...end },
      { candidates: [said('!', 3), said('!', 0)], ...end },
    ]),
  )
  assert.deepEqual(
    stream.alternatives.map(contentText).map((text) => text.replaceAll('\n', '')),
    texts.map((text) => (text === '3' ? '3!' : text)),
  )
  const uncollected = new GeminiStream({ notice: null, collect: false })
  passedOn(uncollected, events([{ candidates: all, ...end }]))
  assert.deepEqual([uncollected.message, uncollected.alternatives], [null, []])
  const long = new GeminiStream({ notice: null, collect: true })
  passedOn(long, events([{ candidates: [said('a'.repeat(1 << 20), 0), said('a'.repeat(1 << 20), 1), said('b', 2)], ...end }]))
  assert.deepEqual([long.message?.texts.length, ...long.alternatives.map(contentText)], [1, 'b'])
})

test('what tools found that Google ran makes the input a sum', () => {
  for (const [found, isSum] of [
    [undefined, false],
    [0, false],
    [7, true],
  ] as const) {
    const list = chunks.map((chunk) => ({ ...chunk, usageMetadata: { ...usageMetadata, toolUsePromptTokenCount: found } }))
    const stream = new GeminiStream({ notice: null, collect: true })
    passedOn(stream, events(list))
    assert.deepEqual([whole(list).facts.isSum, stream.facts.isSum], [isSum, isSum])
  }
})

test('usage is final with the end of every candidate, not before', () => {
  const stream = new GeminiStream({ notice: null, collect: false })
  passedOn(stream, events(chunks.slice(0, 2)))
  assert.equal(stream.facts.usage, null)
  assert.equal(stream.usageSoFar?.output, 5)
  assert.equal(stream.message, null)
  const two = new GeminiStream({ notice: null, collect: false })
  passedOn(
    two,
    Buffer.from(
      events([{ candidates: [candidate([{ text: 'a' }], { finishReason: 'STOP' }), { ...candidate([{ text: 'b' }]), index: 1 }], ...end }]),
    ),
  )
  assert.equal(two.facts.usage, null)
  const blocked = new GeminiStream({ notice: null, collect: false })
  passedOn(
    blocked,
    Buffer.from(events([{ promptFeedback: { blockReason: 'SAFETY' }, usageMetadata: { promptTokenCount: 4, totalTokenCount: 4 } }])),
  )
  assert.equal(blocked.facts.usage?.uncachedInput, 4)
})

test('a notice stands at the end of the words, wherever the stream is cut, and no other byte changes', () =>
  fc.assert(
    fc.property(fc.array(fc.nat()), fc.constantFrom('\r\n', '\n'), fc.constantFrom('with text', 'empty', 'none'), (cuts, line, last) => {
      const parts = last === 'with text' ? [{ text: ' well.' }] : last === 'empty' ? [{ text: '', thoughtSignature: 's' }] : []
      const list = [...chunks.slice(0, 2), { candidates: [candidate(parts, { finishReason: 'STOP' })], ...end }]
      const text = events(list, line)
      const stream = new GeminiStream({ notice: NOTICE, collect: true })
      const output = passedOn(stream, text, cuts)
      assert.ok(stream.noticeAdded)
      const said = JSON.stringify(NOTICE).slice(1, -1)
      if (last === 'none') assert.equal(output.replace(/data: (?=[^\n]*Less from)[^\n]*\r\n\r\n/, ''), text)
      else assert.equal(output.replace(said, ''), text)
      const words = output
        .split(/\r?\n\r?\n/)
        .filter((block) => block !== '')
        .flatMap((block) => readGeminiAnswer(Buffer.from(block.slice(6))).message?.texts ?? [])
      assert.equal(words.map((part) => part.text).join(''), `All is${last === 'with text' ? ' well.' : ''}${NOTICE}`)
      assert.ok(!(stream.message?.texts ?? []).some((part) => part.text.includes('Less')), 'what the app sends back is found without it')
    }),
  ))

test('a whole answer takes the notice into its last text, a list of answers into that of the last one', () => {
  for (const body of [JSON.stringify(plain, null, 2), JSON.stringify(chunks), ` ${JSON.stringify(chunks, null, 1)}\n`]) {
    const { body: spoken, added } = addGeminiNotice(Buffer.from(body), NOTICE)
    assert.ok(added)
    assert.equal(spoken.toString().replace(JSON.stringify(NOTICE).slice(1, -1), ''), body)
    assert.equal(
      readGeminiAnswer(spoken)
        .message?.texts.map((part) => part.text)
        .join(''),
      `All is well.${NOTICE}`,
    )
  }
})

test('nothing is added to calls, images, cut or blocked answers', () => {
  const image = {
    candidates: [candidate([{ text: 'See:' }, { inlineData: { mimeType: 'image/png', data: 'AAAA' } }], { finishReason: 'STOP' })],
    ...end,
  }
  const safety = { candidates: [candidate([{ text: 'No' }], { finishReason: 'SAFETY' })], ...end }
  const thoughts = { candidates: [candidate([{ text: 'Hm', thought: true }], { finishReason: 'MAX_TOKENS' })], ...end }
  for (const answer of [calling, image, safety, thoughts, { error: { code: 500 } }, { candidates: [] }]) {
    assert.equal(addGeminiNotice(Buffer.from(JSON.stringify(answer)), NOTICE).added, false)
    const stream = new GeminiStream({ notice: NOTICE, collect: false })
    assert.equal(passedOn(stream, events([answer])), events([answer]))
    assert.equal(stream.noticeAdded, false)
  }
  assert.equal(addGeminiNotice(Buffer.from('no JSON'), NOTICE).added, false)
})

test('calls are named, and their arguments counted', () => {
  const { facts, message } = whole(calling)
  assert.deepEqual([facts.toolNames, message?.toolCalls], [['look'], [{ id: 'look#0', name: 'look', input: '{"a":"b"}', place: 'look#0' }]])
  assert.ok(facts.outputBytes >= 'So:lookab'.length)
  const stream = new GeminiStream({ notice: null, collect: true })
  passedOn(stream, events([calling]))
  assert.deepEqual(stream.facts.toolNames, ['look'])
  assert.deepEqual(stream.message?.toolCalls, message?.toolCalls)
})

test('an error is told by Google’s name for it; what is no answer is not readable', () => {
  assert.deepEqual(
    [whole({ error: { code: 503, status: 'UNAVAILABLE', message: 'quotes the prompt' } }).facts.error, whole([]).readable],
    ['UNAVAILABLE', false],
  )
  assert.deepEqual(
    [readGeminiAnswer(Buffer.from('{')).readable, readGeminiAnswer(Buffer.from('{}')).readable, whole(plain).readable],
    [false, false, true],
  )
  const stream = new GeminiStream({ notice: null, collect: true })
  passedOn(stream, `data: {broken\n\n: comment\n\n${events([{ error: { status: 'INTERNAL' } }])}`)
  assert.equal(stream.facts.error, 'INTERNAL')
  assert.ok(stream.observedOutputTokens() > 0, 'what cannot be read is output')
})

test('an event that is too long is passed on unread', () => {
  const long = `data: {"candidates":[{"content":{"parts":[{"text":"${'x'.repeat(9 * 1024 * 1024)}"}]}}]}\r\n\r\n`
  const text = long + events(chunks)
  for (const notice of [null, NOTICE]) {
    const stream = new GeminiStream({ notice, collect: true })
    const output = passedOn(stream, text, [1_000, 5_000_000, 9_000_000])
    assert.equal(output.replace(JSON.stringify(NOTICE).slice(1, -1), '').length, text.length)
    assert.equal(stream.facts.finishReason, 'STOP')
  }
})

describe('pictures', () => {
  const drawn = (bytes: number, more: object = {}): object => ({
    candidates: [candidate([{ inlineData: { mimeType: 'image/png', data: 'A'.repeat(bytes) } }], { finishReason: 'STOP' })],
    ...more,
  })
  const counts = {
    usageMetadata: {
      promptTokenCount: 10,
      candidatesTokenCount: 2_003,
      totalTokenCount: 2_013,
      candidatesTokensDetails: [{ modality: 'IMAGE', tokenCount: 2_000 }],
    },
    modelVersion: 'gemini-3-pro-image-preview',
  }
  const words = { candidates: [candidate([{ text: 'Here it is' }])], usageMetadata: { promptTokenCount: 10, candidatesTokenCount: 3 } }
  const LARGE = 9 * 1024 * 1024
  const streamed = (text: string, cuts: readonly number[] = [], isWhole = true): GeminiStream => {
    const stream = new GeminiStream({ notice: null, collect: true })
    let from = 0
    for (const cut of [...cuts, text.length]) {
      stream.push(Buffer.from(text.slice(from, cut)))
      from = cut
    }
    if (isWhole) stream.end()
    return stream
  }

  test('too large to be kept are counted by what comes with them', () => {
    for (const cuts of [[], [3_000, 5_000_000, LARGE], [LARGE + 100, LARGE + 300]]) {
      const { facts, isUnread, message } = streamed(events([words, drawn(LARGE, counts)]), cuts)
      assert.deepEqual([facts.usage?.output, facts.usage?.imageOutput, facts.finishReason, isUnread], [3, 2_000, 'STOP', false])
      assert.equal(message, null, 'what was not kept is no message')
    }
  })

  test('that nobody counted, or that break off, cannot be measured', () => {
    const text = events([words, drawn(LARGE, counts)])
    assert.equal(streamed(text, [], false).isUnread, false)
    assert.equal(streamed(text.slice(0, 400), [], false).isUnread, false, 'some bytes may be words')
    for (const bytes of [100_000, LARGE - 1_000, LARGE]) {
      const { facts, isUnread } = streamed(text.slice(0, bytes), [], false)
      assert.deepEqual([facts.usage, isUnread], [null, true], `${bytes}`)
    }
    for (const size of [100, LARGE]) assert.equal(streamed(events([words, drawn(size)])).isUnread, true, `${size}`)
    const counted = streamed(events([words, drawn(100), { ...end, ...counts }]))
    assert.deepEqual([counted.isUnread, counted.observedOutputTokens()], [false, 2_003])
  })

  test('are no text', () => {
    const stream = streamed(events([words, drawn(100, counts)]))
    assert.ok(stream.observedTextTokens() <= 4)
    assert.equal(stream.observedOutputTokens(), 2_003)
  })
})

test('searches are counted once, however many chunks tell of them', () => {
  for (const [groundingMetadata, count] of [
    [{ webSearchQueries: ['a', 'b'] }, 2],
    [{ groundingChunks: [{ maps: { uri: 'u', placeId: 'p' } }] }, 1],
  ] as const) {
    const list = [
      { candidates: [candidate([{ text: 'x' }], { groundingMetadata })], ...end, modelVersion: 'gemini-3-pro' },
      { candidates: [candidate([{ text: 'y' }], { groundingMetadata, finishReason: 'STOP' })], ...end, modelVersion: 'gemini-3-pro' },
    ]
    const stream = new GeminiStream({ notice: null, collect: false })
    passedOn(stream, events(list))
    assert.deepEqual([stream.facts.usage?.webSearchCalls, whole(list).facts.usage?.webSearchCalls], [count, count])
  }
})

test('an answer of ours is one that the client reads: events, a list, or whole', () => {
  const of = (stream: boolean, asEvents: boolean): { contentType: string; body: string } => {
    const { contentType, body } = syntheticGemini({ request: { stream, model: 'm' }, asEvents, text: 'Bye.', id: '1', createdS: 0 })
    return { contentType, body: body.toString() }
  }
  assert.match(of(true, true).body, /^data: \{.*\}\r\n\r\n$/)
  assert.ok(Array.isArray(JSON.parse(of(true, false).body)))
  const answer = JSON.parse(of(false, true).body) as JsonObject
  assert.deepEqual(answer['usageMetadata'], { promptTokenCount: 0, candidatesTokenCount: 0, totalTokenCount: 0 })
  assert.equal(readGeminiAnswer(Buffer.from(JSON.stringify(answer))).message?.texts[0]?.text, 'Bye.')
})
