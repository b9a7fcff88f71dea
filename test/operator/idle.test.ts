/** Nothing changes, so nothing is written, though sidecars report and pods are reviewed, as dry runs, all the while. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { Agent } from 'node:https'
import { setTimeout as sleep } from 'node:timers/promises'
import { TOKEN_AUDIENCE } from '@farebox/crds/cluster.ts'
import type { Cluster } from '../cluster/cluster.ts'
import { waitFor } from '../support/wait-for.ts'
import { startProvider } from '../provider/server.ts'
import { clusterTest, freshNamespace } from '../support/cluster.ts'
import { startFakeSidecar } from '../support/fake-sidecar.ts'
import type { Listener } from '../support/fake-sidecar.ts'
import { install, OPERATOR_NAMESPACE, startOperator } from '../support/operator.ts'
import { boundToken, createPod, startPodSidecar } from '../support/pod-sidecar.ts'
import { apply, budgetOf, budgetPath, configMapPath, shown, tierOf, untilSaid } from './plans.ts'

const IDLE_MS = 120_000
/** Longer than counters wait before they are written. */
const QUIET_MS = 13_000
const DAY_MS = 86_400_000
const PAUSE_MS_MAX = 90_000
/** After midnight, in which all have reported; and what a request may be late. */
const MIDNIGHT_MS = { after: 60_000, spare: 10_000 } as const
const REVIEWS = 120
const BUDGETS = 20
/** Two with a real sidecar, the others with a fake one. */
const PODS = 200
const OPENED_AT_ONCE = 20
/** As a real one does. */
const REPORTED_EVERY_MS = 15_000

