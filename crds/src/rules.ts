/**
 * Validation rules, written once in CEL: the API server runs them from the CRD (`x-kubernetes-validations`), and `check.ts` runs the
 * same text here. https://kubernetes.io/docs/reference/using-api/cel/ says what CEL a CRD may hold; Kubernetes' own
 * extensions (`quantity()`, `isSorted()`, optionals) are not to be used, since the evaluator here does not know them.
 */
import type * as z from 'zod'

export interface Rule {
  /** A CEL expression over `self` (and `oldSelf`, for what may not change). True: all is well. */
  readonly rule: string
  /** What must be, in words for the author of the object. */
  readonly message: string
  /** The field at fault, below the one that carries the rule: `.perConversation`. */
  readonly fieldPath?: string
}

/** Gives a schema its rules. `check.ts` runs them, and they are written into the CRD. */
export function rules<S extends z.ZodType>(schema: S, ...added: readonly Rule[]): S {
  return schema.meta({ ...schema.meta(), [RULES_KEY]: [...rulesOf(schema), ...added] })
}

/** The rules that a schema was given, itself and not below, in order. */
export function rulesOf(schema: z.ZodType): readonly Rule[] {
  const found = schema.meta()?.[RULES_KEY]
  return Array.isArray(found) ? found.filter(isRule) : []
}

/** Transition rules compare with the object as it was; the first version of an object has none to compare with. */
export function isTransition(rule: Rule): boolean {
  return /\boldSelf\b/.test(rule.rule)
}

const RULES_KEY = 'x-kubernetes-validations'

function isRule(value: unknown): value is Rule {
  return typeof value === 'object' && value !== null && 'rule' in value && 'message' in value
}
