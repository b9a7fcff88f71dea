/** One chat call from its parsed body to the last byte of its answer and the final line of its bill. */
import type { ServerResponse } from 'node:http'
import type { AnswerFrame, Usage } from './answer-json.ts'
import { chunkWriter, completionJson, contentOf, DONE, predictionTokens } from './answer-json.ts'
import { ApiError, badRequest } from './api-error.ts'
import type { BillEntry, NewCall } from './bill.ts'
import type { ChatRequest } from './chat-request.ts'
import { checkRequest } from './chat-request.ts'
import type { Controls } from './controls.ts'
import type { Draft, Lengths } from './drafts.ts'
import { draftAnswers } from './drafts.ts'
import { isObject } from './fields.ts'
import type { Progress, Reader } from './generation.ts'
import { completeProgress, flushed, generate, readerOf } from './generation.ts'
import type { Model } from './models.ts'
import type { PromptCache } from './prompt-cache.ts'
import { readPrompt } from './prompt.ts'
import type { Recordings } from './recordings.ts'

export interface ChatServices {
  readonly models: ReadonlyMap<string, Model>
  readonly recorded: Recordings
  readonly cache: PromptCache
  readonly lengths: Lengths
  accept(call: NewCall): BillEntry
  nowMs(): number
}

export type ChatService = (
  body: unknown,
  controls: Controls,
  requestId: string,
  response: ServerResponse,
  dialect?: AnswerFrame['dialect'],
) => Promise<void>

/** Refusals are thrown as `ApiError` before anything is sent or billed; after that the call is on the bill, whatever becomes of it. */
export function chatService(services: ChatServices): ChatService {
  return async (body, controls, requestId, response, dialect = 'openai') => {
    const reader = readerOf(response)
    if (controls.rejectStreamOptions !== null && isObject(body) && body['stream_options'] !== undefined)
      throw streamOptionsUnknown(controls.rejectStreamOptions)
    const request = checkRequest(body, services.models, controls.accountTier)
    if (controls.alternateRoles.includes(request.model.id)) checkAlternation(request.messages)
    const prompt = readPrompt(request)
    const limit = checkWindow(request, prompt.tokens)
    const drafts = draftAnswers(request, controls, services.recorded, services.lengths, limit)
    const startedAtMs = services.nowMs()
    const cachedTokens = services.cache.read(request.model.id, prompt, startedAtMs)
    const entry = services.accept({
      requestId,
      tag: controls.tag,
      model: request.model,
      serviceTier: request.serviceTier,
      stream: request.stream,
      promptTokens: prompt.tokens,
      cachedTokens,
      feesNanoUsd: request.model.searchNanoUsd ?? 0n,
      startedAtMs,
    })
    const call: Call = {
      request,
      drafts,
      controls,
      response,
      reader,
      entry,
      frame: { id: `chatcmpl-${requestId.slice(4)}`, createdSeconds: Math.floor(startedAtMs / 1_000), request, dialect },
      prediction: predicted(request, drafts),
      promptTokens: prompt.tokens,
      cachedTokens,
    }
    try {
      entry.close(await answer(call))
    } catch (error) {
      entry.close('cut')
      throw error
    }
  }
}

interface Call {
  readonly request: ChatRequest
  readonly drafts: readonly Draft[]
  readonly controls: Controls
  readonly response: ServerResponse
  readonly reader: Reader
  readonly entry: BillEntry
  readonly frame: AnswerFrame
  readonly prediction: { readonly accepted: number; readonly rejected: number }
  readonly promptTokens: number
  readonly cachedTokens: number
}

type Outcome = 'complete' | 'aborted' | 'cut'

async function answer(call: Call): Promise<Outcome> {
  const { controls, reader, request, response } = call
  if (controls.hang === 'headers') await reader.wait(Number.POSITIVE_INFINITY)
  if (controls.delayMs > 0) await reader.wait(controls.delayMs)
  if (reader.gone) return 'aborted'
  if (controls.cutAfterTokens === 'headers') {
    response.destroy()
    return 'cut'
  }
  return request.stream ? streamAnswer(call) : plainAnswer(call)
}

async function plainAnswer(call: Call): Promise<Outcome> {
  const { controls, drafts, entry, reader, response } = call
  const timed = controls.tokenDelayMs > 0
  const stopAfter = stopOf(controls)
  if (timed || stopAfter !== null) {
    // Nothing is shown before the end, so a timed answer takes one sleep a token, not one write.
    await generate(drafts, { tokenDelayMs: controls.tokenDelayMs, stopAfter }, reader, {
      piece: () => {},
      done: (progress) => entry.update(progress),
    })
  }
  if (typeof controls.hang === 'number') await reader.wait(Number.POSITIVE_INFINITY)
  if (reader.gone) return 'aborted'
  if (controls.errorAfterTokens !== null) throw new ApiError(500, 'The server had an error while processing your request.')
  const usage = settle(call, completeProgress(drafts))
  const whole = Buffer.from(completionJson(call.frame, drafts, controls.usage === 'omit' ? null : usage))
  const body = controls.malformed ? whole.subarray(0, Math.floor(whole.length / 2)) : whole
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': body.length, ...answerHeaders(call) })
  if (controls.cutAfterTokens !== null) {
    await flushed(response, body.subarray(0, Math.floor(body.length / 2)))
    response.destroy()
    return 'cut'
  }
  entry.update(billed(call, completeProgress(drafts)))
  response.end(body)
  return 'complete'
}

