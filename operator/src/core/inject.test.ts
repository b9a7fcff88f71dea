import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { ANNOTATIONS, LABELS, RUNTIME_SECRET, SIDECAR_CONTAINER, VOLUMES, WORTHLESS_KEY } from '@farebox/crds/cluster.ts'
import { anyPod } from '../../../test/support/any-pod.ts'
import { applyPatch } from '../../../test/support/json-patch.ts'
import { makeBudget, makeInjectionSettings, makePod, podProblems, qosClass } from '../../../test/support/pods.ts'
import type { TestContainer, TestPod } from '../../../test/support/pods.ts'
import { injectionHash } from './injection-hash.ts'
import { planInjection } from './inject.ts'
import type { InjectionPlan, Place } from './inject.ts'
import { isTooOld } from './old-node.ts'
import type { OldNode } from './old-node.ts'
import { PodSchema } from './pod.ts'

const SETTINGS = makeInjectionSettings()
const PLACE: Place = { namespace: 'shop', oldNodes: [], unreadable: [] }
const OPENAI = { name: 'openai', baseURL: 'https://api.openai.com/v1' }
const BUDGET = makeBudget({ spec: { upstreams: [OPENAI] } })
const HOLDING = makeBudget({ spec: { upstreams: [{ ...OPENAI, credential: { secretRef: { name: 'openai', key: 'api-key' } } }] } })
const BASE_URL = { name: 'OPENAI_BASE_URL', value: 'http://127.0.0.1:4180/openai/v1' }
const OUR_URL = { name: 'FAREBOX_BASE_URL_OPENAI', value: BASE_URL.value }

function plan(pod: TestPod, { budget = BUDGET, settings = SETTINGS, place = PLACE } = {}): InjectionPlan {
  return planInjection(PodSchema.parse(pod), place, budget, settings)
}

function inject(pod: TestPod, options: Parameters<typeof plan>[1] = {}): TestPod {
  const planned = plan(pod, options)
  assert.equal(planned.status, 'inject')
  return applyPatch(pod, planned.status === 'inject' ? planned.patch : [])
}

function skipped(pod: TestPod, options: Parameters<typeof plan>[1] = {}) {
  const planned = plan(pod, options)
  assert.ok(planned.status === 'skip')
  assert.deepEqual(applyPatch(pod, planned.patch).spec, pod.spec)
  assert.equal(applyPatch(pod, planned.patch).metadata.annotations?.[ANNOTATIONS.skipped], planned.reason)
  return { reason: planned.reason, message: planned.warnings.join('\n') }
}

const initNames = (pod: TestPod) => (pod.spec.initContainers ?? []).map(({ name }) => name)
const container = (name: string, fields: Readonly<Record<string, unknown>> = {}): TestContainer => ({
  name,
  image: 'example.test/x:1',
  ...fields,
})
const envOf = (pod: TestPod, name: string) =>
  [...(pod.spec.initContainers ?? []), ...pod.spec.containers].find((each) => each.name === name)?.['env']

interface Mount {
  readonly name: string
  readonly mountPath: string
}

function mountsOf({ volumeMounts }: TestContainer): readonly Mount[] {
  return Array.isArray(volumeMounts) ? volumeMounts : []
}

/** What the API server and others do to a pod between two rounds. */
function defaulted(pod: TestPod): TestPod {
  const initContainers = (pod.spec.initContainers ?? []).map((each) => ({
    terminationMessagePath: '/dev/termination-log',
    ...each,
    volumeMounts: [
      ...(Array.isArray(each['volumeMounts']) ? each['volumeMounts'] : []),
      { name: 'others', mountPath: '/var/run/others', readOnly: true },
    ],
  }))
  const volumes = Array.isArray(pod.spec['volumes']) ? pod.spec['volumes'] : []
  return { ...pod, spec: { ...pod.spec, initContainers, volumes: [...volumes, { name: 'others', projected: {} }] } }
}

describe('where', () => {
  test('T1: one sidecar, first among the init containers, with the app led to it', () => {
    const pod = inject(makePod({ initContainers: [container('migrate')] }))
    assert.deepEqual(initNames(pod), [SIDECAR_CONTAINER, 'migrate'])
    assert.deepEqual(envOf(pod, 'app'), [OUR_URL, BASE_URL])
    assert.deepEqual(envOf(pod, 'migrate'), [OUR_URL, BASE_URL])
    assert.equal(pod.metadata.annotations?.[ANNOTATIONS.budget], 'support')
    assert.equal(pod.metadata.annotations?.[ANNOTATIONS.injectionHash], injectionHash(BUDGET, SETTINGS))
    assert.deepEqual(podProblems(pod), [])
  })

  test('T4: the sidecar comes after what sets up a mesh, in whichever order the webhooks ran', () => {
    const meshes = { Istio: ['istio-init', 'istio-proxy'], Linkerd: ['linkerd-init', 'linkerd-proxy'] }
    for (const [mesh, names] of Object.entries(meshes)) {
      const before = inject(makePod({ initContainers: [...names.map((name) => container(name)), container('migrate')] }))
      assert.deepEqual(initNames(before), [...names, SIDECAR_CONTAINER, 'migrate'], `${mesh} first`)
      const ours = inject(makePod({ initContainers: [container('migrate')] }))
      const moved = {
        ...ours,
        spec: { ...ours.spec, initContainers: [...names.map((name) => container(name)), ...(ours.spec.initContainers ?? [])] },
      }
      const after = inject(moved)
      assert.deepEqual(after, moved, `${mesh} after us: nothing is left to do`)
      assert.deepEqual(initNames(after), initNames(before))
      for (const name of names) assert.equal(envOf(after, name), undefined)
    }
  })

  test('T4: the classic proxy of Istio among the containers is left alone', () => {
    const pod = inject(makePod({ initContainers: [container('istio-init')], containers: [container('app'), container('istio-proxy')] }))
    assert.deepEqual(initNames(pod), ['istio-init', SIDECAR_CONTAINER])
    assert.equal(envOf(pod, 'istio-proxy'), undefined)
  })

  test('T4: Vault comes after the sidecar, or before it where it asks to be first', () => {
    const vault = container('vault-agent-init')
    assert.deepEqual(initNames(inject(makePod({ initContainers: [container('migrate'), vault] }))), [
      SIDECAR_CONTAINER,
      'migrate',
      'vault-agent-init',
    ])
    const ours = inject(makePod({ initContainers: [container('migrate')] }))
    const vaultFirst = { ...ours, spec: { ...ours.spec, initContainers: [vault, ...(ours.spec.initContainers ?? [])] } }
    assert.deepEqual(inject(vaultFirst), vaultFirst)
    assert.deepEqual(podProblems(vaultFirst), [])
  })
})

