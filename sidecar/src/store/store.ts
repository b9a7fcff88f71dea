import type { Account, AccountId, Operation, OperationId, Reservation, ReserveResult, Settlement, SettleResult } from '../core/budget.ts'
import type { Changed } from '../core/conversation-change.ts'
import type { Conversation, ConversationChange, ConversationId, Digest, UserId } from '../core/conversation.ts'
import type { EntryNote, SequencedEntry } from '../core/ledger.ts'
import type { DayOutcomes, OutcomeStep } from '../core/outcomes.ts'
import type { WatchedAlerts } from '../core/reached-percents.ts'
import type { Totals } from '../core/totals.ts'
import type { UserTotals, UserTotalsQuery } from '../core/totals-by-user.ts'
import { dayNumber } from '../core/utc-day.ts'
import { DAY_MS } from '@farebox/crds/duration.ts'
import { ACCOUNT_LIFE_MS, LEDGER_DAYS_MIN } from '@farebox/crds/ledger-page.ts'
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'

/**
 * State lives this long after the last turn or cost, by the store's clock; a later return is a new conversation. Accounts live
 * as long: no period is longer than a month, so an older one is over.
 */
export const CONVERSATION_LIFE_MS = ACCOUNT_LIFE_MS
/** Operations that have ended are known at least this long, so that a late repeat changes nothing. */
export const ENDED_OPERATION_LIFE_MS = DAY_MS
/** A cost of the app is known for longer, as long as its conversation may live. After that the same ids may be used anew. */
export const COST_LIFE_MS = CONVERSATION_LIFE_MS
/** The shortest life of entries that engines take. */
export const LEDGER_LIFE_MS_MIN = LEDGER_DAYS_MIN * DAY_MS
/** What a day came to is known for so many days, itself and the day it is read included. */
export const TOTALS_LIFE_DAYS = 400
/** The first day whose totals are not gone, as a number. */
export function oldestDay(nowMs: number): number {
  return dayNumber(nowMs) - TOTALS_LIFE_DAYS + 1
}
/** The longest text of a user's memory, in bytes of UTF-8; of a longer one the rest is left out. */
export const MEMORY_TEXT_BYTES_MAX = 8 * 1024
/** Entries of memory that are kept of a user; the oldest go first. */
export const MEMORY_ENTRIES_MAX = 2_000
/** Entries of memory that are told at once, whatever `limit` says. */
export const MEMORY_PAGE_MAX = 100
/** Entries of the ledger that are told at once, whatever `limit` says. */
export const LEDGER_READ_MAX = 10_000
/** Where a step has to name a conversation, and is about none. */
export const NO_CONVERSATION: ConversationId = ''

/**
 * Budgets, conversations, contracts and the ledger. Each method is one atomic step, safe to repeat. Two engines keep this
 * contract: `store.contract.ts` asks the same of both, and `model.testing.ts` says what random schedules must come to. A method rejects
 * only when the store cannot be reached or is broken (`StoreError`); what is expected is a `status`. Amounts that no caller may
 * ask for (below zero, beyond `AMOUNT_MAX`) are a `RangeError`, and nothing is changed.
 */
export interface BudgetStore {
  /** A conversation and the balances asked for; accounts never drawn on are zero. Expired conversations are absent. */
  read(query: ReadQuery): Promise<Snapshot>
  /** The conversation of the longest known prefix: digests come longest first. Null when none is known. */
  findByChain(digests: readonly Digest[], nowMs: number): Promise<ConversationId | null>
  /**
   * Creates the conversation when it is absent, applies `change`, and reserves, all or nothing. When the conversation is
   * no longer at `seen` (another turn pinned it to another contract or user, or opened another session), nothing is
   * done and the answer is `moved`: decide again.
   */
  reserve(step: ReserveStep): Promise<ReserveAnswer>
  /** Moves the expiry of held operations; others are left alone. */
  renew(operationIds: readonly OperationId[], expiresAtMs: number): Promise<void>
  /**
   * Settles, applies `change`, and fires the alerts whose threshold the account now reaches, each once. A repeat changes nothing, but
   * that digests of its chain which are not known are from then on: an engine of several servers may have lost them alone.
   */
  settle(step: SettleStep): Promise<SettleAnswer>
  /** Gives a hold back: the provider bills nothing for this call. One that was charged when it expired is taken back by a correction. */
  void(step: { readonly operationId: OperationId; readonly atMs: number }): Promise<'voided' | 'exists' | 'unknown'>
  /** Applies a change without money. An absent conversation begins as `initial`; without one the answer is null. What fired are alerts that were new. */
  update(step: {
    readonly conversation: ConversationId
    readonly initial?: Conversation
    readonly change: ConversationChange
    readonly nowMs: number
  }): Promise<UpdateAnswer | null>
  /** Money that is spent already (an app's own cost): a fact, entered whatever the caps say. Once per operation id, for `COST_LIFE_MS`. */
  charge(step: {
    readonly operationId: OperationId
    readonly accounts: readonly AccountId[]
    readonly cost: NanoUsd
    readonly atMs: number
    readonly note: EntryNote
    readonly conversation: ConversationId
    readonly change: ConversationChange
  }): Promise<'charged' | 'exists'>
  /**
   * Charges the holds that have expired by the store's clock, at most `limit`; says which. Also drops what outlived its life, of
   * the ledger only where a store was given a `ledgerLifeMs`: then the oldest entries, in order, a bounded number each time.
   */
  sweep(step: SweepStep): Promise<Swept>

