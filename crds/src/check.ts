/** What a manifest is, or what is wrong with it, field by field: the shape by the schema, then the rules by their CEL. */
import * as z from 'zod'
import { ConversationBudgetSchema } from './conversation-budget.ts'
import type { ConversationBudget } from './conversation-budget.ts'
import { API_VERSION } from './fields.ts'
import { PriceBookSchema } from './price-book.ts'
import type { PriceBook } from './price-book.ts'
import { PricingTierSchema } from './pricing-tier.ts'
import type { PricingTier } from './pricing-tier.ts'
import { holds, isTransition, rulesOf } from './rules.ts'

export const KINDS = {
  PricingTier: { schema: PricingTierSchema, scope: 'Cluster' },
  ConversationBudget: { schema: ConversationBudgetSchema, scope: 'Namespaced' },
  PriceBook: { schema: PriceBookSchema, scope: 'Cluster' },
} as const
export type Kind = keyof typeof KINDS
export type FareboxObject = PricingTier | ConversationBudget | PriceBook

/** One thing that is wrong. `field` is a path from the top of the object: `spec.ladder[2].atPercent`. */
export interface Problem {
  readonly field: string
  readonly message: string
}

export type CheckResult = { readonly status: 'ok'; readonly value: FareboxObject } | { readonly status: 'invalid'; readonly problems: readonly Problem[] }

/** Parses an object of ours. Defaults are filled in, as the API server would. */
export function checkObject(object: unknown): CheckResult {
  const kind = kindOf(object)
  if (kind === null) {
    return { status: 'invalid', problems: [{ field: 'kind', message: `must be ${Object.keys(KINDS).join(', ')} of apiVersion ${API_VERSION}` }] }
  }
  const { schema, scope } = KINDS[kind]
  const parsed = schema.safeParse(object)
  if (!parsed.success) return { status: 'invalid', problems: parsed.error.issues.flatMap((issue) => problemsOf(issue, object)) }
  const problems = violations(schema, parsed.data, '')
  if (scope === 'Namespaced' && parsed.data.metadata.namespace === undefined) problems.unshift({ field: 'metadata.namespace', message: 'must name the namespace' })
  if (scope === 'Cluster' && parsed.data.metadata.namespace !== undefined) problems.unshift({ field: 'metadata.namespace', message: `must be absent: a ${kind} belongs to no namespace` })
  return problems.length > 0 ? { status: 'invalid', problems } : { status: 'ok', value: parsed.data }
}

/** Whether an object claims to be one of ours. */
export function isOurs(object: unknown): boolean {
  return isRecord(object) && typeof object['apiVersion'] === 'string' && object['apiVersion'].startsWith('farebox.dev/')
}

function kindOf(object: unknown): Kind | null {
  if (!isRecord(object) || object['apiVersion'] !== API_VERSION) return null
  const kind = object['kind']
  return typeof kind === 'string' && Object.hasOwn(KINDS, kind) ? (kind as Kind) : null
}

/** The rules of a schema and of all below it, on a value of that schema. */
function violations(schema: z.ZodType, value: unknown, path: string): Problem[] {
  if (value === undefined) return []
  const problems: Problem[] = []
  for (const rule of rulesOf(schema)) {
    if (!isTransition(rule) && !holds(rule, value)) problems.push({ field: joined(path, rule.fieldPath ?? ''), message: rule.message })
  }
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault) {
    const inner = schema.def.innerType as z.ZodType
    const own = new Set(rulesOf(schema))
    const inherited = rulesOf(inner).length > 0 && rulesOf(inner).every((rule) => own.has(rule))
    problems.push(...(inherited ? violationsBelow(inner, value, path) : violations(inner, value, path)))
  } else problems.push(...violationsBelow(schema, value, path))
  return problems
}

function violationsBelow(schema: z.ZodType, value: unknown, path: string): Problem[] {
  if (schema instanceof z.ZodObject && isRecord(value)) {
    return Object.entries(schema.shape).flatMap(([key, field]) => violations(field as z.ZodType, value[key], joined(path, `.${key}`)))
  }
  if (schema instanceof z.ZodArray && Array.isArray(value)) {
    return value.flatMap((element, index) => violations(schema.element as z.ZodType, element, `${path}[${index}]`))
  }
  return []
}

/** Zod's words, made those of somebody who writes YAML. */
function problemsOf(issue: z.core.$ZodIssue, object: unknown): Problem[] {
  const field = pathText(issue.path)
  switch (issue.code) {
    case 'unrecognized_keys':
      return issue.keys.map((key) => ({ field: joined(field, `.${key}`), message: 'is not a field here; check its spelling' }))
    case 'invalid_type': {
      const found = valueAt(object, issue.path)
      if (found === undefined) return [{ field, message: 'is required' }]
      if (issue.expected === 'string' && typeof found === 'number') return [{ field, message: `must be in quotes: "${found}", since YAML reads a bare ${found} as a number` }]
      if (issue.expected === 'string' && typeof found === 'boolean') return [{ field, message: `must be in quotes, since YAML reads a bare ${String(found)} as true or false` }]
      return [{ field, message: `must be ${typeName(issue.expected)}, not ${foundName(found)}` }]
    }
    case 'invalid_value':
      return [{ field, message: valueAt(object, issue.path) === undefined ? 'is required' : `must be one of ${issue.values.map(String).join(', ')}` }]
    case 'too_small':
      return [{ field, message: `must be at least ${String(issue.minimum)}${unitOf(issue.origin)}` }]
    case 'too_big':
      return [{ field, message: `must be at most ${String(issue.maximum)}${unitOf(issue.origin)}` }]
    default:
      return [{ field, message: issue.message }]
  }
}

function typeName(expected: string): string {
  return expected === 'int' || expected === 'number' ? 'a whole number' : expected === 'array' ? 'a list' : expected === 'object' || expected === 'record' ? 'a mapping' : `a ${expected}`
}
function foundName(found: unknown): string {
  return found === null ? 'empty' : Array.isArray(found) ? 'a list' : typeof found === 'object' ? 'a mapping' : `a ${typeof found}`
}
function unitOf(origin: string): string {
  return origin === 'string' ? ' characters long' : origin === 'array' ? ' items long' : ''
}

function pathText(path: readonly PropertyKey[]): string {
  return path.reduce<string>((text, part) => joined(text, typeof part === 'number' ? `[${part}]` : `.${String(part)}`), '')
}
function joined(path: string, part: string): string {
  return path === '' && part.startsWith('.') ? part.slice(1) : path + part
}
function valueAt(object: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((value, part) => (typeof value === 'object' && value !== null ? (value as Record<PropertyKey, unknown>)[part] : undefined), object)
}
function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
