/** Two hundred pods: how long their admission takes by the API server's count, and how soon all of their sidecars have a change in force. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { Agent } from 'node:https'
import { after, before, describe, test } from 'node:test'
import { TOKEN_AUDIENCE } from '@farebox/crds/cluster.ts'
import type { Cluster } from '../cluster/cluster.ts'
import { waitFor } from '../support/wait-for.ts'
import { apply, budgetOf, budgetPath, configIn, configMapPath, shown, tierOf, untilSaid } from '../operator/plans.ts'
import { admissionDurations, admissionQuantile } from '../support/admission-durations.ts'
import { ownCluster } from '../support/cluster.ts'
import { startFakeSidecar } from '../support/fake-sidecar.ts'
import type { Listener, Stream } from '../support/fake-sidecar.ts'
import { install, startOperator } from '../support/operator.ts'
import type { Operator } from '../support/operator.ts'
import { boundToken, createPod, sidecarOf } from '../support/pod-sidecar.ts'
import type { Pod } from '../support/pod-sidecar.ts'

const cluster = await ownCluster()
const NAMESPACE = 'fleet'
const PODS = 200
const ADMISSION_PARTS = 4
/** Of an operator that has just started the first ones take longer. */
const WARM_UP = 50
const OPENED_AT_ONCE = 20
const CHANGES = 5
const ADMISSION_P99_S = 0.05
const ACKNOWLEDGED_P99_MS = 2_000
/** However busy the machine: then something is wrong. */
const ACKNOWLEDGED_MS_MAX = 60_000

