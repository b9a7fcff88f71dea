import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { usageOf } from '@farebox/crds/usage.ts'
import * as fc from 'fast-check'
import type { JsonObject } from '../core/request.ts'
import { EVENT_BYTES_MAX } from './event-frames.ts'
import { ResponsesStream } from './responses-stream.ts'
import { dataIn, passedOn } from './bodies.testing.ts'
import type { StreamOptions } from './wire.ts'

const NOTICE = '\n\n---\n"Note": a smaller model \\ é'
const USAGE = {
  input_tokens: 10,
  input_tokens_details: { cached_tokens: 4 },
  output_tokens: 5,
  output_tokens_details: { reasoning_tokens: 0 },
  total_tokens: 15,
}
const READ_USAGE = usageOf({ uncachedInput: 6, cacheReadInput: 4, output: 5 })
const CALL = { type: 'function_call', id: 'fc_1', call_id: 'call_1', name: 'look_up', arguments: '{}', status: 'completed' }

describe('a stream', () => {
  test('passes byte for byte, however it is cut, and says the same of itself', () => {
    fc.assert(
      fc.property(fc.array(fc.nat()), fc.constantFrom('\n', '\r\n'), (cuts, end) => {
        const text = spoken(['Hello', ' there.']).replaceAll('\n', end)
        const fed = feed(text, {}, cuts)
        assert.equal(fed.output, text)
        const { facts } = fed.stream
        assert.deepEqual(
          [facts.usage, facts.responseId, facts.model, facts.finishReason],
          [READ_USAGE, 'resp_1', 'gpt-4o-2024-08-06', 'completed'],
        )
        assert.equal(fed.stream.message?.texts[0]?.text, 'Hello there.')
      }),
    )
  })

  test('that breaks off has no usage, and its words are gauged', () => {
    const text = spoken(['Hello', ' there', ' and', ' so', ' on.'])
    const { stream } = feed(text.slice(0, text.indexOf('event: response.output_text.done')))
    assert.deepEqual([stream.facts.usage, stream.message, stream.facts.finishReason], [null, null, 'in_progress'])
    assert.ok(stream.observedOutputTokens() >= 5 && stream.observedOutputTokens() <= 12, String(stream.observedOutputTokens()))
    assert.equal(stream.facts.outputBytes, 'Hello there and so on.'.length)
  })

  test('that fails says how, and never in the words of the provider', () => {
    const failed = feed(
      events([
        ['response.created', { response: response([], 'in_progress') }],
        ['error', { code: 'server_error', message: 'secret', param: null }],
      ]),
    )
    assert.equal(failed.stream.facts.error, 'server_error')
    const ended = feed(
      events([
        [
          'response.failed',
          { response: { ...response([], 'failed'), error: { code: 'rate_limit_exceeded', message: 'secret' }, usage: null } },
        ],
      ]),
    )
    assert.deepEqual([ended.stream.facts.error, ended.stream.facts.usage], ['rate_limit_exceeded', null])
  })

  test('of calls names them as they come, and gives them as messages', () => {
    const text = events([
      ['response.created', { response: response([], 'in_progress') }],
      ['response.output_item.added', { output_index: 0, item: { ...CALL, arguments: '', status: 'in_progress' } }],
      ['response.function_call_arguments.delta', { output_index: 0, item_id: 'fc_1', delta: '{}' }],
    ])
    const begun = feed(text)
    assert.deepEqual(begun.stream.facts.toolNames, ['look_up'])
    assert.ok(begun.stream.observedOutputTokens() > 0)
    const whole = feed(text + events([['response.completed', { response: response([CALL, CALL], 'completed') }]]))
    assert.deepEqual(
      whole.stream.messages.map((message) => message.toolCalls[0]?.id),
      ['call_1', 'call_1'],
    )
  })

  test('may hold what nobody can read', () => {
    const text = `: keepalive\n\ndata: not json\n\nevent: ping\n\ndata: [1]\n\n${spoken(['Hi.'])}`
    const fed = feed(text, { notice: NOTICE })
    assert.ok(fed.output.startsWith(': keepalive\n\ndata: not json\n\nevent: ping\n\ndata: [1]\n\n'))
    assert.deepEqual(fed.stream.facts.usage, READ_USAGE)
    assert.ok(fed.stream.noticeAdded)
  })
})

