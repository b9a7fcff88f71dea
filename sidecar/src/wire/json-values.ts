/** Values of parsed JSON that may be anything: each is given as what was looked for, or not at all. */
import { isList, isObject, parseObject } from '../core/message.ts'
import type { Json, JsonObject } from '../core/request.ts'

/** The object that bytes are; null for anything else. */
export function objectAt(bytes: Buffer, start = 0, end = bytes.length): JsonObject | null {
  return parseObject(bytes.toString('utf8', start, end))
}

export function objectsIn(value: Json | undefined): readonly JsonObject[] {
  return isList(value) ? value.filter(isObject) : []
}

export function textOrNull(value: Json | undefined): string | null {
  return typeof value === 'string' ? value : null
}

/** The members of an object that are texts. */
export function textsOf(value: Json | undefined): Readonly<Record<string, string>> {
  if (!isObject(value)) return {}
  return Object.fromEntries(Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === 'string'))
}

/** A count that the object in `body` has; null for bytes that say none. */
export function countIn(body: Buffer, name: string): number | null {
  const count = objectAt(body)?.[name]
  return typeof count === 'number' && Number.isInteger(count) && count >= 0 ? count : null
}
