/** The ledger for whoever checks or exports it: entries in order, and the balances that they must come to. */
import type { AccountsPage, Balances, LedgerLine, LedgerPage } from '@farebox/crds/ledger-page.ts'
import { formatUsd } from '@farebox/crds/usd.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import { NO_CONVERSATION } from '../store/store.ts'
import type { BudgetStore } from '../store/store.ts'

type Entry = Awaited<ReturnType<BudgetStore['readLedger']>>[number]

/** `next` is null where no more entries are left. */
export async function ledgerPage(store: BudgetStore, query: { readonly after: number; readonly limit: number }): Promise<LedgerPage> {
  const entries = await store.readLedger({ afterSequence: query.after, limit: query.limit })
  const last = entries.at(-1)
  return { entries: entries.map(lineOf), next: last === undefined || entries.length < query.limit ? null : last.sequence }
}

/** About `limit` of all accounts, in any order; `next` is null where no more are left. */
export async function accountsPage(
  store: BudgetStore,
  { cursor, limit }: { readonly cursor: string | null; readonly limit: number },
): Promise<AccountsPage> {
  const { accounts, next } = await store.listAccounts(cursor === null ? { limit } : { limit, cursor })
  return { accounts: [...accounts], next }
}

/** Decimal US dollars by account. Accounts never drawn on, and such as are none, are zero. */
export async function accountBalances(store: BudgetStore, accounts: readonly string[], nowMs: number): Promise<Balances> {
  const snapshot = await store.read({ conversation: NO_CONVERSATION, accounts, nowMs })
  return Object.fromEntries(
    [...snapshot.accounts].map(([account, { spent, held }]) => [account, { spent: formatUsd(spent), held: formatUsd(held) }]),
  )
}

function lineOf({ sequence, id, operationId, kind, cost, atMs, accounts, note }: Entry): LedgerLine {
  const { usage, drivers, ...rest } = note
  return {
    sequence,
    id,
    operation: operationId,
    kind,
    cost: formatUsd(cost),
    at: new Date(atMs).toISOString(),
    accounts: [...accounts],
    ...rest,
    ...(usage === undefined ? {} : { usage: Object.fromEntries(Object.entries(usage).filter(([, tokens]) => tokens > 0)) }),
    ...(drivers === undefined ? {} : { drivers: inDollars(drivers) }),
  }
}

function inDollars(amounts: Readonly<Record<string, NanoUsd>>): Record<string, string> {
  return Object.fromEntries(Object.entries(amounts).map(([name, amount]) => [name, formatUsd(amount)]))
}
