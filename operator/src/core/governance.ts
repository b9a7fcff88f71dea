/** Which budget governs a pod: of those of its namespace that select it, the oldest. The others add their limits. */
import type { ConversationBudget } from '@farebox/crds/conversation-budget.ts'
import { byAge } from './same-pods.ts'
import { matches } from './selector.ts'
import type { Labels } from './selector.ts'

/** Of a pod, what decides. */
export interface Selectable {
  readonly namespace: string
  readonly labels: Labels
}

/** Null: none selects the pod. A budget governs while it is not accepted, too: it may become so while the pod runs. */
export function governing(pod: Selectable, budgets: Iterable<ConversationBudget>): ConversationBudget | null {
  return selecting(pod, budgets)[0] ?? null
}

/** The same of budgets that are of the pod's namespace and in order already, for who asks of many pods. */
export function firstSelecting(labels: Labels, byAge: readonly ConversationBudget[]): ConversationBudget | null {
  return byAge.find(({ spec }) => matches(spec.selector, labels)) ?? null
}

/** The budgets that select the pod beside the one that governs it, the oldest first. */
export function later(pod: Selectable, budgets: Iterable<ConversationBudget>): readonly ConversationBudget[] {
  return selecting(pod, budgets).slice(1)
}

function selecting({ namespace, labels }: Selectable, budgets: Iterable<ConversationBudget>): readonly ConversationBudget[] {
  return [...budgets]
    .filter(({ metadata, spec }) => (metadata.namespace ?? 'default') === namespace && matches(spec.selector, labels))
    .toSorted(byAge)
}
