import assert from 'node:assert/strict'
import { afterEach, beforeEach, suite, test } from 'node:test'
import { FakeApiServer } from '../../../test/kube/fake-api-server.ts'
import { waitFor } from '../../../test/support/wait-for.ts'
import { connectKube } from './client.ts'
import type { KubeConnection } from './client.ts'
import { KubeError } from './kube.ts'
import type { KubeObject } from './kube.ts'
import { CONFIG_MAPS, CONVERSATION_BUDGETS, EVENTS, NAMESPACES } from './resources.ts'
import type { RequestReport } from './transport.ts'

const MAP: KubeObject = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'm', namespace: 'a' } }

suite('client', () => {
  let server: FakeApiServer
  let kube: KubeConnection
  let reports: RequestReport[]

  beforeEach(async () => {
    server = new FakeApiServer()
    await server.start()
    reports = []
    kube = await connectKube({
      kubeconfig: server.kubeconfig,
      attemptMs: 300,
      deadlineMs: 2_500,
      queriesPerSecond: 1_000,
      onRequest: (report) => reports.push(report),
    })
  })

  afterEach(async () => {
    await kube.close()
    await server.end()
  })

  test('two hundred calls use eight connections at most, and close leaves none', async () => {
    await Promise.all(Array.from({ length: 100 }, () => kube.get(CONFIG_MAPS, 'm', 'a')))
    for (let call = 0; call < 100; call += 1) await kube.get(CONFIG_MAPS, 'm', 'a')
    assert.ok(server.sockets <= 8, `${server.sockets} sockets`)
    await kube.close()
    // Long before idle ones end by themselves.
    await waitFor('no socket', () => server.sockets === 0, { withinMs: 5_000 })
  })

  test('reads, writes and deletes by the documented paths and queries', async () => {
    assert.equal(await kube.get(CONFIG_MAPS, 'm', 'a'), null)
    const created = await kube.create(CONFIG_MAPS, MAP)
    assert.equal((await kube.get(CONFIG_MAPS, 'm', 'a'))?.metadata.uid, created.metadata.uid)
    await kube.replace(CONFIG_MAPS, { ...MAP, metadata: { ...created.metadata } })
    await assert.rejects(kube.replace(CONFIG_MAPS, { ...MAP, metadata: { ...created.metadata } }), { status: 409, reason: 'Conflict' })
    await kube.apply(
      CONVERSATION_BUDGETS,
      { apiVersion: 'x', kind: 'y', metadata: { name: 'b', namespace: 'a' } },
      { fieldManager: 'f', force: true, dryRun: true },
    )
    await kube.delete(CONFIG_MAPS, 'm', 'a', created.metadata.uid)
    await kube.delete(CONFIG_MAPS, 'm', 'a')
    await kube.get(NAMESPACES, 'a')
    assert.deepEqual(
      server.requests.map(({ method, path, query }) => `${method} ${path} ${query.toString()}`),
      [
        'GET /api/v1/namespaces/a/configmaps/m ',
        'POST /api/v1/namespaces/a/configmaps fieldManager=farebox-operator',
        'GET /api/v1/namespaces/a/configmaps/m ',
        'PUT /api/v1/namespaces/a/configmaps/m fieldManager=farebox-operator',
        'PUT /api/v1/namespaces/a/configmaps/m fieldManager=farebox-operator',
        'PATCH /apis/farebox.dev/v1alpha1/namespaces/a/conversationbudgets/b fieldManager=f&force=true&dryRun=All',
        'DELETE /api/v1/namespaces/a/configmaps/m ',
        'DELETE /api/v1/namespaces/a/configmaps/m ',
        'GET /api/v1/namespaces/a ',
      ],
    )
    const apply = server.requests.find(({ method }) => method === 'PATCH')
    assert.equal(apply?.headers['content-type'], 'application/apply-patch+yaml')
    assert.equal(apply.headers.authorization, 'Bearer secret')
    assert.deepEqual(reports[0], { verb: 'get', resource: 'configmaps', code: 404, seconds: reports[0]?.seconds })
    assert.equal(kube.currentNamespace, 'here')
  })

  test('T38: 429 and 503 are waited for as told, writes too; a write that fails otherwise is not sent again', async () => {
    const faults = [{ code: 429, headers: { 'retry-after': '1' } }, { code: 503 }]
    server.fault = () => faults.shift() ?? null
    const startMs = performance.now()
    await kube.create(CONFIG_MAPS, MAP)
    assert.ok(performance.now() - startMs >= 1_000)
    assert.deepEqual(
      reports.map(({ code }) => code),
      [429, 503, 201],
    )
    server.fault = () => ({ code: 500 })
    await assert.rejects(kube.create(CONFIG_MAPS, MAP), { status: 500 })
    assert.equal(server.requests.length, 4)
    server.fault = () => 'cut'
    await assert.rejects(kube.replace(CONFIG_MAPS, MAP), { status: 0, reason: 'Unreachable' })
    assert.equal(server.requests.length, 5)
  })

  test('Retry-After beyond the deadline comes back with the error', async () => {
    server.fault = () => ({ code: 429, headers: { 'retry-after': '30' } })
    await assert.rejects(kube.get(CONFIG_MAPS, 'm', 'a'), { status: 429, retryAfterMs: 30_000 })
    assert.equal(server.requests.length, 1)
  })

  test('a server that is silent costs the deadline and no more; reads are tried again', async () => {
    let silent = 2
    server.fault = () => ((silent -= 1) >= 0 ? 'hang' : null)
    server.put(CONFIG_MAPS, 'm', { namespace: 'a' })
    assert.equal((await kube.get(CONFIG_MAPS, 'm', 'a'))?.metadata.name, 'm')
    server.fault = () => 'hang'
    const startMs = performance.now()
    await assert.rejects(kube.create(CONFIG_MAPS, MAP), { status: 0, reason: 'Timeout' })
    const tookMs = performance.now() - startMs
    assert.ok(tookMs >= 290 && tookMs < 1_000, `${tookMs} ms`)
  })

  test('a server that is away is Unreachable, and found again', async () => {
    await server.stop()
    const reading = kube.get(CONFIG_MAPS, 'm', 'a')
    await new Promise((resolve) => setTimeout(resolve, 300))
    await server.start()
    assert.equal(await reading, null)
    await server.stop()
    await assert.rejects(kube.get(CONFIG_MAPS, 'm', 'a'), (error: unknown) => error instanceof KubeError && error.reason === 'Unreachable')
  })

  test('T44: under a fence nothing is written once another may lead, not even what waits to be sent again', async () => {
    let leads = true
    const fenced = kube.fenced({ mayWrite: () => leads })
    await fenced.create(CONFIG_MAPS, MAP)
    server.fault = () => {
      leads = false
      return { code: 503 }
    }
    await assert.rejects(fenced.delete(CONFIG_MAPS, 'm', 'a'), { reason: 'NotLeader' })
    server.fault = () => null
    const { length } = server.requests
    for (const write of [
      () => fenced.create(CONFIG_MAPS, MAP),
      () => fenced.replace(CONFIG_MAPS, MAP),
      () => fenced.apply(CONFIG_MAPS, MAP, { fieldManager: 'f' }),
      () => fenced.delete(CONFIG_MAPS, 'm', 'a'),
    ]) {
      await assert.rejects(write(), { reason: 'NotLeader' })
    }
    assert.equal(server.requests.length, length)
    assert.equal((await fenced.get(CONFIG_MAPS, 'm', 'a'))?.metadata.name, 'm')
  })

  test('a token that is refused is read again, once', async () => {
    let refusals = 1
    server.fault = () => ((refusals -= 1) >= 0 ? { code: 401 } : null)
    assert.equal(await kube.get(CONFIG_MAPS, 'm', 'a'), null)
    server.fault = () => ({ code: 401 })
    await assert.rejects(kube.get(CONFIG_MAPS, 'm', 'a'), { status: 401 })
    assert.equal(server.requests.length, 4)
  })

  test('its own rate is bounded: bursts pass, then so many a second', async () => {
    await kube.close()
    kube = await connectKube({ kubeconfig: server.kubeconfig, queriesPerSecond: 20, burst: 5 })
    const startMs = performance.now()
    await Promise.all(Array.from({ length: 15 }, () => kube.get(CONFIG_MAPS, 'm', 'a')))
    const tookMs = performance.now() - startMs
    assert.ok(tookMs >= 480 && tookMs < 1_500, `${tookMs} ms`)
  })

  test('a hundred events that wait do not hold up what else there is to do', async () => {
    await kube.close()
    kube = await connectKube({ kubeconfig: server.kubeconfig, queriesPerSecond: 20, burst: 5 })
    const eventOf = (index: number): KubeObject => ({
      apiVersion: 'events.k8s.io/v1',
      kind: 'Event',
      metadata: { name: `e${index}`, namespace: 'a' },
    })
    const events = Array.from({ length: 100 }, (_, index) => kube.apply(EVENTS, eventOf(index), { fieldManager: 'test' }).catch(() => null))
    const startMs = performance.now()
    await kube.get(CONFIG_MAPS, 'm', 'a')
    assert.ok(performance.now() - startMs < 1_500) // a hundred take five seconds
    await kube.close()
    await Promise.all(events)
  })

  test('what is no answer of an API server is an error with its words', async () => {
    server.fault = () => ({ code: 403, body: { kind: 'Status', reason: 'Forbidden', message: 'you may not', code: 403 } })
    await assert.rejects(kube.list(CONFIG_MAPS), { message: 'list configmaps: 403 you may not', reason: 'Forbidden' })
    server.fault = () => ({ code: 200, body: { metadata: {} } })
    await assert.rejects(kube.list(CONFIG_MAPS), { message: 'list configmaps: the answer is no list' })
    server.fault = () => ({ code: 200, body: 'hello' })
    await assert.rejects(kube.get(CONFIG_MAPS, 'm'), KubeError)
  })
})
