import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { SEED } from './seed.ts'

test('a property draws the samples of every run, and tells their seed when it fails', () => {
  assert.throws(() => fc.assert(fc.property(fc.nat(), (number) => number < 0)), new RegExp(`\\{ seed: ${SEED},`))
})
