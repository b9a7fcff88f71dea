/**
 * Schemas for data that anybody can send. zod collects what is wrong with every element before it says so: of a list of a million wrong ones,
 * in two bytes each, that takes seconds and gigabytes. These end at the first one.
 */
import * as z from 'zod'

/** A list as long as its sender made it: `hasAtMost` says first how long that may be. */
export function listOf<T extends z.ZodType>(element: T) {
  return z.custom<readonly unknown[]>(Array.isArray, 'must be a list').transform((list, context) => {
    const read: z.output<T>[] = []
    for (const [index, one] of list.entries()) {
      const result = element.safeParse(one)
      if (!result.success) return refused(context, index, result.error)
      read.push(result.data)
    }
    return read
  })
}

/** A map of at most `entriesMax`. */
export function mapOf<T extends z.ZodType>(value: T, entriesMax: number) {
  return z
    .custom<Readonly<Record<string, unknown>>>((map) => typeof map === 'object' && map !== null && !Array.isArray(map), 'must be a map')
    .refine((map) => Object.keys(map).length <= entriesMax, `must have at most ${entriesMax} keys`)
    .transform((map, context) => {
      const read: [string, z.output<T>][] = []
      for (const [key, one] of Object.entries(map)) {
        const result = value.safeParse(one)
        if (!result.success) return refused(context, key, result.error)
        read.push([key, result.data])
      }
      return Object.fromEntries(read)
    })
}

/** Whether so many values are in it at most, at all depths. Of more it looks at no more. */
export function hasAtMost(valuesMax: number, data: unknown): boolean {
  const unseen = [data]
  let values = 1
  for (let next = unseen.pop(); next !== undefined; next = unseen.pop()) {
    const inside: readonly unknown[] = typeof next !== 'object' || next === null ? [] : Array.isArray(next) ? next : Object.values(next)
    values += inside.length
    if (values > valuesMax) return false
    for (const one of inside) if (typeof one === 'object' && one !== null) unseen.push(one)
  }
  return true
}

/** With the first of what is wrong with that element. */
function refused(context: z.RefinementCtx, at: string | number, { issues: [first] }: z.ZodError): never {
  context.addIssue({ code: 'custom', message: first?.message ?? 'is not valid', path: [at, ...(first?.path ?? [])] })
  return z.NEVER
}
