/**
 * Our types <-> the texts that scripts take and give. A record is one line per field; ids in it are plain text, everything
 * that a script need not understand is JSON, in which control characters are escaped. So line feed, tab and carriage
 * return are free to separate lines, items, and the key of an item from its text.
 */
import { RUNGS } from '@farebox/crds/ladder.ts'
import type { Rung } from '@farebox/crds/ladder.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import { AMOUNT_MAX } from '../../core/budget.ts'
import type { Account, AccountId, Draw, Operation, OperationId, OperationState } from '../../core/budget.ts'
import { DRIVERS } from '../../core/conversation.ts'
import type { Conversation, ConversationChange, ConversationId, Driver, Edit, PendingNotice, Question } from '../../core/conversation.ts'
import type { EntryKind, EntryNote, LedgerEntry } from '../../core/ledger.ts'
import type { WatchedAlerts } from '../../core/reached-percents.ts'
import type { NamedSum } from '../../core/totals.ts'
import { amountsOf, amountsText } from '../amounts.ts'
import type { ListedConversation, MemoryEntry, RememberStep, Snapshot } from '../store.ts'
import { keptText } from '../memory-search.ts'
import { FIELDS } from './conversation-record.ts'
import type { Field } from './conversation-record.ts'

/** A reply of a script, to be checked as it is taken apart. */
export type Reply = readonly unknown[]

const CONTROL = /\p{Cc}/u

/** An id as scripts take it: they separate by control characters. */
export function idText(id: string): string {
  if (CONTROL.test(id)) throw new RangeError('an id must be without control characters')
  return id
}

function accountOf(value: unknown): Account {
  const [spent = '', held = '', heldInput = ''] = text(value).split(' ')
  return { spent: BigInt(spent), held: BigInt(held), heldInput: BigInt(heldInput) }
}

export function operationOf(id: OperationId, value: unknown): Operation {
  const [status = '', hold = '', input = '', expires = '', cost = '', , accounts = '', note = ''] = text(value).split('\n')
  return {
    id,
    accounts: idsOf(accounts),
    hold: BigInt(hold),
    input: BigInt(input),
    expiresAtMs: Number(expires),
    state: stateOf(status, cost),
    note: noteOf(note),
  }
}

/** The tag of each of its accounts; empty when all are in the tag of the operation itself. */
export function placesOf(operation: unknown): readonly number[] {
  const places = text(operation).split('\n').at(-1) ?? ''
  return places === '' ? [] : places.split(',').map(Number)
}

function stateOf(status: string, cost: string): OperationState {
  switch (status) {
    case 'settled':
      return { status, cost: BigInt(cost) }
    case 'held':
    case 'voided':
    case 'expired':
      return { status }
    default:
      throw new TypeError(`an operation in the store cannot be ${status}`)
  }
}

/** `fields`: name, value, name, value, as the stream has them. */
export function entryOf(fields: unknown): LedgerEntry {
  const values = new Map<string, string>()
  const flat = list(fields)
  for (let index = 0; index < flat.length; index += 2) values.set(text(flat[index]), text(flat[index + 1]))
  const get = (name: string): string => text(values.get(name))
  const operationId = get('o')
  const kind = get('k') as EntryKind
  return {
    id: `${operationId}/${kind}`,
    operationId,
    kind,
    accounts: idsOf(get('a')),
    cost: BigInt(get('c')),
    atMs: Number(get('t')),
    note: noteOf(get('n')),
  }
}

/** What is carried over, as the scripts write it: tick, first entry, accounts, cost, time; one line each. */
export function carriedOf(packed: unknown): { readonly tick: number; readonly entry: LedgerEntry } {
  const [tick, operationId = '', accounts = '', cost = '', atMs] = text(packed).split('\n')
  const id = `${operationId}/carried`
  return {
    tick: Number(tick),
    entry: { id, operationId, kind: 'carried', accounts: idsOf(accounts), cost: BigInt(cost), atMs: Number(atMs), note: {} },
  }
}

/** JSON, with amounts as decimal strings. */
export function noteText(note: EntryNote): string {
  return JSON.stringify(note.drivers === undefined ? note : { ...note, drivers: amountsText(note.drivers) })
}
function noteOf(json: string): EntryNote {
  const { drivers, ...rest } = JSON.parse(json) as Omit<EntryNote, 'drivers'> & { readonly drivers?: Readonly<Record<string, string>> }
  return drivers === undefined ? rest : { ...rest, drivers: amountsOf(drivers) }
}

