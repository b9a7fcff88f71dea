/** Anthropic Messages as the fake serves it: one call from its headers to the last byte of its answer and the final line of its bill. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { ApiError } from '../api-error.ts'
import type { BillEntry, NewCall } from '../bill.ts'
import { picoPerToken, usd } from '../bill.ts'
import type { Controls } from '../controls.ts'
import { readControls } from '../controls.ts'
import type { Lengths } from '../drafts.ts'
import type { Progress, Reader } from '../generation.ts'
import { completeProgress, flushed, generate, readerOf } from '../generation.ts'
import type { ListPrice } from '../models.ts'
import type { Recordings } from '../recordings.ts'
import { answerTo, isBilled, plainModel } from './answer.ts'
import type { ClaudeUsage, Frame } from './answer-json.ts'
import { event, EventWriter, messageJson } from './answer-json.ts'
import { claudeCache } from './cache.ts'
import { errorJson, invalid } from './error.ts'
import type { ClaudeModelChange, ClaudePrice } from './models.ts'
import { claudeModels } from './models.ts'
import type { InputTokens } from './prompt.ts'
import { readPrompt } from './prompt.ts'
import type { ClaudeRequest } from './request.ts'
import { checkCountRequest, checkRequest } from './request.ts'

export interface AnthropicServices {
  readonly models: readonly ClaudeModelChange[]
  readonly recorded: Recordings
  readonly lengths: Lengths
  /** Keys that are accepted; undefined: any. */
  readonly apiKeys: readonly string[] | undefined
  accept(call: NewCall): BillEntry
  /** Throws the failure that a test asked for. */
  fail(controls: Controls): void
  nowMs(): number
}

export interface AnthropicService {
  /** Answers, refusals included, in Anthropic's shapes. */
  handle(request: IncomingMessage, url: URL, body: Buffer, requestId: string, response: ServerResponse): Promise<void>
  clearCache(): void
}

/** Whether a request to `path` speaks Anthropic's language. */
export function isAnthropic(path: string, headers: IncomingMessage['headers']): boolean {
  return /^\/v1\/messages(\/|$)/.test(path) || (/^\/v1\/models(\/|$)/.test(path) && headers['anthropic-version'] !== undefined)
}

export function anthropicService(services: AnthropicServices): AnthropicService {
  const models = claudeModels(services.models)
  const cache = claudeCache()

  const route = async (
    request: IncomingMessage,
    path: string,
    body: Buffer,
    requestId: string,
    response: ServerResponse,
  ): Promise<void> => {
    const controls = readControls(request.headers)
    checkHeaders(request, services.apiKeys)
    const at = `${request.method} ${path}`
    if (at === 'GET /v1/models') {
      const data = [...models.values()].map((model) => ({
        type: 'model',
        id: model.id,
        display_name: model.id,
        created_at: '2026-01-01T00:00:00Z',
      }))
      return sendJson(response, 200, { data, first_id: data[0]?.id ?? null, last_id: data.at(-1)?.id ?? null, has_more: false })
    }
    if (at === 'POST /v1/messages/count_tokens') {
      const counted = checkCountRequest(parseBody(body), models)
      return sendJson(response, 200, { input_tokens: readPrompt(counted).tokens })
    }
    if (at === 'POST /v1/messages/batches') return sendJson(response, 200, batchJson(requestId))
    if (path !== '/v1/messages') throw new ApiError(404, 'Not found')
    if (request.method !== 'POST') throw new ApiError(405, 'Method Not Allowed')
    services.fail(controls)
    const asked = checkRequest(parseBody(body), models, String(request.headers['anthropic-version']))
    return message({ ...asked, inferenceGeo: asked.inferenceGeo ?? controls.accountGeo }, controls, requestId, response)
  }

  const message = async (request: ClaudeRequest, controls: Controls, requestId: string, response: ServerResponse): Promise<void> => {
    const reader = readerOf(response)
    const prompt = readPrompt(request)
    const room = request.model.contextTokens - prompt.tokens
    if (room <= 0) throw invalid('', `prompt is too long: ${prompt.tokens} tokens > ${request.model.contextTokens} maximum`)
    const startedAtMs = services.nowMs()
    const input = cache.read(prompt, request.model.cacheMinTokens, startedAtMs)
    const list = listPrice(request, prompt.tokens)
    const model = plainModel(request, list)
    const answer = answerTo({
      request,
      controls,
      recorded: services.recorded,
      lengths: services.lengths,
      limit: Math.min(request.maxTokens, room),
      limitIsWindow: room < request.maxTokens,
      model,
    })
    const entry = services.accept({
      requestId,
      tag: controls.tag,
      model,
      serviceTier: 'default',
      stream: request.stream,
      ...billedInput(isBilled(answer) ? input : NO_INPUT),
      startedAtMs,
    })
    const frame: Frame = { id: `msg_${requestId.slice(4)}`, request, answer, prefix: prompt.prefix.digest }
    const call: Call = { frame, controls, response, reader, entry, first: input, whole: withHosted(input, frame) }
    try {
      entry.close(await send(call))
    } catch (error) {
      entry.close('cut')
      throw error
    }
  }

  return {
    async handle(request, url, body, requestId, response) {
      response.removeHeader('x-request-id')
      response.removeHeader('openai-version')
      response.setHeader('request-id', requestId)
      response.setHeader('anthropic-organization-id', 'fake-provider')
      try {
        await route(request, url.pathname, body, requestId, response)
      } catch (error) {
        if (!(error instanceof ApiError) || response.headersSent || response.destroyed) throw error
        for (const [name, value] of Object.entries(error.headers)) response.setHeader(name, value)
        sendJson(response, error.status, errorJson(error, requestId))
      }
    },
    clearCache: () => cache.clear(),
  }
}

