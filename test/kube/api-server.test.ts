/** The runtime against a real API server. */
import assert from 'node:assert/strict'
import { setTimeout as delay } from 'node:timers/promises'
import { connectKube } from '../../operator/src/kube/client.ts'
import { applied, applyIfChanged, ownerOf } from '../../operator/src/kube/apply.ts'
import { EventRecorder } from '../../operator/src/kube/events.ts'
import type { KubeObject } from '../../operator/src/kube/kube.ts'
import { Reflector } from '../../operator/src/kube/reflector.ts'
import { CONFIG_MAPS, CONVERSATION_BUDGETS, EVENTS, PODS, TOKEN_REVIEWS } from '../../operator/src/kube/resources.ts'
import { StatusWriter } from '../../operator/src/kube/status-writer.ts'
import { waitFor } from '../support/wait-for.ts'
import { clusterTest, freshNamespace } from '../support/cluster.ts'
import { Candidates } from './candidates.ts'

/** Acknowledged ones between what happens to the server: each name comes, and some change and go. */
const WRITES = 60
const CRD = new URL('../../crds/generated/farebox.dev_conversationbudgets.yaml', import.meta.url).pathname

clusterTest(
  'T36: the API server is killed and started in mid-watch, twice: nothing is missed, no socket is left',
  { own: {} },
  async (cluster) => {
    const namespace = 'default'
    const before = sockets()
    const kube = await connectKube({ kubeconfig: cluster.kubeconfig })
    const told = new Map<string, string>()
    const problems: string[] = []
    const options = {
      kube,
      namespace,
      onProblem: ({ kind, error }: { kind: string; error: unknown }) => problems.push(`${kind} ${String(error)}`),
    }
    const maps = new Reflector<string>({
      ...options,
      resource: CONFIG_MAPS,
      labelSelector: 'test=watch',
      pageSize: 20,
      parse: (object) => (object['data'] as { value: string }).value,
      onChange: (key, _, after) => {
        if (after === undefined) told.delete(key)
        else told.set(key, after)
      },
    })
    const others = new Reflector<KubeObject>({ ...options, resource: PODS, metadataOnly: true, parse: (object) => object })
    maps.start()
    others.start()
    await Promise.all([maps.synced, others.synced])

    const life = new AbortController()
    const wanted = new Map<string, string>()
    let acknowledged = 0
    let begun = 0
    /** It failed, and may have been done all the same: until it is tried again nobody knows. */
    let isUnsure = false
    // Objects come, change and go all the time; what was acknowledged, and only that, must be known in the end.
    const writing = (async () => {
      for (let round = 0; !life.signal.aborted || isUnsure; round += 1) {
        begun = round + 1
        const name = `m-${round % 50}`
        const key = `${namespace}/${name}`
        try {
          if (round % 7 === 6) {
            await kube.delete(CONFIG_MAPS, name, namespace)
            wanted.delete(key)
            acknowledged += 1
          } else {
            const value = String(round)
            const object = applied(CONFIG_MAPS, name, { namespace, labels: { test: 'watch' }, fields: { data: { value } } })
            await kube.apply(CONFIG_MAPS, object, { fieldManager: 'test' })
            wanted.set(key, value)
            acknowledged += 1
          }
          isUnsure = false
        } catch {
          isUnsure = true
          await delay(100)
          round -= 1
        }
        await delay(5)
      }
    })()
    /** Until so many more are acknowledged, and one of them is told: clients and watches are there, or there again. */
    const writesGoOn = async (): Promise<void> => {
      const [before, rounds] = [acknowledged, begun]
      await waitFor('writes go on', () => acknowledged >= before + WRITES)
      await waitFor('one of them is told', () => [...told.values()].some((value) => Number(value) >= rounds))
    }
    await writesGoOn()
    for (let restart = 0; restart < 2; restart += 1) {
      await cluster.kill('kube-apiserver')
      await delay(1_000)
      await cluster.startApiServer()
      await writesGoOn()
    }
    life.abort()
    await writing
    await waitFor('all of it is known', () => {
      assert.deepEqual(told, wanted)
      return true
    })
    const listed = await kube.list(CONFIG_MAPS, { namespace, labelSelector: 'test=watch' })
    assert.deepEqual(new Set(listed.map(({ metadata }) => `${namespace}/${metadata.name}`)), new Set(wanted.keys()))
    assert.ok(
      problems.some((problem) => problem.startsWith('Watch')),
      'the watches did break',
    )
    const open = sockets() - before
    assert.ok(open <= 10, `${open} sockets: two watches, eight for requests`)
    await Promise.all([maps.stop(), others.stop()])
    await kube.close()
    await waitFor('no socket is left', () => sockets() <= before)
  },
)

