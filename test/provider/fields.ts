/** Checks of single fields, with the provider's wording and codes. Each throws an `ApiError` that names the field. */
import { badRequest } from './api-error.ts'

export type JsonObject = Readonly<Record<string, unknown>>

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The object at `path`; null and undefined are refused too. */
export function objectAt(value: unknown, path: string): JsonObject {
  if (isObject(value)) return value
  throw wrongType(path, 'an object', value)
}

export function arrayAt(value: unknown, path: string, bounds: { readonly min: number; readonly max: number }): readonly unknown[] {
  if (!Array.isArray(value)) throw wrongType(path, 'an array', value)
  if (value.length < bounds.min)
    throw badRequest(
      path,
      'empty_array',
      `Invalid '${path}': empty array. Expected an array with minimum length ${bounds.min}, but got an empty array instead.`,
    )
  if (value.length > bounds.max)
    throw badRequest(
      path,
      'array_above_max_length',
      `Invalid '${path}': array too long. Expected an array with maximum length ${bounds.max}, but got an array with length ${value.length} instead.`,
    )
  return value
}

export function stringAt(value: unknown, path: string, maxLength = Number.MAX_SAFE_INTEGER): string {
  if (typeof value !== 'string') throw wrongType(path, 'a string', value)
  if (value.length > maxLength)
    throw badRequest(
      path,
      'string_above_max_length',
      `Invalid '${path}': string too long. Expected a string with maximum length ${maxLength}, but got a string with length ${value.length} instead.`,
    )
  return value
}

export function booleanAt(value: unknown, path: string): boolean {
  if (typeof value !== 'boolean') throw wrongType(path, 'a boolean', value)
  return value
}

export function integerAt(value: unknown, path: string, min: number, max: number): number {
  if (typeof value !== 'number' || !Number.isInteger(value)) throw wrongType(path, 'an integer', value)
  return inRange(value, path, 'integer', min, max)
}

export function decimalAt(value: unknown, path: string, min: number, max: number): number {
  if (typeof value !== 'number') throw wrongType(path, 'a decimal', value)
  return inRange(value, path, 'decimal', min, max)
}

export function oneOf<Choice extends string>(value: unknown, path: string, choices: readonly Choice[]): Choice {
  const found = choices.find((choice) => choice === value)
  if (found !== undefined) return found
  if (typeof value !== 'string') throw wrongType(path, `one of ${listOf(choices)}`, value)
  throw badRequest(path, 'invalid_value', `Invalid value: '${value}'. Supported values are: ${listOf(choices)}.`)
}

/** A function, tool or schema name. */
export function nameAt(value: unknown, path: string): string {
  const name = stringAt(value, path, 64)
  if (!/^[a-zA-Z0-9_-]+$/.test(name))
    throw badRequest(
      path,
      'invalid_value',
      `Invalid '${path}': string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'.`,
    )
  return name
}

/** Refuses every key of `object` that is not among `known`. */
export function onlyKeys(object: JsonObject, known: ReadonlySet<string>, path: string): void {
  for (const key in object) {
    if (known.has(key)) continue
    const full = path === '' ? key : `${path}.${key}`
    throw badRequest(full, 'unknown_parameter', `Unknown parameter: '${full}'.`)
  }
}

export function missing(path: string): Error {
  return badRequest(path, 'missing_required_parameter', `Missing required parameter: '${path}'.`)
}

export function wrongType(path: string, expected: string, value: unknown): Error {
  if (value === undefined) return missing(path)
  return badRequest(path, 'invalid_type', `Invalid type for '${path}': expected ${expected}, but got ${kindOf(value)} instead.`)
}

function inRange(value: number, path: string, kind: string, min: number, max: number): number {
  if (value > max)
    throw badRequest(
      path,
      `${kind}_above_max_value`,
      `Invalid '${path}': ${kind} above maximum value. Expected a value <= ${max}, but got ${value} instead.`,
    )
  if (value < min)
    throw badRequest(
      path,
      `${kind}_below_min_value`,
      `Invalid '${path}': ${kind} below minimum value. Expected a value >= ${min}, but got ${value} instead.`,
    )
  return value
}

function kindOf(value: unknown): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'an array'
  if (typeof value === 'object') return 'an object'
  if (typeof value === 'number') return Number.isInteger(value) ? 'an integer' : 'a decimal'
  return `a ${typeof value}`
}

function listOf(choices: readonly string[]): string {
  const quoted = choices.map((choice) => `'${choice}'`)
  return quoted.length < 2 ? quoted.join('') : `${quoted.slice(0, -1).join(', ')}, and ${quoted.at(-1)}`
}
