/** Budgets that select the same pods, by what they say of them: the oldest governs, or the one that was chosen. */
import type { ConversationBudget } from '@farebox/crds/conversation-budget.ts'
import { canonicalJson } from './canonical.ts'

/** `support/desk`: by which maps have a budget, and its reports name it. */
export function budgetKey(budget: ConversationBudget): string {
  return `${namespaceOf(budget)}/${budget.metadata.name}`
}

/** `default` for a manifest that names none. */
export function namespaceOf({ metadata }: ConversationBudget): string {
  return metadata.namespace ?? 'default'
}

/** Budgets by the pods that they select, the oldest first: it governs, even while it is not accepted. The chosen one is before all others. */
export function sameSelector(
  budgets: readonly ConversationBudget[],
  chosen: string | undefined,
): readonly (readonly [ConversationBudget, ...ConversationBudget[]])[] {
  const groups = new Map<string, [ConversationBudget, ...ConversationBudget[]]>()
  for (const budget of inOrder(budgets, chosen)) {
    const { matchLabels, matchExpressions } = budget.spec.selector
    const pods = canonicalJson([
      namespaceOf(budget),
      matchLabels,
      matchExpressions.map((expression) => canonicalJson(expression)).toSorted(),
    ])
    const group = groups.get(pods)
    if (group === undefined) groups.set(pods, [budget])
    else group.push(budget)
  }
  return [...groups.values()]
}

/** Order of budgets: of several on one pod the first governs. Objects that were never in a cluster have no age: their names decide. */
export function byAge(a: ConversationBudget, b: ConversationBudget): number {
  if (bornAt(a) !== bornAt(b)) return bornAt(a) < bornAt(b) ? -1 : 1
  return budgetKey(a) < budgetKey(b) ? -1 : 1
}

/** What the one that governs has before another of the same pods, in words. `chosen`: as for `sameSelector`. */
export function whyFirst(first: ConversationBudget, second: ConversationBudget, chosen: string | undefined): string {
  if (budgetKey(first) === chosen) return 'is chosen'
  if (bornAt(first) === bornAt(second))
    return bornAt(first) === '' ? 'comes first by name (in a cluster the older one does)' : 'comes first by name'
  return bornAt(first) === '' ? 'has no creationTimestamp' : 'is older'
}

function inOrder(budgets: readonly ConversationBudget[], chosen: string | undefined): readonly ConversationBudget[] {
  const sorted = budgets.toSorted(byAge)
  return [...sorted.filter((budget) => budgetKey(budget) === chosen), ...sorted.filter((budget) => budgetKey(budget) !== chosen)]
}

/** As the API server writes it, in whole seconds; empty: it was never in a cluster. */
export function bornAt({ metadata }: ConversationBudget): string {
  const { creationTimestamp } = metadata
  return typeof creationTimestamp === 'string' ? creationTimestamp : ''
}

/** What budgets have to do with others by the labels that they ask for. Without pods no more can be told. */
export interface Sharing {
  /** Of each budget the oldest one whose pods are also its own, or the other way round. */
  readonly older: ReadonlyMap<ConversationBudget, ConversationBudget>
  /** Of each budget the later ones that have limits and select all of its pods, the oldest first. */
  readonly adding: ReadonlyMap<ConversationBudget, readonly ConversationBudget[]>
}

/** `chosen`: as for `sameSelector`. */
export function sharingOf(budgets: readonly ConversationBudget[], chosen: string | undefined): Sharing {
  const older = new Map<ConversationBudget, ConversationBudget>()
  const adding = new Map<ConversationBudget, ConversationBudget[]>()
  const seen = new Map<string, { readonly budget: ConversationBudget; readonly asked: ReadonlySet<string> }[]>()
  for (const budget of inOrder(budgets, chosen)) {
    const asked = new Set(conditionsAsked(budget))
    const before = seen.get(namespaceOf(budget)) ?? []
    seen.set(namespaceOf(budget), before)
    const oldest = before.find((other) => isWithin(asked, other.asked) || isWithin(other.asked, asked))
    if (oldest !== undefined) older.set(budget, oldest.budget)
    for (const other of budget.spec.limits.length === 0 ? [] : before) {
      if (!isWithin(asked, other.asked)) continue
      const later = adding.get(other.budget)
      if (later === undefined) adding.set(other.budget, [budget])
      else later.push(budget)
    }
    before.push({ budget, asked })
  }
  return { older, adding }
}

function isWithin(part: ReadonlySet<string>, whole: ReadonlySet<string>): boolean {
  if (part.size > whole.size) return false
  for (const condition of part) if (!whole.has(condition)) return false
  return true
}

function conditionsAsked({ spec: { selector } }: ConversationBudget): readonly string[] {
  return [...Object.entries(selector.matchLabels), ...selector.matchExpressions].map((condition) => canonicalJson(condition))
}
