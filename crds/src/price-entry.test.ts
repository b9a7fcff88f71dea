import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkObject } from './check.ts'
import { PriceEntrySchema } from './price-entry.ts'

const ENTRY = { provider: 'openai', model: 'gpt-4o' }

function problemsOf(entry: object): string[] {
  const checked = checkObject({
    apiVersion: 'farebox.dev/v1alpha1',
    kind: 'PriceBook',
    metadata: { name: 'prices' },
    spec: { entries: [entry] },
  })
  return checked.status === 'ok' ? [] : checked.problems.map(({ field, message }) => `${field} ${message}`)
}

test('an entry may be partial: what it leaves out has no price of its own, not the price zero', () => {
  const entry = PriceEntrySchema.parse(ENTRY)
  assert.deepEqual(entry, { ...ENTRY, steps: [], serviceTierPercent: {}, toolFees: {} })
  assert.equal('input' in entry, false)
  assert.equal(PriceEntrySchema.parse({ ...ENTRY, cacheRead: '0' }).cacheRead, '0')
})

test('prices are decimals in quotes, to six digits, for each kind', () => {
  const kinds = ['input', 'output', 'cacheRead', 'cacheReadAudio', 'cacheWriteShort', 'cacheWriteLong', 'audioInput', 'audioOutput']
  for (const kind of [...kinds, 'imageInput', 'imageOutput', 'perMillionCharacters']) {
    assert.deepEqual(problemsOf({ ...ENTRY, [kind]: '0.000001' }), [])
    assert.match(problemsOf({ ...ENTRY, [kind]: 2.5 })[0] ?? '', /^spec\.entries\[0\]\.\w+ must be a decimal in quotes, such as "2\.50"/)
    assert.equal(problemsOf({ ...ENTRY, [kind]: '0.0000001' }).length, 1)
  }
})

test('a price per token, as other lists have it, is told what the unit is', () => {
  const message = (unit: string): string =>
    `must be below 10 million, with at most 6 digits after the point: it is US dollars per million ${unit}`
  assert.deepEqual(problemsOf({ ...ENTRY, input: '0.0000025' }), [`spec.entries[0].input ${message('tokens')}`])
  assert.deepEqual(problemsOf({ ...ENTRY, output: '10000000' }), [`spec.entries[0].output ${message('tokens')}`])
  assert.deepEqual(problemsOf({ ...ENTRY, perMillionCharacters: '0.0000025' }), [
    `spec.entries[0].perMillionCharacters ${message('characters')}`,
  ])
  assert.match(problemsOf({ ...ENTRY, perImage: '0.0000000001' })[0] ?? '', /at most 9 digits after the point: it is US dollars for one$/)
})

test('what is not counted in tokens has a price to nine digits, and none above a step', () => {
  for (const unit of ['perSecond', 'perImage']) {
    assert.deepEqual(problemsOf({ ...ENTRY, [unit]: '0.000000001' }), [])
    assert.match(problemsOf({ ...ENTRY, [unit]: 0.04 })[0] ?? '', /^spec\.entries\[0\]\.\w+ must be a decimal in quotes, such as "0\.01"/)
    assert.equal(problemsOf({ ...ENTRY, [unit]: '0.0000000001' }).length, 1)
    assert.match(problemsOf({ ...ENTRY, steps: [{ inputOver: 1, [unit]: '1' }] })[0] ?? '', /is not a field here/)
  }
})

test('long-context steps rise, and there are at most eight', () => {
  const steps = (...inputs: readonly number[]): object => ({ ...ENTRY, steps: inputs.map((inputOver) => ({ inputOver, input: '5' })) })
  assert.deepEqual(problemsOf(steps(1, 2, 3, 4, 5, 6, 7, 8)), [])
  assert.deepEqual(problemsOf(steps(200_000, 200_000)), ['spec.entries[0].steps inputOver must rise from step to step'])
  assert.deepEqual(problemsOf(steps(1, 2, 3, 4, 5, 6, 8, 7)), ['spec.entries[0].steps inputOver must rise from step to step'])
  assert.deepEqual(problemsOf(steps(1, 2, 3, 4, 5, 6, 7, 8, 9)), ['spec.entries[0].steps must be at most 8 items long'])
})

test('service tiers are named in lower case and have a factor above zero', () => {
  assert.deepEqual(problemsOf({ ...ENTRY, serviceTierPercent: { flex: 50, priority: 200 } }), [])
  assert.deepEqual(problemsOf({ ...ENTRY, serviceTierPercent: { Flex: 50 } }), [
    'spec.entries[0].serviceTierPercent keys must be service tiers, in lower case',
  ])
  assert.equal(problemsOf({ ...ENTRY, serviceTierPercent: { flex: 0 } }).length, 1)
})

test('a misspelt field is named with the one that was meant', () => {
  assert.deepEqual(problemsOf({ ...ENTRY, cacheReed: '1' }), ['spec.entries[0].cacheReed is not a field here (did you mean cacheRead?)'])
})
