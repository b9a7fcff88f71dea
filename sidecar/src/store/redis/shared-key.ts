/** The key by which all sidecars on one store hash ids: made by the first that asks. */
import { booksKey, identityKey } from './keys.ts'
import type { Link } from './link.ts'

/** `offered`, unless there is one already. */
export async function sharedKey(link: Link, namespace: string, offered: Buffer): Promise<Buffer> {
  const known = await link.ask((client) => client.set(identityKey(namespace), offered.toString('base64'), 'NX', 'GET'))
  return known === null ? offered : Buffer.from(known, 'base64')
}

/** What the books of a namespace are called: `offered`, unless they have a name already. */
export async function sharedBooks(link: Link, namespace: string, offered: string): Promise<string> {
  return (await link.ask((client) => client.set(booksKey(namespace), offered, 'NX', 'GET'))) ?? offered
}
