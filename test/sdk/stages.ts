/** Where on its way a conversation is when an SDK calls: not governed at all, on each rung of the ladder, or at its end. */
import type { Rung } from '@farebox/crds/ladder.ts'
import type { Contract, SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import type { Sdk, Way } from './sdk.ts'

export interface Stage {
  /** Its tier. `direct`: the provider itself, without a sidecar. */
  readonly name: string
  /** As docs/sdks.md calls it. */
  readonly words: string
  readonly rung: Rung | 'None'
  /** In a conversation at its cap nothing more is bought. */
  readonly atCap: boolean
  /** What a call comes to. */
  expected(way: Way, structuredBy: Sdk['structuredBy']): Expected
}

export type Expected =
  /** An answer of the model, or of ours to say goodbye; or a refusal with this code. */
  { readonly status: 'answered' | 'closed' } | { readonly status: 'refused'; readonly code: string }

const ANSWERED: Expected = { status: 'answered' }
const CLOSED: Expected = { status: 'closed' }
const EXHAUSTED: Expected = { status: 'refused', code: 'conversation_budget_exhausted' }
const TOOLS_REFUSED: Expected = { status: 'refused', code: 'tool_calls_refused' }

export const DIRECT: Stage = { name: 'direct', words: 'no sidecar', rung: 'None', atCap: false, expected: () => ANSWERED }
export const GOVERNED: readonly Stage[] = [
  { name: 'no-rung', words: 'below its thresholds', rung: 'None', atCap: false, expected: () => ANSWERED },
  { name: 'drop-retrieval', words: '`DropRetrieval`', rung: 'DropRetrieval', atCap: false, expected: () => ANSWERED },
  { name: 'summarize', words: '`Summarize`', rung: 'Summarize', atCap: false, expected: () => ANSWERED },
  { name: 'downgrade-model', words: '`DowngradeModel`', rung: 'DowngradeModel', atCap: false, expected: () => ANSWERED },
  {
    name: 'refuse-tools',
    words: '`RefuseTools`',
    rung: 'RefuseTools',
    atCap: false,
    expected: (way, by) => (way === 'forced' || (way === 'structured' && by === 'tool') ? TOOLS_REFUSED : ANSWERED),
  },
  {
    name: 'close',
    words: 'at its cap, `end: Close`',
    rung: 'EndConversation',
    atCap: true,
    expected: (way) => (way === 'forced' || way === 'structured' ? EXHAUSTED : CLOSED),
  },
  { name: 'refuse', words: 'at its cap, `end: Refuse`', rung: 'EndConversation', atCap: true, expected: () => EXHAUSTED },
]

/** Two answers of `WARM_UP_TOKENS` leave less than the least useful one, at 10 USD per million tokens; at 15, of the model named. */
const CAP = '0.02'
const DEARER = { model: 'claude-sonnet-4-5', cap: '0.031' }
const PLENTY = '0.50'
export const WARM_UP_TOKENS = 900

/** Of models that are newer than the catalogue. */
const PRICES: SidecarConfig['prices'] = [
  { input: '2', cacheRead: '0.10', output: '10', model: 'claude-sonnet-5-5' },
  { input: '0.10', cacheRead: '0.01', output: '0.50', model: 'claude-haiku-5-5' },
].map((price) => ({ ...price, provider: 'anthropic', steps: [], serviceTierPercent: {}, toolFees: {} }))

export const RETRIEVAL_TAG = 'retrieved'
/** A passage that the app marks as retrieved: long enough to be worth dropping. */
export const PASSAGE = 'Parcels to the Netherlands are sorted in Rotterdam before they go on by lorry. '.repeat(6).trim()

/** One tier for each stage, over the fake provider's four dialects. */
export function matrixConfig(providerUrl: string, { from, to }: Sdk['downgrade']): SidecarConfig {
  const contracts = GOVERNED.map(({ name, rung, atCap }): Contract => {
    const end = name === 'refuse' ? 'Refuse' : 'Close'
    return makeContract({
      tier: name,
      caps: { perConversation: atCap ? (from === DEARER.model ? DEARER.cap : CAP) : PLENTY },
      context: { overflow: 'DropOldest', keepRecentTurns: 1 },
      models: { allow: [], downgrades: [{ from, to }], summarizer: to, usefulOutputTokens: 256 },
      ladder: [
        ...(rung === 'None' || rung === 'EndConversation' ? [] : [{ atPercent: 0, rung }]),
        { atPercent: 100, rung: 'EndConversation', end },
      ],
    })
  })
  const upstream: Omit<SidecarConfig['upstreams'][number], 'name' | 'provider' | 'baseUrl'> = {
    credential: 'Passthrough',
    injectUsage: 'Auto',
    outputLimitField: 'max_completion_tokens',
    deployments: [],
  }
  return makeConfig('', contracts, {
    retrieval: { toolNames: [], tags: [RETRIEVAL_TAG] },
    prices: PRICES,
    upstreams: [
      { ...upstream, name: 'openai', provider: 'openai', baseUrl: `${providerUrl}/v1` },
      {
        ...upstream,
        name: 'azure',
        provider: 'azure',
        baseUrl: providerUrl,
        deployments: [
          { name: 'desk-large', model: 'gpt-4o' },
          { name: 'desk-small', model: 'gpt-4o-mini' },
        ],
      },
      { ...upstream, name: 'anthropic', provider: 'anthropic', baseUrl: `${providerUrl}/v1` },
      { ...upstream, name: 'gemini', provider: 'google', baseUrl: providerUrl },
    ],
  })
}
