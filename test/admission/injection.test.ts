/** Pods as the API server stores them, with the real operator as its webhook: the API server says what is valid, and what is not. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { json } from 'node:stream/consumers'
import { after, before, describe, test } from 'node:test'
import { ANNOTATIONS, LABELS, SIDECAR_CONTAINER, VOLUMES } from '@farebox/crds/cluster.ts'
import { selfSigned } from '@farebox/sidecar/proxy/certificates.testing.ts'
import fc from 'fast-check'
import type { Cluster } from '../cluster/cluster.ts'
import { waitFor } from '../support/wait-for.ts'
import { apply, budgetOf, budgetPath, shown, tierOf, untilSaid } from '../operator/plans.ts'
import { anyPod } from '../support/any-pod.ts'
import { ownCluster } from '../support/cluster.ts'
import { install, startOperator } from '../support/operator.ts'
import type { Operator } from '../support/operator.ts'

const cluster = await ownCluster()

/** Budgets that select `app: chat`, each in a namespace of its own. */
const PLAIN = 'plain'
/** The sidecar holds the key. */
const HELD = 'held'
/** Pod Security is `restricted`. */
const STRICT = 'strict'
const QUOTA = 'quota'
const LIMITS = 'limits'
/** Has no budget. */
const BARE = 'bare'
/** Of a budget without upstreams. */
const ENVIRONMENT = [
  { name: 'FAREBOX_BASE_URL_OPENAI', value: 'http://127.0.0.1:4180/openai/v1' },
  { name: 'FAREBOX_BASE_URL_ANTHROPIC', value: 'http://127.0.0.1:4180/anthropic' },
  { name: 'FAREBOX_BASE_URL_GEMINI', value: 'http://127.0.0.1:4180/gemini' },
  { name: 'OPENAI_BASE_URL', value: 'http://127.0.0.1:4180/openai/v1' },
  { name: 'ANTHROPIC_BASE_URL', value: 'http://127.0.0.1:4180/anthropic' },
  { name: 'GOOGLE_GEMINI_BASE_URL', value: 'http://127.0.0.1:4180/gemini' },
]
const BASE_URLS = ENVIRONMENT.map(({ name }) => name)
const PULL_SECRETS = ['regcred', 'mirror']
const MIB = 1_048_576
const GENERATED = { tried: 64, admittedMin: 50, atOnce: 8 }

interface Env {
  readonly name: string
  readonly value?: string
  readonly valueFrom?: object
}
interface Quantities {
  readonly limits?: Readonly<Record<string, string>>
  readonly requests?: Readonly<Record<string, string>>
}
interface StoredContainer {
  readonly name: string
  readonly image: string
  readonly restartPolicy?: string
  readonly env?: readonly Env[]
  readonly resources: Quantities
  readonly volumeMounts?: readonly { readonly name: string; readonly mountPath: string }[]
  readonly [field: string]: unknown
}
interface StoredPod {
  readonly metadata: {
    readonly name: string
    readonly uid: string
    readonly annotations?: Readonly<Record<string, string>>
    readonly ownerReferences?: readonly { readonly kind: string; readonly name: string }[]
  }
  readonly spec: {
    readonly containers: readonly StoredContainer[]
    readonly initContainers?: readonly StoredContainer[]
    readonly volumes?: readonly { readonly name: string; readonly [source: string]: unknown }[]
    readonly imagePullSecrets?: readonly { readonly name: string }[]
  }
  readonly status: { readonly qosClass?: string }
  /** Of a refusal. */
  readonly message?: string
}
interface Event {
  readonly reason: string
  readonly type: string
  readonly note?: string
  readonly regarding: { readonly kind: string; readonly name: string }
}
interface Wanted {
  readonly name: string
  readonly labels?: Readonly<Record<string, string>>
  readonly annotations?: Readonly<Record<string, string>>
}

