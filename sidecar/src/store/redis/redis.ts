/**
 * The store that replicas share: Redis or Valkey, 7 or later. Money moves in scripts alone, one per step; balances are
 * integers below 2^53; nobody reads, decides and writes back.
 */
import { StoreError } from '../store.ts'
import type { BudgetStore } from '../store.ts'
import { layoutKey, TAGS_MAX } from './keys.ts'
import { Link } from './link.ts'
import type { LinkOptions } from './link.ts'
import { StoreClock } from '../store-clock.ts'
import { SpreadStore } from './spread.ts'
import { Tag } from './tag.ts'

/** Of what is written; another one is another program's, or another version's. */
const LAYOUT_VERSION = '2'
/** Enough that a dozen masters share them evenly; each costs a sweep and a reader of the ledger one command. */
const CLUSTER_TAGS = 32

export interface BooksOptions {
  /** Separates the books of several owners on one server. */
  readonly namespace: string
  /** The wall clock. */
  readonly nowMs: () => number
  /** Over how many tags a new namespace is spread; one that exists stays as it is. One is enough for one server. */
  readonly tags?: number
  /** Ledger entries older than this are dropped, their sums carried over; at least `LEDGER_LIFE_MS_MIN`. Absent: kept for good. */
  readonly ledgerLifeMs?: number | undefined
}

/** Rejects with `StoreError`: `away` when nobody answers, `corrupt` when the namespace is not ours or of another version. */
export async function openRedisStore(options: LinkOptions & BooksOptions): Promise<BudgetStore> {
  return await openBooks(await Link.open(options), options)
}

/** The books behind a link, which they close with themselves, and when they cannot be opened. */
export async function openBooks(link: Link, options: BooksOptions): Promise<BudgetStore> {
  const { namespace, nowMs } = options
  try {
    const key = layoutKey(namespace)
    const wanted = `${LAYOUT_VERSION} ${options.tags ?? (link.isCluster ? CLUSTER_TAGS : 1)}`
    const layout = (await link.ask((client) => client.set(key, wanted, 'NX', 'GET'))) ?? wanted
    const shared = { link, namespace, clock: new StoreClock(nowMs), ticks: { seen: 0 }, ledgerLifeMs: options.ledgerLifeMs }
    const tags = Array.from({ length: tagsOf(layout, namespace) }, (_, tag) => new Tag({ ...shared, tag }))
    // Connects to every node that there is, and learns the store's clock.
    await Promise.all(tags.map((tag) => tag.fence()))
    const [first] = tags
    return tags.length === 1 && first !== undefined ? first : new SpreadStore(tags, nowMs)
  } catch (error) {
    await link.close()
    throw error
  }
}

function tagsOf(layout: string, namespace: string): number {
  const [version, tags = ''] = layout.split(' ')
  const count = Number(tags)
  if (version !== LAYOUT_VERSION || !Number.isInteger(count) || count < 1 || count > TAGS_MAX)
    throw new StoreError('corrupt', `the namespace ${namespace} has layout ${layout}; this version reads layout ${LAYOUT_VERSION}`)
  return count
}
