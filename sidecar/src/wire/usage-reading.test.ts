import assert from 'node:assert/strict'
import { test } from 'node:test'
import { messagesWire } from './anthropic-messages.ts'
import { completionsWire } from './completions.ts'
import { geminiWire } from './gemini-request.ts'
import { chatWire } from './openai-chat.ts'
import { responsesWire } from './responses-wire.ts'
import { servedModel } from './usage-reading.ts'
import type { CallContext, Wire } from './wire.ts'

test('a model that nobody could ask for is none', () => {
  assert.equal(servedModel('m'.repeat(256)), 'm'.repeat(256))
  for (const model of [undefined, null, '', 3, ['gpt-4o'], 'm'.repeat(257)]) assert.equal(servedModel(model), null)
})

interface Format {
  readonly wire: Wire
  readonly path?: string
  readonly request: object
  /** The answer of such a model, and the event of a stream that names it. */
  readonly whole: (model: string) => object
  readonly event: (model: string) => object
}

const turns = { messages: [{ role: 'user', content: 'Hello.' }] }
const choices = [
  { index: 0, text: 'Yes.', message: { role: 'assistant', content: 'Yes.' }, delta: { content: 'Yes.' }, finish_reason: 'stop' },
]
const FORMATS: Readonly<Record<string, Format>> = {
  chat: {
    wire: chatWire,
    request: { model: 'asked', ...turns },
    whole: (model) => ({ model, choices }),
    event: (model) => ({ model, choices }),
  },
  completions: {
    wire: completionsWire,
    request: { model: 'asked', prompt: 'Hello.' },
    whole: (model) => ({ model, choices }),
    event: (model) => ({ model, choices, usage: { prompt_tokens: 1, completion_tokens: 1 } }),
  },
  messages: {
    wire: messagesWire,
    request: { model: 'asked', max_tokens: 9, ...turns },
    whole: (model) => ({ type: 'message', model, content: [] }),
    event: (model) => ({ type: 'message_start', message: { model, content: [] } }),
  },
  responses: {
    wire: responsesWire,
    request: { model: 'asked', input: 'Hello.' },
    whole: (model) => ({ model, output: [], status: 'completed' }),
    event: (model) => ({ type: 'response.completed', response: { model, output: [], status: 'completed' } }),
  },
  gemini: {
    wire: geminiWire,
    path: '/v1beta/models/asked:streamGenerateContent?alt=sse',
    request: { contents: [{ role: 'user', parts: [{ text: 'Hello.' }] }] },
    whole: (modelVersion) => ({ modelVersion, candidates: [] }),
    event: (modelVersion) => ({ modelVersion, candidates: [] }),
  },
}

for (const [name, { wire, path = '/', request, whole, event }] of Object.entries(FORMATS)) {
  test(`${name}: the model of an answer is bounded, as is that of a request`, async () => {
    const call: CallContext = {
      upstream: { provider: 'any', outputLimitField: 'max_tokens', deployments: [] },
      path,
      contentType: 'application/json',
    }
    const parsed = await wire.parse(Buffer.from(JSON.stringify(request)), call)
    assert.ok(parsed.status === 'ok', JSON.stringify(parsed))
    const modelsOf = (model: string): readonly (string | null)[] => {
      const stream = wire.openStream({ request: parsed.request, stripUsage: false, notice: null, collect: false })
      stream.push(Buffer.from(`data: ${JSON.stringify(event(model))}\n\n`))
      stream.end()
      return [wire.readAnswer(Buffer.from(JSON.stringify(whole(model))), parsed.request).facts.model, stream.facts.model]
    }
    assert.deepEqual(modelsOf('served'), ['served', 'served'])
    assert.deepEqual(modelsOf('m'.repeat(3_000_000)), [null, null])
  })
}
