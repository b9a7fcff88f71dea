/** What the groups of the contract ask of every engine: how it is opened, and what its books say. */
import type { Account, AccountId } from '../../core/budget.ts'
import { START_MS } from '../steps.testing.ts'
import type { AccountsPage, BudgetStore } from '../store.ts'

/** Opens an empty store whose wall clock is `nowMs`; its ledger is kept for good unless it is told for how long. */
export type OpenEmptyStore = (nowMs: () => number, ledgerLifeMs?: number) => BudgetStore | Promise<BudgetStore>

/** A wall clock that is set by hand. */
export interface Clock {
  ms: number
}

/** Makes the body of a test of what it is given: a store of its own, and its clock. */
export type WithStore = (run: (store: BudgetStore, clock: Clock) => Promise<void>, ledgerLifeMs?: number) => () => Promise<void>

export function withStoreOf(open: OpenEmptyStore): WithStore {
  return (run, ledgerLifeMs) => async () => {
    const clock = { ms: START_MS }
    const store = await open(() => clock.ms, ledgerLifeMs)
    try {
      await run(store, clock)
    } finally {
      await store.close()
    }
  }
}

/** Of the first session of conversation A, unless another account is named. */
export async function balance(store: BudgetStore, clock: Clock, account = 'c:A:1'): Promise<Account | undefined> {
  return (await store.read({ conversation: 'A', accounts: [account], nowMs: clock.ms })).accounts.get(account)
}

/** All accounts that the store lists, a few on each page. */
export async function listedAccounts(store: BudgetStore): Promise<ReadonlySet<AccountId>> {
  const listed = new Set<AccountId>()
  let cursor: string | null = null
  do {
    const page: AccountsPage = await store.listAccounts(cursor === null ? { limit: 2 } : { limit: 2, cursor })
    for (const account of page.accounts) listed.add(account)
    cursor = page.next
  } while (cursor !== null)
  return listed
}

/** Every entry of the ledger, as its kind and its cost. */
export async function kinds(store: BudgetStore): Promise<string[]> {
  return (await store.readLedger({ afterSequence: 0, limit: 1_000 })).map(({ kind, cost }) => `${kind} ${cost}`)
}
