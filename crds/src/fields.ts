/** Field schemas that several kinds share: bounded, and with patterns that the API server understands (RE2). */
import * as z from 'zod'
import { DURATION_PATTERN } from './duration.ts'
import { rules } from './rules.ts'
import type { Rule } from './rules.ts'
import { SIGNED_USD_PATTERN, USD_PATTERN } from './usd.ts'

export const API_GROUP = 'farebox.dev'
export const API_VERSION = `${API_GROUP}/v1alpha1`

/** Free text of `min` to `max` characters: Unicode code points, as the API server counts them, where zod would count UTF-16 units. */
export function text(min: number, max: number): z.ZodString {
  const schema = z.string().check((payload) => {
    const length = Array.from(payload.value).length
    if (length < min) payload.issues.push({ code: 'too_small', origin: 'string', minimum: min, inclusive: true, input: payload.value })
    if (length > max) payload.issues.push({ code: 'too_big', origin: 'string', maximum: max, inclusive: true, input: payload.value })
  })
  return schema.meta(min === 0 ? { maxLength: max } : { minLength: min, maxLength: max })
}

/**
 * ASCII text of a pattern. Its message says what must be, and stands in for a value of another type too: a duration that YAML read as a
 * number.
 */
export function patterned(pattern: RegExp, lengthMax: number, message: string): z.ZodString {
  return z
    .string({ error: (issue) => (issue.input === undefined ? undefined : message) })
    .regex(pattern, message)
    .max(lengthMax)
}

/** What is a decimal, whether or not it is within bounds. */
const DECIMAL = /^(0|[1-9][0-9]*)([.][0-9]+)?$/

/** A decimal in quotes. A text that is one, and does not fit the pattern, is told the `bounds`. */
export function decimal(
  pattern: RegExp,
  lengthMax: number,
  { example, bounds }: { readonly example: string; readonly bounds: string },
): z.ZodString {
  const message = `must be a decimal in quotes, such as "${example}"`
  return z
    .string({ error: (issue) => (issue.input === undefined ? undefined : message) })
    .regex(pattern, { error: ({ input }) => (typeof input === 'string' && DECIMAL.test(input) ? `must be ${bounds}` : message) })
    .max(lengthMax)
}

/**
 * A map of at most `entriesMax` entries. A CRD cannot give keys a pattern, so a rule does: `keys` must be written without
 * backslashes, since it stands in CEL as well.
 */
export function boundedMap<V extends z.ZodType>(
  value: V,
  entriesMax: number,
  keys: { readonly pattern: RegExp; readonly message: string },
): z.ZodRecord<z.ZodString, V> {
  const schema = z.record(z.string(), value).refine((map) => Object.keys(map).length <= entriesMax, `must be at most ${entriesMax} entries`)
  return rules(schema.meta({ maxProperties: entriesMax }), {
    rule: `self.all(key, key.matches('${keys.pattern.source}'))`,
    message: keys.message,
  })
}

/** An amount of money, in the currency of its tier. */
export const Amount = decimal(USD_PATTERN, 19, { example: '0.50', bounds: 'below one billion, with at most 9 digits after the point' })
/** An amount that a correction may have taken below zero. */
export const SignedAmount = patterned(SIGNED_USD_PATTERN, 20, 'must be a decimal in quotes, such as "-0.50"')
/** A whole number that only we write. A double holds each up to 2^53 - 1, which zod sets as the bound. */
export const Count = z.int().min(0)
export const Percent = z.int().min(0).max(100)
export const Tokens = z.int().min(1).max(100_000_000)
export const Duration = patterned(DURATION_PATTERN, 18, 'must be a duration such as "20m" or "24h"').min(
  2,
  'must be a duration such as "20m" or "24h"',
)

/**
 * That a field of the object holds a duration from `min` to `max`. The API server runs a rule on a text that does not fit its pattern as
 * well: then the pattern speaks.
 */
export function durationRule(field: string, { min, max }: { readonly min: string; readonly max?: string }, message: string): Rule {
  const value = `self.${field}`
  const isNone = `!has(${value}) || size(${value}) < 2 || !${value}.matches('${DURATION_PATTERN.source}')`
  const isEnough = `duration(${value}) >= duration('${min}')`
  const isIn = max === undefined ? isEnough : `(${isEnough} && duration(${value}) <= duration('${max}'))`
  return { rule: `${isNone} || ${isIn}`, message, fieldPath: `.${field}` }
}

export const IsoDate = z.iso
  .date({ error: (issue) => (issue.input === undefined ? undefined : 'must be a date such as "2026-11-24"') })
  .max(10)
/** https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/; the rule on a map of labels holds it as well. */
export const LABEL_NAME = {
  pattern: /^([a-z0-9A-Z.-]{1,253}[/])?[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?$/,
  message: 'must be a label name, such as app or example.com/team',
}
export const LABEL_VALUE = {
  pattern: /^([a-zA-Z0-9]([a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?)?$/,
  message: 'must be a label value: letters, digits, "-", "_" and "."',
}
/** A name of a Kubernetes object. */
export const ObjectName = patterned(
  /^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/,
  253,
  'must be a Kubernetes name: lower-case letters, digits, "-" and "."',
)
const NamespaceName = patterned(
  /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/,
  63,
  'must be the name of a namespace: lower-case letters, digits and "-"',
)
/** How an upstream is called, on the data plane as well. */
export const UpstreamName = patterned(/^[a-z][a-z0-9-]{0,30}$/, 31, 'must be lower-case letters, digits and "-", beginning with a letter')
export const ModelName = text(1, 128)
/** A model, or a pattern that ends in `*`. */
export const ModelPattern = text(1, 128).regex(/^[^*]*[*]?$/, 'must be a model name, where only the end may be "*"')
/** A key of a Secret of the same namespace as what names it. */
export const SecretRef = z.strictObject({
  name: ObjectName.describe('A Secret of the same namespace.'),
  key: patterned(/^[-._a-zA-Z0-9]+$/, 253, 'must be a key of a Secret: letters, digits, "-", "_" and "."').describe('Which of its keys.'),
})
export const HeaderName = patterned(/^[A-Za-z0-9-]+$/, 64, 'must be a header name: letters, digits and "-"')

/** Of an object's metadata, what we read. The API server checks the rest. */
export const Metadata = z.looseObject({
  name: ObjectName,
  namespace: NamespaceName.optional(),
  generation: z.int().optional(),
})

/** A status condition, as https://github.com/kubernetes/community api-conventions has it. */
export const Condition = z.strictObject({
  type: text(0, 64).describe(
    'What is said: `Accepted`, `Programmed`, `Injected`, `Enforced`, `Coordinated`, `UsageFresh`; `Ready`, which sums up; `Reconciling` and `Stalled`, which are there only while they are so.',
  ),
  status: z.enum(['True', 'False', 'Unknown']).describe('Whether it is so.'),
  reason: text(0, 64).describe('Why, in one CamelCase word.'),
  message: text(0, 1024).describe('Why, for people.'),
  observedGeneration: Count.optional().describe('The generation of the object that this is about.'),
  lastTransitionTime: text(0, 32).describe('When `status` last changed.'),
})
export type Condition = z.infer<typeof Condition>

/** What every status has. */
export const StatusBase = {
  observedGeneration: Count.optional().describe('The generation of the object that this status is about.'),
  conditions: z
    .array(Condition)
    .max(16)
    .meta({ 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': ['type'] })
    .optional()
    .describe('Whether the object is accepted and in force, and if not, why.'),
}