describe('again', () => {
  test('T2: the same pod gives the same bytes, and its result nothing more', () => {
    const pod = makePod({ initContainers: [container('migrate')], volumes: [] }, { annotations: { a: 'b' } })
    assert.equal(JSON.stringify(plan(pod)), JSON.stringify(plan(pod)))
    const again = plan(inject(pod))
    assert.deepEqual(again.status === 'inject' && again.patch, [])
    const later = plan(defaulted(inject(pod)))
    assert.deepEqual(later.status === 'inject' && later.patch, [])
  })

  test('T3: a container that another webhook added meanwhile gets its variables, and there is no second sidecar', () => {
    const first = defaulted(inject(makePod()))
    const changed = {
      ...first,
      spec: {
        ...first.spec,
        containers: [...first.spec.containers, container('helper', { env: [{ name: 'X', value: '1' }] })],
        initContainers: [...(first.spec.initContainers ?? []), container('late')],
      },
    }
    const second = inject(changed)
    assert.deepEqual(initNames(second), [SIDECAR_CONTAINER, 'late'])
    assert.deepEqual(envOf(second, 'helper'), [OUR_URL, BASE_URL, { name: 'X', value: '1' }])
    assert.deepEqual(envOf(second, 'late'), [OUR_URL, BASE_URL])
    assert.deepEqual(envOf(second, 'app'), [OUR_URL, BASE_URL])
    assert.deepEqual(podProblems(second), [])
    assert.deepEqual(inject(second), second)
  })

  test('a pod that another version injected is brought up to date, without what others added being lost', () => {
    const old = defaulted(inject(makePod(), { settings: makeInjectionSettings({ sidecarImage: 'example.test/farebox-sidecar:0.0.9' }) }))
    const pod = inject(old)
    const sidecar = pod.spec.initContainers?.find(({ name }) => name === SIDECAR_CONTAINER)
    assert.equal(sidecar?.['image'], SETTINGS.sidecarImage)
    assert.match(JSON.stringify(sidecar?.['volumeMounts']), /"others"/)
    assert.equal(pod.metadata.annotations?.[ANNOTATIONS.injectionHash], injectionHash(BUDGET, SETTINGS))
  })

  test('T3: what another made of the sidecar since stays: an image from a mirror, when it is pulled, the way to its probes, a seccomp profile', () => {
    const first = inject(makePod())
    const [own] = first.spec.initContainers ?? []
    assert.ok(own !== undefined)
    const changes: readonly Readonly<Record<string, unknown>>[] = [
      { imagePullPolicy: 'Always' },
      { image: 'mirror.example.test/farebox-sidecar:0.1.0' },
      { startupProbe: { httpGet: { path: '/app-health/farebox/startupz', port: 15020 }, periodSeconds: 1 } },
      { livenessProbe: { exec: { command: ['true'] } } },
      { securityContext: { ...Object(own['securityContext']), seccompProfile: { type: 'Localhost', localhostProfile: 'x' } } },
    ]
    const other = makeInjectionSettings({ sidecarImage: 'example.test/farebox-sidecar:0.2.0' })
    for (const change of changes) {
      const changed: TestPod = { ...first, spec: { ...first.spec, initContainers: [{ ...own, ...change }] } }
      assert.deepEqual(inject(changed), changed, JSON.stringify(change))
      assert.deepEqual(inject(changed, { settings: other }), inject(makePod(), { settings: other }), 'another version makes it anew')
    }
    const opened = { ...first, spec: { ...first.spec, initContainers: [{ ...own, securityContext: { runAsNonRoot: false } }] } }
    assert.deepEqual(inject(opened).spec.initContainers, first.spec.initContainers, 'all else is ours')
  })

  test('resources that another gave the sidecar since stay', () => {
    const first = inject(makePod({ containers: [container('app', { resources: { requests: { cpu: '1' } } })] }))
    const resources = { requests: { cpu: '75m', memory: '96Mi' }, limits: { memory: '512Mi' } }
    const resized = {
      ...first,
      spec: { ...first.spec, initContainers: (first.spec.initContainers ?? []).map((each) => ({ ...each, resources })) },
    }
    const sidecar = inject(resized).spec.initContainers?.[0]
    assert.deepEqual(sidecar?.['resources'], resources)
    assert.match(JSON.stringify(sidecar?.['env']), /--max-old-space-size=307/)
  })
})

