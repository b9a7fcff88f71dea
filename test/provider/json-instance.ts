/** A value that a JSON Schema allows: what a model with structured output answers. Covers what providers accept in schemas. */
import type { JsonObject } from './fields.ts'
import { isObject } from './fields.ts'
import { prose } from './prose.ts'
import type { Random } from './random.ts'

/** Deeper than this, optional parts are left out and lists are as short as they may be. */
const SHALLOW_DEPTH = 4
const DEPTH_MAX = 40
const ITEMS_DEFAULT = 2
const FORMATS: Readonly<Record<string, string>> = {
  'date-time': '2026-01-15T09:30:00Z',
  date: '2026-01-15',
  time: '09:30:00Z',
  duration: 'P1DT2H',
  email: 'alex@example.com',
  hostname: 'example.com',
  ipv4: '192.0.2.10',
  ipv6: '2001:db8::10',
  uuid: '6f1c2a7e-3b54-4d0a-9c38-5e7d1b2f4a60',
  uri: 'https://example.com/item',
}

/** A value valid for `schema`. Throws `RangeError` for a schema that no finite value fits, or whose `$ref` leads nowhere. */
export function instanceOf(schema: JsonObject, random: Random): unknown {
  return build(schema, { root: schema, random }, 0)
}

interface Context {
  readonly root: JsonObject
  readonly random: Random
}

function build(schema: unknown, context: Context, depth: number): unknown {
  if (depth > DEPTH_MAX) throw new RangeError('the schema asks for a value that never ends')
  if (!isObject(schema)) return true
  if (typeof schema['$ref'] === 'string') return build(resolve(schema['$ref'], context.root), context, depth + 1)
  if ('const' in schema) return schema['const']
  if (Array.isArray(schema['enum']) && schema['enum'].length > 0) return context.random.pick<unknown>(schema['enum'])
  if (Array.isArray(schema['allOf'])) return build(merged(schema), context, depth + 1)
  const choices = schema['anyOf'] ?? schema['oneOf']
  if (Array.isArray(choices) && choices.length > 0) return build(simplest(choices, context, depth), context, depth + 1)
  const type = Array.isArray(schema['type']) ? typeFrom(schema['type'], depth) : (schema['type'] ?? impliedType(schema))
  if (type === 'object') return objectFrom(schema, context, depth)
  if (type === 'array') return arrayFrom(schema, context, depth)
  if (type === 'string') return stringFrom(schema, context.random)
  if (type === 'integer' || type === 'number') return numberFrom(schema, context.random, type === 'integer')
  if (type === 'boolean') return context.random.below(2) === 0
  return null
}

function objectFrom(schema: JsonObject, context: Context, depth: number): JsonObject {
  const value: Record<string, unknown> = {}
  const required = new Set(Array.isArray(schema['required']) ? schema['required'] : [])
  const properties = isObject(schema['properties']) ? schema['properties'] : {}
  for (const key in properties) if (required.has(key) || depth < SHALLOW_DEPTH) value[key] = build(properties[key], context, depth + 1)
  return value
}

function arrayFrom(schema: JsonObject, context: Context, depth: number): readonly unknown[] {
  const least = numberIn(schema, 'minItems') ?? 0
  const most = numberIn(schema, 'maxItems') ?? Math.max(least, ITEMS_DEFAULT)
  const count = depth >= SHALLOW_DEPTH ? least : Math.max(least, Math.min(most, ITEMS_DEFAULT))
  return Array.from({ length: count }, () => build(schema['items'] ?? { type: 'string' }, context, depth + 1))
}

function stringFrom(schema: JsonObject, random: Random): string {
  const format = typeof schema['format'] === 'string' ? FORMATS[schema['format']] : undefined
  if (format !== undefined) return format
  if (typeof schema['pattern'] === 'string') return matching(schema['pattern'], random)
  const least = numberIn(schema, 'minLength') ?? 0
  let text = prose(random, 3 + random.below(4), 'en')
    .join('')
    .replace(/\.$/, '')
  while (text.length < least) text += ` ${prose(random, 4, 'en').join('')}`
  return text.slice(0, numberIn(schema, 'maxLength') ?? text.length)
}