describe('pods on a control plane', { skip: cluster === null ? 'there is no control plane' : false }, () => {
  const api = cluster as Cluster
  let operator: Operator
  let other: Server
  before(async () => {
    operator = await startOperator(api, await install(api), { environment: { FAREBOX_PULL_SECRETS: PULL_SECRETS.join() } })
    const restricted = { 'pod-security.kubernetes.io/enforce': 'restricted' }
    await Promise.all([
      namespaceOf(PLAIN),
      namespaceOf(HELD),
      namespaceOf(STRICT, restricted),
      namespaceOf(QUOTA),
      namespaceOf(LIMITS),
      namespaceOf(BARE),
    ])
    const credential = { secretRef: { name: 'openai', key: 'api-key' } }
    const upstreams = [{ name: 'openai', baseURL: 'https://api.openai.com/v1', credential }]
    const spec = { selector: { matchLabels: { app: 'chat' } } }
    const governed = [PLAIN, STRICT, QUOTA, LIMITS].map((namespace) => budgetOf(namespace, 'support', 'pro', spec))
    await apply(
      api,
      tierOf('pro'),
      ...governed,
      budgetOf(HELD, 'support', 'pro', { ...spec, upstreams }),
      {
        apiVersion: 'v1',
        kind: 'ResourceQuota',
        metadata: { name: 'all', namespace: QUOTA },
        spec: { hard: { 'requests.cpu': '4', 'requests.memory': '4Gi', 'limits.cpu': '8', 'limits.memory': '8Gi' } },
      },
      {
        apiVersion: 'v1',
        kind: 'LimitRange',
        metadata: { name: 'each', namespace: LIMITS },
        spec: {
          limits: [
            {
              type: 'Container',
              default: { cpu: '1', memory: '192Mi' },
              defaultRequest: { cpu: '100m', memory: '128Mi' },
              max: { cpu: '2', memory: '1Gi' },
              min: { cpu: '10m', memory: '16Mi' },
            },
          ],
        },
      },
    )
    for (const namespace of [PLAIN, HELD, STRICT, QUOTA, LIMITS]) await untilSaid(api, budgetPath(namespace, 'support'), ['Ready=True'])
    const quotaPath = `/api/v1/namespaces/${QUOTA}/resourcequotas/all`
    await waitFor('the quota to be counted', async () => (await shown(api, quotaPath))?.status?.['used'] !== undefined)
    other = await startOther(api)
  })
  after(async () => {
    other?.closeAllConnections()
    other?.close()
    await operator?.kill()
    await api.stop()
  })

  const namespaceOf = async (name: string, labels: Readonly<Record<string, string>> = {}): Promise<void> => {
    const body = { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } }
    assert.equal((await api.request({ method: 'POST', path: '/api/v1/namespaces', body })).status, 201)
    const path = `/api/v1/namespaces/${name}/serviceaccounts/default`
    await waitFor(`the service account of ${name}`, async () => (await api.request({ path })).status === 200)
  }
  const post = (namespace: string, { name, labels, annotations }: Wanted, spec: object, isDry = false) =>
    api.request<StoredPod>({
      method: 'POST',
      path: `/api/v1/namespaces/${namespace}/pods${isDry ? '?dryRun=All' : ''}`,
      body: {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name, labels: { app: 'chat', ...labels }, annotations },
        // Nobody looks for a node: there is none.
        spec: { schedulerName: 'nobody', containers: [{ name: 'app', image: 'app:1' }], ...spec },
      },
    })
  const create = async (namespace: string, wanted: Wanted, spec: object = {}): Promise<StoredPod> => {
    const { status, body } = await post(namespace, wanted, spec)
    assert.equal(status, 201, body.message)
    return body
  }
  const eventsOf = async (namespace: string, kind: string, name: string): Promise<readonly Event[]> => {
    const { body } = await api.request<{ items: Event[] }>({ path: `/apis/events.k8s.io/v1/namespaces/${namespace}/events` })
    return body.items.filter(({ reason, regarding }) => reason.startsWith('Farebox') && regarding.kind === kind && regarding.name === name)
  }
  const eventOf = (namespace: string, kind: string, name: string): Promise<Event> =>
    waitFor(`an event on ${kind} ${name}`, async () => (await eventsOf(namespace, kind, name))[0])

  test('T1: a pod that a budget selects has one sidecar, first, and its app is led to it; another pod is left alone', async () => {
    const pod = await create(PLAIN, { name: 'first' }, { initContainers: [{ name: 'migrate', image: 'migrate:1' }] })
    assert.deepEqual(names(pod.spec.initContainers), [SIDECAR_CONTAINER, 'migrate'])
    const sidecar = sidecarIn(pod)
    assert.equal(sidecar.restartPolicy, 'Always')
    assert.equal(sidecar.env?.find(({ name }) => name === 'FAREBOX_OPERATOR')?.value, operator.deliveryUrl)
    for (const name of ['app', 'migrate']) assert.deepEqual(envOf(pod, name), ENVIRONMENT)
    assert.equal(pod.metadata.annotations?.[ANNOTATIONS.budget], 'support')
    assert.match(pod.metadata.annotations?.[ANNOTATIONS.injectionHash] ?? '', /^[0-9a-f]{16}$/)
    assert.deepEqual(names(ourVolumes(pod)), [VOLUMES.config, VOLUMES.data, VOLUMES.token])
    assert.doesNotMatch(JSON.stringify(sidecar.volumeMounts), /kube-api-access/, 'it cannot speak to the API server')
    const apart = await create(PLAIN, { name: 'apart', labels: { app: 'other' } })
    assert.equal(apart.spec.initContainers, undefined)
    assert.equal(apart.metadata.annotations, undefined)
  })

  test('T2: the same pod twice gets the same, byte for byte', async () => {
    const spec = { initContainers: [{ name: 'migrate', image: 'migrate:1' }] }
    const [one, two] = [await create(PLAIN, { name: 'same-1' }, spec), await create(PLAIN, { name: 'same-2' }, spec)]
    assert.equal(JSON.stringify(ours(one)), JSON.stringify(ours(two)))
  })

  test('T3: a container that another webhook adds afterwards is led to the sidecar too, and nothing comes twice', async () => {
    const pod = await create(PLAIN, { name: 'helped', labels: { other: 'helper', order: 'after' } })
    assert.deepEqual(names(pod.spec.containers), ['app', 'helper'])
    assert.deepEqual(names(pod.spec.initContainers), [SIDECAR_CONTAINER, 'late'])
    for (const name of ['app', 'helper', 'late']) assert.deepEqual(names(envOf(pod, name)), BASE_URLS, name)
    assert.equal(new Set(names(pod.spec.volumes)).size, pod.spec.volumes?.length)
    assert.equal(pod.spec.imagePullSecrets?.length, PULL_SECRETS.length)
    assert.equal((await eventOf(PLAIN, 'Pod', 'helped')).reason, 'FareboxInjected')
  })

  test('T4: the sidecar comes after what sets up a mesh, whether that webhook is asked before us or after', async () => {
    for (const mesh of ['istio', 'linkerd']) {
      for (const order of ['before', 'after']) {
        const spec = { initContainers: [{ name: 'migrate', image: 'migrate:1' }] }
        const pod = await create(PLAIN, { name: `${mesh}-${order}`, labels: { other: mesh, order } }, spec)
        assert.deepEqual(names(pod.spec.initContainers), [`${mesh}-init`, `${mesh}-proxy`, SIDECAR_CONTAINER, 'migrate'], order)
        for (const name of [`${mesh}-init`, `${mesh}-proxy`]) assert.deepEqual(envOf(pod, name), [])
        assert.deepEqual(names(envOf(pod, 'migrate')), BASE_URLS)
      }
    }
  })

  test('T5: the label opts out, and another value than it may have is no yes: kubectl prints why', async () => {
    const manifest = (name: string, value: string): object => ({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, namespace: PLAIN, labels: { app: 'chat', [LABELS.inject]: value } },
      spec: { containers: [{ name: 'app', image: 'app:1' }] },
    })
    const items = [manifest('out', 'disabled'), manifest('slip', 'true'), manifest('in', 'enabled')]
    const { stderr } = await api.kubectl(['apply', '-f', '-'], { input: JSON.stringify({ apiVersion: 'v1', kind: 'List', items }) })
    assert.match(stderr, /^Warning: farebox: no sidecar \(OptedOut\): the label farebox\.dev\/inject says so$/m)
    assert.match(stderr, /^Warning: farebox: no sidecar \(InvalidLabel\): .* must be "enabled" or "disabled", not "true"$/m)
    assert.match(stderr, /^Warning: farebox: sidecar injected: ConversationBudget "support" governs this pod$/m)
    assert.equal(await skippedOf('out'), 'OptedOut')
    assert.equal(await skippedOf('slip'), 'InvalidLabel')
    assert.equal(await skippedOf('in'), null)
    const { stderr: asked } = await api.kubectl(
      ['run', 'asks', '-n', BARE, '--image=x', `--labels=${LABELS.inject}=enabled`, '--dry-run=server'],
      {},
    )
    assert.match(asked, /^Warning: farebox: no sidecar: .* but no ConversationBudget of namespace "bare" selects this pod$/m)
  })

  test('a pod of a budget that was never accepted is injected, and told that it waits, and for what', async () => {
    const selector = { matchLabels: { app: 'misspelt' } }
    await apply(api, budgetOf(PLAIN, 'misspelt', 'no-such-tier', { selector }))
    await untilSaid(api, budgetPath(PLAIN, 'misspelt'), ['Accepted=False TierNotFound', 'Programmed=False NotAccepted'])
    const run = ['run', 'waits', '-n', PLAIN, '--image=x', '--labels=app=misspelt']
    const warning =
      /^Warning: farebox: this pod waits until ConversationBudget "misspelt" is in force: there is no PricingTier "no-such-tier"$/m
    // Each replica of the webhook hears of the status by itself.
    await waitFor('the status', async () => warning.test((await api.kubectl([...run, '--dry-run=server'])).stderr))
    assert.match((await api.kubectl(run)).stderr, warning)
    assert.match((await eventOf(PLAIN, 'Pod', 'waits')).note ?? '', /this pod waits until ConversationBudget "misspelt" is in force/)
  })

  test('a key in a container that is left alone marks the pod', async () => {
    const env = [{ name: 'OPENAI_API_KEY', valueFrom: { secretKeyRef: { name: 'openai', key: 'api-key' } } }]
    const containers = [
      { name: 'app', image: 'app:1' },
      { name: 'daprd', image: 'dapr:1', env },
    ]
    const pod = await create(HELD, { name: 'shares' }, { containers })
    assert.deepEqual(envOf(pod, 'daprd'), env)
    assert.equal(pod.metadata.annotations?.[ANNOTATIONS.sharedKeys], 'openai')
  })

  test('T6: pods of hosts, of Windows and of disks get none, with the reason; one with a shared process namespace does', async () => {
    await create(PLAIN, { name: 'host' }, { hostNetwork: true })
    assert.equal(await skippedOf('host'), 'HostNetwork')
    await create(PLAIN, { name: 'windows' }, { os: { name: 'windows' } })
    assert.equal(await skippedOf('windows'), 'Windows')
    await create(PLAIN, { name: 'windows-2' }, { nodeSelector: { 'kubernetes.io/os': 'windows' } })
    assert.equal(await skippedOf('windows-2'), 'Windows')
    const mirror = await create(PLAIN, { name: 'mirror', annotations: { 'kubernetes.io/config.mirror': 'abc' } }, { nodeName: 'nowhere' })
    assert.equal(mirror.spec.initContainers, undefined)
    assert.ok(sidecarIn(await create(PLAIN, { name: 'shared' }, { shareProcessNamespace: true })))
  })

  test('T7: a pod with a container of its own called farebox stays as it is', async () => {
    const own = await create(PLAIN, { name: 'own' }, { containers: [{ name: SIDECAR_CONTAINER, image: 'mine:1' }] })
    assert.equal(await skippedOf('own'), 'UserOwnsContainer')
    assert.deepEqual(names(own.spec.containers), [SIDECAR_CONTAINER])
    assert.equal(own.spec.initContainers, undefined)
    await create(PLAIN, { name: 'own-init' }, { initContainers: [{ name: SIDECAR_CONTAINER, image: 'mine:1' }] })
    assert.equal(await skippedOf('own-init'), 'UserOwnsContainer')
  })

  test('T8: where Pod Security is restricted the pod is admitted with its sidecar, and one that may not be is refused', async () => {
    const securityContext = {
      runAsNonRoot: true,
      allowPrivilegeEscalation: false,
      capabilities: { drop: ['ALL'] },
      seccompProfile: { type: 'RuntimeDefault' },
    }
    sidecarIn(await create(STRICT, { name: 'strict' }, { containers: [{ name: 'app', image: 'app:1', securityContext }] }))
    const { status, body } = await post(STRICT, { name: 'loose' }, {})
    assert.equal(status, 403)
    assert.match(body.message ?? '', /violates PodSecurity/)
    assert.doesNotMatch(body.message ?? '', new RegExp(`container "${SIDECAR_CONTAINER}"`), 'the sidecar is not why')
  })

  test('T9: a quota that demands requests and limits admits the pod, or says what is missing of the app', async () => {
    const resources = { requests: { cpu: '100m', memory: '256Mi' }, limits: { cpu: '1', memory: '256Mi' } }
    const sidecar = sidecarIn(await create(QUOTA, { name: 'within' }, { containers: [{ name: 'app', image: 'app:1', resources }] }))
    assert.deepEqual(Object.keys(sidecar.resources.limits ?? {}), ['cpu', 'memory'])
    const without = await post(QUOTA, { name: 'without' }, {})
    assert.equal(without.status, 403)
    assert.match(without.body.message ?? '', /must specify limits\.cpu for: app/)
    const much = { requests: { cpu: '4', memory: '256Mi' }, limits: { cpu: '4', memory: '256Mi' } }
    const over = await post(QUOTA, { name: 'over' }, { containers: [{ name: 'app', image: 'app:1', resources: much }] })
    assert.equal(over.status, 403)
    assert.match(over.body.message ?? '', /exceeded quota: all, requested: /)
  })

  test('T9: a LimitRange admits the pod, or says which of its bounds the sidecar does not meet', async () => {
    const pod = await create(LIMITS, { name: 'within' })
    assert.equal(pod.status.qosClass, 'Burstable')
    sidecarIn(pod)
    const path = `/api/v1/namespaces/${LIMITS}/limitranges/each`
    const tight = { spec: { limits: [{ type: 'Container', max: { memory: '150Mi' }, default: { memory: '100Mi' } }] } }
    assert.equal((await api.request({ method: 'PATCH', path, body: tight })).status, 200)
    const resources = { requests: { memory: '100Mi' } }
    const { body } = await waitFor('the new bounds', async () => {
      const answer = await post(LIMITS, { name: 'beyond' }, { containers: [{ name: 'app', image: 'app:1', resources }] }, true)
      return answer.status === 403 ? answer : null
    })
    assert.match(body.message ?? '', /maximum memory usage per Container is 150Mi, but limit is \d+Mi/)
  })

  test('T10: the pod keeps its quality of service', async () => {
    const all = { cpu: '500m', memory: '256Mi' }
    const guaranteed = { requests: all, limits: all }
    const classOf = async (name: string, spec: object): Promise<string | undefined> => {
      const pod = await create(PLAIN, { name }, spec)
      sidecarIn(pod)
      return pod.status.qosClass
    }
    const app = (resources: object) => ({ containers: [{ name: 'app', image: 'app:1', resources }] })
    assert.equal(await classOf('guaranteed', app(guaranteed)), 'Guaranteed')
    assert.equal(
      await classOf('guaranteed-init', {
        ...app({ limits: all }),
        initContainers: [{ name: 'migrate', image: 'migrate:1', resources: guaranteed }],
      }),
      'Guaranteed',
    )
    assert.equal(await classOf('guaranteed-pod', { ...app({}), resources: guaranteed }), 'Guaranteed')
    assert.equal(await classOf('burstable', app({ requests: { cpu: '100m' } })), 'Burstable')
    assert.equal(await classOf('best-effort', app({})), 'BestEffort')
  })

  test('T12: env, envFrom and $(VAR): ours come first, what the app set stays, save a key that the sidecar holds', async () => {
    const mine = { name: 'OPENAI_BASE_URL', value: 'https://gateway.example.test/v1' }
    const refers = { name: 'MODELS', value: '$(FAREBOX_BASE_URL_OPENAI)/models' }
    const key = { name: 'OPENAI_API_KEY', valueFrom: { secretKeyRef: { name: 'openai', key: 'api-key' } } }
    const app = (env: readonly object[]) => ({ containers: [{ name: 'app', image: 'app:1', env }] })
    const pod = await create(PLAIN, { name: 'env' }, app([mine, refers, key]))
    const others = ENVIRONMENT.filter(({ name }) => name !== mine.name)
    assert.deepEqual(envOf(pod, 'app'), [...others, mine, refers, key])
    assert.match((await eventOf(PLAIN, 'Pod', 'env')).note ?? '', /container "app": OPENAI_BASE_URL is set and stays/)
    const held = await create(HELD, { name: 'env' }, app([refers, key]))
    assert.deepEqual(names(envOf(held, 'app')), ['FAREBOX_BASE_URL_OPENAI', 'OPENAI_BASE_URL', 'MODELS', 'OPENAI_API_KEY'])
    assert.doesNotMatch(JSON.stringify(held.spec.containers), /secretKeyRef/, 'only the sidecar has the key')
    assert.match(JSON.stringify(ourVolumes(held)), /"secret":\{"name":"openai"/)
    const envFrom = [{ configMapRef: { name: 'settings', optional: true } }]
    const from = await create(PLAIN, { name: 'env-from' }, { containers: [{ name: 'app', image: 'app:1', envFrom }] })
    assert.deepEqual(from.spec.containers[0]?.['envFrom'], envFrom)
    assert.deepEqual(names(envOf(from, 'app')), BASE_URLS)
    assert.match(
      (await eventOf(PLAIN, 'Pod', 'env-from')).note ?? '',
      /has envFrom: if it brings OPENAI_BASE_URL or ANTHROPIC_BASE_URL or GOOGLE_GEMINI_BASE_URL, the sidecar's values win/,
    )
  })

  test('T13: a pod of a megabyte is injected like any other', async () => {
    const big = 'x'.repeat(MIB / 8)
    const env = Array.from({ length: 6 }, (_, index) => ({ name: `BIG_${index}`, value: big }))
    const annotations = { 'example.test/big': 'x'.repeat(MIB / 4 - 1_024) } // all of a pod's may have 256 KiB
    const pod = await create(PLAIN, { name: 'big', annotations }, { containers: [{ name: 'app', image: 'app:1', env }] })
    sidecarIn(pod)
    assert.ok(JSON.stringify(pod).length > 0.95 * MIB)
    assert.deepEqual(names(envOf(pod, 'app')).slice(0, BASE_URLS.length + 1), [...BASE_URLS, 'BIG_0'])
    assert.ok(pod.metadata.annotations?.[ANNOTATIONS.injectionHash] !== undefined)
  })

  test('T14: a dry run gets the same patch, and makes no event', async () => {
    const dry = await post(PLAIN, { name: 'dry' }, {}, true)
    assert.equal(dry.status, 201)
    const wet = await create(PLAIN, { name: 'wet' })
    assert.equal(JSON.stringify(ours(dry.body)), JSON.stringify(ours(wet)))
    await eventOf(PLAIN, 'Pod', 'wet')
    assert.deepEqual(await eventsOf(PLAIN, 'Pod', 'dry'), [])
  })

  test('T16: pull secrets of the chart are on the pod once', async () => {
    const pulled = async (name: string, ...secrets: readonly string[]): Promise<readonly string[]> =>
      names((await create(PLAIN, { name }, { imagePullSecrets: secrets.map((secret) => ({ name: secret })) })).spec.imagePullSecrets)
    assert.deepEqual(await pulled('pull'), PULL_SECRETS)
    assert.deepEqual(await pulled('pull-own', 'own', 'regcred'), ['own', 'regcred', 'mirror'])
  })

  test('T18: whatever pod the API server takes it takes with the sidecar, of the same quality of service', async (context) => {
    let admitted = 0
    const pods = fc.sample(anyPod, { numRuns: GENERATED.tried, seed: 18 })
    const tryOne = async (pod: (typeof pods)[number], index: number): Promise<void> => {
      const name = `any-${index}`
      const { 'c~d': _none, ...annotations } = pod.metadata.annotations ?? {}
      const bare = await post(BARE, { name, annotations }, pod.spec, true)
      if (bare.status !== 201) return
      const stored = await create(PLAIN, { name, annotations }, pod.spec)
      admitted += 1
      sidecarIn(stored)
      assert.equal(stored.status.qosClass, bare.body.status.qosClass, JSON.stringify(pod))
      const without = (stored.spec.initContainers ?? []).filter((each) => each.name !== SIDECAR_CONTAINER)
      assert.deepEqual(without.map(lessEnv), (bare.body.spec.initContainers ?? []).map(lessEnv))
      assert.deepEqual(stored.spec.containers.map(lessEnv), bare.body.spec.containers.map(lessEnv))
    }
    for (let from = 0; from < pods.length; from += GENERATED.atOnce)
      await Promise.all(pods.slice(from, from + GENERATED.atOnce).map((pod, index) => tryOne(pod, from + index)))
    context.diagnostic(`${admitted} generated pods were admitted`)
    assert.ok(admitted >= GENERATED.admittedMin, `${admitted} were admitted`)
  })

  test('events stand on the owner: FareboxInjected on a ReplicaSet, FareboxSkipped where there is none', async () => {
    const deployment = (name: string, spec: object): object => ({
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name, namespace: PLAIN },
      spec: {
        replicas: 2,
        selector: { matchLabels: { app: 'chat', name } },
        template: { metadata: { labels: { app: 'chat', name } }, spec: { containers: [{ name: 'app', image: 'app:1' }], ...spec } },
      },
    })
    await apply(api, deployment('owned', {}), deployment('hosted', { hostNetwork: true }))
    const replicaSetOf = (name: string): Promise<string> =>
      waitFor(`the pods of ${name}`, async () => {
        const path = `/api/v1/namespaces/${PLAIN}/pods?labelSelector=name%3D${name}`
        const { items } = (await api.request<{ items: StoredPod[] }>({ path })).body
        return items.length === 2 ? items[0]?.metadata.ownerReferences?.[0]?.name : null
      })
    const injected = await eventOf(PLAIN, 'ReplicaSet', await replicaSetOf('owned'))
    assert.equal(injected.reason, 'FareboxInjected')
    assert.equal(injected.type, 'Normal')
    assert.match(injected.note ?? '', /^sidecar of budget "support"/)
    const skipped = await eventOf(PLAIN, 'ReplicaSet', await replicaSetOf('hosted'))
    assert.equal(skipped.reason, 'FareboxSkipped')
    assert.equal(skipped.type, 'Warning')
    assert.match(skipped.note ?? '', /^no sidecar, HostNetwork/)
  })

  test('what was skipped is counted by reason in the status of the budget', async () => {
    const wanted = { OptedOut: 1, InvalidLabel: 1, HostNetwork: 3, Windows: 2, UserOwnsContainer: 2 }
    await waitFor('the counts', async () => {
      const budget = await shown(api, budgetPath(PLAIN, 'support'))
      assert.partialDeepStrictEqual(budget?.status?.workloads?.['skipped'], wanted)
      return true
    })
  })

  /** Null: it was injected. */
  async function skippedOf(name: string): Promise<string | null> {
    const { body } = await api.request<StoredPod>({ path: `/api/v1/namespaces/${PLAIN}/pods/${name}` })
    const annotations = body.metadata.annotations ?? {}
    const isInjected = annotations[ANNOTATIONS.injectionHash] !== undefined
    assert.equal(isInjected, body.spec.initContainers?.some(({ image }) => image.includes('farebox-sidecar')) === true)
    return isInjected ? null : (annotations[ANNOTATIONS.skipped] ?? 'nothing is said')
  }
})

