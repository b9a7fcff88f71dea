import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { TestContext } from 'node:test'
import { MoneyQueue, MONEY_WAIT_MS, SHARED_TRY_EVERY_MS } from './money-queue.ts'

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

describe('where holds may end elsewhere', () => {
  const nowMs = (): number => Date.now()
  /** When one who waits alone tries, until it gives up or `isThere` says that a try succeeds. */
  async function triesOf(queue: MoneyQueue, passed: (ms: number) => Promise<void>, isThere = () => false): Promise<readonly number[]> {
    const beganMs = nowMs()
    const tries: number[] = []
    const waiting = (async () => {
      while ((await queue.wait('w', beganMs + MONEY_WAIT_MS, nowMs(), tries.length === 0 ? 'back' : 'front')) === 'try') {
        tries.push(nowMs() - beganMs)
        if (!isThere()) continue
        queue.succeeded(['w'])
        break
      }
      queue.wakeNext(['w'])
    })()
    for (let ms = 0; ms <= MONEY_WAIT_MS; ms++) await passed(1)
    await waiting
    return tries
  }
  const ticking =
    (t: TestContext) =>
    async (ms: number): Promise<void> => {
      t.mock.timers.tick(ms)
      for (let settled = 0; settled < 5; settled++) await Promise.resolve()
    }

  test('tries that come to nothing are ever fewer, up to ten times as far apart', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout', 'Date'] })
    const queue = new MoneyQueue(SHARED_TRY_EVERY_MS, () => 0.5)
    assert.deepEqual(await triesOf(queue, ticking(t)), [40, 120, 280, 600, 1_000, 1_400, 1_800])
    assert.deepEqual(await triesOf(queue, ticking(t), () => true), [40], 'a line that begins tries as often as the first did')
  })

  test('replicas that begin together do not try together', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout', 'Date'] })
    assert.deepEqual((await triesOf(new MoneyQueue(SHARED_TRY_EVERY_MS, () => 0), ticking(t))).slice(0, 3), [30, 90, 210])
    assert.deepEqual((await triesOf(new MoneyQueue(SHARED_TRY_EVERY_MS, () => 0.9), ticking(t))).slice(0, 3), [48, 144, 336])
  })

  test('who waits behind is tried for often again when a try succeeded; until then it is not', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout', 'Date'] })
    const pass = ticking(t)
    const queue = new MoneyQueue(SHARED_TRY_EVERY_MS, () => 0.5)
    const wait = (place: 'back' | 'front'): Promise<string> => queue.wait('w', nowMs() + MONEY_WAIT_MS, nowMs(), place)
    let first = wait('back')
    for (const waitMs of [40, 80, 160]) {
      await pass(waitMs)
      assert.equal(await first, 'try')
      first = wait('front')
    }
    let second = 'waits'
    void wait('back').then((outcome) => (second = outcome))
    await pass(319)
    assert.equal(second, 'waits')
    await pass(1)
    assert.equal(await first, 'try')
    queue.succeeded(['w'])
    queue.wakeNext(['w'])
    await pass(0)
    assert.equal(second, 'try', 'at once: there may be more')
    void wait('front').then((outcome) => (second = `${outcome} again`))
    await pass(80)
    assert.equal(second, 'try again')
  })
})
