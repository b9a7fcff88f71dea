/**
 * A namespace spread over several tags, as a cluster wants it: a user's budgets and conversations are in one of them, and
 * most steps are one script there. What is in other tags, budgets of workloads above all, is moved by scripts of their own:
 *
 * - Held first elsewhere, each as a *part* under the operation's id, then at home: so nothing is granted beyond any cap, at
 *   any time. While a reservation is under way, a part may hold more than the operation will; when home refuses, parts
 *   are released. Others may be refused as `busy` for that moment.
 * - What home says of an operation is the truth. Ledger entries, totals and expiry are home's; parts follow: settled, voided
 *   or charged after it. Until then a part is still held: too much is counted, never too little.
 * - A crash between the two leaves a part that is held until its expiry. The sweep then asks home, and brings the part to
 *   where the operation is: settled at its cost, voided, charged, held on; or voided when home has never heard of it.
 *   A repeat of the step does the same at once, and makes a part again that its tag has lost, as by a failover.
 * - What a call costs above its hold reaches a part after home; for that moment a workload's balance lags by the overrun.
 * - Digests that lead to a conversation are in tags of their own, and no part of the books: those of a settlement go out with it.
 *
 * So the balance of an account outside home equals its entries whenever no step is under way and nothing is overdue. One
 * thing is not healed: a home that nobody sweeps for a day after an operation ended has forgotten it, and a part that was
 * still held is voided.
 */
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import { LRUCache } from 'lru-cache'
import { assertReservation, EMPTY_ACCOUNT, offer } from '../../core/budget.ts'
import type { AccountId, OperationId, Reservation } from '../../core/budget.ts'
import { applyChange } from '../../core/conversation-change.ts'
import type { ConversationChange, ConversationId, Digest } from '../../core/conversation.ts'
import type { SequencedEntry } from '../../core/ledger.ts'
import { addedOutcomes } from '../../core/outcomes.ts'
import { watchedDraws, withReached } from '../../core/reached-percents.ts'
import type { WatchedAlerts } from '../../core/reached-percents.ts'
import { totalsOf } from '../../core/totals.ts'
import type { Totals } from '../../core/totals.ts'
import { UserSums } from '../../core/totals-by-user.ts'
import type { UserTotals } from '../../core/totals-by-user.ts'
import type {
  AccountsPage,
  AccountsQuery,
  BudgetStore,
  DaysQuery,
  ForgetStep,
  FiredPercents,
  Forgotten,
  ListedConversation,
  ListQuery,
  MemoryPage,
  MemoryQuery,
  OutcomeTotals,
  QuietQuery,
  RememberStep,
  ReserveAnswer,
  ReserveStep,
  SettleAnswer,
  SettleStep,
  Snapshot,
  Swept,
  SweepStep,
  UpdateAnswer,
} from '../store.ts'
import { hasMoved, LEDGER_READ_MAX, NO_CONVERSATION, NONE_FIRED } from '../store.ts'
import { ownerOf, tagOf } from './keys.ts'
import { firstOf, shareOf } from './pages.ts'
import type { Pages } from './pages.ts'
import { newestFirst, quietFirst, sweptOf } from './tag.ts'
import type { Due, Known, PartHeld, Split, Tag } from './tag.ts'

/** Homes of conversations and operations that are remembered; others are asked for. */
const REMEMBERED_MAX = 50_000
/** The pointer to a home lives days longer than the conversation that made it last; what is remembered is never older. */
const REMEMBERED_MS = 24 * 3_600_000
/** Parts that one sweep brings to where their operations are. */
const PARTS_MAX = 1_000

/**
 * All tags of a namespace as one store, which closes them with itself. Where conversations and operations are at home it
 * remembers only to ask less. A step that fails with `StoreError` may have been done in some tags: a repeat or a sweep does the rest.
 */
export class SpreadStore implements BudgetStore {
  readonly #tags: readonly Tag[]
  readonly #nowMs: () => number
  readonly #homes = new LRUCache<ConversationId, number>({ max: REMEMBERED_MAX, ttl: REMEMBERED_MS })
  readonly #operations = new LRUCache<OperationId, number>({ max: REMEMBERED_MAX })
  /** Operations that home holds for a conversation, and of whose end nobody was told by this process. */
  readonly #held = new LRUCache<OperationId, ConversationId>({ max: REMEMBERED_MAX })
  /** Settlements that were begun, and not all of them heard to be done: what follows home is missing, it may be. */
  readonly #settling = new LRUCache<OperationId, true>({ max: REMEMBERED_MAX })

