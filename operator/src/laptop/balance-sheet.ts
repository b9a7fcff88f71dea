/**
 * Balances worked out again from the entries of a ledger, one by one.
 *
 * An account that is not used for as long as it lives begins at 0 again under its name, while its entries stay. Of what ends a life an
 * entry tells little: a hold that was given back prolongs it and leaves no entry, and what happened while the store was away is
 * entered after it. So an account begins again with an entry that comes more than a life after the one before, and where it
 * may have begun, or may not have, its balance may be any of several.
 */
import { ACCOUNT_LIFE_MS, LIVES_APART_MS } from '@farebox/crds/ledger-page.ts'
import type { LedgerLine } from '@farebox/crds/ledger-page.ts'
import { formatUsd, parseUsd } from '@farebox/crds/usd.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'

export interface AccountSum {
  /** Since it last began. */
  readonly spent: NanoUsd
  /** All that its balance may be, `spent` among them. */
  readonly possible: readonly NanoUsd[]
  /** Of the entries that prolong a life. */
  readonly lastAtMs: number
}

export class BalanceSheet {
  readonly #accounts = new Map<string, AccountSum>()
  readonly #ids = new Set<string>()
  #entries = 0
  #total = 0n

  /** The balance of each account that the entry moves, after it. Throws `RangeError` for an entry that is there twice. */
  add(entry: LedgerLine): ReadonlyMap<string, NanoUsd> {
    if (this.#ids.has(entry.id)) throw new RangeError(`entry ${entry.id} is in the ledger twice`)
    this.#ids.add(entry.id)
    const cost = signed(entry.cost)
    this.#entries += 1
    this.#total += cost
    const moved = new Map<string, NanoUsd>()
    for (const account of entry.accounts) {
      const sum = summed(this.#accounts.get(account), cost, entry)
      this.#accounts.set(account, sum)
      moved.set(account, sum.spent)
    }
    return moved
  }

  get accounts(): ReadonlyMap<string, AccountSum> {
    return this.#accounts
  }
  get entries(): number {
    return this.#entries
  }
  /** Of all entries, each once. */
  get total(): NanoUsd {
    return this.#total
  }
}

function summed(known: AccountSum | undefined, cost: NanoUsd, { kind, at }: LedgerLine): AccountSum {
  const atMs = Date.parse(at)
  if (known === undefined) return { spent: cost, possible: [cost], lastAtMs: atMs }
  // It costs nothing, and is said of a conversation whenever that may be.
  if (kind === 'outcome') return known
  const begun = mayHaveEnded(known, atMs) ? [...known.possible, 0n] : known.possible
  const spent = (atMs - known.lastAtMs > ACCOUNT_LIFE_MS ? 0n : known.spent) + cost
  return { spent, possible: [...new Set(begun.map((before) => before + cost))], lastAtMs: Math.max(known.lastAtMs, atMs) }
}

/** Whether an account may have outlived its life by then. */
export function mayHaveEnded({ lastAtMs }: AccountSum, nowMs: number): boolean {
  return nowMs - lastAtMs > LIVES_APART_MS
}

const CSV_COLUMNS = ['sequence', 'at', 'kind', 'operation', 'account', 'cost', 'costOnce', 'balance'] as const
const CSV_NOTES = ['conversation', 'session', 'user', 'tier', 'model', 'purpose', 'label', 'source'] as const

export function csvHead(): string {
  return [...CSV_COLUMNS, ...CSV_NOTES].join(',')
}

/**
 * A line for each account that the entry moves, with its balance after it. `cost` is on each, for it moved each; `costOnce` on the first
 * alone, so that this column adds up to what was spent.
 */
export function csvLines(entry: LedgerLine, balances: ReadonlyMap<string, NanoUsd>): readonly string[] {
  const notes = CSV_NOTES.map((name) => entry[name] ?? '')
  return [...balances].map(([account, balance], index) => {
    const costs = [entry.cost, index === 0 ? entry.cost : '']
    return [entry.sequence, entry.at, entry.kind, entry.operation, account, ...costs, formatUsd(balance), ...notes].map(cell).join(',')
  })
}

/** The entry as it is, and the balances after it. */
export function jsonLine(entry: LedgerLine, balances: ReadonlyMap<string, NanoUsd>): string {
  return JSON.stringify({
    ...entry,
    balances: Object.fromEntries([...balances].map(([account, balance]) => [account, formatUsd(balance)])),
  })
}

/** RFC 4180. What a spreadsheet would take for a formula begins with an apostrophe; an amount below zero is none. */
function cell(value: string | number): string {
  const text = String(value)
  const safe = typeof value === 'string' && /^(?:[=+@\t\r]|-(?!\d+(?:\.\d+)?$))/.test(text) ? `'${text}` : text
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe
}

function signed(text: string): NanoUsd {
  return text.startsWith('-') ? -parseUsd(text.slice(1)) : parseUsd(text)
}