/** Its record, its edits, its ready edits: each list with its length before it. `''` alone for none. */
export function initialArguments(conversation: Conversation | undefined): string[] {
  if (conversation === undefined) return ['', '0', '0']
  const { edits, readyEdits } = conversation
  const items = (edits: readonly Edit[]): string[] => [String(edits.length), ...edits.map((edit) => editItem(edit))]
  return [recordText(conversation), ...items(edits), ...items(readyEdits)]
}

function recordText(conversation: Conversation): string {
  const { exact, userRungs, userAlerts } = conversation
  const fields: Readonly<Record<Field, string>> = {
    touched: '0',
    tier: JSON.stringify(conversation.tier),
    contractHash: JSON.stringify(conversation.contractHash),
    contractPinnedAtMs: String(conversation.contractPinnedAtMs),
    user: userText(conversation.user),
    session: String(conversation.session),
    startedAtMs: String(conversation.startedAtMs),
    lastTurnAtMs: String(conversation.lastTurnAtMs),
    turns: String(conversation.turns),
    rungs: String(rungBits(conversation.rungs)),
    reason: conversation.reason ?? '',
    ladderApplies: flag(conversation.ladderApplies),
    state: conversation.state,
    exactAtMs: exact === null ? '' : String(exact.atMs),
    exactMessages: exact === null ? '' : String(exact.messages),
    exact: exact === null ? '' : JSON.stringify(exact),
    userPeriod: userRungs === null ? '' : idText(userRungs.period),
    userRungs: userRungs === null ? '0' : String(rungBits(userRungs.rungs)),
    alerts: conversation.alerts.join(','),
    notices: conversation.notices.map((notice) => noticeItem(notice)).join('\t'),
    atTaskBoundary: flag(conversation.atTaskBoundary),
    drivers: driversText(conversation.drivers),
    resolution: conversation.resolution,
    resolutionRound: String(conversation.resolutionRound),
    edits: String(conversation.edits.length),
    readyEdits: String(conversation.readyEdits.length),
    userTurns: String(conversation.userTurns),
    resolvedAtMs: timeText(conversation.resolvedAtMs),
    stateAtMs: timeText(conversation.stateAtMs),
    boundaryAtMs: timeText(conversation.boundaryAtMs),
    question: questionText(conversation.question),
    turnRungs: String(rungBits(conversation.turnRungs)),
    alertsPeriod: userAlerts === null ? '' : idText(userAlerts.period),
    userAlerts: userAlerts === null ? '' : userAlerts.percents.join(','),
    earlierAlerts: conversation.earlierAlerts.join(','),
  }
  return FIELDS.map((name) => fields[name]).join('\n')
}

/** Null for an empty record. */
export function conversationOf(id: ConversationId, record: unknown, edits: unknown, readyEdits: unknown): Conversation | null {
  if (record === '') return null
  return {
    ...recordOf(id, record),
    edits: list(edits).map((item) => itemOf(item) as Edit),
    readyEdits: list(readyEdits).map((item) => itemOf(item) as Edit),
  }
}

/** `rows`: id and record of each. */
export function listedOf(rows: unknown): readonly ListedConversation[] {
  return list(rows).map((row) => {
    const [id, record] = list(row)
    return recordOf(text(id), record)
  })
}

function recordOf(id: ConversationId, record: unknown): ListedConversation {
  const lines = text(record).split('\n')
  const get = (name: Field): string => text(lines[FIELDS.indexOf(name)])
  const drivers = get('drivers').split(',')
  return {
    id,
    tier: JSON.parse(get('tier')) as string,
    contractHash: JSON.parse(get('contractHash')) as string,
    contractPinnedAtMs: Number(get('contractPinnedAtMs')),
    user: get('user') === '' ? null : (JSON.parse(get('user')) as string),
    session: Number(get('session')),
    startedAtMs: Number(get('startedAtMs')),
    lastTurnAtMs: Number(get('lastTurnAtMs')),
    turns: Number(get('turns')),
    userTurns: Number(get('userTurns')),
    question: questionFrom(get('question')),
    rungs: rungsOf(get('rungs')),
    reason: get('reason') === '' ? null : (get('reason') as Conversation['reason']),
    ladderApplies: get('ladderApplies') === '1',
    state: get('state') as Conversation['state'],
    stateAtMs: timeOf(get('stateAtMs')),
    exact: get('exact') === '' ? null : (JSON.parse(get('exact')) as Conversation['exact']),
    userRungs: get('userPeriod') === '' ? null : { period: get('userPeriod'), rungs: rungsOf(get('userRungs')) },
    turnRungs: rungsOf(get('turnRungs')),
    alerts: percentsOf(get('alerts')),
    earlierAlerts: percentsOf(get('earlierAlerts')),
    userAlerts: get('alertsPeriod') === '' ? null : { period: get('alertsPeriod'), percents: percentsOf(get('userAlerts')) },
    notices:
      get('notices') === ''
        ? []
        : get('notices')
            .split('\t')
            .map((item) => itemOf(item) as PendingNotice),
    atTaskBoundary: get('atTaskBoundary') === '1',
    boundaryAtMs: timeOf(get('boundaryAtMs')),
    drivers: Object.fromEntries(DRIVERS.map((driver, index) => [driver, BigInt(text(drivers[index]))])) as Record<Driver, NanoUsd>,
    resolution: get('resolution') as Conversation['resolution'],
    resolvedAtMs: timeOf(get('resolvedAtMs')),
    resolutionRound: Number(get('resolutionRound')),
  }
}

