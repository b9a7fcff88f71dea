import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Turns } from './turns.ts'

test('turns are taken in order, given back, and not waited for forever', async () => {
  const turns = new Turns(1)
  const take = (waitMs: number): Promise<boolean> => new Promise((resolve) => turns.take(waitMs, resolve))
  assert.equal(await take(0), true)
  assert.equal(await take(5), false)
  const order: string[] = []
  for (const name of ['first', 'second']) turns.take(5_000, () => order.push(name))
  turns.give()
  assert.deepEqual(order, ['first'])
  turns.give()
  assert.deepEqual(order, ['first', 'second'])
  turns.give()
  assert.equal(await take(0), true)
})
