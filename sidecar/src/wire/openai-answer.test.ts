import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { usageOf } from '@farebox/crds/usage.ts'
import * as fc from 'fast-check'
import type { JsonObject } from '../core/request.ts'
import { NO_FACTS } from './answer-reading.ts'
import { addNotice, deltaEvent, readAnswer, syntheticAnswer, usageEvent } from './openai-answer.ts'
import { dataIn, feed, valueTexts } from './bodies.testing.ts'

const NOTICE = '\n\n---\n"Note": a smaller model answers \\ from here. \u00e9 😀'

const said = (content: string | null, more: JsonObject = {}): JsonObject => ({ role: 'assistant', content, refusal: null, ...more })
const ended = (message: JsonObject, reason: string | null = 'stop', index = 0): JsonObject => ({
  index,
  message,
  logprobs: null,
  finish_reason: reason,
})
const answer = (choices: readonly JsonObject[], more: JsonObject = {}): JsonObject => ({
  id: 'chatcmpl-1',
  object: 'chat.completion',
  created: 1_700_000_000,
  model: 'gpt-4o-2024-08-06',
  choices,
  usage: { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15 },
  service_tier: 'default',
  ...more,
})
const bytesOf = (json: JsonObject, indent?: number): Buffer => Buffer.from(JSON.stringify(json, null, indent))
const THOUGHT = { type: 'thinking', thinking: [{ type: 'text', text: 'Two and two.' }], text: 5 }
const toolCall = { id: 'call_1', type: 'function', function: { name: 'look_up', arguments: '{"q":"é"}' } }

describe('what an answer says', () => {
  test('a plain answer', () => {
    const { message, ...read } = readAnswer(bytesOf(answer([ended(said('Nine é.'))])))
    assert.deepEqual(message?.json, said('Nine é.'))
    assert.deepEqual(read, {
      facts: {
        model: 'gpt-4o-2024-08-06',
        serviceTier: 'default',
        responseId: null,
        usage: usageOf({ uncachedInput: 10, output: 5 }),
        usageClamped: false,
        usageInvalid: false,
        finishReason: 'stop',
        toolNames: [],
        outputBytes: 8,
        error: null,
      },
      readable: true,
    })
  })

  test('several answers: the first by its index is the message, and all count as output', () => {
    const read = readAnswer(bytesOf(answer([ended(said('two'), 'length', 1), ended(said('one'))])))
    assert.deepEqual([read.message?.json, read.facts.finishReason, read.facts.outputBytes], [said('one'), 'stop', 6])
    assert.deepEqual(
      read.alternatives?.map(({ json }) => json),
      [said('two')],
    )
    const many = Array.from({ length: 20 }, (_, index) => ended(said(`${index}`), 'stop', index))
    assert.equal(readAnswer(bytesOf(answer(many))).alternatives?.length, 7, 'as many as are kept')
  })

  test('tool calls of all kinds and of all answers are named, and their arguments count', () => {
    const custom = { id: 'call_2', type: 'custom', custom: { name: 'run', input: 'ls' } }
    const first = said(null, { tool_calls: [toolCall, custom] })
    const second = said(null, { function_call: { name: 'old', arguments: '{}' } })
    const { facts } = readAnswer(bytesOf(answer([ended(first, 'tool_calls'), ended(second, 'function_call', 1)])))
    assert.deepEqual(facts.toolNames, ['look_up', 'run', 'old'])
    assert.equal(facts.outputBytes, Buffer.byteLength('look_up{"q":"é"}runlsold{}'))
  })

  test('refusals and reasoning count as output, annotations and audio do not', () => {
    const spoken = said(null, { refusal: 'No.', reasoning_content: 'Hm', annotations: [{ url: 'https://x' }], audio: { data: 'AAAA' } })
    assert.equal(readAnswer(bytesOf(answer([ended(spoken)]))).facts.outputBytes, 5)
  })

  test('searches are those that were held for, where the usage counts none', () => {
    const counted = (usage: JsonObject): number | undefined =>
      readAnswer(bytesOf(answer([], { usage })), { searches: 2 }).facts.usage?.webSearchCalls
    assert.equal(counted({ prompt_tokens: 1, completion_tokens: 1 }), 2)
    assert.equal(counted({ prompt_tokens: 1, completion_tokens: 1, server_tool_use: { web_search_requests: 0 } }), 0)
  })

  test('usage that cannot be is told from usage that is not there', () => {
    const facts = (usage: JsonObject | null): unknown => {
      const { usage: read, usageInvalid, usageClamped } = readAnswer(bytesOf(answer([], { usage }))).facts
      return [read === null, usageInvalid, usageClamped]
    }
    assert.deepEqual(facts(null), [true, false, false])
    assert.deepEqual(facts({ prompt_tokens: -1, completion_tokens: 1 }), [true, true, false])
    assert.deepEqual(facts({ prompt_tokens: 1, completion_tokens: 1, prompt_tokens_details: { cached_tokens: 2 } }), [false, false, true])
  })

  test('an error is known by its code or type, never by its words', () => {
    const errorOf = (error: JsonObject | string): string | null => readAnswer(bytesOf({ error })).facts.error
    assert.equal(errorOf({ message: 'secret', type: 'server_error', code: 'overloaded' }), 'overloaded')
    assert.equal(errorOf({ message: 'secret', type: 'server_error', code: null }), 'server_error')
    assert.equal(errorOf({ message: 'secret', code: 502 }), '502')
    assert.equal(errorOf({ message: 'secret' }), 'error')
    assert.equal(errorOf('secret'), 'error')
    assert.equal(errorOf({ code: 'c'.repeat(100) })?.length, 64)
  })

  test('what is not a JSON object has no facts but its size', () => {
    for (const text of ['', 'upstream error', '[]', 'null', '{"choices":[', '\ufeff{}'])
      assert.deepEqual(readAnswer(Buffer.from(text)), {
        facts: { ...NO_FACTS, outputBytes: Buffer.byteLength(text) },
        message: null,
        readable: false,
      })
  })

  test('answers of an odd shape are read as far as they go', () => {
    for (const choices of [null, {}, 'x', [null, 5], [{}], [{ message: 'x' }], [{ message: { content: 5 } }]]) {
      const read = readAnswer(Buffer.from(JSON.stringify({ ...answer([]), choices })))
      assert.deepEqual([read.facts.outputBytes, read.facts.usage?.output], [0, 5])
    }
    const deep = `{"choices":[{"message":{"content":${'['.repeat(100_000)}${']'.repeat(100_000)}}}]}`
    assert.equal(readAnswer(Buffer.from(deep)).readable, true)
  })
})

