import assert from 'node:assert/strict'
import { afterEach, beforeEach, suite, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { waitFor } from '../../../test/support/wait-for.ts'
import { FakeApiServer } from '../../../test/kube/fake-api-server.ts'
import { connectKube } from './client.ts'
import type { KubeConnection } from './client.ts'
import type { KubeObject } from './kube.ts'
import { Reflector } from './reflector.ts'
import type { ReflectorOptions, ReflectorProblem } from './reflector.ts'
import { CONFIG_MAPS, PODS } from './resources.ts'

const QUICK = { backoffMinMs: 5, backoffMaxMs: 50 }

suite('reflector', () => {
  let server: FakeApiServer
  let kube: KubeConnection
  let started: { stop(): Promise<void> }[]

  beforeEach(async () => {
    server = new FakeApiServer()
    await server.start()
    kube = await connectKube({ kubeconfig: server.kubeconfig, attemptMs: 2_000, deadlineMs: 5_000 })
    started = []
  })

  afterEach(async () => {
    await Promise.all(started.map((reflector) => reflector.stop()))
    await kube.close()
    await server.end()
  })

  interface Told {
    readonly reflector: Reflector<string>
    readonly changes: string[]
    readonly problems: ReflectorProblem[]
  }

  /** Of config maps by what `data.value` says, told as `key before>after`. */
  function reflect(options: Partial<ReflectorOptions<string>> = {}): Told {
    const changes: string[] = []
    const problems: ReflectorProblem[] = []
    const reflector = new Reflector<string>({
      kube,
      resource: CONFIG_MAPS,
      parse: valueOf,
      onChange: (key, before, after) => changes.push(`${key} ${before ?? ''}>${after ?? ''}`),
      onProblem: (problem) => problems.push(problem),
      ...options,
      timing: { ...QUICK, ...options.timing },
    })
    started.push(reflector)
    reflector.start()
    return { reflector, changes, problems }
  }

  function put(name: string, value: string): void {
    server.put(CONFIG_MAPS, name, { namespace: 'a', fields: { data: { value } } })
  }

  test('lists in pages, then follows what changes', async () => {
    for (let index = 0; index < 7; index += 1) put(`m${index}`, 'x')
    const { reflector, changes } = reflect({ pageSize: 3 })
    await reflector.synced
    assert.equal(reflector.hasSynced, true)
    assert.equal(reflector.size, 7)
    assert.deepEqual(
      server.requests.filter(({ query }) => query.get('watch') === null).map(({ query }) => [query.get('limit'), query.has('continue')]),
      [
        ['3', false],
        ['3', true],
        ['3', true],
      ],
    )
    await waitFor('watch', () => server.watches === 1)
    put('m1', 'y')
    server.remove(CONFIG_MAPS, 'm2', 'a')
    await waitFor('changes', () => changes.length === 9)
    assert.deepEqual(changes.slice(7), ['a/m1 x>y', 'a/m2 x>'])
    assert.equal(reflector.get('a/m1'), 'y')
    assert.equal([...reflector.values()].length, 6)
    const watch = server.requests.find(({ query }) => query.get('watch') === 'true')
    assert.equal(watch?.query.get('allowWatchBookmarks'), 'true')
    const seconds = Number(watch?.query.get('timeoutSeconds'))
    assert.ok(seconds >= 300 && seconds <= 600, String(seconds))
    assert.ok(reflector.lastEventAgeMs < 5_000)
  })

  for (const expiredAs of ['event', 'status'] as const) {
    test(`T37: 410 as ${expiredAs}: lists anew and sees what was deleted meanwhile`, async () => {
      server.expiredAs = expiredAs
      put('stays', 'x')
      put('goes', 'x')
      const { reflector, changes, problems } = reflect()
      await reflector.synced
      await waitFor('watch', () => server.watches === 1)
      server.fault = ({ query }) => (query.get('watch') === 'true' ? 'cut' : null)
      server.closeWatches('cut')
      server.remove(CONFIG_MAPS, 'goes', 'a')
      put('comes', 'x')
      server.compact()
      server.fault = () => null
      await waitFor('relist', () => reflector.relists === 1)
      assert.deepEqual(changes.slice(2).sort(), ['a/comes >x', 'a/goes x>'])
      assert.ok(problems.some(({ kind }) => kind === 'Expired'))
      await waitFor('watch again', () => server.watches === 1)
      put('stays', 'y')
      await waitFor('event', () => reflector.get('a/stays') === 'y')
    })
  }

  test('T37: a page that expired: the list begins anew, in the end without pages', async () => {
    for (let index = 0; index < 4; index += 1) put(`m${index}`, 'x')
    server.fault = ({ query }) => (query.has('continue') ? { code: 410 } : null)
    const { reflector } = reflect({ pageSize: 2 })
    await reflector.synced
    assert.equal(reflector.size, 4)
    assert.equal(server.requests.filter(({ query }) => !query.has('watch') && !query.has('limit')).length, 1)
  })

  test('T37: large objects are listed in small pages, and not without them however often pages expire', async () => {
    for (let index = 0; index < 45; index += 1) put(`m${index}`, 'x')
    let expires = 4
    server.fault = ({ query }) => (query.has('continue') && expires-- > 0 ? { code: 410 } : null)
    const { reflector, problems } = reflect({ hasLargeObjects: true })
    await reflector.synced
    assert.equal(reflector.size, 45)
    const limits = server.requests.filter(({ query }) => !query.has('watch')).map(({ query }) => query.get('limit'))
    assert.deepEqual([limits.length, new Set(limits)], [4 * 2 + 3, new Set(['20'])])
    assert.deepEqual(
      problems.map(({ kind }) => kind),
      ['Expired', 'Expired', 'List', 'Expired'],
      'the third time it waits before it begins anew',
    )
  })

  test('T38: a list that fails with 500, then 429 with Retry-After: obeys and recovers', async () => {
    put('m', 'x')
    const faults = [{ code: 500 }, { code: 500 }, { code: 429, headers: { 'retry-after': '1' } }]
    server.fault = () => faults.shift() ?? null
    const { reflector } = reflect()
    await reflector.synced
    assert.equal(reflector.size, 1)
    const times = server.requests.map(({ atMs }) => atMs)
    assert.ok((times[3] ?? 0) - (times[2] ?? 0) >= 995, 'waited as it was told')
  })

  test('T38: Retry-After longer than a call may take is obeyed by the next one', async () => {
    kube = await connectKube({ kubeconfig: server.kubeconfig, deadlineMs: 500 })
    const faults = [{ code: 503, headers: { 'retry-after': '1' } }]
    server.fault = () => faults.shift() ?? null
    const { reflector, problems } = reflect()
    await reflector.synced
    const [first, second] = server.requests
    assert.ok((second?.atMs ?? 0) - (first?.atMs ?? 0) >= 995)
    assert.equal(problems[0]?.kind, 'List')
  })

  test('T39: a socket that is half open is found by the idle limit, and nothing is missed', async () => {
    const { reflector, changes, problems } = reflect({ timing: { idleMs: 300 } })
    await reflector.synced
    await waitFor('watch', () => server.watches === 1)
    server.freezeWatches()
    put('m', 'x')
    await waitFor('event', () => reflector.get('a/m') === 'x', { withinMs: 2_000 })
    assert.equal(reflector.relists, 0, 'by watching on, not by a list')
    assert.deepEqual(changes, ['a/m >x'])
    assert.match(String(problems[0]?.error), /nothing came for 300 ms/)
  })

  test('bookmarks keep a quiet watch alive, and move the version on', async () => {
    const { reflector } = reflect({ timing: { idleMs: 300 } })
    await reflector.synced
    await waitFor('watch', () => server.watches === 1)
    server.put(PODS, 'another-kind', { namespace: 'a' })
    for (let beat = 0; beat < 5; beat += 1) {
      await delay(120)
      server.bookmark()
    }
    await delay(50)
    assert.equal(server.watches, 1)
    const { version } = server
    server.compact()
    server.closeWatches('end')
    await waitFor('watch again', () => server.watches === 1)
    assert.equal(server.requests.at(-1)?.query.get('resourceVersion'), version)
    assert.equal(reflector.relists, 0)
  })

  test('T40: deleted and made again while disconnected: told as gone, then as new', async () => {
    put('m', 'x')
    put('same', 'x')
    const { reflector, changes } = reflect()
    await reflector.synced
    await waitFor('watch', () => server.watches === 1)
    server.fault = () => 'cut'
    server.closeWatches('cut')
    server.remove(CONFIG_MAPS, 'm', 'a')
    put('m', 'y')
    server.compact()
    server.fault = () => null
    await waitFor('relist', () => reflector.relists === 1)
    assert.deepEqual(changes.slice(2), ['a/m x>', 'a/m >y'])
  })

  test('a watch that is cut is watched on from the last event, without a list', async () => {
    const { reflector, changes } = reflect()
    await reflector.synced
    for (let round = 0; round < 10; round += 1) {
      await waitFor('watch', () => server.watches === 1)
      put(`before-${round}`, 'x')
      server.closeWatches(round % 2 === 0 ? 'cut' : 'end')
      put(`after-${round}`, 'x')
    }
    await waitFor('all', () => reflector.size === 20)
    assert.equal(new Set(changes).size, changes.length, 'nothing twice')
    assert.equal(reflector.relists, 0)
  })

  test('events that are cut anywhere, in the middle of a character too', async () => {
    const { reflector } = reflect()
    await reflector.synced
    await waitFor('watch', () => server.watches === 1)
    const object = { metadata: { name: 'm', namespace: 'a', uid: 'u', resourceVersion: '900' }, data: { value: 'Grüße 💸' } }
    const line = Buffer.from(`${JSON.stringify({ type: 'ADDED', object })}\n`)
    for (let index = 0; index < line.length; index += 1) {
      server.raw(line.subarray(index, index + 1))
      if (index % 16 === 0) await delay(1)
    }
    await waitFor('event', () => reflector.get('a/m') === 'Grüße 💸')
  })

  test('what is no JSON, no event or an unknown error only costs the watch', async () => {
    const { reflector, problems } = reflect()
    await reflector.synced
    const bad = [
      '{"type":\n',
      '17\n',
      '{"type":"ADDED","object":{}}\n',
      '{"type":"ERROR","object":{"code":500,"message":"etcd"}}\n',
      '{"type":"ERROR"}\n',
    ]
    for (const [index, text] of bad.entries()) {
      await waitFor('watch', () => server.watches === 1)
      server.raw(text)
      await waitFor(text, () => problems.length === index + 1)
    }
    put('m', 'x')
    await waitFor('event', () => reflector.get('a/m') === 'x')
  })

  test('a version from another time, as after a restored backup, leads to a list', async () => {
    const { reflector } = reflect()
    await reflector.synced
    await waitFor('watch', () => server.watches === 1)
    let refused = false
    server.fault = ({ query }) => {
      if (refused || query.get('watch') !== 'true') return null
      refused = true
      return { code: 504, body: { kind: 'Status', code: 504, reason: 'Timeout', message: 'Too large resource version' } }
    }
    server.closeWatches('cut')
    await waitFor('relist', () => reflector.relists === 1)
  })

  test('one that does not parse is absent and reported; a handler that throws stops nothing', async () => {
    put('bad', 'refuse')
    put('good', 'x')
    const { reflector, problems, changes } = reflect({
      onChange: (key) => {
        changes.push(key)
        throw new Error('handler')
      },
    })
    await reflector.synced
    await waitFor('watch', () => server.watches === 1)
    assert.equal(reflector.size, 1)
    assert.equal(reflector.get('a/bad'), undefined)
    assert.deepEqual(problems.map(({ kind, key }) => `${kind} ${key}`).sort(), ['Handler a/good', 'Parse a/bad'])
    put('bad', 'right')
    await waitFor('parsed', () => reflector.get('a/bad') === 'right')
    put('bad', 'refuse')
    await waitFor('refused again', () => reflector.get('a/bad') === undefined)
    server.remove(CONFIG_MAPS, 'bad', 'a')
    put('good', 'y')
    await waitFor('next', () => reflector.get('a/good') === 'y')
    assert.equal(reflector.size, 1)
  })

  test('metadata only: asked for by the Accept header; kind is that of the resource; managedFields are dropped', async () => {
    server.put(PODS, 'p', { namespace: 'a', labels: { app: 'x' }, fields: { spec: { secret: true } } })
    const seen: KubeObject[] = []
    const reflector = new Reflector<KubeObject>({
      kube,
      resource: PODS,
      metadataOnly: true,
      fieldSelector: 'status.phase!=Succeeded,status.phase!=Failed',
      labelSelector: 'app',
      namespace: 'a',
      parse: (object) => {
        seen.push(object)
        return object
      },
    })
    started.push(reflector)
    reflector.start()
    await reflector.synced
    await waitFor('watch', () => server.watches === 1)
    server.event({
      type: 'MODIFIED',
      object: {
        metadata: {
          name: 'p',
          namespace: 'a',
          uid: 'uid-1',
          resourceVersion: '500',
          managedFields: [{}],
          annotations: { 'kubectl.kubernetes.io/last-applied-configuration': '{}', kept: 'yes' },
        },
      },
    })
    await waitFor('event', () => seen.length === 2)
    assert.deepEqual([seen[0]?.apiVersion, seen[0]?.kind, seen[0]?.['spec']], ['v1', 'Pod', undefined])
    assert.deepEqual(seen[1]?.metadata, { name: 'p', namespace: 'a', uid: 'uid-1', resourceVersion: '500', annotations: { kept: 'yes' } })
    for (const { path, query, headers } of server.requests) {
      assert.equal(path, '/api/v1/namespaces/a/pods')
      assert.equal(query.get('fieldSelector'), 'status.phase!=Succeeded,status.phase!=Failed')
      assert.equal(query.get('labelSelector'), 'app')
      assert.match(headers.accept ?? '', /^application\/json;as=PartialObjectMetadata(List)?;g=meta.k8s.io;v=v1$/)
    }
  })

  test('a long list and a burst of events leave the loop its turns: no 50 ms of parsing in one', async () => {
    const parseMs = 0.1
    let parsed = 0
    let inTurn = 0
    let mostInTurn = 0
    const busy = (object: KubeObject): string => {
      const endMs = performance.now() + parseMs
      while (performance.now() < endMs);
      parsed += 1
      inTurn += 1
      mostInTurn = Math.max(mostInTurn, inTurn)
      return valueOf(object)
    }
    let isOver = false
    const turn = (): void => {
      inTurn = 0
      if (!isOver) setImmediate(turn)
    }
    turn()

    for (let index = 0; index < 5_000; index += 1) put(`m${index}`, 'x'.repeat(300))
    const { reflector } = reflect({ parse: busy })
    await reflector.synced
    assert.equal(reflector.size, 5_000)
    await waitFor('watch', () => server.watches === 1)
    for (let index = 0; index < 2_000; index += 1) put(`m${index}`, 'y'.repeat(300))
    await waitFor('events', () => parsed === 7_000)
    isOver = true
    // Counted, not timed: what the machine does to others between two turns makes a turn longer, and this number smaller.
    assert.ok(mostInTurn * parseMs < 50, `${mostInTurn} objects in one turn`)
  })

  test('stop leaves no socket, while it lists, watches or waits', async () => {
    const { reflector } = reflect()
    await reflector.synced
    await waitFor('watch', () => server.watches === 1)
    await reflector.stop()
    await waitFor('no watch', () => server.watches === 0)
    await kube.close()
    await waitFor('no socket', () => server.sockets === 0)

    kube = await connectKube({ kubeconfig: server.kubeconfig })
    server.fault = () => 'hang'
    const listing = reflect()
    await waitFor('list', () => server.requests.at(-1)?.query.has('limit') === true && server.sockets === 1)
    const stopped = listing.reflector.stop()
    await kube.close()
    await stopped
    await waitFor('no socket', () => server.sockets === 0)

    kube = await connectKube({ kubeconfig: server.kubeconfig })
    server.fault = () => ({ code: 403 })
    const waiting = reflect({ timing: { backoffMinMs: 60_000, backoffMaxMs: 60_000 } })
    await waitFor('refused', () => waiting.problems.length === 1)
    await waiting.reflector.stop()
    assert.equal(waiting.reflector.hasSynced, false)
  })

  test('T36: the server is killed and comes back many times: nothing is missed, no socket is left over', async () => {
    const { reflector } = reflect()
    await reflector.synced
    for (let round = 0; round < 8; round += 1) {
      await waitFor('watch', () => server.watches === 1)
      put(`up-${round}`, 'x')
      await server.stop()
      put(`down-${round}`, 'x')
      if (round % 2 === 1) server.compact()
      await delay(20)
      await server.start()
    }
    await waitFor('all', () => reflector.size === 16)
    await waitFor('watch', () => server.watches === 1)
    assert.ok(server.sockets <= 2, `${server.sockets} sockets`)
  })
})

function valueOf(object: KubeObject): string {
  const { value } = (object['data'] ?? {}) as { value?: string }
  if (value === 'refuse') throw new Error('no such value')
  return value ?? ''
}
