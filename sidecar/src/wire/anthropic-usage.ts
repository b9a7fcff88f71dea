/** Anthropic's `usage` -> `Usage`. https://platform.claude.com/docs/en/api/messages, https://platform.claude.com/docs/en/about-claude/pricing */
import { servedAs } from '@farebox/crds/prices.ts'
import { usageOf } from '@farebox/crds/usage.ts'
import type { Usage } from '@farebox/crds/usage.ts'
import type { OtherUsage } from '../core/cost.ts'
import { isObject } from '../core/message.ts'
import type { Json, JsonObject, ModelRequest } from '../core/request.ts'
import { objectsIn } from './json-values.ts'
import { ABSENT, details, INVALID, Numbers, OTHERS_MAX, servedModel, toldCost } from './usage-reading.ts'
import type { UsageReading } from './usage-reading.ts'

/**
 * `input_tokens` excludes what was read from the cache and written to it; `output_tokens` is all that is billed, thinking included.
 * Writes without a life are short, unless the request asked for a long one (`asked`): the end of a stream has the writes of all passes, and
 * the lives of the first alone. Where `iterations` are listed, each pass over the context is one, with a model of its own or the
 * one that answered, and only they hold what compaction and advisors used: then they count, and the totals do not.
 */
export function readAnthropicUsage(raw: Json | undefined, asked: ModelRequest['cacheWrites'] = 'short'): UsageReading {
  if (raw === undefined || raw === null) return ABSENT
  if (!isObject(raw)) return INVALID
  const numbers = new Numbers()
  const searches = numbers.read(details(raw, 'server_tool_use')['web_search_requests']) ?? 0
  const iterations = objectsIn(raw['iterations'])
  const passes = (iterations.length > 0 ? iterations : [raw]).map((pass) => readPass(pass, numbers, asked))
  if (numbers.broken) return INVALID
  const read = passes.filter((pass) => pass !== null)
  const answer = read.findLast(({ answers }) => answers) ?? read.at(-1)
  if (answer === undefined) return ABSENT
  const others = read.filter((pass) => pass !== answer)
  return {
    usage: { ...answer.usage, webSearchCalls: searches },
    ...(others.length === 0 ? {} : { others: folded(others) }),
    ...toldCost(raw),
    clamped: read.some(({ clamped }) => clamped),
    invalid: false,
  }
}

/**
 * Whether the input of an answer with these blocks sums up several readings of the context, between which the provider ran tools. Where
 * `iterations` are listed it does not: each pass is counted for itself.
 */
export function isSummed(raw: Json | undefined, blockTypes: Iterable<Json | undefined>): boolean {
  const usage = isObject(raw) ? raw : {}
  if (objectsIn(usage['iterations']).length > 0) return false
  if (Object.values(details(usage, 'server_tool_use')).some((count) => typeof count === 'number' && count > 0)) return true
  for (const type of blockTypes) if (isHostedCall(type)) return true
  return false
}

/** After how many calls the context of such an answer was read again, at the most: those that run inside of another's code are among them. */
export function hostedCallsOf(raw: Json | undefined, blockTypes: Iterable<Json | undefined>): number {
  let told = 0
  for (const count of Object.values(details(isObject(raw) ? raw : {}, 'server_tool_use'))) if (typeof count === 'number') told += count
  let begun = 0
  for (const type of blockTypes) if (isHostedCall(type)) begun += 1
  return Math.max(told, begun)
}

export function isHostedCall(type: Json | undefined): boolean {
  return type === 'server_tool_use' || type === 'mcp_tool_use'
}

/**
 * Whether the provider bills nothing of an answer that came to `blocks` blocks: it declined before it wrote anything. The counts of its
 * usage say what was read all the same. `end`: the answer, or what the end of a stream says of it. One without `stop_details` is of older
 * models, or another server, of which nothing of the kind is written.
 * https://platform.claude.com/docs/en/build-with-claude/refusals-and-fallback#how-refusals-are-billed
 */
export function isUnbilledRefusal({ stop_reason: reason, stop_details: details }: JsonObject, blocks: number): boolean {
  return reason === 'refusal' && blocks === 0 && isObject(details) && !BILLED_REFUSALS.has(details['category'])
}

/** Categories of refusals that are billed like any other answer. All others are not, nor is one without a category. */
const BILLED_REFUSALS: ReadonlySet<Json | undefined> = new Set(['bio', 'frontier_llm', 'reasoning_extraction'])

/** What is billed where the pass that was to answer is not, whatever is said of it. */
export function unbilled(reading: UsageReading): UsageReading {
  return { ...reading, usage: usageOf({}) }
}

/** How a call was served, of what changes its price: the tier, `speed: fast`, `inference_geo: us`. Null: nothing was said. */
export function readServed(raw: Json | undefined): string | null {
  if (raw === undefined || !isObject(raw)) return null
  return servedAs(['service_tier', 'speed', 'inference_geo'].map((field) => raw[field]).filter((word) => typeof word === 'string'))
}

/**
 * The usage of a stream: `message_start` has the input, each `message_delta` has totals so far, of which those that it leaves out or
 * gives as null are as they were.
 */
export function mergeAnthropicUsage(before: JsonObject, delta: JsonObject): JsonObject {
  const merged: Record<string, Json | undefined> = { ...before }
  for (const [field, value] of Object.entries(delta)) if (value !== null && value !== undefined) merged[field] = value
  return merged
}

interface Pass extends OtherUsage {
  readonly answers: boolean
  readonly clamped: boolean
}

/** Null when it says nothing of input or output. */
function readPass(raw: JsonObject, numbers: Numbers, asked: ModelRequest['cacheWrites']): Pass | null {
  const created = details(raw, 'cache_creation')
  const input = numbers.read(raw['input_tokens'])
  const output = numbers.read(raw['output_tokens'])
  const cacheReadInput = numbers.read(raw['cache_read_input_tokens']) ?? 0
  const short = numbers.read(created['ephemeral_5m_input_tokens']) ?? 0
  const long = numbers.read(created['ephemeral_1h_input_tokens']) ?? 0
  const written = numbers.read(raw['cache_creation_input_tokens']) ?? short + long
  if (input === null || output === null) return null
  const without = Math.max(0, written - short - long)
  const cacheWriteLongInput = Math.min(asked === 'long' ? long + without : long, written)
  return {
    model: servedModel(raw['model']),
    answers: !ASIDE.has(raw['type']),
    usage: usageOf({ uncachedInput: input, cacheReadInput, cacheWriteInput: written - cacheWriteLongInput, cacheWriteLongInput, output }),
    clamped: short + long > written,
  }
}

/** Passes that do not give the answer. */
const ASIDE: ReadonlySet<Json | undefined> = new Set(['compaction', 'advisor_message'])

/** At most `OTHERS_MAX`; nobody makes as many passes, and what a hostile answer lists is summed up. */
function folded(others: readonly Pass[]): OtherUsage[] {
  const kept = others.slice(0, OTHERS_MAX).map(({ model, usage }) => ({ model, usage }))
  const last = kept.at(-1)
  if (last === undefined || others.length <= OTHERS_MAX) return kept
  const rest = others.slice(OTHERS_MAX - 1).map(({ usage }) => usage)
  return [...kept.slice(0, -1), { model: last.model, usage: rest.reduce(sum) }]
}

function sum(a: Usage, b: Usage): Usage {
  const total: Record<string, number> = { ...a }
  for (const [kind, count] of Object.entries(b)) total[kind] = (total[kind] ?? 0) + count
  return usageOf(total)
}