describe('a notice', () => {
  test('is the end of the words in every event that repeats them, however the stream is cut', () => {
    const whole = feed(spoken(['Hello', ' there.']), { notice: NOTICE }).output
    fc.assert(
      fc.property(fc.array(fc.nat()), (cuts) => {
        assert.equal(feed(spoken(['Hello', ' there.']), { notice: NOTICE }, cuts).output, whole)
      }),
    )
    const said = `Hello there.${NOTICE}`
    const read = dataIn(whole).map((data) => JSON.parse(data) as Event)
    assert.equal(read.map((event) => event.delta ?? '').join(''), said)
    assert.equal(read.find(({ type }) => type === 'response.output_text.done')?.text, said)
    assert.equal(read.find(({ type }) => type === 'response.content_part.done')?.part?.text, said)
    assert.equal(read.find(({ type }) => type === 'response.output_item.done')?.item?.content.at(-1)?.text, said)
    assert.equal(read.at(-1)?.response?.output.at(-1)?.content.at(-1)?.text, said)
    assert.deepEqual(
      read.map((event) => event.sequence_number),
      read.map((_, index) => index),
    )
    for (const line of whole.split('\n')) if (line.startsWith('event: ')) assert.ok(read.some(({ type }) => line === `event: ${type}`))
  })

  test('is no part of what the app will send back', () => {
    const { stream } = feed(spoken(['Hello.']), { notice: NOTICE })
    assert.ok(stream.noticeAdded)
    assert.equal(stream.message?.texts[0]?.text, 'Hello.')
  })

  test('passes before an event that is too long to be read what was held back for it', () => {
    const text = spoken(['Hello.'], [['response.output_item.done', { output_index: 1, item: { result: 'x'.repeat(EVENT_BYTES_MAX) } }]])
    for (const cuts of [[], [text.length - 3_000_000]]) assert.equal(feed(text, { notice: NOTICE }, cuts).output, text)
  })

  test('waits where the words are not the end: every byte passes, in its order', () => {
    const others: readonly string[] = [
      spoken(
        ['Let me look.'],
        [
          ['response.output_item.added', { output_index: 1, item: CALL }],
          ['response.output_item.done', { output_index: 1, item: CALL }],
        ],
        [message('Let me look.'), CALL],
      ),
      spoken(
        ['Hello.'],
        [['response.output_item.added', { output_index: 1, item: { type: 'reasoning', id: 'rs_1', summary: [] } }]],
        [message('Hello.'), { type: 'reasoning', id: 'rs_1', summary: [] }],
      ),
      events([
        ['response.created', { response: response([], 'in_progress') }],
        ['response.failed', { response: response([], 'failed') }],
      ]),
      spoken(['Hello.']).slice(0, -400),
    ]
    for (const text of others) {
      const fed = feed(text, { notice: NOTICE })
      assert.equal(fed.output, text)
      assert.equal(fed.stream.noticeAdded, false)
    }
  })

  test('goes to the last of several texts', () => {
    const first = message('One.')
    const text =
      parted('One.', 0, 0) +
      events([['response.output_item.added', { output_index: 1, item: { ...first, content: [] } }]]) +
      parted('Two.', 1, 0) +
      events([['response.completed', { response: response([first, message('Two.')], 'completed') }]])
    const fed = feed(text, { notice: NOTICE })
    const read = dataIn(fed.output).map((data) => JSON.parse(data) as Event)
    assert.deepEqual(
      read.filter(({ type }) => type === 'response.output_text.done').map((event) => event.text),
      ['One.', `Two.${NOTICE}`],
    )
    const last = read.at(-1)?.response
    assert.deepEqual(
      last?.output.map((item) => item.content[0]?.text),
      ['One.', `Two.${NOTICE}`],
    )
  })

  test('may end an answer that met its bound, and none that a filter ended', () => {
    for (const [reason, added] of [
      ['max_output_tokens', true],
      ['content_filter', false],
    ] as const) {
      const text = spoken(['Hello'])
        .replaceAll('response.completed', 'response.incomplete')
        .replaceAll('"status":"completed","error"', `"status":"incomplete","incomplete_details":{"reason":"${reason}"},"error"`)
      const { stream, output } = feed(text, { notice: NOTICE })
      assert.deepEqual([stream.noticeAdded, output === text], [added, !added])
    }
  })
})

