/**
 * One round: three sidecars on a store that has a replica, apps that talk, faults as a seed plans them; then quiet, until the
 * holds of the killed have expired; then the oracle.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { SidecarClient } from '@farebox/operator/laptop/sidecar-client.ts'
import { verifyLedger } from '@farebox/operator/laptop/verify-ledger.ts'
import { LEDGER_PAGE_MAX } from '@farebox/crds/ledger-page.ts'
import type { LedgerLine } from '@farebox/crds/ledger-page.ts'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import type { SidecarStatus } from '@farebox/crds/sidecar-status.ts'
import { formatUsd, parseUsd } from '@farebox/crds/usd.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { Faults, JUMPING_CLOCK } from './faults.ts'
import { doubtsOf, violationsOf } from './oracle.ts'
import type { Call, Charged, Spell } from './oracle.ts'
import { planOf } from './plan.ts'
import { StorePair } from './store-pair.ts'
import { startStoreProxy } from '../support/store-proxy.ts'
import { StoreWatch } from './store-watch.ts'
import { HOLD_MAX, PER_CONVERSATION, PER_USER, Traffic } from './traffic.ts'

export type Mode = 'Deny' | 'Allowance'

const SIDECARS = 3
const ALLOWANCE_PERCENT = 10
/** What the workload's limit lets the apps spend, in nano-dollars per second of faults: less than they would. */
const PACE = 40_000_000n
/** A hold lives 90 s after the last word of its sidecar, and is charged by a sweep within ten more. */
const QUIET_MS_MAX = 120_000
const LOOK_EVERY_MS = 1_000
/** A sidecar that says nothing at all is one of the things that must not be. */
const ANSWER_MS_MAX = 5_000

export interface RoundOptions {
  /** `redis-server` or `valkey-server`. */
  readonly program: string
  readonly seed: number
  readonly mode: Mode
  /** How long things go wrong; what follows takes up to two minutes. */
  readonly faultMs: number
  /** Called when nothing goes wrong any more, and all that is left is to wait for holds to expire. */
  readonly onQuiet?: () => void
}

export interface Round {
  readonly violations: readonly string[]
  readonly log: readonly string[]
  /** What happened, in a few lines. */
  readonly summary: readonly string[]
  /** Calls that were answered whole. */
  readonly answered: number
}

export async function playRound({ program, seed, mode, faultMs, onQuiet }: RoundOptions): Promise<Round> {
  const cleanups: (() => Promise<void>)[] = []
  try {
    const provider = await startProvider()
    cleanups.push(() => provider.close())
    const pair = await StorePair.start({ program, onMoved: (port) => proxy.pointAt(port) })
    cleanups.push(() => pair.stop())
    const proxy = await startStoreProxy(SIDECARS, pair.port)
    cleanups.push(() => proxy.close())
    const limit = (PACE * BigInt(faultMs)) / 1_000n
    const config = chaosConfig(provider, mode, limit)
    const sidecars: Sidecar[] = []
    for (const { port } of proxy.lanes) {
      const environment = { FAREBOX_STORE: `redis://127.0.0.1:${port}`, FAREBOX_NAMESPACE: 'chaos', NODE_OPTIONS: JUMPING_CLOCK }
      const sidecar = await startSidecar(config, { environment })
      cleanups.push(() => sidecar.close())
      sidecars.push(sidecar)
    }

    const startedAtMs = Date.now()
    const watch = new StoreWatch(sidecars)
    const traffic = new Traffic({
      seed,
      sidecars,
      billed: () => provider.bill.totalNanoUsd(),
      mayBeBilled: () => (limit * BigInt(Date.now() - startedAtMs)) / BigInt(faultMs),
    })
    const faults = new Faults({ proxy, pair, sidecars })
    await Promise.all([faults.run(planOf({ seed, sidecars: SIDECARS, forMs: faultMs })), sleep(faultMs)])
    await traffic.stop()
    await provider.settled()
    const quietFrom = Date.now()
    onQuiet?.()
    const restless = await untilQuiet(sidecars)
    const spells = await watch.stop()

    const books = await booksOf(sidecars, traffic.calls)
    const doubts = doubtsOf(traffic.calls, { deaths: faults.deaths, losses: faults.losses, spells })
    const violations = [
      ...restless,
      ...books.violations,
      ...violationsOf({
        calls: traffic.calls,
        doubts,
        bill: provider.bill.lines().map(({ tag, nanoUsd }) => ({ tag: tag ?? '', nanoUsd })),
        charged: books.charged,
        caps: { perConversation: parseUsd(PER_CONVERSATION), perUser: parseUsd(PER_USER), workload: limit },
        holdMax: HOLD_MAX,
        spells,
        allowancePercent: mode === 'Allowance' ? ALLOWANCE_PERCENT : 0,
      }),
    ]
    const answered = traffic.outcomes.get('answered') ?? 0
    const doubtful = [...doubts.values()]
    return {
      violations,
      log: faults.log,
      answered,
      summary: [
        `${faults.log.length / 2} faults, ${faults.deaths.length} of them killed a sidecar, ${faults.losses.length} lost the store's last steps`,
        `${traffic.calls.length} calls: ${[...traffic.outcomes].map(([outcome, count]) => `${count} ${outcome}`).join(', ')}`,
        `billed ${formatUsd(provider.bill.totalNanoUsd())} of ${formatUsd(limit)}, charged ${formatUsd(sumOf(books.charged))}; in doubt: ${doubtful.filter((doubt) => doubt === 'unsettled').length} unsettled, ${doubtful.filter((doubt) => doubt === 'lost').length} lost`,
        `without the store: ${outagesOf(spells)} times; quiet after ${((Date.now() - quietFrom) / 1_000).toFixed(0)} s`,
      ],
    }
  } finally {
    for (const cleanup of cleanups.toReversed()) await cleanup()
  }
}

