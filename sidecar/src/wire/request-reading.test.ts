import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkedModel, InvalidField, MODEL_LENGTH_MAX } from './request-reading.ts'

test('a model is a text of some length, with no half of a surrogate pair', () => {
  for (const model of ['gpt-4o', 'm\ud83d\ude00', 'm'.repeat(MODEL_LENGTH_MAX)]) assert.equal(checkedModel(model), model)
  for (const model of [undefined, null, 7, '', 'm'.repeat(MODEL_LENGTH_MAX + 1), 'gpt-4o\ud83d', '\ude00'])
    assert.throws(
      () => checkedModel(model),
      (error) => error instanceof InvalidField && error.field === 'model',
    )
})