  /** Contracts in use, by hash, so that any replica can honour them. */
  putContract(contract: Contract): Promise<void>
  /** As some version kept it, be it a later one: `readContract` says whether this one can read it. Null: it is not there. */
  getContract(hash: string): Promise<unknown>

  /** Counts what became of a conversation, and enters it in the ledger; once per `key`. */
  addOutcome(outcome: OutcomeStep): Promise<'added' | 'exists'>
  /** Outcomes of these days, and all that the tier's ledger entries (`note.tier`) of these days come to. */
  readOutcomes(query: DaysQuery): Promise<OutcomeTotals>
  /** What these days came to. */
  readTotals(query: DaysQuery): Promise<Totals>
  /** What each user came to on these days, by the ledger entries that name one, but for outcomes. */
  readUsers(query: DaysQuery & UserTotalsQuery): Promise<UserTotals>

  /**
   * Entries in order, from after `afterSequence`; for export and verification. Fewer than `limit`, or than `LEDGER_READ_MAX` where
   * that is less, only where no more are left.
   */
  readLedger(query: { readonly afterSequence: number; readonly limit: number }): Promise<readonly SequencedEntry[]>
  /**
   * Accounts, a page of about `limit` at a time, for verification: each that lives from before the first page until after the last, also one
   * that no entry names. They come in any order and may come twice, and some that come never began or are gone: those are zero. An engine
   * may find sessions by their conversations alone, and leave out those of others that a sidecar of an earlier version was the first to use in a
   * week. Throws `RangeError` for a cursor that is none.
   */
  listAccounts(query: AccountsQuery): Promise<AccountsPage>
  /** Conversations by last turn, newest first: for status. Lone calls (`isLoneCall`) are none. An engine may read them a few at a time, while turns go on. */
  listConversations(query: ListQuery): Promise<readonly ListedConversation[]>
  /** Conversations of these tiers that had a turn, none since `quietSinceMs`, and await a resolution (`awaitsResolution`); oldest first. */
  listQuiet(query: QuietQuery): Promise<readonly ListedConversation[]>

  /**
   * Keeps what a user and the assistant said, until `expiresAtMs`. Once per user and entry id. Of a text no more is kept than
   * `MEMORY_TEXT_BYTES_MAX`, of a user no more entries than `MEMORY_ENTRIES_MAX`: the oldest go first.
   */
  remember(step: RememberStep): Promise<void>
  /** What this user and the assistant said, best first; newest first when the query is blank. Never another user's. */
  searchMemory(query: MemoryQuery): Promise<MemoryPage>
  /**
   * Forgets what the user said: memory, and of the edits of their conversations all that have text of theirs. Theirs are those
   * of this user, those that the memory names, whoever's they are, and `conversations`. Ledger and balances, which hold hashed ids
   * and amounts, stay.
   */
  forgetUser(step: ForgetStep): Promise<Forgotten>
  close(): Promise<void>
}

export interface ReadQuery {
  readonly conversation: ConversationId
  readonly accounts: readonly AccountId[]
  readonly nowMs: number
  /** To enter what came of an answered call: while a shared store is away it is told what is known here, though nothing may begin. */
  readonly endsCall?: true
}

export interface Snapshot {
  readonly conversation: Conversation | null
  readonly accounts: ReadonlyMap<AccountId, Account>
}

export interface ReserveStep {
  readonly conversation: ConversationId
  /** The conversation as it begins, used when it is absent. */
  readonly initial: Conversation
  /** What the decision was made on: null when the conversation was absent. */
  readonly seen: { readonly contractHash: string; readonly user: string | null; readonly session: number } | null
  readonly change: ConversationChange
  readonly reservation: Reservation
  /** The operation id was made for this very step, so that no engine need look for it among those that ended. Not for a retry. */
  readonly isFirst?: boolean
  readonly nowMs: number
}
/**
 * Whether the decision was made on another conversation than there is. Who began it alike meanwhile decided alike. In Lua the script
 * `reserve` asks the same.
 */
export function hasMoved(found: Conversation | null, { seen, initial }: Pick<ReserveStep, 'seen' | 'initial'>): boolean {
  if (found === null) return false
  const { contractHash, user, session } = seen ?? initial
  return found.contractHash !== contractHash || found.user !== user || found.session !== session
}
/**
 * `snapshot` is after the step; unless it is `held` nothing was changed. Of an operation that was settled or voided `exists` tells that,
 * and its cost: what it held, and of whom, may be forgotten.
 */
