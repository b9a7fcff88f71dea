/** Decides what a Claude model answers: thinking, calls of the provider's own tools, words, calls of the app's. */
import type { ChatRequest } from '../chat-request.ts'
import type { Controls } from '../controls.ts'
import type { Draft, Lengths } from '../drafts.ts'
import { draftAnswers } from '../drafts.ts'
import type { ChatMessage } from '../message-checks.ts'
import type { ListPrice, Model } from '../models.ts'
import { languageOf, prose } from '../prose.ts'
import { hashOf, randomOf } from '../random.ts'
import type { Recordings } from '../recordings.ts'
import type { Turn } from './content.ts'
import { textOf } from './content.ts'
import type { Effort } from './models.ts'
import { textTokens } from './prompt.ts'
import type { ClaudeRequest, ClaudeTool } from './request.ts'

export interface ClaudeAnswer {
  readonly draft: Draft
  readonly stopReason: 'end_turn' | 'max_tokens' | 'stop_sequence' | 'tool_use' | 'refusal' | 'model_context_window_exceeded'
  readonly stopSequence: string | null
  /** The policy area of a refusal; null where it is in none of those that are named. */
  readonly refusalCategory: string | null
  /** What is shown of the thinking; empty where it is not. */
  readonly thinkingText: string
  /** The thinking comes back encrypted. */
  readonly redacted: boolean
  readonly hosted: readonly HostedCall[]
}

/** A call of one of the provider's own tools, and what it brought into the window. */
export interface HostedCall {
  readonly id: string
  readonly name: string
  readonly query: string
  /** Null: the tool was not run, since `max_uses` was reached. */
  readonly result: string | null
  readonly resultTokens: number
}

export interface AnswerOptions {
  readonly request: ClaudeRequest
  readonly controls: Controls
  readonly recorded: Recordings
  readonly lengths: Lengths
  /** Bound on output tokens, and whether it is the window rather than `max_tokens`. */
  readonly limit: number
  readonly limitIsWindow: boolean
  /** The model as the bill and the drafts know it. */
  readonly model: Model
}

/** Documented strings that make a model refuse, or encrypt its thinking, so that apps can test for it. */
const REFUSAL_TRIGGER = 'ANTHROPIC_MAGIC_STRING_TRIGGER_REFUSAL'
const REDACTED_TRIGGER = 'ANTHROPIC_MAGIC_STRING_TRIGGER_REDACTED_THINKING'
const EFFORT_TOKENS: Readonly<Record<Effort, number>> = { low: 16, medium: 32, high: 64, xhigh: 160, max: 400 }
/** Of adaptive answers, one in so many comes without thinking. */
const UNTHINKING_SHARE = 6
const SHOWN_THINKING_SHARE = 2
const RESULT_TOKENS = 400
const TOOLS_FOUND_MAX = 5

export function answerTo(options: AnswerOptions): ClaudeAnswer {
  const { request, limit } = options
  const last = textOf(request.turns.at(-1)?.blocks ?? [])
  const random = randomOf(hashOf(`${request.model.id} thinking ${request.turns.length} ${last}`))
  const everything = request.turns.map((turn) => textOf(turn.blocks)).join('\n')
  const none = { draft: nothing(), stopSequence: null, refusalCategory: null, thinkingText: '', redacted: false, hosted: [] }
  const { refusal } = options.controls
  if (limit === 0) return { ...none, stopReason: 'max_tokens' }
  if (refusal !== null) return { ...none, stopReason: 'refusal', refusalCategory: refusal === 'null' ? null : refusal }
  if (last.includes(REFUSAL_TRIGGER)) return { ...none, stopReason: 'refusal' }
  const reasoningTokens = options.controls.reasoningTokens ?? thinkingTokens(request, random)
  const controls = { ...options.controls, reasoningTokens: request.thinking.type === 'disabled' ? 0 : reasoningTokens }
  const drafted = draftOf(options, controls, request.stopSequences)
  const { draft } = drafted
  const shown = request.thinking.shown === 'summarized' ? Math.ceil(draft.reasoningTokens / SHOWN_THINKING_SHARE) : 0
  return {
    draft,
    stopReason: stopReasonOf(draft, drafted.stopSequence, options.limitIsWindow),
    stopSequence: drafted.stopSequence,
    refusalCategory: null,
    thinkingText: prose(random, shown, languageOf(last)).join(''),
    redacted: everything.includes(REDACTED_TRIGGER),
    hosted: hostedCalls(request, controls),
  }
}

