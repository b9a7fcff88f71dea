import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { usageOf } from '@farebox/crds/usage.ts'
import type { JsonObject } from '../core/request.ts'
import { addResponseNotice, readCompaction, readCount, readResponse } from './responses-answer.ts'

const NOTICE = '\n\n---\n"Note": a smaller model \\ é'
const USAGE = {
  input_tokens: 100,
  input_tokens_details: { cached_tokens: 40, cache_write_tokens: 0 },
  output_tokens: 30,
  output_tokens_details: { reasoning_tokens: 10 },
  total_tokens: 130,
}
const SPOKEN = message('Hello.')
const CALL = { type: 'function_call', id: 'fc_1', call_id: 'call_1', name: 'look_up', arguments: '{}', status: 'completed' }

describe('an answer', () => {
  test('says what it used, who made it, and what it calls', () => {
    const {
      facts,
      message: spoken,
      messages,
      readable,
    } = readResponse(bytes({ output: [{ type: 'reasoning', id: 'rs_1', summary: [] }, SPOKEN, CALL] }))
    assert.deepEqual(
      [facts.model, facts.serviceTier, facts.responseId, facts.finishReason, facts.toolNames, facts.isSum, facts.error],
      ['gpt-4o-2024-08-06', 'default', 'resp_1', 'completed', ['look_up'], false, null],
    )
    assert.deepEqual(facts.usage, usageOf({ uncachedInput: 60, cacheReadInput: 40, output: 30 }))
    assert.equal(spoken?.texts[0]?.text, 'Hello.')
    assert.deepEqual(
      messages?.map((each) => each.toolCalls.length),
      [0, 1],
    )
    assert.ok(readable)
  })

  test('whose context was read more than once says so', () => {
    for (const item of [
      { type: 'web_search_call', id: 'ws_1', status: 'completed' },
      { type: 'compaction', id: 'cmp_1', encrypted_content: 'x' },
    ])
      assert.equal(readResponse(bytes({ output: [item, SPOKEN] })).facts.isSum, true)
    assert.equal(readResponse(bytes({ output: [{ type: 'compaction', id: 'cmp_1', encrypted_content: 'x' }] })).facts.keptNames?.length, 1)
    // xAI's searches of X stand among the items as calls of the app's own.
    const usage = { input_tokens: 7_583, output_tokens: 3_192, num_server_side_tools_used: 3, cost_in_usd_ticks: 292_331_500 }
    const { facts } = readResponse(bytes({ usage, output: [CALL, SPOKEN] }))
    assert.deepEqual([facts.isSum, facts.toldCost], [true, 29_233_150n])
    assert.equal(readResponse(bytes({ usage: { ...usage, num_server_side_tools_used: 0 }, output: [SPOKEN] })).facts.isSum, false)
  })

  test('names the calls behind which it was read again, from above', () => {
    const usage = { input_tokens: 7_583, output_tokens: 3_192 }
    const calls = (output: readonly JsonObject[], more: JsonObject = {}): number | undefined =>
      readResponse(bytes({ usage: { ...usage, ...more }, output })).facts.hostedCalls
    const search = { type: 'web_search_call', id: 'ws_1', status: 'failed' }
    assert.equal(calls([{ type: 'reasoning' }, search, search, { type: 'compaction' }, { type: 'of_a_later_kind' }, SPOKEN]), 4)
    assert.equal(calls([search, CALL, SPOKEN], { num_server_side_tools_used: 3 }), 3)
    assert.equal(
      readResponse(bytes({ usage: null, output: [search, SPOKEN] })).facts.hostedCalls,
      undefined,
      'not before all of it is there',
    )
  })

  test('that was cut at its bound, or failed, says that', () => {
    const short = readResponse(bytes({ status: 'incomplete', incomplete_details: { reason: 'max_output_tokens' } })).facts
    assert.deepEqual([short.finishReason, short.error], ['max_output_tokens', null])
    const failed = readResponse(bytes({ status: 'failed', error: { code: 'server_error', message: 'secret words' }, usage: null })).facts
    assert.deepEqual([failed.error, failed.usage], ['server_error', null])
  })

  test('that is none is not believed', () => {
    for (const body of ['', 'not json', '[]', '{"half":']) {
      const read = readResponse(Buffer.from(body))
      assert.deepEqual([read.readable, read.facts.usage, read.facts.outputBytes], [false, null, Buffer.byteLength(body)])
    }
  })
})