describe('whether', () => {
  test('a pod that no budget governs is left alone, and is told so only if it asked', () => {
    const asked = makePod({}, { labels: { [LABELS.inject]: 'enabled' } })
    assert.deepEqual(planInjection(PodSchema.parse(makePod()), PLACE, null, SETTINGS), { status: 'none', warnings: [] })
    assert.match(planInjection(PodSchema.parse(asked), PLACE, null, SETTINGS).warnings.join(), /no ConversationBudget of namespace "shop"/)
  })

  test('where a budget cannot be read, who makes a pod that no other governs is told that it may be one of its own', () => {
    const place = { ...PLACE, unreadable: ['desk'] }
    const { status, warnings } = planInjection(PodSchema.parse(makePod()), place, null, SETTINGS)
    assert.equal(status, 'none')
    assert.match(
      warnings.join(),
      /^farebox: no sidecar, .*ConversationBudget "desk" cannot be read by this version, and may select this pod; see its status$/,
    )
    assert.deepEqual(plan(makePod(), { place }).warnings, plan(makePod()).warnings)
  })

  test('T5: the label opts out; a value that says neither is told, and not taken for a yes', () => {
    assert.equal(skipped(makePod({}, { labels: { [LABELS.inject]: 'disabled' } })).reason, 'OptedOut')
    const invalid = skipped(makePod({}, { labels: { [LABELS.inject]: 'true' } }))
    assert.equal(invalid.reason, 'InvalidLabel')
    assert.match(invalid.message, /must be "enabled" or "disabled", not "true"/)
    assert.equal(plan(makePod({}, { labels: { [LABELS.inject]: 'enabled' } })).status, 'inject')
  })

  test('T6: hostNetwork, Windows and mirror pods have no sidecar, each with its reason', () => {
    assert.equal(skipped(makePod({ hostNetwork: true })).reason, 'HostNetwork')
    assert.equal(skipped(makePod({ os: { name: 'windows' } })).reason, 'Windows')
    assert.equal(skipped(makePod({ nodeSelector: { 'kubernetes.io/os': 'windows' } })).reason, 'Windows')
    assert.equal(skipped(makePod({}, { annotations: { 'kubernetes.io/config.mirror': 'x' } })).reason, 'MirrorPod')
  })

  test('T6: with a shared process namespace the key that the sidecar holds is not safe, which is told', () => {
    const pod = makePod({ shareProcessNamespace: true })
    assert.match(plan(pod, { budget: HOLDING }).warnings.join('\n'), /shareProcessNamespace/)
    assert.doesNotMatch(plan(pod).warnings.join('\n'), /shareProcessNamespace/)
  })

  test('T7: a container or volume of the pod that has our name is left alone', () => {
    for (const pod of [
      makePod({ containers: [container('app'), container(SIDECAR_CONTAINER)] }),
      makePod({ initContainers: [container(SIDECAR_CONTAINER)] }),
      makePod({ volumes: [{ name: VOLUMES.data, emptyDir: {} }] }),
      makePod({ containers: [container(SIDECAR_CONTAINER)] }, { annotations: { [ANNOTATIONS.injectionHash]: '0123456789abcdef' } }),
    ])
      assert.equal(skipped(pod).reason, 'UserOwnsContainer')
  })

  test('a container that mounts a volume of the sidecar would have its keys: the pod is left alone', () => {
    const mounts = (name: string) => container('app', { volumeMounts: [{ name, mountPath: '/keys' }] })
    for (const name of Object.values(VOLUMES)) {
      const { reason, message } = skipped(makePod({ containers: [mounts(name)] }), { budget: HOLDING })
      assert.equal(reason, 'UserOwnsContainer')
      assert.match(message, new RegExp(`container "app" mounts the volume "${name}", which is for the sidecar alone`))
      assert.equal(skipped(makePod({ initContainers: [mounts(name)] })).reason, 'UserOwnsContainer')
    }
    const ours = inject(makePod(), { budget: HOLDING })
    const later = { ...ours, spec: { ...ours.spec, containers: [mounts(VOLUMES.credentials)] } }
    assert.equal(skipped(later, { budget: HOLDING }).reason, 'UserOwnsContainer')
    assert.equal(plan(makePod({ containers: [mounts('others')] })).status, 'inject')
  })

  test('T17: where the pod may run on a node that is too old it has no sidecar; nodes that it keeps off do not count', () => {
    const old: OldNode = { kubelet: 'v1.30.14', labels: { 'kubernetes.io/os': 'linux', pool: 'old' }, taints: [] }
    const virtual: OldNode = {
      kubelet: 'v1.25.0-vk-azure-aci-1.6.2',
      labels: { type: 'virtual-kubelet' },
      taints: [{ key: 'virtual-kubelet.io/provider', value: 'azure', effect: 'NoSchedule' }],
    }
    const reason = (node: OldNode, spec: Partial<TestPod['spec']> = {}): string => {
      const planned = plan(makePod(spec), { place: { ...PLACE, oldNodes: [node] } })
      return planned.status === 'skip' ? planned.reason : planned.status
    }
    const tolerating = (toleration: object) => ({ tolerations: [toleration] })
    assert.equal(reason(old), 'NativeUnsupported')
    assert.equal(reason(old, { nodeSelector: { pool: 'old' } }), 'NativeUnsupported')
    assert.equal(reason(old, { nodeSelector: { pool: 'new' } }), 'inject')
    assert.equal(reason(old, { nodeSelector: { zone: 'a' } }), 'inject')
    assert.equal(reason({ ...old, labels: { 'kubernetes.io/os': 'windows' } }), 'inject')
    assert.equal(reason(virtual), 'inject')
    for (const toleration of [
      { operator: 'Exists' },
      { key: 'virtual-kubelet.io/provider', operator: 'Exists' },
      { key: 'virtual-kubelet.io/provider', operator: 'Equal', value: 'azure', effect: 'NoSchedule' },
      { key: 'virtual-kubelet.io/provider', value: 'azure', effect: '' },
    ])
      assert.equal(reason(virtual, tolerating(toleration)), 'NativeUnsupported', JSON.stringify(toleration))
    for (const toleration of [
      { key: 'other', operator: 'Exists' },
      { key: 'virtual-kubelet.io/provider', value: 'alibaba' },
      { operator: 'Exists', effect: 'NoExecute' },
    ])
      assert.equal(reason(virtual, tolerating(toleration)), 'inject', JSON.stringify(toleration))
    for (const taint of [
      { key: 'node.kubernetes.io/unschedulable', effect: 'NoSchedule' },
      { key: 'node.kubernetes.io/not-ready', effect: 'NoExecute' },
      { key: 'dear', effect: 'PreferNoSchedule' },
    ])
      assert.equal(reason({ ...old, taints: [taint] }), 'NativeUnsupported', 'tomorrow it may run there')
  })

  test('T17: a pod that has its sidecar keeps it, though it may run on a node that is too old by now', () => {
    const old: OldNode = { kubelet: 'v1.30.14', labels: { 'kubernetes.io/os': 'linux' }, taints: [] }
    const place = { ...PLACE, oldNodes: [old] }
    const ours = inject(makePod())
    const changed = { ...ours, spec: { ...ours.spec, containers: [...ours.spec.containers, container('late')] } }
    const again = inject(changed, { place })
    assert.deepEqual(initNames(again), [SIDECAR_CONTAINER])
    assert.deepEqual(envOf(again, 'late'), [OUR_URL, BASE_URL])
    assert.equal(again.metadata.annotations?.[ANNOTATIONS.skipped], undefined)
  })

  test('T17: a kubelet is too old below the floor; one that cannot be read is taken for new enough', () => {
    for (const [kubelet, isOld] of [
      ['v1.30.14', true],
      ['v1.31.0', false],
      ['v1.34.1-eks-abc', false],
      ['1.29', true],
      ['v2.0.0', false],
      ['', false],
      ['unreadable', false],
    ] as const)
      assert.equal(isTooOld(kubelet), isOld, kubelet)
  })

  test('a pod that is skipped has nothing of the one that it was copied from', () => {
    const { annotations } = inject(makePod({ hostPID: true }), { budget: HOLDING }).metadata
    const pod = makePod({ hostNetwork: true }, { annotations: { ...annotations, mine: 'too' } })
    const planned = plan(pod)
    assert.ok(planned.status === 'skip')
    assert.deepEqual(Object.keys(applyPatch(pod, planned.patch).metadata.annotations ?? {}).toSorted(), [
      'cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes',
      ANNOTATIONS.skipped,
      ANNOTATIONS.warnings,
      'mine',
    ])
  })

  test('the cluster autoscaler may remove the node of a pod in spite of our volume, unless the books are on it', () => {
    const key = 'cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes'
    const said = (before: string | null, options: Parameters<typeof plan>[1] = {}): string | undefined =>
      inject(makePod({}, { annotations: before === null ? {} : { [key]: before } }), options).metadata.annotations?.[key]
    assert.equal(said(null), VOLUMES.data)
    assert.equal(said('cache,tmp'), `cache,tmp,${VOLUMES.data}`)
    assert.equal(said(`${VOLUMES.data},cache`), `${VOLUMES.data},cache`)
    const embedded = { budget: makeBudget({ spec: { store: { kind: 'Embedded' } } }) }
    assert.equal(said(null, embedded), undefined)
    assert.equal(said('cache', embedded), 'cache')
  })

  test('a template copied from a pod that was skipped is injected like any other', () => {
    const pod = inject(makePod({}, { annotations: { [ANNOTATIONS.skipped]: 'HostNetwork' } }))
    assert.equal(pod.metadata.annotations?.[ANNOTATIONS.skipped], undefined)
  })
})

