import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as fc from 'fast-check'
import { makeConfig } from '../../../test/support/make.ts'
import { ConfigInForce, precedence } from './in-force.ts'
import type { ConfigId, ConfigSource, Precedence } from './in-force.ts'

type Known = ConfigId & { readonly source: ConfigSource }
const known = (version: number, hash: string, source: ConfigSource, budget = 'shop/support'): Known => ({ budget, version, hash, source })

const CASES: readonly (readonly [what: string, inForce: Known | null, offered: Known, withOperator: Precedence, without: Precedence])[] = [
  ['the first', null, known(1, 'a', 'mount'), 'taken', 'taken'],
  ['newer by mount than by stream', known(1, 'a', 'stream'), known(2, 'b', 'mount'), 'taken', 'taken'],
  ['newer by stream than by mount', known(1, 'a', 'mount'), known(2, 'b', 'stream'), 'taken', 'taken'],
  ['older by stream', known(2, 'b', 'mount'), known(1, 'a', 'stream'), 'older', 'older'],
  ['older by mount', known(2, 'b', 'stream'), known(1, 'a', 'mount'), 'older', 'older'],
  ['the same again', known(2, 'b', 'mount'), known(2, 'b', 'stream'), 'same', 'same'],
  ['of the same version, by stream', known(2, 'b', 'mount'), known(2, 'c', 'stream'), 'taken', 'taken'],
  ['of the same version, by mount, after the stream', known(2, 'b', 'stream'), known(2, 'c', 'mount'), 'older', 'older'],
  ['of the same version, by mount, after the mount', known(2, 'b', 'mount'), known(2, 'c', 'mount'), 'taken', 'taken'],
  ['another budget by stream, of any version', known(9, 'a', 'mount'), known(1, 'b', 'stream', 'shop/elder'), 'taken', 'older'],
  ['another budget by mount', known(1, 'a', 'stream'), known(9, 'b', 'mount', 'shop/elder'), 'older', 'taken'],
  ['the mount, after the last good one was of another', known(1, 'a', 'lastGood'), known(9, 'b', 'mount', 'shop/elder'), 'older', 'taken'],
  [
    'an older mount, after the last good one was of another',
    known(9, 'a', 'lastGood'),
    known(1, 'b', 'mount', 'shop/elder'),
    'older',
    'taken',
  ],
]
for (const [what, inForce, offered, withOperator, without] of CASES) {
  test(`${what}: ${withOperator} with an operator, ${without} without one`, () => {
    assert.equal(precedence(inForce, offered, true), withOperator)
    assert.equal(precedence(inForce, offered, false), without)
  })
}

test('within a budget the version in force never falls, in whatever order and whichever ways configs come', () => {
  const offer = fc.record({
    version: fc.integer({ min: 1, max: 5 }),
    hash: fc.constantFrom('a', 'b'),
    source: fc.constantFrom('mount', 'stream', 'lastGood'),
  })
  fc.assert(
    fc.property(fc.array(offer), fc.boolean(), (offers, hasOperator) => {
      let inForce: Known | null = null
      for (const { version, hash, source } of offers) {
        const next = known(version, hash, source)
        const before: Known | null = inForce
        if (precedence(before, next, hasOperator) === 'taken') inForce = next
        assert.ok((inForce?.version ?? 0) >= (before?.version ?? 0))
      }
      assert.equal(inForce?.version, offers.length === 0 ? undefined : Math.max(...offers.map(({ version }) => version)))
    }),
  )
})

describe('a refused config', () => {
  test('is told once for each reason, and forgotten with the next good one', () => {
    const told: string[] = []
    const desk = new ConfigInForce({ accepted: () => undefined, rejected: ({ reason }) => told.push(reason) }, { hasOperator: true })
    const bad = { version: 3, hash: 'b', reason: 'upstreams: too few' }
    desk.refuse(bad)
    desk.refuse({ ...bad })
    desk.refuse({ ...bad, version: 4 })
    assert.deepEqual(told, [bad.reason, bad.reason])
    assert.equal(desk.refused?.version, 4)
    assert.equal(desk.inForce, null)
  })
})

test('a config that was checked and cannot be put in force is refused, and the one before stays', () => {
  const told: string[] = []
  const desk = new ConfigInForce(
    {
      accepted: ({ config }) => {
        if (config.version === 2) throw new RangeError('a price of no model')
      },
      rejected: ({ reason }) => told.push(reason),
    },
    { hasOperator: true },
  )
  const offer = (version: number, source: ConfigSource) =>
    desk.offer({ config: makeConfig('http://127.0.0.1:1', undefined, { version }), later: [] }, source)
  assert.deepEqual([offer(1, 'mount'), offer(2, 'stream'), offer(2, 'mount')], ['taken', 'unusable', 'unusable'])
  assert.equal(desk.inForce?.version, 1)
  assert.deepEqual(told, ['cannot be put in force: a price of no model'])
  assert.equal(desk.refused?.version, 2)
  assert.equal(offer(3, 'stream'), 'taken')
  assert.equal(desk.refused, null)
})
