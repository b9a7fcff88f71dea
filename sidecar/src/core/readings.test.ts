import assert from 'node:assert/strict'
import { test } from 'node:test'
import { usageOf } from '@farebox/crds/usage.ts'
import { readAtOnce } from './readings.ts'

const READINGS = { most: 4, longest: 83_000, contextTokens: 1_000_000 }
const SUM = { isSum: true }

function read(input: number, output: number, readings = READINGS): number {
  return readAtOnce(usageOf({ uncachedInput: input - 1_000, cacheReadInput: 1_000, output }), SUM, readings)
}

test('of a sum, no more was read at once than the input and all results of tools, with what the model wrote', () => {
  assert.equal(read(320_000, 500), 83_500)
  assert.equal(read(40_000, 500), 40_000, 'nor more than all of it')
  assert.equal(read(900_000, 500, { most: 10, longest: 500_000, contextTokens: 200_000 }), 200_000, 'nor than the model reads')
})

test('where more was read than was thought possible, one reading is as long as an even share at least', () => {
  assert.equal(read(1_200_001, 500), 300_001)
})

test('where it is known how many were made, the share is of those', () => {
  const low = { most: 11, longest: 160_000, contextTokens: 1_000_000 }
  const usage = usageOf({ uncachedInput: 420_000, output: 500 })
  assert.equal(readAtOnce(usage, SUM, low), 160_500, 'an estimate a quarter too low')
  assert.equal(readAtOnce(usage, { ...SUM, hostedCalls: 1 }, low), 210_000)
  assert.equal(readAtOnce(usage, { ...SUM, hostedCalls: 2 }, low), 160_500)
  assert.equal(readAtOnce(usage, { ...SUM, hostedCalls: 1 }, { ...low, longest: 300_000 }), 300_500, 'which is no more than a mean')
  assert.equal(readAtOnce(usage, { ...SUM, hostedCalls: 40 }, { ...low, most: 2 }), 210_000, 'more than were held for')
})

test('what is no sum, or was held for as one reading, was read at once', () => {
  const usage = usageOf({ uncachedInput: 320_000 })
  assert.equal(readAtOnce(usage, {}, READINGS), 320_000)
  assert.equal(readAtOnce(usage, null, READINGS), 320_000)
  assert.equal(readAtOnce(usage, SUM, null), 320_000)
})
