/** Objects with defaults, so that a test names only what it is about. */
import { createHash } from 'node:crypto'
import type { Period } from '@farebox/crds/period.ts'
import type { Contract, SidecarConfig, Upstream } from '@farebox/crds/sidecar-config.ts'
import { SIDECAR_CONFIG_SCHEMA_VERSION } from '@farebox/crds/sidecar-config.ts'

type Parts<T> = { readonly [K in keyof T]?: T[K] extends readonly unknown[] ? T[K] : T[K] extends object ? Parts<T[K]> : T[K] }

/** Where midnight is six hours away at least: of two that are twelve hours apart. */
const TIME_ZONE = Math.abs(new Date().getUTCHours() - 11.5) < 6 ? 'UTC' : 'Etc/GMT-12'

/** A tier at 0.50 a conversation, without a user budget, that closes at the end and says nothing inline. */
export function makeContract(parts: Parts<Omit<Contract, 'hash'>> = {}): Contract {
  const contract = merge<Omit<Contract, 'hash'>>(
    {
      tier: 'pro',
      displayName: 'Pro',
      currency: 'USD',
      usdRate: '1.00',
      pricing: {
        model: 'PerConversation',
        price: '2.00',
        otherCost: '0.10',
        targetGrossMarginPercent: 70,
        targetCostPerConversation: '0.50',
      },
      caps: { perConversation: '0.50' },
      context: { overflow: 'DropOldest', keepRecentTurns: 3, summarizeAfterPercent: 80 },
      models: { allow: [], downgrades: [] },
      alerts: [70, 90, 100],
      ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Refuse' }],
      sessions: { resetAt: 'Immediately', recap: 'None', maxResets: 0, memory: { mode: 'None', retentionMs: 0 } },
      heavyUserTimesMedian: 10,
      notices: { mode: 'HeadersOnly', texts: {}, defaultLocale: 'en' },
    },
    parts,
  )
  return { ...contract, hash: hashOf(contract) }
}

/** A provider, called with the app's own key unless `parts` say otherwise. */
export function makeUpstream(parts: Pick<Upstream, 'name' | 'provider' | 'baseUrl'> & Partial<Upstream>): Upstream {
  return { credential: 'Passthrough', injectUsage: 'Auto', outputLimitField: 'max_completion_tokens', deployments: [], ...parts }
}

/** A config of one budget over the given contracts; the first is the default tier. */
export function makeConfig(
  upstreamUrl: string,
  contracts: readonly Contract[] = [makeContract()],
  parts: Parts<SidecarConfig> = {},
): SidecarConfig {
  const [first] = contracts
  if (first === undefined) throw new RangeError('a config needs a contract')
  const config = merge<SidecarConfig>(
    {
      schemaVersion: SIDECAR_CONFIG_SCHEMA_VERSION,
      version: Date.now(),
      hash: '0000000000000000',
      namespace: 'shop',
      budget: 'support',
      mode: 'Enforce',
      tiers: { default: first.tier, allowed: contracts.map((contract) => contract.tier), claim: { header: 'x-farebox-tier' } },
      contracts: Object.fromEntries(contracts.map((contract) => [contract.tier, contract])),
      identity: {
        carriers: ['Header', 'Baggage', 'Conversation', 'PreviousResponse', 'Metadata', 'PromptCacheKey'],
        headers: [],
        userCarriers: ['Header', 'SafetyIdentifier', 'User', 'Metadata'],
        fallback: 'PrefixChain',
        scope: 'Namespace',
      },
      upstreams: [makeUpstream({ name: 'openai', provider: 'openai', baseUrl: upstreamUrl })],
      limits: [],
      existingConversations: 'KeepContract',
      contractMaxAgeMs: 30 * 86_400_000,
      onUnknownModel: 'Ceiling',
      onDisconnect: 'Cancel',
      ungoverned: 'Refuse',
      onStoreFailure: { action: 'Deny', allowancePercent: 0 },
      onStale: { afterMs: 86_400_000, action: 'Continue' },
      retrieval: { toolNames: [], tags: [] },
      taskBoundary: { toolNames: [] },
      resolution: { toolNames: [], reopenWindowMs: 72 * 3_600_000 },
      hostedTools: {},
      prices: [],
    },
    parts,
  )
  return { ...config, hash: hashOf(config) }
}

/** A period that does not end while tests run: what is used of it stays used. */
export function makePeriod(unit: Period['unit']): Period {
  return { unit, timeZone: TIME_ZONE, anchorDay: 1 }
}

function hashOf(value: object): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, 16)
}

/** Deep for plain objects; lists and everything else are replaced. */
function merge<T extends object>(base: T, parts: Parts<T>): T {
  const merged: Record<string, unknown> = Object.fromEntries(Object.entries(base))
  for (const [key, value] of Object.entries(parts)) {
    const before = merged[key]
    merged[key] = isPlain(before) && isPlain(value) ? merge<object>(before, value) : value
  }
  return merged as T
}

function isPlain(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
