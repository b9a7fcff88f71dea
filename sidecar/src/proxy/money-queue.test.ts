import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MoneyQueue } from './money-queue.ts'

test('wakes the waiters of an account one by one, first come first served', async () => {
  const queue = new MoneyQueue()
  const order: string[] = []
  const first = queue.wait('a', 1_000, 0, 'back').then(() => order.push('first'))
  const second = queue.wait('a', 1_000, 0, 'back').then(() => order.push('second'))
  queue.wakeNext(['a'])
  await first
  assert.deepEqual(order, ['first'])
  queue.wakeNext(['a'])
  await second
  assert.deepEqual(order, ['first', 'second'])
  assert.equal(queue.contested(['a']), null)
})

test('one who tried in vain keeps its place at the front', async () => {
  const queue = new MoneyQueue()
  const late = queue.wait('a', 1_000, 0, 'back')
  const again = queue.wait('a', 1_000, 0, 'front')
  queue.wakeNext(['a'])
  assert.equal(await again, 'try')
  queue.wakeNext(['a'])
  assert.equal(await late, 'try')
})

test('a waiter of another account sleeps on, and the deadline ends a wait', async () => {
  const queue = new MoneyQueue()
  const waiting = queue.wait('b', 30, 0, 'back')
  queue.wakeNext(['a'])
  assert.equal(queue.contested(['a', 'b']), 'b')
  assert.equal(await waiting, 'timeout')
  assert.equal(queue.contested(['b']), null)
  assert.equal(await queue.wait('b', 10, 10, 'back'), 'timeout', 'a deadline that has passed is not waited for')
})