/** Name, value, name, value: only what the change has. */
export function changeArguments(change: ConversationChange): string[] {
  const named: string[] = []
  const put = (name: string, value: string | number | undefined): void => {
    if (value !== undefined) named.push(name, String(value))
  }
  put('ofSession', change.ofSession)
  put('openSession', change.openSession)
  put('ladderApplies', change.ladderApplies === undefined ? undefined : flag(change.ladderApplies))
  if (change.addRungs !== undefined) {
    put('addRungs', rungBits(change.addRungs.rungs))
    put('rungReason', change.addRungs.reason)
  }
  put('addEdits', change.addEdits?.map((edit) => editItem(edit)).join('\t'))
  put('addReadyEdits', change.addReadyEdits?.map((edit) => editItem(edit)).join('\t'))
  if (change.addUserRungs !== undefined) {
    put('userPeriod', idText(change.addUserRungs.period))
    put('userRungs', rungBits(change.addUserRungs.rungs))
  }
  put('addAlerts', change.addAlerts?.join(','))
  if (change.addUserAlerts !== undefined) {
    put('alertsPeriod', idText(change.addUserAlerts.period))
    put('addUserAlerts', change.addUserAlerts.percents.join(','))
  }
  put('addNotices', change.addNotices?.map((notice) => noticeItem(notice)).join('\t'))
  put('removeNotices', change.removeNotices?.map((id) => JSON.stringify(id)).join('\t'))
  put('addDrivers', change.addDrivers === undefined ? undefined : driversText(change.addDrivers))
  put('turnAtMs', change.turnAtMs)
  put('addUserTurn', change.addUserTurn === true ? '1' : undefined)
  put('question', change.question === undefined ? undefined : questionText(change.question))
  put('turnRungs', change.turnRungs === undefined ? undefined : rungBits(change.turnRungs))
  if (change.exact !== undefined) {
    put('exactAtMs', change.exact.atMs)
    put('exactMessages', change.exact.messages)
    put('exact', JSON.stringify(change.exact))
  }
  put('state', change.state?.is)
  put('stateAtMs', change.state?.atMs)
  put('atTaskBoundary', change.atTaskBoundary === undefined ? undefined : flag(change.atTaskBoundary.is))
  put('boundaryAtMs', change.atTaskBoundary?.atMs)
  if (change.contract !== undefined) {
    put('contractHash', JSON.stringify(change.contract.hash))
    put('contractPinnedAtMs', change.contract.pinnedAtMs)
  }
  put('resolution', change.resolution?.kind)
  put('resolvedAtMs', change.resolution?.atMs)
  put('resolutionRound', change.resolutionRound)
  return named
}

/** With their number before them; a cap above what any account can hold is as good as that. */
export function drawArguments(draws: readonly Draw[]): string[] {
  const named = [String(draws.length)]
  for (const { account, cap } of draws) named.push(idText(account), cap === null ? '' : String(cap < AMOUNT_MAX ? cap : AMOUNT_MAX))
  return named
}

/** With their number before them. Throws `RangeError` for an id that scripts do not take. */
export function listArguments(texts: readonly string[]): string[] {
  return [String(texts.length), ...texts.map((text) => idText(text))]
}

/** What a conversation is expected to be, as its record has it. */
export function seenArguments(seen: { readonly contractHash: string; readonly user: string | null; readonly session: number }): string[] {
  return [JSON.stringify(seen.contractHash), userText(seen.user), String(seen.session)]
}

