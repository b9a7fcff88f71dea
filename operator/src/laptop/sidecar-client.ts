/** What the sidecar's app API tells: its config in force, its totals, and where each conversation stands. */
import { AccountsPageSchema, BalancesSchema, LEDGER_PAGE_MAX, LedgerPageSchema } from '@farebox/crds/ledger-page.ts'
import type { AccountsPage, Balances, LedgerLine, LedgerPage } from '@farebox/crds/ledger-page.ts'
import { SidecarStatusSchema } from '@farebox/crds/sidecar-status.ts'
import type { SidecarStatus } from '@farebox/crds/sidecar-status.ts'
import { UsersPageSchema } from '@farebox/crds/users-page.ts'
import type { UsersPage } from '@farebox/crds/users-page.ts'
import { USD_PATTERN } from '@farebox/crds/usd.ts'
import * as z from 'zod'
import { askHttp } from './ask-http.ts'
import type { HttpAnswer } from './ask-http.ts'

const TIMEOUT_MS = 5_000
/** For lists: a sidecar reads its store many times for each. */
const LIST_TIMEOUT_MS = 30_000
const LIST_MAX = 1_000

const Money = z.string().regex(USD_PATTERN)

/** Read leniently: a sidecar may say more than this. */
const StandingSchema = z.object({
  conversation: z.string(),
  user: z.string().nullable(),
  tier: z.string(),
  contract: z.string(),
  currency: z.string(),
  budget: Money,
  spent: Money,
  held: Money,
  remaining: Money,
  percent: z.number(),
  /** Absent: from a sidecar of an earlier version. */
  percentOf: z.enum(['conversation', 'user']).optional(),
  rung: z.string(),
  reason: z.string().nullable(),
  turns: z.int(),
  session: z.int(),
  state: z.enum(['open', 'ended']),
  resolution: z.string(),
  advice: z.string(),
  drivers: z.record(z.string(), Money),
  alerts: z.array(z.number()),
  lastTurnAt: z.string(),
})
/** Where a conversation stands; money in the tier's currency. */
export type Standing = z.infer<typeof StandingSchema>

const ListSchema = z.object({ conversations: z.array(StandingSchema) })
const ErrorSchema = z.object({ error: z.object({ message: z.string() }) })

interface Patience {
  readonly timeoutMs?: number
  /** For lists. */
  readonly listTimeoutMs?: number
}

export class SidecarClient {
  readonly #origin: string
  readonly #timeoutMs: number
  readonly #listTimeoutMs: number

  /** `origin` of the data plane: `http://127.0.0.1:4180`. */
  constructor(origin: string, { timeoutMs = TIMEOUT_MS, listTimeoutMs = LIST_TIMEOUT_MS }: Patience = {}) {
    this.#origin = origin.replace(/\/+$/, '')
    this.#timeoutMs = timeoutMs
    this.#listTimeoutMs = listTimeoutMs
  }

  async status(): Promise<SidecarStatus> {
    return await this.#ask(SidecarStatusSchema, 'GET', '/farebox/v1/status')
  }

  /** Newest first. */
  async conversations(limit: number = LIST_MAX): Promise<readonly Standing[]> {
    const path = `/farebox/v1/conversations?limit=${Math.min(limit, LIST_MAX)}`
    return (await this.#ask(ListSchema, 'GET', path, { timeoutMs: this.#listTimeoutMs })).conversations
  }

  /** By the app's own id or the hashed one. */
  async conversation(id: string): Promise<Standing> {
    return await this.#ask(StandingSchema, 'GET', `/farebox/v1/conversations/${encodeURIComponent(id)}`)
  }

  /** The heaviest users of a tier in its current period; of the default tier where none is named. */
  async users({ tier, limit }: { readonly tier?: string; readonly limit: number }): Promise<UsersPage> {
    const query = new URLSearchParams({ limit: String(limit), ...(tier === undefined ? {} : { tier }) })
    return await this.#ask(UsersPageSchema, 'GET', `/farebox/v1/users?${query.toString()}`, { timeoutMs: this.#listTimeoutMs })
  }

  /** Pages of ledger entries from after `after` on, to the newest. */
  async *ledger(after = 0): AsyncGenerator<readonly LedgerLine[]> {
    let from: number | null = after
    while (from !== null) {
      const path = `/farebox/v1/ledger?after=${from}&limit=${LEDGER_PAGE_MAX}`
      const page: LedgerPage = await this.#ask(LedgerPageSchema, 'GET', path, { timeoutMs: this.#listTimeoutMs })
      yield page.entries
      from = page.next
    }
  }

  /** A page of all accounts, from the `next` of the page before on. Null: the sidecar is of a version that does not tell them. */
  async accounts(cursor: string | null): Promise<AccountsPage | null> {
    const query = new URLSearchParams({ limit: String(LEDGER_PAGE_MAX), ...(cursor === null ? {} : { cursor }) })
    try {
      return await this.#ask(AccountsPageSchema, 'GET', `/farebox/v1/accounts?${query.toString()}`, { timeoutMs: this.#listTimeoutMs })
    } catch (error) {
      if (error instanceof SidecarRefusal && error.status === 404) return null
      throw error
    }
  }

  /** At most `LEDGER_PAGE_MAX` at once; those never drawn on are zero. */
  async balances(accounts: readonly string[]): Promise<Balances> {
    const asked = { body: { accounts }, timeoutMs: this.#listTimeoutMs }
    return (await this.#ask(BalancesSchema, 'POST', '/farebox/v1/balances', asked)).balances
  }

  async confirmResolution(id: string): Promise<void> {
    await this.#ask(z.unknown(), 'POST', `/farebox/v1/conversations/${encodeURIComponent(id)}/resolution`, {
      body: { outcome: 'confirmed' },
    })
  }

  /** Throws an `Error` with the sidecar's own words when it says no. */
  async #ask<Answer>(
    schema: z.ZodType<Answer>,
    method: 'GET' | 'POST',
    path: string,
    { body, timeoutMs = this.#timeoutMs }: { readonly body?: object; readonly timeoutMs?: number } = {},
  ): Promise<Answer> {
    const signal = AbortSignal.timeout(timeoutMs)
    let answer: HttpAnswer
    try {
      answer = await askHttp(`${this.#origin}${path}`, { method, signal, ...(body === undefined ? {} : { body }) })
    } catch (error) {
      const late = `${this.#origin} did not answer within ${timeoutMs / 1000} s`
      throw new Error(signal.aborted ? late : `no sidecar answers at ${this.#origin}`, { cause: error })
    }
    const json = parsed(answer.text)
    if (answer.status < 200 || answer.status > 299) {
      const told = ErrorSchema.safeParse(json)
      throw told.success
        ? new SidecarRefusal(answer.status, told.data.error.message)
        : new Error(`${this.#origin}${path} answered ${answer.status}${redirected(answer, path)}`)
    }
    const read = schema.safeParse(json)
    if (!read.success) throw new Error(`${this.#origin} is not a sidecar, or one of another version`, { cause: read.error })
    return read.data
  }
}

/** A sidecar's no, in its own words. */
class SidecarRefusal extends Error {
  override readonly name = 'SidecarRefusal'
  readonly status: number
  constructor(status: number, message: string) {
    super(message)
    this.status = status
  }
}

/** Where else to ask, or whither one is sent that is no sidecar. */
function redirected({ location }: HttpAnswer, path: string): string {
  if (location === null) return ''
  return location.href.endsWith(path) ? `: use --url ${location.href.slice(0, -path.length)}` : `: it leads to ${location.href}`
}

/** Null where it is no JSON. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}
