/**
 * The service tiers in which an upstream served calls that left theirs to the account (an OpenAI project set to Priority, an Anthropic
 * workspace set to a region): no request says it, and each answer is billed by it. The last answer counts; but a dear tier stays for an hour
 * after it was seen, since a provider that is busy serves some calls of such an account as standard ones. Accounts are told apart by their keys.
 */
import type { Upstream } from '@farebox/crds/sidecar-config.ts'
import { LRUCache } from 'lru-cache'
import { memo } from '../core/memo.ts'
import type { Turn } from './exchange.ts'
import { KEY_HEADERS } from './headers.ts'
import { modelKey } from './usage-refusals.ts'

/** What no answer has confirmed for so long is forgotten: where no budget can pay for a dear tier, no answer would tell that it is gone. */
export const TIER_KEPT_MS = 24 * 3_600_000
const TIERS_KEPT = 10_000
const DEAR_MS = 3_600_000
/** Of a call that was served at the standard price. */
const STANDARD: ReadonlySet<string> = new Set(['default', 'standard'])

export class ServedTiers {
  readonly #seen = new LRUCache<string, { readonly tier: string; readonly atMs: number }>({ max: TIERS_KEPT })
  readonly #upMs: () => number

  /** `upMs`: time that no clock sets back. */
  constructor(upMs: () => number = () => performance.now()) {
    this.#upMs = upMs
  }

  /** As `servedAs` has it; null: not known. */
  find(upstream: Pick<Upstream, 'name' | 'baseUrl'>, model: string, account: string): string | null {
    const seen = this.#seen.get(keyOf(upstream, model, account))
    return seen !== undefined && this.#upMs() - seen.atMs < TIER_KEPT_MS ? seen.tier : null
  }

  /** `tier` null: the answer said nothing of it, and what was seen before stays. */
  saw(upstream: Pick<Upstream, 'name' | 'baseUrl'>, model: string, account: string, tier: string | null): void {
    if (tier === null) return
    const key = keyOf(upstream, model, account)
    const atMs = this.#upMs()
    const seen = this.#seen.get(key)
    const isKept = STANDARD.has(tier) && seen !== undefined && !STANDARD.has(seen.tier) && atMs - seen.atMs < DEAR_MS
    if (!isKept) this.#seen.set(key, { tier, atMs })
  }
}

/** The account of every call with a key that is held here for its upstream. */
export const ONE_ACCOUNT = ''

/**
 * Names the account at the upstream that was asked, by a keyed hash of what chooses it there: the key where that is the app's own, and the project.
 * Of tokens that live for an hour all name the same: each would have to be learned anew, at the cost of a call past its cap. Worked out once for a turn, which asks before its call and after it.
 */
export const accountOf = memo(
  ({
    gateway,
    incoming: { headers },
    heldKey,
    upstreamHeaders,
    path,
  }: Pick<Turn, 'gateway' | 'incoming' | 'heldKey' | 'upstreamHeaders' | 'path'>): string => {
    const said: string[] = []
    // What the owner sets the app cannot choose by.
    const isSent = (name: string): boolean => headers[name] !== undefined && !upstreamHeaders.raw.includes(name)
    for (const name of PROJECT_HEADERS) if (isSent(name)) said.push(`${name}: ${String(headers[name])}`)
    if (heldKey === null) {
      for (const name of KEY_HEADERS) if (isSent(name)) said.push(String(headers[name]).replace(BEARER, ''))
      const query = path.indexOf('?')
      const inQuery = query < 0 ? null : new URLSearchParams(path.slice(query)).get('key')
      if (inQuery !== null) said.push(inQuery)
    }
    const lasting = said.filter((word) => !SHORT_LIVED.test(word))
    return lasting.length === 0 ? ONE_ACCOUNT : gateway.chainKey.hex(Buffer.from(JSON.stringify(['account', ...lasting])))
  },
)

/** https://platform.openai.com/docs/api-reference/authentication */
const PROJECT_HEADERS = ['openai-organization', 'openai-project'] as const
const BEARER = /^Bearer +/i
/** A JWT, as Entra and identity federation give them, and Google's access tokens. */
const SHORT_LIVED = /^(?:ey[\w-]+\.[\w-]+\.|ya29\.)/

function keyOf(upstream: Pick<Upstream, 'name' | 'baseUrl'>, model: string, account: string): string {
  return `${account} ${modelKey(upstream, model)}`
}