clusterTest('lists in pages, watches, and sees delete and create of one name as both', async (cluster, context) => {
  const namespace = await freshNamespace(cluster, context, 'kube')
  const kube = await connectKube({ kubeconfig: cluster.kubeconfig })
  context.after(() => kube.close())
  for (let index = 0; index < 12; index += 1) {
    await kube.create(CONFIG_MAPS, applied(CONFIG_MAPS, `m${index}`, { namespace, labels: { ours: 'yes' }, fields: { data: { n: '1' } } }))
  }
  const changes: string[] = []
  const seen: KubeObject[] = []
  const reflector = new Reflector<string>({
    kube,
    resource: CONFIG_MAPS,
    namespace,
    labelSelector: 'ours=yes',
    metadataOnly: true,
    pageSize: 5,
    parse: (object) => {
      seen.push(object)
      return object.metadata.uid ?? ''
    },
    onChange: (key, before, after) => changes.push(`${key} ${before === undefined ? '' : 'was'}>${after === undefined ? '' : 'is'}`),
  })
  reflector.start()
  context.after(() => reflector.stop())
  await reflector.synced
  assert.equal(reflector.size, 12)
  assert.ok(seen.every((object) => object.kind === 'ConfigMap' && object['data'] === undefined && !('managedFields' in object.metadata)))
  await kube.delete(CONFIG_MAPS, 'm3', namespace)
  await kube.create(CONFIG_MAPS, applied(CONFIG_MAPS, 'm3', { namespace, labels: { ours: 'yes' }, fields: {} }))
  await waitFor('both', () => changes.length === 14)
  assert.deepEqual(changes.slice(12), [`${namespace}/m3 was>`, `${namespace}/m3 >is`])
  // Out of the selection is gone.
  await kube.apply(CONFIG_MAPS, applied(CONFIG_MAPS, 'm4', { namespace, labels: { ours: 'no' }, fields: {} }), {
    fieldManager: 'x',
    force: true,
  })
  await waitFor('gone', () => reflector.get(`${namespace}/m4`) === undefined)
})

