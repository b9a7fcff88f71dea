import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ReceivedReport } from '@farebox/crds/delivery.ts'
import * as fc from 'fast-check'
import { ReportBook } from './report-book.ts'

function received(runSinceMs: number, sequence: number, uid = 'u'): ReceivedReport {
  const bypass = { looks: 0, found: 0, lastSeen: null, lastMs: null }
  const turns = { count: 0, lastMs: null, withoutUser: 0 }
  const rest = { inForce: null, refused: null, staleMs: null, books: '', status: null, heldKeys: [], sidecarVersion: '0.1.0' }
  const report = { protocol: 1, run: 'ab'.repeat(16), runSinceMs, sequence, turns, bypass, ...rest }
  return { pod: { namespace: 'shop', name: uid, uid }, receivedAtMs: sequence, report }
}

test('T68: whatever the order, and however often each comes, the last of the last run is kept', () => {
  const one = fc.record({ run: fc.integer({ min: 1, max: 3 }), sequence: fc.integer({ min: 1, max: 6 }) })
  fc.assert(
    fc.property(fc.array(one, { minLength: 1 }), (sent) => {
      const book = new ReportBook()
      for (const { run, sequence } of sent) {
        const before = book.get('u')
        const outcome = book.put(received(run, sequence))
        assert.equal(outcome === 'newest', book.get('u') !== before)
        assert.equal(book.put(received(run, sequence)), 'old', 'a replay')
      }
      const lastRun = Math.max(...sent.map(({ run }) => run))
      const lastSequence = Math.max(...sent.filter(({ run }) => run === lastRun).map(({ sequence }) => sequence))
      assert.deepEqual([book.get('u')?.report.runSinceMs, book.get('u')?.report.sequence], [lastRun, lastSequence])
    }),
  )
})

test('what is known of a pod goes with it', () => {
  const book = new ReportBook()
  for (const uid of ['a', 'b', 'c']) book.put(received(1, 1, uid))
  book.forget('a')
  book.prune(({ uid }) => uid === 'c')
  assert.deepEqual(
    [...book.values()].map(({ pod }) => pod.uid),
    ['c'],
  )
  assert.equal(book.size, 1)
})
