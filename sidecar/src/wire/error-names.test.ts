import assert from 'node:assert/strict'
import { test } from 'node:test'
import { errorNames } from './error-names.ts'

const FIELDS = new Set(['model', 'messages', 'thinking', 'output_config'])

test('an error is told by its names and the parameters that it speaks of', () => {
  const openai = {
    message: "Unsupported value: 'minimal'.",
    type: 'invalid_request_error',
    param: 'reasoning.effort',
    code: 'unsupported_value',
  }
  assert.deepEqual(errorNames(JSON.stringify({ error: openai }), FIELDS), {
    type: 'invalid_request_error',
    code: 'unsupported_value',
    param: 'reasoning.effort',
    mentions: [],
  })
  const anthropic = { type: 'invalid_request_error', message: 'This model does not support the effort parameter, nor thinking.' }
  assert.deepEqual(errorNames(JSON.stringify({ type: 'error', error: anthropic }), FIELDS), {
    type: 'invalid_request_error',
    mentions: ['thinking', 'effort'],
  })
})

test('nothing that the user said gets out by it', () => {
  const error = { message: 'Invalid: "my secret plan"', param: 'my secret plan', code: 'x'.repeat(101), type: 400 }
  assert.deepEqual(errorNames(JSON.stringify({ error }), FIELDS), { mentions: [] })
  for (const body of ['', 'no JSON', '[]', '{"error":"my secret plan"}', '{"error":null}'])
    assert.deepEqual(errorNames(body, FIELDS), { mentions: [] }, body)
})
