/**
 * An entry that we wrote before and meet again, with what others have done to it since: the API server's defaults, mounts that
 * another webhook put into every container. What we say is made so; what they added stays.
 */
import { canonicalJson } from './canonical.ts'

/** Whether nothing has to be done to `existing`. */
export function isWithin(own: unknown, existing: unknown): boolean {
  return canonicalJson(withOwn(existing, own)) === canonicalJson(existing)
}

/** `existing` with what `own` says, at all depths, and with what only `existing` says. */
export function withOwn(existing: unknown, own: unknown): unknown {
  if (Array.isArray(own)) return Array.isArray(existing) ? withElements(existing, own) : own
  if (!isMap(own)) return own
  if (!isMap(existing)) return own
  return { ...existing, ...Object.fromEntries(Object.entries(own).map(([key, value]) => [key, withOwn(existing[key], value)])) }
}

/** Elements are the same by what the API server tells them apart by; without such a key, by their place. */
function withElements(existing: readonly unknown[], own: readonly unknown[]): readonly unknown[] {
  const key = ['mountPath', 'containerPort', 'name'].find((key) => own.every((element) => isMap(element) && element[key] !== undefined))
  if (key === undefined) return existing.length === own.length ? own.map((element, index) => withOwn(existing[index], element)) : own
  const identityOf = (element: unknown): unknown => (isMap(element) ? element[key] : undefined)
  const ours = new Map(own.map((element) => [identityOf(element), element]))
  const left = new Map(ours)
  const kept = existing.flatMap((element) => {
    const identity = identityOf(element)
    const mine = left.get(identity)
    if (mine === undefined) return ours.has(identity) ? [] : [element] // of two variables of one name the last would win
    left.delete(identity)
    return [withOwn(element, mine)]
  })
  return [...kept, ...left.values()]
}

function isMap(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