test('of a compaction only the usage counts, and what was sealed', () => {
  const read = readCompaction(
    bytes({
      object: 'response.compaction',
      output: [
        { role: 'user', type: 'message', content: [] },
        { type: 'compaction', encrypted_content: 'x' },
      ],
    }),
  )
  assert.deepEqual([read.facts.responseId, read.message, read.facts.usage?.output, read.facts.keptNames?.length], [null, null, 30, 1])
})

describe('a notice', () => {
  test('goes to the end of the last words, and every other byte stays', () => {
    const written = JSON.stringify(
      response({
        output: [message('One.'), { ...SPOKEN, content: [...SPOKEN.content, { type: 'output_text', text: 'Two.', annotations: [] }] }],
      }),
      null,
      1,
    )
    const { body, added } = addResponseNotice(Buffer.from(written), NOTICE)
    assert.ok(added)
    assert.equal(body.toString(), written.replace('"Two."', `"Two.${JSON.stringify(NOTICE).slice(1, -1)}"`))
  })

  test('may follow words that were cut at their bound', () => {
    for (const incomplete_details of [{ reason: 'max_output_tokens' }, {}, null])
      assert.ok(addResponseNotice(bytes({ status: 'incomplete', incomplete_details }), NOTICE).added)
  })

  test('follows nothing else', () => {
    const others: readonly JsonObject[] = [
      { output: [SPOKEN, CALL] },
      { output: [CALL] },
      { output: [] },
      { output: [SPOKEN, { type: 'reasoning', id: 'rs_1', summary: [] }] },
      { output: [{ ...SPOKEN, content: [] }] },
      { output: [message('')] },
      { output: [{ ...SPOKEN, content: [{ type: 'refusal', refusal: 'No.' }] }] },
      { output: [{ ...SPOKEN, content: [{ type: 'refusal', refusal: 'No.' }, ...SPOKEN.content] }] },
      { status: 'incomplete', incomplete_details: { reason: 'content_filter' } },
      { status: 'failed' },
      { status: 'in_progress' },
    ]
    for (const other of others) {
      const body = bytes(other)
      assert.deepEqual(addResponseNotice(body, NOTICE), { body, added: false }, JSON.stringify(other))
    }
    const broken = Buffer.from('{"output":')
    assert.equal(addResponseNotice(broken, NOTICE).body, broken)
  })
})

test('a count is a whole number, or none', () => {
  assert.equal(readCount(Buffer.from('{"object":"response.input_tokens","input_tokens":12}')), 12)
  for (const body of ['{}', '{"input_tokens":-1}', '{"input_tokens":1.5}', '{"input_tokens":"12"}', 'x'])
    assert.equal(readCount(Buffer.from(body)), null)
})

function message(text: string): JsonObject & { readonly content: readonly JsonObject[] } {
  return {
    id: 'msg_1',
    type: 'message',
    role: 'assistant',
    status: 'completed',
    content: [{ type: 'output_text', text, annotations: [], logprobs: [] }],
  }
}

function response(more: JsonObject): JsonObject {
  return {
    id: 'resp_1',
    object: 'response',
    status: 'completed',
    error: null,
    incomplete_details: null,
    model: 'gpt-4o-2024-08-06',
    service_tier: 'default',
    output: [SPOKEN],
    usage: USAGE,
    ...more,
  }
}

function bytes(more: JsonObject): Buffer {
  return Buffer.from(JSON.stringify(response(more)))
}
