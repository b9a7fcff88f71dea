/**
 * What the answers to a schedule must be, by books of its own: kept from the answers one after another, with arithmetic
 * plain enough to be seen right. Of what the sidecar has it takes the bounds of cost buckets, and the ladder: that more spent
 * gives no milder rung is asked of that itself, at each balance that a schedule comes to.
 */
import { DEFAULT_LADDER } from '@farebox/crds/ladder.ts'
import { percentUsed, rungsAt } from '@farebox/sidecar/core/ladder.ts'
import type { Account } from '@farebox/sidecar/core/budget.ts'
import type { Conversation } from '@farebox/sidecar/core/conversation.ts'
import { costsIn } from '@farebox/sidecar/core/cost-buckets.ts'
import type { LedgerEntry } from '@farebox/sidecar/core/ledger.ts'
import type { Totals } from '@farebox/sidecar/core/totals.ts'
import type { Snapshot } from '@farebox/sidecar/store/store.ts'
import type { Action, Answer } from './schedule.ts'

export const CONVERSATIONS = ['A', 'B'] as const
export const USER_ACCOUNT = 'u:ann'
export const WORKLOAD_ACCOUNT = 'w'
export const ALERT_PERCENTS: readonly number[] = [70, 90, 100]
const SESSION_CAP = 600n
const USER_CAP = 900n
/** The workload's account is counted, not capped. */
export const CAPS = {
  of: (account: string): bigint | null => (account === WORKLOAD_ACCOUNT ? null : account === USER_ACCOUNT ? USER_CAP : SESSION_CAP),
}
/** More spending, for which no milder rung may come. */
const MORE_SPENT = [1n, 50n, 300n]

export class SimulationError extends Error {
  override readonly name = 'SimulationError'
}

export function sessionAccount(conversation: string, session: number): string {
  return `c:${conversation}:${session}`
}

interface Operation {
  readonly conversation: string
  readonly session: number
  readonly accounts: readonly string[]
  readonly hold: bigint
  readonly input: bigint
  /** By a clock that is never set back. */
  expiresAtMs: number
  state: 'held' | 'expired' | 'ended'
  /** Its sidecar has died: nobody renews or settles it in time. */
  isOrphan: boolean
}

/** `beyond`: the part of `spent` that no hold covered: overruns, late truth above the charge, an app's own costs. */
interface Balance {
  spent: bigint
  held: bigint
  heldInput: bigint
  beyond: bigint
}

interface Talk {
  session: number
  exists: boolean
  turns: number
  rungs: readonly string[]
  alerts: Set<number>
}

export class Oracle {
  wallMs: number
  #storeMs: number
  readonly #operations = new Map<string, Operation>()
  readonly #balances = new Map<string, Balance>()
  readonly #talks = new Map<string, Talk>()
  readonly #sessions = new Set<string>()
  readonly #risen = new Map<string, number>()
  readonly #read = new Map<string, { readonly conversation: Conversation; readonly percent: number }>()

  constructor(startMs: number) {
    this.wallMs = startMs
    this.#storeMs = startMs
  }

