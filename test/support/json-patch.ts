/** Applies a JSON Patch as https://www.rfc-editor.org/rfc/rfc6902 says, strictly: what the API server would refuse throws. */

interface Operation {
  readonly op: 'add' | 'replace' | 'remove'
  readonly path: string
  readonly value?: unknown
}

/** The patched copy of a JSON value. */
export function applyPatch<T>(document: T, patch: readonly Operation[]): T {
  const root: unknown = { root: structuredClone(document) }
  for (const operation of patch) applyOperation(root, operation)
  return (root as { readonly root: T }).root
}

function applyOperation(root: unknown, { op, path, value }: Operation): void {
  const parts = ['root', ...path.split('/').slice(1)].map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'))
  const last = parts.pop() ?? ''
  let parent: unknown = root
  for (const part of parts) parent = memberOf(parent, part, path)
  if (Array.isArray(parent)) {
    const index = last === '-' && op === 'add' ? parent.length : Number(last)
    const isThere = Number.isInteger(index) && index >= 0 && index < parent.length + (op === 'add' ? 1 : 0)
    if (!isThere) throw new RangeError(`${op} ${path}: there is no such element`)
    parent.splice(index, op === 'add' ? 0 : 1, ...(op === 'remove' ? [] : [structuredClone(value)]))
    return
  }
  if (!isMap(parent)) throw new TypeError(`${op} ${path}: the parent is neither a list nor a map`)
  if (op !== 'add' && !Object.hasOwn(parent, last)) throw new RangeError(`${op} ${path}: there is no such field`)
  if (op === 'remove') delete parent[last]
  else Object.defineProperty(parent, last, { value: structuredClone(value), enumerable: true, writable: true, configurable: true })
}

function memberOf(parent: unknown, part: string, path: string): unknown {
  const member: unknown = Array.isArray(parent)
    ? parent[Number(part)]
    : isMap(parent) && Object.hasOwn(parent, part)
      ? parent[part]
      : undefined
  if (member === undefined || member === null) throw new RangeError(`${path}: there is no "${part}"`)
  return member
}

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
