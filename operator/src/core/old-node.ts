/** Nodes that cannot run sidecars, and which pods may come to run on them. Pure. */
import type { Pod } from './pod.ts'

/** Of Kubernetes: the first whose native sidecars are stopped and restarted as they should be. */
export const KUBELET_MINOR_MIN = 31

export interface Taint {
  readonly key: string
  readonly value?: string | undefined
  readonly effect: string
}

/** One whose kubelet is below the floor. */
export interface OldNode {
  /** `v1.30.14` */
  readonly kubelet: string
  readonly labels: Readonly<Record<string, string>>
  readonly taints: readonly Taint[]
}

/** What cannot be read is taken for new enough. */
export function isTooOld(kubelet: string): boolean {
  const [, major, minor] = /^v?(\d+)\.(\d+)/.exec(kubelet) ?? []
  return major !== undefined && (Number(major) < 1 || (Number(major) === 1 && Number(minor) < KUBELET_MINOR_MIN))
}

/**
 * The first from which nothing plain keeps the pod away: its node selector, a taint, the system of the node. What is harder to read, as
 * affinity is, keeps nobody away here: a pod without a sidecar is better than one that cannot start. Each taint is looked for once, be it on
 * thousands of nodes: who is no API server may ask about pods with thousands of tolerations.
 */
export function oldNodeFor({ spec }: Pod, nodes: readonly OldNode[]): OldNode | undefined {
  if (nodes.length === 0) return undefined
  const selected = Object.entries(spec.nodeSelector ?? {})
  const known = new Map<string, boolean>()
  const isTolerated = (taint: Taint): boolean => {
    const name = JSON.stringify([taint.key, taint.value, taint.effect])
    const tolerated = known.get(name) ?? (spec.tolerations ?? []).some((toleration) => tolerates(toleration, taint))
    known.set(name, tolerated)
    return tolerated
  }
  return nodes.find(
    ({ labels, taints }) =>
      labels['kubernetes.io/os'] !== 'windows' && // asked of pods that are for Linux
      selected.every(([key, value]) => Object.hasOwn(labels, key) && labels[key] === value) &&
      taints.every((taint) => !isLasting(taint) || isTolerated(taint)),
  )
}

/** Of the node's own say who is to run there; Kubernetes' say how the node is: not ready, under pressure, cordoned. */
function isLasting({ key, effect }: Taint): boolean {
  return (effect === 'NoSchedule' || effect === 'NoExecute') && !key.startsWith('node.kubernetes.io/')
}

type Toleration = NonNullable<Pod['spec']['tolerations']>[number]

/** https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/; an operator that is not known is taken for one that holds. */
function tolerates({ key, operator, value, effect }: Toleration, taint: Taint): boolean {
  if ((effect ?? '') !== '' && effect !== taint.effect) return false
  if ((key ?? '') !== '' && key !== taint.key) return false
  return (operator ?? 'Equal') !== 'Equal' || (value ?? '') === (taint.value ?? '')
}
