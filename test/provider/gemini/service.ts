/** Gemini's own API: `generateContent` and its stream, `countTokens`, embeddings and the models. https://ai.google.dev/api */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { ApiError } from '../api-error.ts'
import type { BillEntry, NewCall } from '../bill.ts'
import { picoPerToken } from '../bill.ts'
import type { Controls } from '../controls.ts'
import { readControls } from '../controls.ts'
import type { Draft, Lengths } from '../drafts.ts'
import { draftAnswers } from '../drafts.ts'
import { isObject } from '../fields.ts'
import type { Progress, Reader } from '../generation.ts'
import { completeProgress, flushed, generate, readerOf } from '../generation.ts'
import type { ModelChange } from '../models.ts'
import type { PromptCache } from '../prompt-cache.ts'
import { readPrompt } from '../prompt.ts'
import type { Recordings } from '../recordings.ts'
import type { GeminiFrame, GeminiUsage } from './answer-json.ts'
import { answerJson, chunkWriter } from './answer-json.ts'
import { embed, EMBEDDING_MODEL } from './embeddings.ts'
import { invalidArgument, refuse, sendJson, statusJson } from './errors.ts'
import type { GeminiModel } from './models.ts'
import { geminiModels } from './models.ts'
import { readMessage } from './proto.ts'
import type { GeminiRequest } from './request.ts'
import { checkGenerateContent } from './request.ts'

export interface GeminiServices {
  readonly models: readonly ModelChange[]
  readonly recorded: Recordings
  readonly cache: PromptCache
  readonly lengths: Lengths
  readonly apiKeys: readonly string[] | undefined
  accept(call: NewCall): BillEntry
  nowMs(): number
  /** Throws the failure that a test asked for. */
  fail(controls: Controls): void
}

/** Answers one request below `/v1beta/`, be it by a refusal. */
export type GeminiService = (request: IncomingMessage, url: URL, body: Buffer, requestId: string, response: ServerResponse) => Promise<void>

/** Parameters of the query that every method takes. https://cloud.google.com/apis/docs/system-parameters */
const QUERY = new Set(['key', 'alt', '$alt', 'prettyPrint', '$prettyPrint', 'fields', '$fields', 'pageSize', 'pageToken', '$.xgafv'])

export function geminiService(services: GeminiServices): GeminiService {
  const models = geminiModels(services.models)
  return async (request, url, body, requestId, response) => {
    const method = /^\/v1beta\/models\/([^/:]+):(\w+)$/.exec(url.pathname)
    const stream = method?.[2] === 'streamGenerateContent'
    const sse = (url.searchParams.get('alt') ?? url.searchParams.get('$alt')) === 'sse'
    try {
      checkKey(request, url, services.apiKeys)
      for (const name of url.searchParams.keys())
        if (!QUERY.has(name))
          throw invalidArgument(
            `Invalid JSON payload received. Unknown name "${name}": Cannot bind query parameter. Field '${name}' could not be found in request message.`,
          )
      const controls = readControls(request.headers)
      if (request.method === 'GET') return answerModels(response, url.pathname, models)
      if (request.method !== 'POST' || method === null) throw notFound()
      if (method[2] === 'embedContent' || method[2] === 'batchEmbedContents') {
        if (method[1] !== EMBEDDING_MODEL.id) throw unknownModel(method[1] ?? '', method[2])
        services.fail(controls)
        return answerEmbedding(services, embed(parse(body), method[2]), { controls, requestId, response, sse })
      }
      const model = modelOf(method[1] ?? '', method[2] ?? '', models)
      if (method[2] === 'countTokens') return sendJson(response, 200, countTokens(parse(body), model))
      if (method[2] !== 'generateContent' && !stream) throw notFound()
      services.fail(controls)
      await generateContent(services, checkGenerateContent(parse(body), model, stream), { controls, requestId, response, sse })
    } catch (error) {
      refuse(response, error, stream && !sse)
    }
  }
}

