/** Pods and budgets as the API server would hand them to a webhook, and what it would say against a pod. */
import { ConversationBudgetSchema } from '@farebox/crds/conversation-budget.ts'
import type { ConversationBudget } from '@farebox/crds/conversation-budget.ts'
import { ResourceSettingsSchema } from '@farebox/operator/core/resources.ts'
import type { InjectionSettings } from '@farebox/operator/core/injection.ts'

export interface BudgetParts {
  readonly name?: string
  readonly namespace?: string
  readonly createdAt?: string
  readonly spec?: Readonly<Record<string, unknown>>
}

/** Selects `app: chat` in namespace `shop`. */
export function makeBudget({ name = 'support', namespace = 'shop', createdAt, spec }: BudgetParts = {}): ConversationBudget {
  return ConversationBudgetSchema.parse({
    apiVersion: 'farebox.dev/v1alpha1',
    kind: 'ConversationBudget',
    metadata: { name, namespace, ...(createdAt === undefined ? {} : { creationTimestamp: createdAt }) },
    spec: { selector: { matchLabels: { app: 'chat' } }, tier: { default: 'pro' }, ...spec },
  })
}

export function makeInjectionSettings(parts: Partial<InjectionSettings> = {}): InjectionSettings {
  return {
    sidecarImage: 'example.test/farebox-sidecar:0.1.0',
    sidecarVersion: '0.1.0',
    pullPolicy: 'IfNotPresent',
    resources: ResourceSettingsSchema.parse({ limits: { memory: '256Mi' } }),
    pullSecrets: [],
    deliveryUrl: 'https://farebox-operator.farebox-system.svc:9444',
    logLevel: 'info',
    ledgerDays: null,
    ...parts,
  }
}

type Fields = Readonly<Record<string, unknown>>

export interface TestContainer extends Fields {
  readonly name: string
}
export interface TestPod {
  readonly metadata: Fields & {
    readonly labels?: Readonly<Record<string, string>>
    readonly annotations?: Readonly<Record<string, string>>
  }
  readonly spec: Fields & { readonly containers: readonly TestContainer[]; readonly initContainers?: readonly TestContainer[] }
}

/** One container `app`, labelled `app: chat`. */
export function makePod(spec: Partial<TestPod['spec']> = {}, metadata: TestPod['metadata'] = {}): TestPod {
  return {
    metadata: { generateName: 'chat-', ...metadata, labels: { app: 'chat', ...metadata.labels } },
    spec: { containers: [{ name: 'app', image: 'example.test/app:1' }], ...spec },
  }
}

/** What https://github.com/kubernetes/kubernetes/blob/master/pkg/apis/core/validation/validation.go asks of what an injection touches. */
export function podProblems(pod: TestPod): readonly string[] {
  const { containers, initContainers = [], volumes, imagePullSecrets } = pod.spec
  const all = [...initContainers, ...containers]
  const volumeNames = named(volumes)
  return [
    ...repeated(all.map(({ name }) => name)).map((name) => `two containers are called ${name}`),
    ...repeated(volumeNames).map((name) => `two volumes are called ${name}`),
    ...repeated(named(imagePullSecrets)).map((name) => `pull secret ${name} is there twice`),
    ...containers.filter(({ restartPolicy }) => restartPolicy !== undefined).map(({ name }) => `${name} must not have a restart policy`),
    ...all.flatMap((container) => containerProblems(container, initContainers, volumeNames)),
  ]
}

/** As https://github.com/kubernetes/kubernetes/blob/master/pkg/apis/core/v1/helper/qos/qos.go has it: by the sums over a pod. */
export function qosClass({ spec }: TestPod): 'Guaranteed' | 'Burstable' | 'BestEffort' {
  const all = [...(spec.initContainers ?? []), ...spec.containers].map((each) => each['resources'])
  const counted = spec['resources'] === undefined ? all : [spec['resources']]
  const sums = { requests: new Map<string, number>(), limits: new Map<string, number>() }
  let isGuaranteed = true
  for (const resources of counted) {
    const limits = computeOf(isMap(resources) ? resources['limits'] : null)
    // What has a limit and no request requests its limit: the API server says so before anybody is asked.
    const requests = new Map([...limits, ...computeOf(isMap(resources) ? resources['requests'] : null)])
    for (const [name, value] of limits) sums.limits.set(name, (sums.limits.get(name) ?? 0) + value)
    for (const [name, value] of requests) sums.requests.set(name, (sums.requests.get(name) ?? 0) + value)
    if (limits.size < 2) isGuaranteed = false
  }
  if (sums.requests.size === 0 && sums.limits.size === 0) return 'BestEffort'
  const isSame = [...sums.requests].every(([name, value]) => sums.limits.get(name) === value)
  return isGuaranteed && isSame && sums.requests.size === sums.limits.size ? 'Guaranteed' : 'Burstable'
}

function computeOf(quantities: unknown): ReadonlyMap<string, number> {
  if (!isMap(quantities)) return new Map()
  return new Map(
    ['cpu', 'memory'].flatMap((name) => {
      const value = plain(quantities[name])
      return value === null || value === 0 ? [] : [[name, value] as const]
    }),
  )
}

function containerProblems(
  container: TestContainer,
  initContainers: readonly TestContainer[],
  volumeNames: readonly string[],
): readonly string[] {
  const mounts = listOf(container['volumeMounts'])
  const isPlainInit = initContainers.includes(container) && container['restartPolicy'] !== 'Always'
  const probes = ['startupProbe', 'livenessProbe', 'readinessProbe'].filter((probe) => container[probe] !== undefined)
  return [
    ...(container['image'] === undefined || container['image'] === '' ? ['has no image'] : []),
    ...mounts.filter(({ name }) => !volumeNames.includes(String(name))).map(({ name }) => `mounts ${String(name)}, which is no volume`),
    ...repeated(mounts.map(({ mountPath }) => String(mountPath))).map((path) => `mounts two volumes at ${path}`),
    ...named(container['env'])
      .filter((name) => !/^[A-Za-z_.-][A-Za-z0-9_.-]*$/.test(name))
      .map((name) => `${name} is no name of a variable`),
    ...repeated(named(container['env'])).map((name) => `sets ${name} twice`),
    ...(isPlainInit && probes.length > 0 ? ['is an init container with probes'] : []),
    ...resourceProblems(container['resources']),
  ].map((problem) => `${container.name}: ${problem}`)
}

function resourceProblems(resources: unknown): readonly string[] {
  if (!isMap(resources)) return []
  const { requests, limits } = resources
  if (!isMap(requests) || !isMap(limits)) return []
  return Object.keys(limits).flatMap((name) => {
    const [request, limit] = [plain(requests[name]), plain(limits[name])]
    return request !== null && limit !== null && request > limit ? [`requests more ${name} than its limit`] : []
  })
}

const UNITS: Readonly<Record<string, number>> = { m: 1e-3, '': 1, Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30 }

function plain(quantity: unknown): number | null {
  const [, digits, unit = ''] = /^([\d.]+)(m|[KMG]i)?$/.exec(String(quantity)) ?? []
  return digits === undefined ? null : Number(digits) * (UNITS[unit] ?? 1)
}

function repeated(names: readonly string[]): readonly string[] {
  return names.filter((name, index) => names.indexOf(name) !== index)
}

function named(list: unknown): readonly string[] {
  return listOf(list).map(({ name }) => String(name))
}

function listOf(list: unknown): readonly Fields[] {
  return Array.isArray(list) ? list.filter(isMap) : []
}

function isMap(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
