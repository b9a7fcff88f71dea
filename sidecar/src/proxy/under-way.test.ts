import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { UnderWay } from './under-way.ts'

const LONG_MS = 10_000

test('waits for all that is under way, and for what that begins', async () => {
  const underWay = new UnderWay()
  const ended: string[] = []
  const summary = async (): Promise<void> => {
    await sleep(20)
    ended.push('summary')
  }
  const turn = async (): Promise<void> => {
    await sleep(5)
    ended.push('turn')
    underWay.add(summary())
  }
  underWay.add(turn())
  assert.equal(underWay.count, 1)
  assert.equal(await underWay.ended(LONG_MS), true)
  assert.deepEqual(ended, ['turn', 'summary'])
  assert.equal(underWay.count, 0)
})

test('says when its time is over, and waits again for what is cut off then', async () => {
  const underWay = new UnderWay()
  const cut = Promise.withResolvers<void>()
  underWay.add(cut.promise)
  assert.equal(await underWay.ended(10), false)
  assert.equal(underWay.count, 1)
  setTimeout(cut.resolve, 5)
  assert.equal(await underWay.ended(LONG_MS), true)
})

test('has nothing to wait for when nothing is under way', async () => {
  assert.equal(await new UnderWay().ended(0), true)
})
