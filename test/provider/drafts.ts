/** Decides what the model answers: the words and calls of each choice, piece by piece, and what each piece costs. */
import { badRequest } from './api-error.ts'
import type { ChatRequest } from './chat-request.ts'
import type { Controls } from './controls.ts'
import { instanceOf } from './json-instance.ts'
import type { ToolCall } from './message-checks.ts'
import { languageOf, prose } from './prose.ts'
import type { Random } from './random.ts'
import { hashOf, randomOf } from './random.ts'
import type { Recordings } from './recordings.ts'
import { asksForSummary, summarise } from './summary.ts'
import type { Tool } from './tool-checks.ts'
import { tokenTexts } from './tokens.ts'

/** What the stream carries in one step; `index` counts calls from 0 within the choice. */
export type Piece =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'call'; readonly index: number; readonly call: ToolCall }
  | { readonly kind: 'input'; readonly index: number; readonly text: string; readonly custom: boolean }

export interface Draft {
  readonly pieces: readonly Piece[]
  /** Hidden tokens before the first piece. */
  readonly reasoningTokens: number
  readonly finish: 'stop' | 'length' | 'tool_calls' | 'function_call'
  /** Billed tokens of the pieces before the one at `index`, without reasoning. */
  billedBefore(index: number): number
}

/** How long an answer is when nothing says so, in o200k tokens. */
export interface Lengths {
  readonly min: number
  readonly max: number
}

/** Framing of one tool call, in tokens. */
const TOKENS_PER_CALL = 4
const EFFORT_BLOCKS = { none: 0, minimal: 0, low: 1, medium: 3, high: 8, xhigh: 12, max: 16 } as const
const REASONING_BLOCK_TOKENS = 64
const ARGUMENTS_DEPTH_MESSAGE = 'Invalid schema: it asks for a value that has no end, or that this provider cannot form.'

/** One draft for each choice; `limit` bounds the billed tokens of each, reasoning included. Throws `ApiError` for a schema no answer can fit. */
export function draftAnswers(
  request: ChatRequest,
  controls: Controls,
  recorded: Recordings,
  lengths: Lengths,
  limit: number,
): readonly Draft[] {
  const seed = hashOf(`${request.model.id} ${request.messages.length} ${request.messages.at(-1)?.text ?? ''}`)
  return Array.from({ length: request.choices }, (_, choice) => {
    const random = randomOf(seed + choice * 7_919)
    const reasoningTokens = controls.reasoningTokens ?? hiddenTokens(request, random)
    const answer = answerOf({ request, controls, recorded, lengths, limit: Math.max(1, limit - reasoningTokens), random, choice })
    return bounded(stopped(answer, request.stop), request, reasoningTokens, limit)
  })
}

interface Answer {
  readonly text: readonly string[]
  readonly calls: readonly ToolCall[]
  /** Billed tokens in all, where a test asked for a number; else they follow from the pieces. */
  readonly billed: number | null
}

interface Situation {
  readonly request: ChatRequest
  readonly controls: Controls
  readonly recorded: Recordings
  readonly lengths: Lengths
  readonly limit: number
  readonly random: Random
  readonly choice: number
}

function answerOf(situation: Situation): Answer {
  const { request, controls, recorded, choice, random } = situation
  const { toolChoice } = request
  if (controls.content !== null) return words(tokenTexts(controls.content))
  if (controls.toolCalls !== null && toolChoice.kind !== 'none') return calling(toldCalls(situation))
  const forced = toolChoice.kind === 'named' || toolChoice.kind === 'required'
  const known = choice === 0 ? recorded.find(request.messages, (name) => mayCall(request, name), controls.recording) : null
  if (forced) {
    if (known !== null && known.calls.length > 0) return calling(atMostAllowed(known.calls, request))
    const tool =
      toolChoice.kind === 'named'
        ? toolOf(request, toolChoice.name)
        : random.pick(request.tools.filter((each) => mayCall(request, each.name)))
    return calling([callOf(tool, null, random)])
  }
  if (request.format.kind !== 'text') return structured(situation)
  if (controls.outputTokens !== null) return generated(situation, controls.outputTokens)
  if (known !== null)
    return { text: known.text === null ? [] : tokenTexts(known.text), calls: atMostAllowed(known.calls, request), billed: null }
  if (asksForSummary(request)) return words(summarise(request, Math.floor((situation.limit * 100) / request.model.tokenPercent)))
  const { min, max } = situation.lengths
  return words(prose(random, min + random.below(max - min + 1), languageOf(lastText(request))))
}

function words(text: readonly string[]): Answer {
  return { text, calls: [], billed: null }
}

function calling(calls: readonly ToolCall[]): Answer {
  return { text: [], calls, billed: null }
}

/** Prose of exactly `billed` billed tokens. */
function generated({ request, random }: Situation, billed: number): Answer {
  const pieces = billed === 0 ? 0 : Math.max(1, Math.floor((billed * 100) / request.model.tokenPercent))
  return { text: prose(random, pieces, languageOf(lastText(request))), calls: [], billed }
}