export type ReserveAnswer = ({ readonly status: 'moved' } | ReserveResult) & { readonly snapshot: Snapshot }

export interface SettleStep {
  readonly settlement: Settlement
  readonly conversation: ConversationId
  readonly change: ConversationChange
  /** Digests of the history with the answer, under which a later turn without an id will find this conversation. */
  readonly chain: readonly Digest[]
  readonly alerts: WatchedAlerts
}
/** The session's, and those of the user's budget. */
export type FiredPercents = Pick<Changed, 'firedAlerts' | 'firedUserAlerts'>
export const NONE_FIRED: FiredPercents = { firedAlerts: [], firedUserAlerts: [] }
export interface SettleAnswer extends FiredPercents {
  readonly result: SettleResult
  readonly snapshot: Snapshot
}
export interface UpdateAnswer extends FiredPercents {
  readonly conversation: Conversation
}

/** Days of a tier (`2026-11-24`, UTC), both inclusive; of those that are older than `TOTALS_LIFE_DAYS` nothing is known. */
export interface DaysQuery {
  readonly tier: string
  readonly fromDay: string
  readonly toDay: string
}

export type OutcomeTotals = DayOutcomes

/** Without its edits, of which there may be much text. */
export type ListedConversation = Omit<Conversation, 'edits' | 'readyEdits'>

export interface AccountsQuery {
  /** At least 1. */
  readonly limit: number
  /** `next` of the page before. */
  readonly cursor?: string
}
/** An empty one need not be the last. */
export interface AccountsPage {
  readonly accounts: readonly AccountId[]
  readonly next: string | null
}

export interface ListQuery {
  readonly limit: number
  readonly nowMs: number
  /** Lone calls, in the place of conversations. */
  readonly areLone?: true
}

export interface QuietQuery {
  readonly tiers: readonly string[]
  readonly quietSinceMs: number
  readonly limit: number
  readonly nowMs: number
}

export interface MemoryEntry {
  /** Of all entries of its user. */
  readonly id: string
  readonly conversation: ConversationId
  readonly session: number
  readonly atMs: number
  readonly role: 'user' | 'assistant'
  readonly text: string
}
export interface RememberStep {
  readonly user: UserId
  readonly entries: readonly MemoryEntry[]
  readonly expiresAtMs: number
  readonly nowMs: number
}
export interface SweepStep {
  readonly nowMs: number
  readonly limit: number
  /**
   * Of an engine that several share: after nobody swept for longer than this, by the store's clock, nothing is charged for as long. The store was
   * away from all of them, or its clock was set forward, and owners that are alive could not renew what is due. Absent: charged at once.
   * An engine of one owner, who renews before it sweeps, has nobody to wait for.
   */
  readonly graceMs?: number
}
export interface Swept {
  readonly expired: readonly Operation[]
  /** Of an engine that goes on without them: holds that are due, and of which too little can be read. Tried again later. */
  readonly uncharged?: readonly OperationId[]
}

export interface ForgetStep {
  readonly user: UserId
  /** Known to have text of this user's, whether the memory still names them or not. */
  readonly conversations?: readonly ConversationId[]
  readonly nowMs: number
}
export interface Forgotten {
  /** How many entries of the memory there were. */
  readonly entries: number
  /** The conversations that these entries named, sorted. */
  readonly conversations: readonly ConversationId[]
}
export interface MemoryQuery {
  readonly user: UserId
  /** Words, each of which may be in a hit; the more and the rarer, the better the hit. */
  readonly query: string
  /** At most `MEMORY_PAGE_MAX` are told. */
  readonly limit: number
  /** `next` of the page before, for the same query. Throws `RangeError` for any other. */
  readonly cursor?: string
  readonly nowMs: number
}
/** `score`: above zero, comparable within one search; absent where nothing was asked for. */
export type MemoryHit = MemoryEntry & { readonly score?: number }
export interface MemoryPage {
  readonly hits: readonly MemoryHit[]
  readonly next: string | null
}

/** Throws `RangeError` for a ledger that would forget what balances need. */
export function assertLedgerLife(ledgerLifeMs: number | undefined): void {
  if (ledgerLifeMs !== undefined && !(ledgerLifeMs >= LEDGER_LIFE_MS_MIN))
    throw new RangeError(`a ledger must be kept for at least ${LEDGER_LIFE_MS_MIN} ms`)
}

/** The store cannot be reached, or refuses service. */
export class StoreError extends Error {
  override readonly name = 'StoreError'
  readonly code: 'away' | 'corrupt' | 'closed'
  constructor(code: 'away' | 'corrupt' | 'closed', message: string, cause?: unknown) {
    super(message, { cause })
    this.code = code
  }
}
