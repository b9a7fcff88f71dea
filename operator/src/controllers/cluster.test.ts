import assert from 'node:assert/strict'
import { setTimeout as delay } from 'node:timers/promises'
import { test } from 'node:test'
import { LABELS, MANAGED_BY } from '@farebox/crds/cluster.ts'
import { waitFor } from '../../../test/support/wait-for.ts'
import type { FakeApiServer } from '../../../test/kube/fake-api-server.ts'
import { stageCluster } from '../../../test/kube/staged-cluster.ts'
import { CONFIG_MAPS, CONVERSATION_BUDGETS, MUTATING_WEBHOOK_CONFIGURATIONS, NAMESPACES, NODES, PODS } from '../kube/resources.ts'
import type { Change } from './cluster.ts'

test('pods are told of when what is read of them changes; who governs them and which nodes are too old follow', async (context) => {
  const changes: Change[] = []
  const budget = (server: FakeApiServer, name: string, app: string, generation: number): void => {
    const spec = { selector: { matchLabels: { app } }, tier: { default: 'pro' } }
    server.put(CONVERSATION_BUDGETS, name, { namespace: 'shop', fields: { spec, metadata: { name, namespace: 'shop', generation } } })
  }
  const node = (server: FakeApiServer, name: string, kubeletVersion: string): void => {
    server.put(NODES, name, {
      labels: { pool: name },
      fields: {
        spec: { taints: [{ key: 'dear', effect: 'NoSchedule', timeAdded: '2026-11-24T12:00:00Z' }] },
        status: { nodeInfo: { kubeletVersion } },
      },
    })
  }
  const pod = (server: FakeApiServer, labels: Record<string, string>, phase: string): void => {
    server.put(PODS, 'web', { namespace: 'shop', labels, fields: { status: { phase } } })
  }
  const pods = (): number => changes.filter(({ what }) => what === 'Pod').length
  const { server, cluster } = await stageCluster(
    context,
    (empty) => {
      node(empty, 'a', 'v1.34.1')
      node(empty, 'b', 'v1.30.10')
      node(empty, 'c', 'v1.30.9')
      budget(empty, 'one', 'web', 1)
      pod(empty, { app: 'web' }, 'Pending')
    },
    (change) => changes.push(change),
  )
  const governing = (): string | undefined => {
    const known = cluster.pods.get('shop/web')
    return known === undefined ? undefined : cluster.governingOf(known)?.metadata.name
  }
  const old = (name: string, kubelet: string) => ({ kubelet, labels: { pool: name }, taints: [{ key: 'dear', effect: 'NoSchedule' }] })
  assert.deepEqual(cluster.oldNodes(), [old('c', 'v1.30.9'), old('b', 'v1.30.10')])
  assert.equal(governing(), 'one')
  assert.deepEqual([cluster.hasBudgets('shop'), cluster.hasBudgets('other'), pods()], [true, false, 1])

  const version = (): string | undefined => cluster.pods.get('shop/web')?.metadata.resourceVersion
  const before = version()
  pod(server, { app: 'web' }, 'Running')
  await waitFor('the pod as it is now', () => version() !== before)
  await delay(20)
  assert.equal(pods(), 1, 'its phase is nothing to us')
  pod(server, { app: 'web', canary: 'yes' }, 'Running')
  await waitFor('the label to be told', () => pods() === 2)

  budget(server, 'one', 'other', 2)
  await waitFor('nobody to govern it', () => governing() === undefined)
  budget(server, 'two', 'web', 1)
  await waitFor('another to govern it', () => governing() === 'two')

  server.remove(NODES, 'c')
  await waitFor('the node to be gone', () => cluster.oldNodes()[0]?.kubelet === 'v1.30.10')
  node(server, 'b', 'v1.34.1')
  await waitFor('the node to be new enough', () => cluster.oldNodes().length === 0)
})

