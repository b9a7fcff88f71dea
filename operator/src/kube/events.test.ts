import assert from 'node:assert/strict'
import { afterEach, beforeEach, suite, test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { FakeApiServer } from '../../../test/kube/fake-api-server.ts'
import { FakeClock } from '../../../test/kube/fake-clock.ts'
import { connectKube } from './client.ts'
import type { KubeConnection } from './client.ts'
import { EventRecorder } from './events.ts'

const POD = { apiVersion: 'v1', kind: 'Pod', name: 'p', namespace: 'a', uid: 'u' }

suite('events', () => {
  let server: FakeApiServer
  let kube: KubeConnection
  let clock: FakeClock
  let recorder: EventRecorder<'Skipped' | 'Injected'>
  let errors: unknown[]

  beforeEach(async () => {
    server = new FakeApiServer()
    await server.start()
    kube = await connectKube({ kubeconfig: server.kubeconfig })
    clock = new FakeClock()
    errors = []
    recorder = new EventRecorder({
      client: kube,
      reasons: ['Skipped', 'Injected'],
      controller: 'farebox.dev/operator',
      instance: 'operator-1',
      clock,
      onError: (error) => errors.push(error),
    })
  })

  afterEach(async () => {
    await recorder.stop()
    await kube.close()
    await server.end()
  })

  function record(note: string, regarding: { apiVersion: string; kind: string; name: string; namespace?: string } = POD): void {
    recorder.record({ regarding, type: 'Warning', reason: 'Skipped', action: 'Inject', note })
  }

  test('the same thing a thousand times is one event with a count', async () => {
    for (let time = 0; time < 1_000; time += 1) {
      record('host network')
      await clock.advance(100)
    }
    await recorder.stop()
    assert.equal(new Set(server.requests.map(({ path }) => path)).size, 1)
    assert.ok(server.requests.length <= 5, String(server.requests.length))
    const last = server.requests.at(-1)?.body as { series: { count: number; lastObservedTime: string }; note: string; eventTime: string }
    assert.equal(last.series.count, 1_000)
    assert.match(last.series.lastObservedTime, /^2026-01-01T00:01:40\.\d{6}Z$/)
    assert.match(last.eventTime, /^2026-01-01T00:00:01\.\d{6}Z$/)
    assert.equal(last.note, 'host network')
  })

  test('an object has a budget of new events; another has its own', async () => {
    for (let time = 0; time < 100; time += 1) record(`note ${time}`)
    record('other', { ...POD, name: 'q' })
    await recorder.stop()
    assert.equal(server.requests.length, 11)
  })

  test('what has no namespace is told in default; a reason that was not declared is a bug; errors do not come out', async () => {
    server.fault = () => ({ code: 422 })
    record('n', { apiVersion: 'farebox.dev/v1alpha1', kind: 'PricingTier', name: 't' })
    assert.throws(() => {
      recorder.record({ regarding: POD, type: 'Normal', reason: 'Other' as 'Skipped', action: 'a', note: 'n' })
    }, /Other is no reason/)
    await nextTurn()
    await recorder.stop()
    assert.match(server.requests[0]?.path ?? '', /^\/apis\/events.k8s.io\/v1\/namespaces\/default\/events\/t\.[0-9a-f]{16}$/)
    assert.equal(errors.length, 1)
    record('after stop')
    assert.equal(server.requests.length, 1)
  })
})
