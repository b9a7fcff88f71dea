/**
 * The store that replicas share: Redis or Valkey, 7 or later. Money moves in scripts alone, one per step; balances are
 * integers below 2^53; nobody reads, decides and writes back.
 */
import { StoreError } from '../store.ts'
import type { BudgetStore } from '../store.ts'
import { layoutKey, tagPrefix, TAGS_MAX } from './keys.ts'
import { Link } from './link.ts'
import type { LinkOptions } from './link.ts'
import { SCRIPTS } from './scripts.ts'
import { StoreClock } from '../store-clock.ts'
import type { SharedClock } from '../store-clock.ts'
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
  /** The store's clock. Absent: one that goes on by the wall clock. */
  readonly clock?: SharedClock
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
  const { namespace, nowMs, clock = new StoreClock(nowMs) } = options
  try {
    const key = layoutKey(namespace)
    await assertMayRun(link, namespace)
    const wanted = `${LAYOUT_VERSION} ${options.tags ?? (link.isCluster ? CLUSTER_TAGS : 1)}`
    const layout = (await link.ask((client) => client.set(key, wanted, 'NX', 'GET'))) ?? wanted
    const shared = { link, namespace, clock, ticks: { seen: 0 }, ledgerLifeMs: options.ledgerLifeMs }
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

/** Of `XADD`: key, id, field, value. */
const ARGUMENTS_NEEDED_MAX = 4
/** Empty: all of these commands may be run on the key. Redis 8 wants as many arguments as a command needs. */
const FIRST_FORBIDDEN = `
for _, name in ipairs(ARGV) do
  local arguments = {}
  for count = 1, ${ARGUMENTS_NEEDED_MAX} do
    arguments[count] = KEYS[1]
    local isKnown, may = pcall(redis.acl_check_cmd, name, unpack(arguments))
    if isKnown and not may then return name end
    if isKnown then break end
  end
end
return ''`

/** A script that lacks the right to a command stops there, with what it wrote before that: it is not begun. */
async function assertMayRun(link: Link, namespace: string): Promise<void> {
  const commands = new Set(
    [
      ...Object.values(SCRIPTS)
        .join('\n')
        .matchAll(/\bcall\('([A-Z]+)'/g),
    ].map(([, name]) => name ?? ''),
  )
  const forbidden = await link.ask((client) => client.eval(FIRST_FORBIDDEN, 1, `${tagPrefix(namespace, 0)}meta`, ...commands))
  if (forbidden !== '')
    throw new StoreError('away', `the user of the store may not run ${String(forbidden)}: its ACL needs +@all on ~fb:${namespace}:*`)
}

function tagsOf(layout: string, namespace: string): number {
  const [version, tags = ''] = layout.split(' ')
  const count = Number(tags)
  if (version !== LAYOUT_VERSION || !Number.isInteger(count) || count < 1 || count > TAGS_MAX)
    throw new StoreError('corrupt', `the namespace ${namespace} has layout ${layout}; this version reads layout ${LAYOUT_VERSION}`)
  return count
}
