/** Nothing changes, so nothing is written, though sidecars report and pods are reviewed, as dry runs, all the while. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Cluster } from '../cluster/cluster.ts'
import { waitFor } from '../cluster/wait-for.ts'
import { startProvider } from '../provider/server.ts'
import { clusterTest, freshNamespace } from '../support/cluster.ts'
import { install, OPERATOR_NAMESPACE, startOperator } from '../support/operator.ts'
import { createPod, startPodSidecar } from '../support/pod-sidecar.ts'
import { apply, budgetOf, budgetPath, shown, tierOf, untilSaid } from './plans.ts'

const IDLE_MS = 120_000
/** Longer than counters wait before they are written. */
const QUIET_MS = 13_000
const REVIEWS = 120
const BUDGETS = 20

clusterTest(
  'T47: two minutes idle, with sidecars that report and pods that are reviewed: no write at all',
  { own: {} },
  async (cluster, context) => {
    const operator = await startOperator(cluster, await install(cluster))
    context.after(() => operator.kill())
    const provider = await startProvider()
    context.after(() => provider.close())
    const namespace = await freshNamespace(cluster, context, 'idle')
    const upstreams = [{ name: 'openai', baseURL: `${provider.url}/v1` }]
    const names = Array.from({ length: BUDGETS }, (_, index) => `b${index}`)
    await apply(cluster, tierOf('still'), ...names.map((name) => budgetOf(namespace, name, 'still', { upstreams })))
    for (const name of names) await untilSaid(cluster, budgetPath(namespace, name), ['Ready=True'])
    for (const name of ['b0', 'b1']) {
      const sidecar = await startPodSidecar(cluster, await createPod(cluster, namespace, { name, labels: { app: name } }))
      context.after(() => sidecar.kill())
      const messages = [{ role: 'user', content: 'Hello.' }] as const
      await sidecar.client().chat.completions.create({ model: 'gpt-4o-mini', max_tokens: 20, messages: [...messages] })
    }
    await waitFor('the turns in status', async () => {
      const spends = await Promise.all(['b0', 'b1'].map((name) => shown(cluster, budgetPath(namespace, name))))
      return spends.every((budget) => budget?.status?.['conversations'] !== undefined)
    })
    await waitFor('a pause', () => Date.now() - (writesOf(cluster).at(-1)?.atMs ?? 0) > QUIET_MS, { withinMs: 90_000, everyMs: 1_000 })

    const since = Date.now()
    for (let review = 1; review <= REVIEWS; review += 1) {
      const metadata = { generateName: 'x-', labels: { app: names[review % BUDGETS] } }
      const body = { apiVersion: 'v1', kind: 'Pod', metadata, spec: { containers: [{ name: 'app', image: 'app:1' }] } }
      const { status } = await cluster.request({ method: 'POST', path: `/api/v1/namespaces/${namespace}/pods?dryRun=All`, body })
      assert.equal(status, 201)
      await sleep(Math.max(0, (IDLE_MS / REVIEWS) * review - (Date.now() - since)))
    }
    assert.ok(Date.now() - since >= IDLE_MS)
    const written = writesOf(cluster).filter(({ atMs }) => atMs >= since)
    assert.deepEqual(
      written.map(({ what }) => what),
      [],
    )
    const fresh = await untilSaid(cluster, budgetPath(namespace, 'b0'), ['UsageFresh=True'])
    assert.equal(fresh.status?.workloads?.['inSync'], 1)
  },
)

/** What the operator wrote but for its lease, which it must renew. */
function writesOf(cluster: Cluster): readonly { readonly atMs: number; readonly what: string }[] {
  return readFileSync(cluster.auditLog, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
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
