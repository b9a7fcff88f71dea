/**
 * What the sidecar asks of a node, such that its pod keeps its QoS class: a Guaranteed pod is the last to be evicted, and a
 * BestEffort one was meant to take what is left. https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/
 */
import * as z from 'zod'
import type { Pod, Resources } from './pod.ts'
import { parseQuantity } from './quantity.ts'

const COMPUTE = ['cpu', 'memory'] as const

/** In YAML and JSON a quantity may be a number. */
const Quantity = z
  .union([z.string(), z.number()], { error: 'must be a quantity, such as "100m" or "128Mi"' })
  .transform(String)
  .refine((text) => (parseQuantity(text) ?? 0n) > 0n, { message: 'must be a quantity above zero, such as "100m" or "128Mi"' })

const Quantities = z.strictObject({ cpu: Quantity.optional(), memory: Quantity.optional() }).prefault({})

/** The chart's `sidecar.resources`. Limits below requests are refused; a request is always there, since scaling by CPU needs one. */
export const ResourceSettingsSchema = z
  .strictObject({ requests: Quantities, limits: Quantities })
  .superRefine(({ requests, limits }, context) => {
    for (const name of COMPUTE) {
      const [limit, request] = [limits[name], requests[name]]
      if (limit !== undefined && request !== undefined && isBelow(limit, request))
        context.addIssue({ code: 'custom', path: ['limits', name], message: `must not be below requests.${name}` })
    }
  })
  .transform(({ requests: { cpu, memory }, limits }) => ({
    requests: { cpu: cpu ?? lesser(REQUESTS.cpu, limits.cpu), memory: memory ?? lesser(REQUESTS.memory, limits.memory) },
    limits,
  }))
export type ResourceSettings = z.infer<typeof ResourceSettingsSchema>

export interface SidecarResources {
  readonly requests?: Readonly<Record<string, string>>
  readonly limits?: Readonly<Record<string, string>>
}

/** In a Guaranteed pod the sidecar must have what it may use; a fraction, since whole CPUs can be taken for exclusive ones. */
const GUARANTEED_CPU_MIN = '200m'
/** What the sidecar asks for where the settings do not say. */
const REQUESTS = { cpu: '50m', memory: '96Mi' } as const
/** Where every other container has a limit, a quota may demand one of each: a CPU wide enough not to throttle. */
const QUOTA_LIMITS = { cpu: '1', memory: '256Mi' } as const

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
      const wanted = greater(GUARANTEED_CPU_MIN, requests.cpu)
      const memory = limits.memory ?? greater(QUOTA_LIMITS.memory, requests.memory)
      const same = { cpu: lesser(wanted, limits.cpu), memory }
      return { requests: same, limits: same }
    }
    case 'Burstable': {
      const others = [...(spec.initContainers ?? []), ...spec.containers]
      const entries = COMPUTE.flatMap((name) => {
        const isDemanded = others.every(({ resources }) => amount(resources?.limits, name) > 0n)
        const limit = limits[name] ?? (isDemanded ? greater(QUOTA_LIMITS[name], requests[name]) : undefined)
        return limit === undefined ? [] : [[name, limit] as const]
      })
      return { requests, ...(entries.length === 0 ? {} : { limits: Object.fromEntries(entries) }) }
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

function amount(quantities: Resources['limits'], name: string): bigint {
  return parseQuantity(quantities?.[name] ?? '0') ?? 0n
}

function isBelow(a: string, b: string): boolean {
  return (parseQuantity(a) ?? 0n) < (parseQuantity(b) ?? 0n)
}

function lesser(a: string, b: string | undefined): string {
  return b !== undefined && isBelow(b, a) ? b : a
}

function greater(a: string, b: string): string {
  return isBelow(a, b) ? b : a
}