/** The thresholds, then what they are watched on: draws of the session, and the period and the draw of the user, if there is one. */
export function alertArguments({ draws, percents, ofUser }: WatchedAlerts): string[] {
  const watched = [...listArguments(percents.map(String)), ...drawArguments(draws)]
  return [...watched, ...(ofUser === undefined ? ['', ...drawArguments([])] : [idText(ofUser.period), ...drawArguments([ofUser])])]
}

/** Id, time and the whole of each entry. */
export function memoryArguments(entries: RememberStep['entries']): string[] {
  const values = [String(entries.length)]
  for (const entry of entries) {
    const { id, atMs, text } = entry
    values.push(idText(id), String(atMs), JSON.stringify({ ...entry, text: keptText(text) }))
  }
  return values
}
export function memoriesOf(entries: unknown): readonly MemoryEntry[] {
  return list(entries).map((entry) => JSON.parse(text(entry)) as MemoryEntry)
}

/** `joined`: by commas; empty for none. */
export function percentsOf(joined: unknown): readonly number[] {
  const texts = text(joined)
  return texts === '' ? [] : texts.split(',').map(Number)
}

/** `pairs`: name, sum, name, sum. */
export function sumsOf(pairs: unknown): readonly NamedSum[] {
  const flat = list(pairs)
  const sums: NamedSum[] = []
  for (let index = 0; index < flat.length; index += 2) sums.push([text(flat[index]), BigInt(text(flat[index + 1]))])
  return sums
}

/** `pairs`: account, balance, account, balance. */
function accountsOf(pairs: unknown): ReadonlyMap<AccountId, Account> {
  const flat = list(pairs)
  const accounts = new Map<AccountId, Account>()
  for (let index = 0; index < flat.length; index += 2) accounts.set(text(flat[index]), accountOf(flat[index + 1]))
  return accounts
}

/** The last four parts of a reply: record, edits, ready edits, balances. */
export function snapshotOf(id: ConversationId, [record, edits, readyEdits, accounts]: Reply): Snapshot {
  return { conversation: conversationOf(id, record, edits, readyEdits), accounts: accountsOf(accounts) }
}

/** This and the next two throw `TypeError` for anything else. */
export function wordOf<const Word extends string>(value: unknown, words: readonly Word[]): Word {
  const word = words.find((one) => one === value)
  if (word === undefined) throw new TypeError(`an answer must be one of ${words.join(', ')}; this one is ${String(value)}`)
  return word
}
export function text(value: unknown): string {
  if (typeof value !== 'string') throw new TypeError('a text in the store is not a text')
  return value
}
export function list(value: unknown): Reply {
  if (!Array.isArray(value)) throw new TypeError('a list in the store is not a list')
  return value as Reply
}

/** Rungs are a set, kept in their own order. */
function rungBits(rungs: readonly Rung[]): number {
  return RUNGS.reduce((bits, rung, index) => (rungs.includes(rung) ? bits + 2 ** index : bits), 0)
}
function questionText(question: Question | null): string {
  return question === null ? '' : `${question.messages} ${question.digest}`
}
function questionFrom(kept: string): Question | null {
  const [messages, digest] = kept.split(' ')
  return digest === undefined ? null : { messages: Number(messages), digest }
}

function rungsOf(bits: string): readonly Rung[] {
  const set = Number(bits)
  return RUNGS.filter((_, index) => Math.floor(set / 2 ** index) % 2 === 1)
}

/** A user as a conversation's record has them. */
export function userText(user: string | null): string {
  return user === null ? '' : JSON.stringify(user)
}
function timeText(ms: number | null): string {
  return ms === null ? '' : String(ms)
}
function timeOf(text: string): number | null {
  return text === '' ? null : Number(text)
}
function flag(is: boolean): string {
  return is ? '1' : '0'
}
function driversText(drivers: Readonly<Partial<Record<Driver, NanoUsd>>>): string {
  return DRIVERS.map((driver) => String(drivers[driver] ?? 0n)).join(',')
}

function editItem(edit: Edit): string {
  return `${JSON.stringify(edit.id)}\r${JSON.stringify(edit)}`
}
function noticeItem(notice: PendingNotice): string {
  return `${JSON.stringify(notice.id)}\r${JSON.stringify(notice)}`
}
function itemOf(item: unknown): unknown {
  const whole = text(item)
  return JSON.parse(whole.slice(whole.indexOf('\r') + 1))
}

function idsOf(joined: string): readonly string[] {
  return joined === '' ? [] : joined.split('\t')
}
