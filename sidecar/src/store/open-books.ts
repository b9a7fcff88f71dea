/**
 * What the rows of the embedded store mean: balances, operations, conversations and entries, as they are now and as a step
 * changes them. All of it happens in memory; `embedded.ts` commits it.
 */
import type { NanoUsd } from '@farebox/crds/usd.ts'
import { added, EMPTY_ACCOUNT } from '../core/budget.ts'
import type { Account, AccountId, Operation, OperationId, OperationState, Outcome } from '../core/budget.ts'
import { applyChange } from '../core/conversation-change.ts'
import type { Conversation, ConversationChange, ConversationId, Digest, Edit, UserId } from '../core/conversation.ts'
import { bucketOf } from '../core/cost-buckets.ts'
import type { LedgerEntry } from '../core/ledger.ts'
import { countsAfter, isSoldSession, rungsBrought } from '../core/totals.ts'
import { dayNumber, dayText } from '../core/utc-day.ts'
import type { BooksFile } from './books-file.ts'
import { keptText } from './memory-search.ts'
import { text } from './rows.ts'
import type { AccountRow, TierDay } from './rows.ts'
import { memoryKey, tierKey } from './shelves.ts'
import type { Shelves } from './shelves.ts'
import { allValues } from './statements.ts'
import type { StoreClock } from './store-clock.ts'
import { CONVERSATION_LIFE_MS, MEMORY_ENTRIES_MAX } from './store.ts'
import type { Forgotten, ListedConversation, MemoryEntry, UpdateAnswer } from './store.ts'
import { withoutEdits, withoutTexts } from './texts.ts'

/**
 * Over a `BooksFile` that somebody else opens, commits and closes. Each method is a part of a step. One that throws `RangeError` has
 * changed nothing; after anything else the file must `recover`, and what is held be taken anew (`takeHeld`).
 */
export class OpenBooks {
  readonly #file: BooksFile
  readonly #shelves: Shelves
  readonly #clock: StoreClock
  #held = new Map<OperationId, Operation>()
  #today = { number: 0, text: '1970-01-01' }

  constructor(file: BooksFile, clock: StoreClock) {
    this.#file = file
    this.#shelves = file.shelves
    this.#clock = clock
    this.takeHeld()
  }

  /** The operations that are held, in no order. */
  get held(): Iterable<Operation> {
    return this.#held.values()
  }

  heldOperation(id: OperationId): Operation | null {
    return this.#held.get(id) ?? null
  }

  /** Reads them again: what memory had was not committed. */
  takeHeld(): void {
    this.#held = new Map(this.#file.held().map((operation) => [operation.id, operation]))
  }

  /** The conversation of the longest known prefix; `now` by the store's clock. */
  findByChain(digests: readonly Digest[], now: number): ConversationId | null {
    for (const digest of digests) {
      const found = this.#shelves.chain.get(digest)
      if (found !== null && !hasOutlived(found, now) && this.alive(found.conversation, now) !== null) return found.conversation
    }
    return null
  }

  book({ operation, delta, entries }: Outcome, times: StepTimes): void {
    const balances = this.moved(operation.accounts, delta)
    this.putOperation(operation, this.#clock.now())
    this.putAccounts(balances, times, { status: operation.state.status, tier: operation.note.tier })
    for (const entry of entries) this.enter(entry)
  }

  enter(entry: LedgerEntry): void {
    const { tier, user } = entry.note
    const sequence = this.#file.nextEntry()
    this.#shelves.entries.set(String(sequence), { ...entry, sequence })
    if (tier === undefined || entry.kind === 'outcome') return
    const at = { tier, day: this.#dayAt(entry.atMs) }
    this.#count(at, 'spent', entry.cost)
    if (user !== undefined) this.#countSpent(at, user, entry.cost)
  }

  /** Adds to what a user spent on a tier's day. */
  #countSpent(at: TierDay, user: string, by: NanoUsd): void {
    const key = tierKey(at, user)
    this.#shelves.userDays.set(key, { ...at, user, spent: (this.#shelves.userDays.get(key)?.spent ?? 0n) + by })
  }

  /** Adds to a sum of a tier's day. */
  #count({ tier, day }: TierDay, name: string, by: bigint): void {
    const key = tierKey({ tier, day }, name)
    this.#shelves.tierDays.set(key, { tier, day, name, sum: (this.#shelves.tierDays.get(key)?.sum ?? 0n) + by })
  }

  #countUser(at: TierDay, user: string): void {
    const key = tierKey(at, user)
    if (this.#shelves.tierUsers.get(key) === null) this.#shelves.tierUsers.set(key, { ...at, user })
  }

