/** The context window that a tier sells: what is longer is summarised between turns, cut here, or refused. */
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import type { Edit } from './conversation.ts'
import { shapedOf } from './edit-log.ts'
import { dropOldest } from './history-cut.ts'
import { UNTALKED_WIRES } from './request.ts'
import type { ModelRequest, Message } from './request.ts'
import type { Shaped } from './shape.ts'

export interface WindowInput {
  readonly request: ModelRequest
  readonly shaped: Shaped
  /** The log that `shaped` was made with; its new edits come on top. */
  readonly edits: readonly Edit[]
  readonly context: Contract['context']
  readonly atBoundary: boolean
  /** Input tokens of a request with these messages, an upper estimate. */
  readonly tokensOf: (messages: readonly Message[]) => number
  /** No count of the provider serves for this history, nor for what is cut of it: the next turn is estimated as a whole, too. */
  readonly isUncounted?: () => boolean
  readonly newId: () => string
}

export type WindowResult = { readonly status: 'ok'; readonly shaped: Shaped } | { readonly status: 'refuse' }

/**
 * `Summarize` makes its summaries between turns, before the window is full; a turn that overtakes its summary loses its
 * oldest turns instead, as with `DropOldest`. Inside a tool loop nothing is cut: the loop ends on what it began with.
 */
export function fitWindow({ request, shaped, edits, context, atBoundary, tokensOf, isUncounted, newId }: WindowInput): WindowResult {
  const { windowTokens, summarizeAfterPercent } = context
  if (windowTokens === undefined || UNTALKED_WIRES.has(request.wire) || tokensOf(shaped.messages) <= windowTokens)
    return { status: 'ok', shaped }
  if (context.overflow === 'Refuse') return { status: 'refuse' }
  if (!atBoundary) return { status: 'ok', shaped }
  // Nobody here can cut what the provider keeps: the call goes on at its own price, and says so.
  if (request.earlier !== null)
    return { status: 'ok', shaped: { ...shaped, skipped: [...shaped.skipped, { rung: 'Summarize', reason: 'serverHistory' }] } }
  const log = shaped.newEdits.length === 0 ? edits : [...edits, ...shaped.newEdits]
  const dropped = dropOldest({
    request,
    edits: log,
    fits: (messages) => tokensOf(messages) <= windowTokens,
    // The next count finds room behind a cut, as estimates lie above it. Where there will be none, room is left, or each turn would be cut.
    ...(isUncounted?.() === true ? { leavesRoom: (messages) => tokensOf(messages) * 100 <= windowTokens * summarizeAfterPercent } : {}),
    newId,
  })
  switch (dropped.status) {
    case 'fits':
      return { status: 'ok', shaped }
    case 'exceeds':
      return { status: 'refuse' }
    case 'cut': {
      const decided = { newEdits: [...shaped.newEdits, dropped.edit], skipped: shaped.skipped }
      return { status: 'ok', shaped: shapedOf(request, dropped.entries, decided) }
    }
  }
}

/** Whether a summary should be prepared after a turn of this input, by the measure that the next one is cut by: the window fills up. */
export function windowFills(context: Contract['context'], inputTokens: number): boolean {
  const { windowTokens, overflow, summarizeAfterPercent } = context
  return windowTokens !== undefined && overflow === 'Summarize' && inputTokens * 100 >= windowTokens * summarizeAfterPercent
}
