import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { JsonObject, Message } from './request.ts'
import { message } from './requests.testing.ts'
import { messagesDigest } from './message-digests.ts'

test('the digest of a history is the same however its bytes lie in memory', () => {
  const body = Buffer.from('[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}]')
  const spaced = Buffer.from(body.toString().replaceAll('},{', '} , {'))
  const inBody = (bytes: Buffer): Message[] =>
    [...bytes.toString().matchAll(/\{[^}]*\}/g)].map(({ 0: text, index }) => ({
      ...message(JSON.parse(text) as JsonObject),
      bytes: bytes.subarray(index, index + text.length),
    }))
  const apart = inBody(body).map((one) => ({ ...one, bytes: Buffer.from(one.bytes) }))
  for (const count of [0, 1, 2, 3]) {
    const known = messagesDigest(apart, count)
    assert.equal(messagesDigest(inBody(body), count), known)
    assert.equal(messagesDigest(inBody(spaced), count), known)
  }
  assert.notEqual(messagesDigest(apart, 2), messagesDigest(apart, 3))
})