  /** What a sidecar knows: the conversation as it was read last, with the percent that was used of its tightest cap. */
  lastRead(conversation: string): { readonly conversation: Conversation; readonly percent: number } | null {
    return this.#read.get(conversation) ?? null
  }
  sessionOf(conversation: string): number {
    return this.#talk(conversation).session
  }
  operation(id: string): Operation | undefined {
    return this.#operations.get(id)
  }
  /** Calls that may still be billed, held or expired, of sidecars that live. */
  open(): string[] {
    return [...this.#operations].filter(([, { state, isOrphan }]) => state !== 'ended' && !isOrphan).map(([id]) => id)
  }
  known(): string[] {
    return [...this.#operations.keys()]
  }

  /** Throws `SimulationError` when the answer must not be; else learns from it. */
  judge(action: Action, answer: Answer): void {
    switch (action.kind) {
      case 'reserve':
        return this.#reserve(action, of(answer, 'reserve'))
      case 'settle':
        return this.#settle(action, of(answer, 'settle'))
      case 'void':
        return this.#void(action, of(answer, 'void'))
      case 'charge':
        return this.#charge(action, of(answer, 'charge'))
      case 'renew': {
        const expiresAtMs = this.#storeMs + (action.expiresAtMs - this.wallMs)
        for (const id of action.ids) {
          const operation = this.#operations.get(id)
          if (operation?.state === 'held') operation.expiresAtMs = Math.max(operation.expiresAtMs, expiresAtMs)
        }
        return
      }
      case 'update': {
        const talk = this.#talk(action.step.conversation)
        if (action.step.change.openSession === talk.session + 1)
          this.#talks.set(action.step.conversation, { ...talk, session: talk.session + 1, rungs: [], alerts: new Set() })
        return
      }
      case 'sweep':
        return this.#sweep(action.step.limit, of(answer, 'sweep').expired)
      case 'read':
        return this.#look(action.query.conversation, of(answer, 'read').snapshot)
      case 'ledger':
        return this.#audit(of(answer, 'ledger').entries)
      case 'totals':
        return this.#addUp(of(answer, 'totals').totals)
      case 'clock':
        this.wallMs += action.byMs
        this.#storeMs += Math.max(0, action.byMs)
        return
      case 'crash': {
        const { charged } = of(answer, 'crash')
        for (const operation of this.#operations.values()) {
          if (operation.state !== 'held') continue
          operation.isOrphan = true
          if (charged) this.#expire(operation)
        }
      }
    }
  }

  #reserve({ step }: Extract<Action, { kind: 'reserve' }>, { answer }: Extract<Answer, { kind: 'reserve' }>): void {
    const { operationId, draws, atLeast, atMost, input, expiresAtMs } = step.reservation
    if (this.#operations.has(operationId)) return must(answer.status === 'exists', `a retried reservation is ${answer.status}`)
    const talk = this.#talk(step.conversation)
    if (talk.exists && talk.session !== (step.seen ?? step.initial).session)
      return must(answer.status === 'moved', `a reservation for another session is ${answer.status}`)
    let free = atMost
    let expected: 'held' | 'busy' | 'exceedsCap' = 'held'
    for (const { account, cap } of draws) {
      if (cap === null) continue
      const { spent, held, heldInput } = this.#balance(account)
      if (spent + held + atLeast > cap && expected === 'held') expected = 'busy'
      if (spent + heldInput + atLeast > cap) expected = 'exceedsCap'
      if (cap - spent - held < free) free = cap - spent - held
    }
    must(answer.status === expected, `a reservation of ${atLeast} to ${atMost} that must be ${expected} is ${answer.status}`)
    if (answer.status !== 'held') return
    const { granted } = answer
    must(granted === free, `a hold of ${granted} was granted where ${free} had to be`)
    const operation: Operation = {
      conversation: step.conversation,
      session: step.initial.session,
      accounts: draws.map(({ account }) => account),
      hold: granted,
      input: input < granted ? input : granted,
      expiresAtMs: this.#storeMs + (expiresAtMs - this.wallMs),
      state: 'held',
      isOrphan: false,
    }
    this.#operations.set(operationId, operation)
    this.#move(operation.accounts, { held: granted, heldInput: operation.input })
    talk.exists = true
    this.#climbed(step.conversation, answer.snapshot.conversation, step.change.addRungs?.rungs ?? [])
  }

  #settle({ step }: Extract<Action, { kind: 'settle' }>, { answer }: Extract<Answer, { kind: 'settle' }>): void {
    const { operationId, cost } = step.settlement
    const operation = this.#operations.get(operationId)
    const { status } = answer.result
    const states = { held: 'settled', expired: 'corrected', ended: 'exists' } as const
    const expected = operation === undefined ? 'unknown' : states[operation.state]
    must(status === expected, `a settlement that must be ${expected} is ${status}`)
    if (operation === undefined || operation.state === 'ended') return must(answer.firedAlerts.length === 0, 'a repeat fires no alert')
    const over = cost > operation.hold ? cost - operation.hold : 0n
    if (operation.state === 'held') this.#release(operation)
    else this.#move(operation.accounts, { spent: -operation.hold })
    this.#move(operation.accounts, { spent: cost, beyond: over })
    operation.state = 'ended'
    this.#sessions.add(sessionOf(operation))
    const talk = this.#talk(step.conversation)
    talk.turns += 1
    const isOfSession = step.change.ofSession === talk.session
    const reached = ALERT_PERCENTS.filter(
      (percent) => isOfSession && !talk.alerts.has(percent) && step.alerts.draws.some(({ account }) => this.#percent(account) >= percent),
    )
    must(reached.join() === answer.firedAlerts.join(), `alerts ${answer.firedAlerts.join()} fired where ${reached.join()} had to`)
    for (const percent of reached) talk.alerts.add(percent)
  }

  #void({ step }: Extract<Action, { kind: 'void' }>, { status }: Extract<Answer, { kind: 'void' }>): void {
    const operation = this.#operations.get(step.operationId)
    const expected = operation === undefined ? 'unknown' : operation.state === 'ended' ? 'exists' : 'voided'
    must(status === expected, `a void that must be ${expected} is ${status}`)
    if (operation === undefined || operation.state === 'ended') return
    if (operation.state === 'held') this.#release(operation)
    else {
      this.#move(operation.accounts, { spent: -operation.hold })
      if (operation.hold > 0n && this.#balance(sessionOf(operation)).spent === 0n) this.#sessions.delete(sessionOf(operation))
    }
    operation.state = 'ended'
  }

  #charge({ step }: Extract<Action, { kind: 'charge' }>, { status }: Extract<Answer, { kind: 'charge' }>): void {
    const expected = this.#operations.has(step.operationId) ? 'exists' : 'charged'
    must(status === expected, `a cost that must be ${expected} is ${status}`)
    if (status === 'exists') return
    for (const account of step.accounts) if (account !== USER_ACCOUNT && account !== WORKLOAD_ACCOUNT) this.#sessions.add(account)
    this.#move(step.accounts, { spent: step.cost, beyond: step.cost })
    this.#operations.set(step.operationId, {
      conversation: step.conversation,
      session: 1,
      accounts: step.accounts,
      hold: 0n,
      input: 0n,
      expiresAtMs: 0,
      state: 'ended',
      isOrphan: false,
    })
  }

  #sweep(limit: number, expired: readonly string[]): void {
    const due = [...this.#operations]
      .filter(([, { state, expiresAtMs }]) => state === 'held' && expiresAtMs <= this.#storeMs)
      .toSorted(([a, one], [b, other]) => one.expiresAtMs - other.expiresAtMs || (a < b ? -1 : 1))
      .slice(0, limit)
    must(due.map(([id]) => id).join() === expired.join(), `${expired.join()} expired where ${due.map(([id]) => id).join()} had to`)
    for (const [, operation] of due) this.#expire(operation)
  }

  #look(id: string, snapshot: Snapshot): void {
    for (const [account, state] of snapshot.accounts) this.#check(account, state)
    const talk = this.#talk(id)
    const { conversation } = snapshot
    must((conversation !== null) === talk.exists, `conversation ${id} is ${conversation === null ? 'lost' : 'made up'}`)
    if (conversation === null) return
    must(conversation.session === talk.session, `session ${conversation.session} is open where ${talk.session} has to be`)
    must(conversation.turns === talk.turns, `${conversation.turns} turns are counted of ${talk.turns}`)
    this.#climbed(id, conversation, [])
    const draws = [...snapshot.accounts].map(([account, state]) => ({ cap: CAPS.of(account), account: state }))
    const percent = percentUsed(draws)
    const rungs = rungsAt(DEFAULT_LADDER, percent)
    for (const more of MORE_SPENT) {
      const later = rungsAt(
        DEFAULT_LADDER,
        percentUsed(draws.map(({ cap, account }) => ({ cap, account: { ...account, spent: account.spent + more } }))),
      )
      must(
        rungs.every((rung) => later.includes(rung)),
        `having spent ${more} more, ${rungs.join()} became ${later.join()}`,
      )
    }
    this.#read.set(id, { conversation, percent })
  }

  #check(account: string, { spent, held, heldInput }: Account): void {
    const known = this.#balance(account)
    const cap = CAPS.of(account)
    must(held >= 0n && heldInput >= 0n && heldInput <= held, `${account} holds ${held}, of it ${heldInput} for input`)
    must(cap === null || spent - known.beyond + held <= cap, `${account} has spent ${spent} and holds ${held}: over its budget of ${cap}`)
    must(spent === known.spent, `${account} has spent ${spent} where ${known.spent} was billed`)
    must(held === known.held && heldInput === known.heldInput, `${account} holds ${held} where calls hold ${known.held}`)
  }

  /** The ledger sums to what was spent, kind by kind; no fact is in it twice. */
  #audit(entries: readonly LedgerEntry[]): void {
    must(new Set(entries.map(({ id }) => id)).size === entries.length, 'an entry is in the ledger twice')
    for (const [account, { spent, beyond }] of this.#balances) {
      let sum = 0n
      let uncovered = 0n
      for (const { accounts, kind, cost } of entries) {
        if (!accounts.includes(account)) continue
        sum += cost
        if (kind === 'overrun' || kind === 'cost') uncovered += cost
      }
      must(sum === spent, `the ledger of ${account} sums to ${sum} where ${spent} is spent`)
      must(uncovered === beyond, `${uncovered} is entered beyond the holds of ${account} where it was ${beyond}`)
    }
  }

  /** What the days came to: every turn, cost and rung once, and each session that was sold where it has come to. */
  #addUp({ turns, spent, users, risen, costs }: Totals): void {
    const turned = [...this.#talks.values()].reduce((sum, talk) => sum + talk.turns, 0)
    must(turns === turned, `${turns} turns are counted of ${turned}`)
    must(users === (turned > 0 ? 1 : 0), `${users} users are counted of one`)
    const billed = this.#balance(WORKLOAD_ACCOUNT).spent
    must(spent === billed, `the days come to ${spent} where ${billed} was billed`)
    for (const [rung, count] of Object.entries(risen))
      must(count === (this.#risen.get(rung) ?? 0), `${rung} rose ${count} times where it was ${this.#risen.get(rung) ?? 0}`)
    let counted = 0
    for (const [bucket, count] of costs) {
      const { least, most } = costsIn(bucket)
      const within = [...this.#sessions].map((account) => this.#balance(account).spent).filter((cost) => cost >= least && cost <= most)
      must(count === within.length, `${count} sessions cost from ${least} to ${most} where ${within.length} do`)
      counted += count
    }
    must(counted === this.#sessions.size, `${counted} sessions are counted of ${this.#sessions.size}`)
  }

  /** Rungs are never taken back within a session, and each that was asked for is there. */
  #climbed(id: string, conversation: Conversation | null, added: readonly string[]): void {
    const talk = this.#talk(id)
    const now: readonly string[] = conversation?.rungs ?? []
    for (const rung of [...talk.rungs, ...added]) must(now.includes(rung), `${id} lost the rung ${rung}`)
    for (const rung of now) if (!talk.rungs.includes(rung)) this.#risen.set(rung, (this.#risen.get(rung) ?? 0) + 1)
    talk.rungs = now
  }

  #expire(operation: Operation): void {
    this.#release(operation)
    this.#move(operation.accounts, { spent: operation.hold })
    operation.state = 'expired'
    this.#sessions.add(sessionOf(operation))
  }
  #release({ accounts, hold, input }: Operation): void {
    this.#move(accounts, { held: -hold, heldInput: -input })
  }
  #move(accounts: readonly string[], by: Partial<Balance>): void {
    for (const account of accounts) {
      const balance = this.#balance(account)
      balance.spent += by.spent ?? 0n
      balance.held += by.held ?? 0n
      balance.heldInput += by.heldInput ?? 0n
      balance.beyond += by.beyond ?? 0n
    }
  }
  #percent(account: string): number {
    const cap = CAPS.of(account)
    const { spent, heldInput } = this.#balance(account)
    return cap === null ? 0 : Number(((spent + heldInput) * 100n) / cap)
  }
  #balance(account: string): Balance {
    const known = this.#balances.get(account)
    if (known !== undefined) return known
    const balance: Balance = { spent: 0n, held: 0n, heldInput: 0n, beyond: 0n }
    this.#balances.set(account, balance)
    return balance
  }
  #talk(id: string): Talk {
    const known = this.#talks.get(id)
    if (known !== undefined) return known
    const talk: Talk = { session: 1, exists: false, turns: 0, rungs: [], alerts: new Set() }
    this.#talks.set(id, talk)
    return talk
  }
}

function must(holds: boolean, message: string): void {
  if (!holds) throw new SimulationError(message)
}

function of<Kind extends Answer['kind']>(answer: Answer, kind: Kind): Extract<Answer, { kind: Kind }> {
  if (!isOf(answer, kind)) throw new TypeError(`an answer of ${answer.kind} to ${kind}`)
  return answer
}
function isOf<Kind extends Answer['kind']>(answer: Answer, kind: Kind): answer is Extract<Answer, { kind: Kind }> {
  return answer.kind === kind
}

function sessionOf({ conversation, session }: Operation): string {
  return sessionAccount(conversation, session)
}
