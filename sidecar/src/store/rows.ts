/** Rows of the embedded store <-> our types. What was written here is trusted when it is read again: the file is ours alone. */
import type { Account, Operation, OperationState } from '../core/budget.ts'
import type { Conversation, Driver, Edit } from '../core/conversation.ts'
import type { EntryKind, EntryNote, LedgerEntry } from '../core/ledger.ts'

export type Row = Readonly<Record<string, unknown>>

export function accountOf(row: Row): Account {
  return { spent: money(row['spent']), held: money(row['held']), heldInput: money(row['held_input']) }
}

export function operationOf(row: Row): Operation {
  return {
    id: text(row['id']),
    accounts: parsed(row['accounts']) as readonly string[],
    hold: money(row['hold']),
    input: money(row['input']),
    expiresAtMs: Number(row['expires']),
    state: stateOf(text(row['status']), money(row['cost'])),
    note: noteOf(row['note']),
  }
}

export function entryOf(row: Row): LedgerEntry & { readonly sequence: number } {
  const operationId = text(row['operation'])
  const kind = text(row['kind']) as EntryKind
  return {
    sequence: Number(row['sequence']),
    id: `${operationId}/${kind}`,
    operationId,
    kind,
    accounts: parsed(row['accounts']) as readonly string[],
    cost: money(row['cost']),
    atMs: Number(row['at']),
    note: noteOf(row['note']),
  }
}

/** A conversation's own row: everything but its edits, which are appended to a table of their own. */
export function conversationText(conversation: Conversation): string {
  const { edits: _edits, readyEdits: _readyEdits, drivers, ...rest } = conversation
  return JSON.stringify({ ...rest, drivers: amountsText(drivers) })
}

export function conversationOf(state: string, edits: readonly Edit[], readyEdits: readonly Edit[]): Conversation {
  const { drivers, ...rest } = JSON.parse(state) as Omit<Conversation, 'drivers' | 'edits' | 'readyEdits'> & { readonly drivers: Readonly<Record<Driver, string>> }
  return { ...rest, drivers: amountsOf(drivers) as Record<Driver, bigint>, edits, readyEdits }
}

export function noteText(note: EntryNote): string {
  return JSON.stringify(note.drivers === undefined ? note : { ...note, drivers: amountsText(note.drivers) })
}

function noteOf(value: unknown): EntryNote {
  const note = parsed(value) as Omit<EntryNote, 'drivers'> & { readonly drivers?: Readonly<Record<string, string>> }
  const { drivers, ...rest } = note
  return drivers === undefined ? rest : { ...rest, drivers: amountsOf(drivers) }
}

function stateOf(status: string, cost: bigint): OperationState {
  switch (status) {
    case 'settled':
      return { status, cost }
    case 'held':
    case 'voided':
    case 'expired':
      return { status }
    default:
      throw new TypeError(`an operation cannot be ${status}`)
  }
}

function amountsText(amounts: Readonly<Record<string, bigint | undefined>>): Record<string, string> {
  const texts: Record<string, string> = {}
  for (const name in amounts) texts[name] = String(amounts[name] ?? 0n)
  return texts
}

function amountsOf(texts: Readonly<Record<string, string>>): Record<string, bigint> {
  const amounts: Record<string, bigint> = {}
  for (const name in texts) amounts[name] = BigInt(texts[name] ?? '0')
  return amounts
}

/** The file keeps 64-bit integers; what is not a safe number would have lost digits on its way. */
export function money(value: unknown): bigint {
  if (typeof value === 'bigint') return value
  if (typeof value === 'number' && Number.isSafeInteger(value)) return BigInt(value)
  throw new TypeError('an amount in the store is not an integer')
}

function text(value: unknown): string {
  if (typeof value !== 'string') throw new TypeError('a text in the store is not a text')
  return value
}

function parsed(value: unknown): unknown {
  return JSON.parse(text(value))
}
