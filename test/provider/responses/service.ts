/** The Responses API from a parsed body to the last byte of the answer and the final line of the bill, with all that it keeps. */
import type { ServerResponse } from 'node:http'
import { ApiError, badRequest } from '../api-error.ts'
import type { BillEntry } from '../bill.ts'
import type { ChatServices } from '../chat-service.ts'
import type { Controls } from '../controls.ts'
import type { Draft } from '../drafts.ts'
import { draftAnswers } from '../drafts.ts'
import type { JsonObject } from '../fields.ts'
import type { Reader } from '../generation.ts'
import { completeProgress, flushed, generate, readerOf } from '../generation.ts'
import { readPrompt, CACHE_BLOCK_TOKENS, CACHE_MIN_TOKENS } from '../prompt.ts'
import { hashOf, randomOf } from '../random.ts'
import { OutputWriter, responseJson, usageJson } from './events.ts'
import type { ResponseFrame, ResponseState, ResponsesUsage } from './events.ts'
import { ownItem, sealed } from './items.ts'
import type { ContextItem } from './items.ts'
import type { ResponseMemory } from './memory.ts'
import { asChat, checkResponsesRequest, checkWindowRequest, HOSTED_KINDS } from './request.ts'
import type { HostedKind, ResponsesRequest } from './request.ts'

/** One call as the server hands it over. */
export interface ResponsesCall {
  readonly controls: Controls
  readonly requestId: string
  readonly response: ServerResponse
}

export interface ResponsesService {
  create(body: unknown, call: ResponsesCall): Promise<void>
  /** How many input tokens the request would have; costs nothing. */
  countInput(body: unknown): JsonObject
  /** All that was said, as the user's messages and one item that only the provider can read; a call that is billed. */
  compact(body: unknown, call: ResponsesCall): JsonObject
  cancel(id: string): JsonObject
}

/** List prices of built-in tools, nano-dollars a call; of the code interpreter, a container. */
const FEES: Readonly<Record<HostedKind, bigint>> = { web_search: 10_000_000n, file_search: 2_500_000n, code_interpreter: 30_000_000n }
/** What the model writes to call a built-in tool. */
const HOSTED_CALL_TOKENS = 20
const HOSTED_RESULT_TOKENS = { min: 300, max: 1_500 }
const HOSTED_CALLS_UNASKED_MAX = 2
const COMPACTED_SHARE = 12
const COMPACTED_TOKENS_MIN = 32
// oxfmt-ignore
const COUNT_PARAMETERS = new Set([
  'conversation', 'input', 'instructions', 'model', 'parallel_tool_calls', 'personality', 'previous_response_id', 'reasoning', 'text',
  'tool_choice', 'tools', 'truncation',
])
const COMPACT_PARAMETERS = new Set(['model', 'input', 'instructions', 'previous_response_id', 'prompt_cache_key', 'service_tier'])

export function responsesService(services: ChatServices, memory: ResponseMemory): ResponsesService {
  const running = new Map<string, BackgroundReader>()
  return {
    async create(body, call) {
      const request = checkResponsesRequest(body, services.models, memory, call.controls.accountTier)
      const planned = planCall(services, request, call)
      const entry = services.accept({ ...planned.firstBill })
      const work: Work = { ...planned, ...call, entry, memory }
      try {
        if (request.background) {
          const reader = new BackgroundReader()
          running.set(work.frame.id, reader)
          void inBackground(work, reader).finally(() => running.delete(work.frame.id))
          sendJson(call.response, responseJson(work.frame, { ...NOTHING_YET, status: 'queued' }))
          return
        }
        entry.close(await answer(work, readerOf(call.response)))
      } catch (error) {
        entry.close('cut')
        throw error
      }
    },
    countInput(body) {
      const request = checkWindowRequest(body, COUNT_PARAMETERS, services.models, memory)
      return { object: 'response.input_tokens', input_tokens: windowOf(request, [...request.earlier, ...request.input]).tokens }
    },
    compact(body, call) {
      const request = checkWindowRequest(body, COMPACT_PARAMETERS, services.models, memory)
      const context = [...request.earlier, ...request.input]
      const pass = readWindow(services, request, context)
      const compacted = compactItem(idsOf(call.requestId), context, pass.tokens)
      const entry = services.accept({
        ...lineOf(call, request, services.nowMs()),
        promptTokens: pass.tokens,
        cachedTokens: pass.cachedTokens,
        ...pass.writes,
      })
      const usage = { ...usageOf([pass]), outputTokens: compacted.hiddenTokens, reasoningTokens: 0 }
      entry.update({ outputTokens: usage.outputTokens, reasoningTokens: 0 })
      entry.close('complete')
      return {
        id: `resp_${call.requestId.slice(4)}`,
        object: 'response.compaction',
        created_at: Math.floor(services.nowMs() / 1_000),
        output: [...usersOf(context), compacted].map((item) => item.json),
        usage: usageJson(usage, request.model.price.cacheWriteInput !== undefined),
      }
    },
    cancel(id) {
      const { json } = memory.response(id)
      if (json['background'] !== true) throw badRequest(null, null, 'Cannot cancel a synchronous response.')
      running.get(id)?.leave()
      return json
    },
  }
}