describe('a notice in an answer', () => {
  test('stands at the end of the text of the first choice, and every other byte stays', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'grapheme', minLength: 1 }),
        fc.constantFrom(NOTICE, 'x'),
        fc.constantFrom(undefined, 1),
        fc.constantFrom('stop', 'length'),
        (text, notice, indent, reason) => {
          const original = answer([ended(said('other'), 'stop', 1), ended(said(text), reason)])
          const body = bytesOf(original, indent)
          const { body: noticed, added } = addNotice(body, notice)
          assert.equal(added, true)
          const expected = answer([ended(said('other'), 'stop', 1), ended(said(text + notice), reason)])
          assert.equal(noticed.toString('utf8'), bytesOf(expected, indent).toString('utf8'))
        },
      ),
    )
  })

  test('finds the text in any order of fields, among any others', () => {
    fc.assert(
      fc.property(valueTexts(), valueTexts(), (one, other) => {
        const text = (content: string): string =>
          ` {"x":${one},"choices":[ {"logprobs": ${one},"finish_reason" :"stop","message":{"x":${other}, "content" : "${content}" ,"role":"assistant"}} ],"y":${other}} `
        const { body, added } = addNotice(Buffer.from(text('\\u0041\\"')), '!')
        assert.equal(added, true)
        assert.equal(body.toString('utf8'), text('\\u0041\\"!'))
      }),
    )
  })

  test('stands at the end of the last text of content that is a list', () => {
    for (const indent of [undefined, 1]) {
      const parts = (text: string): JsonObject =>
        answer([
          ended({ role: 'assistant', content: [THOUGHT, { type: 'text', text: 'It is' }, { text, type: 'text' }, { type: 'reference' }] }),
        ])
      const { body, added } = addNotice(bytesOf(parts(' 4.'), indent), NOTICE)
      assert.equal(added, true)
      assert.equal(body.toString('utf8'), bytesOf(parts(` 4.${NOTICE}`), indent).toString('utf8'))
    }
  })

  test('finds it behind more log probabilities than a request may hold values', () => {
    const logprobs = { content: Array.from({ length: 8_000 }, () => ({ token: 'a', logprob: -1, bytes: [97] })) }
    const choice = { finish_reason: 'stop', index: 0, logprobs, message: said('Nine.') }
    const { body, added } = addNotice(bytesOf(answer([choice])), NOTICE)
    assert.equal(added, true)
    assert.deepEqual(readAnswer(body).message?.json, said(`Nine.${NOTICE}`))
  })

  const without: Record<string, JsonObject> = {
    'tool calls': ended(said('Let me see.', { tool_calls: [toolCall] })),
    'an old function call': ended(said('Let me see.', { function_call: { name: 'f', arguments: '{}' } })),
    'tool calls without a name': ended(said('Let me see.', { tool_calls: [{ id: 'x' }] })),
    'tool calls by the reason of its end': ended(said('Let me see.'), 'tool_calls'),
    'a filter that ended it': ended(said('I am'), 'content_filter'),
    'no end': ended(said('I am'), null),
    'a refusal': ended(said('No.', { refusal: 'I cannot.' })),
    audio: ended(said('Hi', { audio: { id: 'a', data: 'AAAA' } })),
    'no text': ended(said(null)),
    'empty text': ended(said('')),
    'thoughts alone': ended({ role: 'assistant', content: [THOUGHT] }),
    'JSON in parts': ended({ role: 'assistant', content: [THOUGHT, { type: 'text', text: '{"a":' }, { type: 'text', text: '1}' }] }),
    'no message': { index: 0, finish_reason: 'stop' },
  }
  for (const [name, choice] of Object.entries(without)) {
    test(`is not added to an answer with ${name}`, () => {
      const body = bytesOf(answer([choice, ended(said('other'), 'stop', 1)]))
      const result = addNotice(body, NOTICE)
      assert.equal(result.body, body)
      assert.equal(result.added, false)
    })
  }

  test('is not added to what is no answer', () => {
    for (const text of ['', 'busy', '[]', '{}', '{"choices":[]}', '{"choices":[null]}', '{"choices":{}}', '{"error":{"code":"x"}}']) {
      const body = Buffer.from(text)
      assert.deepEqual(addNotice(body, NOTICE), { body, added: false })
    }
  })
})

