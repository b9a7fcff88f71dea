import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import fc from 'fast-check'
import { FakeClock } from '../../../test/kube/fake-clock.ts'
import { WorkQueue } from './queue.ts'
import type { Lane, WorkFailure } from './queue.ts'

suite('work queue', () => {
  test('T41: a thousand updates of one key while it is worked on are one more round', async () => {
    const clock = new FakeClock()
    let rounds = 0
    const queue = new WorkQueue({
      clock,
      work: async () => {
        rounds += 1
        await new Promise<void>((resolve) => {
          clock.after(20, resolve)
        })
      },
    })
    queue.start()
    for (let update = 0; update < 1_000; update += 1) {
      queue.add('key')
      if (update % 100 === 0) await clock.advance(1)
    }
    await clock.advance(1_000)
    assert.equal(rounds, 2)
  })

  test('T42: a key that always fails backs off and is stalled, while others go on', async () => {
    const clock = new FakeClock()
    const failures: WorkFailure[] = []
    let good = 0
    const queue = new WorkQueue({
      clock,
      random: () => 1 - Number.EPSILON,
      concurrency: 1,
      work: async (key) => {
        if (key === 'bad') throw new Error('always')
        good += 1
      },
      onFailed: (_key, failure) => {
        failures.push(failure)
        throw new Error('and so does who is told')
      },
    })
    queue.start()
    queue.add('bad')
    for (let second = 0; second < 3_600; second += 1) {
      queue.add('good')
      await clock.advance(1_000)
    }
    assert.equal(good, 3_600)
    assert.deepEqual(
      failures.slice(0, 4).map(({ retryInMs }) => Math.round(retryInMs)),
      [100, 200, 400, 800],
    )
    assert.ok(failures.every(({ retryInMs }) => retryInMs <= 300_000))
    assert.equal(Math.round(failures.at(-1)?.retryInMs ?? 0), 300_000)
    assert.deepEqual(
      failures.slice(0, 6).map(({ stalled }) => stalled),
      [false, false, false, false, true, true],
    )
    assert.ok(failures.length < 30, `${failures.length} tries in an hour`)
    assert.equal(queue.isStalled('bad'), true)
  })

  test('a stalled key that comes right is told once, and begins anew', async () => {
    const clock = new FakeClock()
    const recovered: string[] = []
    const attempts: number[] = []
    let broken = true
    const queue = new WorkQueue({
      clock,
      stalledAfter: 2,
      work: async (_key, { attempt }) => {
        attempts.push(attempt)
        if (broken) throw new Error('still')
      },
      onRecovered: (key) => recovered.push(key),
    })
    queue.start()
    queue.add('key')
    await clock.advance(1_000)
    broken = false
    queue.add('key')
    await clock.advance(600_000)
    queue.add('key')
    await clock.advance(1)
    assert.deepEqual(recovered, ['key'])
    assert.equal(attempts.at(-1), 1)
    assert.equal(queue.isStalled('key'), false)
  })

  test('changes go before counts, and a key moves up', async () => {
    const clock = new FakeClock()
    const order: string[] = []
    const queue = new WorkQueue({
      clock,
      concurrency: 1,
      work: async (key) => {
        order.push(key)
      },
    })
    queue.add('u1', 'usage')
    queue.add('u2', 'usage')
    queue.add('u3', 'usage')
    queue.add('s1')
    queue.add('u3', 'spec')
    queue.add('s1', 'usage')
    queue.start()
    await clock.advance(1)
    assert.deepEqual(order, ['s1', 'u3', 'u1', 'u2'])
  })

  test('of several delays the earliest counts; `againAfterMs` comes round', async () => {
    const clock = new FakeClock()
    const times: number[] = []
    const beganMs = clock.nowMs()
    const queue = new WorkQueue({
      clock,
      work: async () => {
        times.push(clock.nowMs() - beganMs)
        return times.length < 3 ? { againAfterMs: 500 } : undefined
      },
    })
    queue.start()
    queue.addAfter('key', 300)
    queue.addAfter('key', 100)
    queue.addAfter('key', 200)
    await clock.advance(10_000)
    assert.deepEqual(times, [100, 600, 1_100])
  })

  test('stop waits for what is in work and takes nothing more', async () => {
    const clock = new FakeClock()
    const done: string[] = []
    const queue = new WorkQueue({
      clock,
      concurrency: 1,
      work: async (key) => {
        await new Promise<void>((resolve) => {
          clock.after(50, resolve)
        })
        done.push(key)
      },
    })
    queue.start()
    queue.add('a')
    queue.add('b')
    queue.add('a')
    queue.addAfter('c', 10)
    let stopped = false
    const stopping = (async () => {
      await queue.stop()
      stopped = true
    })()
    queue.add('d')
    await clock.advance(20)
    assert.equal(stopped, false)
    await clock.advance(1_000)
    await stopping
    assert.deepEqual(done, ['a'])
    assert.equal(clock.timers, 0)
  })

  test('T48: a wall clock that jumps an hour back neither hurries nor holds up anything', async () => {
    const clock = new FakeClock()
    let rounds = 0
    const queue = new WorkQueue({
      clock,
      work: async () => {
        rounds += 1
        return { againAfterMs: 1_000 }
      },
    })
    queue.start()
    queue.add('key')
    await clock.advance(10_500)
    clock.wallOffsetMs -= 3_600_000
    await clock.advance(10_000)
    assert.equal(rounds, 21)
  })

  test('whatever happens: one worker for a key, never more than allowed, and the last change is worked on', async () => {
    const steps = fc.array(
      fc.oneof(
        fc.record({ do: fc.constant('add' as const), key: fc.nat(4), lane: fc.constantFrom<Lane>('spec', 'usage') }),
        fc.record({ do: fc.constant('later' as const), key: fc.nat(4), delayMs: fc.nat(400) }),
        fc.record({ do: fc.constant('wait' as const), ms: fc.nat(60) }),
      ),
      { maxLength: 60 },
    )
    await fc.assert(
      fc.asyncProperty(
        steps,
        fc.integer({ min: 1, max: 3 }),
        fc.array(fc.boolean(), { minLength: 5, maxLength: 40 }),
        async (plan, concurrency, luck) => {
          const clock = new FakeClock()
          const inWork = new Set<string>()
          /** What a worker saw of a key, against what was said of it. */
          const said = new Map<string, number>()
          const made = new Map<string, number>()
          let turn = 0
          const queue = new WorkQueue({
            clock,
            concurrency,
            random: () => 0.5,
            work: async (key) => {
              assert.ok(!inWork.has(key), 'one worker for a key')
              inWork.add(key)
              assert.ok(inWork.size <= concurrency)
              const seen = said.get(key) ?? 0
              turn += 1
              const fails = turn < luck.length && luck[turn] === true
              await new Promise<void>((resolve) => {
                clock.after(turn % 25, resolve)
              })
              inWork.delete(key)
              if (fails) throw new Error('out of luck')
              made.set(key, Math.max(made.get(key) ?? 0, seen))
            },
          })
          queue.start()
          let count = 0
          for (const step of plan) {
            if (step.do === 'wait') {
              await clock.advance(step.ms)
              continue
            }
            const key = `k${step.key}`
            said.set(key, (count += 1))
            if (step.do === 'add') queue.add(key, step.lane)
            else queue.addAfter(key, step.delayMs)
          }
          await clock.advance(10_000_000)
          await nextTurn()
          assert.deepEqual(Object.fromEntries(made), Object.fromEntries(said))
          assert.equal(queue.depth + queue.inWork, 0)
          assert.equal(clock.timers, 0)
        },
      ),
      { numRuns: 150 },
    )
  })
})