clusterTest(
  `T47: two minutes idle, with ${PODS} sidecars that report and pods that are reviewed: no write at all`,
  { own: {} },
  async (cluster, context) => {
    const operator = await startOperator(cluster, await install(cluster))
    context.after(() => operator.kill())
    const provider = await startProvider()
    context.after(() => provider.close())
    const namespace = await freshNamespace(cluster, context, 'idle')
    const upstreams = [{ name: 'openai', baseURL: `${provider.url}/v1` }]
    const names = Array.from({ length: BUDGETS }, (_, index) => `b${index}`)
    const limits = ['Month', 'Day'].map((unit) => ({ amount: '50.00', period: { unit } }))
    await apply(cluster, tierOf('still'), ...names.map((name) => budgetOf(namespace, name, 'still', { upstreams, limits })))
    for (const name of names) await untilSaid(cluster, budgetPath(namespace, name), ['Ready=True'])
    for (const name of ['b0', 'b1']) {
      const sidecar = await startPodSidecar(cluster, await createPod(cluster, namespace, { name, labels: { app: name } }))
      context.after(() => sidecar.kill())
      const messages = [{ role: 'user', content: 'Hello.' }] as const
      await sidecar.client().chat.completions.create({ model: 'gpt-4o-mini', max_tokens: 20, messages: [...messages] })
    }
    await waitFor(
      'the turns in status',
      async () => {
        const spends = await Promise.all(['b0', 'b1'].map((name) => shown(cluster, budgetPath(namespace, name))))
        return spends.every((budget) => budget?.status?.['conversations'] !== undefined)
      },
      { withinMs: 60_000 },
    )
    const agent = new Agent({ keepAlive: true, maxSockets: 64 })
    context.after(() => agent.destroy())
    const map = await shown(cluster, configMapPath(namespace, 'b2'))
    const listener: Listener = { url: operator.deliveryUrl, ca: map?.data?.['ca.crt'] ?? '' }
    let acknowledged = 0
    const open = async (index: number): Promise<void> => {
      // A budget's books are the same for all of its sidecars: real ones have budgets of their own.
      const app = `b${2 + (index % (BUDGETS - 2))}`
      const pod = await createPod(cluster, namespace, { name: `fake-${index}`, labels: { app }, spec: { schedulerName: 'nobody' } })
      const token = await boundToken(cluster, pod, TOKEN_AUDIENCE)
      const onAcknowledged = (): void => void (acknowledged += 1)
      const stream = await startFakeSidecar({ listener, token, agent, onAcknowledged, everyMs: REPORTED_EVERY_MS })
      assert.equal(stream.status, 200, stream.error)
      context.after(() => stream.close())
    }
    for (let from = 2; from < PODS; from += OPENED_AT_ONCE)
      await Promise.all(Array.from({ length: Math.min(OPENED_AT_ONCE, PODS - from) }, (_, index) => open(from + index)))
    await waitFor('all of them in status', async () => {
      const budgets = await Promise.all(names.map((name) => shown(cluster, budgetPath(namespace, name))))
      const inSync = budgets.reduce((sum, budget) => sum + Number(budget?.status?.workloads?.['inSync'] ?? 0), 0)
      if (inSync < PODS) throw new Error(`${inSync} are`)
      return true
    })
    await waitFor('midnight to be far', isFarFromMidnight, { withinMs: 330_000, everyMs: 1_000 })
    await waitFor('a pause', () => Date.now() - (writesOf(cluster).at(-1)?.atMs ?? 0) > QUIET_MS, {
      withinMs: PAUSE_MS_MAX,
      everyMs: 1_000,
    })

    const [since, acknowledgedBefore] = [Date.now(), acknowledged]
    for (let review = 1; review <= REVIEWS; review += 1) {
      const metadata = { generateName: 'x-', labels: { app: names[review % BUDGETS] } }
      const body = { apiVersion: 'v1', kind: 'Pod', metadata, spec: { containers: [{ name: 'app', image: 'app:1' }] } }
      const { status } = await cluster.request({ method: 'POST', path: `/api/v1/namespaces/${namespace}/pods?dryRun=All`, body })
      assert.equal(status, 201)
      await sleep(Math.max(0, (IDLE_MS / REVIEWS) * review - (Date.now() - since)))
    }
    // A timer may end a millisecond early.
    while (Date.now() - since < IDLE_MS) await sleep(1)
    const written = writesOf(cluster).filter(({ atMs }) => atMs >= since)
    assert.deepEqual(
      written.map(({ what }) => what),
      [],
    )
    const reports = acknowledged - acknowledgedBefore
    assert.ok(reports >= (PODS - 2) * (IDLE_MS / REPORTED_EVERY_MS - 2), `${reports} reports were taken meanwhile`)
    const fresh = await untilSaid(cluster, budgetPath(namespace, 'b0'), ['UsageFresh=True'])
    assert.equal(fresh.status?.workloads?.['inSync'], 1)
  },
)

/** What was spent today begins anew at midnight in UTC, and is written then. */
function isFarFromMidnight(): boolean {
  const ms = Date.now() % DAY_MS
  return ms > MIDNIGHT_MS.after && ms < DAY_MS - PAUSE_MS_MAX - IDLE_MS - MIDNIGHT_MS.spare
}

/** What the operator wrote but for its lease, which it must renew. */
function writesOf(cluster: Cluster): readonly { readonly atMs: number; readonly what: string }[] {
  return readFileSync(cluster.auditLog, 'utf8')
    .split('\n')
    .slice(0, -1) // no line yet
    .flatMap((line) => {
      const { verb, user, objectRef, requestURI, requestReceivedTimestamp } = JSON.parse(line) as {
        readonly verb: string
        readonly user: { readonly username: string }
        readonly objectRef?: { readonly resource: string }
        readonly requestURI: string
        readonly requestReceivedTimestamp: string
      }
      const isOurs = user.username === `system:serviceaccount:${OPERATOR_NAMESPACE}:farebox-operator`
      const isWrite = ['create', 'update', 'patch', 'delete'].includes(verb) && objectRef?.resource !== 'leases'
      return isOurs && isWrite ? [{ atMs: Date.parse(requestReceivedTimestamp), what: `${verb} ${requestURI}` }] : []
    })
}
