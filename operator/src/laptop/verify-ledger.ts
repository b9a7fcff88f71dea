/** Whether the balances of a store are what its ledger comes to, while both go on growing. */
import type { Balances, LedgerLine } from '@farebox/crds/ledger-page.ts'
import { LEDGER_PAGE_MAX } from '@farebox/crds/ledger-page.ts'
import { parseUsd } from '@farebox/crds/usd.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import { BalanceSheet, mayHaveEnded } from './balance-sheet.ts'

/** Entries may come between the reading of both: what differs is looked at again this many times. */
const ROUNDS_MAX = 5

export interface LedgerSource {
  /** Pages of entries from after `sequence` on, to the newest. */
  ledger(after?: number): AsyncIterable<readonly LedgerLine[]>
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
}

/** Where a balance differs, all is read once more: entries that are carried over while they are read belong to neither ledger. */
export async function verifyLedger(source: LedgerSource, nowMs: () => number = Date.now): Promise<Verified> {
  const verified = await verifyOnce(source, nowMs)
  return verified.differences.length === 0 ? verified : verifyOnce(source, nowMs)
}

async function verifyOnce(source: LedgerSource, nowMs: () => number): Promise<Verified> {
  const sheet = new BalanceSheet()
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
    const compared = await compare(source, sheet, suspects ?? [...sheet.accounts.keys()], nowMs())
    outlived += compared.outlived
    differences = compared.differences
    if (differences.length === 0) break
    suspects = differences.map(({ account }) => account)
  }
  return { sheet, outlived, differences }
}

async function compare(
  source: LedgerSource,
  sheet: BalanceSheet,
  accounts: readonly string[],
  nowMs: number,
): Promise<Omit<Verified, 'sheet'>> {
  const differences: Difference[] = []
  let outlived = 0
  for (let from = 0; from < accounts.length; from += LEDGER_PAGE_MAX) {
    const asked = accounts.slice(from, from + LEDGER_PAGE_MAX)
    const balances = await source.balances(asked)
    for (const account of asked) {
      const sum = sheet.accounts.get(account)
      const spent = parseUsd(balances[account]?.spent ?? '0')
      if (sum === undefined || sum.possible.includes(spent)) continue
      if (spent === 0n && mayHaveEnded(sum, nowMs)) outlived += 1
      else differences.push({ account, entered: sum.spent, spent })
    }
  }
  return { outlived, differences }
}
