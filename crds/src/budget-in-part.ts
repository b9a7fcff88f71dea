/** What can be read of a budget that `checkObject` refuses: it was stored under an older schema, or by a later version. */
import { ConversationBudgetSchema } from './conversation-budget.ts'
import type { ConversationBudget } from './conversation-budget.ts'
import { isRecord, removeAt } from './schema-walk.ts'

/** By these it is known which pods a budget governs, and what is put into them. The rest is in the config that is in force. */
const NEEDED: readonly unknown[] = ['selector', 'tier', 'upstreams', 'store', 'injection'] satisfies (keyof ConversationBudget['spec'])[]

/**
 * Fields of a later version are left out, one that cannot be read and is not needed has its default, and rules are not looked at. Where
 * one that is needed cannot be read, the whole spec is as it was `before`, so that its parts fit each other. Null: there was none before,
 * or it is no budget at all.
 */
export function budgetInPart(object: unknown, before: ConversationBudget | null): ConversationBudget | null {
  const { error } = ConversationBudgetSchema.safeParse(object)
  const part: unknown = structuredClone(object)
  if (!isRecord(part)) return null
  let isLost = false
  for (const issue of error?.issues ?? []) {
    const [top, field] = issue.path
    const spec = part['spec']
    // Without one of its conditions a selector selects pods that are none of the budget's.
    if (issue.code === 'unrecognized_keys' && field !== 'selector') for (const key of issue.keys) removeAt(part, [...issue.path, key])
    else if (top === 'status') delete part['status'] // it is ours to write
    else if (field === undefined || NEEDED.includes(field)) isLost = true
    else if (isRecord(spec)) delete spec[String(field)]
  }
  const read = isLost ? undefined : ConversationBudgetSchema.safeParse(part).data
  if (read !== undefined && !selectsAll(read)) return read
  return ConversationBudgetSchema.safeParse({ ...part, spec: before?.spec }).data ?? null
}

/** Every pod of its namespace, which the rules forbid. */
function selectsAll({ spec: { selector } }: ConversationBudget): boolean {
  return Object.keys(selector.matchLabels ?? {}).length === 0 && (selector.matchExpressions ?? []).length === 0
}
