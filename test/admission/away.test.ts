/** The webhook is away, has just come, or has lost its certificates: what becomes of pods, and who says so. */
import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { after, before, describe, test } from 'node:test'
import { ANNOTATIONS, LABELS, SIDECAR_CONTAINER } from '@farebox/crds/cluster.ts'
import type { Cluster } from '../cluster/cluster.ts'
import { waitFor } from '../support/wait-for.ts'
import { apply, budgetOf, budgetPath, shown, tierOf, untilSaid } from '../operator/plans.ts'
import { ownCluster } from '../support/cluster.ts'
import { install, OPERATOR_NAMESPACE, startOperator } from '../support/operator.ts'
import type { Installation, Operator } from '../support/operator.ts'

const cluster = await ownCluster()
const WEBHOOK_PATH = '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/farebox'
const SECRET_PATH = `/api/v1/namespaces/${OPERATOR_NAMESPACE}/secrets/farebox-tls`
/** Namespaces: pods of the budget may start without a sidecar, must not, or there is no budget. */
const OPTIONAL = 'optional'
const REQUIRED = 'required'
const UNTOUCHED = 'untouched'
const RESTORED_MS_MAX = 5_000
/** The API server waits for a webhook so long. */
const HANG_MS = 3_000
/** What else an admission takes on a machine that is busy. */
const LATE_MS = 2_000
/** Between two pods of those that come all the time. */
const STEADY_MS = 25

interface Admitted {
  readonly metadata: { readonly name: string; readonly annotations?: Readonly<Record<string, string>> }
  readonly spec: { readonly initContainers?: readonly { readonly name: string }[] }
  readonly message?: string
}

