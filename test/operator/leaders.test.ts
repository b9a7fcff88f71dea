/** Two replicas: both serve, one writes; when that one stands still, the other takes over and the first never writes again. */
import assert from 'node:assert/strict'
import { copyFileSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Cluster } from '../cluster/cluster.ts'
import { waitFor } from '../support/wait-for.ts'
import { freshNamespace, ownCluster } from '../support/cluster.ts'
import { install, OPERATOR_NAMESPACE, startOperator } from '../support/operator.ts'
import type { Installation, Operator } from '../support/operator.ts'
import { createPod, sidecarOf, startPodSidecar } from '../support/pod-sidecar.ts'
import { apply, budgetOf, budgetPath, shown, tierOf, tierPath, untilSaid } from './plans.ts'

const cluster = await ownCluster()
const LEADS_WITHIN_MS = 20_000
const EDIT_EVERY_MS = 250

describe('two replicas', { skip: cluster === null ? 'there is no control plane' : false }, () => {
  const api = cluster as Cluster
  let replicas: readonly [Operator, Operator]
  before(async () => {
    const first = await install(api)
    const own = join(api.folder, 'replica-b.kubeconfig')
    const second: Installation = { ...first, kubeconfig: own }
    copyFileSync(first.kubeconfig, own)
    // A token of its own, so that the audit log tells the two apart.
    const again = await api.kubeconfigOfServiceAccount(OPERATOR_NAMESPACE, 'farebox-operator')
    assert.equal(again, first.kubeconfig)
    const a = await startOperator(api, first, { name: 'replica-a' })
    const b = await startOperator(api, second, { name: 'replica-b', isAsked: false })
    replicas = [a, b]
  })
  after(async () => {
    for (const replica of replicas ?? []) await replica.kill()
    await api.stop()
  })

  const leading = async (): Promise<Operator> =>
    waitFor('a leader', async () => {
      for (const replica of replicas) {
        if (!hasEnded(replica) && (await replica.isLeading().catch(() => false))) return replica
      }
      return null
    })
  const other = (replica: Operator): Operator => (replica === replicas[0] ? replicas[1] : replicas[0])

  test('both serve: pods are admitted by either, and reports to either reach the leader', async (context) => {
    const namespace = await freshNamespace(api, context, 'leaders')
    await apply(api, tierOf('served'), budgetOf(namespace, 'desk', 'served'))
    await untilSaid(api, budgetPath(namespace, 'desk'), ['Ready=True'])
    const follower = other(await leading())
    assert.equal(await follower.isReady(), true)
    await follower.ask()
    const pod = await createPod(api, namespace, { name: 'desk', labels: { app: 'desk' } })
    assert.ok(sidecarOf(pod))
    const sidecar = await startPodSidecar(api, pod, { FAREBOX_OPERATOR: follower.deliveryUrl })
    try {
      await waitFor('its report in status', async () => {
        const { status } = (await shown(api, budgetPath(namespace, 'desk'))) ?? {}
        return status?.workloads?.['inSync'] === 1
      })
      assert.match(await follower.metrics(), /^farebox_operator_streams 1$/m)
    } finally {
      await sidecar.kill()
    }
  })

  test('a leader that stands still is followed by the other within 20 s, and there are never two writers', async (context) => {
    const namespace = await freshNamespace(api, context, 'leaders')
    await apply(api, tierOf('busy'), budgetOf(namespace, 'desk', 'busy'))
    await untilSaid(api, budgetPath(namespace, 'desk'), ['Ready=True'])
    const stopping = new AbortController()
    let edits = 0
    const editing = (async () => {
      while (!stopping.signal.aborted) {
        edits += 1
        const price = `${2 + (edits % 50)}.00`
        await api.request({ method: 'PATCH', path: tierPath('busy'), body: { spec: { pricing: { price } } } })
        await sleep(EDIT_EVERY_MS)
      }
    })()
    const old = await leading()
    const next = other(old)
    await sleep(1_500)
    old.signal('SIGSTOP')
    const stoppedMs = performance.now()
    await waitFor('the other to lead', () => next.isLeading(), { withinMs: LEADS_WITHIN_MS })
    context.diagnostic(`another leads after ${Math.round(performance.now() - stoppedMs)} ms`)
    await sleep(1_500)
    old.signal('SIGCONT')
    await waitFor('who lost the lease to end', () => hasEnded(old), { withinMs: 5_000 })
    await sleep(1_500)
    stopping.abort()
    await editing
    const writers = writersOf(api.auditLog)
    assert.equal(writers.length, 2, JSON.stringify(writers))
    const [first, second] = writers
    assert.ok(first !== undefined && second !== undefined && first.writes > 3 && second.writes > 3)
    assert.ok(first.lastMs < second.firstMs, `${JSON.stringify(writers)}: one after the other`)
  })

  test('a replica that leaves says goodbye, gives its lease back, and ends well', async () => {
    const last = await leading()
    assert.equal(await last.stop(), 0)
    const { body } = await api.request<{ spec: { holderIdentity?: string } }>({
      path: `/apis/coordination.k8s.io/v1/namespaces/${OPERATOR_NAMESPACE}/leases/farebox-operator`,
    })
    assert.equal(body.spec.holderIdentity ?? '', '')
  })
})

/** By itself, or killed by the thread of its lease where the main one has too much to catch up with. */
function hasEnded({ process: { exitCode, signalCode } }: Operator): boolean {
  return exitCode !== null || signalCode !== null
}

interface Writer {
  readonly credential: string
  readonly firstMs: number
  readonly lastMs: number
  readonly writes: number
}

/** By the token that they came with: who wrote what only a leader writes, in order. */
function writersOf(auditLog: string): readonly Writer[] {
  const writers = new Map<string, Writer>()
  // What follows the last line break is no line yet.
  for (const line of readFileSync(auditLog, 'utf8').split('\n').slice(0, -1)) {
    const event = JSON.parse(line) as {
      readonly verb: string
      readonly user: { readonly username: string; readonly extra?: Readonly<Record<string, readonly string[]>> }
      readonly objectRef?: { readonly resource: string }
      readonly requestReceivedTimestamp: string
      readonly responseStatus?: { readonly code: number }
    }
    const isWrite =
      ['create', 'update', 'patch', 'delete'].includes(event.verb) && !['leases', 'events'].includes(event.objectRef?.resource ?? '')
    if (!isWrite || event.user.username !== `system:serviceaccount:${OPERATOR_NAMESPACE}:farebox-operator`) continue
    const credential = event.user.extra?.['authentication.kubernetes.io/credential-id']?.[0] ?? ''
    const atMs = Date.parse(event.requestReceivedTimestamp)
    const known = writers.get(credential)
    writers.set(credential, {
      credential,
      firstMs: Math.min(known?.firstMs ?? Infinity, atMs),
      lastMs: Math.max(known?.lastMs ?? 0, atMs),
      writes: (known?.writes ?? 0) + 1,
    })
  }
  return [...writers.values()].toSorted((a, b) => a.firstMs - b.firstMs)
}
