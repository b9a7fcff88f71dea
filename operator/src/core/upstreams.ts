/** Where the calls of a budget's pods go: what it declares, or else the usual providers. */
import { headerFile } from '@farebox/crds/cluster.ts'
import type { ConversationBudget } from '@farebox/crds/conversation-budget.ts'
import type { Upstream } from '@farebox/crds/sidecar-config.ts'

export type DeclaredUpstream = ConversationBudget['spec']['upstreams'][number]

export function upstreamsOf({ spec }: Pick<ConversationBudget, 'spec'>): readonly DeclaredUpstream[] {
  return spec.upstreams.length === 0 ? DEFAULT_UPSTREAMS : spec.upstreams
}

/** What sidecars hold for an upstream: the Secret of each value, and the file that they find it in. */
export interface HeldValue {
  readonly file: string
  readonly secret: SecretRef
}

export function heldOf({ name, credential, headers = [] }: DeclaredUpstream): readonly HeldValue[] {
  return [
    ...(credential === undefined ? [] : [{ file: name, secret: credential.secretRef }]),
    ...headers.flatMap((header) =>
      header.secretRef === undefined ? [] : [{ file: headerFile(name, header.name), secret: header.secretRef }],
    ),
  ]
}

type SecretRef = NonNullable<DeclaredUpstream['credential']>['secretRef']

/**
 * What bounds output there. OpenAI's new name is not everybody's: Ollama and DeepSeek take it without a word and write on, and Mistral
 * answers 422; the old one is refused by none but OpenAI's models that reason.
 * https://github.com/ollama/ollama/issues/7125, https://github.com/earendil-works/pi/issues/8018,
 * https://github.com/editor-code-assistant/eca/issues/231
 */
export function outputLimitFieldOf({ provider, outputLimitField }: DeclaredUpstream): Upstream['outputLimitField'] {
  return outputLimitField ?? (provider === 'openai' || provider === 'azure' ? 'max_completion_tokens' : 'max_tokens')
}

/** What a budget without upstreams goes to. */
const DEFAULT_UPSTREAMS: readonly DeclaredUpstream[] = [
  { name: 'openai', provider: 'openai', baseURL: 'https://api.openai.com/v1' },
  { name: 'anthropic', provider: 'anthropic', baseURL: 'https://api.anthropic.com/v1' },
  { name: 'gemini', provider: 'google', baseURL: 'https://generativelanguage.googleapis.com' },
].map((upstream) => ({ ...upstream, injectUsage: 'Auto', deployments: [] }))