describe('the webhook', { skip: cluster === null ? 'there is no control plane' : false }, () => {
  const api = cluster as Cluster
  let installation: Installation
  let operator: Operator
  before(async () => {
    installation = await install(api)
    for (const name of [OPTIONAL, REQUIRED, UNTOUCHED]) {
      const body = { apiVersion: 'v1', kind: 'Namespace', metadata: { name } }
      assert.equal((await api.request({ method: 'POST', path: '/api/v1/namespaces', body })).status, 201)
    }
    const spec = { selector: { matchLabels: { app: 'chat' } } }
    await apply(
      api,
      tierOf('pro'),
      budgetOf(OPTIONAL, 'support', 'pro', spec),
      budgetOf(REQUIRED, 'support', 'pro', { ...spec, injection: { mode: 'Required' } }),
    )
    for (const name of [OPTIONAL, REQUIRED, UNTOUCHED]) {
      const path = `/api/v1/namespaces/${name}/serviceaccounts/default`
      await waitFor(`the service account of ${name}`, async () => (await api.request({ path })).status === 200)
    }
    await waitFor('the policy to be in force', async () => (await post(REQUIRED, 'x', { isDry: true })).status === 403)
  })
  after(async () => {
    await operator?.kill()
    await api.stop()
  })

  const post = (namespace: string, name: string, { isDry = false, labels = {} }: { isDry?: boolean; labels?: object } = {}) =>
    api.request<Admitted>({
      method: 'POST',
      path: `/api/v1/namespaces/${namespace}/pods${isDry ? '?dryRun=All' : ''}`,
      body: {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name, labels: { app: 'chat', ...labels } },
        spec: { schedulerName: 'nobody', containers: [{ name: 'app', image: 'app:1' }] },
      },
    })
  const admitted = async (namespace: string, name: string): Promise<'injected' | 'left' | 'skipped'> => {
    const { status, body } = await post(namespace, name)
    assert.equal(status, 201, body.message)
    return fateOf(body)
  }
  /** Dry runs one after the other while `happens`, which may wait for more of them: what became of each. */
  const meanwhile = async (
    namespace: string,
    happens: (more: (count: number) => Promise<unknown>) => Promise<unknown>,
  ): Promise<readonly string[]> => {
    const fates: string[] = []
    const more = (count: number): Promise<unknown> => {
      const enough = fates.length + count
      return waitFor('pods meanwhile', () => fates.length >= enough)
    }
    const over = happens(more).then(() => 'over' as const)
    do {
      const { status, body } = await post(namespace, `dry-${fates.length}`, { isDry: true })
      fates.push(status === 201 ? fateOf(body) : (body.message ?? String(status)))
    } while ((await Promise.race([over, sleep(STEADY_MS)])) !== 'over')
    return fates
  }
  /** What the API server trusts, as PEM. */
  const bundle = async (): Promise<string> => {
    const { body } = await api.request<{ webhooks: { clientConfig: { caBundle?: string } }[] }>({ path: WEBHOOK_PATH })
    return Buffer.from(body.webhooks[0]?.clientConfig.caBundle ?? '', 'base64').toString('utf8')
  }
  const secretData = async (): Promise<Readonly<Record<string, string>>> => (await shown(api, SECRET_PATH))?.data ?? {}

  test('T27: an operator that knows no budgets yet is not ready, answers nobody, and calls no pod skipped', async () => {
    operator = await startOperator(api, installation, { isAwaited: false })
    await api.signalApiServer('SIGSTOP')
    try {
      const why = await waitFor('its health', async () => {
        const answer = await fetch(`${operator.adminUrl}/readyz`)
        return answer.ok ? null : answer.text()
      })
      assert.match(why, /the caches are not filled yet/)
      assert.equal(await isListening(operator.ports.webhook), false)
    } finally {
      await api.signalApiServer('SIGCONT')
    }
    const ready = waitFor('the operator', async () => {
      const answer = await fetch(`${operator.adminUrl}/readyz`)
      if (!answer.ok) throw new Error(await answer.text())
      return true
    })
    const fates = await meanwhile(OPTIONAL, () => ready)
    assert.ok(
      fates.every((fate) => fate === 'left' || fate === 'injected'),
      fates.join(),
    )
    const first = fates.indexOf('injected')
    assert.ok(first < 0 || fates.slice(first).every((fate) => fate === 'injected'), fates.join())
    assert.equal(fateOf((await post(OPTIONAL, 'next', { isDry: true })).body), 'injected', 'from the moment that it is ready')
  })

  test('T28: freshly installed, with an authority of its own, it injects the first pod that comes', async () => {
    assert.match(Buffer.from((await secretData())['ca.crt'] ?? '', 'base64').toString(), /BEGIN CERTIFICATE/)
    assert.equal(Buffer.from(await bundle()).toString('base64'), (await secretData())['ca.crt'])
    assert.equal(await admitted(OPTIONAL, 'fresh'), 'injected')
    assert.equal(await admitted(REQUIRED, 'fresh'), 'injected')
    assert.equal(await admitted(UNTOUCHED, 'fresh'), 'left')
  })

  test('T31: an emptied caBundle is restored within 5 s', async (context) => {
    const before = await bundle()
    const body = [{ op: 'remove', path: '/webhooks/0/clientConfig/caBundle' }]
    const emptied = await api.request({ method: 'PATCH', path: WEBHOOK_PATH, contentType: 'application/json-patch+json', body })
    assert.equal(emptied.status, 200)
    const sinceMs = performance.now()
    await waitFor('the bundle', async () => (await bundle()) === before, { withinMs: RESTORED_MS_MAX, everyMs: 10 })
    context.diagnostic(`restored after ${Math.round(performance.now() - sinceMs)} ms`)
    await waitFor(
      'the API server to have heard of it',
      async () => fateOf((await post(OPTIONAL, 'x', { isDry: true })).body) === 'injected',
    )
  })

  test('T29: a certificate that is issued anew under load costs no pod its sidecar', async () => {
    const before = await secretData()
    const data = { 'tls.crt': '', 'tls.key': '' }
    const fates = await meanwhile(OPTIONAL, async (more) => {
      assert.equal((await api.request({ method: 'PATCH', path: SECRET_PATH, body: { data } })).status, 200)
      await waitFor('another certificate', async () => {
        const crt = (await secretData())['tls.crt'] ?? ''
        return crt !== '' && crt !== before['tls.crt']
      })
      await sleep(STEADY_MS * 20) // in which it is served
      await more(6)
    })
    assert.equal((await secretData())['ca.crt'], before['ca.crt'])
    assert.ok(fates.length > 5 && fates.every((fate) => fate === 'injected'), fates.join())
  })

  test('T32: a Secret that is deleted is made anew, the old authority stays trusted beside the new one, and no pod is missed', async (context) => {
    const before = await bundle()
    const sinceMs = performance.now()
    const fates = await meanwhile(OPTIONAL, async (more) => {
      assert.equal((await api.request({ method: 'DELETE', path: SECRET_PATH })).status, 200)
      await waitFor('the Secret', async () => (await shown(api, SECRET_PATH)) !== null)
      context.diagnostic(`made anew after ${Math.round(performance.now() - sinceMs)} ms`)
      await waitFor('both authorities in the bundle', async () => {
        const after = await bundle()
        return after !== before && after.includes(before.trim()) && after.split('BEGIN CERTIFICATE').length === 3
      })
      await sleep(STEADY_MS * 20) // in which it is served
      await more(6)
    })
    assert.equal(Buffer.from(await bundle()).toString('base64'), (await secretData())['ca.crt'], 'sidecars are told the same')
    assert.ok(fates.length > 5 && fates.every((fate) => fate === 'injected'), fates.join())
  })

  test('T23: while it hangs an optional pod starts after 3 s without a sidecar, and a required one is refused', async () => {
    operator.signal('SIGSTOP')
    try {
      const sinceMs = performance.now()
      const [optional, required] = await Promise.all([post(OPTIONAL, 'hung'), post(REQUIRED, 'hung')])
      const afterMs = performance.now() - sinceMs
      assert.ok(afterMs >= HANG_MS - 100 && afterMs < HANG_MS + LATE_MS, `after ${Math.round(afterMs)} ms`)
      assert.equal(optional.status, 201)
      assert.equal(fateOf(optional.body), 'left')
      assert.equal(required.status, 403)
      assert.match(required.body.message ?? '', /demands the farebox sidecar/)
    } finally {
      operator.signal('SIGCONT')
    }
    await waitFor('the operator again', async () => fateOf((await post(OPTIONAL, 'x', { isDry: true })).body) === 'injected')
  })

  test('T20: while no operator is there a required pod is refused with what to do; other namespaces and pods are untouched', async () => {
    assert.equal(await operator.stop(), 0)
    const refused = await post(REQUIRED, 'refused')
    assert.equal(refused.status, 403)
    const message = refused.body.message ?? ''
    assert.match(message, /ConversationBudget required\/support demands the farebox sidecar \(spec\.injection\.mode: Required\)/)
    assert.match(message, /See whether the operator is there: kubectl -n farebox get pods/)
    assert.equal(await admitted(UNTOUCHED, 'beside'), 'left')
    const { status, body } = await post(REQUIRED, 'beside', { labels: { app: 'other' } })
    assert.equal(status, 201, body.message)
    assert.equal(fateOf(body), 'left')
    const out = await post(REQUIRED, 'out', { labels: { [LABELS.inject]: 'disabled' } })
    assert.equal(out.status, 403)
    assert.match(out.body.message ?? '', /Its label farebox\.dev\/inject keeps the sidecar out: take the label away/)
  })

  test('T19: an optional pod starts without a sidecar meanwhile, and is counted as Missed once the operator is back', async () => {
    assert.equal(await admitted(OPTIONAL, 'missed'), 'left')
    operator = await startOperator(api, installation, { ports: operator.ports, isAsked: false })
    const budget = await untilSaid(api, budgetPath(OPTIONAL, 'support'), ['Injected=False MissingSidecars', 'Ready=False'], 30_000)
    // Those that came while it hung, and while it was away.
    assert.partialDeepStrictEqual(budget.status?.workloads, { matched: 3, injected: 1, skipped: { Missed: 2 } })
    assert.equal(await admitted(REQUIRED, 'refused'), 'injected', 'what was refused comes in as it is')
    assert.equal(await admitted(OPTIONAL, 'later'), 'injected')
  })

  test('T21: where the CRD is deleted while the policy stays, pods start', async () => {
    await operator.stop()
    assert.equal((await post(REQUIRED, 'x', { isDry: true })).status, 403)
    await api.kubectl(['delete', 'crd', 'conversationbudgets.farebox.dev'])
    assert.equal((await api.kubectl(['get', 'validatingadmissionpolicy', 'farebox-injection-required', '-o', 'name'])).code, 0)
    await waitFor('pods to start', async () => (await post(REQUIRED, 'x', { isDry: true })).status === 201)
    for (const namespace of [OPTIONAL, REQUIRED, UNTOUCHED]) assert.equal(await admitted(namespace, 'after'), 'left')
  })
})

function fateOf({ metadata, spec }: Admitted): 'injected' | 'left' | 'skipped' {
  if (spec.initContainers?.some(({ name }) => name === SIDECAR_CONTAINER) === true) return 'injected'
  return metadata.annotations?.[ANNOTATIONS.skipped] === undefined ? 'left' : 'skipped'
}

function isListening(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    const end = (is: boolean): void => {
      socket.destroy()
      resolve(is)
    }
    socket.once('connect', () => end(true))
    socket.once('error', () => end(false))
  })
}
