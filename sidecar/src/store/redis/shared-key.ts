/** The key by which all sidecars on one store hash ids: made by the first that asks. */
import { identityKey } from './keys.ts'
import { Link } from './link.ts'
import type { LinkOptions } from './link.ts'

/** `offered`, unless there is one already. */
export async function sharedKey({ namespace, ...options }: LinkOptions & { readonly namespace: string }, offered: Buffer): Promise<Buffer> {
  const link = await Link.open(options)
  try {
    const known = await link.ask((client) => client.set(identityKey(namespace), offered.toString('base64'), 'NX', 'GET'))
    return known === null ? offered : Buffer.from(known, 'base64')
  } finally {
    await link.close()
  }
}