function answerEmbedding(services: GeminiServices, { tokens, answer }: ReturnType<typeof embed>, asked: Asked): void {
  const { controls, requestId, response } = asked
  const call = { requestId, tag: controls.tag, model: EMBEDDING_MODEL, serviceTier: 'default', stream: false } as const
  services.accept({ ...call, promptTokens: tokens, cachedTokens: 0, startedAtMs: services.nowMs() }).close('complete')
  const { usageMetadata: _usage, ...untold } = answer as { readonly usageMetadata?: object }
  sendJson(response, 200, controls.usage === 'omit' ? untold : answer)
}

interface Asked {
  readonly controls: Controls
  readonly requestId: string
  readonly response: ServerResponse
  readonly sse: boolean
}

interface Call extends Asked {
  readonly request: GeminiRequest
  readonly drafts: readonly Draft[]
  readonly reader: Reader
  readonly entry: BillEntry
  readonly frame: GeminiFrame
  readonly promptTokens: number
  readonly cachedTokens: number
}

type Outcome = 'complete' | 'aborted' | 'cut'

async function generateContent(services: GeminiServices, request: GeminiRequest, asked: Asked): Promise<void> {
  const { controls, requestId, response } = asked
  const { chat, model } = request
  const reader = readerOf(response)
  const prompt = readPrompt(chat)
  checkInput(prompt.tokens, model)
  const limit = Math.min(chat.outputLimit ?? model.maxOutputTokens, model.maxOutputTokens)
  const drafts = draftAnswers(chat, thinkingAllowed(controls, request), services.recorded, services.lengths, limit).map((draft) =>
    withThoughts(draft, request),
  )
  const startedAtMs = services.nowMs()
  const cachedTokens = services.cache.read(model.id, prompt, startedAtMs)
  const long = model.longContext !== null && prompt.tokens > model.longContext.over ? model.longContext.price : model.price
  const entry = services.accept({
    requestId,
    tag: controls.tag,
    model: { ...model, price: long },
    serviceTier: 'default',
    stream: chat.stream,
    promptTokens: prompt.tokens,
    cachedTokens,
    startedAtMs,
  })
  const pictureBytes = model.picturePrice === null ? null : controls.pictureBytes
  const frame: GeminiFrame = { responseId: requestId.slice(4), request, pictureBytes }
  const call: Call = { ...asked, request, drafts, reader, entry, frame, promptTokens: prompt.tokens, cachedTokens }
  try {
    entry.close(await answer(call))
  } catch (error) {
    entry.close('cut')
    throw error
  }
}

async function answer(call: Call): Promise<Outcome> {
  const { controls, reader, request, response } = call
  if (controls.hang === 'headers') await reader.wait(Number.POSITIVE_INFINITY)
  if (controls.delayMs > 0) await reader.wait(controls.delayMs)
  if (reader.gone) return 'aborted'
  if (controls.cutAfterTokens === 'headers') {
    response.destroy()
    return 'cut'
  }
  return request.chat.stream ? streamAnswer(call) : plainAnswer(call)
}

async function plainAnswer(call: Call): Promise<Outcome> {
  const { controls, drafts, entry, reader, response } = call
  const stopAfter = stopOf(controls)
  if (controls.tokenDelayMs > 0 || stopAfter !== null) {
    await generate(drafts, { tokenDelayMs: controls.tokenDelayMs, stopAfter }, reader, {
      piece: () => {},
      done: (progress) => entry.update(progress),
    })
  }
  if (typeof controls.hang === 'number') await reader.wait(Number.POSITIVE_INFINITY)
  if (reader.gone) return 'aborted'
  if (controls.errorAfterTokens !== null) throw internal()
  const progress = completeProgress(drafts)
  const whole = Buffer.from(JSON.stringify(answerJson(call.frame, drafts, shownUsage(call, progress, pictureTokens(call))), null, 2))
  const body = controls.malformed ? whole.subarray(0, Math.floor(whole.length / 2)) : whole
  response.writeHead(200, { 'content-type': 'application/json; charset=UTF-8', 'content-length': body.length })
  if (controls.cutAfterTokens !== null) {
    await flushed(response, body.subarray(0, Math.floor(body.length / 2)))
    response.destroy()
    return 'cut'
  }
  entry.update({ ...progress, feesNanoUsd: pictureFee(call) })
  response.end(body)
  return 'complete'
}

