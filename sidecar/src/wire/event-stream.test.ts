import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { usageOf } from '@farebox/crds/usage.ts'
import * as fc from 'fast-check'
import { isList, isObject } from '../core/message.ts'
import type { Json, JsonObject } from '../core/request.ts'
import { EVENT_BYTES_MAX } from './event-frames.ts'
import { ChatStream } from './event-stream.ts'
import { choice, chunk, dataIn, DONE, event, feed, STREAM_OPTIONS } from './bodies.testing.ts'

const NOTICE = '\n\n---\n"Note": a smaller model answers \\ from here. é'
const USAGE = { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15, prompt_tokens_details: { cached_tokens: 4 } }
const READ_USAGE = usageOf({ uncachedInput: 6, cacheReadInput: 4, output: 5 })

const text = fc.string({ unit: 'grapheme', maxLength: 5 })
const deltas: fc.Arbitrary<JsonObject> = fc.oneof(
  text.map((content) => ({ content })),
  fc.constant({ role: 'assistant', content: '', refusal: null }),
  text.map((reasoning) => ({ reasoning_content: reasoning })),
  text.map((written) => ({ tool_calls: [{ index: 0, id: 'call_1', type: 'function', function: { name: 'f', arguments: written } }] })),
  text.map((refusal) => ({ refusal })),
  fc.constant({}),
)
const choices = fc.record({
  index: fc.constantFrom(0, 0, 0, 1, 2),
  delta: deltas,
  finish_reason: fc.constantFrom(null, null, null, 'stop', 'length', 'tool_calls'),
})
/** Fields of a chunk beside those that all have, in any order. */
const chunks: fc.Arbitrary<JsonObject> = fc
  .tuple(
    fc.array(choices, { maxLength: 2 }),
    fc.constantFrom({}, {}, { usage: null }, { usage: USAGE }),
    fc.constantFrom(
      {},
      {},
      { system_fingerprint: 'fp', service_tier: 'default' },
      { prompt_filter_results: [{ prompt_index: 0, content_filter_results: {} }] },
      { prompt_filter_results: [] },
      { moderation: { flagged: false } },
      { error: { code: 'overloaded', message: 'busy' } },
      { x_groq: { usage: USAGE } },
    ),
  )
  .map(([list, usage, more]) => ({ ...chunk(list), ...usage, ...more }))
  .chain((json) =>
    fc
      .shuffledSubarray(Object.entries(json), { minLength: Object.keys(json).length })
      .map((entries): JsonObject => Object.fromEntries(entries)),
  )

/** Events in all the forms that the specification allows, and some that say nothing or cannot be read. */
const eventTexts = fc.oneof(
  { weight: 6, arbitrary: chunks.map((json) => event(json)) },
  chunks.map((json) => event(json, '\r\n')),
  chunks.map((json) => `data:${JSON.stringify(json, null, 1).replaceAll('\n', '\ndata: ')}\n\n`),
  chunks.map((json) => `: comment\nid: 5\ndata: ${JSON.stringify(json)}\nevent: message\n\n`),
  fc.constantFrom(': keepalive\n\n', '\n', 'data: not json\n\n', 'data: {"id":\n\n', 'data:\n\n', 'event: ping\r\n\r\n', DONE),
)
const streams = fc
  .tuple(
    fc.array(eventTexts, { maxLength: 8 }),
    fc.constantFrom('', DONE, 'data: {"usage":{"prompt_tok', `data: ${JSON.stringify(chunk([], { usage: USAGE }))}`),
  )
  .map(([events, last]) => events.join('') + last)
const options = fc.record({ stripUsage: fc.boolean(), notice: fc.constantFrom(null, NOTICE), collect: fc.boolean() })