interface Pass {
  readonly tokens: number
  readonly cachedTokens: number
  readonly writes: { readonly cacheWriteTokens: number; readonly cacheWriteLongTokens: number }
}

/** What the provider does before it answers: it compacts, or calls a tool of its own and reads the window again. */
interface Step extends Pass {
  readonly item: ContextItem
  readonly outputTokens: number
  readonly events: readonly string[]
  readonly feeNanoUsd: bigint
}

interface Planned {
  readonly request: ResponsesRequest
  readonly frame: ResponseFrame
  readonly firstBill: Parameters<ChatServices['accept']>[0]
  readonly steps: readonly Step[]
  readonly last: Pass
  readonly draft: Draft
  /** The window as a later turn finds it, without the output. */
  readonly kept: readonly ContextItem[]
}

interface Work extends Planned, ResponsesCall {
  readonly entry: BillEntry
  readonly memory: ResponseMemory
}

type Outcome = 'complete' | 'aborted' | 'cut'

const NOTHING_YET: ResponseState = { status: 'in_progress', output: [], usage: null, webSearches: 0, error: null }

function planCall(services: ChatServices, request: ResponsesRequest, call: ResponsesCall): Planned {
  const { controls, requestId } = call
  const startedAtMs = services.nowMs()
  const ids = idsOf(requestId)
  let context = fitted(request, [...request.earlier, ...request.input])
  let kept = context
  const limit = request.outputLimit ?? request.model.maxOutputTokens
  const steps: Step[] = []
  const first = windowOf(request, context)
  if (request.compactThreshold !== null && first.tokens > request.compactThreshold) {
    const pass = readWindow(services, request, context)
    const item = compactItem(ids, context, pass.tokens)
    steps.push({ ...pass, item, outputTokens: item.hiddenTokens, events: ['compacting'], feeNanoUsd: 0n })
    kept = usersOf(context)
    context = [...kept, item]
  }
  const containers = new Set<string>()
  for (const kind of hostedCalls(request, controls, requestId)) {
    const outputTokens = steps.reduce((sum, step) => sum + step.outputTokens, HOSTED_CALL_TOKENS)
    if (outputTokens >= limit || windowOf(request, context).tokens + HOSTED_CALL_TOKENS >= request.model.contextTokens) break
    const pass = readWindow(services, request, context)
    const made = hostedItem(kind, ids, resultTokens(controls, ids('seed')))
    const container = made.json['container_id']
    const isFree = typeof container === 'string' && containers.has(container)
    if (typeof container === 'string') containers.add(container)
    steps.push({ ...pass, item: made, outputTokens: HOSTED_CALL_TOKENS, events: HOSTED_EVENTS[kind], feeNanoUsd: isFree ? 0n : FEES[kind] })
    context = [...context, made]
  }
  const last = readWindow(services, request, context)
  const spent = steps.reduce((sum, step) => sum + step.outputTokens, 0)
  const room = Math.max(1, Math.min(limit - spent, request.model.contextTokens - last.tokens))
  const [draft] = draftAnswers(asChat(request, context), controls, services.recorded, services.lengths, room)
  if (draft === undefined) throw new TypeError('one answer is always drafted')
  const [opening = last] = steps
  return {
    request,
    frame: { id: `resp_${requestId.slice(4)}`, createdSeconds: Math.floor(startedAtMs / 1_000), request },
    firstBill: {
      ...lineOf(call, request, startedAtMs),
      promptTokens: opening.tokens,
      cachedTokens: opening.cachedTokens,
      ...opening.writes,
    },
    steps,
    last,
    draft,
    kept,
  }
}

