import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { KubeError } from '../kube/kube.ts'
import type { KubeClient, KubeObject } from '../kube/kube.ts'
import { createAuthority, issueLeaf } from './authority.ts'
import { CA_FIELD_MANAGER, createKeeper } from './keeper.ts'
import type { CertificateReport } from './keeper.ts'
import { certificatesIn, includes } from './pem.ts'
import { PUBLISHED_MS } from './plan.ts'
import { secretData } from './secret-data.ts'
import { caBundlesOf, trusts } from './trust.ts'

const DAY_MS = 86_400_000
const START_MS = Date.UTC(2026, 10, 26, 6)
const NAMES = ['farebox-operator.farebox-system.svc']
const SECRET = { namespace: 'farebox-system', name: 'farebox-tls' }
const WEBHOOK = 'farebox'

/** An API server that knows one Secret and one webhook configuration. */
function startCluster() {
  const state = {
    nowMs: START_MS,
    secret: null as KubeObject | null,
    bundle: null as string | null,
    isConfigured: true,
    version: 0,
    writes: [] as string[],
    reports: [] as CertificateReport[],
    /** Runs before the next write: to be somebody else who is faster, or to fail. */
    beforeWrite: null as ((call: string) => void) | null,
  }
  const conflict = (reason: string) => new KubeError(reason, { status: 409, reason })
  const configuration = (): KubeObject => ({
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'MutatingWebhookConfiguration',
    metadata: { name: WEBHOOK },
    webhooks: [
      {
        name: 'pods.farebox.dev',
        clientConfig: { service: { name: 'x' }, ...(state.bundle === null ? {} : { caBundle: btoa(state.bundle) }) },
      },
    ],
  })
  const store = (object: KubeObject): KubeObject => {
    state.version += 1
    state.secret = { ...object, metadata: { ...object.metadata, resourceVersion: String(state.version) } }
    return state.secret
  }
  const told = (call: string) => {
    const hook = state.beforeWrite
    state.beforeWrite = null
    hook?.(call)
    state.writes.push(call)
  }
  const client: Pick<KubeClient, 'get' | 'create' | 'replace' | 'apply'> = {
    get: ({ kind }) => Promise.resolve(kind === 'Secret' ? state.secret : state.isConfigured ? configuration() : null),
    async create(_resource, object) {
      told('create')
      if (state.secret !== null) throw conflict('AlreadyExists')
      return Promise.resolve(store(object))
    },
    async replace(_resource, object) {
      told('replace')
      if (state.secret === null) throw new KubeError('gone', { status: 404, reason: 'NotFound' })
      if (object.metadata.resourceVersion !== state.secret.metadata.resourceVersion) throw conflict('Conflict')
      return Promise.resolve(store(object))
    },
    async apply(_resource, object, options) {
      told('apply')
      assert.equal(options.fieldManager, CA_FIELD_MANAGER)
      assert.deepEqual(object['webhooks'], [{ name: 'pods.farebox.dev', clientConfig: { caBundle: btoa(caBundlesOf(object)[0] ?? '') } }])
      state.bundle = caBundlesOf(object)[0] ?? null
      return Promise.resolve(configuration())
    },
  }
  return {
    state,
    newKeeper: () =>
      createKeeper({
        client,
        secret: SECRET,
        webhookName: WEBHOOK,
        names: NAMES,
        nowMs: () => state.nowMs,
        onReport: (report) => state.reports.push(report),
      }),
    held: () => (state.secret === null ? {} : secretData(state.secret)),
    kinds: () => state.reports.splice(0).map(({ kind }) => kind),
    /** A pod starts: the API server asks with what it knows. */
    handshake: () =>
      trusts(state.bundle ?? '', state.secret === null ? '' : (secretData(state.secret)['tls.crt'] ?? ''), NAMES, state.nowMs),
  }
}

const OK = { status: 'ok' }