describe('a stream cut anywhere', () => {
  test('gives the same bytes and the same facts as whole', () => {
    fc.assert(
      fc.property(streams, options, fc.array(fc.nat(), { maxLength: 12 }), (stream, wanted, cuts) => {
        assert.deepEqual(feed(stream, wanted, cuts), feed(stream, wanted))
      }),
      { numRuns: 1_000 },
    )
  })

  test('also when every byte comes by itself', () => {
    fc.assert(
      fc.property(streams, options, (stream, wanted) => {
        const bytes = Array.from({ length: Buffer.byteLength(stream) }, (_, index) => index)
        assert.deepEqual(feed(stream, wanted, bytes), feed(stream, wanted))
      }),
      { numRuns: 100 },
    )
  })

  test('passes as it is, in the same buffers, when nothing is to be changed', () => {
    fc.assert(
      fc.property(streams, fc.array(fc.nat()), (stream, cuts) => {
        assert.equal(feed(stream, { stripUsage: false, notice: null }, cuts).output, stream)
      }),
    )
    const passing = new ChatStream(STREAM_OPTIONS)
    for (const piece of ['data: {"id', '":"x"}\n\n', DONE]) {
      const bytes = Buffer.from(piece)
      assert.equal(passing.push(bytes)[0], bytes)
    }
    assert.deepEqual(passing.end(), [])
  })

  test('holds back no more than one unfinished event', () => {
    const stream = new ChatStream({ ...STREAM_OPTIONS, stripUsage: true })
    const whole = Buffer.from(event(chunk([choice({ content: 'a' })])))
    const begun = Buffer.from('data: {"id":"chatcmpl-1"')
    assert.equal(stream.push(whole)[0], whole)
    assert.deepEqual(Buffer.concat(stream.push(Buffer.concat([whole, begun]))), whole)
    assert.deepEqual(stream.push(Buffer.from(',"choices":[]')), [])
    assert.equal(Buffer.concat(stream.push(Buffer.from('}\n\n'))).toString('utf8'), `${begun.toString('utf8')},"choices":[]}\n\n`)
  })
})

/** The rule of facts/providers.md, on parsed chunks: null for one that goes. */
function stripped(json: JsonObject): JsonObject | null {
  if (!('usage' in json)) return json
  const { usage, ...rest } = json
  const isOfNone = isList(rest['choices']) && rest['choices'].length === 0
  if (isObject(usage) && !isOfNone) return json
  const saysMore = ['moderation', 'prompt_filter_results'].some((name) => {
    const value = rest[name]
    return isList(value) ? value.length > 0 : isObject(value)
  })
  const isUsageAlone = isOfNone && isObject(usage) && !saysMore && !('error' in rest)
  return isUsageAlone ? null : rest
}

describe('usage that only we asked for', () => {
  test('is a chunk of its own, which goes, and null in all others; all else stays byte for byte', () => {
    fc.assert(
      fc.property(fc.array(chunks), fc.array(fc.nat()), (list, cuts) => {
        const kept = list.map(stripped).filter((json) => json !== null)
        const { output } = feed(list.map((json) => event(json)).join('') + DONE, { stripUsage: true }, cuts)
        assert.equal(output, kept.map((json) => event(json)).join('') + DONE)
      }),
      { numRuns: 500 },
    )
  })

  test('is taken out in whatever form events are written', () => {
    fc.assert(
      fc.property(fc.array(eventTexts), (events) => {
        const chunksIn = (stream: string): Json[] => dataIn(stream).map((data) => jsonOr(data))
        const { output } = feed(events.join(''), { stripUsage: true })
        const expected = chunksIn(events.join('')).flatMap((json) => (isObject(json) ? (stripped(json) ?? []) : [json]))
        assert.deepEqual(chunksIn(output), expected)
      }),
      { numRuns: 300 },
    )
  })

  test('leaves the facts as they are', () => {
    fc.assert(fc.property(streams, (stream) => assert.deepEqual(feed(stream, { stripUsage: true }).facts, feed(stream).facts)))
  })

  test('of Azure, its opening chunk stays', () => {
    const opening = event(chunk([], { prompt_filter_results: [{ prompt_index: 0 }] }))
    const said = event(chunk([choice({ content: 'a' })]))
    const { output } = feed(opening + said + event(chunk([], { usage: USAGE })) + DONE, { stripUsage: true })
    assert.equal(output, opening + said + DONE)
  })

  test('of a provider that tells it unasked, in the chunk that ends the answer, stays', () => {
    const answer = event(chunk([choice({ content: 'a' })])) + event(chunk([choice({}, 'stop')], { usage: USAGE })) + DONE
    const { output, facts } = feed(answer, { stripUsage: true })
    assert.deepEqual([output, facts.usage], [answer, READ_USAGE])
  })

  test('comments in front of the usage chunk go with it, and those in front of another chunk stay', () => {
    const { output } = feed(`: a\n${event(chunk([], { usage: USAGE }))}: b\n${event(chunk([choice({})], { usage: null }))}`, {
      stripUsage: true,
    })
    assert.equal(output, `: b\n${event(chunk([choice({})]))}`)
  })
})

