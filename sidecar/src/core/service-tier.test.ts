import assert from 'node:assert/strict'
import { test } from 'node:test'
import { chosenByAccount, possibleTiers } from './service-tier.ts'

test('what an answer was served in is the choice of its account where nobody asked for it', () => {
  for (const [asked, served, chosen] of [
    [null, 'priority', 'priority'],
    ['auto', 'priority', 'priority'],
    ['unspecified', 'flex', 'flex'],
    ['priority', 'priority', null],
    ['default', 'default', null],
    ['priority', 'default', null], // refused what was asked for: nothing of what the account has
    [null, 'standard+standard+us', 'standard+standard+us'],
    ['fast+auto', 'standard+fast+us', 'standard+us'],
    ['us', 'standard+standard+us', null],
    [null, 'auto', null], // not decided yet
    [null, null, null],
    [null, 'p'.repeat(1_000), null],
  ] as const)
    assert.equal(chosenByAccount(asked, served), chosen, `${asked} ${served}`)
})

test('a call may be served in the standard tier, the one that it asks for, or what its account has for what it leaves open', () => {
  assert.deepEqual(possibleTiers(null, null), [null, 'auto'])
  assert.deepEqual(possibleTiers(null, 'priority'), [null, 'auto', 'priority'])
  assert.deepEqual(possibleTiers('auto', 'priority'), [null, 'auto', 'priority'])
  assert.deepEqual(possibleTiers('fast+auto', 'standard+us'), [null, 'fast+auto', 'fast+standard+us'])
  for (const named of ['default', 'flex', 'priority', 'global', 'fast+us'])
    assert.deepEqual(possibleTiers(named, 'ultrafast'), [null, named], 'not where it names all of it')
})
