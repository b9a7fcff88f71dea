/**
 * What the days of a tier came to, read from the tables of the embedded store: a page in a turn of the event loop, so that steps have their turn
 * between them.
 */
import { NO_OUTCOMES, outcomeNames } from '../core/outcomes.ts'
import { totalsOf } from '../core/totals.ts'
import { oldestDay } from './store.ts'
import type { NamedSum, Totals } from '../core/totals.ts'
import { UserSums } from '../core/totals-by-user.ts'
import type { UserTotals, UserTotalsQuery } from '../core/totals-by-user.ts'
import { dayNamed, dayNumber, dayText } from '../core/utc-day.ts'
import type { BooksFile } from './books-file.ts'
import * as rows from './rows.ts'
import { allValues, firstValues } from './statements.ts'
import type { DaysQuery, OutcomeTotals } from './store.ts'
import type { StoreTurns } from './store-turns.ts'

/** Rows of users' days, outcomes, users, and days, that are read before others have their turn. */
const USER_DAYS_READ = 1_000
const OUTCOMES_READ = 2_000
const USERS_READ = 4_000
const DAYS_READ = 30
/** Days that a step may be dated after what the store's clock shows, by who asked for it. */
const DAYS_AHEAD = 1

export interface DayReportsOptions extends Pick<StoreTurns, 'look' | 'page' | 'query'> {
  readonly books: Pick<BooksFile, 'sql'>
  readonly wallMs: () => number
  readonly storeMs: () => number
}

/** Each method rejects as the store does, and throws `RangeError` for a day that is none. */
export class DayReports {
  readonly #from: DayReportsOptions

  constructor(from: DayReportsOptions) {
    this.#from = from
  }

  async outcomes(query: DaysQuery): Promise<OutcomeTotals> {
    const { sql } = this.#from.books
    const { tier } = query
    const counts = { ...NO_OUTCOMES }
    for (const day of await this.#days(query)) {
      for (let after: string | null = ''; after !== null;) {
        const from: string = after
        const page = await this.#from.page(() => allValues(sql.countOutcomes, day, tier, from, OUTCOMES_READ))
        let read = 0
        after = null
        for (const [kind, count, last] of page) {
          for (const name of outcomeNames(rows.outcomeOf(kind))) counts[name] += rows.whole(count)
          read += rows.whole(count)
          if (after === null || isBehind(rows.text(last), after)) after = rows.text(last)
        }
        if (read < OUTCOMES_READ) after = null
      }
      const spent = await this.#from.look(() => firstValues(sql.getTierDay, day, tier, 'spent'))
      if (spent !== null) counts.cost += rows.tierDayRow(spent).sum
    }
    return counts
  }

  async totals(query: DaysQuery): Promise<Totals> {
    const days = await this.#days(query)
    const sums: NamedSum[] = []
    for (let from = 0; from < days.length; from += DAYS_READ) {
      const [first = '', last = first] = [days[from], days.slice(from, from + DAYS_READ).at(-1)]
      for (const values of await this.#from.page(() => allValues(this.#from.books.sql.getTierDays, query.tier, first, last))) {
        const { name, sum } = rows.tierDayRow(values)
        sums.push([name, sum])
      }
    }
    return totalsOf(sums, await this.#countUsers(query.tier, days))
  }

  /** The different ones, in the order of their ids: as many of the days together in a page as there are of few days alone. */
  async #countUsers(tier: string, days: readonly string[]): Promise<number> {
    const { sql } = this.#from.books
    const listed = JSON.stringify(days)
    const perDay = Math.ceil(USERS_READ / Math.max(1, days.length))
    let count = 0
    for (let after: string | null = ''; after !== null;) {
      const from: string = after
      const page = await this.#from.page(() => {
        const edge = firstValues(sql.nextUsersEdge, tier, from, perDay, listed)?.[0] ?? null
        const counted =
          edge === null
            ? firstValues(sql.countUsersAfter, listed, tier, from)
            : firstValues(sql.countUsersTo, listed, tier, from, rows.text(edge))
        return { users: rows.whole(counted?.[0]), edge: edge === null ? null : rows.text(edge) }
      })
      count += page.users
      after = page.edge
    }
    return count
  }

  async users(query: DaysQuery & UserTotalsQuery): Promise<UserTotals> {
    const { tier } = query
    const sums = new UserSums()
    for (const day of await this.#days(query)) {
      for (let after: string | null = ''; after !== null;) {
        const from: string = after
        const page = await this.#from.page(() => allValues(this.#from.books.sql.walkUserDays, day, tier, from, USER_DAYS_READ))
        const users = page.map((values) => rows.userDayRow(values))
        for (const { user, spent } of users) sums.add(user, spent)
        after = users.length < USER_DAYS_READ ? null : (users.at(-1)?.user ?? null)
      }
    }
    return sums.totals(query)
  }

  /**
   * The days of the query of which something may be known, in order, once the tables have all that was committed before. They are days of the wall
   * clock: the store's may be far ahead of it for as long as the wall clock once was. Only what holds came to that were charged because time
   * ran out is on days of the store's.
   */
  #days({ fromDay, toDay }: DaysQuery): Promise<readonly string[]> {
    return this.#from.query(() => {
      const first = Math.max(dayNamed(fromDay), oldestDay(this.#from.wallMs()))
      const last = Math.min(dayNamed(toDay), dayNumber(this.#from.storeMs()) + DAYS_AHEAD)
      return Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => dayText(first + index))
    })
  }
}

/** By the order of the tables, which is that of UTF-8. */
function isBehind(key: string, other: string): boolean {
  return Buffer.compare(Buffer.from(key), Buffer.from(other)) > 0
}
