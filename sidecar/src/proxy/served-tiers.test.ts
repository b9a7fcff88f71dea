import assert from 'node:assert/strict'
import { test } from 'node:test'
import { makeUpstream } from '../../../test/support/make.ts'
import { ServedTiers, TIER_KEPT_MS } from './served-tiers.ts'

const HERE = makeUpstream({ name: 'openai', provider: 'openai', baseUrl: 'https://api.openai.com/v1' })

test('the last answer counts, of a model of a server, and one that says nothing changes nothing', () => {
  const tiers = new ServedTiers()
  assert.equal(tiers.find(HERE, 'gpt-5'), null)
  tiers.saw(HERE, 'gpt-5', 'priority')
  tiers.saw(HERE, 'gpt-5', null)
  assert.equal(tiers.find(HERE, 'gpt-5'), 'priority')
  assert.equal(tiers.find(HERE, 'gpt-5-mini'), null)
  assert.equal(tiers.find({ ...HERE, baseUrl: 'https://eu.api.openai.com/v1' }, 'gpt-5'), null)
  tiers.saw(HERE, 'gpt-5', 'flex')
  assert.equal(tiers.find(HERE, 'gpt-5'), 'flex')
})

test('a dear tier stays for an hour after it was seen, whatever is served as a standard call meanwhile', () => {
  let upMs = 0
  const tiers = new ServedTiers(() => upMs)
  tiers.saw(HERE, 'gpt-5', 'default')
  tiers.saw(HERE, 'gpt-5', 'priority')
  upMs = 3_599_999
  tiers.saw(HERE, 'gpt-5', 'default')
  assert.equal(tiers.find(HERE, 'gpt-5'), 'priority')
  upMs += 1
  tiers.saw(HERE, 'gpt-5', 'default')
  assert.equal(tiers.find(HERE, 'gpt-5'), 'default')
})

test('what no answer has confirmed for a day is forgotten', () => {
  let upMs = 0
  const tiers = new ServedTiers(() => upMs)
  tiers.saw(HERE, 'gpt-5', 'priority')
  upMs = TIER_KEPT_MS - 1
  assert.equal(tiers.find(HERE, 'gpt-5'), 'priority')
  tiers.saw(HERE, 'gpt-5', 'priority')
  upMs += TIER_KEPT_MS - 1
  assert.equal(tiers.find(HERE, 'gpt-5'), 'priority')
  upMs += 1
  assert.equal(tiers.find(HERE, 'gpt-5'), null)
})
