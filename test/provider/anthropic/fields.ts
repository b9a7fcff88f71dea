/** Checks of single fields in Anthropic's wording. Each throws an `ApiError` whose message begins with the path. */
import type { JsonObject } from '../fields.ts'
import { isObject } from '../fields.ts'
import { invalid } from './error.ts'

export function objectAt(value: unknown, path: string): JsonObject {
  if (isObject(value)) return value
  throw value === undefined ? missing(path) : invalid(path, 'Input should be a valid dictionary')
}

export function listAt(value: unknown, path: string): readonly unknown[] {
  if (Array.isArray(value)) return value
  throw value === undefined ? missing(path) : invalid(path, 'Input should be a valid list')
}

export function stringAt(value: unknown, path: string): string {
  if (typeof value === 'string') return value
  throw value === undefined ? missing(path) : invalid(path, 'Input should be a valid string')
}

export function booleanAt(value: unknown, path: string): boolean {
  if (typeof value === 'boolean') return value
  throw value === undefined ? missing(path) : invalid(path, 'Input should be a valid boolean')
}

/** Whole numbers from `min`. */
export function integerAt(value: unknown, path: string, min: number): number {
  if (value === undefined) throw missing(path)
  if (typeof value !== 'number' || !Number.isInteger(value)) throw invalid(path, 'Input should be a valid integer')
  if (value < min) throw invalid(path, `Input should be greater than or equal to ${min}`)
  return value
}

export function numberAt(value: unknown, path: string, min: number, max: number): number {
  if (typeof value !== 'number') throw invalid(path, 'Input should be a valid number')
  if (value < min || value > max)
    throw invalid(path, value < min ? `Input should be greater than or equal to ${min}` : `Input should be less than or equal to ${max}`)
  return value
}

export function oneOf<Choice extends string>(value: unknown, path: string, choices: readonly Choice[]): Choice {
  const found = choices.find((choice) => choice === value)
  if (found !== undefined) return found
  if (value === undefined) throw missing(path)
  throw invalid(path, `Input should be ${choices.map((choice) => `'${choice}'`).join(' or ')}`)
}

/** Refuses every key of `object` that is not among `known`. */
export function onlyKeys(object: JsonObject, known: ReadonlySet<string>, path: string): void {
  for (const key in object) if (!known.has(key)) throw invalid(path === '' ? key : `${path}.${key}`, 'Extra inputs are not permitted')
}

export function missing(path: string): Error {
  return invalid(path, 'Field required')
}
