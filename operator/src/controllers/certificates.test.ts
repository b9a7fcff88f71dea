import assert from 'node:assert/strict'
import { test } from 'node:test'
import { standIn } from './certificates.ts'

test('a replica that starts sees to the certificates until it is ready, whatever goes wrong, and not while it leads', async () => {
  const done: string[] = []
  const leads = [false, true, false]
  let asked = 0
  await standIn({
    everyMs: 1,
    isOver: () => Promise.resolve((asked += 1) > 3),
    isLeading: () => leads[asked - 1] ?? false,
    certificates: {
      reconcile() {
        done.push(`reconcile ${asked}`)
        return asked === 1 ? Promise.reject(new Error('no right')) : Promise.resolve({ againAfterMs: 1_000 })
      },
    },
    onTrouble: (error) => done.push(String(error)),
  })
  assert.deepEqual(done, ['reconcile 1', 'Error: no right', 'reconcile 3'])
})
