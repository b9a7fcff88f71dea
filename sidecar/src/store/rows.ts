/** Rows of the embedded store <-> our types. What was written here is trusted when it is read again: the file is ours alone. */
import type { Account, Operation, OperationState } from '../core/budget.ts'
import type { Conversation, ConversationId, Driver, Edit } from '../core/conversation.ts'
import type { EntryKind, EntryNote, SequencedEntry } from '../core/ledger.ts'
import type { OutcomeKind, OutcomeStep } from '../core/outcomes.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import type { MemoryEntry } from './store.ts'
import { amountsOf, amountsText } from './amounts.ts'

/** Values of a row, in the order of its columns. Objects and lists are as the journal has them; the tables have their JSON. */
export type Values = readonly (string | number | null | object)[]

/** `touched`: by the store's clock, when a step last used it. */
export interface AccountRow {
  readonly account: Account
  readonly touched: number
  /** Of a session of a conversation: where it counts. */
  readonly session: TierDay | null
}
/** `day`: of UTC, `2026-11-24`. */
export interface TierDay {
  readonly tier: string
  readonly day: string
}
export interface OperationRow {
  readonly operation: Operation
  readonly touched: number
}
export interface ConversationRow {
  readonly conversation: Conversation
  readonly touched: number
}
export interface ChainRow {
  readonly conversation: ConversationId
  readonly touched: number
}
export interface EditRow {
  readonly sequence: number
  readonly conversation: ConversationId
  readonly ready: boolean
  readonly edit: Edit
}
/** One of the sums of a tier's day: a `NamedSum`. */
export interface TierDayRow extends TierDay {
  readonly name: string
  readonly sum: bigint
}
export interface TierUserRow extends TierDay {
  readonly user: string
}
export interface OutcomeRow extends TierDay, Pick<OutcomeStep, 'kind' | 'of'> {}
export interface UserDayRow extends TierDay {
  readonly user: string
  readonly spent: bigint
}
/** How often the user's memory was forgotten: entries of an earlier one are gone. */
export interface MemoryUserRow {
  readonly round: number
}
export interface MemoryRow {
  readonly sequence: number
  readonly user: string
  readonly round: number
  readonly entry: MemoryEntry
  /** By the store's clock. */
  readonly expiresAtMs: number
}

export function accountValues({ account, touched, session }: AccountRow, id: string): Values {
  const { spent, held, heldInput } = account
  return [id, Number(spent), Number(held), Number(heldInput), touched, session?.tier ?? null, session?.day ?? null]
}
export function accountRow([, spent, held, heldInput, touched, tier, day]: Values): AccountRow {
  return {
    account: { spent: money(spent), held: money(held), heldInput: money(heldInput) },
    touched: whole(touched),
    session: tier === null ? null : { tier: text(tier), day: text(day) },
  }
}

export function operationValues({ operation, touched }: OperationRow): Values {
  const { id, accounts, hold, input, expiresAtMs, state, note } = operation
  const cost = state.status === 'settled' ? state.cost : 0n
  return [id, accounts, Number(hold), Number(input), expiresAtMs, state.status, Number(cost), noteJson(note), touched]
}
export function operationRow([id, accounts, hold, input, expires, status, cost, note, touched]: Values): OperationRow {
  const state = stateOf(text(status), money(cost))
  const operation: Operation = {
    id: text(id),
    accounts: idsOf(accounts),
    hold: money(hold),
    input: money(input),
    expiresAtMs: whole(expires),
    state,
    note: noteOf(note),
  }
  return { operation, touched: whole(touched) }
}

export function entryValues({ sequence, operationId, kind, accounts, cost, atMs, note }: SequencedEntry): Values {
  return [sequence, operationId, kind, accounts, Number(cost), atMs, noteJson(note)]
}
export function entryRow([sequence, operation, kind, accounts, cost, at, note]: Values): SequencedEntry {
  const operationId = text(operation)
  return {
    sequence: whole(sequence),
    id: `${operationId}/${text(kind)}`,
    operationId,
    kind: text(kind) as EntryKind,
    accounts: idsOf(accounts),
    cost: money(cost),
    atMs: whole(at),
    note: noteOf(note),
  }
}

/** A conversation without its edits, which are appended to a table of their own. */
export function conversationValues({ conversation, touched }: ConversationRow): Values {
  const { edits: _edits, readyEdits: _readyEdits, drivers, ...rest } = conversation
  return [conversation.id, { ...rest, drivers: amountsText(drivers) }, conversation.lastTurnAtMs, touched]
}
export function conversationRow([, state, , touched]: Values, edits: readonly EditRow[]): ConversationRow {
  const { drivers, ...rest } = JSON.parse(text(state)) as StoredConversation
  const conversation: Conversation = {
    // Of an earlier version, which did not know these.
    userTurns: 0,
    resolvedAtMs: null,
    stateAtMs: null,
    boundaryAtMs: null,
    question: null,
    turnRungs: [],
    earlierAlerts: [],
    userAlerts: null,
    ...rest,
    drivers: amountsOf(drivers) as Record<Driver, NanoUsd>,
    edits: edits.filter((row) => !row.ready).map((row) => row.edit),
    readyEdits: edits.filter((row) => row.ready).map((row) => row.edit),
  }
  return { conversation, touched: whole(touched) }
}

