/** Objects that the API server keeps and that are none of ours as this version knows them: made under an older schema, or a newer one. Pure. */
import type { Problem } from '@farebox/crds/check.ts'
import type { Finding } from './conditions.ts'

/** That it is there is known, and what is wrong with it: nothing else is. */
export interface NotUnderstood {
  readonly name: string
  readonly problems: readonly Problem[]
}

/** All problems in one message, each after its field. */
export function invalidFinding(problems: readonly Problem[]): Finding {
  const message = problems.map(({ field, message }) => `${field} ${message}`.trim()).join('; ')
  return { type: 'Accepted', status: 'False', reason: 'Invalid', message }
}