const VERSIONS: ReadonlySet<string> = new Set(['2023-01-01', '2023-06-01', '2026-10-21'])
const WEB_SEARCH_NANO_USD = 10_000_000n // $10 per 1,000 searches

function checkHeaders(request: IncomingMessage, keys: readonly string[] | undefined): void {
  const bearer = /^Bearer\s+(\S+)$/i.exec(request.headers.authorization ?? '')?.[1]
  const key = request.headers['x-api-key'] || bearer
  if (typeof key !== 'string' || key === '') throw new ApiError(401, 'x-api-key header is required')
  if (keys !== undefined && !keys.includes(key)) throw new ApiError(401, 'invalid x-api-key')
  const version = request.headers['anthropic-version']
  if (version === undefined) throw invalid('anthropic-version', 'header is required')
  if (!VERSIONS.has(String(version))) throw invalid('anthropic-version', `"${String(version)}" is not a valid version`)
}

function parseBody(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'))
  } catch (error) {
    throw invalid('', `The request body is not valid JSON: ${error instanceof Error ? error.message : ''}`)
  }
}

/** The list price of a request of `tokens` input tokens. */
function listPrice({ model, inferenceGeo }: ClaudeRequest, tokens: number): ListPrice {
  const { longPrice } = model
  const price = longPrice !== null && tokens > longPrice.overTokens ? longPrice.price : model.price
  const percent = inferenceGeo === 'us' ? 110n : 100n
  const scaled = (text: string, times: bigint): string => usd((picoPerToken(text) * times * percent * 1_000n) / 10_000n).slice(0, -3)
  const of = ({ input, cacheRead, output }: ClaudePrice): ListPrice => ({
    input: scaled(input, 100n),
    cachedInput: scaled(cacheRead, 100n),
    cacheWriteInput: scaled(input, 125n),
    cacheWriteLongInput: scaled(input, 200n),
    output: scaled(output, 100n),
  })
  return of(price)
}

interface Call {
  readonly frame: Frame
  readonly controls: Controls
  readonly response: ServerResponse
  readonly reader: Reader
  readonly entry: BillEntry
  /** Input of the first reading, and of all readings that calls of the provider's own tools make. */
  readonly first: InputTokens
  readonly whole: InputTokens
}

type Outcome = 'complete' | 'aborted' | 'cut'

async function send(call: Call): Promise<Outcome> {
  const { controls, reader, response } = call
  if (controls.hang === 'headers') await reader.wait(Number.POSITIVE_INFINITY)
  if (controls.delayMs > 0) await reader.wait(controls.delayMs)
  if (reader.gone) return 'aborted'
  if (controls.cutAfterTokens === 'headers') {
    response.destroy()
    return 'cut'
  }
  return call.frame.request.stream ? streamAnswer(call) : plainAnswer(call)
}

async function plainAnswer(call: Call): Promise<Outcome> {
  const { controls, frame, reader, response } = call
  const stopAfter = stopOf(controls)
  if (controls.tokenDelayMs > 0 || stopAfter !== null)
    await generate([frame.answer.draft], { tokenDelayMs: controls.tokenDelayMs, stopAfter }, reader, {
      piece: () => {},
      done: (progress) => bill(call, progress),
    })
  if (typeof controls.hang === 'number') await reader.wait(Number.POSITIVE_INFINITY)
  if (reader.gone) return 'aborted'
  if (controls.errorAfterTokens !== null) throw new ApiError(529, 'Overloaded')
  const usage = usageOf(call, completeProgress([frame.answer.draft]))
  const whole = Buffer.from(messageJson(frame, controls.usage === 'omit' ? null : usage))
  const body = controls.malformed ? whole.subarray(0, Math.floor(whole.length / 2)) : whole
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': body.length })
  if (controls.cutAfterTokens !== null) {
    await flushed(response, body.subarray(0, Math.floor(body.length / 2)))
    response.destroy()
    return 'cut'
  }
  bill(call, completeProgress([frame.answer.draft]))
  response.end(body)
  return 'complete'
}

