/** Label selectors, as Kubernetes has them. */
import type { ConversationBudget } from '@farebox/crds/conversation-budget.ts'

export type Selector = ConversationBudget['spec']['selector']
export type Labels = Readonly<Record<string, string>>

/** Whether all conditions hold. `NotIn` holds for a pod without the label, as in Kubernetes. */
export function matches({ matchLabels, matchExpressions }: Selector, labels: Labels): boolean {
  return (
    Object.entries(matchLabels).every(([key, value]) => valueOf(labels, key) === value) &&
    matchExpressions.every((expression) => holds(expression, valueOf(labels, expression.key)))
  )
}

function holds({ operator, values }: Selector['matchExpressions'][number], value: string | undefined): boolean {
  switch (operator) {
    case 'In':
      return value !== undefined && values.includes(value)
    case 'NotIn':
      return value === undefined || !values.includes(value)
    case 'Exists':
      return value !== undefined
    case 'DoesNotExist':
      return value === undefined
  }
}

/** A label may be called like something that every object inherits. */
function valueOf(labels: Labels, key: string): string | undefined {
  return Object.hasOwn(labels, key) ? labels[key] : undefined
}
