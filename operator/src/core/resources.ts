/**
 * What the sidecar asks of a node, such that its pod keeps its QoS class: a Guaranteed pod is the last to be evicted, and a
 * BestEffort one was meant to take what is left. https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/
 */
import * as z from 'zod'
import type { Pod, Resources } from './pod.ts'
import { parseQuantity } from './quantity.ts'

/** In YAML and JSON a quantity may be a number. */
const Quantity = z
  .union([z.string(), z.number()], { error: 'must be a quantity, such as "100m" or "128Mi"' })
  .transform(String)
  .refine((text) => (parseQuantity(text) ?? 0n) > 0n, { message: 'must be a quantity above zero, such as "100m" or "128Mi"' })

/** The chart's `sidecar.resources`. Limits below requests are refused. */
export const ResourceSettingsSchema = z
  .strictObject({
    requests: z.strictObject({ cpu: Quantity.default('50m'), memory: Quantity.default('96Mi') }).prefault({}),
    limits: z.strictObject({ cpu: Quantity.optional(), memory: Quantity.default('256Mi') }).prefault({}),
  })
  .refine(({ requests, limits }) => !isBelow(limits.memory, requests.memory), {
    path: ['limits', 'memory'],
    message: 'must not be below requests.memory',
  })
  .refine(({ requests, limits }) => limits.cpu === undefined || !isBelow(limits.cpu, requests.cpu), {
    path: ['limits', 'cpu'],
    message: 'must not be below requests.cpu',
  })
export type ResourceSettings = z.infer<typeof ResourceSettingsSchema>

export interface SidecarResources {
  readonly requests?: Readonly<Record<string, string>>
  readonly limits?: Readonly<Record<string, string>>
}

/** In a Guaranteed pod the sidecar must have what it may use; a fraction, since whole CPUs can be taken for exclusive ones. */
const GUARANTEED_CPU_MIN = '200m'
/** Where every other container has a limit, a quota may demand one of each: wide enough not to throttle. */
const QUOTA_CPU_LIMIT = '1'

const MIB = 2n ** 20n
const NANO = 10n ** 9n
/** Of its memory limit, what the heap may take: the rest is for buffers, code and SQLite. */
const HEAP_PERCENT = 60n
const HEAP_MIB_MIN = 48n
/** Where the sidecar has no limit of its own. */
const HEAP_MIB_DEFAULT = 160n

/** Those of the settings, as far as the pod's QoS class lets it have them: none in a pod that is BestEffort, or sized as a whole. */
export function sidecarResources({ spec }: Pod, settings: ResourceSettings): SidecarResources {
  const { requests, limits } = settings
  switch (qosClass({ spec })) {
    case 'PodLevel': // within what the pod has; requests of ours might exceed it
    case 'BestEffort':
      return {}
    case 'Guaranteed': {
      const wanted = isBelow(requests.cpu, GUARANTEED_CPU_MIN) ? GUARANTEED_CPU_MIN : requests.cpu
      const cpu = limits.cpu !== undefined && isBelow(limits.cpu, wanted) ? limits.cpu : wanted
      const same = { cpu, memory: limits.memory }
      return { requests: same, limits: same }
    }
    case 'Burstable': {
      const others = [...(spec.initContainers ?? []), ...spec.containers]
      const isDemanded = others.every(({ resources }) => amount(resources?.limits, 'cpu') > 0n)
      const quotaCpu = isBelow(QUOTA_CPU_LIMIT, requests.cpu) ? requests.cpu : QUOTA_CPU_LIMIT
      const cpu = limits.cpu ?? (isDemanded ? quotaCpu : undefined)
      return { requests, limits: { ...(cpu === undefined ? {} : { cpu }), memory: limits.memory } }
    }
  }
}

/** In MiB, for V8's `--max-old-space-size`. */
export function heapMib(resources: Resources | SidecarResources): number {
  const limit = parseQuantity(resources.limits?.['memory'] ?? '0') ?? 0n
  if (limit === 0n) return Number(HEAP_MIB_DEFAULT)
  const heap = (limit * HEAP_PERCENT) / (100n * MIB * NANO)
  return Number(heap < HEAP_MIB_MIN ? HEAP_MIB_MIN : heap)
}

/** `PodLevel`: the pod as a whole has resources, and they alone decide, be they empty. Init containers count as the others do. */
function qosClass({ spec }: Pick<Pod, 'spec'>): 'PodLevel' | 'Guaranteed' | 'Burstable' | 'BestEffort' {
  if (spec.resources !== undefined && spec.resources !== null) return 'PodLevel'
  const all = [...(spec.initContainers ?? []), ...spec.containers].map(({ resources }) => resources)
  const stated = all.flatMap((resources) => COMPUTE.flatMap((name) => [amount(resources?.requests, name), amount(resources?.limits, name)]))
  if (stated.every((value) => value === 0n)) return 'BestEffort'
  const isGuaranteed = all.every((resources) =>
    COMPUTE.every((name) => {
      const limit = amount(resources?.limits, name)
      const request = amount(resources?.requests, name)
      return limit > 0n && (request === 0n || request === limit) // a request that is absent is the limit
    }),
  )
  return isGuaranteed ? 'Guaranteed' : 'Burstable'
}

const COMPUTE = ['cpu', 'memory'] as const

function amount(quantities: Resources['limits'], name: string): bigint {
  return parseQuantity(quantities?.[name] ?? '0') ?? 0n
}

function isBelow(a: string, b: string): boolean {
  return (parseQuantity(a) ?? 0n) < (parseQuantity(b) ?? 0n)
}
