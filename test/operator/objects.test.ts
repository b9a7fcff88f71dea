/** Objects in, configs and statuses out: the real operator on a real control plane, with the rights of the chart. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Cluster } from '../cluster/cluster.ts'
import { startProvider } from '../provider/server.ts'
import { waitFor } from '../support/wait-for.ts'
import { freshNamespace, ownCluster } from '../support/cluster.ts'
import { install, startOperator } from '../support/operator.ts'
import type { Operator } from '../support/operator.ts'
import { createPod, sidecarOf, startPodSidecar } from '../support/pod-sidecar.ts'
import {
  apply,
  budgetOf,
  budgetPath,
  conditionOf,
  configIn,
  configMapPath,
  shown,
  tierOf,
  tierPath,
  untilOlder,
  untilSaid,
} from './plans.ts'

const cluster = await ownCluster()

describe('an operator on a control plane', { skip: cluster === null ? 'there is no control plane' : false }, () => {
  let operator: Operator
  const api = cluster as Cluster
  before(async () => {
    operator = await startOperator(api, await install(api))
  })
  after(async () => {
    await operator?.kill()
    await api.stop()
  })

  test('a tier and a budget become a config map that the budget owns, and statuses of both', async (context) => {
    const namespace = await freshNamespace(api, context, 'objects')
    await apply(api, tierOf('basic'), budgetOf(namespace, 'desk', 'basic'))
    const budget = await untilSaid(api, budgetPath(namespace, 'desk'), [
      'Accepted=True',
      'Programmed=True',
      'Ready=True',
      'Injected=Unknown NoPods',
    ])
    const map = await shown(api, configMapPath(namespace, 'desk'))
    assert.partialDeepStrictEqual(map, {
      metadata: {
        labels: { 'app.kubernetes.io/managed-by': 'farebox' },
        annotations: { 'farebox.dev/config-of': `${namespace}/desk` },
        ownerReferences: [{ kind: 'ConversationBudget', name: 'desk', uid: budget.metadata.uid, controller: true }],
      },
    })
    assert.deepEqual(budget.status?.config, { hash: configIn(map).hash, version: configIn(map).version })
    assert.match(map?.data?.['ca.crt'] ?? '', /BEGIN CERTIFICATE/)
    const tier = await untilSaid(api, tierPath('basic'), ['Accepted=True', 'Ready=True'])
    assert.partialDeepStrictEqual(tier.status, { derived: { perConversation: '0.60' }, boundBudgets: 1, margin: { targetPercent: 70 } })
  })

  test('T52: a tier that comes later makes its budget ready, which nobody touches', async (context) => {
    const namespace = await freshNamespace(api, context, 'objects')
    await apply(api, budgetOf(namespace, 'early', 'late-tier'))
    const path = budgetPath(namespace, 'early')
    const waiting = await untilSaid(api, path, ['Accepted=False TierNotFound', 'Ready=False TierNotFound', 'Reconciling=True'])
    assert.equal(await shown(api, configMapPath(namespace, 'early')), null)
    await apply(api, tierOf('late-tier'))
    const ready = await untilSaid(api, path, ['Accepted=True', 'Programmed=True', 'Ready=True'])
    assert.equal(ready.metadata.generation, waiting.metadata.generation)
    assert.equal(conditionOf(ready, 'Reconciling'), undefined)
  })

  test('T53: a tier that is deleted in use leaves its config in force, and its budget says so', async (context) => {
    const namespace = await freshNamespace(api, context, 'objects')
    await apply(api, tierOf('doomed'), budgetOf(namespace, 'keeper', 'doomed'))
    await untilSaid(api, budgetPath(namespace, 'keeper'), ['Ready=True'])
    const before = configIn(await shown(api, configMapPath(namespace, 'keeper')))
    const pod = await createPod(api, namespace, { name: 'keeper', labels: { app: 'keeper' } })
    const sidecar = await startPodSidecar(api, pod)
    try {
      await api.kubectl(['delete', 'pricingtier', 'doomed'])
      const budget = await untilSaid(api, budgetPath(namespace, 'keeper'), ['Accepted=False TierNotFound', 'Programmed=False NotAccepted'])
      assert.match(conditionOf(budget, 'Programmed')?.message ?? '', /the last good config stays in force/)
      assert.deepEqual(configIn(await shown(api, configMapPath(namespace, 'keeper'))), before)
      assert.equal((await sidecar.status()).config.hash, before.hash)
    } finally {
      await sidecar.kill()
    }
  })

  test('T49: whoever edits a config map of ours sees it put right, and an event says so', async (context) => {
    const namespace = await freshNamespace(api, context, 'objects')
    await apply(api, tierOf('guarded'), budgetOf(namespace, 'guarded', 'guarded'))
    await untilSaid(api, budgetPath(namespace, 'guarded'), ['Ready=True'])
    const path = configMapPath(namespace, 'guarded')
    const before = await shown(api, path)
    // The policy of the chart refuses this already; here it comes from somebody whom it lets through.
    await api.kubectl(['delete', 'validatingadmissionpolicybinding', 'farebox-config-guard'], { mayFail: true })
    const edit = { data: { 'config.json': '{"mode":"Observe"}' }, metadata: { labels: { mine: 'too' } } }
    await waitFor('the guard to be gone', async () => (await api.request({ method: 'PATCH', path, body: edit })).status === 200)
    const after = await waitFor('the config map put right', async () => {
      const map = await shown(api, path)
      return map?.data?.['config.json'] === before?.data?.['config.json'] ? map : null
    })
    assert.deepEqual(after.data, before?.data)
    await waitFor('an event', async () => {
      const { body } = await api.request<{ items: { reason: string; note?: string }[] }>({
        path: `/apis/events.k8s.io/v1/namespaces/${namespace}/events`,
      })
      return body.items.some(({ reason }) => reason === 'ConfigReverted')
    })
  })

  test('T15: of two budgets on one pod the oldest governs, and the limits of both hold', async (context) => {
    const namespace = await freshNamespace(api, context, 'objects')
    const selector = { matchLabels: { app: 'shared' } }
    const period = { unit: 'Day', timeZone: 'UTC' }
    await apply(api, tierOf('both'), budgetOf(namespace, 'first', 'both', { selector, limits: [{ amount: '10.00', period }] }))
    await untilOlder(await untilSaid(api, budgetPath(namespace, 'first'), ['Ready=True']))
    await apply(api, budgetOf(namespace, 'second', 'both', { selector, limits: [{ amount: '3.00', period }] }))
    await untilSaid(api, budgetPath(namespace, 'second'), ['Programmed=False PartiallyProgrammed'])
    await untilSaid(api, budgetPath(namespace, 'first'), ['Programmed=True'])
    const map = await waitFor('both limits', async () => {
      const map = await shown(api, configMapPath(namespace, 'first'))
      return configIn(map).limits.length === 2 ? map : null
    })
    assert.partialDeepStrictEqual(configIn(map).limits, [{ amount: '10.00' }, { amount: '3.00' }])
    assert.equal(await shown(api, configMapPath(namespace, 'second')), null)
    const pod = await createPod(api, namespace, { name: 'shared', labels: { app: 'shared' } })
    assert.equal(pod.metadata.annotations?.['farebox.dev/budget'], 'first')
  })

  test('T15: limits of a later budget are added where it selects all pods of an older one; else it says for how many they are not', async (context) => {
    const namespace = await freshNamespace(api, context, 'objects')
    const limits = (amount: string) => [{ amount, period: { unit: 'Day', timeZone: 'UTC' } }]
    const labels = { app: 'desk', track: 'canary' }
    await apply(api, tierOf('crossed'), budgetOf(namespace, 'narrow', 'crossed', { selector: { matchLabels: labels } }))
    await untilOlder(await untilSaid(api, budgetPath(namespace, 'narrow'), ['Ready=True']))
    const crossing = { selector: { matchLabels: { team: 'x' } }, limits: limits('2.00') }
    const wide = { selector: { matchLabels: { app: 'desk' } }, limits: limits('3.00') }
    await apply(api, budgetOf(namespace, 'wide', 'crossed', wide), budgetOf(namespace, 'crossing', 'crossed', crossing))
    await untilSaid(api, budgetPath(namespace, 'wide'), ['Programmed=True SelectorsOverlap', 'Ready=True'])
    await untilSaid(api, budgetPath(namespace, 'crossing'), ['Programmed=True Programmed'])
    const map = await waitFor('the limit of the wider one', async () => {
      const map = await shown(api, configMapPath(namespace, 'narrow'))
      return configIn(map).limits.length === 1 ? map : null
    })
    assert.partialDeepStrictEqual(configIn(map).limits, limits('3.00'))
    const pod = await createPod(api, namespace, { name: 'crossed', labels: { ...labels, team: 'x' } })
    assert.equal(pod.metadata.annotations?.['farebox.dev/budget'], 'narrow')
    const said = await untilSaid(api, budgetPath(namespace, 'crossing'), ['Programmed=False PartiallyProgrammed', 'Ready=False'])
    assert.equal(
      conditionOf(said, 'Programmed')?.message,
      'ConversationBudget "narrow" comes before this one and governs 1 of the pods that this one selects, without the limits of this one',
    )
    await untilSaid(api, budgetPath(namespace, 'wide'), ['Programmed=True SelectorsOverlap', 'Ready=True'])
  })

  test('T54, T58: what cannot be is refused at once or said; the old config stays until it is put right', async (context) => {
    const namespace = await freshNamespace(api, context, 'objects')
    await apply(api, tierOf('sober'), budgetOf(namespace, 'sober', 'sober'))
    await untilSaid(api, budgetPath(namespace, 'sober'), ['Ready=True'])
    const before = configIn(await shown(api, configMapPath(namespace, 'sober')))
    const patch = (path: string, spec: object): ReturnType<Cluster['request']> => api.request({ method: 'PATCH', path, body: { spec } })
    const currency = await patch(tierPath('sober'), { currency: 'EUR' })
    assert.equal(currency.status, 422)
    assert.match(JSON.stringify(currency.body), /currency cannot be changed: create another tier/)
    assert.equal((await patch(budgetPath(namespace, 'sober'), { mode: 'Dream' })).status, 422)
    // Only compile knows sums of money.
    assert.equal((await patch(tierPath('sober'), { unitEconomics: { otherCost: '5.00' } })).status, 200)
    await untilSaid(api, tierPath('sober'), ['Accepted=False', 'Ready=False', 'Stalled=True'])
    await untilSaid(api, budgetPath(namespace, 'sober'), ['Accepted=False TierNotAccepted', 'Programmed=False NotAccepted'])
    assert.deepEqual(configIn(await shown(api, configMapPath(namespace, 'sober'))), before)
    assert.equal((await patch(tierPath('sober'), { unitEconomics: { otherCost: '0' } })).status, 200)
    await untilSaid(api, budgetPath(namespace, 'sober'), ['Accepted=True', 'Ready=True'])
    assert.deepEqual(configIn(await shown(api, configMapPath(namespace, 'sober'))), before, 'the same content has the same version')
  })

  test('T41: a thousand edits of one object are compiled a bounded number of times, and the last one counts', async (context) => {
    const namespace = await freshNamespace(api, context, 'objects')
    await apply(api, tierOf('restless'), budgetOf(namespace, 'restless', 'restless'))
    await untilSaid(api, budgetPath(namespace, 'restless'), ['Ready=True'])
    const compiled = async (): Promise<number> =>
      Number(/^farebox_operator_reconcile_seconds_count\{key="configs",outcome="done"\} (\d+)$/m.exec(await operator.metrics())?.[1] ?? 0)
    const [before, startedMs] = [await compiled(), performance.now()]
    for (let edit = 1; edit <= 1_000; edit += 1) {
      const body = { spec: { pricing: { price: `${edit}.00` } } }
      assert.equal((await api.request({ method: 'PATCH', path: tierPath('restless'), body })).status, 200)
    }
    const seconds = (performance.now() - startedMs) / 1_000
    await waitFor('the last one', async () => {
      const map = await shown(api, configMapPath(namespace, 'restless'))
      return JSON.stringify(configIn(map)).includes('"perConversation":"300.00"')
    })
    const times = (await compiled()) - before
    context.diagnostic(`compiled ${times} times in ${seconds.toFixed(1)} s`)
    // After 50 ms of quiet at the soonest, and once more for each config map that comes back.
    assert.ok(times <= 2 * (seconds * 20) + 20 && times < 1_000, `${times} times`)
  })

  test('changed selectors: pods are counted with the budget that governs them now', async (context) => {
    const namespace = await freshNamespace(api, context, 'objects')
    await apply(api, tierOf('moving'), budgetOf(namespace, 'left', 'moving'), budgetOf(namespace, 'right', 'moving'))
    await untilSaid(api, budgetPath(namespace, 'left'), ['Ready=True'])
    await createPod(api, namespace, { name: 'left', labels: { app: 'left' } })
    const matched = (name: string, count: number): Promise<unknown> =>
      waitFor(
        `${name} to match ${count}`,
        async () => (await shown(api, budgetPath(namespace, name)))?.status?.workloads?.['matched'] === count,
        {
          withinMs: 20_000,
        },
      )
    await matched('left', 1)
    await apply(api, budgetOf(namespace, 'left', 'moving', { selector: { matchLabels: { app: 'nobody' } } }))
    await apply(api, budgetOf(namespace, 'right', 'moving', { selector: { matchLabels: { app: 'left' } } }))
    await matched('left', 0)
    await matched('right', 1)
  })

  test('pods that were there before their budget say so, with an event on what owns them; a namespace that is left out says so before it has pods', async (context) => {
    const namespace = await freshNamespace(api, context, 'objects')
    const labels = { app: 'desk' }
    const template = { metadata: { labels }, spec: { containers: [{ name: 'app', image: 'app:1' }] } }
    const spec = { replicas: 2, selector: { matchLabels: labels }, template }
    await apply(api, { apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'desk', namespace }, spec })
    await waitFor('the pods', async () => {
      const { items } = (await api.request<{ items: unknown[] }>({ path: `/api/v1/namespaces/${namespace}/pods` })).body
      return items.length === 2
    })
    const inNobodys = budgetOf('kube-public', 'desk', 'moving', { injection: { mode: 'Required' } })
    await apply(api, tierOf('moving'), budgetOf(namespace, 'desk', 'moving'), inNobodys)
    context.after(() => api.kubectl(['delete', 'cbudget', '-n', 'kube-public', 'desk']))
    const { status } = await untilSaid(api, budgetPath(namespace, 'desk'), ['Injected=False MissingSidecars'])
    assert.deepEqual(status?.workloads?.['skipped'], { OlderThanBudget: 2 })
    const told = await waitFor('an event', async () => {
      const { body } = await api.request<{ items: { reason: string; note?: string; regarding: { kind: string } }[] }>({
        path: `/apis/events.k8s.io/v1/namespaces/${namespace}/events`,
      })
      return body.items.find(({ reason }) => reason === 'FareboxSkipped')
    })
    assert.deepEqual([told.regarding.kind, told.note?.startsWith('no sidecar, OlderThanBudget: ')], ['ReplicaSet', true])
    await untilSaid(api, budgetPath('kube-public', 'desk'), ['Injected=False NamespaceExcluded'])
  })

  test('T42: what the API server refuses for good is Stalled, and others go on; what was in the way is gone, and so is that', async (context) => {
    const full = await freshNamespace(api, context, 'objects')
    const roomy = await freshNamespace(api, context, 'objects')
    const metadata = { name: 'no-config-maps', namespace: full }
    const quota = { apiVersion: 'v1', kind: 'ResourceQuota', metadata, spec: { hard: { configmaps: '0' } } }
    await apply(api, quota)
    const quotaPath = `/api/v1/namespaces/${full}/resourcequotas/no-config-maps`
    await waitFor('the quota to be counted', async () => (await shown(api, quotaPath))?.status?.['used'] !== undefined)
    await apply(api, tierOf('crowded'), budgetOf(full, 'refused', 'crowded'))
    const wanted = ['Programmed=False WriteRefused', 'Ready=False WriteRefused', 'Stalled=True WriteRefused']
    const refused = await untilSaid(api, budgetPath(full, 'refused'), wanted)
    assert.match(conditionOf(refused, 'Stalled')?.message ?? '', /exceeded quota: no-config-maps/)
    assert.equal(conditionOf(refused, 'Reconciling'), undefined)
    await apply(api, budgetOf(roomy, 'taken', 'crowded'))
    await untilSaid(api, budgetPath(roomy, 'taken'), ['Programmed=True', 'Ready=True'])
    await untilSaid(api, budgetPath(full, 'refused'), ['Stalled=True WriteRefused'])
    assert.equal((await api.request({ method: 'DELETE', path: quotaPath })).status, 200)
    const written = await untilSaid(api, budgetPath(full, 'refused'), ['Programmed=True', 'Ready=True'], 60_000)
    assert.equal(conditionOf(written, 'Stalled'), undefined)
  })

  test('T56: a namespace that is deleted in mid-traffic ends within a minute', async (context) => {
    const namespace = await freshNamespace(api, context, 'objects')
    const provider = await startProvider()
    const upstreams = [{ name: 'openai', baseURL: `${provider.url}/v1` }]
    await apply(api, tierOf('passing'), budgetOf(namespace, 'passing', 'passing', { upstreams }))
    await untilSaid(api, budgetPath(namespace, 'passing'), ['Ready=True'])
    const sidecar = await startPodSidecar(api, await createPod(api, namespace, { name: 'passing', labels: { app: 'passing' } }))
    const isOver = new AbortController()
    let answers = 0
    const talking = (async () => {
      while (!isOver.signal.aborted) {
        const messages = [{ role: 'user', content: 'Hello.' }] as const
        await sidecar.client().chat.completions.create({ model: 'gpt-4o-mini', max_tokens: 20, messages: [...messages] })
        answers += 1
      }
    })()
    try {
      await Promise.race([talking, waitFor('calls', () => answers > 2)])
      await untilSaid(api, budgetPath(namespace, 'passing'), ['UsageFresh=True'])
      await api.kubectl(['delete', 'namespace', namespace, '--wait=false'])
      const before = answers
      const isGone = async (): Promise<boolean> => (await shown(api, `/api/v1/namespaces/${namespace}`)) === null
      await Promise.race([talking, waitFor('the namespace to be gone', isGone, { withinMs: 60_000 })])
      assert.equal(await isGone(), true)
      assert.ok(answers > before, 'who talks is served until its pod ends')
    } finally {
      isOver.abort()
      await talking.catch(() => undefined)
      await sidecar.kill()
      await provider.close()
    }
  })

  // Late: the garbage collector learns of new kinds every half minute, and comes late to what it met before that.
  test('T51: a budget that is deleted takes its config map along; sidecars that run keep what they have', async (context) => {
    const namespace = await freshNamespace(api, context, 'objects')
    await apply(api, tierOf('brief'), budgetOf(namespace, 'brief', 'brief'))
    const { status } = await untilSaid(api, budgetPath(namespace, 'brief'), ['Ready=True'])
    const pod = await createPod(api, namespace, { name: 'brief', labels: { app: 'brief' } })
    const sidecar = await startPodSidecar(api, pod)
    try {
      await untilSaid(api, budgetPath(namespace, 'brief'), ['UsageFresh=True'])
      await api.kubectl(['delete', 'conversationbudget', 'brief', '-n', namespace])
      const isGone = async (): Promise<boolean> => (await shown(api, configMapPath(namespace, 'brief'))) === null
      await waitFor('the config map to go', isGone, { withinMs: 90_000 })
      const { config } = await sidecar.status()
      assert.equal(config.hash, status?.config?.hash)
      const next = await createPod(api, namespace, { name: 'brief-2', labels: { app: 'brief' } })
      assert.equal(sidecarOf(next), null)
    } finally {
      await sidecar.kill()
    }
  })

  test('what the API server keeps of an older schema is said to be invalid, and keeps its config', async (context) => {
    const namespace = await freshNamespace(api, context, 'objects')
    await apply(api, tierOf('old'), budgetOf(namespace, 'old', 'old'))
    await untilSaid(api, budgetPath(namespace, 'old'), ['Ready=True'])
    const before = configIn(await shown(api, configMapPath(namespace, 'old')))
    const crd = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions/conversationbudgets.farebox.dev'
    const { body } = await api.request<{ spec: { versions: { schema: object }[] } }>({ path: crd })
    const loose = structuredClone(body)
    for (const version of loose.spec.versions)
      version.schema = { openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } }
    assert.equal((await api.request({ method: 'PUT', path: crd, body: loose })).status, 200)
    try {
      const patch = { spec: { mode: 'Dream' } }
      await waitFor('the loose schema', async () => {
        const { status, body } = await api.request<{ spec?: { mode?: string } }>({
          method: 'PATCH',
          path: budgetPath(namespace, 'old'),
          body: patch,
        })
        return status === 200 && body.spec?.mode === 'Dream'
      })
      const invalid = await untilSaid(api, budgetPath(namespace, 'old'), ['Accepted=False Invalid', 'Ready=False Invalid', 'Stalled=True'])
      assert.match(conditionOf(invalid, 'Accepted')?.message ?? '', /spec\.mode/)
      assert.deepEqual(configIn(await shown(api, configMapPath(namespace, 'old'))), before)
    } finally {
      const { body: now } = await api.request<{ spec: { versions: { schema: object }[] } }>({ path: crd })
      for (const [index, version] of now.spec.versions.entries()) version.schema = body.spec.versions[index]?.schema ?? version.schema
      await api.request({ method: 'PUT', path: crd, body: now })
    }
  })
})
