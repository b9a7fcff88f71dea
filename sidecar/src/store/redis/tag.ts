/**
 * One tag of a namespace, as a store of its own: each step is one script, one round trip, atomic with all that it moves.
 * A namespace that has one tag, as on a single server, is this and nothing more.
 */
import { randomUUID } from 'node:crypto'
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import { assertCost, assertReservation, settled } from '../../core/budget.ts'
import type { AccountId, Operation, OperationId, Reservation, ReserveResult } from '../../core/budget.ts'
import type { ConversationId, Digest, UserId } from '../../core/conversation.ts'
import type { EntryNote, LedgerEntry } from '../../core/ledger.ts'
import { isOutcomeName, NO_OUTCOMES, outcomeEntry, outcomeNames } from '../../core/outcomes.ts'
import { SESSION_PREFIX, SUMMARIES_SUFFIX, totalsOf } from '../../core/totals.ts'
import type { NamedSum, Totals } from '../../core/totals.ts'
import { UserSums } from '../../core/totals-by-user.ts'
import type { UserTotals } from '../../core/totals-by-user.ts'
import { dayNamed } from '../../core/utc-day.ts'
import { newerFirst, newestPage, pageLength, placeOf, queryTerms, rankedHits, rankedPage } from '../memory-search.ts'
import { assertLedgerLife, CONVERSATION_LIFE_MS, LEDGER_READ_MAX, NONE_FIRED, oldestDay, StoreError } from '../store.ts'
import type {
  AccountsPage,
  AccountsQuery,
  BudgetStore,
  DaysQuery,
  FiredPercents,
  ForgetStep,
  Forgotten,
  ListedConversation,
  ListQuery,
  MemoryEntry,
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
import * as codec from './codec.ts'
import type { Reply } from './codec.ts'
import { ACCOUNTS_WEEK_MS, declaredKeys, tagPrefix } from './keys.ts'
import type { Link } from './link.ts'
import { firstOf } from './pages.ts'
import type { Pages } from './pages.ts'
import type { ScriptName } from './scripts.ts'
import type { SharedClock } from '../store-clock.ts'

/** A longer span of days is refused: each is a key that is asked for. */
const DAYS_MAX = 3_700
/** A copy of a sketch is looked at and deleted; should its owner die between the two, it is gone after this. */
const SKETCH_LIFE_MS = 60_000
/** Entries of memories, or conversations, dropped in one script, so that no step waits for long; and scripts of one sweep. */
const DROPPED_AT_ONCE = 500
const DROPS_MAX = 20
/** The same for entries of the ledger, each of which takes several times as long where its accounts live. */
const CARRIED_AT_ONCE = 200
const CARRIES_MAX = 50

/** Fields of a hash, or members of a list, that are looked at in one command. */
const SCANNED = 500
/** Records of conversations that one script reads: it takes as long as a few turns. */
const LISTED_AT_ONCE = 100
/** More than `maxResets` lets a conversation have: of a record that is damaged no more are listed. */
const SESSIONS_MAX = 200
/** At most a few hundred kilobytes of text. */
const MEMORY_ENTRIES_READ = 100

/** What scripts answer, in a word. */
const VOID_ANSWERS = ['voided', 'exists', 'unknown'] as const
const CHARGE_ANSWERS = ['charged', 'exists'] as const
const OUTCOME_ANSWERS = ['added', 'exists'] as const
const PART_ANSWERS = ['held', 'exists'] as const

/** Where conversations are listed, and where lone calls. */
const TALK_LISTS = ['talks', 'calls'] as const
type TalkList = (typeof TALK_LISTS)[number]

/** The highest tick that this process has seen, of any tag: what follows it in time follows it in the ledger. */
export interface Ticks {
  seen: number
}

/** The accounts of an operation, and the tag of each. */
export interface Split {
  readonly accounts: readonly AccountId[]
  readonly places: readonly number[]
}
export interface Known {
  readonly operation: Operation
  readonly places: readonly number[]
}
/** A conversation that has not begun, and will not begin here. */
export interface Elsewhere {
  readonly status: 'elsewhere'
  readonly home: number
}
export interface Due {
  readonly id: OperationId
  readonly expiresAtMs: number
  /** Of a part: the tag of its operation. */
  readonly home: number | null
}
export interface PartHold {
  readonly reservation: Reservation
  /** The tag of the operation. */
  readonly home: number
  /** As of a `ReserveStep`. */
  readonly isFirst?: boolean | undefined
}
export type PartHeld =
  | { readonly status: 'held' | 'exists'; readonly granted: bigint }
  /** Held before, and not any more. */
  | { readonly status: 'ended' }
  | { readonly status: 'refused'; readonly account: AccountId }
/** `released`: as if it had never been held. */
export type PartMove = 'settled' | 'voided' | 'expired' | 'trimmed' | 'renewed' | 'released'

export interface TagOptions {
  readonly link: Link
  readonly namespace: string
  readonly tag: number
  readonly clock: SharedClock
  readonly ticks: Ticks
  /** Ledger entries older than this are dropped, their sums carried over; at least `LEDGER_LIFE_MS_MIN`. Absent: kept for good. */
  readonly ledgerLifeMs?: number | undefined
}

/**
 * Keeps nothing of the books in memory. Link, clock and ticks are shared by all tags of a namespace, so that closing one closes
 * the link of all. Beside the steps of every store it has those that `SpreadStore` is made of; they fail in the same ways.
 */
export class Tag implements BudgetStore {
  readonly #link: Link
  readonly #prefix: string
  readonly #clock: SharedClock
  readonly #ticks: Ticks
  readonly #ledgerLifeMs: number | null
  /** The place in each list of conversations up to which all that are gone are off it, as far as this process has looked. */
  readonly #talksFrom: Record<TalkList, string> = { talks: '0', calls: '0' }

  constructor({ link, namespace, tag, clock, ticks, ledgerLifeMs }: TagOptions) {
    assertLedgerLife(ledgerLifeMs)
    this.#ledgerLifeMs = ledgerLifeMs ?? null
    this.#link = link
    this.#prefix = tagPrefix(namespace, tag)
    this.#clock = clock
    this.#ticks = ticks
  }

  read({ conversation, accounts, nowMs }: Parameters<BudgetStore['read']>[0]): Promise<Snapshot> {
    const values = [codec.idText(conversation), ...codec.listArguments(accounts)]
    return this.#run('read', this.#clock.at(nowMs), values, (reply) => codec.snapshotOf(conversation, reply))
  }

  async findByChain(digests: readonly Digest[], nowMs: number): Promise<ConversationId | null> {
    const found = await this.findDigest(digests, nowMs)
    return found?.conversation ?? null
  }

  async reserve(step: ReserveStep): Promise<ReserveAnswer> {
    const answer = await this.reserveHere(step, null)
    if (answer.status === 'elsewhere') throw new StoreError('corrupt', `the home of ${step.conversation} is a tag that is not there`)
    return answer
  }

  /** `split`: where its accounts are, when only some of them are here. */
  async reserveHere(step: ReserveStep, split: Split | null): Promise<ReserveAnswer | Elsewhere> {
    const { reservation, conversation } = step
    assertReservation(reservation)
    const values = [
      ...this.#holdArguments(reservation),
      ...noteArguments(reservation.note),
      split === null ? '' : split.accounts.map((account) => codec.idText(account)).join('\t'),
      split === null ? '' : split.places.join(','),
      codec.idText(conversation),
      step.isFirst === true ? '1' : '0',
      ...codec.seenArguments(step.seen ?? step.initial),
      ...codec.initialArguments(step.initial),
      ...codec.drawArguments(reservation.draws),
      ...codec.changeArguments(step.change),
    ]
    // When it is sent, not when it was decided: a wall clock that jumped between the two would make it one that comes too late.
    return this.#run('reserve', this.#clock.now(), values, ([status, detail, known, ...rest]) => {
      if (status === 'elsewhere') return { status, home: Number(codec.text(detail)) }
      const snapshot = codec.snapshotOf(conversation, rest)
      if (status === 'moved') return { status, snapshot }
      return { ...reserveResult(step, codec.text(status), codec.text(detail), known, snapshot), snapshot }
    })
  }

  renew(operationIds: readonly OperationId[], expiresAtMs: number): Promise<void> {
    const values = [this.#lifeUntil(expiresAtMs), ...codec.listArguments(operationIds)]
    return this.#run('renew', this.#clock.now(), values, () => undefined)
  }

  async settle(step: SettleStep): Promise<SettleAnswer> {
    return (await this.settleHere(step)).answer
  }

  async settleHere(step: SettleStep): Promise<{ readonly answer: SettleAnswer; readonly known: Known | null }> {
    const { settlement, conversation } = step
    assertCost(settlement.cost)
    const values = [
      codec.idText(settlement.operationId),
      String(settlement.cost),
      String(settlement.atMs),
      ...noteArguments(settlement.note),
      codec.idText(conversation),
      ...codec.listArguments(step.chain),
      ...codec.alertArguments(step.alerts),
      ...codec.changeArguments(step.change),
    ]
    return this.#run('settle', this.#clock.now(), values, ([status, known, fired, firedForUser, ...rest]) => {
      const snapshot = codec.snapshotOf(conversation, rest)
      if (status === 'unknown') return { answer: { result: { status }, ...NONE_FIRED, snapshot }, known: null }
      const before = knownOf(settlement.operationId, known)
      const outcome = settled(before.operation, settlement)
      if (outcome === null) return { answer: { result: { status: 'exists' }, ...NONE_FIRED, snapshot }, known: before }
      const result = { status: outcome.corrects ? 'corrected' : 'settled', entries: outcome.entries } as const
      return {
        answer: { result, ...firedOf(fired, firedForUser), snapshot },
        known: { ...before, operation: outcome.operation },
      }
    })
  }

  async void(step: Parameters<BudgetStore['void']>[0]): Promise<'voided' | 'exists' | 'unknown'> {
    return (await this.voidHere(step)).status
  }

  voidHere({ operationId, atMs }: Parameters<BudgetStore['void']>[0]) {
    const values = [codec.idText(operationId), String(atMs)]
    return this.#run('void', this.#clock.now(), values, ([status, known]) => ({
      status: codec.wordOf(status, VOID_ANSWERS),
      known: known === '' ? null : knownOf(operationId, known),
    }))
  }

  async update(step: Parameters<BudgetStore['update']>[0]): Promise<UpdateAnswer | null> {
    const answer = await this.updateHere(step)
    if (answer !== null && 'home' in answer) throw new StoreError('corrupt', `the home of ${step.conversation} is a tag that is not there`)
    return answer
  }

  updateHere({ conversation, initial, change, nowMs }: Parameters<BudgetStore['update']>[0]): Promise<UpdateAnswer | Elsewhere | null> {
    const values = [codec.idText(conversation), ...codec.initialArguments(initial), ...codec.changeArguments(change)]
    return this.#run('update', this.#clock.at(nowMs), values, ([fired, firedForUser, record, edits, ready]) => {
      if (fired === 'elsewhere') return { status: fired, home: Number(codec.text(firedForUser)) }
      const changed = codec.conversationOf(conversation, record, edits, ready)
      return changed === null ? null : { conversation: changed, ...firedOf(fired, firedForUser) }
    })
  }

  charge(step: Parameters<BudgetStore['charge']>[0]): Promise<'charged' | 'exists'> {
    return this.chargeHere(step, [])
  }

  async chargeHere(step: Parameters<BudgetStore['charge']>[0], places: readonly number[]): Promise<'charged' | 'exists'> {
    assertCost(step.cost)
    const values = [
      codec.idText(step.operationId),
      String(step.cost),
      String(step.atMs),
      ...noteArguments(step.note),
      ...codec.listArguments(step.accounts),
      places.join(','),
      codec.idText(step.conversation),
      ...codec.changeArguments(step.change),
    ]
    return this.#run('charge', this.#clock.now(), values, ([status]) => codec.wordOf(status, CHARGE_ANSWERS))
  }

  /** Also drops what is listed and is gone, and entries that are old enough: so much of each that no sweep is without end. */
  async sweep({ nowMs, limit, graceMs = 0 }: SweepStep): Promise<Swept> {
    const swept = await this.#run('sweep', this.#clock.at(nowMs), [String(limit), String(graceMs)], ([pairs, left]) => {
      const flat = codec.list(pairs)
      const expired: Operation[] = []
      for (let index = 0; index < flat.length; index += 2) expired.push(codec.operationOf(codec.text(flat[index]), flat[index + 1]))
      return sweptOf(
        expired,
        codec.list(left).map((id) => codec.text(id)),
      )
    })
    await untilDone(() => this.#dropExpired(), DROPS_MAX)
    for (const list of TALK_LISTS) await untilDone(() => this.#dropTalks(list), DROPS_MAX)
    const lifeMs = this.#ledgerLifeMs
    if (lifeMs !== null) await untilDone(() => this.#dropEntries(lifeMs), CARRIES_MAX)
    return swept
  }

  /** Each tells whether it is done. */
  async #dropExpired(): Promise<boolean> {
    return this.#run('dropExpired', this.#clock.now(), [String(DROPPED_AT_ONCE)], ([more]) => more === '')
  }
  async #dropTalks(list: TalkList): Promise<boolean> {
    const values = [list, this.#talksFrom[list], String(DROPPED_AT_ONCE)]
    const next = await this.#run('dropTalks', this.#clock.now(), values, ([from]) => codec.text(from))
    this.#talksFrom[list] = next === '' ? '0' : next
    return next === ''
  }
  async #dropEntries(lifeMs: number): Promise<boolean> {
    return this.#run('carryOver', this.#clock.now(), [String(lifeMs), String(CARRIED_AT_ONCE)], ([more]) => more === '')
  }

  async putContract(contract: Contract): Promise<void> {
    await this.#link.ask((client) => client.set(this.#key('z', contract.hash), JSON.stringify(contract), 'NX'))
  }

  async getContract(hash: string): Promise<unknown> {
    const body = await this.#link.ask((client) => client.get(this.#key('z', hash)))
    return this.#understood<unknown>(() => (body === null ? null : JSON.parse(body)))
  }

  addOutcome(outcome: Parameters<BudgetStore['addOutcome']>[0]): Promise<'added' | 'exists'> {
    const { accounts, note } = outcomeEntry(outcome)
    const values = [
      codec.idText(outcome.key),
      ...noteArguments(note),
      String(outcome.atMs),
      accounts.map((account) => codec.idText(account)).join('\t'),
      ...codec.listArguments(outcomeNames(outcome)),
    ]
    return this.#run('addOutcome', this.#clock.now(), values, ([status]) => codec.wordOf(status, OUTCOME_ANSWERS))
  }

  async readOutcomes(query: DaysQuery): Promise<OutcomeTotals> {
    const totals: { -readonly [Name in keyof OutcomeTotals]: OutcomeTotals[Name] } = { ...NO_OUTCOMES }
    for (const [name, sum] of await this.sums(query)) {
      if (name === 'spent') totals.cost += sum
      else if (isOutcomeName(name)) totals[name] += Number(sum)
    }
    return totals
  }

  async readTotals(query: DaysQuery): Promise<Totals> {
    const days = this.#sketches(query)
    const [sums, users] = await Promise.all([
      this.sums(query),
      days.length === 0 ? '0' : this.#link.ask((client) => client.pfcount(...days)),
    ])
    return totalsOf(sums, Number(codec.text(users)))
  }

  /** All that was counted on these days, a name for each of them. */
  sums({ tier, fromDay, toDay }: DaysQuery): Promise<readonly NamedSum[]> {
    const [from, to] = spanOf(fromDay, toDay)
    return this.#run('readDays', this.#clock.now(), [codec.idText(tier), String(from), String(to)], ([days]) =>
      codec.list(days).flatMap((day) => codec.sumsOf(day)),
    )
  }

  /** The users of these days as one sketch, to be joined with those of other tags; null when there are none. */
  async userSketch(query: DaysQuery): Promise<Buffer | null> {
    const days = this.#sketches(query)
    if (days.length === 0) return null
    const joined = this.#key('u', randomUUID())
    return this.#link.ask(async (client) => {
      const [, , sketch] = await Promise.all([
        client.pfmerge(joined, ...days),
        client.pexpire(joined, SKETCH_LIFE_MS),
        client.getBuffer(joined),
        client.del(joined),
      ])
      return sketch
    })
  }

  /** How many different users there are in these sketches. */
  async countUsers(sketches: readonly Buffer[]): Promise<number> {
    if (sketches.length === 0) return 0
    const joined = randomUUID()
    const copies = sketches.map((_, index) => this.#key('u', `${joined}:${index}`))
    return this.#link.ask(async (client) => {
      const written = copies.map((copy, index) => client.set(copy, sketches[index] ?? '', 'PX', SKETCH_LIFE_MS))
      const [users] = await Promise.all([client.pfcount(...copies), client.del(...copies), ...written])
      return Number(codec.text(users))
    })
  }

  /** Of the users of these days; of days that are gone there is none. */
  #sketches({ tier, fromDay, toDay }: DaysQuery): string[] {
    const [from, to] = spanOf(fromDay, toDay)
    const first = Math.max(from, oldestDay(this.#clock.now()))
    return Array.from({ length: Math.max(0, to - first + 1) }, (_, index) => this.#key('u', `${first + index}:${tier}`))
  }

  async readUsers(query: Parameters<BudgetStore['readUsers']>[0]): Promise<UserTotals> {
    const sums = new UserSums()
    await this.addUsers(query, sums)
    return sums.totals(query)
  }

  /** What each user spent here. Of one day after the other, so that no more than a day's users are in memory beside the sums. */
  async addUsers({ tier, fromDay, toDay }: DaysQuery, sums: UserSums): Promise<void> {
    const [from, to] = spanOf(fromDay, toDay)
    for (let day = Math.max(from, oldestDay(this.#clock.now())); day <= to; day++)
      for (const [user, spent] of await this.#userSums(this.#key('v', `${day}:${tier}`))) sums.add(user, spent)
  }

  /** A scan may tell a field twice. */
  async #userSums(key: string): Promise<ReadonlyMap<UserId, bigint>> {
    const sums = new Map<UserId, bigint>()
    let from = '0'
    do {
      const [next, pairs] = await this.#link.ask((client) => client.hscan(key, from, 'COUNT', SCANNED))
      for (const [user, spent] of this.#understood(() => codec.sumsOf(pairs))) sums.set(user, spent)
      from = next
    } while (from !== '0')
    return sums
  }

  /** The sequence of an entry is its tick. */
  async readLedger({ afterSequence, limit }: Parameters<BudgetStore['readLedger']>[0]) {
    const entries = await this.entries({ afterTick: afterSequence, toTick: null, limit })
    return entries.map(({ tick, entry }) => ({ ...entry, sequence: tick }))
  }

  async entries(query: {
    readonly afterTick: number
    readonly toTick: number | null
    readonly limit: number
  }): Promise<readonly { readonly tick: number; readonly entry: LedgerEntry }[]> {
    const count = Math.min(query.limit, LEDGER_READ_MAX)
    if (count < 1) return []
    const [toScore, toId] = query.toTick === null ? (['+inf', '+'] as const) : [query.toTick, `${query.toTick}-0`]
    // Together, for entries go from one to the other. What was carried over comes first.
    const read = await this.#link.ask((client) =>
      client
        .multi()
        .zrangebyscore(`${this.#prefix}carried`, `(${query.afterTick}`, toScore, 'LIMIT', 0, count)
        .xrange(`${this.#prefix}ledger`, `${query.afterTick + 1}-0`, toId, 'COUNT', count)
        .exec(),
    )
    return this.#understood(() => {
      const [carried, entered] = (read ?? []).map(([error, rows]) => {
        if (error !== null) throw error
        return codec.list(rows)
      })
      const entries = (entered ?? []).map((row) => {
        const [id, fields] = codec.list(row)
        return { tick: Number.parseInt(codec.text(id), 10), entry: codec.entryOf(fields) }
      })
      return [...(carried ?? []).map((packed) => codec.carriedOf(packed)), ...entries].slice(0, count)
    })
  }

  /** From now on no entry here has a tick up to the one that it tells, which is no lower than any that was seen before. */
  fence(): Promise<number> {
    return this.#run('fence', this.#clock.now(), [], ([tick]) => Number(codec.text(tick)))
  }

  /**
   * First those of conversations and of lone calls, of the lists of all there are; then the others, a week's list after the other. Accounts that an
   * earlier version began are listed once this one is the first to use them in a week. A cursor names the list, and the place in it.
   */
  async listAccounts({ limit, cursor = 'talks:0' }: AccountsQuery): Promise<AccountsPage> {
    const [, list = '', from = ''] = /^(talks|calls|\d{1,9}):(\d{1,20})$/.exec(cursor) ?? []
    if (from === '') throw new RangeError('a cursor must be one that a page of accounts gave')
    const now = this.#clock.now()
    const talks = TALK_LISTS.find((name) => name === list)
    const scanned =
      talks === undefined
        ? await this.#accountsUsedIn(Number(list), from, Math.min(limit, SCANNED))
        : await this.#accountsOfTalks(talks, from, limit)
    if (scanned.next !== '0') return { accounts: scanned.accounts, next: `${list}:${scanned.next}` }
    if (talks === 'talks') return { accounts: scanned.accounts, next: 'calls:0' }
    const oldest = Math.floor((now - CONVERSATION_LIFE_MS) / ACCOUNTS_WEEK_MS)
    const following = talks === 'calls' ? oldest : Math.max(oldest, Number(list) + 1)
    const isLast = following > Math.floor(now / ACCOUNTS_WEEK_MS)
    return { accounts: scanned.accounts, next: isLast ? null : `${following}:0` }
  }

  async #accountsOfTalks(list: TalkList, from: string, limit: number): Promise<Scanned> {
    const count = Math.min(limit, LISTED_AT_ONCE)
    const [next, pairs] = await this.#link.ask((client) => client.zscan(this.#prefix + list, from, 'COUNT', count))
    const ids = pairs.filter((_, index) => index % 2 === 0)
    if (ids.length === 0) return { accounts: [], next }
    const known = await this.#run('sessionsOf', this.#clock.now(), codec.listArguments(ids), ([sessions]) => codec.sumsOf(sessions))
    return { accounts: known.flatMap(([id, session]) => accountsOf(id, Number(session))), next }
  }

  async #accountsUsedIn(week: number, from: string, count: number): Promise<Scanned> {
    const [next, pairs] = await this.#link.ask((client) => client.hscan(this.#key('b', String(week)), from, 'COUNT', count))
    return { accounts: pairs.filter((_, index) => index % 2 === 0), next }
  }

  listConversations(query: ListQuery): Promise<readonly ListedConversation[]> {
    return firstOf([this.newest(query)], query.limit, newestFirst)
  }

  /** By last turn, newest first; `limit`: of a page. One that has a turn meanwhile is told where it was, or not at all. */
  newest({ limit, nowMs, areLone }: ListQuery): Pages<ListedConversation> {
    const list: TalkList = areLone === true ? 'calls' : 'talks'
    const count = Math.min(limit, LISTED_AT_ONCE)
    const told = new Set<ConversationId>()
    let from = 0
    return () =>
      this.#run('listConversations', this.#clock.at(nowMs), [list, String(from), String(count)], ([looked, listed]) => {
        from += Number(codec.text(looked))
        // Each turn meanwhile has moved those before it one further.
        const items = codec.listedOf(listed).filter(({ id }) => !told.has(id))
        for (const { id } of items) told.add(id)
        return { items, isLast: Number(codec.text(looked)) < count }
      })
  }

  async listQuiet({ tiers, quietSinceMs, limit, nowMs }: QuietQuery): Promise<readonly ListedConversation[]> {
    const listed = await Promise.all(
      [...new Set(tiers)].map((tier) => {
        const values = [codec.idText(tier), String(quietSinceMs), String(limit)]
        return this.#run('listQuiet', this.#clock.at(nowMs), values, ([listed]) => codec.listedOf(listed))
      }),
    )
    return listed.flat().toSorted(quietFirst).slice(0, limit)
  }

  remember({ user, entries, expiresAtMs, nowMs }: RememberStep): Promise<void> {
    const values = [codec.idText(user), this.#lifeUntil(expiresAtMs), ...codec.memoryArguments(entries)]
    return this.#run('remember', this.#clock.at(nowMs), values, () => undefined)
  }

  async searchMemory(query: MemoryQuery): Promise<MemoryPage> {
    const place = placeOf(query)
    const { user, limit } = query
    const known = await this.#remembered(user, this.#clock.at(query.nowMs))
    if ('before' in place) {
      const { before } = place
      const wanted = pageLength(limit) + 1
      const older = before === null ? known : known.filter((entry) => newerFirst(before, entry) < 0)
      const entries: MemoryEntry[] = []
      for await (const page of this.#memoryPages(user, older)) {
        entries.push(...page)
        if (entries.length >= wanted) break
      }
      return newestPage(entries.slice(0, wanted), limit)
    }
    const terms = queryTerms(query.query)
    if (terms.length === 0) return { hits: [], next: null }
    return rankedPage(await rankedHits(terms, this.#memoryPages(user, known), known.length), place.after, limit)
  }

  /** Newest first. */
  async #remembered(user: UserId, now: number): Promise<readonly Pick<MemoryEntry, 'id' | 'atMs'>[]> {
    return this.#run('memoryIds', now, [codec.idText(user)], ([times]) =>
      codec
        .sumsOf(times)
        .map(([id, atMs]) => ({ id, atMs: Number(atMs) }))
        .toSorted(newerFirst),
    )
  }

  async *#memoryPages(user: UserId, known: readonly Pick<MemoryEntry, 'id'>[]): AsyncGenerator<readonly MemoryEntry[]> {
    for (let from = 0; from < known.length; from += MEMORY_ENTRIES_READ) {
      const ids = known.slice(from, from + MEMORY_ENTRIES_READ).map(({ id }) => id)
      const values = [codec.idText(user), ...codec.listArguments(ids)]
      yield await this.#run('memoryEntries', this.#clock.now(), values, ([entries]) => codec.memoriesOf(entries))
    }
  }

  forgetUser(step: ForgetStep): Promise<Forgotten> {
    return this.forgetMemory(step, (wider) => this.forgetTexts(wider))
  }

  /**
   * Texts go first, in all the conversations that the memory names: should the store go away before the memory has gone as well,
   * it still names them when the user is forgotten again.
   */
  async forgetMemory(step: ForgetStep, forgetTexts: (step: ForgetStep) => Promise<void>): Promise<Forgotten> {
    const { user, nowMs } = step
    const known = await this.#remembered(user, this.#clock.at(nowMs))
    const named = new Set<ConversationId>()
    for await (const page of this.#memoryPages(user, known)) for (const { conversation } of page) named.add(conversation)
    await forgetTexts({ ...step, conversations: [...new Set([...named, ...(step.conversations ?? [])])] })
    const values = [codec.idText(user), ...codec.listArguments(known.map(({ id }) => id))]
    return this.#run('forgetMemory', this.#clock.at(nowMs), values, ([entries]) => ({
      entries: Number(codec.text(entries)),
      conversations: [...named].toSorted(),
    }))
  }

  /** Looks at `conversations`, and for the user's at all there are, a few at a time: lone calls have no edits. A scan tells each that is there all the while. */
  async forgetTexts({ user, conversations = [], nowMs }: ForgetStep): Promise<void> {
    for (let at = 0; at < conversations.length; at += SCANNED) {
      const ids = conversations.slice(at, at + SCANNED)
      await this.#run('forgetTexts', this.#clock.at(nowMs), [codec.userText(null), ...codec.listArguments(ids)], () => undefined)
    }
    let from = '0'
    do {
      const [next, pairs] = await this.#link.ask((client) => client.zscan(`${this.#prefix}talks`, from, 'COUNT', SCANNED))
      const ids = pairs.filter((_, index) => index % 2 === 0)
      await this.#run('forgetTexts', this.#clock.at(nowMs), [codec.userText(user), ...codec.listArguments(ids)], () => undefined)
      from = next
    } while (from !== '0')
  }

  /** What is known of an operation whose home is here. */
  operation(id: OperationId): Promise<Known | null> {
    return this.#run('operation', this.#clock.now(), [codec.idText(id)], ([known]) => (known === '' ? null : knownOf(id, known)))
  }

  /** What is held past its time, oldest first: operations at home here, or parts of others. */
  due(listed: 'held' | 'parts', nowMs: number, limit: number): Promise<readonly Due[]> {
    return this.#run('due', this.#clock.at(nowMs), [listed, String(limit)], ([pairs]) => {
      const flat = codec.list(pairs)
      const due: Due[] = []
      for (let index = 0; index < flat.length; index += 3) {
        const [id, expiresAtMs, home] = flat.slice(index, index + 3).map((value) => codec.text(value))
        if (id !== undefined) due.push({ id, expiresAtMs: Number(expiresAtMs), home: home === '' ? null : Number(home) })
      }
      return due
    })
  }

  /** The home of a conversation whose id belongs here; `wanted` where it has none yet. Null: here, or none. */
  claim(conversation: ConversationId, wanted: number | null): Promise<number | null> {
    const values = [codec.idText(conversation), wanted === null ? '' : String(wanted)]
    return this.#run('claim', this.#clock.now(), values, ([home]) => (home === '' || home === null ? null : Number(codec.text(home))))
  }

  /** Where the history leads to, for digests that belong here. `isRepeat`: for those that lead nowhere yet. */
  putChain(conversation: ConversationId, digests: readonly Digest[], isRepeat: boolean): Promise<void> {
    const values = [codec.idText(conversation), isRepeat ? '1' : '0', ...codec.listArguments(digests)]
    return this.#run('chain', this.#clock.now(), values, () => undefined)
  }

  /** Like `findByChain`, and which of the digests it was. */
  findDigest(
    digests: readonly Digest[],
    nowMs: number,
  ): Promise<{ readonly digest: Digest; readonly conversation: ConversationId } | null> {
    return this.#run('findByChain', this.#clock.at(nowMs), codec.listArguments(digests), ([digest, id]) =>
      id === undefined ? null : { digest: codec.text(digest), conversation: codec.text(id) },
    )
  }

  /** Holds the part of an operation of another tag. `exists`: it was held before, by an attempt that may be under way. */
  holdPart({ reservation, home, isFirst }: PartHold): Promise<PartHeld> {
    const values = [
      ...this.#holdArguments(reservation),
      String(home),
      isFirst === true ? '1' : '0',
      ...codec.drawArguments(reservation.draws),
    ]
    return this.#run('partHold', this.#clock.now(), values, ([status, detail]) => {
      if (status === 'refused') return { status, account: codec.text(detail) }
      if (status === 'ended') return { status }
      return { status: codec.wordOf(status, PART_ANSWERS), granted: BigInt(codec.text(detail)) }
    })
  }

  /** Brings a part to where its operation is. `value`: what it cost or was charged, is trimmed to, or expires at. `accounts`: where there is none yet. */
  follow(id: OperationId, what: PartMove, value: bigint | number, accounts: readonly AccountId[]): Promise<void> {
    const values = [codec.idText(id), what, String(value), ...codec.listArguments(accounts)]
    return this.#run('follow', this.#clock.now(), values, () => undefined)
  }

  close(): Promise<void> {
    return this.#link.close()
  }

  #holdArguments({ operationId, expiresAtMs, input, atLeast, atMost }: Reservation): readonly string[] {
    return [codec.idText(operationId), this.#lifeUntil(expiresAtMs), String(input), String(atLeast), String(atMost)]
  }

  /** How long from now: by a clock that may be behind the store's, a time would be over too soon. */
  #lifeUntil(wallMs: number): string {
    return String(this.#clock.at(wallMs) - this.#clock.now())
  }

  #key(kind: string, id: string): string {
    return `${this.#prefix}${kind}:${codec.idText(id)}`
  }

  async #run<T>(name: ScriptName, nowMs: number, values: readonly string[], understand: (reply: Reply) => T): Promise<T> {
    const reply = await this.#link.step(name, declaredKeys(this.#prefix), [String(nowMs), String(this.#ticks.seen), ...values])
    return this.#understood(() => {
      const [storeMs, tick, ...rest] = reply
      this.#clock.raise(Number(codec.text(storeMs)))
      this.#ticks.seen = Math.max(this.#ticks.seen, Number(codec.text(tick)))
      return understand(rest)
    })
  }

  #understood<T>(read: () => T): T {
    try {
      return read()
    } catch (error) {
      throw this.#link.failed(error)
    }
  }
}

