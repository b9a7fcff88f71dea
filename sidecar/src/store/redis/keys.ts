/**
 * Where things are: `fb:<namespace>:{<tag>}:<kind>:<id>`. A namespace has a fixed number of tags, written down in Redis by
 * whoever opens it first. A user's conversations and budgets, or a conversation without a user, are in the tag that the
 * user's (the conversation's) id hashes to. So all that one step moves is in one slot of a cluster, and the tags that a
 * sweep or a reader of the ledger must visit are known without a registry. A tag per user would cost each of them a clock,
 * a stream and a list of holds: more memory than the conversations themselves.
 *
 * A script declares the `meta` of its tag, which each script reads; the others are named after it and so are in
 * its slot. They cannot be declared: a void knows an operation's id alone, and the record under it says which accounts it
 * moves. A script that looked first and moved later would not be one step.
 *
 * While a slot moves to another node of a cluster, some keys are here and some there, and what a script asks for and is not here stops it, with
 * what it wrote before. So it declares `none` too, which never exists: of a slot that moves, a node that lacks one of several keys runs
 * nothing on them (TRYAGAIN), neither the one that it leaves nor the one that it comes to.
 * https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#multi-key-operations
 *
 * Kinds: `a` account, `o` operation, `y` operations that ended, `k` conversation, `e` its edits, `r` its edits that are ready,
 * `h` digests of chains, `d` totals of a tier's day, `u` a sketch of its users, `v` what each of them spent, `n` conversations of a
 * tier that await a resolution, `x` outcome, `z` contract, `p` part of an operation whose home is another tag, `w` parts that were
 * settled, `q` home of a conversation, `c` cost that an app told, `l` where the last is that is carried for these accounts, `m` what a user
 * said, `i` and `j` the same by time and by expiry, `b` accounts but for those of conversations, by the weeks that they were used in; and one each of `meta` (clock, tick, the last sweep, how far `carried` was looked
 * through), `held` and `parts` (by expiry), `talks` (by last turn) and `calls` (lone ones, by the same), `memories` (users, by their next expiry), `ledger`, and `carried`
 * (by tick) for what was dropped from it.
 */
import { hash } from 'node:crypto'
import type { AccountId } from '../../core/budget.ts'
import { DAY_MS } from '../../core/utc-day.ts'

/** Accounts are listed by the week in which they were used: by such a number of weeks since 1970, in the tag's time. */
export const ACCOUNTS_WEEK_MS = 7 * DAY_MS

const NAMESPACE = /^[A-Za-z0-9._-]{1,128}$/
/** Of a namespace, whatever its tags. */
export const TAGS_MAX = 256

export function layoutKey(namespace: string): string {
  if (!NAMESPACE.test(namespace)) throw new RangeError(`a namespace must match ${NAMESPACE.source}`)
  return `fb:${namespace}:layout`
}

/** By which all sidecars of a namespace hash ids. */
export function identityKey(namespace: string): string {
  return `fb:${namespace}:identity`
}

/** Which run of the server those who share it have met last, and when the first of them did. */
export function runKey(namespace: string): string {
  return `fb:${namespace}:run`
}

/** Names the books of a namespace, so that who is told of them by several sidecars counts them once. */
export function booksKey(namespace: string): string {
  return `fb:${namespace}:books`
}

export function tagPrefix(namespace: string, tag: number): string {
  return `fb:${namespace}:{${tag}}:`
}

/** Those that each script of a tag declares. */
export function declaredKeys(prefix: string): readonly [meta: string, none: string] {
  return [`${prefix}meta`, `${prefix}none`]
}

/** Which of `tags` an id belongs to; the same for all sidecars, for ever. */
export function tagOf(id: string, tags: number): number {
  return tags === 1 ? 0 : hash('sha256', id, 'buffer').readUInt32BE(0) % tags
}

export type AccountOwner =
  | { readonly kind: 'conversation'; readonly conversation: string }
  /** A user's budgets are at home with the user; anything else by its whole name, or a workload's by its workload's. */
  | { readonly kind: 'other'; readonly id: string }

/** Accounts are named in `core/terms.ts`: `c:<conversation>:<session>`, `u:<user>:...`, `w:<workload>:...`. */
export function ownerOf(account: AccountId): AccountOwner {
  const [kind, id] = account.split(':', 2)
  if (kind === 'c' && id !== undefined)
    return { kind: 'conversation', conversation: account.slice(2, Math.max(2, account.lastIndexOf(':'))) }
  if (kind === 'u' && id !== undefined) return { kind: 'other', id }
  return { kind: 'other', id: kind === 'w' && id !== undefined ? `w:${id}` : account }
}
