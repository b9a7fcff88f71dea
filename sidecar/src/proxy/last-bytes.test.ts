import assert from 'node:assert/strict'
import { beforeEach, describe, mock, test } from 'node:test'
import { LastBytes } from './last-bytes.ts'

describe('the last bytes of an answer', () => {
  let sent: string[]
  const send = (last: LastBytes, text: string): void => last.send(() => sent.push(text))
  beforeEach(() => {
    sent = []
  })

  test('go out at once where nobody shares the store', () => {
    const last = new LastBytes(false)
    send(last, 'a')
    assert.deepEqual([sent, last.waits], [['a'], false])
  })

  test('wait, in their order, until the call is in the books', () => {
    const last = new LastBytes(true)
    send(last, 'a')
    send(last, 'b')
    assert.deepEqual([sent, last.waits], [[], true])
    last.release()
    send(last, 'c')
    last.release()
    assert.deepEqual([sent, last.waits], [['a', 'b', 'c'], false])
  })

  test('wait no longer than half a second, whatever the store does; and the end that comes after them waits anew', (t) => {
    mock.timers.enable({ apis: ['setTimeout'] })
    t.after(() => mock.timers.reset())
    const last = new LastBytes(true)
    mock.timers.tick(10_000)
    assert.equal(last.waits, true, 'an answer may take its time')
    send(last, 'a')
    mock.timers.tick(499)
    send(last, 'b')
    assert.deepEqual(sent, [])
    mock.timers.tick(1)
    assert.deepEqual([sent, last.waits], [['a', 'b'], true])
    send(last, 'c')
    mock.timers.tick(499)
    assert.deepEqual(sent, ['a', 'b'])
    last.release()
    assert.deepEqual(sent, ['a', 'b', 'c'])
  })
})