/** JSON for the format asked for; padded with blank lines, as models do, where a test asked for a length. */
function structured(situation: Situation): Answer {
  const { request, controls, random } = situation
  const { format } = request
  const value =
    format.kind === 'jsonSchema'
      ? instance(format.schema, random, 'response_format')
      : { answer: prose(random, 12, languageOf(lastText(request))).join('') }
  const text = tokenTexts(JSON.stringify(value))
  const wanted = controls.outputTokens === null ? 0 : Math.floor((controls.outputTokens * 100) / request.model.tokenPercent)
  if (wanted <= text.length) return words(text)
  const padding = Array.from({ length: wanted - text.length }, () => '\n')
  return { text: [...text, ...padding], calls: [], billed: controls.outputTokens }
}

function toldCalls({ request, controls, random }: Situation): readonly ToolCall[] {
  const calls = (controls.toolCalls ?? []).map((told) => {
    if (!mayCall(request, told.name))
      throw badRequest(
        'x-fake-tool-call',
        'fake_control_invalid',
        `The test header x-fake-tool-call names "${told.name}", which the request does not offer.`,
      )
    return callOf(toolOf(request, told.name), told.arguments, random)
  })
  return atMostAllowed(calls, request)
}

function callOf(tool: Tool, given: string | null, random: Random): ToolCall {
  const letters = '0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'
  const id = `call_${Array.from({ length: 24 }, () => letters[random.below(letters.length)]).join('')}`
  const fresh = (): string =>
    tool.kind === 'custom'
      ? prose(random, 8, 'en').join('')
      : JSON.stringify(tool.schema['type'] === undefined ? {} : instance(tool.schema, random, 'tools'))
  return { id, kind: tool.kind, name: tool.name, input: given ?? fresh() }
}

function instance(schema: Tool['schema'], random: Random, param: string): unknown {
  try {
    return instanceOf(schema, random)
  } catch (error) {
    if (!(error instanceof RangeError) && !(error instanceof SyntaxError)) throw error
    throw badRequest(param, 'invalid_schema', `${ARGUMENTS_DEPTH_MESSAGE} (${error.message})`)
  }
}

function atMostAllowed(calls: readonly ToolCall[], request: ChatRequest): readonly ToolCall[] {
  return request.parallelToolCalls && !request.legacyFunctions ? calls : calls.slice(0, 1)
}

function mayCall(request: ChatRequest, name: string): boolean {
  const { toolChoice } = request
  if (toolChoice.kind === 'none') return false
  if (toolChoice.kind === 'named') return toolChoice.name === name
  return request.tools.some((tool) => tool.name === name) && (toolChoice.among?.includes(name) ?? true)
}

function toolOf(request: ChatRequest, name: string): Tool {
  const tool = request.tools.find((each) => each.name === name)
  if (tool === undefined) throw new RangeError(`no tool "${name}"`)
  return tool
}

/** Ends the words before the first stop sequence. */
function stopped(answer: Answer, stops: readonly string[]): Answer {
  if (stops.length === 0) return answer
  const whole = answer.text.join('')
  const ends = stops.map((stop) => whole.indexOf(stop)).filter((at) => at >= 0)
  if (ends.length === 0) return answer
  return { text: tokenTexts(whole.slice(0, Math.min(...ends))), calls: [], billed: null }
}

function bounded(answer: Answer, request: ChatRequest, reasoning: number, limit: number): Draft {
  const percent = request.model.tokenPercent
  const pieces: Piece[] = []
  const billed: number[] = [0]
  let raw = 0
  let bytes = 0
  const add = (piece: Piece, tokens: number, text: string): void => {
    pieces.push(piece)
    raw += tokens
    bytes += Buffer.byteLength(text)
    billed.push(Math.min(Math.ceil((raw * percent) / 100), answer.billed ?? bytes + TOKENS_PER_CALL * answer.calls.length))
  }
  for (const text of answer.text) add({ kind: 'text', text }, 1, text)
  for (const [index, call] of answer.calls.entries()) {
    add({ kind: 'call', index, call }, TOKENS_PER_CALL + tokenTexts(call.name).length, call.name)
    for (const text of tokenTexts(call.input)) add({ kind: 'input', index, text, custom: call.kind === 'custom' }, 1, text)
  }
  // What the rounding of the factor left out comes with the last piece.
  if (answer.billed !== null && billed.length > 1) billed[billed.length - 1] = answer.billed
  const before = (index: number): number => billed[index] ?? 0
  if (reasoning + before(pieces.length) <= limit)
    return { pieces, reasoningTokens: reasoning, finish: finishOf(answer, request), billedBefore: before }
  // Thinking comes first: it may leave nothing for the answer.
  const hidden = Math.min(reasoning, limit)
  let kept = pieces.length
  while (kept > 0 && before(kept) > limit - hidden) kept -= 1
  return {
    pieces: pieces.slice(0, kept),
    reasoningTokens: hidden,
    finish: 'length',
    billedBefore: (index) => (index >= kept ? limit - hidden : before(index)),
  }
}

function finishOf(answer: Answer, request: ChatRequest): Draft['finish'] {
  if (answer.calls.length === 0 || request.toolChoice.kind === 'named') return 'stop'
  return request.legacyFunctions ? 'function_call' : 'tool_calls'
}

function hiddenTokens(request: ChatRequest, random: Random): number {
  if (!request.model.reasoning) return 0
  const blocks = EFFORT_BLOCKS[request.effort]
  return blocks === 0 ? 0 : (blocks + random.below(blocks + 1)) * REASONING_BLOCK_TOKENS
}

function lastText(request: ChatRequest): string {
  return request.messages.findLast((message) => message.role === 'user')?.text ?? ''
}