function lineOf(
  { controls, requestId }: ResponsesCall,
  request: ResponsesRequest,
  startedAtMs: number,
): Omit<Parameters<ChatServices['accept']>[0], 'promptTokens' | 'cachedTokens'> {
  return { requestId, tag: controls.tag, model: request.model, serviceTier: request.serviceTier, stream: request.stream, startedAtMs }
}

/** The window, cut from its beginning where the client lets the provider do so. Throws when it is too large. */
function fitted(request: ResponsesRequest, context: readonly ContextItem[]): readonly ContextItem[] {
  let kept = context
  while (request.truncates && kept.length > 1 && windowOf(request, kept).tokens >= request.model.contextTokens) kept = kept.slice(1)
  if (windowOf(request, kept).tokens < request.model.contextTokens) return kept
  throw badRequest(
    'input',
    'context_length_exceeded',
    'Your input exceeds the context window of this model. Please adjust your input and try again.',
  )
}

function windowOf(
  request: ResponsesRequest,
  context: readonly ContextItem[],
): { readonly tokens: number; readonly prompt: ReturnType<typeof readPrompt> } {
  const prompt = readPrompt(asChat(request, context))
  const turn = context.findLastIndex(({ message }) => message.role === 'user')
  const isRead = ({ json }: ContextItem, index: number): boolean => !request.forgetsThoughts || index > turn || json['type'] !== 'reasoning'
  return { tokens: context.filter(isRead).reduce((sum, item) => sum + item.hiddenTokens, prompt.tokens), prompt }
}

function readWindow(services: ChatServices, request: ResponsesRequest, context: readonly ContextItem[]): Pass {
  const { tokens, prompt } = windowOf(request, context)
  const cachedTokens = services.cache.read(request.model.id, prompt, services.nowMs())
  const blocks = prompt.blocks.length === 0 ? 0 : CACHE_MIN_TOKENS + (prompt.blocks.length - 1) * CACHE_BLOCK_TOKENS
  const written = request.model.price.cacheWriteInput === undefined ? 0 : Math.max(0, Math.min(blocks, tokens) - cachedTokens)
  return {
    tokens,
    cachedTokens,
    writes: request.longCache
      ? { cacheWriteTokens: 0, cacheWriteLongTokens: written }
      : { cacheWriteTokens: written, cacheWriteLongTokens: 0 },
  }
}

/** Which built-in tools the model calls, in order. */
function hostedCalls(request: ResponsesRequest, controls: Controls, requestId: string): readonly HostedKind[] {
  const { hosted, forcedHosted, maxToolCalls, toolChoice } = request
  if (toolChoice.kind === 'none' || hosted.length === 0) return []
  const most = maxToolCalls ?? Number.MAX_SAFE_INTEGER
  if (controls.hostedCalls !== null) {
    return controls.hostedCalls.slice(0, most).map((name) => {
      const kind = HOSTED_KINDS.find((known) => known === name)
      if (kind !== undefined && hosted.includes(kind)) return kind
      throw badRequest(
        'x-fake-hosted-calls',
        'fake_control_invalid',
        `The test header x-fake-hosted-calls names "${name}", which the request does not offer.`,
      )
    })
  }
  const random = randomOf(hashOf(requestId))
  const count = toolChoice.kind === 'auto' ? random.below(HOSTED_CALLS_UNASKED_MAX + 1) : 0
  const calls = Array.from({ length: count }, () => random.pick(hosted))
  return (forcedHosted === null ? calls : [forcedHosted, ...calls]).slice(0, most)
}

