/** Steps through a zod schema beside a value or a path: what lies under optional and default wrappers, and below a key. */
import * as z from 'zod'

/** The schema and what it wraps, outermost first: `Ladder.default(...)` gives the default and the list. */
export function layersOf(schema: z.ZodType): readonly [z.ZodType, ...z.ZodType[]] {
  const inner: unknown =
    schema instanceof z.ZodOptional || schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault || schema instanceof z.ZodNullable
      ? schema.def.innerType
      : undefined
  return inner instanceof z.ZodType ? [schema, ...layersOf(inner)] : [schema]
}

/** The schema itself, without wrappers. */
export function coreOf(schema: z.ZodType): z.ZodType {
  return layersOf(schema).at(-1) ?? schema
}

/** The schema of a field, an element or a map's value; null where there is none. */
export function schemaBelow(schema: z.ZodType, key: PropertyKey): z.ZodType | null {
  const core = coreOf(schema)
  let below: unknown
  if (core instanceof z.ZodObject) below = Object.hasOwn(core.shape, key) ? core.shape[String(key)] : undefined
  else if (core instanceof z.ZodArray) below = core.element
  else if (core instanceof z.ZodRecord) below = core.valueType
  return below instanceof z.ZodType ? below : null
}

/** `['spec', 'ladder', 2]` -> `spec.ladder[2]`. */
export function pathText(path: readonly PropertyKey[]): string {
  return path.reduce<string>((text, part) => joinPath(text, typeof part === 'number' ? `[${part}]` : `.${String(part)}`), '')
}

/** Appends `.name` or `[2]`. */
export function joinPath(path: string, part: string): string {
  return path === '' && part.startsWith('.') ? part.slice(1) : path + part
}

/** Removes the field that the path leads to, if there is one. */
export function removeAt(whole: unknown, path: readonly PropertyKey[]): void {
  const [key, ...rest] = path
  if (Array.isArray(whole)) return removeAt(whole[Number(key)], rest)
  if (!isRecord(whole)) return
  if (rest.length === 0) delete whole[String(key)]
  else removeAt(whole[String(key)], rest)
}

/** Copies the field that the path leads to from one value into another that has all of the path but that field. */
export function copyAt(from: unknown, to: unknown, path: readonly PropertyKey[]): void {
  const [key, ...rest] = path
  if (Array.isArray(from) && Array.isArray(to)) return copyAt(from[Number(key)], to[Number(key)], rest)
  if (!isRecord(from) || !isRecord(to)) return
  const name = String(key)
  // Set as it is: a name like `__proto__` is a field too.
  if (rest.length === 0) Object.defineProperty(to, name, { value: from[name], enumerable: true, writable: true, configurable: true })
  else copyAt(from[name], to[name], rest)
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
