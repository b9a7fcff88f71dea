/** What the provider bills of an answer that broke off, estimated from above: what was seen of it, and what may have been on its way. */
import type { Usage } from '@farebox/crds/usage.ts'
import { OUTPUT_KINDS, usageOf } from '@farebox/crds/usage.ts'
import type { Plan } from './plan.ts'
import { searchesOf } from './request.ts'
import type { ModelRequest } from './request.ts'

/** Output that a provider may have made before it noticed that nobody listens: some tokens, and what it makes meanwhile. */
const UNSEEN_TOKENS = 32
const NOTICE_SECONDS = 0.02
/** For output that is not shown while it is made (reasoning, plain answers, a stream that has not begun): a fast model's rate. */
const HIDDEN_TOKENS_PER_SECOND = 1_000

export interface BrokenAnswer {
  readonly plan: Pick<Plan, 'priced' | 'choices' | 'inputTokens' | 'bound' | 'outputRate'>
  readonly request: Pick<ModelRequest, 'hosted' | 'units'>
  /** The bound of its output that was sent, per answer. */
  readonly outputTokens: number
  /** Output tokens that came, of all answers. */
  readonly seenTokens: number
  /** Of these, of text: what else came may be sound or pictures. */
  readonly textTokens: number
  /** Something came that nobody here can measure. */
  readonly isUnread: boolean
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
  const made = Math.min(outputTokens * plan.choices, seenTokens + unseen)
  const isHeldWhole = hosted.rereads || Object.keys(units).length > 0
  const isUnseen = isHeldWhole || answer.isUnread
  if (counted !== null && !hosted.rereads) return { usage: withOutput(counted, made, answer), isUnseen }
  const input = isHeldWhole ? plan.inputTokens : Math.min(plan.inputTokens, plan.bound.at(factor))
  const known = usageOf({ ...units, uncachedInput: input, webSearchCalls: searchesOf({ hosted, choices: plan.choices }) })
  return { usage: withOutput(known, made, answer), isUnseen }
}

/** `made` tokens in all: sound and pictures that were counted are that, what came as text is text, and the rest what it was held for as. */
function withOutput(usage: Usage, made: number, { plan, textTokens }: BrokenAnswer): Usage {
  const output = Math.max(usage.output, made - usage.audioOutput - usage.imageOutput)
  const kind = heldKind(plan)
  if (kind === 'output') return { ...usage, output }
  const text = Math.min(output, textTokens)
  return { ...usage, output: text, [kind]: usage[kind] + output - text }
}

/** The dearest kind of output that the hold has money for; of several, text. */
function heldKind({ priced, inputTokens, outputRate }: BrokenAnswer['plan']): (typeof OUTPUT_KINDS)[number] {
  const prices = priced.pricesFor(inputTokens, null)
  let held: (typeof OUTPUT_KINDS)[number] = 'output'
  for (const kind of OUTPUT_KINDS) if (prices[kind] > prices[held] && prices[kind] <= outputRate) held = kind
  return held
}
