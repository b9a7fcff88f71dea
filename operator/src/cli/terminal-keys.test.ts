import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { groupsOfStat, listenToLines } from './terminal-keys.ts'

test('lines are read while they may be, and not before; when a stopped process goes on, that is asked anew', async (t) => {
  const input = new PassThrough()
  const heard: string[] = []
  let mayRead = false
  const listening = listenToLines({ input, mayRead: () => mayRead, onLine: (line) => heard.push(line) })
  t.after(() => listening.stop())
  input.write('s\n')
  await sleep(20)
  assert.equal(input.readableFlowing, null, 'nobody reads')
  mayRead = true
  await until(() => heard.length === 1) // by itself
  mayRead = false
  process.kill(process.pid, 'SIGCONT')
  await until(() => input.isPaused())
  input.write('t\n')
  await sleep(20)
  assert.deepEqual(heard, ['s'])
  mayRead = true
  process.kill(process.pid, 'SIGCONT')
  await until(() => heard.length === 2)
  assert.deepEqual(heard, ['s', 't'])
  listening.stop()
  assert.equal(input.isPaused(), true)
  assert.equal(process.listenerCount('SIGCONT'), 0)
})

test('a terminal that is gone is no error', () => {
  const input = new PassThrough()
  const listening = listenToLines({ input, mayRead: () => true, onLine: () => undefined })
  input.emit('error', new Error('read EIO'))
  listening.stop()
})

test('the groups of a process and of its terminal are read whatever the process is called', () => {
  const rest = '20680 0 4194304 1234 0 0 0'
  assert.deepEqual(groupsOfStat(`77 (node) S 70 77 60 34816 77 ${rest}`), { own: 77, foreground: 77 })
  assert.deepEqual(groupsOfStat(`77 (a (b) c) R 70 77 60 34816 60 ${rest}`), { own: 77, foreground: 60 })
  assert.deepEqual(groupsOfStat(`77 (node) S 70 77 60 0 -1 ${rest}`), { own: 77, foreground: -1 })
  assert.equal(groupsOfStat(''), null)
})

async function until(holds: () => boolean): Promise<void> {
  const end = performance.now() + 5_000
  while (!holds()) {
    assert.ok(performance.now() < end)
    await sleep(10)
  }
}
