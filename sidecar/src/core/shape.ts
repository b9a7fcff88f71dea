/** Types of shaping: what the rungs, the window and the edit log make of a request. The rules are in `rewrite.ts`. */
import type { Edit } from './conversation.ts'
import type { ModelRequest, Message, RequestChange } from './request.ts'
import type { Rung } from '@farebox/crds/ladder.ts'

export interface ShapeRules {
  readonly retrieval: { readonly toolNames: readonly string[]; readonly tags: readonly string[] }
  readonly keepRecentTurns: number
}

/** A request after shaping: what to send, what was new about it, and what of the ladder did nothing. */
export interface Shaped {
  readonly messages: readonly Message[]
  /** Whether any message differs from what the client sent. */
  readonly rewritten: boolean
  /** Edits made now, to be logged; those replayed from the log are not among them. */
  readonly newEdits: readonly Edit[]
  /** The cut whose message is among them. */
  readonly cut: Extract<Edit, { kind: 'cut' }> | null
  /** Bytes that shaping kept from the provider, in all. */
  readonly savedBytes: number
  readonly skipped: readonly {
    readonly rung: Rung
    readonly reason: 'noMarker' | 'noSummary' | 'noDowngrade' | 'refused' | 'incapable' | 'noSaving' | 'noTools' | 'serverHistory'
  }[]
}

/** A swap of the model, with what must change in the request for it. */
export interface ModelSwap {
  readonly from: string
  readonly to: string
  /** The upstream that serves it, where that is another one; null: the one that was asked. */
  readonly upstream: string | null
  readonly change: Pick<RequestChange, 'drop' | 'rename' | 'effort'>
}

/** Whether the last message is a user's: the only place where history may be rewritten. */
export type AtBoundary = (request: ModelRequest) => boolean
