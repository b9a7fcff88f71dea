/**
 * Pods that others change after us, on an API server that pulls every image anew: what they make of our container stays, and the pod is
 * admitted. And namespaces whose LimitRange refuses the pod by which the gate is tried.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:https'
import type { Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { json } from 'node:stream/consumers'
import { after, before, describe, test } from 'node:test'
import { ANNOTATIONS, SIDECAR_CONTAINER } from '@farebox/crds/cluster.ts'
import { selfSigned } from '@farebox/sidecar/proxy/certificates.testing.ts'
import type { Cluster } from '../cluster/cluster.ts'
import { waitFor } from '../support/wait-for.ts'
import { apply, budgetOf, budgetPath, tierOf, untilSaid } from '../operator/plans.ts'
import { ownCluster } from '../support/cluster.ts'
import { install, startOperator } from '../support/operator.ts'
import type { Operator } from '../support/operator.ts'

const cluster = await ownCluster({ apiServerFlags: ['--enable-admission-plugins=NodeRestriction,AlwaysPullImages'] })

const PLAIN = 'plain'
/** Sidecars are required in these two, but the policies that see to it are not installed. */
const OPEN = 'open'
/** As `OPEN`, with a least CPU of each container. */
const BOUNDED = 'bounded'
/** As `OPEN`, with a least CPU of a whole pod: no pod that is tried can meet it. */
const CLOSED = 'closed'
const MIRROR = 'mirror.example.test'

interface Container {
  readonly name: string
  readonly image: string
  readonly imagePullPolicy?: string
  readonly startupProbe?: { readonly httpGet?: { readonly path: string; readonly port: number } }
}
interface Pod {
  readonly metadata: { readonly name: string; readonly annotations?: Readonly<Record<string, string>> }
  readonly spec: { readonly containers: readonly Container[]; readonly initContainers?: readonly Container[] }
  /** Of a refusal. */
  readonly message?: string
}

describe('pods that others change after us', { skip: cluster === null ? 'there is no control plane' : false }, () => {
  const api = cluster as Cluster
  let operator: Operator
  let mirror: Server
  before(async () => {
    operator = await startOperator(api, await install(api, ['admissionPolicies.injectionRequired=false']))
    for (const namespace of [PLAIN, OPEN, BOUNDED, CLOSED]) {
      const body = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } }
      assert.equal((await api.request({ method: 'POST', path: '/api/v1/namespaces', body })).status, 201)
      const path = `/api/v1/namespaces/${namespace}/serviceaccounts/default`
      await waitFor(`the service account of ${namespace}`, async () => (await api.request({ path })).status === 200)
    }
    await apply(api, limitRange(BOUNDED, 'Container'), limitRange(CLOSED, 'Pod'))
    for (const namespace of [BOUNDED, CLOSED])
      await waitFor(`the bounds of ${namespace}`, async () => {
        const resources = { requests: { cpu: '1m' }, limits: { cpu: '1m' } }
        return (await post(namespace, { containers: [{ name: 'app', image: 'app:1', resources }] }, true)).status === 403
      })
    const spec = { selector: { matchLabels: { app: 'chat' } } }
    const required = { ...spec, injection: { mode: 'Required' } }
    await apply(
      api,
      tierOf('pro'),
      budgetOf(PLAIN, 'support', 'pro', spec),
      ...[OPEN, BOUNDED, CLOSED].map((namespace) => budgetOf(namespace, 'support', 'pro', required)),
    )
    await untilSaid(api, budgetPath(PLAIN, 'support'), ['Ready=True'])
    mirror = await startMirror(api)
  })
  after(async () => {
    mirror?.closeAllConnections()
    mirror?.close()
    await operator?.kill()
    await api.stop()
  })

  let made = 0
  const post = (namespace: string, spec: object = {}, isDry = false, labels: object = {}) =>
    api.request<Pod>({
      method: 'POST',
      path: `/api/v1/namespaces/${namespace}/pods${isDry ? '?dryRun=All' : ''}`,
      body: {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: `pod-${(made += 1)}`, labels: { app: 'chat', ...labels } },
        spec: { schedulerName: 'nobody', containers: [{ name: 'app', image: 'app:1' }], ...spec },
      },
    })
  const sidecarOf = async (labels: object = {}, spec: object = {}): Promise<Container | null> => {
    const { status, body } = await post(PLAIN, spec, false, labels)
    assert.equal(status, 201, body.message)
    return body.spec.initContainers?.find(({ name }) => name === SIDECAR_CONTAINER) ?? null
  }

  test('T3: where the API server pulls every image anew, so it does that of the sidecar, and the pod is admitted', async () => {
    assert.equal((await sidecarOf())?.imagePullPolicy, 'Always')
  })

  test('T3, T4: a mirror and a way to the probe that a webhook writes after us stay, whether it is asked again or not', async () => {
    for (const again of ['never', 'ifneeded']) {
      const sidecar = await sidecarOf({ mirrored: again })
      assert.match(sidecar?.image ?? '', new RegExp(`^${MIRROR}/`), again)
      assert.deepEqual(sidecar?.startupProbe?.httpGet, { path: `/app-health/${SIDECAR_CONTAINER}/startupz`, port: 15_020, scheme: 'HTTP' })
      assert.equal(sidecar?.imagePullPolicy, 'Always')
    }
  })

  test('T17: a node that is too old keeps from sidecars only pods that may run there', async () => {
    const path = '/api/v1/nodes'
    const taints = [{ key: 'virtual-kubelet.io/provider', value: 'azure', effect: 'NoSchedule' }]
    const node = { apiVersion: 'v1', kind: 'Node', metadata: { name: 'virtual', labels: { type: 'virtual-kubelet' } }, spec: { taints } }
    assert.equal((await api.request({ method: 'POST', path, body: node })).status, 201)
    const words = [
      'architecture',
      'bootID',
      'containerRuntimeVersion',
      'kernelVersion',
      'kubeProxyVersion',
      'machineID',
      'osImage',
      'systemUUID',
    ]
    const nodeInfo = {
      ...Object.fromEntries(words.map((word) => [word, ''])),
      operatingSystem: 'linux',
      kubeletVersion: 'v1.25.0-vk-azure-aci-1.6.2',
    }
    assert.equal((await api.request({ method: 'PATCH', path: `${path}/virtual/status`, body: { status: { nodeInfo } } })).status, 200)
    const tolerating = { tolerations: [{ key: 'virtual-kubelet.io/provider', operator: 'Exists' }] }
    const { annotations = {} } = await waitFor('the node to be known', async () => {
      const { metadata } = (await post(PLAIN, tolerating, true)).body
      return metadata.annotations?.[ANNOTATIONS.skipped] === undefined ? null : metadata
    })
    assert.equal(annotations[ANNOTATIONS.skipped], 'NativeUnsupported')
    assert.match(annotations[ANNOTATIONS.warnings] ?? '', /^a node that this pod may run on has Kubernetes v1\.25\.0/)
    assert.equal((await sidecarOf())?.name, SIDECAR_CONTAINER)
  })

  test('the gate is tried also where a LimitRange demands more of a container; where nothing can be tried, that is told', async () => {
    for (const namespace of [OPEN, BOUNDED])
      await untilSaid(api, budgetPath(namespace, 'support'), ['Injected=False GateOpen', 'Ready=False GateOpen'])
    await waitFor('what is not known to be told', async () => {
      const { status } = await untilSaid(api, budgetPath(CLOSED, 'support'), ['Injected=Unknown NoPods'])
      const { message = '' } = status?.conditions?.find(({ type }) => type === 'Injected') ?? {}
      return /could not be found out, .*cpu usage per Pod is 100m/.test(message)
    })
  })
})