async function streamAnswer(call: Call): Promise<Outcome> {
  const { controls, drafts, entry, reader, response, sse } = call
  const writer = chunkWriter(call.frame)
  const events = new EventWriter(sse)
  const stopAfter = stopOf(controls)
  let shown: GeminiUsage | null = shownUsage(call, { outputTokens: 0, reasoningTokens: 0 })
  let broken = controls.malformed
  let begun = false
  response.writeHead(200, { 'content-type': sse ? 'text/event-stream' : 'application/json; charset=UTF-8' })
  response.flushHeaders()
  await generate(drafts, { tokenDelayMs: controls.tokenDelayMs, stopAfter }, reader, {
    piece(choice, index) {
      const draft = drafts[choice]
      if (draft === undefined) return
      if (!begun) for (const [at, each] of drafts.entries()) events.add(writer.start(at, each, shown))
      begun = true
      events.add(writer.piece(choice, index, draft, shown))
    },
    done(progress) {
      entry.update(progress)
      shown = shownUsage(call, progress)
      if (broken) events.addText('data: {"candidates": [{"content": {"par\r\n\r\n')
      broken = false
      const text = events.take()
      if (text !== '') response.write(text)
    },
  })
  if (reader.gone) return 'aborted'
  if (stopAfter !== null) return breakOff(call, events, writer.finish(0, { ...(drafts[0] ?? NO_DRAFT), finish: 'stop' }, shown))
  const progress = completeProgress(drafts)
  const usage = shownUsage(call, progress, pictureTokens(call))
  for (const [choice, draft] of drafts.entries()) events.add(writer.finish(choice, draft, usage))
  events.close()
  entry.update({ ...progress, feesNanoUsd: pictureFee(call) })
  response.end(events.take())
  return 'complete'
}

const NO_DRAFT: Draft = { pieces: [], reasoningTokens: 0, finish: 'stop', billedBefore: () => 0 }

/** Server-sent events, or the elements of a list. */
class EventWriter {
  readonly #sse: boolean
  #text = ''
  #first = true