/** What meshes and other injectors do, by the label `other`; `order` says whether they are asked before us or after, by their name. */
async function startOther(api: Cluster): Promise<Server> {
  const { cert, key } = selfSigned(['localhost'], { byAddress: true })
  const server = createServer({ cert, key }, (request, response) => {
    void answerOther(request, response)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const configuration = (name: string, order: string): object => ({
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'MutatingWebhookConfiguration',
    metadata: { name },
    webhooks: [
      {
        name: 'other.example.test',
        clientConfig: { url: `https://127.0.0.1:${port}/`, caBundle: Buffer.from(cert).toString('base64') },
        rules: [{ apiGroups: [''], apiVersions: ['v1'], resources: ['pods'], operations: ['CREATE'] }],
        objectSelector: { matchLabels: { order } },
        sideEffects: 'None',
        admissionReviewVersions: ['v1'],
        failurePolicy: 'Fail',
      },
    ],
  })
  await apply(api, configuration('aa-other', 'before'), configuration('zz-other', 'after'))
  for (const order of ['before', 'after']) {
    const metadata = { name: 'x', labels: { order, other: 'helper' } }
    const body = { apiVersion: 'v1', kind: 'Pod', metadata, spec: { containers: [{ name: 'app', image: 'app:1' }] } }
    await waitFor('the other webhook', async () => {
      const path = `/api/v1/namespaces/${BARE}/pods?dryRun=All`
      return (await api.request<StoredPod>({ method: 'POST', path, body })).body.spec.containers.length === 2
    })
  }
  return server
}

async function answerOther(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  const { request } = (await json(incoming)) as Review
  const patch = Buffer.from(JSON.stringify(otherPatch(request.object))).toString('base64')
  const response = { uid: request.uid, allowed: true, patchType: 'JSONPatch', patch }
  outgoing.setHeader('content-type', 'application/json')
  outgoing.end(JSON.stringify({ apiVersion: 'admission.k8s.io/v1', kind: 'AdmissionReview', response }))
}

interface Review {
  readonly request: {
    readonly uid: string
    readonly object: {
      readonly metadata: { readonly labels: Readonly<Record<string, string>> }
      readonly spec: { readonly initContainers?: readonly unknown[] }
    }
  }
}

function otherPatch({ metadata, spec }: Review['request']['object']): readonly object[] {
  const { other = '' } = metadata.labels
  const inits = spec.initContainers ?? []
  const named = (name: string, more: object = {}): object => ({ name, image: `${name}:1`, ...more })
  if (other === 'helper')
    return [
      { op: 'add', path: '/spec/containers/-', value: named('helper') },
      { op: 'add', path: '/spec/initContainers', value: [...inits, named('late')] },
    ]
  const mesh = [named(`${other}-init`), named(`${other}-proxy`, { restartPolicy: 'Always' })]
  return [{ op: 'add', path: '/spec/initContainers', value: [...mesh, ...inits] }]
}

function sidecarIn(pod: StoredPod): StoredContainer {
  const [sidecar, ...more] = (pod.spec.initContainers ?? []).filter(({ name }) => name === SIDECAR_CONTAINER)
  assert.ok(sidecar !== undefined && more.length === 0, JSON.stringify(pod.metadata))
  return sidecar
}

function envOf({ spec }: StoredPod, container: string): readonly Env[] {
  return [...(spec.initContainers ?? []), ...spec.containers].find(({ name }) => name === container)?.env ?? []
}

function ourVolumes({ spec }: StoredPod): readonly { readonly name: string }[] {
  const names: readonly string[] = Object.values(VOLUMES)
  return (spec.volumes ?? []).filter(({ name }) => names.includes(name))
}

/** All that we put into it. */
function ours(pod: StoredPod): unknown {
  return {
    sidecar: sidecarIn(pod),
    env: [...(pod.spec.initContainers ?? []), ...pod.spec.containers].map(({ name, env }) => [name, name === SIDECAR_CONTAINER ? [] : env]),
    volumes: ourVolumes(pod),
    imagePullSecrets: pod.spec.imagePullSecrets,
    annotations: Object.entries(pod.metadata.annotations ?? {}).filter(([key]) => key.startsWith('farebox.dev/')),
  }
}

/** As it would be without us. The mount of the API server's token has a random name. */
function lessEnv({ env: _env, volumeMounts, ...container }: StoredContainer): object {
  return { ...container, volumeMounts: volumeMounts?.filter(({ name }) => !name.startsWith('kube-api-access-')) }
}

function names(list: readonly { readonly name: string }[] | undefined): readonly string[] {
  return (list ?? []).map(({ name }) => name)
}