describe('what there is to warn of', () => {
  const said = (pod: TestPod) => pod.metadata.annotations?.[ANNOTATIONS.warnings]
  const key = { name: 'OPENAI_API_KEY', value: 'sk-1' }

  test('it stands on the pod too, for whoever a controller does not show it, and the next round adds to it', () => {
    assert.equal(said(inject(makePod())), undefined)
    const first = inject(makePod({ containers: [container('app', { env: [key] })] }), { budget: HOLDING })
    assert.match(said(first) ?? '', /^container "app": OPENAI_API_KEY /)
    assert.doesNotMatch(said(first) ?? '', /sk-1/)
    assert.deepEqual(inject(first, { budget: HOLDING }), first)
    const helper = container('helper', { env: [{ name: 'OPENAI_BASE_URL', value: 'https://elsewhere.example.test' }] })
    const second = inject({ ...first, spec: { ...first.spec, containers: [...first.spec.containers, helper] } }, { budget: HOLDING })
    assert.match(said(second) ?? '', /^container "app": OPENAI_API_KEY .*\ncontainer "helper": OPENAI_BASE_URL /)
  })

  test('that the pod may not find the operator by its name is told', () => {
    const pod = makePod({ containers: [container('app')], dnsPolicy: 'Default' })
    assert.match(plan(pod).warnings.join(), /with dnsPolicy Default /)
    assert.match(inject(pod).metadata.annotations?.[ANNOTATIONS.warnings] ?? '', /with dnsPolicy Default /)
  })

  test('it is short, and what was said of another pod goes', () => {
    assert.equal(said(inject(makePod({}, { annotations: { [ANNOTATIONS.warnings]: 'old' } }))), undefined)
    const containers = Array.from({ length: 20 }, (_, index) => container(`app-${index}`, { env: [key] }))
    const many = inject(makePod({ containers }), { budget: HOLDING })
    assert.equal(said(many)?.length, 900)
    assert.deepEqual(inject(many, { budget: HOLDING }), many)
  })

  test('that the pod waits for a budget which is not in force is told first, with the reason', () => {
    const said = { status: 'False', lastTransitionTime: '2026-11-24T12:00:00Z', message: 'there is no PricingTier "gold"' } as const
    const conditions = [
      { ...said, type: 'Accepted', reason: 'TierNotFound' },
      { ...said, type: 'Programmed', reason: 'NotAccepted' },
    ]
    const budget = { ...BUDGET, status: { conditions } }
    const why = 'this pod waits until ConversationBudget "support" is in force: there is no PricingTier "gold"'
    assert.deepEqual(plan(makePod(), { budget }).warnings.slice(1), [`farebox: ${why}`])
    const injected = inject(makePod(), { budget })
    assert.equal(injected.metadata.annotations?.[ANNOTATIONS.warnings], why)
    assert.deepEqual(inject(injected, { budget }), injected)
    const inForce = { ...budget, status: { conditions, config: { version: 1, hash: '1'.repeat(16) } } }
    assert.equal(plan(makePod(), { budget: inForce }).warnings.length, 1, 'the last good config')
  })

  test('a pod that is skipped says why in words', () => {
    const pod = makePod({ hostNetwork: true })
    const planned = plan(pod)
    assert.match(said(applyPatch(pod, planned.status === 'skip' ? planned.patch : [])) ?? '', /^with hostNetwork/)
  })
})