  #dayAt(atMs: number): string {
    const number = dayNumber(atMs)
    if (number !== this.#today.number) this.#today = { number, text: dayText(number) }
    return this.#today.text
  }

  operation(id: OperationId): Operation | null {
    return this.#held.get(id) ?? this.#shelves.operations.get(id)?.operation ?? null
  }

  /** The same, by memory alone. */
  recentOperation(id: OperationId): Operation | null {
    return this.#held.get(id) ?? this.#shelves.operations.recent(id)?.operation ?? null
  }

  putOperation(operation: Operation, touched: number): void {
    this.#shelves.operations.set(operation.id, { operation, touched })
    if (operation.state.status === 'held') this.#held.set(operation.id, operation)
    else this.#held.delete(operation.id)
  }

  /** What the accounts come to; throws `RangeError` where one would go beyond `AMOUNT_MAX`. */
  moved(ids: readonly AccountId[], delta: Account): ReadonlyMap<AccountId, Account> {
    return new Map(ids.map((id) => [id, added(this.account(id), delta)]))
  }

  /** `by`: what moves them, as it is after the step. */
  putAccounts(accounts: ReadonlyMap<AccountId, Account>, { touched, wallMs }: StepTimes, by: Mover): void {
    const now = this.#clock.now()
    for (const [id, account] of accounts) {
      const known = this.#shelves.accounts.get(id)
      const before = this.#aliveAccount(id)
      const session = this.#soldIn(id, before, account.spent, by, wallMs)
      this.#shelves.accounts.set(id, { account, touched: touched ?? known?.touched ?? now, session })
      const counted = before?.session ?? null
      const [from, to] = [counted && bucketOf(before?.account.spent ?? 0n), session && bucketOf(account.spent)]
      if (from === to) continue
      if (counted !== null) this.#count(counted, String(from), -1n)
      if (session !== null) this.#count(session, String(to), 1n)
    }
  }

