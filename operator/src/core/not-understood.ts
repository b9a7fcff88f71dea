/** Objects that the API server keeps and that are none of ours as this version knows them: made under an older schema, or a newer one. Pure. */
import type { Problem } from '@farebox/crds/check.ts'
import type { Fault, Finding } from './conditions.ts'

/** That it is there is known, and what is wrong with it; of a budget, besides, as much as governing needs. */
export interface NotUnderstood {
  readonly name: string
  readonly problems: readonly Problem[]
}

/** All problems in one message, each after its field. */
export function invalidFinding(problems: readonly Problem[]): Finding {
  const { reason, message } = invalidFault(problems)
  return { type: 'Accepted', status: 'False', reason, message }
}

/** The same, at the first field that is wrong. */
export function invalidFault(problems: readonly Problem[]): Fault {
  const message = problems.map(({ field, message }) => `${field} ${message}`.trim()).join('; ')
  return { reason: 'Invalid', field: problems[0]?.field ?? '', message }
}