/**
 * Whether the answer is on the bill. One that was declined before any output is not, but for three categories.
 * https://platform.claude.com/docs/en/build-with-claude/refusals-and-fallback#how-refusals-are-billed
 */
export function isBilled({ stopReason, refusalCategory, draft, hosted }: ClaudeAnswer): boolean {
  const isDeclined = stopReason === 'refusal' && draft.pieces.length === 0 && draft.reasoningTokens === 0 && hosted.length === 0
  return !isDeclined || refusalCategory === 'bio' || refusalCategory === 'frontier_llm' || refusalCategory === 'reasoning_extraction'
}

/** The model as bill and drafts know it, at the price of `list`. */
export function plainModel(request: ClaudeRequest, list: ListPrice): Model {
  const { id, snapshot, tokenPercent, contextTokens, maxOutputTokens } = request.model
  return { id, snapshot, tokenPercent, contextTokens, maxOutputTokens, reasoning: false, images: NO_IMAGES, price: list, tiers: {} }
}

const NO_IMAGES: Model['images'] = { kind: 'tiles', base: 0, tile: 0 }

function nothing(): Draft {
  return { pieces: [], reasoningTokens: 0, finish: 'stop', billedBefore: () => 0 }
}

/** The draft, and the stop sequence that ended it. */
function draftOf(options: AnswerOptions, controls: Controls, stops: readonly string[]): { draft: Draft; stopSequence: string | null } {
  const { request, recorded, lengths, limit, model } = options
  const chat = chatRequest(request, model)
  const draft = firstOf(draftAnswers({ ...chat, stop: stops }, controls, recorded, lengths, limit))
  if (stops.length === 0 || draft.finish !== 'stop') return { draft, stopSequence: null }
  const whole = wordsOf(firstOf(draftAnswers(chat, controls, recorded, lengths, Number.MAX_SAFE_INTEGER)))
  const kept = wordsOf(draft)
  return { draft, stopSequence: stops.find((stop) => whole.startsWith(kept + stop)) ?? null }
}

function stopReasonOf(draft: Draft, stopSequence: string | null, limitIsWindow: boolean): ClaudeAnswer['stopReason'] {
  if (draft.finish === 'length') return limitIsWindow ? 'model_context_window_exceeded' : 'max_tokens'
  if (draft.pieces.some((piece) => piece.kind === 'call')) return 'tool_use'
  return stopSequence === null ? 'end_turn' : 'stop_sequence'
}

function thinkingTokens(request: ClaudeRequest, random: ReturnType<typeof randomOf>): number {
  const { thinking } = request
  if (thinking.type === 'disabled') return 0
  // A budget is what thinking may take, not what it takes.
  if (thinking.type === 'enabled') return Math.min(thinking.budgetTokens ?? 0, 60 + random.below(180))
  const isAfterTools = request.turns.at(-1)?.blocks.some((block) => block.answers !== null) === true
  if (thinking.type === 'between_tools' && !isAfterTools) return 0
  if (random.below(UNTHINKING_SHARE) === 0) return 0
  return EFFORT_TOKENS[request.effort] + random.below(EFFORT_TOKENS[request.effort])
}

