/**
 * Gemini's JSON is that of protocol buffers: a name may be in lowerCamelCase or as in the `.proto` file, a list of one may be
 * written without its brackets, an integer as text. https://protobuf.dev/programming-guides/json/
 */
import { isList, isObject } from '../core/message.ts'
import type { Json, JsonObject } from '../core/request.ts'

/** The member by either of its names; undefined when it is absent or null. `name` is one of ours: each is kept. */
export function memberOf(object: JsonObject, name: string): Json | undefined {
  return object[name] ?? object[otherName(name)] ?? undefined
}

const OTHER_NAMES = new Map<string, string>()
function otherName(name: string): string {
  const known = OTHER_NAMES.get(name)
  if (known !== undefined) return known
  const other = snakeCase(name)
  OTHER_NAMES.set(name, other)
  return other
}

/** An object member; an empty one where there is none. */
export function objectOf(object: JsonObject, name: string): JsonObject {
  const value = memberOf(object, name)
  return isObject(value) ? value : EMPTY
}
const EMPTY: JsonObject = {}

/** The objects in a list member. */
export function objectsOf(object: JsonObject, name: string): readonly JsonObject[] {
  return objectsIn(memberOf(object, name))
}

export function objectsIn(value: Json | undefined): readonly JsonObject[] {
  return isList(value) ? value.filter(isObject) : isObject(value) ? [value] : NONE
}
const NONE: readonly JsonObject[] = []

export function textOf(object: JsonObject, name: string): string | null {
  const value = memberOf(object, name)
  return typeof value === 'string' ? value : null
}

/** `maxOutputTokens` -> `max_output_tokens`. */
export function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}

/** The objects that a text is: one, or a list of one at least. Null for anything else. */
export function parseObjects(text: string): readonly JsonObject[] | null {
  let value: Json
  try {
    value = JSON.parse(text)
  } catch {
    return null // not JSON: the caller says what that means
  }
  if (isObject(value)) return [value]
  return isList(value) && value.length > 0 && value.every(isObject) ? value : null
}