function chaosConfig(provider: Provider, mode: Mode, limit: NanoUsd): SidecarConfig {
  const period = { unit: 'Month', timeZone: 'UTC', anchorDay: 1 } as const
  const contract = makeContract({ caps: { perConversation: PER_CONVERSATION, perUser: { amount: PER_USER, period } } })
  return makeConfig(`${provider.url}/v1`, [contract], {
    limits: [{ amount: formatUsd(limit), period }],
    onStoreFailure:
      mode === 'Deny' ? { action: 'Deny', allowancePercent: 0 } : { action: 'Allowance', allowancePercent: ALLOWANCE_PERCENT },
  })
}

/** Until no sidecar has a call, a step that waits for the store, or money held; what of that is still so at the end. */
async function untilQuiet(sidecars: readonly Sidecar[]): Promise<readonly string[]> {
  const end = performance.now() + QUIET_MS_MAX
  for (;;) {
    const restless = (await Promise.all(sidecars.map(restlessness))).flatMap((what, index) =>
      what === null ? [] : [`sidecar ${index}: ${what}`],
    )
    if (restless.length === 0 || performance.now() > end) return restless
    await sleep(LOOK_EVERY_MS)
  }
}

async function restlessness(sidecar: Sidecar): Promise<string | null> {
  try {
    const { callsInFlight, store, tiers } = (await asked(sidecar, '/farebox/v1/status')) as SidecarStatus
    if (callsInFlight > 0) return `${callsInFlight} calls are under way`
    if (store.state !== 'Ready' || store.unsent > 0) return `the store is ${store.state}, and was not told ${store.unsent} steps`
    const held = Object.values(tiers).reduce((total, tier) => total + parseUsd(tier.held), 0n)
    return held > 0n ? `${formatUsd(held)} is held` : null
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

async function asked({ url }: Sidecar, path: string): Promise<unknown> {
  return (await fetch(`${url}${path}`, { signal: AbortSignal.timeout(ANSWER_MS_MAX) })).json()
}

/** What the ledger says, asked of every sidecar, and whether it agrees with the balances and with itself. */
async function booksOf(
  sidecars: readonly Sidecar[],
  calls: readonly Call[],
): Promise<{ readonly charged: readonly Charged[]; readonly violations: readonly string[] }> {
  const violations: string[] = []
  const totals = new Set<NanoUsd>()
  for (const [index, { url }] of sidecars.entries()) {
    try {
      const { sheet, differences } = await verifyLedger(new SidecarClient(url))
      totals.add(sheet.total)
      for (const { account, entered, spent } of differences)
        violations.push(`sidecar ${index}: entries of ${account} come to ${formatUsd(entered)}, its balance is ${formatUsd(spent)}`)
    } catch (error) {
      violations.push(`sidecar ${index}: ${String(error)}`)
    }
  }
  if (totals.size > 1) violations.push(`the sidecars tell different ledgers: ${[...totals].map((total) => formatUsd(total)).join(', ')}`)
  const [first] = sidecars
  if (first === undefined) throw new RangeError('a round needs a sidecar')
  const client = new SidecarClient(first.url)
  const entries: LedgerLine[] = []
  for await (const page of client.ledger()) entries.push(...page)
  violations.push(...(await heldOf(client, entries)))
  return { charged: await chargedOf(first, entries, calls), violations }
}

async function heldOf(client: SidecarClient, entries: readonly LedgerLine[]): Promise<readonly string[]> {
  const accounts = [...new Set(entries.flatMap((entry) => entry.accounts))]
  const violations: string[] = []
  for (let from = 0; from < accounts.length; from += LEDGER_PAGE_MAX) {
    const balances = await client.balances(accounts.slice(from, from + LEDGER_PAGE_MAX))
    for (const [account, { held }] of Object.entries(balances)) if (parseUsd(held) > 0n) violations.push(`${account} still holds ${held}`)
  }
  return violations
}

/** By operation, under the names that the apps use. */
async function chargedOf(sidecar: Sidecar, entries: readonly LedgerLine[], calls: readonly Call[]): Promise<readonly Charged[]> {
  const names = new Map<string, string>()
  for (const id of new Set(calls.map(({ conversation }) => conversation))) {
    const standing = (await asked(sidecar, `/farebox/v1/conversations/${encodeURIComponent(id)}`)) as { conversation?: string }
    if (standing.conversation !== undefined) names.set(standing.conversation, id)
  }
  return [...Map.groupBy(entries, ({ operation }) => operation)].map(([operation, own]) => {
    const hashed = own.find((entry) => entry.conversation !== undefined)?.conversation ?? ''
    return { operation, conversation: names.get(hashed) ?? hashed, cost: own.reduce((total, { cost }) => total + signed(cost), 0n) }
  })
}

function signed(text: string): NanoUsd {
  return text.startsWith('-') ? -parseUsd(text.slice(1)) : parseUsd(text)
}

function sumOf(charged: readonly Charged[]): NanoUsd {
  return charged.reduce((total, { cost }) => total + cost, 0n)
}

function outagesOf(spells: readonly Spell[]): number {
  return spells.reduce((total, { outages }) => total + outages, 0)
}
