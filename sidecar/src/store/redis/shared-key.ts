/** The key by which all sidecars on one store hash ids: made by the first that asks. */
import { identityKey } from './keys.ts'
import type { Link } from './link.ts'

/** `offered`, unless there is one already. */
export async function sharedKey(link: Link, namespace: string, offered: Buffer): Promise<Buffer> {
  const known = await link.ask((client) => client.set(identityKey(namespace), offered.toString('base64'), 'NX', 'GET'))
  return known === null ? offered : Buffer.from(known, 'base64')
}
