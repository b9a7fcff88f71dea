/** Many things of one sort, a few at a time. */

/** Rejects with the first error, once those that were begun have ended. */
export async function inBatches<T>(items: Iterable<T>, atOnce: number, run: (item: T) => Promise<void>): Promise<void> {
  const waiting = [...items]
  const worker = async (): Promise<void> => {
    for (let item = waiting.shift(); item !== undefined; item = waiting.shift()) await run(item)
  }
  const ended = await Promise.allSettled(Array.from({ length: Math.min(atOnce, waiting.length) }, worker))
  for (const result of ended) if (result.status === 'rejected') throw result.reason
}
