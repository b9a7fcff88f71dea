/** Evaluates the CEL of validation rules, as the API server would. Only where objects are checked: the sidecar needs none of it. */
import { parse } from '@marcbachmann/cel-js'
import type { Rule } from './rules.ts'

/** Whether a rule holds for a value as the API server would see it: defaults filled in. Throws when the rule cannot be evaluated: a bug of ours. */
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
  return Object.fromEntries(Object.entries(value).flatMap(([key, field]) => (field === undefined ? [] : [[key, celValue(field)]])))
}
