import assert from 'node:assert/strict'
import { test } from 'node:test'
import { makeUpstream } from '../../../test/support/make.ts'
import { NO_HEADERS } from './credentials.ts'
import type { Turn } from './exchange.ts'
import { addressedTo } from './sent-request.ts'

const ASKED = makeUpstream({ name: 'openai', provider: 'openai', baseUrl: 'http://asked/v1' })
const OTHER = makeUpstream({ name: 'groq', provider: 'groq', baseUrl: 'http://other/v1', credential: 'Held' })
const SENT = ['Content-Type', 'application/json', 'Authorization', 'Bearer app', 'X-Auth-Token', 'secret']

const turnWith = (heldKey: string | null, upstreamHeaders = NO_HEADERS): Turn =>
  ({
    upstream: ASKED,
    heldKey,
    upstreamHeaders,
    family: 'openai',
    policy: { ownHeaders: new Set() },
    incoming: { rawHeaders: SENT, headers: {}, method: 'POST' },
  }) as unknown as Turn

test('who was asked gets the headers and the query of the app, with the key that is held for it', () => {
  const path = '/chat/completions?key=app&subscription-key=secret'
  const own = turnWith(null)
  assert.deepEqual(addressedTo(own, own, path), { headers: SENT, path })
  const held = turnWith('held')
  const [, , , , ...others] = SENT
  assert.deepEqual(addressedTo(held, held, path), {
    headers: ['Content-Type', 'application/json', ...others, 'authorization', 'Bearer held'],
    path: '/chat/completions?subscription-key=secret',
  })
})

test('another gets its own key, and nothing that the app shares with who was asked', () => {
  for (const turn of [turnWith(null), turnWith('held')])
    for (const heldKey of ['of the other', '', null])
      assert.deepEqual(
        addressedTo(
          { upstream: OTHER, heldKey, upstreamHeaders: NO_HEADERS },
          turn,
          '/chat/completions?subscription-key=secret&api-version=1',
        ),
        {
          headers: ['Content-Type', 'application/json', 'authorization', `Bearer ${heldKey ?? ''}`],
          path: '/chat/completions?api-version=1',
        },
      )
})

test('each gets the headers that its owner sets, in place of those of the app, and none of the other', () => {
  const turn = turnWith(null, { raw: ['x-auth-token', 'of the first', 'user-agent', 'first'], secrets: ['of the first'] })
  const said = ['Content-Type', 'application/json']
  const path = '/chat/completions'
  assert.deepEqual(addressedTo(turn, turn, path).headers, [...said, 'Authorization', 'Bearer app', ...turn.upstreamHeaders.raw])
  const other = { upstream: OTHER, heldKey: 'held', upstreamHeaders: { raw: ['x-auth-token', 'of the other'], secrets: [] } }
  assert.deepEqual(addressedTo(other, turn, path).headers, [...said, 'authorization', 'Bearer held', 'x-auth-token', 'of the other'])
})
