import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CHAT_CALL } from '../wire/bodies.testing.ts'
import { chatWire } from '../wire/openai-chat.ts'
import { NO_HEADERS } from './credentials.ts'
import { headerReader, sentHeaders, stateHeaders } from './exchange.ts'

/** A header as Node gives it: each byte is a character. */
function received(text: string, encoding: 'utf8' | 'latin1'): string | undefined {
  return headerReader({ headers: { 'x-farebox-user': Buffer.from(text, encoding).toString('latin1') } })('x-farebox-user')
}

test('a header is read as it was written, in UTF-8 or in latin1', () => {
  for (const id of ['ann', 'José', 'Émile', '李雷', 'Łukasz', 'Игорь', '👩‍🚀']) assert.equal(received(id, 'utf8'), id)
  for (const id of ['ann', 'José', 'Émile']) assert.equal(received(id, 'latin1'), id)
})

test('a header that is not there is not read, and a repeated one is joined', () => {
  assert.equal(headerReader({ headers: {} })('x-farebox-user'), undefined)
  assert.equal(headerReader({ headers: { 'set-cookie': ['a', 'b'] } })('set-cookie'), 'a, b')
})

test('the store is said to be away of a shared one alone: books of the sidecar itself take a call, or refuse it', () => {
  const said = (storeIsShared: boolean, state: 'Ready' | 'Away' | 'Replaying'): string | undefined => {
    const turn = {
      conversationId: 'c',
      terms: { contract: { hash: 'h' } },
      gateway: { storeIsShared, storeStanding: () => ({ state }), staleness: { isStale: false } },
    } as unknown as Parameters<typeof stateHeaders>[0]
    const headers = stateHeaders(turn, { rung: 'None', percent: 1, reason: null, maxOutput: null })
    return headers[headers.indexOf('x-farebox-store') + 1 || headers.length]
  }
  assert.deepEqual([said(true, 'Ready'), said(true, 'Away'), said(true, 'Replaying')], [undefined, 'away', 'away'])
  assert.deepEqual([said(false, 'Ready'), said(false, 'Away')], [undefined, undefined])
})

test('a body that was read goes on as what it was read as; one that passes as it is keeps what it is called', () => {
  const exchange = {
    incoming: { rawHeaders: ['Content-Type', 'application/x-www-form-urlencoded', 'Accept', '*/*'], headers: {} },
    policy: { ownHeaders: new Set() },
    heldKey: null,
    upstreamHeaders: NO_HEADERS,
    family: 'openai',
  } as unknown as Parameters<typeof sentHeaders>[0]
  assert.deepEqual(sentHeaders(exchange), ['Content-Type', 'application/x-www-form-urlencoded', 'Accept', '*/*'])
  assert.deepEqual(sentHeaders({ ...exchange, wire: chatWire, call: CHAT_CALL }), ['Accept', '*/*', 'content-type', 'application/json'])
})
