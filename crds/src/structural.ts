/**
 * zod -> the structural OpenAPI v3 schema of a CRD. Throws with the path on whatever an API server would refuse, so that a schema that
 * cannot be served never leaves this repository.
 * https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema
 */
import * as z from 'zod'
import { isRecord } from './schema-walk.ts'

export type StructuralType = 'object' | 'array' | 'string' | 'integer' | 'boolean'

/** A node of a structural schema: what we use of it. */
export interface StructuralSchema {
  readonly type: StructuralType
  readonly description?: string
  readonly format?: 'int64' | 'date'
  readonly enum?: readonly string[]
  readonly pattern?: string
  readonly minLength?: number
  readonly maxLength?: number
  readonly minimum?: number
  readonly maximum?: number
  readonly minItems?: number
  readonly maxItems?: number
  readonly maxProperties?: number
  readonly default?: unknown
  readonly properties?: Readonly<Record<string, StructuralSchema>>
  readonly required?: readonly string[]
  readonly additionalProperties?: StructuralSchema
  readonly items?: StructuralSchema
  readonly 'x-kubernetes-list-type'?: 'set' | 'map' | 'atomic'
  readonly 'x-kubernetes-list-map-keys'?: readonly string[]
  readonly 'x-kubernetes-validations'?: readonly { readonly rule: string; readonly message: string; readonly fieldPath?: string }[]
}

/**
 * The schema of a field named `path`. Unknown fields are pruned by the API server, so strictness is not written. Throws for what a CRD
 * cannot hold, or would hold without a bound.
 */
export function structuralSchema(schema: z.ZodType, path: string): StructuralSchema {
  // `io: input`: what a manifest may hold. Fields with a default are not required, and defaults are still to be filled in.
  const json: unknown = z.toJSONSchema(schema, {
    target: 'openapi-3.0',
    io: 'input',
    reused: 'inline',
    cycles: 'throw',
    unrepresentable: 'throw',
  })
  return nodeOf(json, path)
}

const TYPES: readonly string[] = ['object', 'array', 'string', 'integer', 'boolean'] satisfies readonly StructuralType[]

/** Keywords that are taken over as they are, where zod wrote them. */
const COPIED = ['description', 'enum', 'minLength', 'maxLength', 'minimum', 'maximum', 'minItems', 'maxItems', 'maxProperties'] as const
const EXTENSIONS = ['x-kubernetes-list-type', 'x-kubernetes-list-map-keys', 'x-kubernetes-validations'] as const
/** Keywords with a meaning of their own below; anything else is refused. */
const HANDLED = ['type', 'format', 'pattern', 'default', 'properties', 'required', 'additionalProperties', 'items'] as const
const KNOWN: ReadonlySet<string> = new Set([...COPIED, ...EXTENSIONS, ...HANDLED])

/** RE2, which the API server uses, has neither lookaround nor backreferences. */
const NOT_RE2 = /\(\?(?:=|!|<=|<!)|\\[1-9]|\\k</

function nodeOf(json: unknown, path: string): StructuralSchema {
  if (!isRecord(json)) throw new TypeError(`${path} must be a schema`)
  for (const keyword of Object.keys(json)) {
    if (!KNOWN.has(keyword)) throw new TypeError(`${path} must not use ${keyword}: a structural schema cannot hold it`)
  }
  const { type } = json
  if (!isType(type)) throw new TypeError(`${path} must have one type, not ${JSON.stringify(type)}`)
  if (typeof json['pattern'] === 'string' && json['format'] === undefined && NOT_RE2.test(json['pattern']))
    throw new TypeError(`${path} must have a pattern that RE2 can read: ${json['pattern']}`)
  return {
    type,
    ...copied(json, COPIED),
    ...(json['default'] === undefined ? {} : { default: json['default'] }),
    ...(type === 'object' ? objectParts(json, path) : {}),
    ...(type === 'array' ? { items: nodeOf(json['items'], `${path}[]`), 'x-kubernetes-list-type': 'atomic' } : {}),
    ...scalarParts(type, json, path),
    ...copied(json, EXTENSIONS),
  }
}

/**
 * Beside a format the API server does not look whether a value is a text: it takes a list, and then can neither write the status of the object
 * nor apply it again. A rule cannot be evaluated for one.
 */
const IS_TEXT = { rule: 'self == self', message: 'must be a date in quotes' }

/** Bounds are demanded, since without them CEL's cost estimate refuses the CRD; whole numbers are bounded by what a double holds at the latest. */
function scalarParts(type: StructuralType, json: Record<string, unknown>, path: string): Partial<StructuralSchema> {
  switch (type) {
    case 'integer':
      if (json['minimum'] === undefined || json['maximum'] === undefined) throw new TypeError(`${path} must have a minimum and a maximum`)
      return { format: 'int64' }
    case 'string': {
      if (json['enum'] !== undefined) return {}
      if (json['maxLength'] === undefined) throw new TypeError(`${path} must have a maxLength`)
      if (json['format'] === undefined) return copied(json, ['pattern'])
      if (json['format'] !== 'date') throw new TypeError(`${path} must not have the format ${JSON.stringify(json['format'])}`)
      return { format: 'date', 'x-kubernetes-validations': [IS_TEXT] } // zod's pattern beside it would be long
    }
    case 'array':
      if (json['maxItems'] === undefined) throw new TypeError(`${path} must have maxItems`)
      return {}
    case 'object':
    case 'boolean':
      return {}
  }
}

function objectParts(json: Record<string, unknown>, path: string): Partial<StructuralSchema> {
  const { properties, required, additionalProperties } = json
  if (isRecord(properties)) {
    if (additionalProperties !== undefined && additionalProperties !== false)
      throw new TypeError(`${path} must not have both fields and further ones`)
    const fields = Object.fromEntries(Object.entries(properties).map(([name, field]) => [name, nodeOf(field, `${path}.${name}`)]))
    const names = Array.isArray(required) ? required.map(String) : []
    return { properties: fields, ...(names.length === 0 ? {} : { required: names }) }
  }
  if (!isRecord(additionalProperties) || Object.keys(additionalProperties).length === 0)
    throw new TypeError(`${path} must say what it holds`)
  if (json['maxProperties'] === undefined) throw new TypeError(`${path} must have maxProperties`)
  const values = nodeOf(additionalProperties, `${path}.*`)
  if (values.type === 'object') throw new TypeError(`${path} must not be a map of objects: use a list with a key`)
  return { additionalProperties: values }
}

function isType(type: unknown): type is StructuralType {
  return typeof type === 'string' && TYPES.includes(type)
}

function copied(json: Record<string, unknown>, keywords: readonly string[]): Partial<StructuralSchema> {
  return Object.fromEntries(keywords.flatMap((keyword) => (json[keyword] === undefined ? [] : [[keyword, json[keyword]]])))
}