  constructor(tags: readonly Tag[], nowMs: () => number) {
    this.#tags = tags
    this.#nowMs = nowMs
  }

  async read({ conversation, accounts, nowMs }: Parameters<BudgetStore['read']>[0]): Promise<Snapshot> {
    const remembered = this.#homes.get(conversation)
    if (remembered !== undefined) return this.#readAt(remembered, conversation, accounts, nowMs)
    // Whose conversation it is shows in the accounts: read where it must be, if it is not another's.
    const guess = this.#guess(conversation, accounts)
    const [home, snapshot] = await Promise.all([this.#homeOf(conversation), this.#readAt(guess, conversation, accounts, nowMs)])
    return home === guess ? snapshot : this.#readAt(home, conversation, accounts, nowMs)
  }

  async findByChain(digests: readonly Digest[], nowMs: number): Promise<ConversationId | null> {
    const found = await Promise.all(
      [...this.#byTag(digests, (digest) => digest)].map(([tag, own]) => this.#tag(tag).findDigest(own, nowMs)),
    )
    const known = new Map(found.flatMap((one) => (one === null ? [] : [[one.digest, one.conversation] as const])))
    for (const digest of digests) {
      const conversation = known.get(digest)
      if (conversation !== undefined) return conversation
    }
    return null
  }

  async reserve(step: ReserveStep): Promise<ReserveAnswer> {
    const { reservation, conversation } = step
    assertReservation(reservation)
    const { operationId, draws } = reservation
    // An id that was made for this step is nowhere yet, or at home.
    const known = step.isFirst === true ? null : await this.#find(operationId)
    const home = await this.#homeOf(conversation, step.initial.user)
    const accounts = draws.map(({ account }) => account)
    const places = await this.#places(accounts, conversation, home)
    if (known !== null) {
      await this.#restore(known, reservation, places)
      const snapshot = await this.#readAt(home, conversation, accounts, step.nowMs)
      return { status: 'exists', operation: known.operation, snapshot }
    }
    const own = draws.filter((_, index) => places[index] === home)
    const foreign = [...grouped(draws, (_, index) => places[index] ?? home)].filter(([tag]) => tag !== home)
    const split: Split | null = foreign.length === 0 ? null : { accounts, places }

    const parts: { readonly tag: number; readonly part: PartHeld }[] = []
    const release = (): Promise<unknown> =>
      Promise.all(
        parts.filter(({ part }) => part.status === 'held').map(({ tag }) => this.#tag(tag).follow(operationId, 'released', 0, [])),
      )
    let answer
    try {
      const held = await Promise.allSettled(
        foreign.map(async ([tag, draws]) => {
          const part = await this.#tag(tag).holdPart({ reservation: { ...reservation, draws }, home, isFirst: step.isFirst })
          parts.push({ tag, part })
        }),
      )
      for (const one of held) if (one.status === 'rejected') throw one.reason
      for (const { part } of parts) {
        if (part.status !== 'refused') continue
        await release()
        return await this.#refusal(step, home, accounts, part.account)
      }
      let atMost = reservation.atMost
      for (const { part } of parts) if ('granted' in part && part.granted < atMost) atMost = part.granted
      const atLeast = reservation.atLeast < atMost ? reservation.atLeast : atMost
      answer = await this.#tag(home).reserveHere({ ...step, reservation: { ...reservation, draws: own, atLeast, atMost } }, split)
    } catch (error) {
      // Refused for its amounts; or not known to have happened, and then the sweep will find out.
      if (error instanceof RangeError) await release()
      throw error
    }
    if (answer.status === 'elsewhere') {
      await release()
      this.#homes.set(conversation, answer.home)
      return this.reserve(step)
    }
    if (answer.status === 'held') {
      const { granted } = answer
      this.#operations.set(operationId, home)
      this.#held.set(operationId, conversation)
      await Promise.all(
        parts
          .filter(({ part }) => 'granted' in part && part.granted > granted)
          .map(({ tag }) => this.#tag(tag).follow(operationId, 'trimmed', granted, [])),
      )
    } else await release()
    if (parts.length === 0 && own.length === draws.length) return answer
    return { ...answer, snapshot: await this.#completed(answer.snapshot, home, conversation, accounts, step.nowMs) }
  }

  async renew(operationIds: readonly OperationId[], expiresAtMs: number): Promise<void> {
    // Parts are not renewed: when they are due, the sweep asks home, which says that they are held on.
    const remembered = new Map<number, OperationId[]>()
    const unheard: OperationId[] = []
    for (const id of operationIds) {
      const tag = this.#operations.get(id)
      if (tag === undefined) unheard.push(id)
      else pushed(remembered, tag, id)
    }
    await Promise.all(
      this.#tags.map(async (tag, index) => {
        const ids = [...(remembered.get(index) ?? []), ...unheard]
        if (ids.length > 0) await tag.renew(ids, expiresAtMs)
      }),
    )
  }

  async settle(step: SettleStep): Promise<SettleAnswer> {
    const { operationId } = step.settlement
    const wasCutOff = this.#settling.has(operationId)
    this.#settling.set(operationId, true)
    const answer = await this.#settle(step, wasCutOff)
    this.#settling.delete(operationId)
    return answer
  }

  /** `wasCutOff`: it was told before, and home may have heard it; then the alerts that come after home are fired all the same. */
  async #settle(step: SettleStep, wasCutOff: boolean): Promise<SettleAnswer> {
    const { settlement, conversation, alerts } = step
    const id = settlement.operationId
    const home = await this.#homeOf(conversation)
    const tag = (await this.#tagOfOperation(id)) ?? home
    const drawn = watchedDraws(alerts).map(({ account }) => account)
    const places = await this.#places(drawn, conversation, home)
    const isHome = tag === home
    const ownChain = isHome ? step.chain.filter((digest) => this.#at(digest) === home) : []
    const foreignChain = step.chain.filter((digest) => !ownChain.includes(digest))
    // Of what is held for it home will say that it is settled, and the digests need not wait for that: the next call may be there at once,
    // and by them alone it is led to its conversation. Of all else home says first whether they lead there.
    const isHeld = this.#held.get(id) === conversation
    this.#held.delete(id)
    const [chained, settled] = await Promise.allSettled([
      isHeld ? this.#putChain(conversation, foreignChain, false) : null,
      this.#tag(tag).settleHere({
        ...step,
        ...(isHome ? {} : { conversation: NO_CONVERSATION, change: {} }),
        chain: ownChain,
        alerts: watchedWhere(alerts, (index) => isHome && places[index] === home),
      }),
    ])
    if (settled.status === 'rejected') throw settled.reason
    const { answer, known } = settled.value
    if (known !== null) await this.#follow(id, known)
    // Told only when all parts have followed. A repeat puts the digests where they are missing.
    if (chained.status === 'rejected') throw chained.reason
    const isEntered = answer.result.status === 'settled' || answer.result.status === 'corrected'
    const isRepeat = answer.result.status === 'exists' && known?.operation.state.status === 'settled'
    const own = isEntered ? (known?.operation.accounts ?? []) : []
    const asked = [...new Set([...own, ...drawn])]
    const snapshot = await this.#completed(answer.snapshot, home, conversation, asked, this.#nowMs())
    if (!(isEntered || isRepeat) || snapshot.conversation === null) return { result: answer.result, ...NONE_FIRED, snapshot }

    if (!isHeld) await this.#putChain(conversation, foreignChain, isRepeat)
    if (isRepeat && !wasCutOff) return { result: answer.result, ...NONE_FIRED, snapshot }
    // Alerts on what home did not see, and the whole change, once, when the conversation lives in another tag than the operation.
    const isAlertsAlone = isHome || isRepeat
    const ofSession: ConversationChange = step.change.ofSession === undefined ? {} : { ofSession: step.change.ofSession }
    const change = withReached(
      isAlertsAlone ? ofSession : step.change,
      watchedWhere(alerts, (index) => !isHome || places[index] !== home),
      snapshot.accounts,
    )
    const { result, firedAlerts, firedUserAlerts } = answer
    if (isAlertsAlone && isNoNews(applyChange(snapshot.conversation, change))) return { result, firedAlerts, firedUserAlerts, snapshot }
    const updated = await this.#tag(home).update({ conversation, change, nowMs: this.#nowMs() })
    return {
      result,
      firedAlerts: joinedPercents(firedAlerts, updated?.firedAlerts),
      firedUserAlerts: joinedPercents(firedUserAlerts, updated?.firedUserAlerts),
      snapshot: { ...snapshot, conversation: updated?.conversation ?? snapshot.conversation },
    }
  }

  async void(step: Parameters<BudgetStore['void']>[0]): Promise<'voided' | 'exists' | 'unknown'> {
    this.#held.delete(step.operationId)
    const tag = await this.#tagOfOperation(step.operationId)
    if (tag === null) {
      // Its hold may still be under way, to any of them.
      await Promise.all(this.#tags.map((own) => own.voidHere(step)))
      return 'unknown'
    }
    const { status, known } = await this.#tag(tag).voidHere(step)
    if (known !== null) await this.#follow(step.operationId, known)
    return status
  }

  async update(step: Parameters<BudgetStore['update']>[0]): Promise<UpdateAnswer | null> {
    const home = await this.#homeOf(step.conversation, step.initial?.user ?? null)
    const answer = await this.#tag(home).updateHere(step)
    if (answer === null || !('home' in answer)) return answer
    this.#homes.set(step.conversation, answer.home)
    return this.update(step)
  }

  async charge(step: Parameters<BudgetStore['charge']>[0]): Promise<'charged' | 'exists'> {
    // It may come before the first turn, of the user whose account it names.
    const home = await this.#homeIn(step.conversation, this.#guess(step.conversation, step.accounts))
    const places = await this.#places(step.accounts, step.conversation, home)
    const isSplit = places.some((tag) => tag !== home)
    const status = await this.#tag(home).chargeHere(step, isSplit ? places : [])
    this.#operations.set(step.operationId, home)
    if (isSplit) {
      // What has ended is known without its accounts. After a day it is not known at all: a part that was cut off then stays out.
      const known = await this.#tag(home).operation(step.operationId)
      if (known !== null) await this.#follow(step.operationId, { operation: { ...known.operation, accounts: step.accounts }, places })
    }
    return status
  }

  async sweep({ nowMs, limit, ...grace }: SweepStep): Promise<Swept> {
    const due = await this.#due('held', nowMs, limit)
    const counts = new Map<number, number>()
    for (const { tag } of due) counts.set(tag, (counts.get(tag) ?? 0) + 1)
    const swept = await Promise.all(this.#tags.map((tag, index) => tag.sweep({ nowMs, limit: counts.get(index) ?? 0, ...grace })))
    const expired = swept.flatMap((answer) => answer.expired).toSorted((a, b) => a.expiresAtMs - b.expiresAtMs || (a.id < b.id ? -1 : 1))
    // Those of the operations above come first; a sweep that has no time for them leaves them held, and the next one goes on.
    const parts = await this.#due('parts', nowMs, PARTS_MAX)
    await Promise.all(parts.map((part) => this.#heal(part)))
    return sweptOf(
      expired,
      swept.flatMap(({ uncharged = [] }) => uncharged),
    )
  }

  putContract(contract: Contract): Promise<void> {
    return this.#tag(this.#at(contract.hash)).putContract(contract)
  }
  getContract(hash: string): Promise<unknown> {
    return this.#tag(this.#at(hash)).getContract(hash)
  }

  addOutcome(outcome: Parameters<BudgetStore['addOutcome']>[0]): Promise<'added' | 'exists'> {
    return this.#tag(this.#at(outcome.key)).addOutcome(outcome)
  }
  async readOutcomes(query: DaysQuery): Promise<OutcomeTotals> {
    const all = await Promise.all(this.#tags.map((tag) => tag.readOutcomes(query)))
    return all.reduce(addedOutcomes)
  }
  /** Who is in several tags is one user. */
  async readUsers(query: Parameters<BudgetStore['readUsers']>[0]): Promise<UserTotals> {
    const sums = new UserSums()
    await Promise.all(this.#tags.map((tag) => tag.addUsers(query, sums)))
    return sums.totals(query)
  }
  /** A user is at home in one tag, mostly: who is in several counts once. */
  async readTotals(query: DaysQuery): Promise<Totals> {
    const [sums, sketches] = await Promise.all([
      Promise.all(this.#tags.map((tag) => tag.sums(query))),
      Promise.all(this.#tags.map((tag) => tag.userSketch(query))),
    ])
    const users = await this.#tag(0).countUsers(sketches.filter((sketch) => sketch !== null))
    return totalsOf(sums.flat(), users)
  }

  /**
   * An entry's sequence is its tick, and its tag among equal ticks. Ticks are a logical clock: each tag counts on from the
   * highest that its caller has seen, so what one sidecar entered after another's answer comes after it. A reader first
   * raises every tag to the highest tick there is: no entry will come at or below that any more, so what it reads up to
   * there is all that there will ever be, and a reader that goes on from its last sequence skips nothing.
   */
  async readLedger({ afterSequence, limit }: Parameters<BudgetStore['readLedger']>[0]) {
    const count = this.#tags.length
    await Promise.all(this.#tags.map((tag) => tag.fence()))
    const toTick = Math.min(...(await Promise.all(this.#tags.map((tag) => tag.fence()))))
    const wanted = Math.min(limit, LEDGER_READ_MAX)
    const page = shareOf(wanted, count)
    const lists = this.#tags.map((tag, index): Pages<SequencedEntry> => {
      let afterTick = Math.max(0, Math.floor((afterSequence - index) / count))
      return async () => {
        const entries = await tag.entries({ afterTick, toTick, limit: page })
        afterTick = entries.at(-1)?.tick ?? afterTick
        const items = entries.map(({ tick, entry }) => ({ ...entry, sequence: tick * count + index }))
        return { items, isLast: items.length < page }
      }
    })
    return await firstOf(lists, wanted, (a, b) => a.sequence - b.sequence)
  }

  /** One tag after the other. A cursor names the tag, and where it goes on there; without that it begins there. */
  async listAccounts({ limit, cursor = '0' }: AccountsQuery): Promise<AccountsPage> {
    const [, tag = '', from] = /^(\d{1,3})(?::(.+))?$/.exec(cursor) ?? []
    const index = Number(tag)
    if (tag === '' || index >= this.#tags.length) throw new RangeError('a cursor must be one that a page of accounts gave')
    const { accounts, next } = await this.#tag(index).listAccounts(from === undefined ? { limit } : { limit, cursor: from })
    if (next !== null) return { accounts, next: `${index}:${next}` }
    return { accounts, next: index + 1 < this.#tags.length ? String(index + 1) : null }
  }

  listConversations(query: ListQuery): Promise<readonly ListedConversation[]> {
    const page = shareOf(query.limit, this.#tags.length)
    return firstOf(
      this.#tags.map((tag) => tag.newest({ ...query, limit: page })),
      query.limit,
      newestFirst,
    )
  }

  listQuiet(query: QuietQuery): Promise<readonly ListedConversation[]> {
    const lists = this.#tags.map((tag): Pages<ListedConversation> => {
      const told = new Set<ConversationId>()
      let limit = shareOf(query.limit, this.#tags.length)
      return async () => {
        const listed = await tag.listQuiet({ ...query, limit })
        const items = listed.filter(({ id }) => !told.has(id))
        for (const { id } of items) told.add(id)
        const isLast = listed.length < limit || limit >= query.limit
        limit = query.limit
        return { items, isLast }
      }
    })
    return firstOf(lists, query.limit, quietFirst)
  }

  /** What a user said is at home with the user. */
  remember(step: RememberStep): Promise<void> {
    return this.#tag(this.#at(step.user)).remember(step)
  }
  searchMemory(query: MemoryQuery): Promise<MemoryPage> {
    return this.#tag(this.#at(query.user)).searchMemory(query)
  }
  /** A conversation that began before its user was known may be in any tag. */
  forgetUser(step: ForgetStep): Promise<Forgotten> {
    return this.#tag(this.#at(step.user)).forgetMemory(step, async (wider) => {
      await Promise.all(this.#tags.map((tag) => tag.forgetTexts(wider)))
    })
  }

  async close(): Promise<void> {
    await this.#tag(0).close()
  }

  #tag(index: number): Tag {
    const tag = this.#tags[index]
    if (tag === undefined) throw new RangeError(`there is no tag ${index}`)
    return tag
  }
  #at(id: string): number {
    return tagOf(id, this.#tags.length)
  }
  #byTag<Item>(items: readonly Item[], idOf: (item: Item) => string): ReadonlyMap<number, readonly Item[]> {
    return grouped(items, (item) => this.#at(idOf(item)))
  }

  #guess(conversation: ConversationId, accounts: readonly AccountId[]): number {
    const user = accounts.find((account) => account.startsWith('u:'))
    const owner = user === undefined ? null : ownerOf(user)
    return this.#at(owner?.kind === 'other' ? owner.id : conversation)
  }

  /** With a user, a conversation that has no home yet gets the user's. The first to ask decides; the others are told. */
  #homeOf(conversation: ConversationId, user: string | null = null): Promise<number> {
    return this.#homeIn(conversation, this.#at(user ?? conversation))
  }

  async #homeIn(conversation: ConversationId, wanted: number): Promise<number> {
    const remembered = this.#homes.get(conversation)
    if (remembered !== undefined) return remembered
    const natural = this.#at(conversation)
    const home = await this.#tag(natural).claim(conversation, wanted === natural ? null : wanted)
    // What is not claimed may still become another's.
    if (home !== null) this.#homes.set(conversation, home)
    return home ?? natural
  }

  /** The tag of each account, of which some may be the conversation's own. */
  async #places(accounts: readonly AccountId[], conversation: ConversationId, home: number): Promise<readonly number[]> {
    return Promise.all(
      accounts.map(async (account) => {
        const owner = ownerOf(account)
        if (owner.kind === 'other') return this.#at(owner.id)
        return owner.conversation === conversation ? home : this.#homeOf(owner.conversation)
      }),
    )
  }

  async #readAt(home: number, conversation: ConversationId, accounts: readonly AccountId[], nowMs: number): Promise<Snapshot> {
    const places = await this.#places(accounts, conversation, home)
    const groups = new Map<number, AccountId[]>([[home, []]])
    accounts.forEach((account, index) => pushed(groups, places[index] ?? home, account))
    const read = await Promise.all(
      [...groups].map(([tag, own]) =>
        this.#tag(tag).read({ conversation: tag === home ? conversation : NO_CONVERSATION, accounts: own, nowMs }),
      ),
    )
    return { conversation: read[0]?.conversation ?? null, accounts: new Map(read.flatMap((snapshot) => [...snapshot.accounts])) }
  }

  /** What a script at home answered, with the balances of other tags and, if it did not look at it, the conversation. */
  async #completed(
    snapshot: Snapshot,
    home: number,
    conversation: ConversationId,
    accounts: readonly AccountId[],
    nowMs: number,
  ): Promise<Snapshot> {
    const missing = accounts.filter((account) => !snapshot.accounts.has(account))
    if (missing.length === 0 && snapshot.conversation !== null) return snapshot
    const more = await this.#readAt(home, conversation, missing, nowMs)
    return {
      conversation: snapshot.conversation ?? more.conversation,
      accounts: new Map([...snapshot.accounts, ...more.accounts].filter(([account]) => accounts.includes(account))),
    }
  }

  /** An account outside home had too little: what all of them say together, as the model does. */
  async #refusal(step: ReserveStep, home: number, accounts: readonly AccountId[], refused: AccountId): Promise<ReserveAnswer> {
    const snapshot = await this.#readAt(home, step.conversation, accounts, step.nowMs)
    if (hasMoved(snapshot.conversation, step)) return { status: 'moved', snapshot }
    const offered = offer(step.reservation, (account) => snapshot.accounts.get(account) ?? EMPTY_ACCOUNT)
    // There is enough by now: worth asking again.
    return offered.status === 'held' ? { status: 'busy', account: refused, snapshot } : { ...offered, snapshot }
  }

  async #tagOfOperation(id: OperationId): Promise<number | null> {
    const remembered = this.#operations.get(id)
    if (remembered !== undefined) return remembered
    await this.#find(id)
    return this.#operations.get(id) ?? null
  }

  /** Asks where it is remembered to be, else everywhere: only repeats after a restart have to. */
  async #find(id: OperationId): Promise<Known | null> {
    const remembered = this.#operations.get(id)
    if (remembered !== undefined) return this.#tag(remembered).operation(id)
    const found = await Promise.all(this.#tags.map((tag) => tag.operation(id)))
    const tag = found.findIndex((known) => known !== null)
    if (tag < 0) return null
    this.#operations.set(id, tag)
    return found[tag] ?? null
  }

  async #putChain(conversation: ConversationId, digests: readonly Digest[], isRepeat: boolean): Promise<void> {
    await Promise.all(
      [...this.#byTag(digests, (digest) => digest)].map(([tag, own]) => this.#tag(tag).putChain(conversation, own, isRepeat)),
    )
  }

  /** A step that is told again finds its operation at home. A part that its tag has lost, as by a failover, is there again after this. */
  async #restore({ operation, places: known }: Known, reservation: Reservation, places: readonly number[]): Promise<void> {
    const { id, state, hold } = operation
    const home = this.#operations.get(id)
    if (home === undefined) return
    const foreign = [...grouped(reservation.draws, (_, index) => places[index] ?? home)].filter(
      ([tag]) => tag !== home && known.includes(tag),
    )
    await Promise.all(
      foreign.map(async ([tag, own]) => {
        const accounts = own.map(({ account }) => account)
        if (state.status !== 'held')
          return await this.#tag(tag).follow(id, state.status, state.status === 'settled' ? state.cost : hold, accounts)
        const draws = accounts.map((account) => ({ account, cap: null }))
        const part = await this.#tag(tag).holdPart({
          reservation: { ...reservation, draws, input: operation.input, atLeast: hold, atMost: hold },
          home,
        })
        if (part.status === 'exists' && part.granted > hold) await this.#tag(tag).follow(id, 'trimmed', hold, [])
      }),
    )
  }

  /** Parts come to where the operation is. They know their accounts; those of one that has ended are not told. */
  async #follow(id: OperationId, { operation, places }: Known): Promise<void> {
    const { state, accounts } = operation
    if (state.status === 'held') return
    const foreign = new Set(places)
    foreign.delete(this.#operations.get(id) ?? -1)
    const cost = state.status === 'settled' ? state.cost : 0n
    await Promise.all(
      [...foreign].map((tag) => {
        const own = accounts.filter((_, index) => places[index] === tag)
        return this.#tag(tag).follow(id, state.status, cost, own)
      }),
    )
  }

  async #due(listed: 'held' | 'parts', nowMs: number, limit: number): Promise<readonly (Due & { readonly tag: number })[]> {
    const all = await Promise.all(
      this.#tags.map(async (tag, index) => (await tag.due(listed, nowMs, limit)).map((due) => ({ ...due, tag: index }))),
    )
    return all
      .flat()
      .toSorted((a, b) => a.expiresAtMs - b.expiresAtMs || (a.id < b.id ? -1 : 1))
      .slice(0, limit)
  }

  /** A part whose time has run out: its home says what became of the operation. */
  async #heal({ tag, id, home }: Due & { readonly tag: number }): Promise<void> {
    const known = await this.#tag(home ?? tag).operation(id)
    const state = known?.operation.state ?? { status: 'voided' }
    if (state.status === 'held') await this.#tag(tag).follow(id, 'renewed', known?.operation.expiresAtMs ?? 0, [])
    else await this.#tag(tag).follow(id, state.status, state.status === 'settled' ? state.cost : 0n, [])
  }
}

/** Those of the draws that are there: first the session's, then the user's. */
function watchedWhere({ percents, draws, ofUser }: WatchedAlerts, isThere: (index: number) => boolean): WatchedAlerts {
  const own = draws.filter((_, index) => isThere(index))
  return { percents, draws: own, ...(ofUser !== undefined && isThere(draws.length) ? { ofUser } : {}) }
}

function isNoNews({ firedAlerts, firedUserAlerts }: FiredPercents): boolean {
  return firedAlerts.length === 0 && firedUserAlerts.length === 0
}

function joinedPercents(first: readonly number[], then: readonly number[] = []): readonly number[] {
  return [...first, ...then].toSorted((a, b) => a - b)
}

function grouped<Item>(items: readonly Item[], tagOf: (item: Item, index: number) => number): Map<number, Item[]> {
  const groups = new Map<number, Item[]>()
  items.forEach((item, index) => pushed(groups, tagOf(item, index), item))
  return groups
}
function pushed<Key, Item>(groups: Map<Key, Item[]>, key: Key, item: Item): void {
  const known = groups.get(key)
  if (known === undefined) groups.set(key, [item])
  else known.push(item)
}
