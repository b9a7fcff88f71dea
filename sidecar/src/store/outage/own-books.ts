/**
 * What a sidecar does by itself while the store is away: books of its own, beside what it last saw of the shared ones, and
 * each step in a journal before it is answered. In a folder for this outage alone, which another run of the sidecar finds.
 */
import { randomUUID } from 'node:crypto'
import { mkdirSync, readdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import { outageCap } from '../../core/allowance.ts'
import { EMPTY_ACCOUNT, heldOperation, settled } from '../../core/budget.ts'
import type { Account, AccountId, OperationId } from '../../core/budget.ts'
import type { ConversationId } from '../../core/conversation.ts'
import { watchedDraws, withReached } from '../../core/reached-percents.ts'
import { messageOf } from '../../error-text.ts'
import { StoreError } from '../store.ts'
import type { BudgetStore, ReserveAnswer, ReserveStep, SettleAnswer, SettleStep, Snapshot, UpdateAnswer } from '../store.ts'
import type { LastKnown } from './last-known.ts'
import { StepJournal } from './step-journal.ts'
import type { Tail } from './tail.ts'
import { accountsOf, alertsChange, firedOf } from './steps.ts'
import type { FiredAlerts, FiredOf, Hold } from './steps.ts'

const MIB = 1024 * 1024
/** With more than this waiting, nothing new is begun: what is under way may end. */
export const JOURNAL_BYTES_MAX = 256 * MIB
/** Told to whoever asks why nothing is. */
export const FULL = `steps that wait for it come to ${JOURNAL_BYTES_MAX / MIB} MiB, so nothing new is begun`
const STAMP_DIGITS = 16

export interface OwnBooksOptions {
  readonly folder: string
  readonly openBooks: (file: string) => BudgetStore
  readonly known: LastKnown
  /** As for `StepJournal`. */
  readonly safeBeforeMs: number
  /** Default: `JOURNAL_BYTES_MAX`. */
  readonly journalBytesMax?: number
  /** As for `StepJournal`. */
  readonly batch?: number | undefined
}

/** Owns the journal and the books in its folder, and closes both with itself; methods reject with `StoreError` when these cannot be written. */
export class OwnBooks {
  readonly journal: StepJournal
  readonly store: BudgetStore
  readonly folder: string
  readonly #known: LastKnown
  readonly #journalBytesMax: number
  /** Granted here, and not ended. */
  readonly #holds = new Map<OperationId, Hold>()
  readonly #spent = new Map<AccountId, NanoUsd>()
  /** Conversations that these books have as far as they were known when something was first done in them here. */
  readonly #brought = new Set<ConversationId>()

  /** Throws `StoreError` when nothing can be kept in the folder. */
  constructor({ folder, openBooks, known, safeBeforeMs, journalBytesMax = JOURNAL_BYTES_MAX, batch }: OwnBooksOptions) {
    this.folder = folder
    this.#known = known
    this.#journalBytesMax = journalBytesMax
    this.journal = keptIn(folder, () => new StepJournal(journalFile(folder), safeBeforeMs, batch))
    this.store = openBooks(join(folder, 'books.sqlite'))
  }

  get isFull(): boolean {
    return this.journal.bytes > this.#journalBytesMax
  }

  hold(id: OperationId): Hold | null {
    return this.#holds.get(id) ?? null
  }

  async read(query: Parameters<BudgetStore['read']>[0]): Promise<Snapshot> {
    const own = await this.store.read(query)
    return this.#seen({ ...own, conversation: own.conversation ?? this.#known.conversation(query.conversation) })
  }

  /** The longest prefix that is known, or here; where one is both, the conversation is the one that was known. */
  async findByChain(...[digests, nowMs]: Parameters<BudgetStore['findByChain']>): ReturnType<BudgetStore['findByChain']> {
    const { conversation, longer } = this.#known.findByChain(digests)
    return (await this.store.findByChain(longer, nowMs)) ?? conversation
  }

  /** `allowanceUsedUp`: the budget is not, as far as is known here. Not kept yet: `granted` is for that. */
  async reserve(step: ReserveStep, percent: number): Promise<ReserveAnswer | { readonly status: 'allowanceUsedUp' }> {
    const { draws, atLeast } = step.reservation
    const allowed = draws.map(({ account, cap }) => ({
      account,
      cap: cap === null ? null : outageCap(cap, { spent: this.#known.spent(account) }, percent),
    }))
    const [, answer] = await Promise.all([
      this.#bring(step.conversation, step.nowMs),
      this.store.reserve({ ...step, reservation: { ...step.reservation, draws: allowed } }),
    ])
    const snapshot = this.#seen(answer.snapshot)
    if (answer.status !== 'exceedsCap') return { ...answer, snapshot }
    const cap = draws.find(({ account }) => account === answer.account)?.cap ?? 0n
    const { spent, heldInput } = snapshot.accounts.get(answer.account) ?? EMPTY_ACCOUNT
    const shortBy = atLeast - (cap - spent - heldInput)
    return shortBy > 0n ? { ...answer, shortBy, snapshot } : { status: 'allowanceUsedUp' }
  }

  granted(hold: Hold): void {
    this.journal.append(hold)
    this.#holds.set(hold.step.reservation.operationId, hold)
  }

  async settle(hold: Hold, step: SettleStep): Promise<SettleAnswer> {
    const { settlement, alerts } = step
    this.journal.append({ kind: 'settle', step })
    this.#holds.delete(settlement.operationId)
    this.#addSpent(accountsOf(hold), settlement.cost)
    const balances = new Map(watchedDraws(alerts).map(({ account }) => [account, this.#balance(account)]))
    // By all that is known to be spent, which these books are a part of.
    const answer = await this.store.settle({
      ...step,
      change: withReached(step.change, alerts, balances),
      alerts: { ...alerts, percents: [] },
    })
    this.#known.seeChain(step.chain, step.conversation)
    return { ...answer, snapshot: this.#seen(answer.snapshot) }
  }

  /** Of a hold that the store granted, and will settle: what it will say of this call, by what is known here. */
  async settleUnseen({ settlement, conversation, change, chain, alerts }: SettleStep, hold: Hold | null): Promise<SettleAnswer> {
    const outcome = hold === null ? null : settled(heldOperation(hold.step.reservation, hold.granted), settlement)
    const accounts = new Map(watchedDraws(alerts).map(({ account }) => [account, this.#balance(account)]))
    const updated = await this.update({ conversation, change: withReached(change, alerts, accounts), nowMs: settlement.atMs })
    this.#known.seeChain(chain, conversation)
    return {
      result: { status: 'settled', entries: outcome?.entries ?? [] },
      firedAlerts: updated?.firedAlerts ?? [],
      firedUserAlerts: updated?.firedUserAlerts ?? [],
      snapshot: { conversation: updated?.conversation ?? null, accounts },
    }
  }

  /** Null where the conversation is not known here. Not kept. */
  async update(step: Parameters<BudgetStore['update']>[0]): Promise<UpdateAnswer | null> {
    const [, updated] = await Promise.all([this.#bring(step.conversation, step.nowMs), this.store.update(step)])
    if (updated !== null) this.#known.seeConversation(updated.conversation)
    return updated
  }

  /**
   * Which of the alerts that the store fired now, as it was told of steps, were not fired here; from now on they were. All where
   * another session is open here by now: what is told twice is better than what is never told.
   */
  async newAlerts(fired: FiredAlerts): Promise<FiredOf> {
    const { conversation, session, atMs: nowMs } = fired
    const updated = await this.update({ conversation, change: { ofSession: session, ...alertsChange(fired) }, nowMs })
    return updated?.conversation.session === session ? firedOf(updated, fired.ofUser?.period) : fired
  }

  async void(hold: Hold, step: Parameters<BudgetStore['void']>[0]): ReturnType<BudgetStore['void']> {
    this.journal.append({ kind: 'void', step, conversation: hold.step.conversation })
    this.#holds.delete(step.operationId)
    return await this.store.void(step)
  }

  async charge(step: Parameters<BudgetStore['charge']>[0]): ReturnType<BudgetStore['charge']> {
    this.journal.append({ kind: 'charge', step })
    const { conversation: id, atMs: nowMs } = step
    const [, charged, { conversation }] = await Promise.all([
      this.#bring(id, nowMs),
      this.store.charge(step),
      this.store.read({ conversation: id, accounts: [], nowMs }),
    ])
    if (conversation !== null) this.#known.seeConversation(conversation)
    if (charged === 'charged') this.#addSpent(step.accounts, step.cost)
    return charged
  }

  /** The store has all of it by now: the holds are held there. */
  handOver(tail: Tail): void {
    for (const { step, granted } of this.#holds.values()) tail.held({ kind: 'hold', step, granted })
    for (const [account, cost] of this.#spent) this.#known.addSpent(account, cost)
  }

  /** What has not arrived stays in the folder. */
  async close(): Promise<void> {
    this.journal.close()
    await this.store.close()
  }

  /**
   * Has what is known of a conversation before the step that is taken next, in the same turn of the event loop: the books may be
   * handed over, and closed, in any later one.
   */
  async #bring(id: ConversationId, nowMs: number): Promise<void> {
    const known = this.#known.conversation(id)
    if (known === null || this.#brought.has(id)) return
    this.#brought.add(id)
    try {
      await this.store.update({ conversation: id, initial: known, change: {}, nowMs })
    } catch (error) {
      this.#brought.delete(id)
      throw error
    }
  }

  /** The next outage begins with what this one came to. */
  #seen(snapshot: Snapshot): Snapshot {
    if (snapshot.conversation !== null) this.#known.seeConversation(snapshot.conversation)
    return this.#beside(snapshot)
  }

  #balance(account: AccountId): Account {
    const drawing = [...this.#holds.values()].filter((hold) => accountsOf(hold).includes(account))
    return {
      spent: this.#known.spent(account) + (this.#spent.get(account) ?? 0n),
      held: drawing.reduce((sum, { granted }) => sum + granted, 0n),
      heldInput: drawing.reduce((sum, { step, granted }) => sum + lesser(step.reservation.input, granted), 0n),
    }
  }

  /** Own balances, on top of what was spent when the store was last seen. */
  #beside({ conversation, accounts }: Snapshot): Snapshot {
    return {
      conversation,
      accounts: new Map([...accounts].map(([id, account]) => [id, { ...account, spent: account.spent + this.#known.spent(id) }])),
    }
  }

  #addSpent(accounts: readonly AccountId[], cost: NanoUsd): void {
    for (const account of accounts) this.#spent.set(account, (this.#spent.get(account) ?? 0n) + cost)
  }
}

function keptIn<T>(folder: string, make: () => T): T {
  try {
    return make()
  } catch (error) {
    throw notKept(folder, error)
  }
}

function notKept(folder: string, error: unknown): StoreError {
  if (error instanceof StoreError) return error
  const reason = `${folder} (below FAREBOX_DATA): must be a folder where steps can be kept while the store is away: ${messageOf(error)}`
  return new StoreError('away', reason, error)
}

/**
 * The folders of outages that an earlier run did not see the end of, or had not removed yet; oldest first. `onTrouble`: told where none can
 * be made or removed, and none is needed before the store is away.
 */
export function leftFolders(parent: string, onTrouble: (error: Error) => void): readonly string[] {
  const tried = (run: () => void): void => {
    try {
      run()
    } catch (error) {
      onTrouble(notKept(parent, error))
    }
  }
  tried(() => mkdirSync(parent, { recursive: true }))
  if (statSync(parent, { throwIfNoEntry: false })?.isDirectory() !== true) return []
  const left: string[] = []
  for (const name of readdirSync(parent).toSorted()) {
    const folder = join(parent, name)
    if (StepJournal.isThere(journalFile(folder))) left.push(folder)
    else tried(() => rmSync(folder, { recursive: true, force: true }))
  }
  return left
}

/** Later ones sort behind earlier ones. */
export function newFolder(parent: string): string {
  return join(parent, `${String(Date.now()).padStart(STAMP_DIGITS, '0')}-${randomUUID()}`)
}

export function journalFile(folder: string): string {
  return join(folder, 'steps')
}

function lesser(a: NanoUsd, b: NanoUsd): NanoUsd {
  return a < b ? a : b
}
