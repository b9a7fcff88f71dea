import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { CallContext, Wire } from './wire.ts'
import { messagesWire } from './anthropic-messages.ts'
import { isJsonText, JsonBeginning } from './asked-json.ts'
import { geminiWire } from './gemini-request.ts'
import { chatWire } from './openai-chat.ts'
import { responsesWire } from './responses-wire.ts'

const NOTICE = '\n\n---\nSomething changed.'
const FENCED = ['```json\n{"order": 17}\n```', '```\n[1, 2]\n```\n', '\n```JSON\r\n {"a": "```"}```', '``` json5\n[1]\n```']
const JSON_TEXTS = ['{"order": 17}', ' \n[1, 2]\n', '[{"a": "}"}]', ...FENCED]
const CODE = ['```js\n{}\n```', '```\nls\n```', '`{"order": 17}`', 'It is:\n```json\n{"order": 17}\n```', '``{}``', '```']
const PROSE_TEXTS = ['It is {17}', '"17"', '17', 'Here it is: {"order": 17}', ...CODE]
/** By CommonMark, a block of code is open at their end. */
const OPEN_CODE = [
  'Here it is:\n```js\nconst answer = 42',
  'As JSON:\n\n```json\n{"order": 17, "ports": [1',
  'So:\r\n```\r\n``',
  '```ts\nlet a\n```\n\nand\n   ````md\n```js\n1\n```\n',
  '~~~\n```\n~~',
  'Run\n```',
]
const CLOSED_CODE = ['```js\nlet a\n```', '~~~ `x`\n~~~\nThat is', 'a\n``` b` ```\nc', 'a\n    ```\nb', 'So: ```\nlet a']
/** Whole, they are seen to be prose; streamed, that is too late. */
const BRACKETED = ['[1] says so.', '{x} is a set, (y) is none', '```json\n{"order": 17}\n```\nis your order.', '```json\nnone\n```']

/** Of a text that comes in these pieces. */
function begins(pieces: readonly string[]): boolean | null {
  const beginning = new JsonBeginning()
  for (const piece of pieces) beginning.add(piece)
  return beginning.isJson
}

test('a whole text is JSON by its first and its last character, a streamed one by its first, in whatever pieces', () => {
  for (const [texts, whole, streamed] of [
    [JSON_TEXTS, true, true],
    [PROSE_TEXTS.filter((text) => text !== '```'), false, false],
    [BRACKETED, false, true],
  ] as const)
    for (const text of texts) {
      assert.deepEqual([isJsonText(text), begins([text]), begins(text.split(''))], [whole, streamed, streamed], text)
    }
})

test('of a streamed text nothing is known before the characters that tell', () => {
  for (const text of ['', ' \n', '\n\t ', '`', '``', '```', '```js', '```JSO', '```\n ']) assert.equal(begins([text]), null, text)
  for (const text of ['``a', '```x', '```jsx', '````', '\\n{']) assert.equal(begins(text.split('')), false, text)
})

interface Format {
  readonly wire: Wire
  readonly path: string
  readonly request: object
  /** What its ends are called: by itself, at its limit, by a filter. */
  readonly ends: Readonly<Record<End, string>>
  /** An answer of these pieces. */
  readonly whole: (pieces: readonly string[], end: string) => object
  readonly events: (pieces: readonly string[], end: string) => readonly object[]
}
type End = 'finished' | 'cut' | 'filtered'

