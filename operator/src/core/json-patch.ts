/** JSON Patch, https://www.rfc-editor.org/rfc/rfc6902: only what an injection needs, and only on entries of its own. */

export type Operation =
  | { readonly op: 'add' | 'replace'; readonly path: string; readonly value: unknown }
  | { readonly op: 'remove'; readonly path: string }
export type JsonPatch = readonly Operation[]

/** `('spec', 0, 'a/b')` -> `/spec/0/a~1b`: https://www.rfc-editor.org/rfc/rfc6901 */
export function pointer(...parts: readonly (string | number)[]): string {
  return parts.map((part) => `/${String(part).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('')
}

/** Puts `values` at the end of a list that may not be there yet. */
export function append(path: string, list: readonly unknown[] | null | undefined, values: readonly unknown[]): JsonPatch {
  if (values.length === 0) return []
  if (list === null || list === undefined) return [{ op: 'add', path, value: values }]
  return values.map((value) => ({ op: 'add', path: `${path}/-`, value }))
}

/** Puts `values` into a list that may not be there yet, from `index` on. */
export function insert(path: string, list: readonly unknown[] | null | undefined, index: number, values: readonly unknown[]): JsonPatch {
  if (values.length === 0) return []
  if (list === null || list === undefined) return [{ op: 'add', path, value: values }]
  return values.map((value, offset) => ({ op: 'add', path: `${path}/${index + offset}`, value }))
}

/** Sets entries of a map that may not be there yet; those that are right already are left alone. */
export function setEntries(
  path: string,
  map: Readonly<Record<string, string>> | null | undefined,
  entries: Readonly<Record<string, string>>,
): JsonPatch {
  if (map === null || map === undefined) return [{ op: 'add', path, value: entries }]
  return Object.entries(entries).flatMap(([key, value]): JsonPatch => {
    if (!Object.hasOwn(map, key)) return [{ op: 'add', path: `${path}${pointer(key)}`, value }]
    return map[key] === value ? [] : [{ op: 'replace', path: `${path}${pointer(key)}`, value }]
  })
}
