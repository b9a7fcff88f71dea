/** Which budget governs a pod: of those of its namespace that select it, the oldest. The others add their limits. */
import type { ConversationBudget } from '@farebox/crds/conversation-budget.ts'
import { byAge, namespaceOf } from './same-pods.ts'
import { matches } from './selector.ts'
import type { Labels } from './selector.ts'

/** Of a pod, what decides. */
export interface Selectable {
  readonly namespace: string
  readonly labels: Labels
}

/** Null: none selects the pod. A budget governs while it is not accepted, too: it may become so while the pod runs. */
export function governing({ namespace, labels }: Selectable, budgets: Iterable<ConversationBudget>): ConversationBudget | null {
  const own = [...budgets].filter((budget) => namespaceOf(budget) === namespace)
  return selecting(labels, own).toSorted(byAge)[0] ?? null
}

/** Those of the budgets that select a pod of their namespace, in the same order: of the oldest first, the first governs it. */
export function selecting(labels: Labels, budgets: readonly ConversationBudget[]): readonly ConversationBudget[] {
  return budgets.filter(({ spec }) => matches(spec.selector, labels))
}
