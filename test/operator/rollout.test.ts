/** What an edit does to pods that run, and what pods do without us: real operator, real sidecars, a real store. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { gatePod } from '@farebox/operator/core/gate-pod.ts'
import { Redis } from 'ioredis'
import type { Cluster } from '../cluster/cluster.ts'
import { waitFor } from '../support/wait-for.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { freshNamespace, ownCluster } from '../support/cluster.ts'
import { install, OPERATOR_NAMESPACE, startOperator } from '../support/operator.ts'
import type { Installation, Operator, Ports } from '../support/operator.ts'
import { createPod, sidecarOf, startPodSidecar } from '../support/pod-sidecar.ts'
import type { PodSidecar } from '../support/pod-sidecar.ts'
import { redisProgram, startRedis } from '../support/redis.ts'
import type { TestServer } from '../support/redis.ts'
import { apply, budgetOf, budgetPath, conditionOf, configIn, configMapPath, shown, tierOf, untilOlder, untilSaid } from './plans.ts'

const cluster = await ownCluster()
const program = redisProgram()
const missing = cluster === null ? 'there is no control plane' : program === null ? 'redis-server is missing' : false
const PASSWORD = 'p'.repeat(43)
const ROOT_KEY = Buffer.alloc(32, 7)
const MODEL = 'gpt-4o-mini'

describe('budgets and pods that run', { skip: missing }, () => {
  const api = cluster as Cluster
  let installation: Installation
  let operator: Operator
  let provider: Provider
  let store: TestServer
  let admin: Redis
  before(async () => {
    store = await startRedis(program ?? '')
    const open = new Redis(store.url)
    await open.config('SET', 'requirepass', PASSWORD)
    open.disconnect()
    admin = new Redis(store.url, { password: PASSWORD })
    provider = await startProvider()
    installation = await install(api)
    const data = { 'admin-password': Buffer.from(PASSWORD).toString('base64'), 'root-key': ROOT_KEY.toString('base64') }
    const secret = { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'farebox-store', namespace: OPERATOR_NAMESPACE }, data }
    await api.kubectl(['create', '-f', '-'], { input: JSON.stringify(secret) })
    operator = await start()
  })
  after(async () => {
    await operator?.kill()
    admin?.disconnect()
    await provider?.close()
    await store?.stop()
    await api.stop()
  })
  const start = (ports?: Ports): Promise<Operator> =>
    startOperator(api, installation, { environment: { FAREBOX_STORE_ADDRESS: store.url }, ...(ports === undefined ? {} : { ports }) })
  const upstreams = (): object => ({ upstreams: [{ name: 'openai', baseURL: `${provider.url}/v1` }] })
  const shared = { store: { kind: 'Shared' } }
  const talk = (sidecar: PodSidecar, conversation: string): Promise<unknown> =>
    sidecar.client({ 'x-farebox-conversation': conversation }).chat.completions.create({
      model: MODEL,
      max_tokens: 20,
      messages: [{ role: 'user', content: 'Hello.' }],
    })

  test('a tier that is edited is in force in a running sidecar within 2 s, and status says so', async (context) => {
    const namespace = await freshNamespace(api, context, 'rollout')
    await apply(api, tierOf('edited'), budgetOf(namespace, 'desk', 'edited', { ...upstreams(), ...shared }))
    await untilSaid(api, budgetPath(namespace, 'desk'), ['Ready=True'])
    const pod = await createPod(api, namespace, { name: 'desk', labels: { app: 'desk' } })
    const sidecar = await startPodSidecar(api, pod)
    try {
      await talk(sidecar, 'one')
      const wanted = [
        'Programmed=True',
        'Injected=True',
        'Enforced=True TrafficSeen',
        'Coordinated=True StoreReady',
        'UsageFresh=True',
        'Ready=True',
      ]
      const seen = await untilSaid(api, budgetPath(namespace, 'desk'), wanted, 40_000) // a turn alone is told with the next report
      const durations: number[] = []
      for (const price of ['2.10', '2.20', '2.30', '2.40', '2.50']) {
        const hash = (await sidecar.status()).config.hash
        const path = `/apis/farebox.dev/v1alpha1/pricingtiers/edited`
        const startedMs = performance.now()
        const { status } = await api.request({ method: 'PATCH', path, body: { spec: { pricing: { price } } } })
        assert.equal(status, 200)
        await waitFor('the edit in the sidecar', async () => (await sidecar.status()).config.hash !== hash, {
          withinMs: 5_000,
          everyMs: 10,
        })
        durations.push(performance.now() - startedMs)
      }
      context.diagnostic(`edit to effect, in ms: ${durations.map(Math.round).join(', ')}`)
      assert.ok(Math.max(...durations) < 2_000, String(durations))
      const map = configIn(await shown(api, configMapPath(namespace, 'desk')))
      assert.ok(map.version > (seen.status?.config?.version ?? 0))
      const after = await waitFor('the new config in status', async () => {
        const budget = await untilSaid(api, budgetPath(namespace, 'desk'), ['Programmed=True', 'Ready=True'])
        return budget.status?.config?.hash === map.hash ? budget : null
      })
      assert.match(conditionOf(after, 'Programmed')?.message ?? '', /config [0-9a-f]{16} is written/)
      const counted = await waitFor(
        'the counters',
        async () => {
          const budget = await shown(api, budgetPath(namespace, 'desk'))
          // A report that was made between the answer and its settlement tells the conversation, and its turn as under way.
          const { conversations } = (budget?.status ?? {}) as { readonly conversations?: { readonly turns: number } }
          return conversations?.turns === 1 ? budget : null
        },
        { withinMs: 30_000 },
      )
      assert.partialDeepStrictEqual(counted.status, {
        conversations: { total: 1, turns: 1 },
        workloads: { matched: 1, injected: 1, inSync: 1, outdated: 0, skipped: {} },
        tiers: [{ tier: 'edited', conversations: { total: 1 } }],
      })
    } finally {
      await sidecar.kill()
    }
  })

  test('sidecars reach the store as a user of their namespace, who is there again when the store has forgotten it', async (context) => {
    const namespace = await freshNamespace(api, context, 'rollout')
    await apply(api, tierOf('stored'), budgetOf(namespace, 'desk', 'stored', { ...upstreams(), ...shared }))
    await untilSaid(api, budgetPath(namespace, 'desk'), ['Ready=True'])
    const secret = await waitFor('the runtime secret', () => shown(api, `/api/v1/namespaces/${namespace}/secrets/farebox-runtime`))
    const url = new URL(Buffer.from(secret.data?.['store'] ?? '', 'base64').toString('utf8'))
    assert.equal(url.username, `fb-${namespace}`)
    assert.equal(Buffer.from(Buffer.from(secret.data?.['identity-key'] ?? '', 'base64').toString('utf8'), 'base64').length, 32)
    // Running pods do not miss it; the next one would wait for it.
    await api.kubectl(['delete', 'secret', 'farebox-runtime', '-n', namespace])
    await createPod(api, namespace, { name: 'desk', labels: { app: 'desk' } })
    const healed = await waitFor('the runtime secret again', () => shown(api, `/api/v1/namespaces/${namespace}/secrets/farebox-runtime`))
    assert.deepEqual(healed.data, secret.data)
    const user = async (): Promise<boolean> => (await admin.call('ACL', 'GETUSER', `fb-${namespace}`)) !== null
    await waitFor('the user', user)
    const own = new Redis(url.href, { maxRetriesPerRequest: 0, retryStrategy: () => null })
    own.on('error', () => undefined)
    await own.set(`fb:${namespace}:x`, '1')
    await assert.rejects(own.set('fb:other:x', '1'), /NOPERM/)
    await assert.rejects(own.call('FLUSHALL'), /NOPERM/)
    await assert.rejects(own.call('KEYS', '*'), /NOPERM/)
    await assert.rejects(own.eval('return redis.call("GET", "fb:other:x")', 0), /NOPERM|can't access at least one of the keys/)
    own.disconnect()
    await admin.call('ACL', 'DELUSER', `fb-${namespace}`)
    await admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
    await waitFor('the user again', user)
    const again = new Redis(url.href, { maxRetriesPerRequest: 0 })
    assert.equal(await again.get(`fb:${namespace}:x`), '1')
    again.disconnect()
    await api.kubectl(['delete', 'namespace', namespace])
    await waitFor('the user to go with its namespace', async () => !(await user()), { withinMs: 20_000 })
    const kept = await shown(api, `/api/v1/namespaces/${OPERATOR_NAMESPACE}/secrets/farebox-store`)
    assert.equal(kept?.data?.['root-key'], ROOT_KEY.toString('base64'), 'what is there is never written over')
  })

  test('T63: a sidecar that starts while the operator is away uses the config map, and enforces', async (context) => {
    const namespace = await freshNamespace(api, context, 'rollout')
    const poor = tierOf('poor', '0.00001', { ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Refuse' }] })
    await apply(api, poor, budgetOf(namespace, 'desk', 'poor', { ...upstreams(), ...shared }))
    const budget = await untilSaid(api, budgetPath(namespace, 'desk'), ['Ready=True'])
    const pod = await createPod(api, namespace, { name: 'desk', labels: { app: 'desk' } })
    assert.equal(await operator.stop(), 0)
    const sidecar = await startPodSidecar(api, pod)
    try {
      assert.equal((await sidecar.status()).config.hash, budget.status?.config?.hash)
      await assert.rejects(talk(sidecar, 'one'), { status: 402, code: 'conversation_budget_exhausted' })
      await untilOlder(budget)
      const late = await createPod(api, namespace, { name: 'late', labels: { app: 'desk' } })
      assert.equal(sidecarOf(late), null, 'BestEffort: a pod starts without us')
      operator = await start(operator.ports)
      const back = await untilSaid(api, budgetPath(namespace, 'desk'), ['Injected=False MissingSidecars', 'UsageFresh=True'], 40_000)
      assert.partialDeepStrictEqual(back.status?.workloads, { matched: 2, injected: 1, skipped: { Missed: 1 } })
    } finally {
      await sidecar.kill()
    }
  })

  test('status tells of each budget how much of its limits its own pods have used, though they share plans and books', async (context) => {
    const namespace = await freshNamespace(api, context, 'rollout')
    const limits = (amount: string): object => ({ limits: [{ amount, period: { unit: 'Month' } }] })
    const names = ['desk', 'bot'] as const
    const amounts = { desk: '0.50', bot: '2.00' }
    await apply(
      api,
      tierOf('limited'),
      ...names.map((name) => budgetOf(namespace, name, 'limited', { ...upstreams(), ...shared, ...limits(amounts[name]) })),
    )
    const sidecars: PodSidecar[] = []
    try {
      for (const name of names) {
        await untilSaid(api, budgetPath(namespace, name), ['Ready=True'])
        sidecars.push(await startPodSidecar(api, await createPod(api, namespace, { name, labels: { app: name } })))
      }
      const [desk, bot] = sidecars
      assert.ok(desk !== undefined && bot !== undefined)
      await talk(desk, 'one')
      for (const id of ['two', 'three']) await talk(bot, id)
      const spentOf = async (sidecar: PodSidecar): Promise<string | undefined> => (await sidecar.status()).limits?.['Month UTC']?.spent
      const spent = { desk: await spentOf(desk), bot: await spentOf(bot) }
      assert.ok(spent.desk !== undefined && Number(spent.desk) > 0 && Number(spent.bot) > Number(spent.desk), JSON.stringify(spent))
      for (const name of names) {
        const use = { period: 'Month UTC', amount: amounts[name], spent: spent[name], held: '0.00' }
        await waitFor(
          `the limit of ${name} in status`,
          async () => {
            const { limits: told } = (await shown(api, budgetPath(namespace, name)))?.status ?? {}
            assert.partialDeepStrictEqual(told, [use])
            return true
          },
          { withinMs: 60_000 },
        )
      }
    } finally {
      await Promise.all(sidecars.map((sidecar) => sidecar.kill()))
    }
  })

  test('where sidecars are required the gate is tried, and an open one is said', async (context) => {
    const namespace = await freshNamespace(api, context, 'rollout')
    const required = { injection: { mode: 'Required' } }
    await apply(api, tierOf('strict'), budgetOf(namespace, 'desk', 'strict', { ...required, mode: 'Observe' }))
    await untilSaid(api, budgetPath(namespace, 'desk'), ['Ready=True'])
    await createPod(api, namespace, { name: 'desk', labels: { app: 'desk' } })
    await untilSaid(api, budgetPath(namespace, 'desk'), ['Injected=True'])
    await assert.rejects(
      createPod(api, namespace, { name: 'out', labels: { app: 'desk', 'farebox.dev/inject': 'disabled' } }),
      /demands the farebox sidecar/,
    )
    // The pod of the dry run is refused though it asks for a sidecar by its label, as selectors may want it to.
    const { labels, spec } = gatePod({ app: 'desk', 'farebox.dev/inject': 'enabled' })
    const pod = { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'gate', labels }, spec }
    const tried = await api.request({ method: 'POST', path: `/api/v1/namespaces/${namespace}/pods?dryRun=All`, body: pod })
    assert.equal(tried.status, 403)
    assert.match(JSON.stringify(tried.body), /a container of its own named farebox/)
    await api.kubectl(['delete', 'validatingadmissionpolicybinding', 'farebox-injection-required'])
    await waitFor('the gate to open', async () => {
      const path = `/api/v1/namespaces/${namespace}/pods?dryRun=All`
      const metadata = { name: 'x', labels: { app: 'desk', 'farebox.dev/inject': 'disabled' } }
      const body = { apiVersion: 'v1', kind: 'Pod', metadata, spec: { containers: [{ name: 'app', image: 'app:1' }] } }
      return (await api.request({ method: 'POST', path, body })).status === 201
    })
    await apply(api, budgetOf(namespace, 'desk', 'strict', { ...required, mode: 'Enforce' })) // looks again
    await untilSaid(api, budgetPath(namespace, 'desk'), ['Injected=False GateOpen', 'Ready=False GateOpen'])
  })

  test('a config that a sidecar refuses is shown, and the last good one stays in force', async (context) => {
    const namespace = await freshNamespace(api, context, 'rollout')
    await apply(api, tierOf('sound'), budgetOf(namespace, 'desk', 'sound', { ...upstreams(), ...shared }))
    const { status } = await untilSaid(api, budgetPath(namespace, 'desk'), ['Ready=True'])
    const pod = await createPod(api, namespace, { name: 'desk', labels: { app: 'desk' } })
    const sidecar = await startPodSidecar(api, pod)
    try {
      await untilSaid(api, budgetPath(namespace, 'desk'), ['UsageFresh=True'], 30_000)
      sidecar.writeConfig('{"schemaVersion":1,"version":99')
      const shownNack = await waitFor(
        'the refusal in status',
        async () => {
          const budget = await shown(api, budgetPath(namespace, 'desk'))
          return budget?.status?.workloads?.['nacked'] === 1 ? budget : null
        },
        { withinMs: 40_000 },
      )
      assert.partialDeepStrictEqual(shownNack.status?.workloads, { inSync: 1, worst: [{ pod: 'desk', trouble: 'Nacked' }] })
      assert.equal((await sidecar.status()).config.hash, status?.config?.hash)
      await talk(sidecar, 'one')
    } finally {
      await sidecar.kill()
    }
  })
})