describe('the container', () => {
  const sidecarOf = (pod: TestPod) => pod.spec.initContainers?.find(({ name }) => name === SIDECAR_CONTAINER) ?? container('none')

  test('it has no token for the API server: something of ours is mounted there, also where an older version left the place free', () => {
    const at = '/var/run/secrets/kubernetes.io/serviceaccount'
    const fresh = inject(makePod())
    const withToken = { name: 'kube-api-access-x', mountPath: at, readOnly: true }
    const older = {
      ...fresh,
      spec: {
        ...fresh.spec,
        initContainers: (fresh.spec.initContainers ?? []).map((each) => ({
          ...each,
          volumeMounts: [...mountsOf(each).filter(({ mountPath }) => mountPath !== at), withToken],
        })),
      },
    }
    for (const pod of [fresh, inject(older)])
      assert.deepEqual(
        mountsOf(sidecarOf(pod)).filter(({ mountPath }) => mountPath === at),
        [{ name: VOLUMES.token, mountPath: at, readOnly: true }],
      )
  })

  test('T8: it may run where Pod Security is restricted, and has no user of its own', () => {
    assert.deepEqual(sidecarOf(inject(makePod()))['securityContext'], {
      runAsNonRoot: true,
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
      seccompProfile: { type: 'RuntimeDefault' },
    })
  })

  test('in a pod that runs as root it does not, since it refuses to be root', () => {
    const { securityContext } = sidecarOf(inject(makePod({ securityContext: { runAsUser: 0 } })))
    assert.deepEqual(JSON.parse(JSON.stringify(securityContext)).runAsUser, 65_532)
  })

  test('it has a startup and a liveness probe, and none that could take the app out of its Services', () => {
    const sidecar = sidecarOf(inject(makePod()))
    assert.equal(sidecar['restartPolicy'], 'Always')
    assert.ok(sidecar['startupProbe'] !== undefined && sidecar['livenessProbe'] !== undefined)
    assert.equal(sidecar['readinessProbe'], undefined)
  })

  test("it knows the chart's store, yours, or none", () => {
    const runtimeOf = (store: unknown) => {
      const pod = inject(makePod(), { budget: makeBudget({ spec: { store } }) })
      const env = JSON.stringify(sidecarOf(pod)['env'])
      const volumes = Array.isArray(pod.spec['volumes']) ? pod.spec['volumes'] : []
      return {
        sources: volumes.find((volume: { readonly name: string }) => volume.name === VOLUMES.runtime)?.projected?.sources,
        names: ['FAREBOX_STORE_FILE', 'FAREBOX_STORE_CA', 'FAREBOX_IDENTITY_KEY_FILE'].filter((name) => env.includes(name)),
      }
    }
    assert.deepEqual(runtimeOf({}), {
      sources: [
        {
          secret: {
            name: RUNTIME_SECRET,
            items: [
              { key: 'store', path: 'store' },
              { key: 'identity-key', path: 'identity-key' },
            ],
          },
        },
        { secret: { name: RUNTIME_SECRET, items: [{ key: 'store-ca.crt', path: 'store-ca.crt' }], optional: true } },
      ],
      names: ['FAREBOX_STORE_FILE', 'FAREBOX_STORE_CA', 'FAREBOX_IDENTITY_KEY_FILE'],
    })
    assert.deepEqual(runtimeOf({ redis: { secretRef: { name: 'mine', key: 'url' } } }), {
      sources: [
        { secret: { name: 'mine', items: [{ key: 'url', path: 'store' }] } },
        { secret: { name: 'mine', items: [{ key: 'ca.crt', path: 'store-ca.crt' }], optional: true } },
      ],
      names: ['FAREBOX_STORE_FILE', 'FAREBOX_STORE_CA'],
    })
    assert.deepEqual(runtimeOf({ kind: 'Embedded' }), { sources: undefined, names: [] })
  })

  test('it has the keys by which claims are signed, whole and by themselves, and no other container has', () => {
    const claim = { token: { format: 'HMAC', secretRef: { name: 'claim-keys' } } }
    const at = '/var/run/secrets/farebox/claim-keys'
    const pod = inject(makePod(), { budget: makeBudget({ spec: { tier: { default: 'pro', claim } } }) })
    const volumes = Array.isArray(pod.spec['volumes']) ? pod.spec['volumes'] : []
    assert.deepEqual(
      volumes.filter(({ name }: { readonly name: string }) => name === VOLUMES.claimKeys),
      [{ name: VOLUMES.claimKeys, secret: { secretName: 'claim-keys' } }],
    )
    const mounts = (each: TestContainer) => mountsOf(each).filter(({ name }) => name === VOLUMES.claimKeys)
    assert.deepEqual(mounts(sidecarOf(pod)), [{ name: VOLUMES.claimKeys, mountPath: at, readOnly: true }])
    assert.deepEqual(pod.spec.containers.flatMap(mounts), [])
    assert.match(JSON.stringify(sidecarOf(pod)['env']), new RegExp(`{"name":"FAREBOX_CLAIM_KEYS","value":"${at}"}`))
    const plain = JSON.stringify(inject(makePod(), { budget: makeBudget({ spec: { tier: { default: 'pro', claim: {} } } }) }))
    assert.doesNotMatch(plain, /claim-keys|CLAIM_KEYS/)
  })

  test('it knows how long to keep the ledger, where that is not for good', () => {
    const envOf = (ledgerDays: number | null) =>
      JSON.stringify(sidecarOf(inject(makePod(), { settings: makeInjectionSettings({ ledgerDays }) }))['env'])
    assert.match(envOf(100), /{"name":"FAREBOX_LEDGER_DAYS","value":"100"}/)
    assert.doesNotMatch(envOf(null), /LEDGER/)
  })

  test('T16: a pull secret is on the pod once', () => {
    const settings = makeInjectionSettings({ pullSecrets: ['regcred', 'regcred', 'other'] })
    assert.deepEqual(inject(makePod({ imagePullSecrets: [{ name: 'regcred' }] }), { settings }).spec['imagePullSecrets'], [
      { name: 'regcred' },
      { name: 'other' },
    ])
    assert.deepEqual(inject(makePod(), { settings }).spec['imagePullSecrets'], [{ name: 'regcred' }, { name: 'other' }])
  })
})

