/** What the provider bills of an answer that broke off, estimated from above: what was seen of it, and what may have been on its way. */
import type { Usage } from '@farebox/crds/usage.ts'
import { usageOf } from '@farebox/crds/usage.ts'
import type { Plan } from './plan.ts'
import { searchesOf } from './request.ts'
import type { ModelRequest } from './request.ts'

/** Output that a provider may have made before it noticed that nobody listens: some tokens, and what it makes meanwhile. */
const UNSEEN_TOKENS = 32
const NOTICE_SECONDS = 0.02
/** For output that is not shown while it is made (reasoning, plain answers, a stream that has not begun): a fast model's rate. */
const HIDDEN_TOKENS_PER_SECOND = 1_000

export interface BrokenAnswer {
  readonly plan: Pick<Plan, 'priced' | 'choices' | 'inputTokens' | 'bound'>
  readonly request: Pick<ModelRequest, 'hosted' | 'units'>
  /** The bound of its output that was sent, per answer. */
  readonly outputTokens: number
  /** Output tokens that came, of all answers. */
  readonly seenTokens: number
  /** Since the call was sent. */
  readonly seconds: number
  /** Highest exact / heuristic ratio for the model. */
  readonly factor: number
  /** What the provider has counted so far; some streams begin with their input. */
  readonly counted: Usage | null
}

/** `isUnseen`: nobody can see how often the context was read by then, or how much was made of it; all that was held may be billed. */
export function brokenUsage(answer: BrokenAnswer): { readonly usage: Usage; readonly isUnseen: boolean } {
  const { plan, request, outputTokens, seenTokens, seconds, factor, counted } = answer
  const { hosted, units } = request
  // A model that reasons bills what it does not show; so does an answer of which nothing has come yet.
  const isHidden = plan.priced.capabilities.reasoning || seenTokens === 0
  const rate = isHidden ? HIDDEN_TOKENS_PER_SECOND * plan.choices : seenTokens / Math.max(seconds, NOTICE_SECONDS)
  const unseen = Math.ceil(rate * (isHidden ? seconds + NOTICE_SECONDS : NOTICE_SECONDS)) + UNSEEN_TOKENS * plan.choices
  const output = Math.max(Math.min(outputTokens * plan.choices, seenTokens + unseen), units.output ?? 0)
  const isUnseen = hosted.rereads || Object.keys(units).length > 0
  if (counted !== null && !hosted.rereads) return { usage: { ...counted, output: Math.max(counted.output, output) }, isUnseen }
  const input = isUnseen ? plan.inputTokens : Math.min(plan.inputTokens, plan.bound.at(factor))
  return {
    usage: usageOf({ ...units, uncachedInput: input, output, webSearchCalls: searchesOf({ hosted, choices: plan.choices }) }),
    isUnseen,
  }
}
