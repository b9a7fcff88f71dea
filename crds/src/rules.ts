/**
 * Validation rules, written once in CEL: the API server runs them from the CRD (`x-kubernetes-validations`), and the CLI runs the
 * same text here. https://kubernetes.io/docs/reference/using-api/cel/ says what CEL a CRD may hold.
 */
import { parse } from '@marcbachmann/cel-js'
import type * as z from 'zod'

export interface Rule {
  /** A CEL expression over `self` (and `oldSelf`, for what may not change). */
  readonly rule: string
  /** What must be, in words for the author of the object. */
  readonly message: string
  /** The field at fault, below the one that carries the rule: `.perConversation`. */
  readonly fieldPath?: string
}

/** Gives a schema its rules. They are checked by `violations`, and written into the CRD. */
export function rules<S extends z.ZodType>(schema: S, ...added: readonly Rule[]): S {
  const earlier = rulesOf(schema)
  return schema.meta({ ...schema.meta(), 'x-kubernetes-validations': [...earlier, ...added] })
}

export function rulesOf(schema: z.ZodType): readonly Rule[] {
  const found = schema.meta()?.['x-kubernetes-validations']
  return Array.isArray(found) ? (found as readonly Rule[]) : []
}

/** Transition rules compare with the object as it was; the first version of an object has none to compare with. */
export function isTransition(rule: Rule): boolean {
  return /\boldSelf\b/.test(rule.rule)
}

/** Whether a rule holds for a value as the API server would see it: defaults filled in. */
export function holds(rule: Rule, self: unknown, oldSelf?: unknown): boolean {
  return programOf(rule.rule)({ self: celValue(self), oldSelf: celValue(oldSelf) }) === true
}

type Program = (variables: Record<string, unknown>) => unknown
const PROGRAMS = new Map<string, Program>()

function programOf(text: string): Program {
  const known = PROGRAMS.get(text)
  if (known !== undefined) return known
  const program: Program = parse(text)
  PROGRAMS.set(text, program)
  return program
}

/** CEL integers are 64 bits wide: whole numbers go in as `bigint`. */
function celValue(value: unknown): unknown {
  if (typeof value === 'number') return Number.isInteger(value) ? BigInt(value) : value
  if (Array.isArray(value)) return value.map(celValue)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, field]) => [key, celValue(field)]))
}
