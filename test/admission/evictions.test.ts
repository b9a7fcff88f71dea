/** Pods that came without the sidecar that their budget requires, since nobody was there to refuse them: the operator evicts them. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Cluster } from '../cluster/cluster.ts'
import { apply, budgetOf, budgetPath, shown, tierOf, untilOlder } from '../operator/plans.ts'
import { ownCluster } from '../support/cluster.ts'
import { install, startOperator } from '../support/operator.ts'
import type { Operator } from '../support/operator.ts'
import { hasSidecar, podsIn, startInjected, startPod } from '../support/started-pods.ts'
import { waitFor } from '../support/wait-for.ts'

const cluster = await ownCluster()
const NAMESPACE = 'shop'
const PODS_PATH = `/api/v1/namespaces/${NAMESPACE}/pods`
const GATE_PATH = '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/farebox-injection-required'
const DISRUPTION_PATH = `/apis/policy/v1/namespaces/${NAMESPACE}/poddisruptionbudgets/held`
const REPLICAS = 3
/** From one eviction in a namespace to the next, at least. */
const EVICT_EVERY_MS = 5_000
/** Between an eviction and its line in the log, at most. */
const LOG_MS = 1_000
const EVICTED_MS_MAX = 90_000

describe('pods that came while nobody refused them', { skip: cluster === null ? 'there is no control plane' : false }, () => {
  const api = cluster as Cluster
  let operator: Operator
  /** Of what came, by what made it. */
  let first: ReadonlyMap<string, readonly string[]>
  before(async () => {
    const installation = await install(api, ['webhook.evictMissed=true', 'operator.logLevel=debug'])
    const namespace = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: NAMESPACE } }
    assert.equal((await api.request({ method: 'POST', path: '/api/v1/namespaces', body: namespace })).status, 201)
    const account = `/api/v1/namespaces/${NAMESPACE}/serviceaccounts/default`
    await waitFor('the service account', async () => (await api.request({ path: account })).status === 200)
    const spec = { selector: { matchLabels: { app: 'chat' } }, injection: { mode: 'Required' } }
    await apply(api, tierOf('pro'), budgetOf(NAMESPACE, 'support', 'pro', spec))
    const budget = await shown(api, budgetPath(NAMESPACE, 'support'))
    assert.ok(budget !== null)
    await untilOlder(budget)

    const gate = await shown(api, GATE_PATH)
    assert.ok(gate !== null)
    await api.request({ method: 'DELETE', path: GATE_PATH })
    await waitFor(
      'a pod to pass',
      async () => (await api.request({ method: 'POST', path: `${PODS_PATH}?dryRun=All`, body: lonePod() })).status === 201,
    )
    await apply(
      api,
      lonePod(),
      workload('apps/v1', 'Deployment', 'chat', { replicas: REPLICAS }),
      workload('apps/v1', 'StatefulSet', 'held', { replicas: 1, serviceName: 'held' }),
      workload('apps/v1', 'Deployment', 'hostly', { replicas: 1 }, { hostNetwork: true }),
      workload('batch/v1', 'Job', 'work', {}, { restartPolicy: 'Never' }),
      {
        apiVersion: 'policy/v1',
        kind: 'PodDisruptionBudget',
        metadata: { name: 'held', namespace: NAMESPACE },
        spec: { minAvailable: 1, selector: { matchLabels: { of: 'held' } } },
      },
    )
    await waitFor('all that comes without a sidecar', async () => {
      first = await uidsByMaker()
      return first.get('chat')?.length === REPLICAS && ['alone', 'held', 'work', 'hostly'].every((maker) => first.get(maker)?.length === 1)
    })
    // It serves, so that it counts for its disruption budget.
    await startPod(api, NAMESPACE, 'held-0')
    await waitFor('its disruption budget to count it', async () => (await shown(api, DISRUPTION_PATH))?.status?.['currentHealthy'] === 1)
    await apply(api, { ...gate, metadata: { name: gate.metadata.name } })
    await waitFor(
      'the gate',
      async () => (await api.request({ method: 'POST', path: `${PODS_PATH}?dryRun=All`, body: lonePod() })).status === 403,
    )
    operator = await startOperator(api, installation)
  })
  after(async () => {
    await operator?.kill()
    await api.stop()
  })

  const uidsByMaker = async (): Promise<ReadonlyMap<string, readonly string[]>> => {
    const byMaker = Map.groupBy(await podsIn(api, NAMESPACE), ({ metadata }) => metadata.labels['of'] ?? '')
    return new Map([...byMaker].map(([maker, made]) => [maker, made.map(({ metadata }) => metadata.uid)]))
  }
  /** How many pods of it have a sidecar. */
  const injected = async (maker: string): Promise<number> =>
    (await podsIn(api, NAMESPACE)).filter((pod) => pod.metadata.labels['of'] === maker && hasSidecar(pod)).length

  test('what a controller makes anew is evicted, one after the other has started, and comes again with a sidecar', async () => {
    await waitFor('the first to come with one', async () => (await injected('chat')) === 1, { withinMs: EVICTED_MS_MAX })
    await sleep(2 * EVICT_EVERY_MS)
    assert.equal(await injected('chat'), 1, 'it has not started')
    await waitFor(
      'all to have one',
      async () => {
        await startInjected(api, NAMESPACE)
        return (await injected('chat')) === REPLICAS
      },
      { withinMs: EVICTED_MS_MAX },
    )
    assert.equal((await uidsByMaker()).get('chat')?.length, REPLICAS)
    const times = operator
      .log()
      .split('\n')
      .filter((line) => line.includes('was evicted'))
      .map((line) => Date.parse((JSON.parse(line) as { readonly time: string }).time))
    times.forEach((time, at) => assert.ok(at === 0 || time - (times[at - 1] ?? 0) >= EVICT_EVERY_MS - LOG_MS, times.join()))
    const { stdout } = await api.kubectl(['-n', NAMESPACE, 'get', 'events.v1.events.k8s.io', '-o', 'json'])
    assert.match(stdout, /"FareboxEvicted"/)
  })

  test('what its disruption budget holds stays until that lets it go', async () => {
    await waitFor('it to be tried', () => /"pod":"held-0".*could not be evicted/.test(operator.log()), { withinMs: EVICTED_MS_MAX })
    assert.equal(await injected('held'), 0)
    await api.request({ method: 'DELETE', path: DISRUPTION_PATH })
    await waitFor('another one', async () => (await injected('held')) === 1, { withinMs: EVICTED_MS_MAX })
  })

  test('a pod of nobody, one of a Job, and one whose successor would come without a sidecar too, are left alone', async () => {
    const now = await uidsByMaker()
    for (const maker of ['alone', 'work', 'hostly']) assert.deepEqual(now.get(maker), first.get(maker))
  })
})

function lonePod(): object {
  return { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'alone', namespace: NAMESPACE, labels: labelsOf('alone') }, spec: podSpec() }
}

function workload(apiVersion: string, kind: string, name: string, more: object, podMore: object = {}): object {
  const labels = labelsOf(name)
  return {
    apiVersion,
    kind,
    metadata: { name, namespace: NAMESPACE },
    spec: {
      ...(kind === 'Job' ? {} : { selector: { matchLabels: labels } }),
      template: { metadata: { labels }, spec: { ...podSpec(), ...podMore } },
      ...more,
    },
  }
}

function labelsOf(maker: string): Readonly<Record<string, string>> {
  return { app: 'chat', of: maker }
}

function podSpec(): object {
  return { schedulerName: 'nobody', containers: [{ name: 'app', image: 'app:1' }] }
}
