/** Reading JSON that came from a provider: what is not there is empty. */
import { isObject } from '../provider/fields.ts'

/** What stands at a path of keys and indexes; undefined where the path ends. */
export function at(value: unknown, ...path: readonly (string | number)[]): unknown {
  let found = value
  for (const step of path) {
    if (typeof step === 'number') found = Array.isArray(found) ? found[step] : undefined
    else found = isObject(found) ? found[step] : undefined
  }
  return found
}

export function textAt(value: unknown, ...path: readonly (string | number)[]): string {
  const found = at(value, ...path)
  return typeof found === 'string' ? found : ''
}

export function countAt(value: unknown, ...path: readonly (string | number)[]): number {
  const found = at(value, ...path)
  return typeof found === 'number' ? found : 0
}

export function listAt(value: unknown, ...path: readonly (string | number)[]): readonly object[] {
  const found = at(value, ...path)
  return Array.isArray(found) ? found.filter(isObject) : []
}