test('a pod has not started while it is pending; then it has from that moment, or from when it was made if nobody saw it', async (context) => {
  const put = (server: FakeApiServer, name: string, phase: string): void => {
    server.put(PODS, name, { namespace: 'shop', fields: { status: { phase } } })
  }
  const { server, cluster } = await stageCluster(context, (empty) => {
    put(empty, 'waits', 'Pending')
    put(empty, 'runs', 'Running')
  })
  const started = (name: string): number | null => {
    const { metadata } = cluster.pods.get(`shop/${name}`) ?? assert.fail(`there is no ${name}`)
    return cluster.startedMs({ ...metadata, creationTimestamp: '2026-11-24T12:00:00Z' })
  }
  assert.equal(started('waits'), null)
  assert.equal(started('runs'), Date.UTC(2026, 10, 24, 12))
  const before = Date.now()
  put(server, 'waits', 'Running')
  await waitFor('it to start', () => started('waits') !== null)
  assert.ok(Number(started('waits')) >= before)
  server.remove(PODS, 'waits', 'shop')
  await waitFor('it to go', () => cluster.pods.get('shop/waits') === undefined)
  put(server, 'waits', 'Pending')
  await waitFor('another of its name', () => cluster.pods.get('shop/waits') !== undefined && started('waits') === null)
})

test('a pod that our container keeps from starting is told of, until it starts or is another', async (context) => {
  const changes: Change[] = []
  const image = (reason: string): object => ({ initContainerStatuses: [{ name: 'farebox', state: { waiting: { reason } } }] })
  const put = (server: FakeApiServer, status: object): void => void server.put(PODS, 'web', { namespace: 'shop', fields: { status } })
  const { server, cluster } = await stageCluster(
    context,
    (empty) => put(empty, { phase: 'Pending', ...image('PodInitializing') }),
    (change) => changes.push(change),
  )
  const notStarting = (): string | null => cluster.notStarting(cluster.pods.get('shop/web')?.metadata ?? assert.fail('there is no pod'))
  assert.equal(notStarting(), null)
  put(server, { phase: 'Pending', ...image('ErrImagePull') })
  await waitFor('it to fail', () => notStarting() === 'ImagePullFailing')
  assert.equal(changes.filter(({ what }) => what === 'Other').length, 1)
  put(server, { phase: 'Pending', ...image('ImagePullBackOff') })
  put(server, { phase: 'Running' })
  await waitFor('it to start', () => notStarting() === null)
  assert.equal(changes.filter(({ what }) => what === 'Other').length, 2, 'back-off is no news')
})

test('T57: a budget that is not understood keeps its place: it governs its pods, with what could be read of it, and no younger one does', async (context) => {
  let generation = 0
  const put = (server: FakeApiServer, name: string, { year = 2026, ...spec }: Budget): void => {
    generation += 1
    const metadata = { name, namespace: 'shop', generation, creationTimestamp: `${year}-01-01T00:00:00Z` }
    const fields = {
      metadata,
      status: { config: { version: 1, hash: '0123456789abcdef' } },
      spec: { selector: { matchLabels: { app: 'desk' } }, tier: { default: 'pro' }, ...spec },
    }
    server.put(CONVERSATION_BUDGETS, name, { namespace: 'shop', fields })
  }
  const { server, cluster } = await stageCluster(context, (empty) => {
    put(empty, 'old', { year: 2025, fieldOfLater: true })
    put(empty, 'young', { mode: 'Observe' })
    empty.put(PODS, 'a', { namespace: 'shop', labels: { app: 'desk' } })
  })
  const governing = () => {
    const pod = cluster.pods.get('shop/a')
    return pod === undefined ? null : cluster.governingOf(pod)
  }
  const told = () => cluster.snapshot().notUnderstood?.budgets.map(({ name, problems }) => [name, problems[0]?.field])
  assert.equal(governing()?.metadata.name, 'old')
  assert.equal(cluster.configFor({ namespace: 'shop', name: 'a', uid: 'a', serviceAccount: 'default' }).status, 'pending')
  assert.deepEqual(told(), [['shop/old', 'spec.fieldOfLater']])
  assert.deepEqual(
    cluster
      .snapshot()
      .budgets.map(({ metadata }) => metadata.name)
      .toSorted(),
    ['old', 'young'],
  )

  put(server, 'old', { year: 2025, fieldOfLater: true, store: { kind: 'Embedded' } })
  await waitFor('its store', () => governing()?.spec.store.kind === 'Embedded')
  put(server, 'old', { year: 2025, store: { kind: 'KindOfLater' } })
  await waitFor('another store', () => told()?.[0]?.[1] === 'spec.store.kind')
  assert.equal(governing()?.spec.store.kind, 'Embedded', 'what cannot be read is as it was')
  assert.deepEqual(cluster.unreadableIn('shop'), [])

  server.remove(CONVERSATION_BUDGETS, 'old', 'shop')
  put(server, 'old', { year: 2025, store: { kind: 'KindOfLater' } })
  await waitFor('one that was never understood', () => cluster.unreadableIn('shop')[0] === 'old')
  assert.equal(governing()?.metadata.name, 'young')
  assert.deepEqual([told(), cluster.unreadableIn('other')], [[], []])
  server.remove(CONVERSATION_BUDGETS, 'old', 'shop')
  await waitFor('it to be gone', () => cluster.unreadableIn('shop').length === 0)
})

