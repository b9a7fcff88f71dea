import assert from 'node:assert/strict'
import { test } from 'node:test'
import { makeConfig, makeContract } from '../../../test/support/make.ts'
import { identify, IdHasher } from './identify.ts'
import { KeyedHash } from './keyed-hash.ts'
import type { ModelRequest } from './request.ts'
import { chatRequest } from './requests.testing.ts'
import type { ReadClaim } from './tier-claim.ts'

const CONFIG = makeConfig('http://provider/v1', [makeContract(), makeContract({ tier: 'free' })])

function requestWith(parts: Partial<Pick<ModelRequest, 'metadata' | 'promptCacheKey' | 'safetyIdentifier' | 'user'>> = {}): ModelRequest {
  return chatRequest([], parts)
}

function conversationOf(headers: Record<string, string>, request = requestWith()): string | null {
  const result = identify(CONFIG, (name) => headers[name], request)
  if (result.status === 'rejected') return `rejected: ${result.param}`
  const { conversation } = result.identity
  return conversation.status === 'named' ? `${conversation.carrier}:${conversation.rawId}` : null
}

function userOf(headers: Record<string, string>, request = requestWith()): string | null {
  const result = identify(CONFIG, (name) => headers[name], request)
  return result.status === 'rejected' ? `rejected: ${result.param}` : result.identity.rawUser
}

test('the first carrier in the order of the config wins', () => {
  const request = requestWith({ metadata: { session_id: 'm' }, promptCacheKey: 'k' })
  assert.equal(conversationOf({ 'x-farebox-conversation': 'h', baggage: 'session.id=b' }, request), 'Header:h')
  assert.equal(conversationOf({ baggage: 'other=1, session.id=b%20c;p=1' }, request), 'Baggage:b c')
  assert.equal(conversationOf({ baggage: 'gen_ai.conversation.id=g,session.id=b' }), 'Baggage:g')
  assert.equal(conversationOf({}, request), 'Metadata:m')
  assert.equal(conversationOf({}, requestWith({ promptCacheKey: 'k', user: 'u' })), 'PromptCacheKey:k')
  assert.equal(conversationOf({}), null)
})

test('a prompt cache key, which all chats of a prompt may share, names a conversation only together with a user', () => {
  const request = requestWith({ promptCacheKey: 'support-bot-v3' })
  assert.equal(conversationOf({}, request), null)
  assert.equal(conversationOf({ 'x-farebox-user': 'ann' }, request), 'PromptCacheKey:support-bot-v3')
  assert.equal(conversationOf({}, requestWith({ promptCacheKey: 'a'.repeat(257) })), null, 'what names nobody need not be an id')
  const keyFirst: typeof CONFIG = { ...CONFIG, identity: { ...CONFIG.identity, carriers: ['PromptCacheKey', 'Metadata'] } }
  const both = requestWith({ promptCacheKey: 'k', metadata: { session_id: 'm' } })
  const carrierOf = (parts: typeof both): string => {
    const result = identify(keyFirst, () => undefined, parts)
    return result.status === 'ok' && result.identity.conversation.status === 'named' ? result.identity.conversation.carrier : result.status
  }
  assert.deepEqual([carrierOf(both), carrierOf({ ...both, user: 'ann' })], ['Metadata', 'PromptCacheKey'], 'the next carrier counts')
})

test('an id that is empty, too long or not printable is refused, and the carrier is named', () => {
  assert.equal(conversationOf({ 'x-farebox-conversation': 'a'.repeat(256) }), `Header:${'a'.repeat(256)}`)
  assert.equal(conversationOf({ 'x-farebox-conversation': '' }), 'rejected: x-farebox-conversation')
  assert.equal(conversationOf({ 'x-farebox-conversation': 'a'.repeat(257) }), 'rejected: x-farebox-conversation')
  assert.equal(conversationOf({}, requestWith({ metadata: { thread_id: 'a\u0000b' } })), 'rejected: metadata.thread_id')
})

test('the length of an id is that of its characters, however many units of UTF-16 each takes', () => {
  for (const character of ['é', '語', '😀']) {
    const longest = character.repeat(256)
    assert.equal(conversationOf({ 'x-farebox-conversation': longest }), `Header:${longest}`)
    assert.equal(conversationOf({ 'x-farebox-conversation': longest + character }), 'rejected: x-farebox-conversation')
  }
  const userOf = (user: string): string => {
    const result = identify(CONFIG, () => undefined, requestWith({ user }))
    return result.status === 'ok' ? (result.identity.rawUser ?? '') : `${result.param}: ${result.message}`
  }
  assert.equal(userOf('😀'.repeat(256)), '😀'.repeat(256))
  assert.equal(userOf('😀'.repeat(257)), 'user: a user id must be 1 to 256 printable characters')
  for (const half of ['a\ud800', 'a\udfff']) assert.equal(userOf(half), 'user: a user id must be 1 to 256 printable characters')
})