describe('the keeper', () => {
  test('T28: makes certificates where there are none, and tells the webhook configuration; then it rests', async () => {
    const cluster = startCluster()
    const keeper = cluster.newKeeper()
    const kept = await keeper.reconcile()
    assert.deepEqual(cluster.kinds(), ['created', 'bundleApplied'])
    assert.deepEqual(cluster.handshake(), OK)
    assert.equal(kept.bundle, cluster.held()['ca.crt'])
    assert.equal(kept.webhook, 'told')
    assert.equal(certificatesIn(kept.bundle).length, 1)
    assert.ok(kept.nextMs > START_MS && kept.nextMs <= START_MS + DAY_MS)
    const writes = cluster.state.writes.length
    await keeper.reconcile()
    await cluster.newKeeper().reconcile()
    assert.equal(cluster.state.writes.length, writes)
  })

  test('without a webhook configuration the Secret is kept all the same', async () => {
    const cluster = startCluster()
    cluster.state.isConfigured = false
    assert.equal((await cluster.newKeeper().reconcile()).webhook, 'absent')
    cluster.state.isConfigured = true
    assert.equal((await cluster.newKeeper().reconcile()).webhook, 'told')
    assert.deepEqual(cluster.handshake(), OK)
  })

  test('T31: a bundle that somebody emptied or changed is made right again', async () => {
    const cluster = startCluster()
    const keeper = cluster.newKeeper()
    await keeper.reconcile()
    for (const bundle of [null, '', 'nonsense', (await createAuthority(START_MS)).cert]) {
      cluster.state.bundle = bundle
      cluster.kinds()
      await keeper.reconcile()
      assert.deepEqual(cluster.kinds(), ['bundleApplied'])
      assert.deepEqual(cluster.handshake(), OK)
    }
  })

  test('T32: a Secret that was deleted comes back with what is served still, and a new authority is brought in beside the old one', async () => {
    const cluster = startCluster()
    const keeper = cluster.newKeeper()
    await keeper.reconcile()
    const before = cluster.held()
    cluster.state.secret = null
    cluster.kinds()
    const { nextMs } = await keeper.reconcile()
    assert.deepEqual(cluster.kinds(), ['rotationBegun', 'bundleApplied'])
    assert.equal(cluster.held()['tls.crt'], before['tls.crt'])
    assert.equal(certificatesIn(cluster.state.bundle ?? '').length, 2)
    cluster.state.nowMs = nextMs
    await keeper.reconcile()
    assert.deepEqual(cluster.kinds(), ['rotationSwitched'])
    assert.ok(!includes(before['ca.crt'] ?? '', cluster.held()['signer.crt'] ?? ''))
    assert.deepEqual(cluster.handshake(), OK)
  })

  test('T32: a leader that never saw the Secret makes all anew, and tells the bundle first', async () => {
    const cluster = startCluster()
    await cluster.newKeeper().reconcile()
    const old = cluster.held()
    cluster.state.secret = null
    cluster.state.writes = []
    cluster.kinds()
    await cluster.newKeeper().reconcile()
    assert.deepEqual(cluster.state.writes, ['apply', 'create'])
    assert.deepEqual(cluster.kinds(), ['bundleApplied', 'rebuilt'])
    assert.deepEqual(cluster.handshake(), OK)
    assert.deepEqual(trusts(cluster.state.bundle ?? '', old['tls.crt'] ?? '', NAMES, START_MS), OK) // replicas serve it a moment longer
  })

  test('T33: a leader that dies between the Secret and the bundle is followed by one that completes', async () => {
    const cluster = startCluster()
    const planted = new KubeError('planted', { status: 0, reason: 'Unreachable' })
    cluster.state.beforeWrite = () => {
      cluster.state.beforeWrite = (call) => {
        assert.equal(call, 'apply')
        throw planted
      }
    }
    await assert.rejects(cluster.newKeeper().reconcile(), planted)
    const written = cluster.held()
    assert.equal(cluster.state.bundle, null)
    await cluster.newKeeper().reconcile()
    assert.deepEqual(cluster.held(), written)
    assert.deepEqual(cluster.handshake(), OK)
  })

  test('of two that begin at once one wins, and both go on with its certificates', async () => {
    const cluster = startCluster()
    const kept = await Promise.all([cluster.newKeeper().reconcile(), cluster.newKeeper().reconcile()])
    assert.equal(kept[0].bundle, kept[1].bundle)
    assert.deepEqual(cluster.handshake(), OK)
  })

  test('a Secret that somebody wrote over in between is read again', async () => {
    const cluster = startCluster()
    const keeper = cluster.newKeeper()
    await keeper.reconcile()
    cluster.state.nowMs += 25 * DAY_MS
    cluster.state.beforeWrite = () => {
      if (cluster.state.secret !== null)
        cluster.state.secret = { ...cluster.state.secret, metadata: { ...cluster.state.secret.metadata, resourceVersion: 'other' } }
    }
    await keeper.reconcile()
    assert.deepEqual(cluster.handshake(), OK)
  })

  test('a Secret that cannot be used is replaced and told of; what it or the live bundle trusted stays trusted', async () => {
    const cluster = startCluster()
    const keeper = cluster.newKeeper()
    await keeper.reconcile()
    const good = cluster.state.secret ?? assert.fail()
    const corruptions: readonly Readonly<Record<string, string>>[] = [
      {},
      { 'signer.key': 'nonsense' },
      { 'signer.crt': '' },
      { 'ca.crt': '' },
      { 'signer.key': (await createAuthority(START_MS)).key },
    ]
    for (const corruption of corruptions) {
      const data = Object.entries(corruption).length === 0 ? {} : { ...secretData(good), ...corruption }
      cluster.state.secret = { ...good, data: Object.fromEntries(Object.entries(data).map(([key, text]) => [key, btoa(text)])) }
      cluster.state.bundle = secretData(good)['ca.crt'] ?? null
      cluster.kinds()
      await keeper.reconcile()
      assert.deepEqual(cluster.kinds(), ['bundleApplied', 'rebuilt'])
      assert.deepEqual(cluster.handshake(), OK)
      assert.ok(includes(cluster.state.bundle ?? '', secretData(good)['signer.crt'] ?? ''))
    }
  })

  test('a leaf that is broken, foreign, or for other names is issued again by the same authority', async () => {
    const cluster = startCluster()
    const keeper = cluster.newKeeper()
    await keeper.reconcile()
    const good = cluster.state.secret ?? assert.fail()
    const data = secretData(good)
    const signer = { cert: data['signer.crt'] ?? '', key: data['signer.key'] ?? '' }
    const foreign = await issueLeaf(await createAuthority(START_MS), NAMES, START_MS)
    const elsewhere = await issueLeaf(signer, ['other.svc'], START_MS)
    for (const leaf of [{ cert: 'x', key: 'y' }, foreign, elsewhere, { ...elsewhere, cert: data['tls.crt'] ?? '' }]) {
      cluster.state.secret = {
        ...good,
        metadata: cluster.state.secret?.metadata ?? good.metadata,
        data: Object.fromEntries(
          Object.entries({ ...data, 'tls.crt': leaf.cert, 'tls.key': leaf.key }).map(([key, text]) => [key, btoa(text)]),
        ),
      }
      cluster.kinds()
      await keeper.reconcile()
      assert.deepEqual(cluster.kinds(), ['leafIssued'])
      assert.equal(cluster.held()['ca.crt'], data['ca.crt'])
      assert.deepEqual(cluster.handshake(), OK)
    }
  })

  test('T48: a clock that goes back an hour changes nothing', async () => {
    const cluster = startCluster()
    const keeper = cluster.newKeeper()
    await keeper.reconcile()
    const writes = cluster.state.writes.length
    cluster.state.nowMs -= 3_600_000 + 60_000
    await keeper.reconcile()
    assert.equal(cluster.state.writes.length, writes)
  })

  test('a new authority does not sign before the live bundle has it', async () => {
    const cluster = startCluster()
    const keeper = cluster.newKeeper()
    await keeper.reconcile()
    cluster.state.nowMs += 650 * DAY_MS
    await keeper.reconcile()
    assert.ok(cluster.held()['next.crt'] !== undefined)
    const signer = cluster.held()['signer.crt']
    cluster.state.nowMs += PUBLISHED_MS * 2
    cluster.state.bundle = signer ?? null // somebody put the old one back
    cluster.kinds()
    await keeper.reconcile()
    assert.deepEqual(cluster.kinds(), ['bundleApplied'])
    assert.equal(cluster.held()['signer.crt'], signer)
  })

  test('T30: over eight hundred days nobody meets a certificate that they do not trust, be they one step behind', async () => {
    const cluster = startCluster()
    const states: { readonly leaf: string; readonly bundle: string; readonly atMs: number }[] = []
    const endMs = START_MS + 800 * DAY_MS
    let keeper = cluster.newKeeper()
    let reconciles = 0
    while (cluster.state.nowMs < endMs) {
      const { nextMs } = await keeper.reconcile()
      assert.ok(nextMs > cluster.state.nowMs)
      states.push({ leaf: cluster.held()['tls.crt'] ?? '', bundle: cluster.state.bundle ?? '', atMs: cluster.state.nowMs })
      cluster.state.nowMs = nextMs
      reconciles += 1
      if (reconciles % 7 === 0) keeper = cluster.newKeeper() // another leads
    }
    const changes = states.filter(({ leaf, bundle }, index) => leaf !== states[index - 1]?.leaf || bundle !== states[index - 1]?.bundle)
    for (const [index, state] of changes.entries()) {
      const before = changes[index - 1] ?? state
      for (const [bundle, leaf] of [
        [state.bundle, state.leaf],
        [before.bundle, state.leaf],
        [state.bundle, before.leaf],
      ] as const)
        assert.deepEqual(trusts(bundle, leaf, NAMES, state.atMs), OK, `at ${new Date(state.atMs).toISOString()}`)
    }
    const kinds = cluster.kinds()
    const count = (kind: CertificateReport['kind']) => kinds.filter((each) => each === kind).length
    assert.deepEqual([count('rotationBegun'), count('rotationSwitched'), count('rotationEnded'), count('rebuilt')], [1, 1, 1, 0])
    assert.ok(count('leafIssued') > 35)
    assert.ok(certificatesIn(cluster.state.bundle ?? '').length <= 2)
  })
})
