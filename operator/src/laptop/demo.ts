/** Recorded conversations through the example plans: replayed, watched, and set against the provider's own bill. */
import { setTimeout as sleep } from 'node:timers/promises'
import { RUNGS } from '@farebox/crds/ladder.ts'
import { parseUsd } from '@farebox/crds/usd.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import type { PricingTier } from '@farebox/crds/pricing-tier.ts'
import type { Laptop } from './laptop.ts'
import type { ProviderProcess } from './provider-process.ts'
import type { RecordedConversation } from './records.ts'
import { DEFAULT_MODEL, replay } from './replay.ts'
import type { HeaderStanding, Outcome, ReplayReport } from './replay.ts'
import type { Standing } from './sidecar-client.ts'
import { countByRung, overshootOf, summariseTier } from './summary.ts'
import type { Overshoot, PlayedConversation, TierSummary, TierTerms } from './summary.ts'

/** A conversation while it runs. */
export interface Watched {
  readonly conversation: string
  readonly tier: string
  readonly rung: string
  readonly percent: number
  readonly spent: NanoUsd
  readonly budget: NanoUsd
  readonly turns: number
  readonly state: 'running' | Outcome
}

export interface DemoOptions {
  /** One, or several on one store: the turns of a conversation go to each in turn. */
  readonly laptops: readonly [Laptop, ...Laptop[]]
  readonly conversations: readonly RecordedConversation[]
  readonly concurrency: number
  readonly apiKey: string
  /** The stand-in for the provider; null: the real one, which shows no bill. */
  readonly provider: ProviderProcess | null
  /** How long the stand-in thinks before each answer, in ms: a model does, too. */
  readonly delayMs: number
  /** Of each laptop. */
  readonly baseUrls: readonly string[]
  readonly signal: AbortSignal
  /** Told now and then with all conversations that have begun, in order of their beginning. */
  readonly onProgress: (watched: readonly Watched[]) => void
}

export interface DemoResult {
  readonly reports: readonly ReplayReport[]
  readonly played: readonly PlayedConversation[]
  readonly byRung: readonly (readonly [rung: string, count: number])[]
  readonly overshoot: Overshoot | null
  readonly calls: number
  readonly seconds: number
}

const LOOK_MS = 400
const SETTLED_MS_MAX = 15_000

/** Conversations take the tiers in turn. */
export async function playDemo(options: DemoOptions): Promise<DemoResult> {
  const { laptops, conversations, provider, signal } = options
  const [laptop] = laptops
  const { contracts, tiers } = laptop.config()
  const { claim } = tiers
  const claimHeader = claim?.token === undefined ? claim?.header : undefined // a token would have to be signed
  const offered = claimHeader === undefined ? [tiers.default] : tiers.allowed
  const startedAt = performance.now()
  const tierOf = new Map(conversations.map(({ id }, index) => [id, offered[index % offered.length] ?? tiers.default]))
  const watch = new Watch(laptop, (id) => {
    const tier = tierOf.get(id) ?? tiers.default
    return { tier, budget: parseUsd(contracts[tier]?.caps.perConversation ?? '0') }
  })
  const looking = setInterval(() => void watch.look().then(options.onProgress), LOOK_MS)
  const resolved = new Set<string>()
  const reports = await replay(conversations, {
    baseUrls: options.baseUrls,
    model: DEFAULT_MODEL, // which the plans include; a few recordings name others
    apiKey: options.apiKey,
    concurrency: options.concurrency,
    signal,
    headers: ({ id }) => ({
      ...(claimHeader === undefined ? {} : { [claimHeader]: tierOf.get(id) ?? tiers.default }),
      ...(provider === null ? {} : { 'x-fake-tag': id, 'x-fake-delay-ms': String(options.delayMs) }),
    }),
    onAnswer(id, standing) {
      if (watch.note(id, standing)) void watch.look().then(options.onProgress)
    },
    async onDone(report, { solved }) {
      watch.end(report)
      if (report.outcome !== 'finished' || solved === false || report.standing === null) return
      await laptop.client.confirmResolution(report.standing.conversation)
      resolved.add(report.id)
    },
  }).finally(() => clearInterval(looking))
  await Promise.all(laptops.map(settled))
  options.onProgress(await watch.look())
  const bill = provider === null ? null : await provider.bill()
  const played = reports.flatMap((report): PlayedConversation[] => {
    const standing = watch.standing(report.id)
    if (standing === null) return []
    const drivers = Object.values(standing.drivers).reduce((sum, amount) => sum + parseUsd(amount), 0n)
    return [
      {
        id: report.id,
        tier: standing.tier,
        rung: standing.rung,
        spent: standing.session > 1 ? drivers : parseUsd(standing.spent),
        summaries: parseUsd(standing.drivers['summaries'] ?? '0'),
        budget: parseUsd(standing.budget) * BigInt(standing.session),
        sessions: standing.session,
        billed: bill === null ? null : (bill.byTag.get(report.id) ?? 0n),
        resolved: resolved.has(report.id),
      },
    ]
  })
  return {
    reports,
    played,
    byRung: countByRung(played, RUNGS),
    overshoot: overshootOf(played, bill?.total ?? null),
    calls: reports.reduce((sum, { calls }) => sum + calls, 0),
    seconds: (performance.now() - startedAt) / 1000,
  }
}