describe('an answer that no model made', () => {
  const made = { model: 'gpt-4o', text: 'This is "all" é.', id: 'chatcmpl-farebox-1', createdS: 1_700_000_000 }

  test('plain: the shape of a completion that used nothing', () => {
    const { contentType, body } = syntheticAnswer({ ...made, stream: false, includeUsage: true })
    assert.equal(contentType, 'application/json')
    const parsed: unknown = JSON.parse(body.toString('utf8'))
    assert.deepEqual(parsed, {
      id: 'chatcmpl-farebox-1',
      object: 'chat.completion',
      created: 1_700_000_000,
      model: 'gpt-4o',
      choices: [
        {
          index: 0,
          message: { role: 'assistant', content: 'This is "all" é.', refusal: null, annotations: [] },
          logprobs: null,
          finish_reason: 'stop',
        },
      ],
      usage: { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 },
    })
  })

  test('streamed: role, text, end, usage only where it was asked for, and the sentinel', () => {
    for (const includeUsage of [false, true]) {
      const { contentType, body } = syntheticAnswer({ ...made, stream: true, includeUsage })
      assert.equal(contentType, 'text/event-stream; charset=utf-8')
      const data = dataIn(body.toString('utf8'))
      assert.equal(data.pop(), '[DONE]')
      const chunks: JsonObject[] = data.map((text) => JSON.parse(text))
      const frame = { id: made.id, object: 'chat.completion.chunk', created: made.createdS, model: made.model }
      const choice = (delta: JsonObject, reason: string | null = null): JsonObject => ({
        ...frame,
        choices: [{ index: 0, delta, logprobs: null, finish_reason: reason }],
      })
      assert.deepEqual(chunks, [
        choice({ role: 'assistant', content: '' }),
        choice({ content: made.text }),
        choice({}, 'stop'),
        ...(includeUsage ? [{ ...frame, choices: [], usage: { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 } }] : []),
      ])
    }
  })

  test('reads back as what it says, plain and streamed', () => {
    const plain = readAnswer(syntheticAnswer({ ...made, stream: false, includeUsage: false }).body)
    const streamed = feed(syntheticAnswer({ ...made, stream: true, includeUsage: true }).body)
    assert.equal(plain.message?.json['content'], made.text)
    assert.equal(streamed.message?.json['content'], made.text)
    assert.deepEqual(plain.facts, streamed.facts)
    assert.deepEqual(plain.facts.usage, usageOf({}))
  })
})

test('events of our own are chunks as the API has them', () => {
  const frame = { id: 'a', created: 1, model: 'm' }
  assert.equal(
    deltaEvent(frame, 2, { content: 'x\n' }, 'length'),
    'data: {"id":"a","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":2,"delta":{"content":"x\\n"},"logprobs":null,"finish_reason":"length"}]}\n\n',
  )
  const usage = { prompt_tokens: 1, completion_tokens: 2, total_tokens: 3 }
  assert.equal(
    usageEvent(frame, usage),
    `data: {"id":"a","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":${JSON.stringify(usage)}}\n\n`,
  )
})