/** The text of one answer of a stream. */
function contentOf(stream: string, index = 0): string {
  let content = ''
  for (const data of dataIn(stream)) {
    const json = jsonOr(data)
    const list = isObject(json) && isList(json['choices']) ? json['choices'] : []
    for (const one of list) {
      if (!isObject(one) || one['index'] !== index || !isObject(one['delta'])) continue
      if (typeof one['delta']['content'] === 'string') content += one['delta']['content']
    }
  }
  return content
}

/** Of a text without its space: what may become JSON is no prose. */
const JSON_BEGINNING = /^`*(json|[{[])/i

describe('a notice', () => {
  const prose = fc.record({
    pieces: fc
      .array(fc.string({ unit: 'grapheme', maxLength: 6 }), { minLength: 1, maxLength: 5 })
      .filter((pieces) => pieces.join('') !== '' && !JSON_BEGINNING.test(pieces.join('').replaceAll(/\s/g, ''))),
    last: fc.constantFrom({}, { content: '' }, { content: 'end."' }, { content: null }),
    reason: fc.constantFrom('stop', 'length'),
    usage: fc.constantFrom({}, { usage: null }, { usage: USAGE }),
    stripUsage: fc.boolean(),
  })

  test('stands at the end of the text, in front of the end of the answer, and nothing else changes', () => {
    fc.assert(
      fc.property(prose, fc.array(fc.nat()), ({ pieces, last, reason, usage, stripUsage }, cuts) => {
        const list = [...pieces.map((content) => choice({ content })), choice(last, reason)].map((one) => chunk([one], usage))
        const stream = list.map((json) => event(json)).join('') + event(chunk([], { usage: USAGE })) + DONE
        const plain = feed(stream, { stripUsage })
        const noticed = feed(stream, { stripUsage, notice: NOTICE }, cuts)
        assert.equal(noticed.noticeAdded, true)
        assert.equal(contentOf(noticed.output), contentOf(plain.output) + NOTICE)
        assert.deepEqual(
          [noticed.facts, noticed.message?.json, noticed.observedTokens],
          [plain.facts, plain.message?.json, plain.observedTokens],
        )
        const before = dataIn(plain.output)
        const after = dataIn(noticed.output)
        if (typeof last.content === 'string' && last.content !== '') {
          assert.equal(noticed.output.replace(JSON.stringify(NOTICE).slice(1, -1), ''), plain.output)
        } else {
          const [own] = after.splice(pieces.length, 1)
          assert.deepEqual(after, before)
          const expected = { ...chunk([choice({ content: NOTICE })]), ...('usage' in usage && !stripUsage ? { usage: null } : {}) }
          assert.deepEqual(JSON.parse(own ?? ''), expected)
        }
      }),
      { numRuns: 300 },
    )
  })

  const said = chunk([choice({ content: 'Let me see.' })])
  const without: Record<string, readonly JsonObject[]> = {
    'calls tools': [
      said,
      chunk([choice({ tool_calls: [{ index: 0, id: 'c', function: { name: 'f', arguments: '' } }] })]),
      chunk([choice({}, 'tool_calls')]),
    ],
    'calls tools, and says that it just ended': [said, chunk([choice({ tool_calls: [{ index: 0 }] }, 'stop')])],
    'calls an old function': [said, chunk([choice({ function_call: { name: 'f' } })]), chunk([choice({}, 'stop')])],
    'is refused': [said, chunk([choice({ refusal: 'I cannot.' })]), chunk([choice({}, 'stop')])],
    'is spoken': [said, chunk([choice({ audio: { data: 'AAAA' } })]), chunk([choice({}, 'stop')])],
    'is filtered': [said, chunk([choice({}, 'content_filter')])],
    'says nothing': [chunk([choice({ content: '' })]), chunk([choice({}, 'stop')])],
    'only reasons': [chunk([choice({ reasoning_content: 'Hm.' })]), chunk([choice({}, 'length')])],
    'breaks off': [said],
    'breaks off with an error': [said, { error: { code: 'overloaded' } }],
    'is not the first': [chunk([choice({ content: 'a' }, 'stop', 1)])],
  }
  for (const [name, list] of Object.entries(without)) {
    test(`is not added to an answer that ${name}`, () => {
      const stream = list.map((json) => event(json)).join('') + DONE
      const { output, noticeAdded } = feed(stream, { notice: NOTICE })
      assert.deepEqual([output, noticeAdded], [stream, false])
    })
  }

  test('is not added inside a block of code that was cut off, however its text is escaped, in parts of a list or in the last chunk', () => {
    const code = 'So:\n```js\nlet a'
    const length = chunk([choice({}, 'length')])
    const escaped = event(chunk([choice({ content: code })]))
      .replaceAll('`', '\\u0060')
      .replaceAll('\\n', '\\u000a')
    const fence = event(chunk([choice({ content: '```json' })])).replaceAll('`', '\\u0060')
    const inParts = code.split(/(?<=`)/).map((text) => event(chunk([choice({ content: [{ type: 'text', text }] })])))
    for (const stream of [
      escaped + event(length) + DONE,
      fence + event(chunk([choice({}, 'stop')])) + DONE,
      inParts.join('') + event(length) + DONE,
      event(chunk([choice({ content: code }, 'length')])) + DONE,
    ]) {
      const { output, noticeAdded } = feed(stream, { notice: NOTICE })
      assert.deepEqual([output, noticeAdded], [stream, false])
    }
    const closing = event(chunk([choice({ content: '\n```' }, 'length')]))
    assert.ok(feed(escaped + closing + DONE, { notice: NOTICE }).noticeAdded, 'closed by the last chunk')
  })

  test('of several answers is added to the first, once, also when both end in one chunk', () => {
    const begun = event(chunk([choice({ content: 'one' }), choice({ content: 'two' }, null, 1)]))
    const ends = event(chunk([choice({}, 'stop', 1), choice({}, 'stop', 0)]))
    const { output } = feed(begun + ends + event(chunk([choice({}, 'stop')])) + DONE, { notice: NOTICE })
    assert.deepEqual([contentOf(output), contentOf(output, 1)], [`one${NOTICE}`, 'two'])
    assert.equal(output.split('smaller model').length, 2)
  })

  test('stands behind the last part of content that is a list', () => {
    const begun = event(chunk([choice({ content: [{ type: 'thinking', thinking: [{ type: 'text', text: 'Hm' }] }] })]))
    const last = { type: 'text', text: 'Four.' }
    const { output, noticeAdded } = feed(begun + event(chunk([choice({ content: [last] }, 'stop')])) + DONE, { notice: NOTICE })
    assert.equal(noticeAdded, true)
    assert.equal(output, begun + event(chunk([choice({ content: [last, { type: 'text', text: NOTICE }] }, 'stop')])) + DONE)
    const apart = feed(begun + event(chunk([choice({ content: [last] })])) + event(chunk([choice({ content: '' }, 'stop')])), {
      notice: NOTICE,
    })
    assert.equal(dataIn(apart.output).length, 4)
    assert.equal(
      contentOf(
        dataIn(apart.output)
          .slice(2)
          .map((data) => `data: ${data}\n\n`)
          .join(''),
      ),
      NOTICE,
    )
  })

  test('waits for the end of the first answer, whichever ends before it', () => {
    const parts = [choice({ content: 'one' }), choice({ content: 'two' }, 'stop', 1), choice({ content: ' more' }), choice({}, 'stop')]
    const { output } = feed(parts.map((one) => event(chunk([one]))).join('') + DONE, { notice: NOTICE })
    assert.deepEqual([contentOf(output), contentOf(output, 1)], [`one more${NOTICE}`, 'two'])
  })

  test('is added in front of an end that no empty line ends', () => {
    const begun = event(chunk([choice({ content: 'one' })]))
    const { output } = feed(`${begun}data: ${JSON.stringify(chunk([choice({}, 'stop')]))}`, { notice: NOTICE })
    assert.equal(contentOf(output), `one${NOTICE}`)
  })

  test('is added to an event of several lines', () => {
    const begun = event(chunk([choice({ content: 'one' })]))
    const last = JSON.stringify(chunk([choice({ content: ' two' }, 'stop')]), null, 1).replaceAll('\n', '\r\ndata: ')
    const { output } = feed(`${begun}id: 7\r\ndata: ${last}\r\n\r\n${DONE}`, { notice: NOTICE })
    assert.equal(contentOf(output), `one two${NOTICE}`)
    assert.match(output, /^id: 7\r$/m)
  })
})