describe('two hundred pods', { skip: cluster === null ? 'there is no control plane' : false }, () => {
  const api = cluster as Cluster
  const agent = new Agent({ keepAlive: true, maxSockets: 64 })
  const streams: Stream[] = []
  const pods: Pod[] = []
  /** When each sidecar's report of a config was taken, in ms since the epoch, by the config's hash. */
  const acknowledged = new Map<string, number[]>()
  let operator: Operator
  before(async () => {
    operator = await startOperator(api, await install(api))
    const body = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: NAMESPACE } }
    assert.equal((await api.request({ method: 'POST', path: '/api/v1/namespaces', body })).status, 201)
    await apply(api, tierOf('pro'), budgetWith(1))
    await untilSaid(api, budgetPath(NAMESPACE, 'fleet'), ['Ready=True'])
  })
  after(async () => {
    for (const stream of streams) stream.close()
    agent.destroy()
    await operator?.kill()
    await api.stop()
  })

  /** A limit is all that differs. */
  const budgetWith = (amount: number): object =>
    budgetOf(NAMESPACE, 'fleet', 'pro', { limits: [{ amount: `${amount}.00`, period: { unit: 'Day', timeZone: 'UTC' } }] })

  test('admission p99 is below 50 ms by the API server over 200 creations', async (context) => {
    const p99s: number[] = []
    const path = `/api/v1/namespaces/${NAMESPACE}/pods?dryRun=All`
    const metadata = { generateName: 'x-', labels: { app: 'fleet' } }
    const body = { apiVersion: 'v1', kind: 'Pod', metadata, spec: { containers: [{ name: 'app', image: 'app:1' }] } }
    for (let review = 0; review < WARM_UP; review += 1) assert.equal((await api.request({ method: 'POST', path, body })).status, 201)
    let before = await admissionDurations(api)
    const cold = before
    for (let part = 0; part < ADMISSION_PARTS; part += 1) {
      for (let index = 0; index < PODS / ADMISSION_PARTS; index += 1) {
        const name = `pod-${pods.length}`
        const pod = await createPod(api, NAMESPACE, { name, labels: { app: 'fleet' }, spec: { schedulerName: 'nobody' } })
        assert.ok(sidecarOf(pod))
        pods.push(pod)
      }
      const after = await admissionDurations(api)
      const { count, seconds } = admissionQuantile(before, after, 0.99)
      assert.equal(count, PODS / ADMISSION_PARTS, 'the API server asks once about each')
      p99s.push(seconds)
      before = after
    }
    const all = admissionQuantile(cold, before, 0.99)
    context.diagnostic(
      `admission by the API server, p99 of each ${PODS / ADMISSION_PARTS} pods, in ms: ${p99s.map(inMs).join(', ')}; of all: ${inMs(all.seconds)}`,
    )
    // Whatever else this machine does may spoil one of them.
    assert.ok(p99s.filter((seconds) => seconds >= ADMISSION_P99_S).length <= 1, `${p99s.join(', ')} s`)
  })

  test('T60: a budget that is changed by kubectl is in force in 200 sidecars, 99 of 100 of them within 2 s', async (context) => {
    const map = await shown(api, configMapPath(NAMESPACE, 'fleet'))
    const listener: Listener = { url: operator.deliveryUrl, ca: map?.data?.['ca.crt'] ?? '' }
    const open = async (pod: Pod): Promise<void> => {
      const token = await boundToken(api, pod, TOKEN_AUDIENCE)
      const onAcknowledged = (hash: string): void => {
        acknowledged.set(hash, [...(acknowledged.get(hash) ?? []), Date.now()])
      }
      const stream = await startFakeSidecar({ listener, token, agent, onAcknowledged })
      assert.equal(stream.status, 200, stream.error)
      streams.push(stream)
    }
    for (let from = 0; from < pods.length; from += OPENED_AT_ONCE) await Promise.all(pods.slice(from, from + OPENED_AT_ONCE).map(open))
    await allAcknowledge(configIn(map).hash)
    const p99s: number[] = []
    for (let change = 1; change <= CHANGES; change += 1) {
      const { hash: old } = configIn(await shown(api, configMapPath(NAMESPACE, 'fleet')))
      await apply(api, budgetWith(1 + change))
      const beganMs = lastChangeMs()
      const hash = await waitFor('another config', async () => {
        const { hash } = configIn(await shown(api, configMapPath(NAMESPACE, 'fleet')))
        return hash === old ? null : hash
      })
      const took = (await allAcknowledge(hash)).map((atMs) => atMs - beganMs).toSorted((a, b) => a - b)
      const at = (percent: number): number => Math.round(took[Math.ceil((took.length * percent) / 100) - 1] ?? Infinity)
      context.diagnostic(`in force after p50 ${at(50)} ms, p99 ${at(99)} ms, at most ${at(100)} ms`)
      p99s.push(at(99))
    }
    assert.ok(p99s.filter((ms) => ms >= ACKNOWLEDGED_P99_MS).length <= 1, `${p99s.join(', ')} ms`)
    const said = await waitFor('all of them in status', async () => {
      const budget = await untilSaid(api, budgetPath(NAMESPACE, 'fleet'), ['Programmed=True', 'Injected=True', 'UsageFresh=True'])
      return budget.status?.workloads?.['inSync'] === PODS ? budget : null
    })
    assert.partialDeepStrictEqual(said.status?.workloads, { matched: PODS, injected: PODS, inSync: PODS, nacked: 0, stale: 0, skipped: {} })
  })

  /** Gives when each did. */
  async function allAcknowledge(hash: string): Promise<readonly number[]> {
    return waitFor(
      'all sidecars to have it in force',
      () => {
        const those = acknowledged.get(hash) ?? []
        if (those.length < PODS) throw new Error(`${those.length} have`)
        return those
      },
      { withinMs: ACKNOWLEDGED_MS_MAX, everyMs: 20 },
    )
  }

  /** When the API server had the last edit of a budget, in ms since the epoch. */
  function lastChangeMs(): number {
    const lines = readFileSync(api.auditLog, 'utf8').split('\n')
    const last = lines.findLast(
      (line) => line.includes('"verb":"patch"') && line.includes('kubectl') && line.includes('conversationbudgets'),
    )
    assert.ok(last !== undefined, 'the edit is in the audit log')
    return Date.parse((JSON.parse(last) as { readonly requestReceivedTimestamp: string }).requestReceivedTimestamp)
  }
})

function inMs(seconds: number): number {
  return Math.round(seconds * 1_000)
}
