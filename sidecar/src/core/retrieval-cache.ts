/**
 * Retrieved context that the provider's cache holds: leaving it out has all that stands behind it written anew, which may cost more than
 * it ever saves. What is new is in no cache, and goes in any case.
 */
import type { Prices } from '@farebox/crds/prices.ts'
import type { Edit, ExactCount } from './conversation.ts'
import { messagesOf, replayCounted, replayEntries } from './edit-log.ts'
import type { Entry } from './edit-log.ts'
import { isOfThis } from './estimate.ts'
import type { DecideInput } from './plan.ts'
import { asWritten, isWarm } from './provider-cache.ts'
import type { DropsFrom, Passage } from './retrieval.ts'
import { costLike, expectedFurtherCalls } from './summary.ts'
import { freeOf, tightestOf } from './terms.ts'

/** Ways to leave out retrieved context beside all of it; null: there is no reason for that one. */
export interface DropWays {
  /** As it pays, for the sake of a warm cache: to be tried first. */
  readonly sparing: DropsFrom | null
  /** That of new messages alone, where the call fits in no other way: what an edit writes into counted ones is bounded by its bytes. */
  readonly newOnly: DropsFrom | null
}

export const ONE_WAY: DropWays = { sparing: null, newOnly: null }

/** The ways for a call that goes out with `log`, the edits that are in force now. */
export function dropWays(input: DecideInput, log: readonly Edit[]): DropWays {
  const { request, conversation, prices, provider, nowMs } = input
  const { exact, edits } = conversation
  if (exact === null) return ONE_WAY
  const counted = replayCounted(request, edits, exact).entries
  if (!isCounted(input, exact, counted)) return ONE_WAY
  const newFrom = counted.find(({ index }, position) => position >= exact.messages && index !== null)?.index ?? request.messages.length
  const newOnly: DropsFrom = () => newFrom

  const { entries } = replayEntries(request, log)
  const priced = exact.cachedTokens > 0 ? prices.find(provider, exact.model, nowMs) : null
  // Where a summary comes now, that breaks the cache by itself.
  if (priced === null || !isWarm(request, exact, priced, nowMs) || !isCounted(input, exact, entries)) return { sparing: null, newOnly }
  const rates = asWritten(request, priced.pricesFor(exact.inputTokens, null))
  const cache = (): Cache => ({
    prices: rates,
    behind: cachedBehind(entries, exact, request.fixedBytes),
    calls: callsExpected(input, exact, rates),
  })
  return { sparing: (passages) => payingFrom(passages, cache()) ?? newFrom, newOnly }
}

function isCounted({ request, earlierTokens }: DecideInput, exact: ExactCount, entries: readonly Entry[]): boolean {
  const messages = messagesOf(request, entries)
  return isOfThis(exact, { messages, fixedDigest: request.fixedDigest, model: exact.model, earlierTokens })
}

interface Cache {
  readonly prices: Prices
  /** Bytes that the cache holds from each of the counted entries on. */
  readonly behind: readonly number[]
  /** That are still expected. */
  readonly calls: bigint
}

/**
 * Of the counted passages, the one from which on leaving out saves most; null where none pays. With `saved` bytes of passages from there on,
 * and `behind` bytes that the cache holds from there on, each call saves
 *
 *   saved x read, and the first one pays (behind - saved) x (write - read)
 *
 * Bytes stand for tokens: how many there are to a token is the same on both sides.
 */
function payingFrom(passages: readonly Passage[], { prices, behind, calls }: Cache): number | null {
  const read = prices.cacheReadInput
  const write = prices.cacheWriteInput > prices.uncachedInput ? prices.cacheWriteInput : prices.uncachedInput
  let best: { readonly index: number; readonly gain: bigint } | null = null
  let saved = 0
  for (const { index, position, savedBytes } of passages.toReversed()) {
    const held = behind[position]
    if (held === undefined) continue // new
    saved += savedBytes
    const anew = BigInt(Math.max(0, held - saved)) * (write > read ? write - read : 0n)
    const gain = BigInt(saved) * read * calls - anew
    if (gain >= (best?.gain ?? 0n)) best = { index, gain }
  }
  return best?.index ?? null
}

/** The cache holds a beginning of what was counted: as much of its bytes as of its tokens. */
function cachedBehind(entries: readonly Entry[], exact: ExactCount, fixedBytes: number): readonly number[] {
  const sizes = entries.slice(0, exact.messages).map(({ message }) => message.bytes.length - message.mediaBytes)
  const total = sizes.reduce((sum, size) => sum + size, fixedBytes)
  let behind = Math.floor((total * exact.cachedTokens) / Math.max(1, exact.inputTokens)) - fixedBytes
  return sizes.map((size) => {
    const here = Math.max(0, behind)
    behind -= size
    return here
  })
}

function callsExpected({ balances, conversation }: DecideInput, exact: ExactCount, prices: Prices): bigint {
  const remaining = freeOf(tightestOf(balances))
  return BigInt(expectedFurtherCalls({ turns: conversation.turns, remaining, lastCost: costLike(exact, prices) }))
}
