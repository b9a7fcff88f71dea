/** Where the calls of a budget's pods go: what it declares, or else the usual providers. */
import type { ConversationBudget } from '@farebox/crds/conversation-budget.ts'

export type DeclaredUpstream = ConversationBudget['spec']['upstreams'][number]

export function upstreamsOf({ spec }: Pick<ConversationBudget, 'spec'>): readonly DeclaredUpstream[] {
  return spec.upstreams.length === 0 ? DEFAULT_UPSTREAMS : spec.upstreams
}

/** What a budget without upstreams goes to. */
const DEFAULT_UPSTREAMS: readonly DeclaredUpstream[] = [
  { name: 'openai', provider: 'openai', baseURL: 'https://api.openai.com/v1' },
  { name: 'anthropic', provider: 'anthropic', baseURL: 'https://api.anthropic.com/v1' },
  { name: 'gemini', provider: 'google', baseURL: 'https://generativelanguage.googleapis.com' },
].map((upstream) => ({ ...upstream, injectUsage: 'Auto', outputLimitField: 'max_completion_tokens', deployments: [] }))