describe('the environment of the app', () => {
  const withEnv = (env: readonly unknown[], fields = {}) => makePod({ containers: [container('app', { env, ...fields })] })

  test('a budget without upstreams has base URLs for the SDKs of the usual providers, ours before those of the SDKs', () => {
    const env = envOf(inject(makePod(), { budget: makeBudget() }), 'app')
    assert.deepEqual(Array.isArray(env) ? env.map(({ name }: { readonly name: string }) => name) : env, [
      'FAREBOX_BASE_URL_OPENAI',
      'FAREBOX_BASE_URL_ANTHROPIC',
      'FAREBOX_BASE_URL_GEMINI',
      'OPENAI_BASE_URL',
      'ANTHROPIC_BASE_URL',
      'GOOGLE_GEMINI_BASE_URL',
    ])
  })

  test('T12: a base URL that is set already stays, with a warning', () => {
    const own = { name: 'OPENAI_BASE_URL', value: 'https://gateway.example.test/v1' }
    const pod = withEnv([own])
    assert.deepEqual(envOf(inject(pod), 'app'), [OUR_URL, own])
    assert.match(plan(pod).warnings.join('\n'), /container "app": OPENAI_BASE_URL is set and stays/)
  })

  test('T12: with envFrom it is told whose value wins', () => {
    const pod = withEnv([], { envFrom: [{ configMapRef: { name: 'settings' } }] })
    assert.match(plan(pod).warnings.join('\n'), /has envFrom: if it brings OPENAI_BASE_URL, the sidecar's value wins/)
  })

  test('T12: ours come first, so that a value of the app can refer to them', () => {
    const own = { name: 'MODELS', value: '$(OPENAI_BASE_URL)/models' }
    assert.deepEqual(envOf(inject(withEnv([own])), 'app'), [OUR_URL, BASE_URL, own])
  })

  test('a variable that an SDK reads first is told of', () => {
    const warnings = plan(withEnv([{ name: 'OPENAI_API_BASE', value: 'https://x.example.test' }])).warnings.join('\n')
    assert.match(warnings, /OPENAI_API_BASE is set and stays/)
  })

  test('a variable that leads to the sidecar, by its address or by a variable that does, is as it should be', () => {
    const said = (...env: readonly unknown[]) => plan(withEnv(env), { budget: makeBudget() }).warnings.slice(1).join('\n')
    for (const env of [
      [{ name: 'OPENAI_API_BASE', value: '$(OPENAI_BASE_URL)' }],
      [{ name: 'ANTHROPIC_BASE_URL', value: '$(FAREBOX_BASE_URL_ANTHROPIC)' }],
      [{ name: 'GOOGLE_GEMINI_BASE_URL', value: 'http://localhost:4180/gemini' }],
      [
        { name: 'GATEWAY', value: '$(FAREBOX_BASE_URL_OPENAI)/' },
        { name: 'OPENAI_BASE_URL', value: '$(GATEWAY)' },
        { name: 'OPENAI_API_BASE', value: '$(OPENAI_BASE_URL)' },
      ],
    ])
      assert.equal(said(...env), '')
    const own = { name: 'OPENAI_BASE_URL', value: 'https://gateway.example.test/v1' }
    for (const env of [
      [own, { name: 'OPENAI_API_BASE', value: '$(OPENAI_BASE_URL)' }],
      [
        { name: 'OPENAI_API_BASE', value: '$(GATEWAY)' },
        { name: 'GATEWAY', value: 'http://127.0.0.1:4180/openai/v1' },
      ],
      [{ name: 'OPENAI_API_BASE', value: '$$(OPENAI_BASE_URL)' }],
      [{ name: 'OPENAI_API_BASE', value: 'http://127.0.0.1:4180@gateway.example.test/' }],
      [{ name: 'OPENAI_API_BASE', value: 'http://localhost:8080/v1' }],
      [{ name: 'OPENAI_API_BASE', valueFrom: { configMapKeyRef: { name: 'a', key: 'b' } } }],
      [
        { name: 'GATEWAY', value: 'http://127.0.0.1:4180/openai/v1' },
        { name: 'GATEWAY', valueFrom: { configMapKeyRef: { name: 'a', key: 'b' } } },
        { name: 'OPENAI_API_BASE', value: '$(GATEWAY)' },
      ],
    ])
      assert.match(said(...env), /OPENAI_API_BASE is set and stays/, JSON.stringify(env))
  })

  test('variables that refer to each other are followed no further than an address is long', () => {
    const doubling = Array.from({ length: 2_000 }, (_, index) => ({ name: `V${index + 1}`, value: `$(V${index})$(V${index})` }))
    const open = { name: 'OPENAI_API_BASE', value: '$('.repeat(200_000) }
    const before = process.cpuUsage()
    const { warnings } = plan(withEnv([{ name: 'V0', value: 'laugh' }, ...doubling, open]), { budget: makeBudget() })
    const { user } = process.cpuUsage(before)
    assert.match(warnings.join('\n'), /OPENAI_API_BASE is set and stays/)
    assert.ok(user < 2_000_000, `${user} us of CPU`)
  })

  test('a proxy that would get the calls to the sidecar is told of', () => {
    const proxy = { name: 'HTTP_PROXY', value: 'http://proxy:3128' }
    assert.match(plan(withEnv([proxy])).warnings.join('\n'), /HTTP_PROXY is set without 127\.0\.0\.1 in NO_PROXY/)
    assert.doesNotMatch(plan(withEnv([proxy, { name: 'NO_PROXY', value: 'localhost,127.0.0.1' }])).warnings.join('\n'), /PROXY/)
  })

  test('containers that are excluded, of other injectors, or started before the sidecar are left alone', () => {
    const budget = makeBudget({ spec: { upstreams: [OPENAI], injection: { excludeContainers: ['quiet'] } } })
    const others = [container('app'), container('quiet'), container('daprd'), container('vault-agent')]
    const pod = inject(
      makePod({ containers: others, initContainers: [container('setup'), container('istio-proxy'), container('migrate')] }),
      { budget },
    )
    assert.deepEqual(initNames(pod), ['setup', 'istio-proxy', SIDECAR_CONTAINER, 'migrate'])
    for (const name of ['quiet', 'daprd', 'vault-agent', 'setup', 'istio-proxy']) assert.equal(envOf(pod, name), undefined, name)
    for (const name of ['app', 'migrate']) assert.deepEqual(envOf(pod, name), [OUR_URL, BASE_URL], name)
  })

  test('a key that the sidecar holds is replaced in the app by one that is worth nothing, with a warning', () => {
    const pods = [
      withEnv([{ name: 'OPENAI_API_KEY', value: 'sk-real' }]),
      withEnv([{ name: 'OPENAI_API_KEY', valueFrom: { secretKeyRef: { name: 'openai', key: 'api-key' } } }]),
    ]
    for (const pod of pods) {
      assert.deepEqual(envOf(inject(pod, { budget: HOLDING }), 'app'), [
        OUR_URL,
        BASE_URL,
        { name: 'OPENAI_API_KEY', value: WORTHLESS_KEY },
      ])
      assert.match(plan(pod, { budget: HOLDING }).warnings.join('\n'), /OPENAI_API_KEY is replaced/)
      assert.deepEqual(envOf(inject(pod), 'app'), [OUR_URL, BASE_URL, ...JSON.parse(JSON.stringify(pod.spec.containers[0]?.['env']))])
    }
    const injected = inject(makePod(), { budget: HOLDING })
    assert.deepEqual(envOf(injected, 'app'), [OUR_URL, BASE_URL, { name: 'OPENAI_API_KEY', value: WORTHLESS_KEY }])
    assert.match(JSON.stringify(injected.spec['volumes']), /"name":"openai","items":\[\{"key":"api-key","path":"openai"\}\]/)
    const again = plan(injected, { budget: HOLDING })
    assert.equal(again.warnings.length, 1)
    assert.deepEqual(again.status === 'inject' && again.patch, [])
  })

  test("values of an upstream's headers are files of the sidecar alone, beside the keys; plain ones are none", () => {
    const secretRef = { name: 'gateway', key: 'portkey' }
    const headers = [
      { name: 'x-portkey-api-key', secretRef },
      { name: 'x-portkey-provider', value: 'openai' },
    ]
    const budget = makeBudget({ spec: { upstreams: [{ ...OPENAI, headers }] } })
    const pod = inject(makePod(), { budget })
    const volumes = JSON.stringify(pod.spec['volumes'])
    assert.match(
      volumes,
      /"sources":\[\{"secret":\{"name":"gateway","items":\[\{"key":"portkey","path":"openai\.x-portkey-api-key"\}\]\}\}\]/,
    )
    assert.deepEqual(envOf(pod, 'app'), [OUR_URL, BASE_URL], 'the app keeps the key of its own')
    assert.match(JSON.stringify(pod.spec.initContainers), /FAREBOX_CREDENTIALS/)
    assert.equal(sharedKeys(makePod({ volumes: [{ name: 'keys', secret: { secretName: 'gateway' } }] }), budget), 'openai')
    const plain = makeBudget({ spec: { upstreams: [{ ...OPENAI, headers: headers.slice(1) }] } })
    assert.doesNotMatch(JSON.stringify(inject(makePod(), { budget: plain })), /FAREBOX_CREDENTIALS|farebox-credentials/)
    const none = makeBudget({ spec: { upstreams: [OPENAI] } })
    assert.equal(injectionHash(plain, SETTINGS), injectionHash(none, SETTINGS), 'running pods have it')
    assert.notEqual(injectionHash(budget, SETTINGS), injectionHash(none, SETTINGS))
  })

  const sharedKeys = (pod: TestPod, budget = HOLDING) => inject(pod, { budget }).metadata.annotations?.[ANNOTATIONS.sharedKeys]

  test('a key in a container that is left alone is told of, and left: the pod is marked', () => {
    const budget = makeBudget({
      spec: {
        upstreams: [
          { ...OPENAI, credential: { secretRef: { name: 'openai', key: 'api-key' } } },
          {
            name: 'claude',
            provider: 'anthropic',
            baseURL: 'https://api.anthropic.com/v1',
            credential: { secretRef: { name: 'claude', key: 'k' } },
          },
        ],
        injection: { excludeContainers: ['quiet'] },
      },
    })
    const real = { name: 'OPENAI_API_KEY', value: 'sk-real' }
    const reference = { name: 'ANTHROPIC_API_KEY', valueFrom: { secretKeyRef: { name: 'claude', key: 'k' } } }
    const cases: readonly (readonly [Partial<TestPod['spec']>, string, string])[] = [
      [{ containers: [container('app'), container('quiet', { env: [real] })] }, 'quiet', 'openai'],
      [{ containers: [container('app'), container('daprd', { env: [reference, real] })] }, 'daprd', 'claude,openai'],
      [{ containers: [container('app'), container('daprd', { envFrom: [{ secretRef: { name: 'claude' } }] })] }, 'daprd', 'claude'],
      [{ initContainers: [container('setup', { env: [real] }), container('istio-proxy')] }, 'setup', 'openai'],
    ]
    for (const [spec, name, upstreams] of cases) {
      const pod = makePod(spec)
      const injected = inject(pod, { budget })
      const env = [...(pod.spec.initContainers ?? []), ...pod.spec.containers].find((each) => each.name === name)?.['env']
      assert.deepEqual(envOf(injected, name), env, 'as it was')
      assert.match(plan(pod, { budget }).warnings.join('\n'), new RegExp(`container "${name}": .*take it away`))
      assert.equal(injected.metadata.annotations?.[ANNOTATIONS.sharedKeys], upstreams)
      assert.deepEqual(inject(injected, { budget }), injected)
    }
    const without = makePod({
      containers: [container('app', { env: [real] }), container('quiet', { env: [{ ...real, value: WORTHLESS_KEY }] })],
    })
    assert.equal(sharedKeys(without, budget), undefined, 'one is replaced, and the other worth nothing')
    assert.equal(sharedKeys(makePod(cases[0]?.[0]), BUDGET), undefined, 'where keys pass through the app has its own')
  })

  test('a pod that may have the key in another way is marked as well, until it has not', () => {
    const env = [{ name: 'MY_KEY', valueFrom: { secretKeyRef: { name: 'openai', key: 'api-key' } } }]
    assert.equal(sharedKeys(withEnv(env)), 'openai')
    assert.equal(sharedKeys(withEnv([], { envFrom: [{ secretRef: { name: 'openai' } }] })), 'openai')
    assert.equal(sharedKeys(makePod({ volumes: [{ name: 'keys', secret: { secretName: 'openai' } }] })), 'openai')
    assert.equal(sharedKeys(makePod({ shareProcessNamespace: true })), 'openai')
    assert.equal(sharedKeys(makePod({ hostPID: true })), 'openai')
    assert.equal(sharedKeys(makePod({}, { annotations: { [ANNOTATIONS.sharedKeys]: 'old' } })), undefined)
  })

  test('the real key under another name, by envFrom or in a volume is told of', () => {
    const reference = { name: 'MY_KEY', valueFrom: { secretKeyRef: { name: 'openai', key: 'api-key' } } }
    const pod = makePod({
      containers: [container('app', { env: [reference], envFrom: [{ secretRef: { name: 'openai' } }] })],
      volumes: [{ name: 'keys', secret: { secretName: 'openai' } }],
    })
    const { warnings } = plan(pod, { budget: HOLDING })
    for (const pattern of [/MY_KEY is the key/, /envFrom brings Secret "openai"/, /a volume brings Secret "openai"/])
      assert.match(warnings.join('\n'), pattern)
    assert.ok(warnings.every((warning) => warning.length <= 256 && warning.startsWith('farebox: ')))
  })
})

describe('the hash', () => {
  test('it changes with what a pod gets, and with nothing that reaches running pods', () => {
    const signedBy = (name: string) =>
      makeBudget({ spec: { tier: { default: 'pro', claim: { token: { format: 'JWT', secretRef: { name } } } } } })
    const hash = injectionHash(makeBudget(), SETTINGS)
    const changed = [
      injectionHash(makeBudget(), makeInjectionSettings({ sidecarImage: 'example.test/farebox-sidecar:0.2.0' })),
      injectionHash(makeBudget(), makeInjectionSettings({ pullSecrets: ['regcred'] })),
      injectionHash(makeBudget(), makeInjectionSettings({ ledgerDays: 100 })),
      injectionHash(BUDGET, SETTINGS),
      injectionHash(HOLDING, SETTINGS),
      injectionHash(signedBy('keys'), SETTINGS),
      injectionHash(signedBy('other-keys'), SETTINGS),
      injectionHash(makeBudget({ name: 'other' }), SETTINGS),
      injectionHash(makeBudget({ spec: { store: { kind: 'Embedded' } } }), SETTINGS),
      injectionHash(makeBudget({ spec: { injection: { excludeContainers: ['x'] } } }), SETTINGS),
    ]
    assert.equal(new Set([hash, ...changed]).size, changed.length + 1)
    const live = makeBudget({
      spec: {
        tier: { default: 'basic', claim: { header: 'x-plan' } },
        mode: 'Observe',
        onStale: { after: '1h' },
        injection: { mode: 'Required' },
      },
    })
    assert.equal(injectionHash(live, SETTINGS), hash)
  })
})

describe('any pod', () => {
  const claim = { token: { format: 'HMAC', secretRef: { name: 'claim-keys' } } }
  const embedded = makeBudget({ spec: { store: { kind: 'Embedded' }, tier: { default: 'pro', claim } } })
  const budgets = fc.constantFrom(BUDGET, HOLDING, embedded)
  const settings = makeInjectionSettings({ pullSecrets: ['regcred'] })

  /** Takes away what is ours; a key that was replaced cannot be had back. */
  function withoutOurs(pod: TestPod, original: TestPod): TestPod {
    const originals = new Map([...(original.spec.initContainers ?? []), ...original.spec.containers].map((each) => [each.name, each]))
    const volumes: readonly string[] = Object.values(VOLUMES)
    const { budget, injectionHash, sidecarVersion, warnings, sharedKeys } = ANNOTATIONS
    const evictable = 'cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes'
    const annotations: readonly string[] = [budget, injectionHash, sidecarVersion, warnings, sharedKeys, evictable]
    const stripped = (each: TestContainer): TestContainer => {
      const before = originals.get(each.name)?.['env']
      const known = new Map(Array.isArray(before) ? before.map((entry: { readonly name: string }) => [entry.name, entry]) : [])
      const env = (Array.isArray(each['env']) ? each['env'] : [])
        .filter((entry: { readonly name: string }) => known.has(entry.name))
        .map((entry: { readonly name: string; readonly value: string }) => (entry.value === WORTHLESS_KEY ? known.get(entry.name) : entry))
      const { env: _env, ...rest } = each
      return before === undefined ? (env.length === 0 ? { ...rest, name: each.name } : each) : { ...rest, name: each.name, env }
    }
    const keep = <T>(list: unknown, isKept: (entry: T) => boolean): readonly T[] => (Array.isArray(list) ? list.filter(isKept) : [])
    return {
      metadata: {
        ...pod.metadata,
        annotations: Object.fromEntries(Object.entries(pod.metadata.annotations ?? {}).filter(([key]) => !annotations.includes(key))),
      },
      spec: {
        ...pod.spec,
        containers: pod.spec.containers.map(stripped),
        initContainers: keep<TestContainer>(pod.spec.initContainers, ({ name }) => name !== SIDECAR_CONTAINER).map(stripped),
        volumes: keep<{ readonly name: string }>(pod.spec['volumes'], ({ name }) => !volumes.includes(name)),
        imagePullSecrets: original.spec['imagePullSecrets'] ?? [],
      },
    }
  }

  const withLists = (pod: TestPod): TestPod => ({
    metadata: { ...pod.metadata, annotations: pod.metadata.annotations ?? {} },
    spec: { ...pod.spec, initContainers: pod.spec.initContainers ?? [], imagePullSecrets: pod.spec['imagePullSecrets'] ?? [] },
  })

  test('T18: any valid pod stays valid, and without what is ours it is what it was', () => {
    fc.assert(
      fc.property(anyPod, budgets, (pod, budget) => {
        assert.deepEqual(podProblems(pod), [])
        const injected = inject(pod, { budget, settings })
        assert.deepEqual(podProblems(injected), [])
        assert.equal(initNames(injected).filter((name) => name === SIDECAR_CONTAINER).length, 1)
        assert.deepEqual(withoutOurs(injected, pod), withLists(pod))
        assert.equal(qosClass(injected), qosClass(pod)) // T10
        assert.deepEqual(inject(injected, { budget, settings }), injected)
      }),
      { numRuns: 300 },
    )
  })
})