test('one that was never understood and has no config has no place to keep: a younger one governs, and its pods are warned', async (context) => {
  const { cluster } = await stageCluster(context, (empty) => {
    const spec = { selector: { matchLabels: { app: 'desk' } }, tier: { default: 'pro' } }
    const put = (name: string, year: number, more: object): void => {
      const metadata = { name, namespace: 'shop', generation: 1, creationTimestamp: `${year}-01-01T00:00:00Z` }
      empty.put(CONVERSATION_BUDGETS, name, { namespace: 'shop', fields: { metadata, spec: { ...spec, ...more } } })
    }
    put('old', 2025, { fieldOfLater: true })
    put('young', 2026, {})
    empty.put(PODS, 'a', { namespace: 'shop', labels: { app: 'desk' } })
    empty.put(PODS, 'other', { namespace: 'shop', labels: { app: 'other' } })
  })
  const pod = cluster.pods.get('shop/a')
  assert.ok(pod !== undefined)
  assert.equal(cluster.governingOf(pod)?.metadata.name, 'young')
  assert.deepEqual(cluster.unreadableIn('shop'), ['old'])
  const toldTo = (name: string, namespace = 'shop') => cluster.configFor({ namespace, name, uid: name, serviceAccount: 'default' }).status
  assert.equal(toldTo('other'), 'pending', 'it may be a pod of the one that cannot be read')
})

interface Budget {
  readonly year?: number
  readonly [field: string]: unknown
}

test('lists config maps a few at a time: hundreds of large ones are more than an answer may have', async (context) => {
  const { server, cluster } = await stageCluster(context, (empty) => {
    for (let index = 0; index < 21; index += 1)
      empty.put(CONFIG_MAPS, `m${index}`, { namespace: 'shop', labels: { [LABELS.managedBy]: MANAGED_BY } })
  })
  const lists = server.requests.filter(({ path, query }) => path.endsWith('/configmaps') && !query.has('watch'))
  assert.deepEqual([cluster.configMaps.size, ...lists.map(({ query }) => query.get('limit'))], [21, '20', '20'])
})

test('which namespaces the webhook leaves out follows its configuration', async (context) => {
  const put = (server: FakeApiServer, ...values: readonly string[]): void => {
    const namespaceSelector = { matchExpressions: [{ key: 'kubernetes.io/metadata.name', operator: 'NotIn', values }] }
    server.put(MUTATING_WEBHOOK_CONFIGURATIONS, 'farebox', { fields: { webhooks: [{ name: 'pods.farebox.dev', namespaceSelector }] } })
  }
  const { server, cluster } = await stageCluster(context, (empty) => {
    empty.put(NAMESPACES, 'kube-public')
    empty.put(NAMESPACES, 'shop')
    put(empty, 'kube-public')
  })
  assert.deepEqual([cluster.isExcluded('kube-public'), cluster.isExcluded('shop')], [true, false])
  put(server, 'shop')
  await waitFor('the change', () => cluster.isExcluded('shop') && !cluster.isExcluded('kube-public'))
  server.remove(MUTATING_WEBHOOK_CONFIGURATIONS, 'farebox')
  await waitFor('nothing to be known', () => !cluster.isExcluded('shop'))
})
