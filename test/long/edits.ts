/** What a sidecar changed of a conversation, as the provider saw it: where its history was cut, and what that did to the cache. */
import type { PlayedCall } from './play.ts'

/** A label that stands in the place of a history: `left out: turns 1-7`, `summarised by farebox: turns 1-7`. */
const LABEL = /\[Earlier conversation (left out: turns? [\d-]+|summarised by farebox: turns? [\d-]+)/

/** The label in the body of a request; null where nothing was cut. It stands right after the instructions. */
export function labelIn(body: Buffer): string | null {
  return LABEL.exec(body.toString('latin1'))?.[1] ?? null
}

/** Percent of input that came from the cache, of all calls of a kind. */
export interface CachedShares {
  /** Calls just before an edit, those that carry a new one, those just after, and all calls. */
  readonly before: number
  readonly at: number
  readonly after: number
  readonly all: number
}

/** Indexes of the calls that went out with another cut than the one before. */
export function editedCalls(labels: readonly (string | null)[]): readonly number[] {
  return labels.flatMap((label, index) => (label !== (index === 0 ? null : labels[index - 1]) ? [index] : []))
}

export function cachedShares(calls: readonly PlayedCall[], edited: readonly number[]): CachedShares {
  const edits = new Set(edited)
  const share = (wanted: (index: number) => boolean): number => {
    const chosen = calls.filter((_, index) => wanted(index))
    const input = chosen.reduce((sum, call) => sum + call.input, 0)
    return input === 0 ? 0 : (100 * chosen.reduce((sum, call) => sum + call.cached, 0)) / input
  }
  return {
    before: share((index) => edits.has(index + 1)),
    at: share((index) => edits.has(index)),
    after: share((index) => edits.has(index - 1) && !edits.has(index)),
    all: share(() => true),
  }
}