clusterTest(
  'server-side apply: a conflict names the other manager, force takes the field, what is so already is not written',
  async (cluster, context) => {
    const namespace = await freshNamespace(cluster, context, 'kube')
    const kube = await connectKube({ kubeconfig: cluster.kubeconfig })
    context.after(() => kube.close())
    const mine = applied(CONFIG_MAPS, 'm', { namespace, fields: { data: { a: '1' } } })
    const theirs = applied(CONFIG_MAPS, 'm', { namespace, fields: { data: { a: '2', b: '2' } } })
    const first = await kube.apply(CONFIG_MAPS, mine, { fieldManager: 'mine' })
    await assert.rejects(kube.apply(CONFIG_MAPS, theirs, { fieldManager: 'theirs' }), {
      status: 409,
      reason: 'Conflict',
      message: /"mine"/,
    })
    await kube.apply(CONFIG_MAPS, theirs, { fieldManager: 'theirs', force: true, dryRun: true })
    assert.equal((await kube.get(CONFIG_MAPS, 'm', namespace))?.metadata.resourceVersion, first.metadata.resourceVersion)
    await kube.apply(CONFIG_MAPS, theirs, { fieldManager: 'theirs', force: true })
    const current = (await kube.get(CONFIG_MAPS, 'm', namespace)) ?? undefined
    assert.deepEqual(current?.['data'], { a: '2', b: '2' })
    const again = await applyIfChanged(kube, CONFIG_MAPS, theirs, { fieldManager: 'theirs', current })
    assert.equal(again, current)
    const back = await applyIfChanged(kube, CONFIG_MAPS, mine, { fieldManager: 'mine', force: true, current })
    assert.deepEqual(back['data'], { a: '1', b: '2' })
    assert.equal(ownerOf(back).uid, first.metadata.uid)
    await assert.rejects(kube.replace(CONFIG_MAPS, { ...back, metadata: first.metadata }), { status: 409, reason: 'Conflict' })
    await kube.delete(CONFIG_MAPS, 'm', namespace, 'another-uid')
    assert.ok(await kube.get(CONFIG_MAPS, 'm', namespace))
    await assert.rejects(kube.create(CONFIG_MAPS, applied(CONFIG_MAPS, 'No!', { namespace, fields: {} })), {
      status: 422,
      reason: 'Invalid',
    })
    assert.match(await kube.text('/openid/v1/jwks'), /"keys"/)
    const token = await cluster.tokenOf(namespace, 'default', ['somebody'])
    const review = await kube.create(TOKEN_REVIEWS, {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenReview',
      metadata: { name: '' },
      spec: { token, audiences: ['somebody'] },
    })
    assert.equal((review['status'] as { authenticated: boolean }).authenticated, true)
  },
)

clusterTest(
  'T43: statuses: written once, not again when equal; one that was deleted and made again is left alone',
  async (cluster, context) => {
    await cluster.kubectl(['apply', '--server-side', '-f', CRD])
    const namespace = await freshNamespace(cluster, context, 'kube')
    const kube = await connectKube({ kubeconfig: cluster.kubeconfig })
    const errors: unknown[] = []
    const writer = new StatusWriter({ client: kube, fieldManager: 'farebox-status', onError: (_, error) => errors.push(error) })
    context.after(async () => {
      writer.stop()
      await kube.close()
    })
    const budget = applied(CONVERSATION_BUDGETS, 'b', {
      namespace,
      fields: { spec: { selector: { matchLabels: { app: 'x' } }, tier: { default: 'pro' } } },
    })
    const created = await waitFor('the kind is served', () => kube.create(CONVERSATION_BUDGETS, budget))
    const target = { resource: CONVERSATION_BUDGETS, name: 'b', namespace }
    const desired = {
      conditions: [{ type: 'Ready', status: 'False', reason: 'TierNotFound', message: 'x'.repeat(2_000), observedGeneration: 1 }],
    }
    assert.equal(writer.want(target, desired, created), 'AtOnce')
    await writer.flush()
    assert.deepEqual(errors, [])
    const written = await kube.get(CONVERSATION_BUDGETS, 'b', namespace)
    assert.ok(written)
    const { conditions } = written['status'] as { conditions: { lastTransitionTime: string; message: string }[] }
    assert.equal(conditions[0]?.message.length, 1_024)
    assert.equal(writer.want(target, desired, created), 'Equal', 'the cache is late')
    assert.equal(writer.want(target, desired, written), 'Equal')

    await kube.delete(CONVERSATION_BUDGETS, 'b', namespace)
    const other = await kube.create(CONVERSATION_BUDGETS, budget)
    assert.equal(writer.want(target, { conditions: [] }, written), 'AtOnce')
    await waitFor('a conflict', () => errors.length >= 1)
    await waitFor('given up', () => writer.pending === 0)
    assert.equal((await kube.get(CONVERSATION_BUDGETS, 'b', namespace))?.metadata.resourceVersion, other.metadata.resourceVersion)
  },
)

