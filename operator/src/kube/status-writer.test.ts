import assert from 'node:assert/strict'
import { beforeEach, suite, test } from 'node:test'
import fc from 'fast-check'
import { FakeClock } from '../../../test/kube/fake-clock.ts'
import { KubeError } from './kube.ts'
import type { ApplyOptions, KubeClient, KubeObject } from './kube.ts'
import { CONVERSATION_BUDGETS } from './resources.ts'
import { StatusTooLargeError, StatusWriter } from './status-writer.ts'
import type { StatusCondition, StatusTarget, StatusValue, StuckStatus } from './status-writer.ts'

/** Objects with a status, and a log of what was written to them. */
class Cluster {
  readonly writes: { atMs: number; name: string; status: StatusValue; options: ApplyOptions }[] = []
  readonly objects = new Map<string, KubeObject>()
  fails: (name: string) => KubeError | null = () => null
  reads = 0
  #version = 10
  readonly #clock: FakeClock

  constructor(clock: FakeClock) {
    this.#clock = clock
  }

  get client(): KubeClient {
    const never = () => Promise.reject(new Error('not for this test'))
    return {
      get: never,
      list: async (_resource, { fieldSelector = '' } = {}) => {
        this.reads += 1
        const found = this.objects.get(fieldSelector.replace('metadata.name=', ''))
        return found === undefined ? [] : [found]
      },
      apply: async (_resource, { metadata: { name, resourceVersion }, status }, options) => {
        const error = this.fails(name)
        if (error !== null) throw error
        const known = this.objects.get(name)
        if (known === undefined) throw new KubeError('gone', { status: 404, reason: 'NotFound' })
        if (resourceVersion !== known.metadata.resourceVersion) throw new KubeError('changed', { status: 409, reason: 'Conflict' })
        this.writes.push({ atMs: this.#clock.nowMs(), name, status: status as StatusValue, options })
        return this.set(name, status as StatusValue)
      },
      create: never,
      replace: never,
      delete: never,
      evict: never,
      text: never,
    }
  }

  set(name: string, status: StatusValue, uid = `uid-${name}`): KubeObject {
    const metadata = { name, namespace: 'a', uid, resourceVersion: String((this.#version += 1)) }
    const object = { apiVersion: 'farebox.dev/v1alpha1', kind: 'ConversationBudget', metadata, status }
    this.objects.set(name, object)
    return object
  }

  get(name: string): KubeObject {
    const object = this.objects.get(name)
    assert.ok(object)
    return object
  }
}

const OLD_TIME = '2020-01-01T00:00:00Z'

function target(name: string): StatusTarget {
  return { resource: CONVERSATION_BUDGETS, name, namespace: 'a' }
}

function ready(status: string, rest: Partial<StatusCondition> = {}): StatusCondition {
  return { type: 'Ready', status, reason: status === 'True' ? 'Ready' : 'Broken', message: 'm', observedGeneration: 1, ...rest }
}

suite('status writer', () => {
  let clock: FakeClock
  let cluster: Cluster
  let writer: StatusWriter
  let errors: unknown[]

  beforeEach(() => {
    clock = new FakeClock()
    cluster = new Cluster(clock)
    errors = []
    writer = new StatusWriter({
      client: cluster.client,
      fieldManager: 'farebox-status',
      clock,
      random: () => 0.5,
      timeFields: ['reportedAt'],
      onError: (_target, error) => errors.push(error),
    })
  })

  test('T47: what is so already is not written, whatever its times say', async () => {
    cluster.set('b', { conditions: [ready('True', { lastTransitionTime: OLD_TIME })], spend: { spent: '1', reportedAt: OLD_TIME } })
    for (let round = 0; round < 100; round += 1) {
      const wanted = {
        conditions: [ready('True', { lastTransitionTime: `2026-01-01T00:00:${round}Z` })],
        spend: { spent: '1', reportedAt: `${round}` },
      }
      assert.equal(writer.want(target('b'), wanted, cluster.get('b')), 'Equal')
      await clock.advance(60_000)
    }
    assert.equal(cluster.writes.length, 0)
    assert.equal(writer.pending, 0)
  })

  test('a condition that changes is written at once, and keeps its time unless its status flips', async () => {
    cluster.set('b', { conditions: [ready('True', { lastTransitionTime: OLD_TIME })] })
    assert.equal(writer.want(target('b'), { conditions: [ready('True', { reason: 'Other' })] }, cluster.get('b')), 'AtOnce')
    await clock.advance(0)
    assert.deepEqual(cluster.writes[0]?.status.conditions, [ready('True', { reason: 'Other', lastTransitionTime: OLD_TIME })])
    assert.deepEqual(cluster.writes[0].options, { fieldManager: 'farebox-status', subresource: 'status', force: true })
    writer.want(target('b'), { conditions: [ready('False')] }, cluster.get('b'))
    await clock.advance(100)
    assert.equal(cluster.writes[1]?.status.conditions?.[0]?.lastTransitionTime, '2026-01-01T00:00:01Z')
    writer.want(target('b'), { conditions: [ready('True', { lastTransitionTime: '2026-02-02T00:00:00Z' })] }, cluster.get('b'))
    await clock.advance(100)
    assert.equal(cluster.writes[2]?.status.conditions?.[0]?.lastTransitionTime, '2026-02-02T00:00:00Z')
  })

  test('counters of one object are written every ten seconds at most, the last of them for sure', async () => {
    cluster.set('b', { spend: 0 })
    for (let ms = 0; ms < 60_000; ms += 100) {
      const verdict = writer.want(target('b'), { spend: ms + 1 }, cluster.get('b'))
      assert.equal(verdict, 'Later')
      await clock.advance(100)
    }
    await clock.advance(20_000)
    const gaps = cluster.writes.slice(1).map(({ atMs }, index) => atMs - (cluster.writes[index]?.atMs ?? 0))
    assert.ok(
      gaps.every((gap) => gap >= 10_000),
      gaps.join(),
    )
    assert.ok(cluster.writes.length >= 5 && cluster.writes.length <= 7, String(cluster.writes.length))
    assert.deepEqual(cluster.get('b')['status'], { spend: 59_901 })
    assert.equal(writer.pending, 0)
  })

  test('a condition does not wait for the counters, and takes them along', async () => {
    cluster.set('b', { spend: 0, conditions: [ready('True')] })
    writer.want(target('b'), { spend: 1, conditions: [ready('True')] }, cluster.get('b'))
    await clock.advance(2_000)
    writer.want(target('b'), { spend: 2, conditions: [ready('True')] }, cluster.get('b'))
    assert.equal(writer.want(target('b'), { spend: 3, conditions: [ready('False')] }, cluster.get('b')), 'AtOnce')
    await clock.advance(100)
    assert.equal(cluster.writes.length, 2)
    assert.equal(cluster.writes[1]?.status['spend'], 3)
    await clock.advance(60_000)
    assert.equal(cluster.writes.length, 2)
  })

  test('never more than twenty writes a second over all objects, conditions first', async () => {
    for (let index = 0; index < 300; index += 1) {
      cluster.set(`c${index}`, { spend: 0, conditions: [ready('True')] })
      writer.want(target(`c${index}`), { spend: 1, conditions: [ready('True')] }, cluster.get(`c${index}`))
    }
    await clock.advance(1_000)
    for (let index = 0; index < 20; index += 1) {
      writer.want(target(`c${299 - index}`), { spend: 1, conditions: [ready('False')] }, cluster.get(`c${299 - index}`))
    }
    await clock.advance(30_000)
    assert.equal(cluster.writes.length, 300)
    for (const { atMs } of cluster.writes) {
      const within = cluster.writes.filter((other) => other.atMs >= atMs && other.atMs < atMs + 1_000).length
      assert.ok(within <= 21, `${within} in a second`)
    }
    const urgent = cluster.writes.filter(({ status }) => status.conditions?.[0]?.status === 'False')
    assert.equal(urgent.length, 20)
    assert.ok((urgent.at(-1)?.atMs ?? 0) < 1_000 + 2_200 + 1_000)
  })

  test('what the cache does not show yet counts: neither written twice nor taken back', async () => {
    const stale = cluster.set('b', { spend: 0, conditions: [ready('True')] })
    const changed = { spend: 0, conditions: [ready('False')] }
    writer.want(target('b'), changed, stale)
    await clock.advance(100)
    assert.equal(writer.want(target('b'), changed, stale), 'Equal')
    // Back to what the stale cache shows: it must be written all the same.
    assert.equal(writer.want(target('b'), { spend: 0, conditions: [ready('True')] }, stale), 'AtOnce')
    await clock.advance(100)
    assert.equal(cluster.writes.length, 2)
  })

  test('what somebody else changed is set right', async () => {
    cluster.set('b', { spend: 0 })
    writer.want(target('b'), { spend: 1 }, cluster.get('b'))
    await clock.advance(2_000)
    cluster.set('b', { spend: 99 })
    assert.equal(writer.want(target('b'), { spend: 1 }, cluster.get('b')), 'Later')
    await clock.advance(20_000)
    assert.deepEqual(cluster.get('b')['status'], { spend: 1 })
  })

  test('T43: a conflict: reads again and repeats, until it is there', async () => {
    cluster.set('b', { conditions: [ready('True')] })
    let conflicts = 3
    cluster.fails = () => ((conflicts -= 1) >= 0 ? new KubeError('conflict', { status: 409, reason: 'Conflict' }) : null)
    writer.want(target('b'), { conditions: [ready('False')] }, cluster.get('b'))
    await clock.advance(30_000)
    assert.equal(errors.length, 3)
    assert.equal(cluster.reads, 3)
    assert.equal(cluster.writes.length, 1)
    assert.equal(writer.pending, 0)
  })

  test('T43: a spec that was edited meanwhile: the write is refused, and repeated on what is there now', async () => {
    const before = cluster.set('b', { conditions: [ready('True')] })
    cluster.set('b', { conditions: [ready('True')] })
    writer.want(target('b'), { conditions: [ready('False')] }, before)
    await clock.advance(2_000)
    assert.equal(errors.length, 1)
    assert.equal(cluster.reads, 1)
    assert.equal(cluster.writes.length, 1)
  })

  test('T43: a conflict because it is another object by now ends it', async () => {
    const before = cluster.set('b', { conditions: [ready('True')] })
    cluster.set('b', { conditions: [] }, 'another')
    writer.want(target('b'), { conditions: [ready('False')] }, before)
    await clock.advance(600_000)
    assert.equal(errors.length, 1)
    assert.equal(cluster.writes.length, 0)
    assert.equal(writer.pending, 0)
    assert.equal(clock.timers, 0)
  })

  test('an object that is gone is forgotten; one that fails is tried more and more seldom', async () => {
    const gone = cluster.set('gone', {})
    cluster.objects.delete('gone')
    writer.want(target('gone'), { conditions: [ready('True')] }, gone)
    cluster.set('bad', {})
    cluster.fails = (name) => (name === 'bad' ? new KubeError('invalid', { status: 422, reason: 'Invalid' }) : null)
    writer.want(target('bad'), { conditions: [ready('True')] }, cluster.get('bad'))
    await clock.advance(3_600_000)
    assert.ok(errors.length > 10 && errors.length < 40, String(errors.length))
    assert.equal(writer.pending, 1)
    writer.forget(CONVERSATION_BUDGETS, 'a/bad')
    await clock.advance(3_600_000)
    assert.equal(writer.pending, 0)
  })

  test('a status that is refused again and again is stuck, until it is written, or is no more to be; a conflict is none', async () => {
    const stuck = (): StuckStatus | null => writer.stuck
    cluster.set('b', { spend: 0 })
    const refused = new KubeError('field not declared in schema', { status: 500, reason: 'InternalError' })
    cluster.fails = () => refused
    writer.want(target('b'), { spend: 1 }, cluster.get('b'))
    await clock.advance(2_000)
    assert.ok(errors.length > 0 && errors.length < 5)
    assert.equal(stuck(), null)
    await clock.advance(60_000)
    assert.deepEqual(stuck(), { target: target('b'), error: refused })
    cluster.fails = () => new KubeError('changed', { status: 409, reason: 'Conflict' })
    await clock.advance(300_000)
    assert.deepEqual(stuck()?.error, refused, 'nothing was written yet')
    cluster.fails = () => null
    await clock.advance(600_000)
    assert.deepEqual([stuck(), writer.pending], [null, 0])

    cluster.fails = () => refused
    writer.want(target('b'), { spend: 2 }, cluster.get('b'))
    await clock.advance(120_000)
    assert.ok(stuck())
    writer.want(target('b'), { spend: 1 }, cluster.get('b'))
    assert.equal(stuck(), null, 'what is there is right')
    const before = errors.length
    cluster.fails = () => new KubeError('changed', { status: 409, reason: 'Conflict' })
    writer.want(target('b'), { spend: 3 }, cluster.get('b'))
    await clock.advance(1_200_000)
    assert.ok(errors.length - before > 5)
    assert.equal(stuck(), null)
  })

  test('a status over 64 KiB is refused with a clear error; long messages are cut', async () => {
    cluster.set('b', {})
    const conversations = Object.fromEntries(Array.from({ length: 3_000 }, (_, index) => [`conversation-${index}`, 'x'.repeat(10)]))
    assert.throws(
      () => writer.want(target('b'), { conversations }, cluster.get('b')),
      (error: unknown) => {
        assert.ok(error instanceof StatusTooLargeError)
        assert.match(error.message, /^the status of ConversationBudget a\/b has \d+ bytes; it must have 65536 at most$/)
        return true
      },
    )
    writer.want(target('b'), { conditions: [ready('True', { message: '💸'.repeat(4_000) })] }, cluster.get('b'))
    await clock.advance(100)
    const message = cluster.writes[0]?.status.conditions?.[0]?.message ?? ''
    assert.ok(message.length <= 1_024 && message.endsWith('…') && message.isWellFormed())
  })

  test('flush writes what waits, in time for a clean stop', async () => {
    for (let index = 0; index < 5; index += 1) {
      cluster.set(`c${index}`, { spend: 0 })
      writer.want(target(`c${index}`), { spend: 1 }, cluster.get(`c${index}`))
    }
    let flushed = false
    const flushing = (async () => {
      await writer.flush()
      flushed = true
    })()
    await clock.advance(400)
    await flushing
    assert.equal(flushed, true)
    assert.equal(cluster.writes.length, 5)
    writer.stop()
    writer.want(target('c0'), { spend: 2 }, cluster.get('c0'))
    await clock.advance(100_000)
    assert.equal(cluster.writes.length, 5)
  })

  test('the last status that is wanted is the one that stays, whatever fails in between', async () => {
    const steps = fc.array(fc.tuple(fc.nat(2), fc.nat(3), fc.constantFrom('True', 'False'), fc.nat(4_000), fc.boolean()), {
      minLength: 1,
      maxLength: 40,
    })
    await fc.assert(
      fc.asyncProperty(steps, async (plan) => {
        clock = new FakeClock()
        cluster = new Cluster(clock)
        writer = new StatusWriter({ client: cluster.client, fieldManager: 'f', clock, random: () => 0.3 })
        const wanted = new Map<string, StatusValue>()
        for (let index = 0; index < 3; index += 1) cluster.set(`c${index}`, {})
        for (const [object, spend, status, waitMs, fails] of plan) {
          cluster.fails = () => (fails ? new KubeError('away', { status: 503, reason: 'ServiceUnavailable' }) : null)
          const name = `c${object}`
          const desired = { spend, conditions: [ready(status, { lastTransitionTime: OLD_TIME })] }
          wanted.set(name, desired)
          writer.want(target(name), desired, cluster.get(name))
          await clock.advance(waitMs)
        }
        cluster.fails = () => null
        await clock.advance(3_600_000)
        for (const [name, desired] of wanted) {
          const { conditions, ...rest } = cluster.get(name)['status'] as StatusValue
          const timeless = conditions?.map((condition) => ({ ...condition, lastTransitionTime: OLD_TIME }))
          assert.deepEqual({ ...rest, conditions: timeless }, desired)
        }
        assert.equal(writer.pending, 0)
      }),
      { numRuns: 100 },
    )
  })
})
