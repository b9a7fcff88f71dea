/** Several lists, each in order and read a page at a time, as one. */

export interface Page<Item> {
  /** In order, and after those of the page before. May be empty although more follow. */
  readonly items: readonly Item[]
  readonly isLast: boolean
}
/** The next page, each time that it is asked for. */
export type Pages<Item> = () => Promise<Page<Item>>

/** Pages that are asked for side by side: what a server does for them, the steps of turns wait for. */
const AT_ONCE = 4

/** The first `limit` of all lists together. Of each no more is read than may be among them. */
export async function firstOf<Item>(
  lists: readonly Pages<Item>[],
  limit: number,
  inOrder: (a: Item, b: Item) => number,
): Promise<readonly Item[]> {
  if (limit < 1) return []
  const read = lists.map((next) => ({ next, items: [] as Item[], isLast: false }))
  let first: readonly Item[] = []
  for (let open = read; open.length > 0;) {
    await inLanes(open, async (list) => {
      const { items, isLast } = await list.next()
      list.items.push(...items)
      list.isLast = isLast
    })
    first = read
      .flatMap(({ items }) => items)
      .toSorted(inOrder)
      .slice(0, limit)
    const last = first.length < limit ? undefined : first.at(-1)
    open = read.filter(({ items, isLast }) => {
      const seen = items.at(-1)
      return !isLast && (seen === undefined || last === undefined || inOrder(seen, last) < 0)
    })
  }
  return first
}

/** How many to ask of each of several lists at first: twice their share, for some have more than others. */
export function shareOf(limit: number, lists: number): number {
  return Math.min(limit, Math.ceil((2 * limit) / lists) + 1)
}

/** When it rejects, nothing of it is under way any more. */
async function inLanes<Item>(items: readonly Item[], run: (item: Item) => Promise<void>): Promise<void> {
  const waiting = items.values()
  const ends = await Promise.allSettled(
    Array.from({ length: Math.min(AT_ONCE, items.length) }, async () => {
      for (const item of waiting) await run(item)
    }),
  )
  for (const end of ends) if (end.status === 'rejected') throw end.reason
}