function limitRange(namespace: string, type: 'Container' | 'Pod'): object {
  return {
    apiVersion: 'v1',
    kind: 'LimitRange',
    metadata: { name: 'each', namespace },
    spec: { limits: [{ type, min: { cpu: '100m' } }] },
  }
}

/** Two webhooks by the label `mirrored`, both asked after us: of the one `never` again, of the other `ifneeded`. */
async function startMirror(api: Cluster): Promise<Server> {
  const { cert, key } = selfSigned(['localhost'], { byAddress: true })
  const server = createServer({ cert, key }, (request, response) => {
    void (async () => {
      const { request: asked } = (await json(request)) as { request: { uid: string; object: Pod } }
      const patch = Buffer.from(JSON.stringify(mirrored(asked.object))).toString('base64')
      response.setHeader('content-type', 'application/json')
      const answer = { uid: asked.uid, allowed: true, patchType: 'JSONPatch', patch }
      response.end(JSON.stringify({ apiVersion: 'admission.k8s.io/v1', kind: 'AdmissionReview', response: answer }))
    })()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const configuration = (reinvocationPolicy: 'Never' | 'IfNeeded'): object => ({
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'MutatingWebhookConfiguration',
    metadata: { name: `zz-mirror-${reinvocationPolicy.toLowerCase()}` },
    webhooks: [
      {
        name: 'mirror.example.test',
        reinvocationPolicy,
        clientConfig: { url: `https://127.0.0.1:${port}/`, caBundle: Buffer.from(cert).toString('base64') },
        rules: [{ apiGroups: [''], apiVersions: ['v1'], resources: ['pods'], operations: ['CREATE'] }],
        objectSelector: { matchLabels: { mirrored: reinvocationPolicy.toLowerCase() } },
        sideEffects: 'None',
        admissionReviewVersions: ['v1'],
        failurePolicy: 'Fail',
      },
    ],
  })
  await apply(api, configuration('Never'), configuration('IfNeeded'))
  for (const again of ['never', 'ifneeded'])
    await waitFor('the mirror', async () => {
      const spec = { containers: [{ name: 'app', image: 'app:1' }] }
      const body = { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'x', labels: { mirrored: again } }, spec }
      const { body: pod } = await api.request<Pod>({ method: 'POST', path: `/api/v1/namespaces/${PLAIN}/pods?dryRun=All`, body })
      return pod.spec.containers[0]?.image.startsWith(MIRROR) === true
    })
  return server
}

function mirrored({ spec }: Pod): readonly object[] {
  const lists = [
    ['containers', spec.containers],
    ['initContainers', spec.initContainers ?? []],
  ] as const
  return lists.flatMap(([list, containers]) =>
    containers.flatMap(({ name, image, startupProbe }, index) => {
      const path = `/spec/${list}/${index}`
      return [
        ...(image.startsWith(`${MIRROR}/`) ? [] : [{ op: 'replace', path: `${path}/image`, value: `${MIRROR}/${image}` }]),
        ...(startupProbe === undefined
          ? []
          : [{ op: 'replace', path: `${path}/startupProbe/httpGet`, value: { path: `/app-health/${name}/startupz`, port: 15_020 } }]),
      ]
    }),
  )
}
