import assert from 'node:assert/strict'
import { test } from 'node:test'
import { limitToWrite } from './output-limit.ts'
import type { OutputLimit } from './request.ts'

const OLD = 'max_tokens'
const NEW = 'max_completion_tokens'

function written(outputField: string, outputLimit: OutputLimit | null, isOther = false): OutputLimit | null {
  return limitToWrite({ wire: 'chat', generates: true, outputField, outputLimit }, 100, isOther)
}

test('a bound goes into the field that the upstream reads, where the client has none of its own', () => {
  assert.deepEqual(written(NEW, null), { field: NEW, tokens: 100 })
  assert.deepEqual(written(OLD, null), { field: OLD, tokens: 100 })
  assert.deepEqual(written(NEW, null, true), { field: OLD, tokens: 100 }, 'which it refused')
})

test('a bound of the client stays where it is, smaller where it must be', () => {
  assert.equal(written(NEW, { field: OLD, tokens: 100 }), null)
  assert.equal(written(NEW, { field: NEW, tokens: 7 }), null)
  assert.deepEqual(written(NEW, { field: OLD, tokens: 101 }), { field: OLD, tokens: 100 })
})

test('a bound of the client in a field that the upstream may not read goes into the other, as it is', () => {
  assert.deepEqual(written(OLD, { field: NEW, tokens: 7 }), { field: OLD, tokens: 7 })
  assert.deepEqual(written(OLD, { field: NEW, tokens: 700 }), { field: OLD, tokens: 100 })
})

test('what writes nothing is not bounded, and other formats have one field', () => {
  assert.equal(limitToWrite({ wire: 'embeddings', generates: false, outputField: OLD, outputLimit: null }, 1, false), null)
  const responses = { wire: 'responses', generates: true, outputField: 'max_output_tokens', outputLimit: null } as const
  assert.deepEqual(limitToWrite(responses, 9, true), { field: 'max_output_tokens', tokens: 9 })
})