/** What each tier came to, by its own price. Tiers in US dollars only: others are left out. */
export function tierSummaries(tiers: readonly PricingTier[], played: readonly PlayedConversation[]): readonly TierSummary[] {
  return tiers.filter(({ spec }) => spec.currency === 'USD').map((tier) => summariseTier(termsOf(tier), played))
}

function termsOf({ metadata, spec }: PricingTier): TierTerms {
  return {
    tier: metadata.name,
    pricing: spec.pricing.model,
    price: parseUsd(spec.pricing.price),
    otherCost: parseUsd(spec.unitEconomics.otherCost),
    expectedConversationsPerUser: spec.unitEconomics.expectedConversationsPerUser ?? null,
    targetGrossMarginPercent: spec.unitEconomics.targetGrossMarginPercent,
  }
}

/** Conversations by the app's id, as answers and the app API tell of them. */
class Watch {
  readonly #laptop: Laptop
  readonly #termsOf: (id: string) => { readonly tier: string; readonly budget: NanoUsd }
  readonly #rows = new Map<string, Watched>()
  /** Hashed ids by the app's own. */
  readonly #hashes = new Map<string, string>()
  #standings: ReadonlyMap<string, Standing> = new Map()

  constructor(laptop: Laptop, termsOf: (id: string) => { readonly tier: string; readonly budget: NanoUsd }) {
    this.#laptop = laptop
    this.#termsOf = termsOf
  }

  /** Whether the conversation is on another rung than before. */
  note(id: string, standing: HeaderStanding | null): boolean {
    if (standing === null) return false
    this.#hashes.set(id, standing.conversation)
    const { rung, percent } = standing
    const before = this.#rows.get(id) ?? { conversation: id, ...this.#termsOf(id), rung: 'None', spent: 0n, turns: 0, state: 'running' }
    this.#rows.set(id, { ...before, rung, percent })
    return rung !== before.rung
  }

  end({ id, outcome, standing }: ReplayReport): void {
    this.note(id, standing)
    const row = this.#rows.get(id)
    if (row !== undefined) this.#rows.set(id, { ...row, state: outcome })
  }

  /** What the sidecar says now; while it does not answer, what it said last. */
  async look(): Promise<readonly Watched[]> {
    const list = await this.#laptop.client.conversations().catch(() => null)
    if (list !== null) this.#standings = new Map(list.map((standing) => [standing.conversation, standing]))
    for (const [id, row] of this.#rows) {
      const standing = this.standing(id)
      if (standing === null) continue
      const { tier, rung, percent, turns } = standing
      this.#rows.set(id, { ...row, tier, rung, percent, turns, spent: parseUsd(standing.spent), budget: parseUsd(standing.budget) })
    }
    return [...this.#rows.values()]
  }

  standing(id: string): Standing | null {
    return this.#standings.get(this.#hashes.get(id) ?? '') ?? null
  }
}

/** Summaries are written between turns: the last ones may still be under way. */
async function settled({ client }: Laptop): Promise<void> {
  const end = performance.now() + SETTLED_MS_MAX
  while (performance.now() < end) {
    if ((await client.status()).callsInFlight === 0) return
    await sleep(LOOK_MS / 4)
  }
}
