/** Calls read whole, on a pool whose events the test gives. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { UpstreamCall, UpstreamEvents } from './upstream.ts'
import { callWhole } from './whole-call.ts'

const CALL: UpstreamCall = { baseUrl: 'http://provider', path: '/count', method: 'POST', headers: [], body: null }

function pool(): { aborted: boolean; events: () => UpstreamEvents; call: (call: UpstreamCall, events: UpstreamEvents) => never } {
  let given: UpstreamEvents | null = null
  const state = {
    aborted: false,
    events: (): UpstreamEvents => given ?? assert.fail('not called'),
    call: (_: UpstreamCall, events: UpstreamEvents) => {
      given = events
      return { abort: () => (state.aborted = true), pause: () => undefined, resume: () => undefined } as never
    },
  }
  return state
}

test('an answer is whole up to its bound, copied, and null beyond it, whatever its status', async () => {
  for (const [pieces, body] of [
    [['{"a"', ':1}'], '{"a":1}'],
    [['{"a"', ':12}'], null],
    [[], ''],
  ] as const) {
    const upstreams = pool()
    const answer = callWhole(upstreams, CALL, { bytesMax: 7 })
    upstreams.events().head(404, [])
    const memory = Buffer.alloc(8)
    for (const piece of pieces) upstreams.events().data(memory.subarray(0, memory.write(piece)))
    upstreams.events().end()
    const { body: read, ...rest } = { body: null, ...(await answer) }
    assert.deepEqual([rest, read?.toString() ?? null], [{ status: 'answered', statusCode: 404 }, body])
  }
})

test('a call that fails says how', async () => {
  const upstreams = pool()
  const answer = callWhole(upstreams, CALL, { bytesMax: 7, withinMs: 60_000 })
  upstreams.events().failed({ kind: 'cut', cause: new Error('x') })
  assert.deepEqual(await answer, { status: 'failed', kind: 'cut' })
  assert.equal(upstreams.aborted, false)
})

test('a call is broken off when its time is over, even within its answer', async () => {
  const upstreams = pool()
  const answer = callWhole(upstreams, CALL, { bytesMax: 7, withinMs: 5 })
  upstreams.events().head(200, [])
  assert.deepEqual(await answer, { status: 'failed', kind: 'timeout' })
  assert.equal(upstreams.aborted, true)
})