type Later = 'userTurns' | 'resolvedAtMs' | 'stateAtMs' | 'boundaryAtMs' | 'question' | 'turnRungs' | 'earlierAlerts' | 'userAlerts'
type StoredConversation = Omit<Conversation, 'drivers' | 'edits' | 'readyEdits' | Later> &
  Partial<Pick<Conversation, Later>> & { readonly drivers: Readonly<Record<Driver, string>> }

export function editValues({ sequence, conversation, ready, edit }: EditRow): Values {
  return [sequence, conversation, edit.id, ready ? 1 : 0, edit]
}
export function editRow([sequence, conversation, , ready, body]: Values): EditRow {
  return { sequence: whole(sequence), conversation: text(conversation), ready: ready === 1, edit: JSON.parse(text(body)) as Edit }
}

export function chainValues({ conversation, touched }: ChainRow, digest: string): Values {
  return [digest, conversation, touched]
}
export function chainRow([, conversation, touched]: Values): ChainRow {
  return { conversation: text(conversation), touched: whole(touched) }
}

export function tierDayValues({ day, tier, name, sum }: TierDayRow): Values {
  return [day, tier, name, String(sum)]
}
export function tierDayRow([day, tier, name, sum]: Values): TierDayRow {
  return { day: text(day), tier: text(tier), name: text(name), sum: BigInt(text(sum)) }
}

export function tierUserValues({ day, tier, user }: TierUserRow): Values {
  return [day, tier, user]
}
export function tierUserRow([day, tier, user]: Values): TierUserRow {
  return { day: text(day), tier: text(tier), user: text(user) }
}

export function contractValues(contract: object, hash: string): Values {
  return [hash, contract]
}
/** As some version of ours kept it. */
export function contractRow([, body]: Values): object {
  return JSON.parse(text(body)) as object
}

export function outcomeValues({ tier, day, kind, of }: OutcomeRow, key: string): Values {
  return [key, tier, day, of === undefined ? kind : `${kind} ${of}`]
}
export function outcomeRow([, tier, day, kind]: Values): OutcomeRow {
  return { tier: text(tier), day: text(day), ...outcomeOf(kind) }
}
/** The kind, and after it what stood before. */
export function outcomeOf(value: unknown): Pick<OutcomeRow, 'kind' | 'of'> {
  const [kind, of] = text(value).split(' ')
  return { kind: kind as OutcomeKind, ...(of === 'assumed' || of === 'confirmed' ? { of } : {}) }
}

export function userDayValues({ day, tier, user, spent }: UserDayRow): Values {
  return [day, tier, user, String(spent)]
}
export function userDayRow([day, tier, user, spent]: Values): UserDayRow {
  return { day: text(day), tier: text(tier), user: text(user), spent: BigInt(text(spent)) }
}

export function memoryUserValues({ round }: MemoryUserRow, user: string): Values {
  return [user, round]
}
export function memoryUserRow([, round]: Values): MemoryUserRow {
  return { round: whole(round) }
}

export function memoryValues({ user, round, entry, sequence, expiresAtMs }: MemoryRow): Values {
  const { id, conversation, session, atMs, role } = entry
  return [user, round, id, sequence, conversation, session, atMs, role, expiresAtMs, entry.text]
}
export function memoryRow([user, round, id, sequence, conversation, session, at, role, expires, said]: Values): MemoryRow {
  return {
    sequence: whole(sequence),
    user: text(user),
    round: whole(round),
    entry: {
      id: text(id),
      conversation: text(conversation),
      session: whole(session),
      atMs: whole(at),
      role: text(role) === 'user' ? 'user' : 'assistant',
      text: text(said),
    },
    expiresAtMs: whole(expires),
  }
}

export function text(value: unknown): string {
  if (typeof value !== 'string') throw new TypeError('a text in the store is not a text')
  return value
}
export function whole(value: unknown): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value)) throw new TypeError('a number in the store is not an integer')
  return value
}
function money(value: unknown): NanoUsd {
  return BigInt(whole(value))
}

function idsOf(value: unknown): readonly string[] {
  return JSON.parse(text(value)) as readonly string[]
}

function noteJson(note: EntryNote): object {
  return note.drivers === undefined ? note : { ...note, drivers: amountsText(note.drivers) }
}
function noteOf(value: unknown): EntryNote {
  const { drivers, ...rest } = JSON.parse(text(value)) as Omit<EntryNote, 'drivers'> & {
    readonly drivers?: Readonly<Record<string, string>>
  }
  return drivers === undefined ? rest : { ...rest, drivers: amountsOf(drivers) }
}

function stateOf(status: string, cost: NanoUsd): OperationState {
  switch (status) {
    case 'settled':
      return { status, cost }
    case 'held':
    case 'voided':
    case 'expired':
      return { status }
    default:
      throw new TypeError(`an operation in the store cannot be ${status}`)
  }
}