function hostedCalls(request: ClaudeRequest, controls: Controls): readonly HostedCall[] {
  if (request.toolChoice.type === 'none') return []
  const uses = new Map<string, number>()
  return (controls.hostedCalls ?? []).flatMap((name, index): readonly HostedCall[] => {
    const tool = request.tools.find((each) => each.kind === 'server' && each.type.startsWith(name)) ?? codeTool(request, name)
    if (tool === undefined) return []
    const used = (uses.get(tool.name) ?? 0) + 1
    uses.set(tool.name, used)
    const call = { id: `srvtoolu_${index.toString().padStart(24, '0')}`, name: tool.name, query: `what is new, part ${index + 1}` }
    if (tool.maxUses !== null && used > tool.maxUses) return [{ ...call, result: null, resultTokens: 0 }]
    if (name.startsWith('tool_search')) {
      const result = JSON.stringify(foundTools(request))
      return [{ ...call, result, resultTokens: textTokens(result, request.model) }]
    }
    const wanted = controls.hostedResultTokens ?? RESULT_TOKENS
    const result = prose(randomOf(hashOf(call.query)), Math.ceil((wanted * 100) / request.model.tokenPercent), 'en').join('')
    return [{ ...call, result, resultTokens: textTokens(result, request.model) }]
  })
}

/** References to tools of the request, whose definitions are in its count already. */
function foundTools({ tools }: ClaudeRequest): readonly object[] {
  const found = tools.filter(({ isDeferred }) => isDeferred).slice(0, TOOLS_FOUND_MAX)
  return found.map(({ name }) => ({ type: 'tool_reference', tool_name: name }))
}

/** Code that filters what a search finds runs without a tool of its own in the request, as often as the model likes. */
function codeTool(request: ClaudeRequest, name: string): Pick<ClaudeTool, 'name' | 'maxUses'> | undefined {
  return name === 'code_execution' && request.tools.some(({ runsCode }) => runsCode) ? { name, maxUses: null } : undefined
}

/** The request as the drafts, the summariser and the recordings read it. */
function chatRequest(request: ClaudeRequest, model: Model): ChatRequest {
  const system = textOf(request.system)
  const { toolChoice, tools } = request
  return {
    model,
    messages: [...(system === '' ? [] : [message('system', system)]), ...request.turns.flatMap(messagesOf)],
    tools: tools.flatMap((tool) =>
      tool.kind === 'client' ? [{ kind: 'function' as const, name: tool.name, schema: tool.schema, definition: tool.definition }] : [],
    ),
    legacyFunctions: false,
    toolChoice:
      toolChoice.type === 'tool' && toolChoice.name !== null
        ? { kind: 'named', name: toolChoice.name }
        : { kind: toolChoice.type === 'none' ? 'none' : toolChoice.type === 'any' ? 'required' : 'auto', among: null },
    parallelToolCalls: toolChoice.parallel,
    stream: request.stream,
    includeUsage: true,
    obfuscate: false,
    choices: 1,
    outputLimit: request.maxTokens,
    format: request.format === null ? { kind: 'text' } : { kind: 'jsonSchema', name: 'answer', schema: request.format },
    stop: [],
    logprobs: false,
    serviceTier: 'default',
    effort: 'none',
    prediction: null,
    preamble: '',
  }
}

function messagesOf(turn: Turn): readonly ChatMessage[] {
  const results = turn.blocks.flatMap((block) =>
    block.answers === null ? [] : [{ ...message('tool', block.text), toolCallId: block.answers }],
  )
  const text = textOf(turn.blocks)
  const toolCalls = turn.blocks.flatMap((block) =>
    block.call === null
      ? []
      : [{ id: block.call.id, kind: 'function' as const, name: block.call.name, input: JSON.stringify(block.call.input) }],
  )
  if (results.length > 0 && text === '') return results
  return [...results, { ...message(turn.role, text), toolCalls }]
}

function message(role: ChatMessage['role'], text: string): ChatMessage {
  return { role, text, name: null, toolCalls: [], toolCallId: null, images: [], pages: 0 }
}

function wordsOf(draft: Draft): string {
  return draft.pieces.map((piece) => (piece.kind === 'text' ? piece.text : '')).join('')
}

function firstOf(drafts: readonly Draft[]): Draft {
  const [draft] = drafts
  if (draft === undefined) throw new RangeError('no answer was drafted')
  return draft
}
