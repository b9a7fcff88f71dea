/** Drops rows that outlived their life from the tables, a few at a time: one pass over all of them, now and then. */
import type { BooksFile } from './books-file.ts'
import { text, whole } from './rows.ts'
import { allValues } from './statements.ts'
import { CONVERSATION_LIFE_MS, ENDED_OPERATION_LIFE_MS } from './store.ts'

const PASS_EVERY_MS = 3_600_000

type Table = 'operations' | 'accounts' | 'conversations' | 'chain'
const FIRST_TABLE: Table = 'operations'
const NEXT_TABLE: Readonly<Record<Table, Table | null>> = {
  operations: 'accounts',
  accounts: 'conversations',
  conversations: 'chain',
  chain: null,
}

export class Outlived {
  readonly #books: BooksFile
  /** Where the pass is: the table, and the last key seen in it. */
  #at: { readonly table: Table; readonly after: string | number | null } | null = null
  #nextPassMs = 0

  constructor(books: BooksFile) {
    this.#books = books
  }

  /** Starts a pass when one is due by the store's clock. */
  wake(nowMs: number): void {
    if (this.#at !== null || nowMs < this.#nextPassMs) return
    this.#at = { table: FIRST_TABLE, after: null }
    this.#nextPassMs = nowMs + PASS_EVERY_MS
  }

  get isUnderWay(): boolean {
    return this.#at !== null
  }

  /** Looks at `limit` more rows. Rows that wait for their table are younger than they look there: they are left alone. */
  step(nowMs: number, limit: number): void {
    const at = this.#at
    if (at === null) return
    let last: string | number | null = null
    this.#books.transaction(() => {
      last = this.#walk(at.table, at.after, nowMs, limit)
    })
    const table = last === null ? NEXT_TABLE[at.table] : at.table
    this.#at = table === null ? null : { table, after: last }
  }

  /** The last key seen; null at the end of the table. */
  #walk(table: Table, after: string | number | null, nowMs: number, limit: number): string | number | null {
    const { sql, operations, accounts, conversations, chain } = this.#books
    const liveAfterMs = nowMs - CONVERSATION_LIFE_MS
    let last: string | number | null = null
    switch (table) {
      case 'operations':
        for (const [sequence, id, touched, status] of allValues(sql.walkOperations, after ?? 0, limit)) {
          last = whole(sequence)
          if (status === 'held' || operations.isWaiting(text(id))) continue
          // Later rows began later, so that they are hardly older.
          if (whole(touched) >= nowMs - ENDED_OPERATION_LIFE_MS) return null
          sql.dropOperation.run(text(id))
          operations.dropped(text(id))
        }
        return last
      case 'accounts':
        for (const [id, touched, held] of allValues(sql.walkAccounts, after ?? '', limit)) {
          last = text(id)
          if (held !== 0 || whole(touched) >= liveAfterMs || accounts.isWaiting(last)) continue
          sql.dropAccount.run(last)
          accounts.dropped(last)
        }
        return last
      case 'conversations':
        for (const [sequence, id, touched] of allValues(sql.walkConversations, after ?? 0, limit)) {
          last = whole(sequence)
          if (whole(touched) >= liveAfterMs || conversations.isWaiting(text(id))) continue
          sql.dropEdits.run(text(id))
          sql.dropConversation.run(text(id))
          conversations.dropped(text(id))
        }
        return last
      case 'chain':
        for (const [digest, touched] of allValues(sql.walkChain, after ?? '', limit)) {
          last = text(digest)
          if (whole(touched) >= liveAfterMs || chain.isWaiting(last)) continue
          sql.dropChain.run(last)
          chain.dropped(last)
        }
        return last
    }
  }
}
