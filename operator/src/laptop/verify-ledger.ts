/** Whether the balances of a store are what its ledger comes to, while both go on growing. */
import type { AccountsPage, Balances, LedgerLine } from '@farebox/crds/ledger-page.ts'
import { LEDGER_PAGE_MAX } from '@farebox/crds/ledger-page.ts'
import { parseSignedUsd } from '@farebox/crds/usd.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import { BalanceSheet, mayHaveEnded } from './balance-sheet.ts'

/** Entries may come between the reading of both: what differs is looked at again this many times. */
const ROUNDS_MAX = 5

export interface LedgerSource {
  /** Pages of entries from after `sequence` on, to the newest. */
  ledger(after?: number): AsyncIterable<readonly LedgerLine[]>
  /** A page of all accounts, also of those that no entry names. Null: a sidecar of an older version does not tell them. */
  accounts(cursor: string | null): Promise<AccountsPage | null>
  balances(accounts: readonly string[]): Promise<Balances>
}

export interface Difference {
  readonly account: string
  readonly entered: NanoUsd
  readonly spent: NanoUsd
}
export interface Verified {
  readonly sheet: BalanceSheet
  /** Accounts whose balance was forgotten in due time. */
  readonly outlived: number
  readonly differences: readonly Difference[]
  /** Only balances that an entry names were looked at: the sidecar did not tell the others. */
  readonly isOfEntriesAlone: boolean
}

/** Where a balance differs, all is read once more: entries that are carried over while they are read belong to neither ledger. */
export async function verifyLedger(source: LedgerSource, nowMs: () => number = Date.now): Promise<Verified> {
  const verified = await verifyOnce(source, nowMs)
  return verified.differences.length === 0 ? verified : verifyOnce(source, nowMs)
}

async function verifyOnce(source: LedgerSource, nowMs: () => number): Promise<Verified> {
  const sheet = new BalanceSheet()
  let isOfEntriesAlone = false
  let last = 0
  let suspects: readonly string[] | null = null
  let outlived = 0
  let differences: readonly Difference[] = []
  for (let round = 0; round < ROUNDS_MAX; round += 1) {
    for await (const page of source.ledger(last)) {
      for (const entry of page) {
        sheet.add(entry)
        last = entry.sequence
      }
    }
    if (suspects === null) {
      const told = await toldAccounts(source)
      isOfEntriesAlone = told === null
      suspects = [...new Set([...sheet.accounts.keys(), ...(told ?? [])])]
    }
    const compared = await compare(source, sheet, suspects, nowMs())
    outlived += compared.outlived
    differences = compared.differences
    if (differences.length === 0) break
    suspects = differences.map(({ account }) => account)
  }
  return { sheet, outlived, differences, isOfEntriesAlone }
}

async function toldAccounts(source: LedgerSource): Promise<ReadonlySet<string> | null> {
  const told = new Set<string>()
  let cursor: string | null = null
  do {
    const page: AccountsPage | null = await source.accounts(cursor)
    if (page === null) return null
    for (const account of page.accounts) told.add(account)
    cursor = page.next
  } while (cursor !== null)
  return told
}

async function compare(
  source: LedgerSource,
  sheet: BalanceSheet,
  accounts: readonly string[],
  nowMs: number,
): Promise<Pick<Verified, 'outlived' | 'differences'>> {
  const differences: Difference[] = []
  let outlived = 0
  for (let from = 0; from < accounts.length; from += LEDGER_PAGE_MAX) {
    const asked = accounts.slice(from, from + LEDGER_PAGE_MAX)
    const balances = await source.balances(asked)
    for (const account of asked) {
      const sum = sheet.accounts.get(account)
      const spent = parseSignedUsd(balances[account]?.spent ?? '0')
      // Without an entry it is zero: it was held for alone, or its entries were dropped when its life was over.
      if ((sum?.possible ?? [0n]).includes(spent)) continue
      if (sum !== undefined && spent === 0n && mayHaveEnded(sum, nowMs)) outlived += 1
      else differences.push({ account, entered: sum?.spent ?? 0n, spent })
    }
  }
  return { outlived, differences }
}
