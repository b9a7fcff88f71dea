/** What statuses say, counted over all objects, for metrics: no name of an object, namespace or pod is kept. Pure. */
import type { Condition } from '@farebox/crds/fields.ts'
import type { ObjectStatus } from './compile.ts'

/** Of pods that a budget governs: `matched` are all of them; the others may overlap. */
export const POD_STATES = ['matched', 'injected', 'inSync', 'outdated', 'nacked', 'stale', 'notStarting'] as const
export type PodState = (typeof POD_STATES)[number]

export interface ConditionCount extends Pick<Condition, 'type' | 'status' | 'reason'> {
  readonly kind: string
  readonly objects: number
}

export interface StatusCounts {
  readonly conditions: readonly ConditionCount[]
  readonly pods: ReadonlyMap<PodState, number>
  /** By why they have none. */
  readonly podsWithoutSidecar: ReadonlyMap<string, number>
}

export const NOTHING_COUNTED: StatusCounts = { conditions: [], pods: new Map(), podsWithoutSidecar: new Map() }

/** `status`: as it was worked out, not as it was read. */
export function countStatuses(objects: Iterable<{ readonly kind: string; readonly status: ObjectStatus }>): StatusCounts {
  const conditions = new Map<string, ConditionCount>()
  const pods = new Map<PodState, number>()
  const podsWithoutSidecar = new Map<string, number>()
  for (const { kind, status } of objects) {
    for (const { type, status: said, reason } of status.conditions ?? []) {
      const key = [kind, type, said, reason].join()
      conditions.set(key, { kind, type, status: said, reason, objects: (conditions.get(key)?.objects ?? 0) + 1 })
    }
    const workloads = 'workloads' in status ? status.workloads : undefined
    if (workloads === undefined) continue
    for (const state of POD_STATES) pods.set(state, (pods.get(state) ?? 0) + (workloads[state] ?? 0))
    for (const [reason, count] of Object.entries(workloads.skipped))
      podsWithoutSidecar.set(reason, (podsWithoutSidecar.get(reason) ?? 0) + count)
  }
  return { conditions: [...conditions.values()], pods, podsWithoutSidecar }
}

/** How many budgets say so of being ready. */
export function readyBudgets({ conditions }: StatusCounts): ReadonlyMap<string, number> {
  const ready = new Map<string, number>()
  for (const { kind, type, status, objects } of conditions)
    if (kind === 'ConversationBudget' && type === 'Ready') ready.set(status, (ready.get(status) ?? 0) + objects)
  return ready
}
