/** Balances worked out again from the entries of a ledger, one by one. */
import type { LedgerLine } from '@farebox/crds/ledger-page.ts'
import { formatUsd, parseUsd } from '@farebox/crds/usd.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'

export interface AccountSum {
  readonly spent: NanoUsd
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
      const spent = (this.#accounts.get(account)?.spent ?? 0n) + cost
      this.#accounts.set(account, { spent, lastAtMs: Math.max(this.#accounts.get(account)?.lastAtMs ?? 0, Date.parse(entry.at)) })
      moved.set(account, spent)
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

const CSV_COLUMNS = ['sequence', 'at', 'kind', 'operation', 'account', 'cost', 'balance'] as const
const CSV_NOTES = ['conversation', 'session', 'user', 'tier', 'model', 'purpose', 'label', 'source'] as const

export function csvHead(): string {
  return [...CSV_COLUMNS, ...CSV_NOTES].join(',')
}

/** A line for each account that the entry moves, with its balance after it. */
export function csvLines(entry: LedgerLine, balances: ReadonlyMap<string, NanoUsd>): readonly string[] {
  const notes = CSV_NOTES.map((name) => entry[name] ?? '')
  return [...balances].map(([account, balance]) =>
    [entry.sequence, entry.at, entry.kind, entry.operation, account, entry.cost, formatUsd(balance), ...notes].map(cell).join(','),
  )
}

/** The entry as it is, and the balances after it. */
export function jsonLine(entry: LedgerLine, balances: ReadonlyMap<string, NanoUsd>): string {
  return JSON.stringify({
    ...entry,
    balances: Object.fromEntries([...balances].map(([account, balance]) => [account, formatUsd(balance)])),
  })
}

/** RFC 4180. What a spreadsheet would take for a formula begins with an apostrophe. */
function cell(value: string | number): string {
  const text = String(value)
  const safe = typeof value === 'string' && /^[=+@\t\r]/.test(text) ? `'${text}` : text
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe
}

function signed(text: string): NanoUsd {
  return text.startsWith('-') ? -parseUsd(text.slice(1)) : parseUsd(text)
}
