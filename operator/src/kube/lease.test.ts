import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { heldSpec, microTime, nextStep, recordOf, releasedSpec, sight } from './lease.ts'

function lease(holderIdentity: string, renewTime: string, resourceVersion: string) {
  return recordOf({
    metadata: { resourceVersion },
    spec: { holderIdentity, renewTime, leaseDurationSeconds: 15, leaseTransitions: 3, acquireTime: 'then' },
  })
}

suite('lease', () => {
  test('a holder is gone when its record did not change before our eyes for as long as it said', () => {
    const first = lease('other', 'x', '1')
    const seen = sight(null, first, 1_000)
    assert.deepEqual(nextStep(first, seen, 'me', 15_999), { do: 'wait', untilMs: 16_000 })
    assert.deepEqual(nextStep(first, seen, 'me', 16_000), { do: 'take' })
    const again = sight(seen, lease('other', 'x', '1'), 9_000)
    assert.equal(again.atMs, 1_000)
    const renewed = sight(again, lease('other', 'an earlier time', '2'), 9_000)
    assert.deepEqual(nextStep(lease('other', 'an earlier time', '2'), renewed, 'me', 16_000), { do: 'wait', untilMs: 24_000 })
  })

  test('none, released and ours', () => {
    assert.deepEqual(nextStep(null, null, 'me', 0), { do: 'create' })
    assert.deepEqual(nextStep(lease('', 'x', '1'), null, 'me', 0), { do: 'take' })
    assert.deepEqual(nextStep(lease('me', 'x', '1'), null, 'me', 0), { do: 'renew' })
  })

  test('what is written: transitions count changes of holder, and no two renewals look alike', () => {
    const at = { wallMs: Date.UTC(2026, 0, 1), sequence: 7, leaseMs: 15_000 }
    const time = '2026-01-01T00:00:00.000007Z'
    const taken = { holderIdentity: 'me', leaseDurationSeconds: 15, acquireTime: time, renewTime: time }
    assert.deepEqual(heldSpec('me', null, at), { ...taken, leaseTransitions: 0 })
    assert.deepEqual(heldSpec('me', lease('other', 'x', '1'), at), { ...taken, leaseTransitions: 4 })
    assert.deepEqual(heldSpec('me', lease('me', 'x', '1'), at), { ...taken, acquireTime: 'then', leaseTransitions: 3 })
    assert.deepEqual(releasedSpec(lease('me', 'x', '1'), at), {
      holderIdentity: '',
      leaseDurationSeconds: 1,
      acquireTime: time,
      renewTime: time,
      leaseTransitions: 3,
    })
    assert.notEqual(microTime(at.wallMs, 1), microTime(at.wallMs, 2))
  })
})