/** `uncharged` is left out where there is none. */
export function sweptOf(expired: readonly Operation[], uncharged: readonly OperationId[]): Swept {
  return uncharged.length === 0 ? { expired } : { expired, uncharged }
}

/** What a scan of a list has found, and where it goes on; `0`: it is through. */
interface Scanned {
  readonly accounts: readonly AccountId[]
  readonly next: string
}

/** All accounts that a conversation may have, up to this session. */
function accountsOf(conversation: ConversationId, session: number): readonly AccountId[] {
  const sessions = Array.from({ length: Math.min(session, SESSIONS_MAX) }, (_, before) => `${SESSION_PREFIX}${conversation}:${before + 1}`)
  return [...sessions, `${SESSION_PREFIX}${conversation}${SUMMARIES_SUFFIX}`]
}

async function untilDone(drop: () => Promise<boolean>, dropsMax: number): Promise<void> {
  for (let drops = 0; drops < dropsMax; drops++) if (await drop()) return
}

function firedOf(fired: unknown, firedForUser: unknown): FiredPercents {
  return { firedAlerts: codec.percentsOf(fired), firedUserAlerts: codec.percentsOf(firedForUser) }
}

function knownOf(id: OperationId, packed: unknown): Known {
  return { operation: codec.operationOf(id, packed), places: codec.placesOf(packed) }
}

