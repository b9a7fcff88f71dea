/** What a decision is made from, and what comes of it. */
import type { Effort, PricedModel, PriceList } from '@farebox/crds/prices.ts'
import type { Rung, RungReason } from '@farebox/crds/ladder.ts'
import type { NoticeOccasion, SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import type { NanoUsd, PicoUsd } from '@farebox/crds/usd.ts'
import type { Refusal } from '../errors.ts'
import type { Conversation, Edit } from './conversation.ts'
import type { CountedInput, InputBound } from './estimate.ts'
import type { Readings } from './readings.ts'
import type { Message, ModelRequest } from './request.ts'
import type { ModelSwap, Shaped } from './shape.ts'
import type { Downgrade } from './swap.ts'
import type { Balance, Terms } from './terms.ts'

export interface DecideInput {
  readonly request: ModelRequest
  readonly terms: Terms
  readonly conversation: Conversation
  readonly balances: readonly Balance[]
  readonly config: Pick<SidecarConfig, 'retrieval' | 'onUnknownModel' | 'hostedTools' | 'contracts'>
  readonly provider: string
  /** As they hold at the upstream that is asked. */
  readonly prices: PriceList
  readonly nowMs: number
  /** Highest exact / heuristic ratio seen for a model, never below 1. */
  readonly factorOf: (model: string) => number
  /** The service tier in which an upstream (null: the one that is asked) serves calls that leave it to the account; null: not known. */
  readonly accountTierOf: (model: string, upstream: string | null) => string | null
  /** Models to which a swap failed in this conversation: not tried again. */
  readonly failedSwaps: ReadonlySet<string>
  /** Who serves a downgrade's model; null where nobody does whom this request can be sent to. */
  readonly serverOf: (downgrade: Downgrade) => Server | null
  /** False: the provider refused this history as we edited it, and it goes out as it comes. */
  readonly mayEdit: boolean
  /** The most tokens of the history that the provider keeps, as the model that is asked for counts them; 0 where there is none. */
  readonly earlierTokens: number
  /** That is no more than a whole context: the provider was not asked yet, as the history has moved to another model. Absent: it was. */
  readonly earlierIsOpen?: boolean
  /** The same as another model counts them; null where only the provider can say. Absent: it must. */
  readonly earlierTokensOf?: (model: string) => number | null
  /** The provider can be asked how long an input is, at no cost. Absent: it cannot. */
  readonly mayCount?: boolean
  /** What it said so far. Absent: nothing. */
  readonly counted?: readonly CountedInput[]
  readonly newId: () => string
}

/** `upstream` null: the one that was asked. `prices`: as they hold there; absent: as at the one that was asked. */
export interface Server {
  readonly provider: string
  readonly upstream: string | null
  readonly prices?: PriceList
}

export type Decision =
  | { readonly status: 'go'; readonly plan: Plan }
  /** No admissible call fits, or the last threshold is reached. */
  | {
      readonly status: 'end'
      readonly percent: number
      readonly reason: RungReason
      readonly account: string
      /** What is in the way is this part of the request alone: nothing ends by it. */
      readonly tooLarge?: TooLarge
      /** The call would fit as the first of a session. */
      readonly fitsAfresh: boolean
    }
  /** A file does not fit by anything that is known here: the provider is to be asked how long this input is. */
  | ({ readonly status: 'count' } & ToCount)
  /** It would fit, but for the input of calls in flight, which is held by its bound: less of it may be billed. */
  | { readonly status: 'wait'; readonly percent: number; readonly account: string }
  /** `by`: the rung that refuses it, which may have risen with this call; absent: it is refused on any. */
  | { readonly status: 'refuse'; readonly refusal: Refusal; readonly by?: Pick<Plan, 'reason'> & { readonly rung: Rung } }

export interface ToCount {
  readonly model: string
  /** As they would be sent. */
  readonly messages: readonly Message[]
  /** As `RequestChange` has it. */
  readonly effort?: Effort | null
}

/** An attachment for which there is no money left, or a message, or tools that the provider runs, for which no budget has enough. */
export interface TooLarge {
  readonly what: 'attachment' | 'message' | 'tools'
  /** The part of the request. */
  readonly param: string
}

/** A call that can be made, and the money that it needs. */
export interface Plan {
  readonly rungs: readonly Rung[]
  /** Rungs that came into effect with this turn: the conversation's own, and the user's. */
  readonly risen: readonly Rung[]
  readonly risenForUser: readonly Rung[]
  /** Those in effect until the next user turn begins: as `turnRungs` of the conversation. */
  readonly turnRungs: readonly Rung[]
  readonly reason: RungReason | null
  readonly percent: number
  readonly atBoundary: boolean
  readonly model: string
  readonly priced: PricedModel
  readonly swap: ModelSwap | null
  readonly shaped: Shaped
  /** Edits made between turns that come into force with this one: they join the log. */
  readonly promoted: readonly Edit[]
  readonly refuseTools: boolean
  readonly bound: InputBound
  /** Input tokens that the hold covers. */
  readonly inputTokens: number
  readonly inputCost: NanoUsd
  /** Of that, what is nearly certain to be billed: counts as used while the call is in flight. */
  readonly likelyInputCost: NanoUsd
  /** Holds for the least useful and for the whole output. */
  readonly atLeast: NanoUsd
  readonly atMost: NanoUsd
  readonly outputRate: PicoUsd
  readonly choices: number
  readonly outputTokensMax: number
  /** The most calls of hosted tools that the hold covers, where the request itself bounds none; null: nothing to bound. */
  readonly hostedCalls: number | null
  /** Money allows fewer of them than the request and the owner do. */
  readonly hostedCallsCut: boolean
  /** How often the provider may read the context in it; null: once. */
  readonly readings: Readings | null
  /** Service tiers in which it may be served: the dearest is held for (`possibleTiers`). */
  readonly serviceTiers: readonly (string | null)[]
  /** What users should be told about this turn; an upgrade is told on every turn from its threshold on. */
  readonly occasions: readonly NoticeOccasion[]
}