  constructor(sse: boolean) {
    this.#sse = sse
  }
  add(value: object | null): void {
    if (value === null) return
    this.#text += this.#sse ? `data: ${JSON.stringify(value)}\r\n\r\n` : `${this.#first ? '[' : '\n,\r\n'}${JSON.stringify(value, null, 2)}`
    this.#first = false
  }
  addText(text: string): void {
    this.#text += text
  }
  close(): void {
    if (!this.#sse) this.#text += this.#first ? '[]\n' : '\n]\n'
  }
  take(): string {
    const text = this.#text
    this.#text = ''
    return text
  }
}

/** The stream goes silent, fails or breaks off, as the test asked. */
async function breakOff(call: Call, events: EventWriter, next: object): Promise<Outcome> {
  const { controls, reader, response } = call
  if (typeof controls.hang === 'number') {
    await reader.wait(Number.POSITIVE_INFINITY)
    return 'aborted'
  }
  if (controls.errorAfterTokens !== null) {
    events.add(statusJson(internal()))
    events.close()
    response.end(events.take())
    return 'cut'
  }
  events.add(next)
  const event = events.take()
  await flushed(response, controls.cutMidChunk ? event.slice(0, Math.floor(event.length / 2)) : '')
  response.destroy()
  return 'cut'
}

function stopOf(controls: Controls): number | null {
  if (typeof controls.hang === 'number') return controls.hang
  return typeof controls.cutAfterTokens === 'number' ? controls.cutAfterTokens : controls.errorAfterTokens
}

function shownUsage(call: Call, progress: Progress, drawn = 0): GeminiUsage | null {
  if (call.controls.usage === 'omit') return null
  return { promptTokens: call.promptTokens, cachedTokens: call.cachedTokens, pictureTokens: drawn, ...progress }
}

/** Of one picture of the largest size. https://ai.google.dev/gemini-api/docs/pricing */
const PICTURE_TOKENS = 2_000

function pictureTokens({ frame }: Call): number {
  return frame.pictureBytes === null ? 0 : PICTURE_TOKENS
}

/** What no other token costs is on the bill as a fee. */
function pictureFee(call: Call): bigint {
  const { picturePrice } = call.request.model
  return picturePrice === null ? 0n : (BigInt(pictureTokens(call)) * picoPerToken(picturePrice) + 999n) / 1_000n
}

/** Where thinking is off or bounded, a test cannot ask for more of it. */
function thinkingAllowed(controls: Controls, { thoughtsMax }: GeminiRequest): Controls {
  const { reasoningTokens } = controls
  if (thoughtsMax === null || reasoningTokens === null) return thoughtsMax === 0 ? { ...controls, reasoningTokens: 0 } : controls
  return { ...controls, reasoningTokens: Math.min(reasoningTokens, thoughtsMax) }
}

function withThoughts(draft: Draft, { thoughtsMax }: GeminiRequest): Draft {
  return thoughtsMax === null ? draft : { ...draft, reasoningTokens: Math.min(draft.reasoningTokens, thoughtsMax) }
}

function checkInput(tokens: number, model: GeminiModel): void {
  if (tokens <= model.contextTokens) return
  throw invalidArgument(`The input token count (${tokens}) exceeds the maximum number of tokens allowed (${model.contextTokens}).`)
}

function countTokens(body: unknown, model: GeminiModel): object {
  const read = readMessage(body, 'CountTokensRequest')
  const { generateContentRequest: whole } = read
  const asked = isObject(whole) ? whole : { contents: read['contents'] }
  const totalTokens = readPrompt(checkGenerateContent(asked, model, false).chat).tokens
  return { totalTokens, promptTokensDetails: [{ modality: 'TEXT', tokenCount: totalTokens }] }
}

function checkKey(request: IncomingMessage, url: URL, keys: readonly string[] | undefined): void {
  const header = request.headers['x-goog-api-key']
  const bearer = /^Bearer\s+(\S+)$/i.exec(request.headers.authorization ?? '')?.[1]
  const given = [typeof header === 'string' ? header : null, url.searchParams.get('key'), bearer ?? null].filter(
    (key) => key !== null && key !== '',
  )
  const [key] = given
  if (given.length > 1) throw invalidArgument('Multiple authentication credentials received. Please pass only one.')
  if (key === undefined || key === null)
    throw new ApiError(
      403,
      "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or other form of API consumer identity to call this API.",
    )
  if (keys !== undefined && !keys.includes(key))
    throw new ApiError(400, 'API key not valid. Please pass a valid API key.', { code: 'API_KEY_INVALID' })
}

function parse(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'))
  } catch {
    throw invalidArgument('Invalid JSON payload received. Unexpected end of string.')
  }
}

function modelOf(name: string, method: string, models: ReadonlyMap<string, GeminiModel>): GeminiModel {
  const model = models.get(decodeURIComponent(name))
  if (model !== undefined) return model
  throw unknownModel(name, method)
}

function unknownModel(name: string, method: string): ApiError {
  return new ApiError(
    404,
    `models/${name} is not found for API version v1beta, or is not supported for ${method}. Call ModelService.ListModels to see the list of available models and their supported methods.`,
  )
}

function answerModels(response: ServerResponse, path: string, models: ReadonlyMap<string, GeminiModel>): void {
  const entry = (model: GeminiModel): object => ({
    name: `models/${model.id}`,
    version: '001',
    displayName: model.id,
    inputTokenLimit: model.contextTokens,
    outputTokenLimit: model.maxOutputTokens,
    supportedGenerationMethods: ['generateContent', 'countTokens'],
    thinking: true,
  })
  if (path === '/v1beta/models') return sendJson(response, 200, { models: [...models.values()].map(entry) })
  const one = /^\/v1beta\/models\/([^/:]+)$/.exec(path)?.[1]
  if (one === undefined) throw notFound()
  sendJson(response, 200, entry(modelOf(one, 'getModel', models)))
}

function notFound(): ApiError {
  return new ApiError(404, 'Requested entity was not found.')
}

function internal(): ApiError {
  return new ApiError(
    500,
    'An internal error has occurred. Please retry or report in https://developers.generativeai.google/guide/troubleshooting',
  )
}