async function streamAnswer(call: Call): Promise<Outcome> {
  const { controls, frame, reader, response } = call
  const { draft } = frame.answer
  const writer = new EventWriter(frame)
  const counted = controls.usage !== 'omit'
  const stopAfter = stopOf(controls)
  let broken = controls.malformed
  let thinking = true
  const endThinking = (): string => {
    if (!thinking) return ''
    thinking = false
    return writer.afterThinking()
  }
  response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache' })
  // What is known before the first word: the input, and for the output a number that is no count yet.
  const known = { input: call.first, outputTokens: 1, thinkingTokens: 0, webSearches: 0, webFetches: 0 }
  response.write(writer.start(counted ? known : null))
  let events = ''
  await generate([draft], { tokenDelayMs: controls.tokenDelayMs, stopAfter }, reader, {
    piece(_choice, index) {
      const piece = draft.pieces[index]
      if (piece !== undefined) events += endThinking() + writer.piece(piece)
    },
    done(progress) {
      bill(call, progress)
      if (broken) events += 'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"del\n\n'
      broken = false
      if (events !== '') response.write(events)
      events = ''
    },
  })
  if (reader.gone) return 'aborted'
  if (stopAfter !== null) return breakOff(call, writer.piece({ kind: 'text', text: ' and then' }))
  const whole = completeProgress([draft])
  response.end(endThinking() + writer.finish(counted ? usageOf(call, whole) : null))
  bill(call, whole)
  return 'complete'
}

/** The stream goes silent, fails or breaks off, as the test asked. */
async function breakOff(call: Call, nextEvent: string): Promise<Outcome> {
  const { controls, reader, response } = call
  if (typeof controls.hang === 'number') {
    await reader.wait(Number.POSITIVE_INFINITY)
    return 'aborted'
  }
  if (controls.errorAfterTokens !== null) {
    response.end(event({ type: 'error', error: { details: null, type: 'overloaded_error', message: 'Overloaded' } }))
    return 'cut'
  }
  await flushed(response, controls.cutMidChunk ? nextEvent.slice(0, Math.floor(nextEvent.length / 2)) : '')
  response.destroy()
  return 'cut'
}

function stopOf(controls: Controls): number | null {
  if (typeof controls.hang === 'number') return controls.hang
  return typeof controls.cutAfterTokens === 'number' ? controls.cutAfterTokens : controls.errorAfterTokens
}

function bill(call: Call, progress: Progress): void {
  const input = isBilled(call.frame.answer) ? call.whole : NO_INPUT
  call.entry.update({ ...progress, ...billedInput(input), feesNanoUsd: fees(call) })
}

const NO_INPUT: InputTokens = { uncached: 0, cacheRead: 0, cacheWrite5m: 0, cacheWrite1h: 0 }

/** Each call of the provider's own tools reads the window again, with its result: from the cache where it was kept. */
function withHosted(first: InputTokens, { answer }: Frame): InputTokens {
  let { uncached, cacheRead } = first
  let results = 0
  for (const call of answer.hosted) {
    results += call.resultTokens
    uncached += first.uncached + results
    cacheRead += first.cacheRead + first.cacheWrite5m + first.cacheWrite1h
  }
  return { ...first, uncached, cacheRead }
}

function billedInput(input: InputTokens): Pick<NewCall, 'promptTokens' | 'cachedTokens' | 'cacheWriteTokens' | 'cacheWriteLongTokens'> {
  return {
    promptTokens: input.uncached + input.cacheRead + input.cacheWrite5m + input.cacheWrite1h,
    cachedTokens: input.cacheRead,
    cacheWriteTokens: input.cacheWrite5m,
    cacheWriteLongTokens: input.cacheWrite1h,
  }
}

function usageOf(call: Call, progress: Progress): ClaudeUsage {
  return {
    input: call.whole,
    outputTokens: progress.outputTokens,
    thinkingTokens: progress.reasoningTokens,
    webSearches: ranOf(call, 'web_search'),
    webFetches: ranOf(call, 'web_fetch'),
  }
}

function fees(call: Call): bigint {
  return BigInt(ranOf(call, 'web_search')) * WEB_SEARCH_NANO_USD
}

function ranOf(call: Call, name: string): number {
  return call.frame.answer.hosted.filter((each) => each.name === name && each.result !== null).length
}

function batchJson(requestId: string): object {
  const counts = { processing: 1, succeeded: 0, errored: 0, canceled: 0, expired: 0 }
  return {
    id: `msgbatch_${requestId.slice(4)}`,
    type: 'message_batch',
    processing_status: 'in_progress',
    request_counts: counts,
    results_url: null,
  }
}

function sendJson(response: ServerResponse, status: number, value: unknown): void {
  const body = Buffer.from(JSON.stringify(value))
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': body.length })
  response.end(body)
}
