/** What a manifest is, or what is wrong with it, field by field: the shape by the schema, then the rules by their CEL. */
import * as z from 'zod'
import { holds } from './cel.ts'
import { ConversationBudgetSchema } from './conversation-budget.ts'
import type { ConversationBudget } from './conversation-budget.ts'
import { API_GROUP, API_VERSION, LABEL_NAME, LABEL_VALUE } from './fields.ts'
import { PriceBookSchema } from './price-book.ts'
import type { PriceBook } from './price-book.ts'
import { PricingTierSchema } from './pricing-tier.ts'
import type { PricingTier } from './pricing-tier.ts'
import { isTransition, rulesOf } from './rules.ts'
import { coreOf, isRecord, joinPath, layersOf, schemaBelow } from './schema-walk.ts'
import { foundName, shapeProblems, suggestion } from './shape-problems.ts'

export const KINDS = {
  PricingTier: { schema: PricingTierSchema, scope: 'Cluster' },
  ConversationBudget: { schema: ConversationBudgetSchema, scope: 'Namespaced' },
  PriceBook: { schema: PriceBookSchema, scope: 'Cluster' },
} as const
export type Kind = keyof typeof KINDS
export type FareboxObject = PricingTier | ConversationBudget | PriceBook

/** One thing that is wrong. `field` is a path from the top of the object, `spec.ladder[2].atPercent`; the message reads on from it: "must be ...". */
export interface Problem {
  readonly field: string
  readonly message: string
}

export type CheckResult =
  | { readonly status: 'ok'; readonly value: FareboxObject }
  | { readonly status: 'invalid'; readonly problems: readonly Problem[] }

/**
 * Parses an object of ours. Defaults are filled in, as the API server would. A status that is not of this version is left
 * out: it is ours to write, not its author's, and another version may have written it.
 */
export function checkObject(object: unknown): CheckResult {
  const kind = kindOf(object)
  if (typeof kind !== 'string') return { status: 'invalid', problems: [kind] }
  const { schema, scope } = KINDS[kind]
  const parsed = schema.safeParse(withReadableStatus(object, schema))
  if (!parsed.success) return { status: 'invalid', problems: shapeProblems(parsed.error.issues, schema, object) }
  const problems = violations(schema, parsed.data, '')
  if (scope === 'Cluster' && parsed.data.metadata.namespace !== undefined) {
    problems.unshift({ field: 'metadata.namespace', message: `must be absent: a ${kind} belongs to no namespace` })
  }
  return problems.length > 0 ? { status: 'invalid', problems } : { status: 'ok', value: parsed.data }
}

/**
 * What is wrong with the metadata that an author wrote: fields that the API server does not know, and labels and annotations that it does
 * not take. Not part of `checkObject`, which must read what a later API server may add.
 */
export function metadataProblems(object: unknown): readonly Problem[] {
  if (!isRecord(object) || !isRecord(object['metadata'])) return []
  return Object.entries(object['metadata']).flatMap(([key, value]) => {
    const field = `metadata.${key}`
    if (!METADATA_FIELDS.includes(key)) return [{ field, message: `is not a field here${suggestion(key, METADATA_FIELDS)}` }]
    if ((key !== 'labels' && key !== 'annotations') || value === null) return []
    if (!isRecord(value)) return [{ field, message: `must be a mapping; found ${foundName(value)}` }]
    return Object.entries(value).flatMap(([name, text]) => {
      const fault = labelFault(key, name, text)
      return fault === null ? [] : [{ field: `${field}.${name}`, message: fault }]
    })
  })
}

/** Names of annotations are such of labels; what they say is free. */
function labelFault(of: 'labels' | 'annotations', name: string, text: unknown): string | null {
  if (!LABEL_NAME.pattern.test(name)) return `its name ${LABEL_NAME.message}`
  if (typeof text !== 'string') return `must be a text; found ${foundName(text)}`
  return of === 'labels' && !LABEL_VALUE.pattern.test(text) ? LABEL_VALUE.message : null
}

/** https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/ */
const METADATA_FIELDS: readonly string[] = [
  'annotations',
  'creationTimestamp',
  'deletionGracePeriodSeconds',
  'deletionTimestamp',
  'finalizers',
  'generateName',
  'generation',
  'labels',
  'managedFields',
  'name',
  'namespace',
  'ownerReferences',
  'resourceVersion',
  'selfLink',
  'uid',
]

/** What forbids that an object becomes another: both have passed `checkObject` and are of one kind and name. */
export function checkChange(from: FareboxObject, to: FareboxObject): readonly Problem[] {
  return from.kind === to.kind
    ? forbiddenChanges(KINDS[to.kind].schema, from, to, '')
    : [{ field: 'kind', message: `must stay ${from.kind}` }]
}

