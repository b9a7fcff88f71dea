import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { JsonObject } from '../core/request.ts'
import { messagesWire } from './anthropic-messages.ts'
import { completionsWire } from './completions.ts'
import { geminiWire } from './gemini-request.ts'
import { chatWire } from './openai-chat.ts'
import { responsesWire } from './responses-wire.ts'
import { servedModel, toldCost } from './usage-reading.ts'
import type { CallContext, Wire } from './wire.ts'

test('a model that nobody could ask for is none', () => {
  assert.equal(servedModel('m'.repeat(256)), 'm'.repeat(256))
  for (const model of [undefined, null, '', 3, ['gpt-4o'], 'm'.repeat(257)]) assert.equal(servedModel(model), null)
})

test('what a provider says that a call cost is read to the nano-dollar, rounded up', () => {
  const told: readonly (readonly [JsonObject, bigint | undefined])[] = [
    [{ cost_in_usd_ticks: 292_331_500 }, 29_233_150n],
    [{ cost_in_usd_ticks: 1 }, 1n],
    [{ cost: 0.00014 }, 140_000n],
    [{ cost: 0.95, is_byok: false, cost_details: { upstream_inference_cost: 0.95 } }, 950_000_000n],
    [{ cost: 0.95, is_byok: true, cost_details: { upstream_inference_cost: 19 } }, 19_950_000_000n],
    [{ cost: 0.95, is_byok: true, cost_details: null }, 950_000_000n],
    [{ cost: { currency: 'USD', input_cost: 0.00175, output_cost: 0.0014, tool_calls_cost: 0.025, total_cost: 0.02815 } }, 28_150_000n],
    [{ cost: { input_tokens_cost: 0.00006, output_tokens_cost: 0.003, request_cost: 0.014, total_cost: 0.01706 } }, 17_060_000n],
    [{ cost: 0 }, 0n],
    [{ cost: 100_000 }, 100_000_000_000_000n],
    [{}, undefined],
    [{ cost_in_usd_ticks: null, cost: null }, undefined],
  ]
  for (const [usage, nanos] of told) assert.equal(toldCost(usage).toldCost, nanos, JSON.stringify(usage))
})

test('a cost that cannot be is not believed', () => {
  const inParts = [{}, { total_cost: -1 }, { total_cost: '1' }, { total_cost: 1, currency: 'EUR' }, { total_cost: { total_cost: 1 } }]
  for (const cost of [-1, Number.NaN, Number.POSITIVE_INFINITY, 100_001, 1e300, '0.5', true, ...inParts])
    for (const usage of [{ cost }, { cost_in_usd_ticks: typeof cost === 'number' ? cost * 1e10 : cost }])
      assert.deepEqual(toldCost(usage), {}, JSON.stringify(usage))
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