async function streamAnswer(call: Call): Promise<Outcome> {
  const { controls, drafts, entry, reader, request, response } = call
  const writer = chunkWriter(call.frame)
  let shown: Usage | null = null
  const cumulative = (): Usage | null => (controls.usage === 'cumulative' ? shown : null)
  const stopAfter = stopOf(controls)
  let broken = controls.malformed
  response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache', ...answerHeaders(call) })
  response.write(writer.opening() + drafts.map((draft, choice) => writer.start(choice, draft)).join(''))
  let events = ''
  await generate(drafts, { tokenDelayMs: controls.tokenDelayMs, stopAfter }, reader, {
    piece(choice, index) {
      const piece = drafts[choice]?.pieces[index]
      if (piece !== undefined) events += writer.piece(choice, piece, cumulative())
    },
    done(progress) {
      entry.update(progress)
      shown = usageOf(call, progress)
      if (broken) events += `data: {"id":"${call.frame.id}","choices":[{"index":0,"del\n\n`
      broken = false
      if (events !== '') response.write(events)
      events = ''
    },
  })
  if (reader.gone) return 'aborted'
  if (stopAfter !== null) return breakOff(call, writer.piece(0, { kind: 'text', text: ' and then' }, null))
  const usage = settle(call, completeProgress(drafts))
  const last = drafts.map((draft, choice) => writer.finish(choice, draft.finish, controls.usage === 'cumulative' ? usage : null)).join('')
  const counted = request.includeUsage && controls.usage !== 'omit' ? writer.usage(usage) : ''
  response.end(last + counted + DONE)
  entry.update(billed(call, completeProgress(drafts)))
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
    const error = new ApiError(500, 'The server had an error while processing your request.')
    response.end(`data: ${JSON.stringify(error.toJson())}\n\n`)
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

function settle(call: Call, progress: Progress): Usage {
  return usageOf(call, billed(call, progress))
}

/** A prediction that was not used is output too. */
function billed(call: Call, progress: Progress): Progress {
  return { ...progress, outputTokens: progress.outputTokens + call.prediction.rejected }
}

function usageOf(call: Call, progress: Progress): Usage {
  return {
    promptTokens: call.promptTokens,
    cachedTokens: call.cachedTokens,
    ...progress,
    acceptedPredictionTokens: call.prediction.accepted,
    rejectedPredictionTokens: call.prediction.rejected,
  }
}

function predicted(request: ChatRequest, drafts: readonly Draft[]): { accepted: number; rejected: number } {
  const [draft] = drafts
  if (request.prediction === null || draft === undefined) return { accepted: 0, rejected: 0 }
  return predictionTokens(request.prediction, contentOf(draft) ?? '')
}

/** The bound on the output of one answer. Throws when the window cannot hold the prompt and the output asked for. */
function checkWindow(request: ChatRequest, promptTokens: number): number {
  const { contextTokens, maxOutputTokens, id } = request.model
  const wanted = request.outputLimit ?? 1
  if (promptTokens + wanted > contextTokens) {
    const how =
      request.outputLimit === null || promptTokens >= contextTokens
        ? `your messages resulted in ${promptTokens} tokens. Please reduce the length of the messages${request.tools.length > 0 ? ' or functions' : ''}.`
        : `you requested ${promptTokens + wanted} tokens (${promptTokens} in the messages, ${wanted} in the completion). Please reduce the length of the messages or completion.`
    throw badRequest(
      'messages',
      'context_length_exceeded',
      `This model's maximum context length is ${contextTokens} tokens (${id}). However, ${how}`,
    )
  }
  return Math.min(request.outputLimit ?? maxOutputTokens, maxOutputTokens, contextTokens - promptTokens)
}

function answerHeaders(call: Call): JsonHeaders {
  return {
    'openai-organization': 'fake-provider',
    'openai-processing-ms': String(Math.max(0, Math.round(performance.now()) % 1_000)),
    'x-ratelimit-limit-requests': '10000',
    'x-ratelimit-remaining-requests': '9999',
    'x-ratelimit-limit-tokens': '30000000',
    'x-ratelimit-remaining-tokens': String(30_000_000 - call.promptTokens),
  }
}

type JsonHeaders = Readonly<Record<string, string>>

/** What some older servers say to a field that they do not know. */
function streamOptionsUnknown(status: 400 | 422): ApiError {
  if (status === 400) return badRequest('stream_options', null, 'Unrecognized request argument supplied: stream_options')
  const detail = { type: 'extra_forbidden', loc: ['body', 'stream_options', 'include_usage'], msg: 'Extra inputs are not permitted' }
  return new ApiError(status, JSON.stringify({ detail: [detail] }))
}

/** As chat templates of Mistral, Gemma and Llama 2 say it, behind vLLM and llama.cpp. */
function checkAlternation(messages: ChatRequest['messages']): void {
  const spoken = messages.filter(({ role, toolCalls }) => role === 'user' || (role === 'assistant' && toolCalls.length === 0))
  if (spoken.every(({ role }, index) => (role === 'user') === (index % 2 === 0))) return
  throw badRequest(null, null, 'Conversation roles must alternate user/assistant/user/assistant/...')
}
