/**
 * The secret of the installation's own store: the password of its admin, and the root key from which all else follows. Drawn once and
 * never again: a store that runs does not know another password, and an empty one would hash ids otherwise.
 */
import { randomBytes } from 'node:crypto'
import { LABELS, MANAGED_BY } from '@farebox/crds/cluster.ts'
import { KubeError } from '../kube/kube.ts'
import type { KubeClient, KubeObject } from '../kube/kube.ts'
import { SECRETS } from '../kube/resources.ts'

export const STORE_SECRET_KEYS = { adminPassword: 'admin-password', rootKey: 'root-key' } as const

export interface StoreSecret {
  readonly adminPassword: string
  /** 32 bytes, or more where somebody else made it. */
  readonly rootKey: Buffer
}

const KEY_BYTES = 32

/**
 * Creates it where there is none: as it last was, since the store that runs knows no other, or drawn anew where nobody remembers one
 * (`last` is null). Rejects with `KubeError`.
 */
export async function ensureStoreSecret(
  client: Pick<KubeClient, 'create'>,
  place: { readonly namespace: string; readonly name: string },
  last: KubeObject | null,
): Promise<'drawn' | 'restored' | 'exists'> {
  const data = last === null ? drawn() : last['data']
  const metadata = { ...place, labels: { [LABELS.managedBy]: MANAGED_BY } }
  try {
    await client.create(SECRETS, { apiVersion: 'v1', kind: 'Secret', metadata, type: 'Opaque', data })
    return last === null ? 'drawn' : 'restored'
  } catch (error) {
    if (error instanceof KubeError && error.reason === 'AlreadyExists') return 'exists'
    throw error
  }
}

function drawn(): Readonly<Record<string, string>> {
  return {
    [STORE_SECRET_KEYS.adminPassword]: Buffer.from(randomBytes(KEY_BYTES).toString('base64url')).toString('base64'),
    [STORE_SECRET_KEYS.rootKey]: randomBytes(KEY_BYTES).toString('base64'),
  }
}

/** Null: it does not hold what it must. */
export function storeSecretOf(secret: KubeObject): StoreSecret | null {
  const data = dataOf(secret)
  // A file that an editor wrote ends with a line break; the Valkey of the chart takes it for none of the password either.
  const adminPassword = data(STORE_SECRET_KEYS.adminPassword)?.toString('utf8').replace(/\n$/, '')
  const rootKey = data(STORE_SECRET_KEYS.rootKey)
  return adminPassword === undefined || adminPassword === '' || rootKey === undefined || rootKey.length < KEY_BYTES
    ? null
    : { adminPassword, rootKey }
}

/** Of a Secret as the API server has it: by key, decoded. */
export function dataOf({ data }: KubeObject): (key: string) => Buffer | undefined {
  const values: Readonly<Record<string, unknown>> = typeof data === 'object' && data !== null ? { ...data } : {}
  return (key) => {
    const value = values[key]
    return typeof value === 'string' ? Buffer.from(value, 'base64') : undefined
  }
}
