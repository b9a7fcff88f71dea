/** The bound of a request of which an app has changed some since it was counted, against what the fake provider counts. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { checkRequest } from '../../../test/provider/chat-request.ts'
import { DEFAULT_MODELS } from '../../../test/provider/models.ts'
import { readPrompt } from '../../../test/provider/prompt.ts'
import type { ExactCount } from './conversation.ts'
import { inputBound } from './estimate.ts'
import type { InputBound } from './estimate.ts'
import type { JsonObject, ModelRequest } from './request.ts'
import { assistant, chatRequest, system, user } from './requests.testing.ts'

const MODELS = new Map(DEFAULT_MODELS.map((model) => [model.id, model]))

/** What the provider counts, which knows nothing of our bounds. */
function countOf({ model, messages }: ModelRequest): number {
  return readPrompt(checkRequest({ model, messages: messages.map(({ json }) => json) }, MODELS)).tokens
}

function boundOf(request: ModelRequest, exact: ExactCount | null, readsAll = true): InputBound {
  const { messages, fixedBytes, fixedDigest, model } = request
  return inputBound({ messages, fixedBytes, fixedDigest, model, exact, readsAll, factor: 1, contextTokens: 128_000 })
}

function counted(request: ModelRequest, readsAll = true): ExactCount {
  const { sent } = boundOf(request, null, readsAll)
  return { model: request.model, ...sent, inputTokens: countOf(request), cachedTokens: 0, outputTokens: 5, atMs: 0 }
}

const RULES = Array.from(
  { length: 30 },
  (_, at) => `Rule ${at}: of lamp ${at * 37} a keeper on stair ${at * at} says no more than is asked. `,
).join('')
const promptAt = (time: string): JsonObject => system(`${RULES}It is ${time} now. ${RULES}`)
const TALK = [user('How far is Bern?'), assistant('120 km by the road. '.repeat(40)), user('Why? '.repeat(30))]
const NEXT = [assistant('The hills. '.repeat(20)), user('And Basel?')]

/** How many tokens of the bound are not the last count. */
function beyond(request: ModelRequest, exact: ExactCount): number {
  const bound = boundOf(request, exact)
  const tokens = countOf(request)
  assert.ok(bound.bytes >= tokens && bound.heuristic >= tokens, `${bound.bytes} and ${bound.heuristic} for ${tokens}`)
  return bound.heuristic - exact.inputTokens
}

test('the time of day in a long prompt costs little more than a prompt that stays', () => {
  const exact = counted(chatRequest([promptAt('12:10'), ...TALK]))
  const stays = beyond(chatRequest([promptAt('12:10'), ...TALK, ...NEXT]), exact)
  const changed = beyond(chatRequest([promptAt('12:11 on Monday'), ...TALK, ...NEXT]), exact)
  assert.ok(changed - stays < 200, `${changed} for ${stays}`)
  const { bytes } = boundOf(chatRequest([promptAt('12:11'), ...TALK, ...NEXT]), null)
  assert.ok(boundOf(chatRequest([promptAt('12:11'), ...TALK, ...NEXT]), exact).bytes < bytes / 2, 'the hard bound as well')
})

test('instructions that come, go and move, another first message, and passages that leave the last question', () => {
  const before = [system(RULES), ...TALK.slice(0, 2), user(`Why? ${RULES}`)]
  const exact = counted(chatRequest(before))
  const [, first, second, last] = before
  for (const messages of [
    [system(RULES), ...TALK, ...NEXT],
    [system(RULES), system('Say it in verse.'), first, second, last, ...NEXT],
    [first, second, last, ...NEXT],
    [first, second, last, ...NEXT, system(RULES)],
    [system(RULES), user('How far is Bern, then?'), second, last, ...NEXT],
  ]) {
    const request = chatRequest(messages.filter((message) => message !== undefined))
    const fresh = beyond(request, exact)
    assert.ok(fresh < 250, `${fresh}`)
  }
})

test('a count goes on with other tools, whose whole length comes on top, and with another model of the same tokenizer', () => {
  const request = chatRequest([system(RULES), ...TALK, ...NEXT])
  const exact = counted(chatRequest([system(RULES), ...TALK]))
  const same = boundOf(request, exact).bytes
  assert.equal(boundOf({ ...request, fixedDigest: 'f', fixedBytes: 300 }, exact).bytes, same + 300 + 32)
  assert.equal(boundOf({ ...request, model: 'gpt-4o-mini' }, exact).bytes, same)
  const whole = boundOf(request, null).bytes
  assert.equal(boundOf({ ...request, model: 'gpt-4.1' }, exact).bytes, whole)
})

test('a count does not go on where the provider may read less than it is sent, or what was thought may count otherwise', () => {
  const changed = chatRequest([promptAt('12:11'), ...TALK, ...NEXT])
  const before = chatRequest([promptAt('12:10'), ...TALK])
  const { parts: _, ...ofOlderVersion } = counted(before)
  const whole = boundOf(changed, null).bytes
  assert.equal(boundOf(changed, counted(before), false).bytes, whole)
  assert.equal(boundOf(changed, ofOlderVersion).bytes, whole)
  const thought = { role: 'assistant', content: 'So.', reasoning_content: 'Let me see. '.repeat(50) }
  const asked = chatRequest([user('Why?'), thought, user('And?')])
  const exact = { model: asked.model, ...boundOf(asked, null).sent, inputTokens: 40, cachedTokens: 0, outputTokens: 5, atMs: 0 }
  const next = chatRequest([user('Why?'), thought, user('And?'), ...NEXT])
  assert.ok(boundOf(next, exact).isCounted)
  assert.equal(boundOf({ ...next, fixedDigest: 'f' }, exact).bytes, boundOf(next, null).bytes)
})

test('what stands there twice is counted twice only if it was', () => {
  const twice = user('The lamp is lit at dusk. '.repeat(40))
  const exact = counted(chatRequest([system(RULES), ...TALK]))
  for (const more of [[system(RULES)], [...NEXT, twice, assistant('Yes.'), twice]]) {
    const fresh = more.reduce((sum, message) => sum + Buffer.byteLength(JSON.stringify(message['content'])) / 8, 0)
    const tokens = beyond(chatRequest([system(RULES), ...more, ...TALK]), exact)
    assert.ok(tokens > fresh, `${tokens} for ${fresh}`)
  }
})

test('whatever changes, the bound is never below what the provider counts', () => {
  const words = fc.array(fc.constantFrom('lamp', 'keeper', ' ', 'stairs,', '2026-11-28', 'ö', '\n', '"', 'é😀'), { maxLength: 120 })
  const text = words.map((parts) => parts.join(' '))
  const message = fc.oneof(
    text.map((said) => system(`s ${said}`)),
    text.map((said) => user(`u ${said}`)),
    text.map((said) => assistant(`a ${said}`)),
  )
  const change = fc.record({ at: fc.nat(9), with: fc.option(message), drop: fc.nat(2) })
  fc.assert(
    fc.property(fc.array(message, { minLength: 1, maxLength: 9 }), fc.array(change, { maxLength: 3 }), (messages, changes) => {
      const exact = counted(chatRequest(messages))
      const after = [...messages]
      for (const { at, with: one, drop } of changes) after.splice(at, drop, ...(one === null ? [] : [one]))
      const request = chatRequest(after.length === 0 ? messages : after)
      const bound = boundOf(request, exact)
      assert.ok(bound.bytes >= countOf(request), `${bound.bytes} for ${countOf(request)}`)
      assert.ok(bound.bytes <= boundOf(request, null).bytes)
    }),
    { numRuns: 150 },
  )
})