describe('streams that end in their own way', () => {
  const said = event(chunk([choice({ content: 'one' })])) + event(chunk([choice({}, 'stop')]))

  test('without the sentinel the usage counts all the same', () => {
    assert.deepEqual(feed(said + event(chunk([], { usage: USAGE }))).facts.usage, READ_USAGE)
    assert.deepEqual(feed(`${said}data: ${JSON.stringify(chunk([], { usage: USAGE }))}`).facts.usage, READ_USAGE)
  })

  test('usage on every chunk: the last counts, and only when the answer has ended', () => {
    const counted = (count: number, one: JsonObject): string =>
      event(chunk([one], { usage: { prompt_tokens: 10, completion_tokens: count, total_tokens: 10 + count } }))
    const running = counted(1, choice({ content: 'one' })) + counted(2, choice({ content: ' two' }))
    assert.equal(feed(running).facts.usage, null)
    assert.equal(feed(running).observedTokens, 2)
    assert.deepEqual(feed(running + counted(3, choice({}, 'stop'))).facts.usage, usageOf({ uncachedInput: 10, output: 3 }))
    assert.deepEqual(feed(running + DONE).facts.usage, usageOf({ uncachedInput: 10, output: 2 }))
    const whole = running + counted(3, choice({}, 'stop')) + DONE
    const { output, facts } = feed(whole, { stripUsage: true })
    assert.deepEqual([output, facts.usage?.output], [whole, 3], 'nobody asked for it')
  })

  test('an error in the stream passes, and is known by its code', () => {
    const stream = said + event({ error: { message: 'secret', type: 'server_error', code: 'overloaded' } })
    const { output, facts } = feed(stream, { stripUsage: true, notice: null })
    assert.deepEqual([output, facts.error, facts.usage], [stream, 'overloaded', null])
  })

  test('an event beyond the greatest size passes unread, and what follows is read', () => {
    const frame = Buffer.byteLength(event(chunk([choice({ content: '' })])))
    const long = (bytes: number): string => event(chunk([choice({ content: 'x'.repeat(bytes - frame) })]))
    const rest = event(chunk([choice({}, 'stop')])) + event(chunk([], { usage: USAGE })) + DONE
    const atBound = feed(long(EVENT_BYTES_MAX) + rest, { stripUsage: true, collect: false })
    assert.equal(atBound.facts.outputBytes, EVENT_BYTES_MAX - frame)
    for (const [bytes, ...cuts] of [
      [EVENT_BYTES_MAX + 1],
      [EVENT_BYTES_MAX + 1, 5],
      [EVENT_BYTES_MAX + 1, 1 << 20, 2 << 20, EVENT_BYTES_MAX],
      [EVENT_BYTES_MAX + 1, EVENT_BYTES_MAX + 1],
      [EVENT_BYTES_MAX + 999, EVENT_BYTES_MAX + 1],
      [EVENT_BYTES_MAX + 999, EVENT_BYTES_MAX + 1, EVENT_BYTES_MAX + 500, EVENT_BYTES_MAX + 998, EVENT_BYTES_MAX + 1_040],
    ] as const) {
      const stream = long(bytes) + rest
      const { output, facts, observedTokens } = feed(stream, { stripUsage: true }, cuts)
      assert.equal(output, stream.replace(event(chunk([], { usage: USAGE })), ''))
      assert.deepEqual([facts.outputBytes, facts.usage, facts.finishReason], [bytes, READ_USAGE, 'stop'])
      assert.equal(observedTokens, 5)
    }
  })

  test('nothing passes after the end', () => {
    const stream = new ChatStream(STREAM_OPTIONS)
    stream.push(Buffer.from(said))
    assert.deepEqual(stream.end(), [])
    assert.deepEqual(stream.push(Buffer.from(said)), [])
    assert.deepEqual(stream.end(), [])
  })
})

function jsonOr(data: string): Json {
  try {
    return JSON.parse(data)
  } catch {
    return data
  }
}
