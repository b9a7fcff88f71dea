/** What all sidecars on one store agree on, made by the first that asks: the key by which they hash ids, what their books are called, since when a run is known. */
import { booksKey, identityKey, runKey } from './keys.ts'
import type { Link } from './link.ts'

/** `offered`, unless there is one already. */
export async function sharedKey(link: Link, namespace: string, offered: Buffer): Promise<Buffer> {
  const known = await link.ask((client) => client.set(identityKey(namespace), offered.toString('base64'), 'NX', 'GET'))
  return known === null ? offered : Buffer.from(known, 'base64')
}

/** What the books of a namespace are called: `offered`, unless they have a name already. `isNew`: nobody has used them yet. */
export async function sharedBooks(
  link: Link,
  namespace: string,
  offered: string,
): Promise<{ readonly name: string; readonly isNew: boolean }> {
  const known = await link.ask((client) => client.set(booksKey(namespace), offered, 'NX', 'GET'))
  return { name: known ?? offered, isNew: known === null }
}

/** When the first of those who share the store met this run of its server: at `metMs` for who is the first. */
export async function runMetMs(link: Link, namespace: string, run: string, metMs: number): Promise<number> {
  const key = runKey(namespace)
  const [known, sinceMs] = ((await link.ask((client) => client.get(key))) ?? '').split(' ')
  if (known === run) return Number(sinceMs)
  await link.ask((client) => client.set(key, `${run} ${metMs}`))
  return metMs
}
