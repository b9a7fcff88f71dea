/** What the rungs and the edit log make of a request's messages. */
import type { Rung } from '@farebox/crds/ladder.ts'
import type { Edit } from './conversation.ts'
import { replayEntries, shapedOf } from './edit-log.ts'
import { isAnyOnlyNamed } from './message.ts'
import type { ModelRequest } from './request.ts'
import { dropRetrieval } from './retrieval.ts'
import type { DropsFrom } from './retrieval.ts'
import type { Shaped, ShapeRules } from './shape.ts'

export interface ShapeInput {
  readonly request: ModelRequest
  /** The conversation's edit log. */
  readonly edits: readonly Edit[]
  /** All rungs in effect. */
  readonly rungs: readonly Rung[]
  readonly rules: ShapeRules
  /** As `isBoundary` gives it: away from a boundary the log is replayed and nothing else. */
  readonly atBoundary: boolean
  /** Names each new edit. */
  readonly newId: () => string
  /** Which retrieved context goes; absent: all. */
  readonly dropsFrom?: DropsFrom
}

/**
 * Replays the log, then drops retrieved context when that rung is in effect and a user turn begins: of older turns, as far as `dropsFrom`
 * says, and what the new user message itself carries. Summaries are made between turns and arrive in the log. Shaping again,
 * with `newEdits` in the log, gives the same bytes and no further edits.
 */
export function shape({ request, edits, rungs, rules, atBoundary, newId, dropsFrom }: ShapeInput): Shaped {
  const replayed = replayEntries(request, edits)
  const skipped: Shaped['skipped'][number][] = []
  // What the provider keeps of the history is not ours to rewrite.
  const isKept = request.earlier !== null
  if (rungs.includes('Summarize') && replayed.cut?.cause !== 'Summarize')
    skipped.push({ rung: 'Summarize', reason: isKept || isAnyOnlyNamed(request.messages) ? 'serverHistory' : 'noSummary' })
  if (rungs.includes('RefuseTools') && request.tools === 'none') skipped.push({ rung: 'RefuseTools', reason: 'noTools' })
  if (!rungs.includes('DropRetrieval') || !atBoundary) return shapedOf(request, replayed.entries, { newEdits: [], skipped })

  const dropped = dropRetrieval({ request, entries: replayed.entries, rules, digestAt: replayed.digestAt, newId, from: dropsFrom })
  const hasDropped = dropped.entries.some((entry) => entry.edit?.kind === 'replace')
  if (dropped.spared > 0 && dropped.edits.length === 0) skipped.unshift({ rung: 'DropRetrieval', reason: 'noSaving' })
  else if (!hasDropped) skipped.unshift({ rung: 'DropRetrieval', reason: isKept ? 'serverHistory' : 'noMarker' })
  return shapedOf(request, dropped.entries, { newEdits: dropped.edits, skipped })
}