/** A string for the simple patterns that schemas use: literals, classes, groups without alternatives, and counts. */
function matching(pattern: string, random: Random): string {
  let text = ''
  const atoms = pattern.replace(/^\^|\$$/g, '').matchAll(/(\[[^\]]+\]|\\.|\((?:\?:)?([^()]*)\)|[^[\\()])([*+?]|\{(\d+)(?:,\d*)?\})?/g)
  for (const [, atom = '', group, repeat, times] of atoms) {
    const count = times === undefined ? (repeat === '*' || repeat === '?' ? 0 : 1) : Number(times)
    for (let index = 0; index < count; index += 1)
      text += group === undefined ? characterOf(atom, random) : matching(group.split('|')[0] ?? '', random)
  }
  if (!new RegExp(pattern, 'u').test(text)) throw new RangeError(`the pattern ${pattern} is beyond this generator`)
  return text
}

function characterOf(atom: string, random: Random): string {
  const candidates = 'aA0bcdefxyzBCDEFXYZ123456789_-. @/:+'.split('')
  const allowed = new RegExp(`^${atom}$`, 'u')
  const fitting = candidates.filter((candidate) => allowed.test(candidate))
  if (fitting.length > 0) return random.pick(fitting)
  return atom.startsWith('\\') ? atom.slice(1) : atom
}

function numberFrom(schema: JsonObject, random: Random, whole: boolean): number {
  const step = numberIn(schema, 'multipleOf') ?? (whole ? 1 : 0.5)
  const above = numberIn(schema, 'exclusiveMinimum')
  const below = numberIn(schema, 'exclusiveMaximum')
  const highest = numberIn(schema, 'maximum') ?? (below === null ? null : below - step)
  const lowest = numberIn(schema, 'minimum') ?? (above === null ? Math.min(1, highest ?? 1) : above + step)
  const first = Math.ceil(lowest / step) * step
  const steps = highest === null ? 20 : Math.max(0, Math.floor((highest - first) / step))
  const value = first + random.below(Math.min(steps, 20) + 1) * step
  return whole ? Math.round(value) : value
}

function resolve(reference: string, root: JsonObject): unknown {
  let at: unknown = root
  for (const step of reference.replace(/^#\/?/, '').split('/').filter(Boolean)) {
    const key = step.replaceAll('~1', '/').replaceAll('~0', '~')
    if (!isObject(at) || !(key in at)) throw new RangeError(`the schema has no ${reference}`)
    at = at[key]
  }
  return at
}

/** A schema and the members of its `allOf` as one. */
function merged(schema: JsonObject): JsonObject {
  const result: Record<string, unknown> = { ...schema }
  delete result['allOf']
  for (const member of Array.isArray(schema['allOf']) ? schema['allOf'] : []) {
    if (!isObject(member)) continue
    const properties = { ...asObject(result['properties']), ...asObject(member['properties']) }
    const required = [...asArray(result['required']), ...asArray(member['required'])]
    Object.assign(result, member)
    if (Object.keys(properties).length > 0) Object.assign(result, { properties, required })
  }
  return result
}

/** Of several schemas the first, but deep down the first that ends there. */
function simplest(choices: readonly unknown[], context: Context, depth: number): unknown {
  if (depth < SHALLOW_DEPTH) return context.random.pick(choices)
  const isLeaf = (choice: unknown): boolean =>
    isObject(choice) && !('$ref' in choice) && choice['type'] !== 'object' && choice['type'] !== 'array'
  return choices.find(isLeaf) ?? choices[0]
}

function typeFrom(types: readonly unknown[], depth: number): unknown {
  return depth >= SHALLOW_DEPTH && types.includes('null') ? 'null' : types[0]
}

function impliedType(schema: JsonObject): string {
  if ('properties' in schema) return 'object'
  if ('items' in schema) return 'array'
  return 'string'
}

function numberIn(schema: JsonObject, key: string): number | null {
  const value = schema[key]
  return typeof value === 'number' ? value : null
}

function asObject(value: unknown): JsonObject {
  return isObject(value) ? value : {}
}

function asArray(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}