const response = (pieces: readonly string[], end: string): object => ({
  id: 'resp_1',
  object: 'response',
  status: end === 'completed' ? end : 'incomplete',
  incomplete_details: end === 'completed' ? null : { reason: end },
  model: 'gpt-4o',
  output: [
    {
      id: 'msg_1',
      type: 'message',
      role: 'assistant',
      status: 'completed',
      content: [{ type: 'output_text', text: pieces.join(''), annotations: [] }],
    },
  ],
  usage: { input_tokens: 1, output_tokens: 1, total_tokens: 2 },
})
const FORMATS: Readonly<Record<string, Format>> = {
  chat: {
    wire: chatWire,
    path: '/chat/completions',
    request: { model: 'gpt-4o', messages: [{ role: 'user', content: 'As JSON.' }] },
    ends: { finished: 'stop', cut: 'length', filtered: 'content_filter' },
    whole: (pieces, end) => ({ choices: [{ index: 0, message: { role: 'assistant', content: pieces.join('') }, finish_reason: end }] }),
    events: (pieces, end) => [
      ...pieces.map((content) => ({ id: 'c', choices: [{ index: 0, delta: { content }, finish_reason: null }] })),
      { id: 'c', choices: [{ index: 0, delta: {}, finish_reason: end }] },
    ],
  },
  messages: {
    wire: messagesWire,
    path: '/messages',
    request: { model: 'claude-sonnet-4-5', max_tokens: 100, messages: [{ role: 'user', content: 'As JSON.' }] },
    ends: { finished: 'end_turn', cut: 'max_tokens', filtered: 'refusal' },
    whole: (pieces, end) => ({ type: 'message', content: pieces.map((text) => ({ type: 'text', text })), stop_reason: end }),
    events: (pieces, end) => [
      { type: 'message_start', message: { content: [], usage: { input_tokens: 1, output_tokens: 1 } } },
      { type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } },
      ...pieces.map((text) => ({ type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text } })),
      { type: 'content_block_stop', index: 0 },
      { type: 'message_delta', delta: { stop_reason: end }, usage: { output_tokens: 2 } },
      { type: 'message_stop' },
    ],
  },
  responses: {
    wire: responsesWire,
    path: '/responses',
    request: { model: 'gpt-4o', input: 'As JSON.' },
    ends: { finished: 'completed', cut: 'max_output_tokens', filtered: 'content_filter' },
    whole: response,
    events: (pieces, end) => [
      ...pieces.map((delta) => ({ type: 'response.output_text.delta', item_id: 'msg_1', output_index: 0, content_index: 0, delta })),
      { type: 'response.output_text.done', item_id: 'msg_1', output_index: 0, content_index: 0, text: pieces.join('') },
      { type: end === 'completed' ? 'response.completed' : 'response.incomplete', response: response(pieces, end) },
    ],
  },
  gemini: {
    wire: geminiWire,
    path: '/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse',
    request: { contents: [{ role: 'user', parts: [{ text: 'As JSON.' }] }] },
    ends: { finished: 'STOP', cut: 'MAX_TOKENS', filtered: 'SAFETY' },
    whole: (pieces, end) => ({
      candidates: [{ index: 0, content: { role: 'model', parts: pieces.map((text) => ({ text })) }, finishReason: end }],
    }),
    events: (pieces, end) => [
      ...pieces.map((text) => ({ candidates: [{ index: 0, content: { role: 'model', parts: [{ text }] } }] })),
      { candidates: [{ index: 0, content: { role: 'model', parts: [] }, finishReason: end }] },
    ],
  },
}

for (const [name, { wire, path, request, ends, whole, events }] of Object.entries(FORMATS)) {
  const call: CallContext = {
    upstream: { provider: 'any', outputLimitField: 'max_completion_tokens', deployments: [] },
    path,
    contentType: 'application/json',
  }
  const isTold = async (
    text: string,
    end: End = 'finished',
    pieces: readonly string[] = text.split(/(?<=^\s*)(?=\S)/).flatMap((piece) => [piece.slice(0, 1), piece.slice(1)]),
  ): Promise<{ readonly whole: boolean; readonly streamed: boolean }> => {
    const parsed = await wire.parse(Buffer.from(JSON.stringify(request)), call)
    assert.ok(parsed.status === 'ok')
    const body = Buffer.from(JSON.stringify(whole(pieces, ends[end])))
    const answer = wire.addNotice(body, NOTICE)
    assert.equal(answer.body.equals(body), !answer.added)
    const stream = wire.openStream({ request: parsed.request, stripUsage: false, notice: NOTICE, collect: false })
    const sent = Buffer.from(
      events(pieces, ends[end])
        .map((event) => `data: ${JSON.stringify(event)}\n\n`)
        .join(''),
    )
    const out = Buffer.concat([...stream.push(sent), ...stream.end()])
    assert.equal(out.toString().includes('Something changed.'), stream.noticeAdded)
    return { whole: answer.added, streamed: stream.noticeAdded }
  }
  test(`${name}: no notice stands in an answer that is JSON, asked for or not`, async () => {
    for (const text of JSON_TEXTS) assert.deepEqual(await isTold(text), { whole: false, streamed: false }, text)
    for (const text of PROSE_TEXTS) assert.deepEqual(await isTold(text), { whole: true, streamed: true }, text)
    // A streamed response says all of its words once more before its end.
    for (const text of BRACKETED) assert.deepEqual(await isTold(text), { whole: true, streamed: name === 'responses' }, text)
  })
  test(`${name}: no notice stands in a block of code that was cut off; it follows one that is closed, and code that ended so by itself`, async () => {
    for (const [texts, end, told] of [
      [OPEN_CODE, 'cut', false],
      [CLOSED_CODE, 'cut', true],
      [OPEN_CODE, 'finished', true],
    ] as const)
      for (const text of texts)
        for (const pieces of [[text], text.split('')])
          assert.deepEqual(await isTold(text, end, pieces), { whole: told, streamed: told }, text)
  })

  test(`${name}: no notice stands in JSON that was cut off: how it began tells`, async () => {
    for (const text of ['{"order": 17, "po', ' [1, 2', '```json\n{"order": 17}\n```\n'])
      assert.deepEqual(await isTold(text, 'cut'), { whole: false, streamed: false }, text)
  })

  test(`${name}: no notice stands in an answer that a filter ended`, async () => {
    assert.deepEqual(await isTold('It is in', 'filtered'), { whole: false, streamed: false })
    assert.deepEqual(await isTold('It is in', 'cut'), { whole: true, streamed: true })
  })
}