clusterTest('events are taken, as one with a count', async (cluster, context) => {
  const namespace = await freshNamespace(cluster, context, 'kube')
  const kube = await connectKube({ kubeconfig: cluster.kubeconfig })
  context.after(() => kube.close())
  const errors: unknown[] = []
  const recorder = new EventRecorder({
    client: kube,
    reasons: ['Skipped'],
    controller: 'farebox.dev/operator',
    instance: 'operator-0',
    onError: (error) => errors.push(error),
  })
  const event = { type: 'Warning', reason: 'Skipped', action: 'Inject', note: 'the pod uses the host network' } as const
  const pod = { apiVersion: 'v1', kind: 'Pod', name: 'p', namespace, uid: 'u' }
  for (let time = 0; time < 5; time += 1) recorder.record({ ...event, regarding: pod })
  await delay(200)
  for (let time = 0; time < 5; time += 1) recorder.record({ ...event, regarding: pod })
  await recorder.stop()
  assert.deepEqual(errors, [])
  const events = await kube.list(EVENTS, { namespace })
  assert.equal(events.length, 1)
  assert.equal((events[0]?.['series'] as { count?: number } | undefined)?.count, 10)
  const { stdout } = await cluster.kubectl(['get', 'events', '-n', namespace])
  assert.match(stdout, /Warning\s+Skipped\s+pod\/p\s+the pod uses the host network/)
})

clusterTest('T46: the leader is stopped in the middle: another leads within 20 s, and never two write', async (cluster, context) => {
  const namespace = await freshNamespace(cluster, context, 'kube')
  const kube = await connectKube({ kubeconfig: cluster.kubeconfig })
  context.after(() => kube.close())
  await kube.create(CONFIG_MAPS, applied(CONFIG_MAPS, 'written', { namespace, fields: { data: { holder: 'nobody' } } }))
  const holders: string[] = []
  const watching = new Reflector<string>({
    kube,
    resource: CONFIG_MAPS,
    namespace,
    fieldSelector: 'metadata.name=written',
    parse: (object) => (object['data'] as { holder: string }).holder,
    onChange: (_key, _before, after) => {
      if (after !== undefined && holders.at(-1) !== after) holders.push(after)
    },
  })
  watching.start()
  await watching.synced
  const candidates = new Candidates({
    kubeconfig: cluster.kubeconfig,
    namespace,
    leaseMs: 15_000,
    renewDeadlineMs: 10_000,
    retryMs: 2_000,
    configMap: 'written',
  })
  context.after(async () => {
    await candidates.end()
    await watching.stop()
  })
  const a = candidates.start('a')
  await waitFor('a leads', () => a.leading)
  const b = candidates.start('b')
  await waitFor('b knows', () => b.address === 'a:9444')
  await waitFor('a writes', () => holders.includes('a'))
  a.process.kill('SIGSTOP')
  const stoppedMs = performance.now()
  await waitFor('b leads', () => b.leading, { withinMs: 20_000 })
  const tookMs = performance.now() - stoppedMs
  context.diagnostic(`another leads after ${Math.round(tookMs)} ms`)
  await waitFor('b writes', () => holders.includes('b'))
  a.process.kill('SIGCONT')
  const { code, signal } = await a.exited
  assert.ok(code === 1 || signal === 'SIGKILL', `${code} ${signal}`)
  await delay(1_000)
  await candidates.assertOneWriter(['a', 'b'])
  assert.deepEqual(holders, ['nobody', 'a', 'b'])
  const releasedMs = performance.now()
  const c = candidates.start('c')
  await waitFor('c knows', () => c.address === 'b:9444')
  b.tell({ stop: true })
  assert.equal((await b.exited).code, 0)
  await waitFor('c leads', () => c.leading, { withinMs: 5_000 })
  context.diagnostic(`after a clean stop, with the start of the next: ${Math.round(performance.now() - releasedMs)} ms`)
  await candidates.assertOneWriter(['a', 'b', 'c'])
})

function sockets(): number {
  return process.getActiveResourcesInfo().filter((name) => name === 'TCPSocketWrap').length
}