interface Event {
  readonly type: string
  readonly sequence_number: number
  readonly delta?: string
  readonly text?: string
  readonly part?: { readonly text: string }
  readonly item?: { readonly content: readonly { readonly text: string }[] }
  readonly response?: { readonly output: readonly { readonly content: readonly { readonly text: string }[] }[] }
}

type EventParts = readonly (readonly [type: string, fields: JsonObject])[]

/** A whole answer of one message, `between` its end and that of the response. */
function spoken(deltas: readonly string[], between: EventParts = [], output: readonly JsonObject[] = [message(deltas.join(''))]): string {
  const text = deltas.join('')
  const at = { output_index: 0, content_index: 0, item_id: 'msg_1' }
  const part = { type: 'output_text', text, annotations: [], logprobs: [] }
  return events([
    ['response.created', { response: response([], 'in_progress') }],
    ['response.in_progress', { response: response([], 'in_progress') }],
    ['response.output_item.added', { output_index: 0, item: { ...message(''), content: [], status: 'in_progress' } }],
    ['response.content_part.added', { ...at, part: { ...part, text: '' } }],
    ...deltas.map((delta) => ['response.output_text.delta', { ...at, delta, logprobs: [] }] as const),
    ['response.output_text.done', { ...at, text, logprobs: [] }],
    ['response.content_part.done', { ...at, part }],
    ['response.output_item.done', { output_index: 0, item: message(text) }],
    ...between,
    ['response.completed', { response: response(output, 'completed') }],
  ])
}

function parted(text: string, output_index: number, content_index: number): string {
  const at = { output_index, content_index, item_id: `msg_${output_index}` }
  return events([
    ['response.output_text.delta', { ...at, delta: text, logprobs: [] }],
    ['response.output_text.done', { ...at, text, logprobs: [] }],
    ['response.content_part.done', { ...at, part: { type: 'output_text', text, annotations: [] } }],
    ['response.output_item.done', { output_index, item: message(text) }],
  ])
}

function events(parts: EventParts): string {
  return parts
    .map(([type, fields], sequence_number) => `event: ${type}\ndata: ${JSON.stringify({ type, ...fields, sequence_number })}\n\n`)
    .join('')
}

function message(text: string): JsonObject {
  return {
    id: 'msg_1',
    type: 'message',
    role: 'assistant',
    status: 'completed',
    content: [{ type: 'output_text', text, annotations: [], logprobs: [] }],
  }
}

function response(output: readonly JsonObject[], status: string): JsonObject {
  return {
    id: 'resp_1',
    object: 'response',
    status,
    error: null,
    model: 'gpt-4o-2024-08-06',
    service_tier: 'default',
    output,
    usage: status === 'completed' ? USAGE : null,
  }
}

function feed(
  text: string,
  options: Partial<StreamOptions> = {},
  cuts: readonly number[] = [],
): { readonly output: string; readonly stream: ResponsesStream } {
  const stream = new ResponsesStream({ notice: null, collect: true, ...options })
  return { output: passedOn(stream, text, cuts), stream }
}