test('an empty text in what a framework fills in names nothing: the next carrier counts', () => {
  const empty = requestWith({ metadata: { conversation_id: '', thread_id: 't' }, promptCacheKey: '', safetyIdentifier: '', user: 'u' })
  assert.equal(conversationOf({ baggage: 'gen_ai.conversation.id=' }, empty), 'Metadata:t')
  assert.equal(conversationOf({ baggage: 'session.id=' }, requestWith({ metadata: { session_id: '' }, promptCacheKey: '' })), null)
  assert.equal(userOf({}, empty), 'u')
  assert.equal(userOf({}, requestWith({ safetyIdentifier: '', user: '', metadata: { user_id: '' } })), null)
  assert.equal(userOf({ 'x-farebox-user': '' }, empty), 'rejected: x-farebox-user')
})

test('a user id that cannot be is refused, and the carrier is named', () => {
  assert.equal(userOf({ 'x-farebox-user': 'a\tb' }), 'rejected: x-farebox-user')
  assert.equal(userOf({}, requestWith({ safetyIdentifier: 'a\nb' })), 'rejected: safety_identifier')
  assert.equal(userOf({}, requestWith({ user: 'a'.repeat(257) })), 'rejected: user')
  assert.equal(userOf({}, requestWith({ metadata: { user_id: '\u0000' } })), 'rejected: metadata.user_id')
  const ofClaude = { ...requestWith({ user: '\u0000', metadata: { user_id: '\u0000' } }), wire: 'messages' as const }
  assert.equal(userOf({}, ofClaude), 'rejected: metadata.user_id')
})

test('a tier may be claimed only from the allowed list, and only where claims are allowed', () => {
  const claim = (config: typeof CONFIG, tier: string): string => {
    const result = identify(config, (name) => (name === 'x-farebox-tier' ? tier : undefined), requestWith())
    return result.status === 'ok' ? result.identity.tier : result.status
  }
  assert.equal(claim(CONFIG, 'free'), 'free')
  assert.equal(claim(CONFIG, 'gold'), 'rejected')
  const { claim: _claim, ...closed } = CONFIG.tiers
  assert.equal(claim({ ...CONFIG, tiers: closed }, 'free'), 'rejected')
})

test('a signed claim says whom it is for, and no other user may send it', () => {
  const config = { ...CONFIG, tiers: { ...CONFIG.tiers, claim: { header: 'x-plan', token: { format: 'HMAC' as const } } } }
  const claimed = (claim: ReadClaim | null, headers: Record<string, string> = {}): string => {
    const result = identify(config, (name) => ({ 'x-plan': 'v1;tier=free', ...headers })[name], requestWith(), claim)
    return result.status === 'ok' ? `${result.identity.tier}, ${result.identity.rawUser}` : `${result.param}: ${result.message}`
  }
  const ofAnyone: ReadClaim = { status: 'ok', claim: { tier: 'free', user: null } }
  const ofOne: ReadClaim = { status: 'ok', claim: { tier: 'free', user: 'u-1' } }
  assert.equal(claimed(null), 'x-plan: the tier claim must be signed')
  assert.equal(claimed({ status: 'rejected', why: 'it has expired' }), 'x-plan: it has expired')
  assert.equal(claimed(ofAnyone), 'free, null')
  assert.equal(claimed(ofAnyone, { 'x-farebox-user': 'u-2' }), 'free, u-2')
  assert.equal(claimed(ofOne), 'free, u-1', 'the claim alone names the user')
  assert.equal(claimed(ofOne, { 'x-farebox-user': 'u-1' }), 'free, u-1')
  assert.equal(claimed(ofOne, { 'x-farebox-user': 'u-2' }), 'x-plan: the tier claim is for another user')
  assert.equal(claimed({ status: 'ok', claim: { tier: 'free', user: 'a\tb' } }), 'x-plan: a user id must be 1 to 256 printable characters')
  assert.equal(claimed({ status: 'ok', claim: { tier: 'gold', user: null } }), 'x-plan: the claimed tier is not among those allowed')
})

test('the user comes from the header, then from the body', () => {
  const request = requestWith({ safetyIdentifier: 's', user: 'u', metadata: { user_id: 'm' } })
  assert.equal(userOf({ 'x-farebox-user': 'h' }, request), 'h')
  assert.equal(userOf({}, request), 's')
  assert.equal(userOf({}, requestWith({ user: 'u' })), 'u')
  assert.equal(userOf({}, requestWith()), null)
})

test('hashed ids depend on namespace, tier and scope, and never hold the raw id', () => {
  const hasher = new IdHasher(new KeyedHash(Buffer.alloc(32, 7)))
  const id = hasher.conversation(CONFIG, 'pro', 'chat-1')
  assert.match(id, /^[0-9a-f]{32}$/)
  assert.notEqual(id, hasher.conversation(CONFIG, 'free', 'chat-1'))
  assert.notEqual(id, hasher.conversation({ ...CONFIG, namespace: 'other' }, 'pro', 'chat-1'))
  const byBudget = { ...CONFIG, identity: { ...CONFIG.identity, scope: 'Budget' as const } }
  assert.notEqual(hasher.conversation(byBudget, 'pro', 'chat-1'), hasher.conversation({ ...byBudget, budget: 'b' }, 'pro', 'chat-1'))
  assert.equal(
    hasher.conversation(CONFIG, 'pro', 'chat-1'),
    hasher.conversation({ ...CONFIG, budget: 'b' }, 'pro', 'chat-1'),
    'a namespace shares its ids',
  )
  assert.notEqual(id, new IdHasher(new KeyedHash(Buffer.alloc(32, 8))).conversation(CONFIG, 'pro', 'chat-1'))
})