  /** Where a session counts, once; null while it does not. */
  #soldIn(id: AccountId, before: AccountRow | null, spent: NanoUsd, { status, tier }: Mover, wallMs: number): TierDay | null {
    const known = before?.session ?? null
    const counted = { counts: known !== null, spent: before?.account.spent ?? 0n }
    if (!isSoldSession(id) || !countsAfter(status, counted, spent)) return null
    return known ?? (tier === undefined ? null : { tier, day: this.#dayAt(wallMs) })
  }

  account(id: AccountId): Account {
    return this.#aliveAccount(id)?.account ?? EMPTY_ACCOUNT
  }

  #aliveAccount(id: AccountId): AccountRow | null {
    const row = this.#shelves.accounts.get(id)
    return row === null || (row.account.held === 0n && hasOutlived(row, this.#clock.now())) ? null : row
  }

  isAlive(id: AccountId): boolean {
    return this.#aliveAccount(id) !== null
  }

  balances(ids: readonly AccountId[]): ReadonlyMap<AccountId, Account> {
    return new Map(ids.map((id) => [id, this.account(id)]))
  }

  /** `now` by the store's clock. */
  alive(id: ConversationId, now: number): Conversation | null {
    const row = this.#shelves.conversations.get(id)
    return row === null || hasOutlived(row, now) ? null : row.conversation
  }

  /** The same without its edits, for whoever looks at many. */
  listed(id: ConversationId, now: number): ListedConversation | null {
    const row = this.#file.listed(id)
    return row === null || hasOutlived(row, now) ? null : withoutEdits(row.conversation)
  }

  /** What outlived its life under this id is gone before a conversation begins under it. */
  beginAnew(id: ConversationId): void {
    if (this.#shelves.conversations.get(id) !== null) this.#file.forget(id)
  }

  /** `found`: as it is stored; null when it begins as `before`. */
  change(
    id: ConversationId,
    found: Conversation | null,
    before: Conversation,
    change: ConversationChange,
    { touched, wallMs }: StepTimes,
  ): UpdateAnswer {
    const changed = applyChange(before, change)
    const { conversation } = changed
    const row = this.#shelves.conversations.get(id)
    this.#shelves.conversations.set(id, { conversation, touched: touched ?? row?.touched ?? this.#clock.now() })
    this.#putEdits(id, found?.readyEdits ?? [], conversation.readyEdits, true)
    this.#putEdits(id, found?.edits ?? [], conversation.edits, false)
    const { tier, user } = conversation
    for (const rung of rungsBrought(before, conversation)) this.#count({ tier, day: this.#dayAt(wallMs) }, rung, 1n)
    if (change.turnAtMs !== undefined) {
      const at = { tier, day: this.#dayAt(change.turnAtMs) }
      this.#count(at, 'turns', 1n)
      if (user !== null) this.#countUser(at, user)
    }
    return changed
  }

  /** Keeps what was said, each entry once; `now` and `expiresAtMs` by the store's clock. */
  remember(user: UserId, entries: readonly MemoryEntry[], expiresAtMs: number, now: number): void {
    if (expiresAtMs <= now) return
    const round = this.memoryRound(user)
    for (const entry of entries) {
      const key = memoryKey(user, round, entry.id)
      const known = this.#shelves.memory.get(key)
      if (known !== null && known.expiresAtMs > now) continue
      const kept = { ...entry, text: keptText(entry.text) }
      this.#shelves.memory.set(key, { sequence: this.#file.nextMemory(), user, round, entry: kept, expiresAtMs })
    }
  }

  /** Entries of an earlier round are forgotten. */
  memoryRound(user: UserId): number {
    return this.#shelves.memoryUsers.get(user)?.round ?? 0
  }

  /**
   * Forgets memory and texts of a user, also those in `conversations`; `done`: conversations whose texts are forgotten. Where there are
   * many others, nothing is done yet: they come first, a few at a time, so that the memory still names them meanwhile.
   */
  forgetUser(user: UserId, conversations: readonly ConversationId[], done: ReadonlySet<ConversationId>, now: number): ForgetAnswer {
    const round = this.memoryRound(user)
    const ids = new Set<string>()
    const named = new Set<ConversationId>()
    for (const [id, conversation] of allValues(this.#file.sql.memoryTalks, user, round, now)) {
      ids.add(text(id))
      named.add(text(conversation))
    }
    for (const row of this.#shelves.memory.unwrittenRows()) {
      if (row.user !== user || row.round !== round || row.expiresAtMs <= now) continue
      ids.add(row.entry.id)
      named.add(row.entry.conversation)
    }
    const left = [...new Set([...this.#file.conversationsOf(user), ...named, ...conversations])].filter((id) => !done.has(id))
    if (left.length > FORGOTTEN_AT_ONCE) return { status: 'tooMany', conversations: left }
    this.forgetTexts(left)
    this.#shelves.memoryUsers.set(user, { round: round + 1 })
    const forgotten = { entries: Math.min(ids.size, MEMORY_ENTRIES_MAX), conversations: [...named].toSorted() }
    return { status: 'forgotten', forgotten }
  }

  /** Of these conversations every edit that has text of a user or a model. */
  forgetTexts(ids: readonly ConversationId[]): void {
    for (const id of ids) {
      const row = this.#shelves.conversations.glimpse(id)
      if (row === null) continue
      this.#file.forgetTexts(id)
      const conversation = withoutTexts(row.conversation)
      // A row that stays as it is need not be written, nor remembered.
      if (editsOf(conversation) !== editsOf(row.conversation)) this.#shelves.conversations.set(id, { ...row, conversation })
    }
  }

  /** Lists only grow at their end, or lose what moved to the other one, where the same id is written over. */
  #putEdits(conversation: ConversationId, before: readonly Edit[], after: readonly Edit[], ready: boolean): void {
    if (after === before || after.length === 0) return
    const known = new Set(before.map((edit) => edit.id))
    for (const edit of after)
      if (!known.has(edit.id))
        this.#shelves.edits.set(`${conversation} ${edit.id}`, { sequence: this.#file.nextEdit(), conversation, ready, edit })
  }
}

interface Mover {
  readonly status: OperationState['status']
  readonly tier: string | undefined
}

/** When a step is taken, by both clocks. */
export interface StepTimes {
  /** When a caller last used what the step changes, by the store's clock; null leaves its life as it is. */
  readonly touched: number | null
  /** By the wall clock, as the step was told: what begins or rises now counts to its day. */
  readonly wallMs: number
}

/** Conversations that lose their texts in one step, so that no turn waits for long. */
export const FORGOTTEN_AT_ONCE = 200

export type ForgetAnswer =
  | { readonly status: 'forgotten'; readonly forgotten: Forgotten }
  | { readonly status: 'tooMany'; readonly conversations: readonly ConversationId[] }

function editsOf({ edits, readyEdits }: Conversation): number {
  return edits.length + readyEdits.length
}

function hasOutlived({ touched }: { readonly touched: number }, now: number): boolean {
  return now - touched > CONVERSATION_LIFE_MS
}
