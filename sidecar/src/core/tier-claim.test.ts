import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { describe, test } from 'node:test'
import * as fc from 'fast-check'
import { CLAIM_CLOCK_SKEW_S, CLAIM_LIFE_S_MAX, plainClaimsUnder, readSignedClaim, readUncheckedClaim } from './tier-claim.ts'

const NOW_S = 1_764_000_000
const OLD = Buffer.from('the key of last month, long')
const NEW = Buffer.from('the key of this month, long')
const KEYS = new Map([
  ['2026-10', OLD],
  ['2026-11', NEW],
])

function signed(text: string, key: Buffer = NEW): string {
  return `${text};sig=${createHmac('sha256', key).update(text).digest('base64url')}`
}
function verdict(text: string): string {
  const read = readSignedClaim(text, KEYS, NOW_S * 1000)
  return read.status === 'ok' ? `${read.claim.tier}/${read.claim.user}` : read.why
}

test('a signed claim says its tier and its user, by the old key and by the new', () => {
  const soon = NOW_S + 60
  assert.equal(verdict(signed(`v1;tier=pro;user=ada%40example.com;exp=${soon};kid=2026-11`)), 'pro/ada@example.com')
  assert.equal(verdict(signed(`v1;tier=pro;exp=${soon};kid=2026-10`, OLD)), 'pro/null')
  assert.equal(verdict(signed(`v1;kid=2026-11;exp=${soon};tier=a%3Bb`)), 'a;b/null')
})

test('a signature is base64url, with or without its padding, and nothing beside', () => {
  const text = signed(`v1;tier=pro;exp=${NOW_S + 60};kid=2026-11`)
  const [, signature = ''] = text.split(';sig=')
  assert.equal(verdict(`${text}=`), 'pro/null')
  for (const other of ['==', '!', '!!!!', ' ', '\u00e4', '.', signature, '==='])
    assert.match(verdict(text + other), /does not fit/, JSON.stringify(other))
  assert.match(verdict(text.replace(';sig=', ';sig=!')), /does not fit/)
})

test('a claim expires, give or take the skew of clocks, and may not last for long', () => {
  const at = (expiry: number): string => verdict(signed(`v1;tier=pro;exp=${expiry};kid=2026-11`))
  assert.equal(at(NOW_S - CLAIM_CLOCK_SKEW_S + 1), 'pro/null')
  assert.match(at(NOW_S - CLAIM_CLOCK_SKEW_S), /has expired/)
  assert.equal(at(NOW_S + CLAIM_LIFE_S_MAX), 'pro/null')
  assert.match(at(NOW_S + CLAIM_LIFE_S_MAX + 1), /longer than 31 days/)
})

describe('is refused', () => {
  const good = `v1;tier=pro;exp=${NOW_S + 60};kid=2026-11`
  const cases: Record<string, [text: string, why: RegExp]> = {
    'a bare tier': ['pro', /is not of the form/],
    'nothing at all': ['', /is not of the form/],
    'no signature': [good, /is not of the form/],
    'an empty signature': [`${good};sig=`, /does not fit/],
    "another key's signature": [signed(good, OLD), /does not fit/],
    'a key that is not there': [signed(good.replace('2026-11', '2026-12')), /not known here/],
    'no key': [signed(`v1;tier=pro;exp=${NOW_S + 60}`), /not known here/],
    'another tier under the same signature': [signed(good).replace('tier=pro', 'tier=max'), /does not fit/],
    'a field in front of the signature': [signed(good).replace(';sig=', ';user=eve;sig='), /does not fit/],
    'a field behind the signature': [`${signed(good)};tier=max`, /does not fit/],
    'a tier twice': [signed(`${good};tier=max`), /is not of the form/],
    'no tier': [signed(`v1;exp=${NOW_S + 60};kid=2026-11`), /names no tier/],
    'an empty user': [signed(`${good};user=`), /names a user that is none/],
    'no expiry': [signed('v1;tier=pro;kid=2026-11'), /does not say when it expires/],
    'an expiry that is no number': [signed('v1;tier=pro;exp=1e12;kid=2026-11'), /does not say when it expires/],
    'a percent sign that encodes nothing': [signed(`v1;tier=%zz;exp=${NOW_S + 60};kid=2026-11`), /is not of the form/],
    'more text than a claim needs': [signed(`${good};user=${'a'.repeat(9_000)}`), /is too long/],
  }
  for (const [name, [text, why]] of Object.entries(cases)) test(name, () => assert.match(verdict(text), why))

  test('any change of a byte', () => {
    const text = signed(good)
    fc.assert(
      fc.property(fc.nat({ max: text.length - 2 }), fc.string({ unit: 'binary-ascii', minLength: 1, maxLength: 1 }), (at, other) => {
        fc.pre(other !== text[at])
        assert.ok(!/^\w+\/\w+$/.test(verdict(text.slice(0, at) + other + text.slice(at + 1))))
      }),
    )
  })
})

describe('once claims must be signed, a sidecar without keys goes on to take', () => {
  const tiers = { default: 'free', allowed: ['free', 'pro'] }
  const named = { namespace: 'shop', budget: 'support' }
  const plain = { ...named, tiers: { ...tiers, claim: { header: 'x-farebox-tier' } } }
  const signing = { ...named, tiers: { ...tiers, claim: { header: 'x-farebox-tier', token: { format: 'HMAC' as const } } } }
  const before = plainClaimsUnder(plain, null)

  test('the plain claims of before', () => {
    assert.deepEqual(before, { budget: 'shop/support', tiers: ['free', 'pro'] })
    assert.deepEqual(plainClaimsUnder(signing, before), before)
  })
  test('no tier that was allowed since, nor again', () => {
    const fewer = plainClaimsUnder({ ...signing, tiers: { ...signing.tiers, allowed: ['free', 'gold'] } }, before)
    assert.deepEqual(fewer?.tiers, ['free'])
    assert.deepEqual(plainClaimsUnder(signing, fewer)?.tiers, ['free'])
  })
  test('none where nobody could claim anything before, or under another budget', () => {
    assert.equal(plainClaimsUnder(signing, null), null)
    assert.equal(plainClaimsUnder(signing, plainClaimsUnder({ ...named, tiers }, before)), null)
    assert.equal(plainClaimsUnder({ ...signing, budget: 'other' }, before), null)
  })
})

test('what a claim says can be read without its key, but not once it has expired', () => {
  const text = `v1;tier=pro;exp=${NOW_S + 60};kid=unknown;sig=AAAA`
  assert.deepEqual(readUncheckedClaim(text, NOW_S * 1000), { status: 'ok', claim: { tier: 'pro', user: null, expiresAtS: NOW_S + 60 } })
  assert.equal(readUncheckedClaim(text, (NOW_S + 120) * 1000).status, 'rejected')
  assert.equal(readUncheckedClaim('pro', NOW_S * 1000).status, 'rejected')
})
