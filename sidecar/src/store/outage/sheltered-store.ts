/**
 * A shared store that may go away. While it answers, steps go there. When it does not, this sidecar goes on by itself, as far
 * as the owner allows: in books of its own, beside what it last saw of the shared ones, with each step written to a journal.
 * When the store is back the journal is replayed, and then steps go there again. It is looked for until it is back, for ever.
 *
 *   Ready --a step is not answered--> Away --it answers--> Replaying --nothing waits--> Ready
 *
 * A store that comes back as another run may lack the last of what it was told, by this sidecar and by others: this one tells
 * its own last steps again, and grants nothing there until the others had time to do so too. One that has just begun has nothing to
 * tell, and waits all the same.
 */
import { rmSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { OperationId } from '../../core/budget.ts'
import { messageOf } from '../../error-text.ts'
import { openEmbeddedStore } from '../embedded.ts'
import { NO_CONVERSATION, StoreError } from '../store.ts'
import type { BudgetStore, ReserveAnswer, ReserveStep, SettleAnswer, SettleStep, Snapshot, UpdateAnswer } from '../store.ts'
import type { StoreStanding, StoreState } from '../store-standing.ts'
import { LastKnown } from './last-known.ts'
import { FULL, JOURNAL_BYTES_MAX, journalFile, leftFolders, newFolder, OwnBooks } from './own-books.ts'
import { StepJournal } from './step-journal.ts'
import { Replayer } from './replayer.ts'
import type { MetRun, ReplayerOptions } from './replayer.ts'
import { accountsOf, holdOf } from './steps.ts'
import type { FiredAlerts, FiredOf, OutageStep } from './steps.ts'
import { Tail, TAIL_MS } from './tail.ts'

/** A run of the server: another one, after a restart or a failover, may lack the last of what was written. */
export interface ServerRun {
  readonly name: string
  /** How long ago the first of those who share it met it; below zero when its clock was set back since. */
  readonly knownMs: number
}

/** The store that is shared, and the connection to it. */
export interface SharedStore {
  readonly store: BudgetStore
  /** Changes when a connection is made: the server behind it may be another run. */
  connections(): number
  /** Of the server. Rejects with `StoreError` when it does not answer, or will not do. */
  run(): Promise<ServerRun>
}

export interface ShelterOptions extends ReplayerOptions {
  /** Where steps are kept while the store is away; of this process alone. */
  readonly folder: string
  /** Rejects with `StoreError` while nobody answers, or somebody who will not do. `onLost`: to be called when a connection is gone. */
  readonly connect: (onLost: () => void) => Promise<SharedStore>
  /** Of each cap, what this sidecar may spend by itself while the store is away, in percent; 100: all that it knows to be left. */
  readonly allowancePercent: () => number
  /** Told when the state changes. */
  readonly onChange?: (standing: StoreStanding) => void
  /** How long others have to tell a new run of the store what it lacks. */
  readonly graceMs?: number
  /** How long steps are kept after the store was told them. */
  readonly keepMs?: number
  /** How much may wait for the store before nothing new is begun, in bytes. */
  readonly journalBytesMax?: number
  /** How many steps the store is told at a time of what waits for it. */
  readonly batch?: number
  /** Books for the time of an outage; by default the embedded store. */
  readonly openBooks?: (file: string) => BudgetStore
  /** Rejects when it is aborted. */
  readonly wait?: (ms: number, signal: AbortSignal) => Promise<unknown>
}

/** Longer than it takes a sidecar to connect again and tell its last steps. */
const GRACE_MS = 2_000
const FIRST_LOOK_MS = 20
const LOOK_MS_MAX = 500

/**
 * Owns the connection to the shared store, when there is one, and the folder of its outages; closing it ends both, and the search. What can
 * be done without the store is answered while it is away, and told to it later; the rest rejects with `StoreError`, code `away`.
 */
export class ShelteredStore implements BudgetStore {
  readonly #options: ShelterOptions
  readonly #known = new LastKnown()
  readonly #tail = new Tail()
  readonly #replayer: Replayer
  readonly #closing = new AbortController()
  #shared: SharedStore | null = null
  /** The connection that steps go to. */
  #connections = 0
  /** Who was told the last steps; whoever else answers is told them again. */
  #run: string | null = null
  /** How long that run is still to be left to the others before anything is granted there. */
  #owedGraceMs = 0
  #own: OwnBooks | null = null
  /** The books that were said to be full. */
  #toldFull: OwnBooks | null = null
  /** Of the next outage, until it could be opened: of a disk that takes nothing, each step would ask for another. */
  #nextFolder: string | null = null
  /** Of outages before the newest, which an earlier run of this sidecar left. */
  #earlier: readonly { readonly folder: string; readonly journal: StepJournal }[] = []
  #state: StoreState = 'Away'
  #reason: string | null = 'it has not been reached yet'
  #sinceMs: number
  #outages = 0
  #isLooking = false
  #looking: Promise<void> = Promise.resolve()
  #retiring: Promise<void> = Promise.resolve()

  private constructor(options: ShelterOptions) {
    this.#options = options
    this.#replayer = new Replayer(options, this.#tail, (fired) => this.#newAlerts(fired))
    this.#sinceMs = options.nowMs()
  }

  /**
   * Resolves when the store was reached, or was found to be away: also where nothing can be kept in the folder, which is needed in an outage
   * alone. Rejects when what an earlier run left there cannot be read.
   */
  static async open(options: ShelterOptions): Promise<ShelteredStore> {
    const store = new ShelteredStore(options)
    const { onTrouble = () => undefined } = options
    const left = leftFolders(options.folder, onTrouble)
    const newest = left.at(-1)
    store.#earlier = left.slice(0, -1).map((folder) => store.#leftIn(folder))
    if (newest !== undefined) {
      try {
        store.#openOwn(newest)
      } catch (error) {
        // Its books take nothing more. Its steps can be read, and told.
        store.#earlier = [...store.#earlier, store.#leftIn(newest)]
        onTrouble(asError(error))
      }
    }
    try {
      await store.#reach()
    } catch (error) {
      store.#reason = messageOf(error)
      options.onChange?.(store.standing)
      store.#look()
    }
    return store
  }

  get standing(): StoreStanding {
    return {
      state: this.#state,
      reason: this.#why,
      sinceMs: this.#sinceMs,
      ...(this.#isFull ? { isFull: true } : {}),
      journal: { bytes: this.#own?.journal.bytes ?? 0, bytesMax: this.#options.journalBytesMax ?? JOURNAL_BYTES_MAX },
      unsent: this.#kept.reduce((sum, { unsent }) => sum + unsent, 0),
      outages: this.#outages,
      replayed: this.#replayer.count,
    }
  }

  async read(query: Parameters<BudgetStore['read']>[0]): Promise<Snapshot> {
    const answer = await this.#ask((store) => store.read(query))
    if (answer !== AWAY) return this.#seen(answer)
    if (this.#isBack) return await this.read(query)
    if (query.endsCall !== true) this.#mayGoOn()
    return await this.#openOwn().read(query)
  }

  async findByChain(...query: Parameters<BudgetStore['findByChain']>): Promise<string | null> {
    const answer = await this.#ask((store) => store.findByChain(...query))
    if (answer !== AWAY) return answer
    if (this.#isBack) return await this.findByChain(...query)
    this.#mayGoOn()
    return await this.#openOwn().findByChain(...query)
  }

  async reserve(step: ReserveStep): Promise<ReserveAnswer> {
    return await this.#reserve(step, false)
  }

  /** `mayBeHeld`: it was asked of the store before, and the answer was lost. */
  async #reserve(step: ReserveStep, mayBeHeld: boolean): Promise<ReserveAnswer> {
    let wasAsked = mayBeHeld
    const answer = await this.#ask((store) => store.reserve(step), { onLost: () => (wasAsked = true) })
    if (answer === AWAY) return this.#isBack ? await this.#reserve(step, wasAsked) : await this.#reserveHere(step, wasAsked)
    this.#seen(answer.snapshot)
    const given = mayBeHeld ? heldBefore(answer) : answer
    if (given.status === 'held') this.#tail.held(holdOf(step, given.granted))
    return given
  }

  /** Also while the store is told what it missed, which may take minutes: others charge there what is due. */
  async renew(operationIds: readonly OperationId[], expiresAtMs: number): Promise<void> {
    const isOwn = (id: OperationId): boolean => (this.#own?.hold(id) ?? null) !== null
    const own = operationIds.filter(isOwn)
    if (own.length > 0) await this.#own?.store.renew(own, expiresAtMs)
    if (this.#state === 'Replaying') return await this.#renewTold(operationIds, expiresAtMs)
    const shared = operationIds.filter((id) => !isOwn(id))
    if (shared.length > 0) await this.#ask((store) => store.renew(shared, expiresAtMs))
  }

  /** Of the own ones the store has those that it was told by now. Those that it does not know it leaves alone. */
  async #renewTold(operationIds: readonly OperationId[], expiresAtMs: number): Promise<void> {
    try {
      await this.#shared?.store.renew(operationIds, expiresAtMs)
    } catch (error) {
      if (!isAway(error)) throw error // that it is away again whoever tells it finds out
    }
  }

  async settle(step: SettleStep): Promise<SettleAnswer> {
    const { operationId, cost } = step.settlement
    const ownHold = this.#own?.hold(operationId) ?? null
    if (this.#own !== null && ownHold !== null) return await this.#own.settle(ownHold, step)
    const answer = await this.#ask((store) => store.settle(step))
    if (answer !== AWAY) {
      this.#seen(answer.snapshot)
      this.#known.seeChain(step.chain, step.conversation)
      this.#tail.ended(operationId, { kind: 'settle', step }, this.#replayer.ranMs())
      return answer
    }
    const hold = this.#tail.hold(operationId)
    if (hold !== null) this.#keep(hold)
    this.#keep({ kind: 'settle', step })
    this.#tail.endedUntold(operationId)
    for (const account of hold === null ? [] : accountsOf(hold)) this.#known.addSpent(account, cost)
    return await this.#openOwn().settleUnseen(step, hold)
  }

  async void(step: Parameters<BudgetStore['void']>[0]): Promise<'voided' | 'exists' | 'unknown'> {
    const ownHold = this.#own?.hold(step.operationId) ?? null
    if (this.#own !== null && ownHold !== null) return await this.#own.void(ownHold, step)
    const answer = await this.#ask((store) => store.void(step))
    const conversation = this.#tail.hold(step.operationId)?.step.conversation ?? ''
    if (answer !== AWAY) {
      this.#tail.ended(step.operationId, { kind: 'void', step, conversation }, this.#replayer.ranMs())
      return answer
    }
    this.#keep({ kind: 'void', step, conversation })
    this.#tail.endedUntold(step.operationId)
    return 'voided'
  }

  async update(step: Parameters<BudgetStore['update']>[0]): Promise<UpdateAnswer | null> {
    const answer = await this.#ask((store) => store.update(step))
    if (answer !== AWAY) {
      if (answer !== null) this.#known.seeConversation(answer.conversation)
      this.#tail.add({ kind: 'update', step }, this.#replayer.ranMs())
      return answer
    }
    const own = this.#openOwn()
    const updated = await own.update(step)
    if (this.#own !== own) return await this.update(step) // the store came back meanwhile
    // Of a conversation that nobody here knows, nothing can be said: neither that it is there nor that it is not.
    if (updated === null) throw this.#away()
    this.#keep({ kind: 'update', step })
    return updated
  }

  async charge(step: Parameters<BudgetStore['charge']>[0]): Promise<'charged' | 'exists'> {
    const answer = await this.#ask((store) => store.charge(step))
    if (answer === AWAY) return await this.#openOwn().charge(step)
    this.#tail.add({ kind: 'charge', step }, this.#replayer.ranMs())
    return answer
  }

  /** Nothing expires here while the store is away: holds of this process are alive, and others' are its matter. */
  async sweep(step: Parameters<BudgetStore['sweep']>[0]): ReturnType<BudgetStore['sweep']> {
    const answer = await this.#ask((store) => store.sweep(step))
    return answer === AWAY ? { expired: [] } : answer
  }

  async putContract(contract: Parameters<BudgetStore['putContract']>[0]): Promise<void> {
    this.#tail.keepContract(contract)
    if ((await this.#ask((store) => store.putContract(contract))) !== AWAY) return
    this.#mayGoOn()
    this.#keep({ kind: 'contract', step: contract })
    await this.#openOwn().store.putContract(contract)
  }

  async getContract(hash: string): ReturnType<BudgetStore['getContract']> {
    const answer = await this.#ask((store) => store.getContract(hash))
    if (answer !== AWAY) return answer
    if (this.#isBack) return await this.getContract(hash)
    const known = (await this.#own?.store.getContract(hash)) ?? null
    // Null would be the store's word that it is gone.
    if (known === null) throw this.#away()
    return known
  }

  async addOutcome(outcome: Parameters<BudgetStore['addOutcome']>[0]): Promise<'added' | 'exists'> {
    const answer = await this.#ask((store) => store.addOutcome(outcome))
    if (answer !== AWAY) {
      this.#tail.add({ kind: 'outcome', step: outcome }, this.#replayer.ranMs())
      return answer
    }
    this.#keep({ kind: 'outcome', step: outcome })
    return await this.#openOwn().store.addOutcome(outcome)
  }

  /**
   * While the store is away what is said waits for it, and cannot be searched. It is no money: a store that loses the last of it
   * is not told again, for texts of all turns would fill the tail.
   */
  async remember(step: Parameters<BudgetStore['remember']>[0]): Promise<void> {
    if ((await this.#ask((store) => store.remember(step))) !== AWAY) return
    if (this.#isFullIn(this.#openOwn())) throw this.#away()
    this.#keep({ kind: 'remember', step })
  }
  async searchMemory(query: Parameters<BudgetStore['searchMemory']>[0]): ReturnType<BudgetStore['searchMemory']> {
    return this.#needed(await this.#ask((store) => store.searchMemory(query)))
  }
  /** Whoever asks must know that it is done: it is not done later. */
  async forgetUser(step: Parameters<BudgetStore['forgetUser']>[0]): ReturnType<BudgetStore['forgetUser']> {
    const answer = this.#needed(await this.#ask((store) => store.forgetUser(step)))
    // A store that comes back without the last steps may have lost the memory that names them.
    const conversations = [...new Set([...answer.conversations, ...(step.conversations ?? [])])]
    this.#known.forgetUser(step.user, conversations)
    this.#tail.add({ kind: 'forget', step: { ...step, conversations } }, this.#replayer.ranMs())
    return answer
  }

  async readOutcomes(query: Parameters<BudgetStore['readOutcomes']>[0]): ReturnType<BudgetStore['readOutcomes']> {
    return await this.#report((store) => store.readOutcomes(query))
  }
  async readTotals(query: Parameters<BudgetStore['readTotals']>[0]): ReturnType<BudgetStore['readTotals']> {
    return await this.#report((store) => store.readTotals(query))
  }
  async readUsers(query: Parameters<BudgetStore['readUsers']>[0]): ReturnType<BudgetStore['readUsers']> {
    return await this.#report((store) => store.readUsers(query))
  }
  async readLedger(query: Parameters<BudgetStore['readLedger']>[0]): ReturnType<BudgetStore['readLedger']> {
    return await this.#report((store) => store.readLedger(query))
  }
  async listAccounts(query: Parameters<BudgetStore['listAccounts']>[0]): ReturnType<BudgetStore['listAccounts']> {
    return await this.#report((store) => store.listAccounts(query))
  }
  async listConversations(query: Parameters<BudgetStore['listConversations']>[0]): ReturnType<BudgetStore['listConversations']> {
    return await this.#report((store) => store.listConversations(query))
  }
  async listQuiet(query: Parameters<BudgetStore['listQuiet']>[0]): ReturnType<BudgetStore['listQuiet']> {
    return await this.#report((store) => store.listQuiet(query))
  }

  /** What waits for the store stays in its folder, for the next run of this sidecar. */
  async close(): Promise<void> {
    this.#closing.abort()
    await this.#looking
    await this.#retiring
    const own = this.#own
    this.#own = null
    await own?.close()
    await this.#shared?.store.close()
  }

  /** What no turn waits for, and may be much: a store that does not answer it in time is not away for turns. */
  async #report<T>(read: (store: BudgetStore) => Promise<T>): Promise<T> {
    return this.#needed(await this.#ask(read, { isReport: true }))
  }

  /** The answer of the shared store, or that it is away: then it is looked for. `onLost`: it was asked, and may have heard. */
  async #ask<T>(
    step: (store: BudgetStore) => Promise<T>,
    { onLost, isReport = false }: { readonly onLost?: () => void; readonly isReport?: boolean } = {},
  ): Promise<T | Away> {
    if (this.#closing.signal.aborted) throw new StoreError('closed', 'the store is closed')
    const shared = this.#shared
    if (this.#state !== 'Ready' || shared === null) return AWAY
    // Who answers on a new connection may lack what was told to another: nothing is granted before that is known.
    if (shared.connections() !== this.#connections) {
      this.#lost('its connection was lost')
      return AWAY
    }
    try {
      return await step(shared.store)
    } catch (error) {
      if (!isAway(error) || isReport) throw error
      this.#lost(error.message)
      onLost?.()
      return AWAY
    }
  }

  async #reserveHere(step: ReserveStep, mayBeHeld: boolean): Promise<ReserveAnswer> {
    const own = this.#isAllowed(step) ? this.#openOwn() : null
    const answer = own === null || this.#isFullIn(own) ? null : await own.reserve(step, this.#options.allowancePercent())
    if (own !== null && this.#own !== own) return await this.#reserve(step, mayBeHeld) // the store came back meanwhile
    if (own !== null && answer?.status === 'held') {
      const isUnasked = !mayBeHeld && step.isFirst === true
      own.granted(holdOf(step, answer.granted, isUnasked ? { isUnasked } : {}))
      return answer
    }
    // What the store may hold all the same, nothing is sent under.
    const { operationId } = step.reservation
    if (mayBeHeld) this.#keep({ kind: 'void', step: { operationId, atMs: this.#options.nowMs() }, conversation: NO_CONVERSATION })
    // Nothing ends for an allowance that is used up: it is not the budget.
    if (answer === null || answer.status === 'allowanceUsedUp') throw this.#away()
    return answer
  }

  /** Calls whose caps do not bind go on whatever the owner says: he only watches. */
  #isAllowed({ reservation }: ReserveStep): boolean {
    return this.#options.allowancePercent() > 0 || reservation.draws.every(({ cap }) => cap === null)
  }

  /** Nothing of a conversation is said where nothing may be begun for it. */
  #mayGoOn(): void {
    if (this.#options.allowancePercent() === 0) throw this.#away()
  }

  #seen(snapshot: Snapshot): Snapshot {
    this.#known.see(snapshot)
    return snapshot
  }

  async #newAlerts(fired: FiredAlerts): Promise<FiredOf> {
    return this.#own === null ? this.#known.newAlerts(fired) : await this.#own.newAlerts(fired)
  }

  #keep(step: OutageStep): void {
    this.#openOwn().journal.append(step)
  }

  /** Whether nothing new may be begun in them. The first time that it is so is news. */
  #isFullIn(own: OwnBooks): boolean {
    if (own.isFull && this.#toldFull !== own) {
      this.#toldFull = own
      this.#options.onChange?.(this.standing)
    }
    return own.isFull
  }

  get #isFull(): boolean {
    return this.#own?.isFull ?? false
  }

  /** Why the store is not `Ready`, and nothing new is begun where that is so. */
  get #why(): string | null {
    return this.#isFull ? `${this.#reason}; ${FULL}` : this.#reason
  }

  /** A step that was told that the store is away may hear it when it is back already. */
  get #isBack(): boolean {
    return this.#state === 'Ready'
  }

  /** Throws `StoreError` when nothing can be kept. */
  #openOwn(left?: string): OwnBooks {
    if (this.#own !== null) return this.#own
    const { nowMs, journalBytesMax, batch, onTrouble = () => undefined } = this.#options
    const { openBooks = (file: string) => openEmbeddedStore({ file, nowMs, onTrouble }) } = this.#options
    const folder = left ?? (this.#nextFolder ??= newFolder(this.#options.folder))
    try {
      const bound = journalBytesMax === undefined ? {} : { journalBytesMax }
      this.#own = new OwnBooks({ folder, openBooks, known: this.#known, safeBeforeMs: this.#safeBeforeMs, batch, ...bound })
    } catch (error) {
      if (left === undefined) removeBegun(folder)
      throw error
    }
    this.#nextFolder = null
    if (this.#isBack) {
      this.#turn('Replaying', 'it is told what it missed')
      this.#look()
    }
    return this.#own
  }

  #lost(reason: string): void {
    if (this.#state !== 'Ready') return
    this.#outages += 1
    this.#turn('Away', reason)
    this.#look()
  }

  #turn(state: StoreState, reason: string | null): void {
    if (state !== this.#state) this.#sinceMs = this.#options.nowMs()
    const isNews = state !== this.#state || reason !== this.#reason
    this.#state = state
    this.#reason = reason
    if (isNews) this.#options.onChange?.(this.standing)
  }

  #away(): StoreError {
    return new StoreError('away', `the shared store is away: ${this.#why ?? 'it is being told what it missed'}`)
  }

  #needed<T>(answer: T | Away): T {
    if (answer === AWAY) throw this.#away()
    return answer
  }

  #look(): void {
    if (this.#isLooking) return
    this.#isLooking = true
    this.#looking = this.#lookUntilBack()
  }

  async #lookUntilBack(): Promise<void> {
    const { signal } = this.#closing
    for (let waitMs = FIRST_LOOK_MS; !signal.aborted && this.#state !== 'Ready'; waitMs = Math.min(2 * waitMs, LOOK_MS_MAX)) {
      await this.#wait(waitMs).catch(() => undefined) // closing: the loop ends
      if (signal.aborted) break
      try {
        await this.#reach()
      } catch (error) {
        if (!signal.aborted) this.#turn('Away', messageOf(error))
      }
    }
    this.#isLooking = false
  }

  #wait(ms: number): Promise<unknown> {
    const { wait = (forMs: number, signal: AbortSignal) => sleep(forMs, undefined, { signal, ref: false }) } = this.#options
    return wait(ms, this.#closing.signal)
  }

  /** To `Ready`, or rejects. */
  async #reach(): Promise<void> {
    this.#shared ??= await this.#options.connect(() => this.#lost('its connection was lost'))
    const shared = this.#shared
    const connections = shared.connections()
    const { name, knownMs } = await shared.run()
    const assertSame = (): void => {
      if (shared.connections() !== connections) throw new StoreError('away', 'its connection was lost')
    }
    const run: MetRun = { name, store: shared.store, assertSame }
    const graceMs = this.#options.graceMs ?? GRACE_MS
    if (this.#run === null) {
      // By now the store has told the time.
      for (const journal of this.#kept) journal.setSafeBefore(this.#safeBeforeMs)
      this.#owedGraceMs = Math.max(0, Math.min(graceMs, graceMs - knownMs))
    } else if (name !== this.#run) {
      this.#turn('Replaying', 'it came back as another run, and is told the last steps again')
      await this.#replayer.again(run)
      this.#owedGraceMs = graceMs
    }
    // From here on this run is told what no other has: whoever takes its place lacks that.
    this.#run = name
    this.#tail.renew(this.#replayer.ranMs())
    // What ended while it was away waits in the journal, and no longer in the tail: that too it is told before anybody grants there.
    await this.#tellKept(run)
    if (this.#owedGraceMs > 0) {
      this.#turn('Replaying', 'it is a new run, and others tell it what it lacks')
      await this.#wait(this.#owedGraceMs)
      assertSame()
      this.#owedGraceMs = 0
    }
    while (this.#own !== null && this.#own.journal.unsent > 0) await this.#tellAll(run, this.#own.journal)
    assertSame()
    // From here to the end nothing else runs: no step can come between.
    const own = this.#own
    if (own !== null) {
      this.#own = null
      own.handOver(this.#tail)
    }
    this.#connections = connections
    this.#turn('Ready', null)
    if (own === null) return
    this.#retiring = this.#retire(own, this.#retiring)
  }

  /** All that waits for the store, oldest first. Rejects with `StoreError` when it is away again. */
  async #tellKept(run: MetRun): Promise<void> {
    for (const { folder, journal } of this.#earlier) {
      await this.#tellAll(run, journal)
      journal.close()
      this.#earlier = this.#earlier.slice(1)
      this.#removeLater(folder)
    }
    if (this.#own !== null) await this.#tellAll(run, this.#own.journal)
  }

  async #tellAll(run: MetRun, journal: StepJournal): Promise<void> {
    if (journal.unsent > 0) this.#turn('Replaying', 'it is told what it missed')
    while (journal.unsent > 0) await this.#replayer.next(run, journal)
  }

  get #kept(): readonly StepJournal[] {
    const earlier = this.#earlier.map(({ journal }) => journal)
    return this.#own === null ? earlier : [...earlier, this.#own.journal]
  }

  async #retire(own: OwnBooks, before: Promise<void>): Promise<void> {
    await before
    try {
      await own.close()
    } catch (error) {
      this.#options.onTrouble?.(asError(error))
    }
    this.#removeLater(own.folder)
  }

  #leftIn(folder: string): { readonly folder: string; readonly journal: StepJournal } {
    return { folder, journal: new StepJournal(journalFile(folder), this.#safeBeforeMs, this.#options.batch) }
  }

  get #keepMs(): number {
    return this.#options.keepMs ?? TAIL_MS
  }

  /** What arrived before this, the store no longer loses. */
  get #safeBeforeMs(): number {
    return this.#options.nowMs() - this.#keepMs
  }

  /** A store that soon loses what it was just told can be told again, even by another run of this sidecar: until then it stays. */
  #removeLater(folder: string): void {
    const removed = this.#wait(this.#keepMs).then(
      () => rmSync(folder, { recursive: true, force: true }),
      () => undefined, // closing
    )
    removed.catch((error: unknown) => this.#options.onTrouble?.(new Error(`${folder} cannot be removed`, { cause: error })))
  }
}

/** What was begun in it would be in the way of the next attempt. Where it cannot be removed it stays, and no other: who asked is told what is wrong. */
function removeBegun(folder: string): void {
  try {
    rmSync(folder, { recursive: true, force: true })
  } catch {
    // Nothing can be made there, or removed.
  }
}

/** Of a hold that was asked for twice, the answer that the first would have had. */
function heldBefore(answer: ReserveAnswer): ReserveAnswer {
  if (answer.status !== 'exists') return answer
  const { state, hold } = answer.operation
  return state.status === 'held' ? { status: 'held', granted: hold, snapshot: answer.snapshot } : answer
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
}

const AWAY = Symbol('away')
type Away = typeof AWAY

function isAway(error: unknown): error is StoreError {
  return error instanceof StoreError && error.code === 'away'
}