const HOSTED_EVENTS: Readonly<Record<HostedKind, readonly string[]>> = {
  web_search: ['in_progress', 'searching', 'completed'],
  file_search: ['in_progress', 'searching', 'completed'],
  code_interpreter: ['in_progress', 'interpreting', 'completed'],
}

function hostedItem(kind: HostedKind, ids: Ids, tokens: number): ContextItem {
  const status = 'completed'
  if (kind === 'web_search')
    return ownItem({ id: ids('ws'), type: 'web_search_call', status, action: { type: 'search', query: 'opening hours' } }, tokens)
  if (kind === 'file_search')
    return ownItem({ id: ids('fs'), type: 'file_search_call', status, queries: ['opening hours'], results: null }, tokens)
  return ownItem(
    { id: ids('ci'), type: 'code_interpreter_call', status, code: 'print(6 * 7)', container_id: 'cntr_1', outputs: null },
    tokens,
  )
}

function resultTokens(controls: Controls, seed: string): number {
  const { min, max } = HOSTED_RESULT_TOKENS
  return controls.hostedResultTokens ?? min + randomOf(hashOf(seed)).below(max - min + 1)
}

function compactItem(ids: Ids, context: readonly ContextItem[], tokens: number): ContextItem {
  const id = ids('cmp')
  const share = Math.max(COMPACTED_TOKENS_MIN, Math.floor(tokens / COMPACTED_SHARE))
  const text = context
    .map((item) => item.message.text)
    .join(' ')
    .slice(0, share)
  return ownItem({ id, type: 'compaction', encrypted_content: sealed({ id, tokens: share, text }) }, share)
}

function usersOf(context: readonly ContextItem[]): readonly ContextItem[] {
  return context.filter((item) => item.message.role === 'user')
}

/** Answers the client. */
async function answer(work: Work, reader: Reader): Promise<Outcome> {
  const { controls, request, response } = work
  if (controls.hang === 'headers') await reader.wait(Number.POSITIVE_INFINITY)
  if (controls.delayMs > 0) await reader.wait(controls.delayMs)
  if (reader.gone) return 'aborted'
  if (controls.cutAfterTokens === 'headers') {
    response.destroy()
    return 'cut'
  }
  return request.stream ? streamed(work, reader) : plain(work, reader)
}

async function plain(work: Work, reader: Reader): Promise<Outcome> {
  const { controls, response } = work
  const made = await produce(work, reader, null)
  if (typeof controls.hang === 'number') await reader.wait(Number.POSITIVE_INFINITY)
  if (reader.gone) return 'aborted'
  if (controls.errorAfterTokens !== null) throw serverError()
  const whole = Buffer.from(JSON.stringify(made.json))
  const body = controls.malformed ? whole.subarray(0, Math.floor(whole.length / 2)) : whole
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': body.length, 'openai-organization': 'fake-provider' })
  if (controls.cutAfterTokens !== null) {
    await flushed(response, body.subarray(0, Math.floor(body.length / 2)))
    response.destroy()
    return 'cut'
  }
  response.end(body)
  return 'complete'
}

async function streamed(work: Work, reader: Reader): Promise<Outcome> {
  const { controls, response } = work
  response.writeHead(200, {
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-cache',
    'openai-organization': 'fake-provider',
  })
  const made = await produce(work, reader, (events) => response.write(events))
  if (reader.gone) return 'aborted'
  if (stopOf(controls) === null) {
    response.end(made.lastEvents)
    return 'complete'
  }
  if (typeof controls.hang === 'number') {
    await reader.wait(Number.POSITIVE_INFINITY)
    return 'aborted'
  }
  if (controls.errorAfterTokens !== null) {
    const failed = responseJson(work.frame, { ...NOTHING_YET, status: 'failed', error: { code: 'server_error', message: SERVER_ERROR } })
    response.end(made.writer.error({ code: 'server_error', message: SERVER_ERROR, param: null }) + made.writer.lifecycle('failed', failed))
    return 'cut'
  }
  const next = made.lastEvents
  await flushed(response, controls.cutMidChunk ? next.slice(0, Math.min(40, Math.floor(next.length / 2))) : '')
  response.destroy()
  return 'cut'
}

