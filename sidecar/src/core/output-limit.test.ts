import assert from 'node:assert/strict'
import { test } from 'node:test'
import { limitFieldOf, limitToWrite } from './output-limit.ts'
import type { LimitFieldInput } from './output-limit.ts'
import type { OutputLimit } from './request.ts'

const OLD = 'max_tokens'
const NEW = 'max_completion_tokens'

function fieldOf(input: Partial<LimitFieldInput>, more: { readonly onlyOutputField?: string } = {}): string {
  const request = { wire: 'chat', outputField: NEW, ...more } as const
  return limitFieldOf(request, { refused: null, learned: null, usual: NEW, ...input })
}

test('the field is the usual one, but for what was learned of a model, and never one that was refused in this turn', () => {
  assert.equal(fieldOf({}), NEW)
  assert.equal(fieldOf({ usual: OLD }), OLD)
  assert.equal(fieldOf({ learned: OLD }), OLD)
  assert.equal(fieldOf({ refused: OLD, learned: OLD }), NEW)
  assert.equal(fieldOf({ refused: NEW, learned: OLD }), OLD, 'another call learned it meanwhile')
})

test('where the request allows one alone it is that, unless it is refused; other formats have one field', () => {
  assert.equal(fieldOf({ learned: NEW }, { onlyOutputField: OLD }), OLD)
  assert.equal(fieldOf({ refused: OLD }, { onlyOutputField: OLD }), NEW)
  const request = { wire: 'responses', outputField: 'max_output_tokens' } as const
  assert.equal(limitFieldOf(request, { refused: OLD, learned: OLD, usual: OLD }), 'max_output_tokens')
})

function written(field: string, outputLimit: OutputLimit | null): OutputLimit | null {
  return limitToWrite({ wire: 'chat', generates: true, outputLimit }, 100, field)
}

test('a bound is written where the client has none, or a larger one', () => {
  assert.deepEqual(written(NEW, null), { field: NEW, tokens: 100 })
  assert.equal(written(NEW, { field: OLD, tokens: 100 }), null)
  assert.equal(written(NEW, { field: NEW, tokens: 7 }), null)
  assert.deepEqual(written(NEW, { field: OLD, tokens: 101 }), { field: OLD, tokens: 100 })
})

test('a bound of the client in a field that the server may not read goes into the other, as it is', () => {
  assert.deepEqual(written(OLD, { field: NEW, tokens: 7 }), { field: OLD, tokens: 7 })
  assert.deepEqual(written(OLD, { field: NEW, tokens: 700 }), { field: OLD, tokens: 100 })
})

test('what writes nothing is not bounded', () => {
  assert.equal(limitToWrite({ wire: 'embeddings', generates: false, outputLimit: null }, 1, OLD), null)
})
