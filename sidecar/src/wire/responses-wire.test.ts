import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ModelRequest } from '../core/request.ts'
import { azureWire } from './azure.ts'
import { compactWire, responsesWire } from './responses-wire.ts'
import type { CallContext, Wire } from './wire.ts'

const UPSTREAM = { provider: 'openai', outputLimitField: 'max_completion_tokens' as const, deployments: [] }

test('the provider is asked to count beside the call, wherever that is', async () => {
  const paths: readonly (readonly [path: string, counted: string])[] = [
    ['/responses', '/responses/input_tokens'],
    ['/responses/compact', '/responses/input_tokens'],
    ['/openai/v1/responses?api-version=preview', '/openai/v1/responses/input_tokens?api-version=preview'],
    ['/openai/responses?api-version=2025-04-01-preview', '/openai/responses/input_tokens?api-version=2025-04-01-preview'],
  ]
  for (const [path, counted] of paths) {
    const call: CallContext = { upstream: UPSTREAM, path, contentType: 'application/json' }
    const asked = responsesWire.counts?.ask(await read(responsesWire, call), call)
    assert.equal(asked?.path, counted)
  }
})

test('an unknown history is told from a count that nobody gives', () => {
  const isUnknown = (status: number, message: string): boolean | undefined =>
    responsesWire.counts?.isUnknown(status, JSON.stringify({ error: { message } }))
  assert.equal(isUnknown(400, "Previous response with id 'resp_1' not found."), true)
  assert.equal(isUnknown(404, "Conversation with id 'conv_1' not found."), true)
  assert.equal(isUnknown(404, "Item with id 'msg_1' not found. Items are not persisted when `store` is set to false."), true)
  assert.equal(isUnknown(404, 'Invalid URL (POST /v1/responses/input_tokens)'), false)
  assert.equal(isUnknown(404, 'Resource not found'), false)
  assert.equal(
    isUnknown(400, "Tool choice 'previous_response_not_found' not found in 'tools' parameter."),
    false,
    'what it quotes is the app’s',
  )
  assert.equal(isUnknown(400, "Invalid value: 'item with id x not found'."), false)
  const coded = JSON.stringify({ error: { message: 'Not there.', code: 'previous_response_not_found' } })
  assert.deepEqual(
    [responsesWire.counts?.isUnknown(400, coded), responsesWire.counts?.isUnknown(404, 'response with id x not found')],
    [true, false],
  )
  assert.equal(isUnknown(500, "Previous response with id 'resp_1' not found."), false)
})

test('what the provider objects to is told by its words', () => {
  const objection = (status: number, body: string): string | null => responsesWire.objection(status, body)
  assert.equal(objection(400, "Item 'rs_1' of type 'reasoning' was provided without its required following item."), 'edits')
  assert.equal(objection(400, "Item 'msg_1' of type 'message' was provided without its required 'reasoning' item: 'rs_1'."), 'edits')
  assert.equal(objection(400, 'No tool output found for function call call_1.'), 'edits')
  assert.equal(objection(400, "Unsupported parameter: 'reasoning.effort' is not supported with this model."), 'swap')
  assert.equal(objection(404, 'The model does not exist'), 'swap')
  for (const status of [401, 402, 429, 500]) assert.equal(objection(status, 'No tool output found'), null)
})

test('a prompt of ours is kept nowhere, and its bound is one that the provider takes', () => {
  const call: CallContext = { upstream: UPSTREAM, path: '/responses', contentType: '' }
  const prompt = responsesWire.prompt({ model: 'm', system: 'Summarise.', user: 'A: Hi', maxTokens: 5, call })
  assert.equal(prompt?.path, '/responses')
  assert.deepEqual(JSON.parse(prompt?.body.toString() ?? ''), {
    model: 'm',
    instructions: 'Summarise.',
    input: 'A: Hi',
    max_output_tokens: 16,
    store: false,
  })
})

test('nothing of ours goes into a compaction', async () => {
  const call: CallContext = { upstream: UPSTREAM, path: '/responses/compact', contentType: 'application/json' }
  const request = await read(compactWire, call)
  const body = Buffer.from('{"output":[]}')
  assert.equal(compactWire.addNotice(body, 'x').body, body)
  assert.equal(compactWire.synthetic(request, { text: 'x', id: 'y', createdS: 1 }), null)
  assert.equal(compactWire.prompt({ model: 'm', system: '', user: '', maxTokens: 5, call }), null)
})

async function read(wire: Wire, call: CallContext): Promise<ModelRequest> {
  const parsed = await wire.parse(Buffer.from(JSON.stringify({ model: 'm', input: 'x' })), call)
  assert.ok(parsed.status === 'ok')
  return parsed.request
}

test('at Azure it counts for the deployment that would be called', async () => {
  const deployments = [
    { name: 'desk', model: 'gpt-4o' },
    { name: 'small', model: 'gpt-4o-mini' },
  ]
  const call: CallContext = { upstream: { ...UPSTREAM, deployments }, path: '/openai/v1/responses', contentType: 'application/json' }
  const wire = azureWire(responsesWire)
  const parsed = await wire.parse(Buffer.from('{"model":"desk","input":"Hi","max_output_tokens":90}'), call)
  assert.ok(parsed.status === 'ok')
  const bodies = [undefined, { model: 'gpt-4o-mini' }].map((change) => wire.counts?.ask(parsed.request, call, change).body.toString())
  assert.deepEqual(bodies, ['{"model":"desk","input":"Hi"}', '{"model":"small","input":"Hi"}'])
})