/** Whether an object claims to be one of ours, be it in the wrong group. */
export function isOurs(object: unknown): boolean {
  if (!isRecord(object)) return false
  const { apiVersion, kind } = object
  return (typeof apiVersion === 'string' && apiVersion.split('/')[0] === API_GROUP) || (typeof kind === 'string' && isKind(kind))
}

function kindOf(object: unknown): Kind | Problem {
  if (!isRecord(object)) return { field: '', message: 'must be a mapping with apiVersion, kind, metadata and spec' }
  const { apiVersion, kind } = object
  if (apiVersion !== API_VERSION) return { field: 'apiVersion', message: `must be ${API_VERSION}` }
  if (typeof kind === 'string' && isKind(kind)) return kind
  const kinds = Object.keys(KINDS)
  return { field: 'kind', message: `must be one of ${kinds.join(', ')}${typeof kind === 'string' ? suggestion(kind, kinds) : ''}` }
}

function isKind(kind: string): kind is Kind {
  return Object.hasOwn(KINDS, kind)
}

function withReadableStatus(object: unknown, schema: z.ZodType): unknown {
  if (!isRecord(object) || object['status'] === undefined) return object
  const below = schemaBelow(schema, 'status')
  const parsed = below?.safeParse(object['status'])
  if (below !== null && below !== undefined && parsed?.success === true && violations(below, parsed.data, '').length === 0) return object
  const { status: _unreadable, ...rest } = object
  return rest
}

/** The rules of a schema and of all below it, on a value of that schema; and that lists which are sets or maps hold nothing twice. */
function violations(schema: z.ZodType, value: unknown, path: string): Problem[] {
  if (value === undefined) return []
  const layers = layersOf(schema)
  const problems: Problem[] = []
  for (const rule of new Set(layers.flatMap(rulesOf))) {
    if (!isTransition(rule) && !holds(rule, value)) problems.push({ field: joinPath(path, rule.fieldPath ?? ''), message: rule.message })
  }
  if (Array.isArray(value)) problems.push(...layers.flatMap((layer) => repetitions(layer, value, path)))
  return [
    ...problems,
    ...below(schema, value).flatMap(({ schema: inner, key, part }) => violations(inner, memberOf(value, key), joinPath(path, part))),
  ]
}

function forbiddenChanges(schema: z.ZodType, from: unknown, to: unknown, path: string): Problem[] {
  if (from === undefined || to === undefined) return [] // a transition rule needs both
  const problems: Problem[] = []
  for (const rule of new Set(layersOf(schema).flatMap(rulesOf))) {
    if (isTransition(rule) && !holds(rule, to, from)) problems.push({ field: joinPath(path, rule.fieldPath ?? ''), message: rule.message })
  }
  if (Array.isArray(to)) return problems // elements have no identity to compare by
  return [
    ...problems,
    ...below(schema, to).flatMap(({ schema: inner, key, part }) =>
      forbiddenChanges(inner, memberOf(from, key), memberOf(to, key), joinPath(path, part)),
    ),
  ]
}

interface Below {
  readonly schema: z.ZodType
  readonly key: string | number
  readonly part: string
}

/** The fields, elements or entries of a value, each with its schema. */
function below(schema: z.ZodType, value: unknown): readonly Below[] {
  const core = coreOf(schema)
  const keys = Array.isArray(value)
    ? [...value.keys()]
    : isRecord(value)
      ? Object.keys(core instanceof z.ZodObject ? core.shape : value)
      : []
  return keys.flatMap((key) => {
    const inner = schemaBelow(core, key)
    return inner === null ? [] : [{ schema: inner, key, part: typeof key === 'number' ? `[${key}]` : `.${key}` }]
  })
}

function memberOf(value: unknown, key: string | number): unknown {
  if (Array.isArray(value)) return typeof key === 'number' ? value[key] : undefined
  return isRecord(value) ? value[key] : undefined
}

/** Elements that came before: the API server refuses them by `x-kubernetes-list-type`. */
function repetitions(layer: z.ZodType, list: readonly unknown[], path: string): Problem[] {
  const meta = layer.meta() ?? {}
  const type = meta['x-kubernetes-list-type']
  if (type !== 'set' && type !== 'map') return []
  const keys = meta['x-kubernetes-list-map-keys']
  const key = type === 'map' && Array.isArray(keys) ? String(keys[0]) : null
  const seen = new Set<unknown>()
  return list.flatMap((element, index) => {
    const identity = key === null ? element : memberOf(element, key)
    if (!seen.has(identity)) {
      seen.add(identity)
      return []
    }
    return [{ field: `${path}[${index}]${key === null ? '' : `.${key}`}`, message: `must be there only once: ${String(identity)}` }]
  })
}
