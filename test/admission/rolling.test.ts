/** The operator is replaced pod by pod, as its Deployment does it, while pods come all the time: nobody notices. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { SIDECAR_CONTAINER } from '@farebox/crds/cluster.ts'
import type { Cluster } from '../cluster/cluster.ts'
import { apply, budgetOf, tierOf } from '../operator/plans.ts'
import { ownCluster } from '../support/cluster.ts'
import { install, startOperator } from '../support/operator.ts'
import type { Installation, Operator } from '../support/operator.ts'
import { startService } from '../support/service.ts'
import type { Service } from '../support/service.ts'
import { waitFor } from '../support/wait-for.ts'

const cluster = await ownCluster()
const NAMESPACE = 'shop'
const CREATES_PER_SECOND = 50
/** After a pod is told to end, until its address is taken from the Service. */
const ENDPOINT_LAG_MS = 500
/** The chart's default is five seconds. */
const LEAVE_MS = 1_500
/** Before the first pod is replaced, between two and after the last. */
const CALM_MS = 1_000
const READY_MS_MAX = 30_000

interface Admitted {
  readonly spec?: { readonly initContainers?: readonly { readonly name: string }[] }
  readonly message?: string
}

describe('an operator that is replaced pod by pod', { skip: cluster === null ? 'there is no control plane' : false }, () => {
  const api = cluster as Cluster
  let installation: Installation
  let service: Service
  const operators: Operator[] = []
  before(async () => {
    installation = await install(api)
    service = await startService()
    for (const name of ['old-a', 'old-b']) await add(name)
    await api.request({
      method: 'POST',
      path: '/api/v1/namespaces',
      body: { apiVersion: 'v1', kind: 'Namespace', metadata: { name: NAMESPACE } },
    })
    await apply(api, tierOf('pro'), budgetOf(NAMESPACE, 'support', 'pro', { selector: { matchLabels: { app: 'chat' } } }))
    await waitFor('pods to be injected', async () => (await create('first')) === 'injected')
  })
  after(async () => {
    await Promise.all(operators.map((operator) => operator.kill()))
    await service.close()
    await api.stop()
  })

  /** The Deployment starts a pod, and the Service knows it when it is ready. */
  async function add(name: string): Promise<Operator> {
    const environment = { FAREBOX_LEAVE: String(LEAVE_MS) }
    const operator = await startOperator(api, installation, { name, isAsked: false, isAwaited: false, environment })
    operators.push(operator)
    if (operators.length === 1) await operator.ask(`https://127.0.0.1:${service.port}/v1/pods`)
    await waitFor(`operator ${name} to be ready`, () => operator.isReady(), { withinMs: READY_MS_MAX })
    service.add(operator.ports.webhook)
    return operator
  }

  /** The pod that is asked all the time is told to end, and a moment later the Service hears of it. */
  async function end(operator: Operator): Promise<void> {
    assert.notEqual(await injectedBy(operator), 0, `${operator.name} was in use`)
    const ended = operator.stop()
    await sleep(ENDPOINT_LAG_MS)
    service.remove(operator.ports.webhook)
    assert.equal(await ended, 0, operator.log().slice(-2_000))
  }

  /** How many pods it gave a sidecar. */
  async function injectedBy(operator: Operator): Promise<number> {
    return Number(/^farebox_operator_admission_seconds_count\{.*injected.*\} (\d+)$/m.exec(await operator.metrics())?.[1] ?? 0)
  }

  /** A dry run: what became of the pod, or what the API server said. */
  async function create(name: string): Promise<string> {
    const { status, body } = await api.request<Admitted>({
      method: 'POST',
      path: `/api/v1/namespaces/${NAMESPACE}/pods?dryRun=All`,
      body: {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name, labels: { app: 'chat' } },
        spec: { schedulerName: 'nobody', containers: [{ name: 'app', image: 'app:1' }] },
      },
    })
    if (status !== 201) return `${status} ${body.message ?? ''}`
    return body.spec?.initContainers?.some((container) => container.name === SIDECAR_CONTAINER) === true ? 'injected' : 'missed'
  }

  test(`T24: no create fails and no pod is missed, with ${CREATES_PER_SECOND} of them a second`, async (context) => {
    const created: Promise<string>[] = []
    let createdUntilThen = 0
    const timer = setInterval(() => created.push(create(`pod-${created.length}`)), 1_000 / CREATES_PER_SECOND)
    try {
      await sleep(CALM_MS)
      for (const old of operators.slice()) {
        await add(old.name.replace('old', 'new'))
        await end(old)
        createdUntilThen = created.length
        await sleep(CALM_MS)
      }
    } finally {
      clearInterval(timer)
    }
    const fates = await Promise.all(created)
    context.diagnostic(`${fates.length} pods came meanwhile`)
    assert.deepEqual(
      fates.filter((fate) => fate !== 'injected'),
      [],
    )
    assert.ok(fates.length >= (CREATES_PER_SECOND * (2 * LEAVE_MS + 3 * CALM_MS)) / 2_000, 'they came all the time')
    const ofTheNew = await Promise.all(operators.slice(2).map(injectedBy))
    const sinceThen = created.length - createdUntilThen
    assert.ok(
      ofTheNew.reduce((sum, injected) => sum + injected, 0) >= sinceThen,
      `the new ones took over: ${ofTheNew.join(' and ')} of the last ${sinceThen}`,
    )
  })
})
