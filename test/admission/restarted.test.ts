/** Every process of a cluster ends at once and comes again in any order, as after a power cut: pods that must have a sidecar have one in the end. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import * as fc from 'fast-check'
import type { Cluster, Part } from '../cluster/cluster.ts'
import { apply, budgetOf, budgetPath, shown, tierOf, untilSaid } from '../operator/plans.ts'
import { ownCluster } from '../support/cluster.ts'
import { install, startOperator } from '../support/operator.ts'
import type { Installation, Operator } from '../support/operator.ts'
import { schedulesToPlay, SEED } from '../support/seed.ts'
import { hasSidecar, podsIn, startInjected } from '../support/started-pods.ts'
import { waitFor } from '../support/wait-for.ts'

const cluster = await ownCluster()
const NAMESPACE = 'shop'
const PODS_PATH = `/api/v1/namespaces/${NAMESPACE}/pods`
const DEPLOYMENT_PATH = `/apis/apps/v1/namespaces/${NAMESPACE}/deployments/chat`
const PODS = 6
/** From one start to the next, at most. */
const GAP_MS_MAX = 3_000
/** What ended is started again after this time, as a kubelet does it. */
const AGAIN_MS = 1_000
/** One pod is evicted every five seconds, and a controller whose pods are refused tries again at growing intervals. */
const RECOVERED_MS_MAX = 120_000

type Process = Part | 'operator'
interface Start {
  readonly name: Process
  /** Until the next one. */
  readonly gapMs: number
}

const PROCESSES: readonly Process[] = ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'operator']
const inAnyOrder = (names: readonly Process[]): fc.Arbitrary<Process[]> => fc.shuffledSubarray([...names], { minLength: names.length })
const RESTART = fc.record({
  // The controllers have ended before: nobody is to make pods.
  ends: inAnyOrder(PROCESSES.filter((name) => name !== 'kube-controller-manager')),
  starts: inAnyOrder(PROCESSES).chain((names) =>
    fc.tuple(...names.map((name) => fc.record({ name: fc.constant(name), gapMs: fc.integer({ min: 0, max: GAP_MS_MAX }) }))),
  ),
}) satisfies fc.Arbitrary<{ readonly ends: readonly Process[]; readonly starts: readonly Start[] }>

describe('a whole cluster', { skip: cluster === null ? 'there is no control plane' : false }, () => {
  const api = cluster as Cluster
  let installation: Installation
  let operator: Operator
  before(async () => {
    assert.ok(api.state.hasControllers, 'somebody must make the pods')
    installation = await install(api, ['webhook.evictMissed=true'])
    operator = await startOperator(api, installation)
    const namespace = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: NAMESPACE } }
    assert.equal((await api.request({ method: 'POST', path: '/api/v1/namespaces', body: namespace })).status, 201)
    const spec = { selector: { matchLabels: { app: 'chat' } }, injection: { mode: 'Required' } }
    await apply(api, tierOf('pro'), budgetOf(NAMESPACE, 'support', 'pro', spec))
    await untilSaid(api, budgetPath(NAMESPACE, 'support'), ['Accepted=True'])
    const labels = { app: 'chat' }
    const template = { metadata: { labels }, spec: { schedulerName: 'nobody', containers: [{ name: 'app', image: 'app:1' }] } }
    await apply(api, {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name: 'chat', namespace: NAMESPACE },
      spec: { replicas: PODS, selector: { matchLabels: labels }, template },
    })
    await waitFor('the first pods', async () => (await podsIn(api, NAMESPACE)).length === PODS, { withinMs: RECOVERED_MS_MAX })
  })
  after(async () => {
    await operator?.kill()
    await api.stop()
  })

  /** Its pods are gone, and it wants as many again and one more, which nobody makes yet. */
  const empty = async (replicas: number): Promise<void> => {
    await api.kill('kube-controller-manager')
    assert.equal((await api.request({ method: 'PATCH', path: DEPLOYMENT_PATH, body: { spec: { replicas } } })).status, 200)
    const { status } = await api.request({ method: 'DELETE', path: `${PODS_PATH}?gracePeriodSeconds=0` })
    assert.equal(status, 200)
    assert.deepEqual(await podsIn(api, NAMESPACE), [])
  }

  const start = async (name: Process): Promise<void> => {
    if (name !== 'operator') return api.start(name)
    operator = await startOperator(api, installation, { ports: operator.ports, isAsked: false, isAwaited: false })
  }
  const isRunning = (name: Process): boolean | Promise<boolean> =>
    name === 'operator' ? operator.process.exitCode === null && operator.process.signalCode === null : api.isRunning(name)

  /** Starts one after the other, and what ends meanwhile again, until `isDone`. */
  const startAll = async (starts: readonly Start[], isDone: () => Promise<boolean>): Promise<void> => {
    const started: Process[] = []
    const over = new AbortController()
    const tended = (async () => {
      while (!over.signal.aborted) {
        for (const name of started) if (!(await isRunning(name))) await start(name)
        await sleep(AGAIN_MS)
      }
    })()
    try {
      for (const { name, gapMs } of starts) {
        await start(name)
        started.push(name)
        await sleep(gapMs)
      }
      await waitFor('all pods', isDone, { withinMs: RECOVERED_MS_MAX })
    } finally {
      over.abort()
      await tended
    }
  }

  for (const [round, { ends, starts }] of fc.sample(RESTART, { seed: SEED, numRuns: schedulesToPlay(2) }).entries()) {
    const order = starts.map(({ name }) => name)
    test(`T22: comes again as ${order.join(', ')}, and all pods that must have a sidecar have one`, async (context) => {
      const replicas = PODS + 1 + round
      await empty(replicas)
      for (const name of ends) await (name === 'operator' ? operator.kill() : api.kill(name))
      const sinceMs = performance.now()
      await startAll(starts, async () => {
        const found = await startInjected(api, NAMESPACE)
        return found.length === replicas && found.every(hasSidecar)
      })
      context.diagnostic(`all have one after ${Math.round((performance.now() - sinceMs) / 1_000)} s`)
      await waitFor(
        'the budget to count them',
        async () => {
          const { matched, injected, skipped = {} } = (await shown(api, budgetPath(NAMESPACE, 'support')))?.status?.workloads ?? {}
          return matched === replicas && injected === replicas && Object.keys(skipped as object).length === 0
        },
        { withinMs: RECOVERED_MS_MAX },
      )
    })
  }
})
