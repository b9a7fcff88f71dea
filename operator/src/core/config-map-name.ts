/** The config map that carries a budget's config: who writes it and the pods that mount it must call it the same. */
import { createHash } from 'node:crypto'
import { CONFIG_MAP_PREFIX } from '@farebox/crds/cluster.ts'

const NAME_CHARS_MAX = 253
const HASH_CHARS = 10

/** A name that would be too long is cut, and told apart by the hash of the whole. */
export function configMapName(budget: string): string {
  const name = `${CONFIG_MAP_PREFIX}${budget}`
  if (name.length <= NAME_CHARS_MAX) return name
  const hash = createHash('sha256').update(budget).digest('hex').slice(0, HASH_CHARS)
  return `${name.slice(0, NAME_CHARS_MAX - HASH_CHARS - 1).replace(/[-.]+$/, '')}-${hash}`
}