async function inBackground(work: Work, reader: BackgroundReader): Promise<void> {
  const { frame, memory, request, kept } = work
  const keep = (state: ResponseState): void => memory.keep({ json: responseJson(frame, state), input: kept, output: [] })
  keep({ ...NOTHING_YET, status: 'queued' })
  if (work.controls.delayMs > 0) await reader.wait(work.controls.delayMs)
  if (!reader.gone) await produce(work, reader, null)
  if (reader.gone) keep({ ...NOTHING_YET, status: 'cancelled' })
  work.entry.close(reader.gone || request.stream ? 'aborted' : 'complete')
}

interface Made {
  readonly json: JsonObject
  readonly lastEvents: string
  readonly writer: OutputWriter
}

/** Generates the whole answer, bills it as it goes, and keeps what the client wants kept. `emit` null: nobody sees the events. */
async function produce(work: Work, reader: Reader, emit: ((events: string) => void) | null): Promise<Made> {
  const { controls, draft, entry, frame, request, requestId, steps } = work
  const ids = idsOf(`${requestId}o`)
  const webSearches = steps.filter((step) => step.item.json['type'] === 'web_search_call').length
  const writer = new OutputWriter({ obfuscate: request.obfuscate, newId: ids, citation: webSearches === 0 ? null : CITATION })
  const state = (status: ResponseState['status'], usage: ResponsesUsage | null): JsonObject =>
    responseJson(frame, { status, output: status === 'in_progress' ? [] : writer.items, usage, webSearches, error: null })
  let events = writer.lifecycle('created', state('in_progress', null)) + writer.lifecycle('in_progress', state('in_progress', null))
  let outputTokens = 0
  const passes: Pass[] = []
  for (const step of steps) {
    if (reader.gone) break
    passes.push(step)
    outputTokens += step.outputTokens
    if (step.item.json['type'] === 'compaction') events += writer.whole(step.item.json, step.events)
    bill(
      entry,
      [...passes, ...(passes.length < steps.length ? [] : [work.last])],
      { outputTokens, reasoningTokens: 0 },
      feesOf(steps.slice(0, passes.length)),
    )
  }
  const reasoning = reasoningItem(work, ids)
  if (reasoning !== null) events += writer.whole(reasoning.json, [])
  for (const step of steps) if (step.item.json['type'] !== 'compaction') events += writer.whole(step.item.json, step.events)
  const usage = (progress: { outputTokens: number; reasoningTokens: number }): ResponsesUsage => ({
    ...usageOf([...steps, work.last]),
    outputTokens: outputTokens + progress.outputTokens,
    reasoningTokens: progress.reasoningTokens,
  })
  const update = (progress: { outputTokens: number; reasoningTokens: number }): void =>
    bill(entry, [...steps, work.last], usage(progress), feesOf(steps))
  let broken = controls.malformed
  const stopAfter = stopOf(controls)
  const flush = (): void => {
    if (broken && emit !== null) events += `event: response.output_text.delta\ndata: {"type":"response.output_text.delta","del\n\n`
    broken = false
    if (emit !== null && events !== '' && !reader.gone) emit(events)
    events = ''
  }
  flush()
  if (emit === null && controls.tokenDelayMs === 0 && stopAfter === null) {
    for (const piece of draft.pieces) writer.piece(piece)
    update(completeProgress([draft]))
  } else {
    await generate([draft], { tokenDelayMs: controls.tokenDelayMs, stopAfter }, reader, {
      piece(_choice, index) {
        const piece = draft.pieces[index]
        if (piece !== undefined) events += writer.piece(piece)
      },
      done(progress) {
        update(progress)
        flush()
      },
    })
  }
  if (reader.gone) return { json: {}, lastEvents: '', writer }
  const isShort = draft.finish === 'length'
  const closing = writer.close(isShort ? 'incomplete' : 'completed')
  if (stopAfter === null) update(completeProgress([draft]))
  const total = usage(completeProgress([draft]))
  const json = state(isShort ? 'incomplete' : 'completed', controls.usage === 'omit' ? null : total)
  if (stopAfter === null) keepAnswer(work, json, writer.items, reasoning)
  return { json, lastEvents: closing + writer.lifecycle(isShort ? 'incomplete' : 'completed', json), writer }
}