/** By last turn, and by id among equals. */
export function newestFirst(a: ListedConversation, b: ListedConversation): number {
  return b.lastTurnAtMs - a.lastTurnAtMs || (a.id < b.id ? -1 : 1)
}
/** Whose last turn is longer ago, and by id among equals. */
export function quietFirst(a: ListedConversation, b: ListedConversation): number {
  return a.lastTurnAtMs - b.lastTurnAtMs || (a.id < b.id ? -1 : 1)
}

/** By tier and user scripts count; the note itself they do not read. */
function noteArguments(note: EntryNote): [tier: string, user: string, note: string] {
  return [codec.idText(note.tier ?? ''), codec.idText(note.user ?? ''), codec.noteText(note)]
}

/** `detail`: what was granted, or the account that is in the way. */
function reserveResult(step: ReserveStep, status: string, detail: string, known: unknown, { accounts }: Snapshot): ReserveResult {
  const { reservation } = step
  switch (status) {
    case 'held':
      return { status, granted: BigInt(detail) }
    case 'busy':
      return { status, account: detail }
    case 'exceedsCap': {
      // In bigint, which loses no digit however far beyond the cap it is.
      const cap = reservation.draws.find(({ account }) => account === detail)?.cap ?? 0n
      const { spent = 0n, heldInput = 0n } = accounts.get(detail) ?? {}
      return { status, account: detail, shortBy: reservation.atLeast - (cap - spent - heldInput) }
    }
    case 'exists': {
      const operation = codec.operationOf(reservation.operationId, known)
      // Made for this very step: it is the answer to the first sending of it, which was lost with its connection.
      if (step.isFirst === true && operation.state.status === 'held') return { status: 'held', granted: operation.hold }
      return { status, operation }
    }
    default:
      throw new TypeError(`a reservation cannot be ${status}`)
  }
}

function spanOf(fromDay: string, toDay: string): readonly [from: number, to: number] {
  const [from, to] = [dayNamed(fromDay), dayNamed(toDay)]
  if (to - from >= DAYS_MAX) throw new RangeError(`totals are read for at most ${DAYS_MAX} days`)
  return [from, to]
}
