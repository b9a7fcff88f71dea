import assert from 'node:assert/strict'
import { test } from 'node:test'
import { makeUpstream } from '../../../test/support/make.ts'
import { KeyedHash } from '../core/keyed-hash.ts'
import { NO_HEADERS } from './credentials.ts'
import type { Turn } from './exchange.ts'
import { accountOf, ONE_ACCOUNT, ServedTiers, TIER_KEPT_MS } from './served-tiers.ts'

const HERE = makeUpstream({ name: 'openai', provider: 'openai', baseUrl: 'https://api.openai.com/v1' })

test('the last answer counts, of a model of a server, and one that says nothing changes nothing', () => {
  const tiers = new ServedTiers()
  assert.equal(tiers.find(HERE, 'gpt-5', 'a'), null)
  tiers.saw(HERE, 'gpt-5', 'a', 'priority')
  tiers.saw(HERE, 'gpt-5', 'a', null)
  assert.equal(tiers.find(HERE, 'gpt-5', 'a'), 'priority')
  assert.equal(tiers.find(HERE, 'gpt-5-mini', 'a'), null)
  assert.equal(tiers.find({ ...HERE, baseUrl: 'https://eu.api.openai.com/v1' }, 'gpt-5', 'a'), null)
  tiers.saw(HERE, 'gpt-5', 'a', 'flex')
  assert.equal(tiers.find(HERE, 'gpt-5', 'a'), 'flex')
})

test('a dear tier stays for an hour after it was seen, whatever is served as a standard call meanwhile', () => {
  let upMs = 0
  const tiers = new ServedTiers(() => upMs)
  tiers.saw(HERE, 'gpt-5', 'a', 'default')
  tiers.saw(HERE, 'gpt-5', 'a', 'priority')
  upMs = 3_599_999
  tiers.saw(HERE, 'gpt-5', 'a', 'default')
  assert.equal(tiers.find(HERE, 'gpt-5', 'a'), 'priority')
  upMs += 1
  tiers.saw(HERE, 'gpt-5', 'a', 'default')
  assert.equal(tiers.find(HERE, 'gpt-5', 'a'), 'default')
})

test('what no answer has confirmed for a day is forgotten', () => {
  let upMs = 0
  const tiers = new ServedTiers(() => upMs)
  tiers.saw(HERE, 'gpt-5', 'a', 'priority')
  upMs = TIER_KEPT_MS - 1
  assert.equal(tiers.find(HERE, 'gpt-5', 'a'), 'priority')
  tiers.saw(HERE, 'gpt-5', 'a', 'priority')
  upMs += TIER_KEPT_MS - 1
  assert.equal(tiers.find(HERE, 'gpt-5', 'a'), 'priority')
  upMs += 1
  assert.equal(tiers.find(HERE, 'gpt-5', 'a'), null)
})

test('what one account has set says nothing of another', () => {
  const tiers = new ServedTiers()
  tiers.saw(HERE, 'gpt-5', 'a', 'priority')
  tiers.saw(HERE, 'gpt-5', 'b', 'default')
  assert.deepEqual(
    ['a', 'b', ONE_ACCOUNT].map((account) => tiers.find(HERE, 'gpt-5', account)),
    ['priority', 'default', null],
  )
})

test('an account is known by the key that chooses it, in whichever place, and by its project; never by the words of either', () => {
  const gateway = { chainKey: new KeyedHash(Buffer.alloc(32)) } as unknown as Turn['gateway']
  const account = (headers: Record<string, string>, more: Partial<Pick<Turn, 'heldKey' | 'upstreamHeaders' | 'path'>> = {}): string =>
    accountOf({
      gateway,
      incoming: { headers } as unknown as Turn['incoming'],
      heldKey: null,
      upstreamHeaders: NO_HEADERS,
      path: '/chat/completions',
      ...more,
    })
  const key = account({ authorization: 'Bearer sk-one' })
  const all = [
    key,
    account({ authorization: 'Bearer sk-two' }),
    account({ 'x-api-key': 'sk-three' }),
    account({}, { path: '/models/m:generateContent?key=four' }),
    account({ authorization: 'Bearer sk-one', 'openai-project': 'p1' }),
    account({ 'openai-project': 'p1' }, { heldKey: 'held' }),
    ONE_ACCOUNT,
  ]
  assert.equal(new Set(all).size, all.length)
  assert.equal(account({ authorization: 'bearer sk-one', 'x-request-id': 'r' }), key)
  const upstreamHeaders = { raw: ['openai-project', 'p-owner'], secrets: [] }
  assert.equal(account({ authorization: 'Bearer sk-one', 'openai-project': 'made up' }, { upstreamHeaders }), key, 'it never leaves')
  assert.ok(all.every((name) => /^[0-9a-f]{64}$|^$/.test(name)))
  for (const token of ['ya29.a0Af', 'eyJhbGciOi.eyJzdWIi.c2ln']) assert.equal(account({ authorization: `Bearer ${token}` }), ONE_ACCOUNT)
  assert.equal(account({ authorization: 'Bearer sk-one' }, { heldKey: 'held' }), ONE_ACCOUNT)
})