function reasoningItem({ draft, request }: Work, ids: Ids): ContextItem | null {
  if (draft.reasoningTokens === 0) return null
  const id = ids('rs')
  const tokens = draft.reasoningTokens
  return ownItem(
    { id, type: 'reasoning', summary: [], ...(request.encryptedReasoning ? { encrypted_content: sealed({ id, tokens }) } : {}) },
    tokens,
  )
}

/** Stores the response where the client wants it kept, and goes on with the conversation. */
function keepAnswer(work: Work, json: JsonObject, output: readonly JsonObject[], reasoning: ContextItem | null): void {
  const { kept, memory, request, steps } = work
  const made = output.map((item) => {
    if (reasoning !== null && item['id'] === reasoning.json['id']) return reasoning
    return steps.find((step) => step.item.json['id'] === item['id'])?.item ?? ownItem(item)
  })
  if (request.store) {
    memory.keep({ json, input: kept, output: made })
    for (const [index, item] of made.entries()) {
      const before = made[index - 1]?.json
      memory.keepItem(item, before?.['type'] === 'reasoning' ? String(before['id']) : null)
    }
  }
  if (request.conversation === null) return
  const conversation = memory.conversation(request.conversation)
  memory.keepConversation({ ...conversation, items: [...conversation.items, ...request.input, ...made] })
}

function bill(
  entry: BillEntry,
  passes: readonly Pass[],
  output: { outputTokens: number; reasoningTokens: number },
  feesNanoUsd: bigint,
): void {
  const { inputTokens, cachedTokens, cacheWriteTokens, cacheWriteLongTokens } = usageOf(passes)
  const { outputTokens, reasoningTokens } = output
  entry.update({
    promptTokens: inputTokens,
    cachedTokens,
    cacheWriteTokens,
    cacheWriteLongTokens,
    feesNanoUsd,
    outputTokens,
    reasoningTokens,
  })
}

function feesOf(steps: readonly Step[]): bigint {
  return steps.reduce((sum, step) => sum + step.feeNanoUsd, 0n)
}

function usageOf(passes: readonly Pass[]): ResponsesUsage {
  const sum = (count: (pass: Pass) => number): number => passes.reduce((total, pass) => total + count(pass), 0)
  return {
    inputTokens: sum((pass) => pass.tokens),
    cachedTokens: sum((pass) => pass.cachedTokens),
    cacheWriteTokens: sum((pass) => pass.writes.cacheWriteTokens),
    cacheWriteLongTokens: sum((pass) => pass.writes.cacheWriteLongTokens),
    outputTokens: 0,
    reasoningTokens: 0,
  }
}

const CITATION: JsonObject = {
  type: 'url_citation',
  start_index: 0,
  end_index: 1,
  url: 'https://example.com/hours',
  title: 'Opening hours',
}
const SERVER_ERROR = 'The server had an error while processing your request.'

function serverError(): ApiError {
  return new ApiError(500, SERVER_ERROR)
}

function stopOf(controls: Controls): number | null {
  if (typeof controls.hang === 'number') return controls.hang
  return typeof controls.cutAfterTokens === 'number' ? controls.cutAfterTokens : controls.errorAfterTokens
}

type Ids = (prefix: string) => string

function idsOf(seed: string): Ids {
  let count = 0
  return (prefix) => {
    count += 1
    return `${prefix}_${seed.replace(/^req_/, '')}${count.toString(16).padStart(4, '0')}`
  }
}

function sendJson(response: ServerResponse, value: JsonObject): void {
  const body = Buffer.from(JSON.stringify(value))
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': body.length })
  response.end(body)
}

/** Nobody reads along; it is over when somebody cancels. */
class BackgroundReader implements Reader {
  gone = false
  #wake: (() => void) | null = null

  leave(): void {
    this.gone = true
    this.#wake?.()
  }

  wait(ms: number): Promise<void> {
    return new Promise((resolve) => {
      if (this.gone) return resolve()
      const timer = Number.isFinite(ms) ? setTimeout(resolve, Math.max(1, ms)) : undefined
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  ready(): Promise<void> {
    return new Promise((resolve) => setImmediate(resolve))
  }
}
