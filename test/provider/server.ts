/**
 * Providers for tests, told apart by path and headers: OpenAI (below `/v1`), Azure (`/openai`), Anthropic, Gemini (`/v1beta`). Answers from
 * recordings or makes text up, refuses what they refuse, and keeps its own bill. `startProvider` runs it inside the test's process;
 * `main.ts` as a program.
 */
import { createWriteStream } from 'node:fs'
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { RecordedConversation } from '@farebox/operator/laptop/records.ts'
import type { ClaudeModelChange } from './anthropic/models.ts'
import { anthropicService, isAnthropic } from './anthropic/service.ts'
import { ApiError, badRequest } from './api-error.ts'
import type { AzureOperation, Deployment } from './azure.ts'
import { azureService, DEFAULT_DEPLOYMENTS } from './azure.ts'
import type { Bill } from './bill.ts'
import { billLineJson, newBill, usd } from './bill.ts'
import { chatService } from './chat-service.ts'
import type { Controls } from './controls.ts'
import { readControls } from './controls.ts'
import type { Lengths } from './drafts.ts'
import { geminiService } from './gemini/service.ts'
import type { Model, ModelChange } from './models.ts'
import { modelTable } from './models.ts'
import { promptCache } from './prompt-cache.ts'
import { recordedIn } from './recording-files.ts'
import { recordings } from './recordings.ts'
import { UNIT_PATHS, unitService } from './units/service.ts'
import { responsesRoutes } from './responses/routes.ts'

export interface ProviderOptions {
  /** 0, the default: any free one. */
  readonly port?: number
  /** Address that it listens on; default 127.0.0.1. */
  readonly host?: string
  /** Directories or files of recorded conversations, and conversations at hand. */
  readonly data?: readonly string[]
  readonly conversations?: readonly RecordedConversation[]
  /** Models to add or change. */
  readonly models?: readonly ModelChange[]
  readonly claudeModels?: readonly ClaudeModelChange[]
  /** What Azure serves; default `DEFAULT_DEPLOYMENTS`. */
  readonly deployments?: readonly Deployment[]
  /** How long a read prefix stays cached; default 5 minutes. */
  readonly cacheTtlMs?: number
  /** Length of made-up answers in o200k tokens; default 40 to 160. */
  readonly answerTokens?: Lengths
  /** Keys that are accepted; default: any. */
  readonly apiKeys?: readonly string[]
  /** Each line of the bill is appended here as JSON when it is final. */
  readonly billFile?: string
  /** The clock of the cache and the bill; default `Date.now`. */
  readonly nowMs?: () => number
  /** Told of each request as it came, before any check; the request waits for what it returns. */
  readonly onRequest?: (request: SeenRequest) => unknown
}

export interface SeenRequest {
  readonly requestId: string
  readonly method: string
  readonly path: string
  /** The query, with its question mark; empty without one. */
  readonly search: string
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
}

export interface Provider {
  /** `http://HOST:PORT`; an OpenAI client wants `/v1` after it. */
  readonly url: string
  readonly port: number
  readonly bill: Bill
  /** When no answer is being generated any more. */
  settled(): Promise<void>
  /** Forgets what it cached of prompts. */
  clearCache(): void
  close(): Promise<void>
}

const BODY_BYTES_MAX = 64 * 1024 * 1024
const CACHE_TTL_MS = 5 * 60_000
const ANSWER_TOKENS: Lengths = { min: 40, max: 160 }
/** Longer than any pooled client keeps a connection: the provider is never the first to close one. */
const KEEP_ALIVE_MS = 600_000

export async function startProvider(options: ProviderOptions = {}): Promise<Provider> {
  const nowMs = options.nowMs ?? Date.now
  const models = modelTable(options.models)
  const billFile = options.billFile === undefined ? null : createWriteStream(options.billFile, { flags: 'a' })
  let settledWaiters: (() => void)[] = []
  const { bill, accept } = newBill((line) => {
    billFile?.write(`${JSON.stringify(billLineJson(line))}\n`)
    if (bill.open() > 0) return
    for (const wake of settledWaiters) wake()
    settledWaiters = []
  })
  const cache = promptCache(options.cacheTtlMs ?? CACHE_TTL_MS)
  const recorded = recordings([...(options.conversations ?? []), ...(await recordedIn(options.data ?? []))])
  const host = options.host ?? '127.0.0.1'
  const services = { models, recorded, cache, accept, lengths: options.answerTokens ?? ANSWER_TOKENS, nowMs }
  const chat = chatService(services)
  const responses = responsesRoutes(services)
  const failures = injectedFailures()
  const guarded = { ...services, apiKeys: options.apiKeys, fail: (controls: Controls) => failures.check(controls) }
  const anthropic = anthropicService({ ...guarded, models: options.claudeModels ?? [] })
  const gemini = geminiService({ ...guarded, models: options.models ?? [] })
  const units = unitService({ accept, nowMs })
  const azure = azureService({
    ...guarded,
    deployments: options.deployments ?? DEFAULT_DEPLOYMENTS,
    operations: {
      '/chat/completions': ({ body, controls, requestId, response }) =>
        chat(JSON.parse(body.toString('utf8')), controls, requestId, response, 'azure'),
      ...Object.fromEntries(UNIT_PATHS.map((path): [string, AzureOperation] => [path, (call) => units(path, call)])),
    },
  })
  let requests = 0

  const route = async (request: IncomingMessage, response: ServerResponse, requestId: string): Promise<void> => {
    const url = new URL(request.url ?? '/', 'http://provider')
    const body = await readBody(request)
    await options.onRequest?.({
      requestId,
      method: request.method ?? '',
      path: url.pathname,
      search: url.search,
      headers: request.headers,
      body,
    })
    if (url.pathname === '/bill') return answerBill(request, response, url, bill)
    if (isAnthropic(url.pathname, request.headers)) return anthropic.handle(request, url, body, requestId, response)
    if (url.pathname.startsWith('/v1beta/')) return gemini(request, url, body, requestId, response)
    if (url.pathname.startsWith('/openai/')) return azure(request, url, body, requestId, response)
    if (!url.pathname.startsWith('/v1/')) throw noSuchUrl(request, url)
    const controls = readControls(request.headers)
    checkKey(request.headers.authorization, options.apiKeys)
    if (url.pathname === '/v1/chat/completions') {
      if (request.method !== 'POST') throw new ApiError(405, `Not allowed to ${request.method} on /v1/chat/completions.`)
      failures.check(controls)
      return chat(parseBody(request, body), controls, requestId, response)
    }
    if (responses.has(url.pathname)) {
      if (url.pathname === '/v1/responses' || url.pathname === '/v1/responses/input_tokens') failures.check(controls)
      const readJson = (): unknown => (body.length === 0 ? null : parseBody(request, body))
      const answer = await responses.handle(request, url.pathname, readJson, { controls, requestId, response })
      return answer === null ? undefined : sendJson(response, 200, answer)
    }
    const unitPath = url.pathname.slice('/v1'.length)
    if (request.method === 'POST' && UNIT_PATHS.includes(unitPath)) {
      failures.check(controls)
      return units(unitPath, { request, body, controls, requestId, response })
    }
    if (request.method === 'GET' && /^\/v1\/models(\/|$)/.test(url.pathname)) return answerModels(response, url.pathname, models)
    throw noSuchUrl(request, url)
  }

  const server = createServer({ keepAliveTimeout: KEEP_ALIVE_MS, noDelay: true }, (request, response) => {
    requests += 1
    const requestId = `req_${requests.toString(36).padStart(8, '0')}${PROCESS_ID}`
    response.setHeader('x-request-id', requestId)
    response.setHeader('openai-version', '2020-10-01')
    // A write to a client that has just left: its `close` event is what ends the answer.
    response.on('error', () => {})
    route(request, response, requestId).catch((error: unknown) => fail(response, error))
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(options.port ?? 0, host, resolve)
  })
  const { port } = server.address() as AddressInfo
  return {
    url: `http://${host}:${port}`,
    port,
    bill,
    settled: async () => {
      if (bill.open() > 0) await new Promise<void>((resolve) => settledWaiters.push(resolve))
    },
    clearCache() {
      cache.clear()
      anthropic.clearCache()
    },
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      server.closeAllConnections()
      await closed
      if (billFile !== null) await new Promise<void>((resolve) => billFile.end(resolve))
    },
  }
}

/** Request ids of two providers never meet in one log. */
const PROCESS_ID = Math.floor(Math.random() * 0xffffffff)
  .toString(16)
  .padStart(8, '0')

/** Answers with the status that a test asked for, a set number of times for each tag. */
function injectedFailures(): { check(controls: Controls): void } {
  const counts = new Map<string, number>()
  return {
    check({ status, statusTimes, retryAfter, tag }) {
      if (status === null) return
      const key = `${status} ${tag}`
      const count = (counts.get(key) ?? 0) + 1
      counts.set(key, count)
      if (count > statusTimes) return
      const headers = retryAfter === null ? {} : { 'retry-after': retryAfter }
      if (status === 429) throw new ApiError(429, 'Rate limit reached for requests', { code: 'rate_limit_exceeded', headers })
      throw new ApiError(status, status >= 500 ? 'The server had an error while processing your request.' : 'The request was refused.', {
        headers,
      })
    },
  }
}

function checkKey(authorization: string | undefined, keys: readonly string[] | undefined): void {
  const key = /^Bearer\s+(\S+)$/i.exec(authorization ?? '')?.[1]
  if (key === undefined)
    throw new ApiError(
      401,
      "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
    )
  if (keys !== undefined && !keys.includes(key)) throw new ApiError(401, 'Incorrect API key provided.', { code: 'invalid_api_key' })
}

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request) {
    if (!Buffer.isBuffer(chunk)) throw new TypeError('a request body comes in buffers')
    bytes += chunk.length
    if (bytes > BODY_BYTES_MAX) throw new ApiError(413, 'The request body is too large.', { code: 'request_too_large' })
    chunks.push(chunk)
  }
  return chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks)
}

function parseBody(request: IncomingMessage, body: Buffer): unknown {
  const encoding = request.headers['content-encoding'] ?? 'identity'
  if (encoding !== 'identity') throw new ApiError(415, `Unsupported content encoding: ${encoding}.`, { code: 'unsupported_encoding' })
  try {
    return JSON.parse(body.toString('utf8'))
  } catch {
    throw badRequest(
      null,
      null,
      "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)",
    )
  }
}

function answerBill(request: IncomingMessage, response: ServerResponse, url: URL, bill: Bill): void {
  if (request.method === 'DELETE') bill.clear()
  else if (request.method !== 'GET') throw new ApiError(405, `Not allowed to ${request.method} on /bill.`)
  const tag = url.searchParams.get('tag') ?? undefined
  const total = bill.totalNanoUsd(tag)
  sendJson(response, 200, {
    lines: bill.lines(tag).map(billLineJson),
    open: bill.open(),
    totalNanoUsd: total.toString(),
    totalUsd: usd(total),
  })
}

function answerModels(response: ServerResponse, path: string, models: ReadonlyMap<string, Model>): void {
  const entry = (id: string): object => ({ id, object: 'model', created: 1_715_367_049, owned_by: 'system' })
  const id = decodeURIComponent(path.slice('/v1/models/'.length))
  if (id === '') return sendJson(response, 200, { object: 'list', data: [...models.keys()].map(entry) })
  if (!models.has(id)) throw new ApiError(404, `The model '${id}' does not exist`, { param: 'model', code: 'model_not_found' })
  sendJson(response, 200, entry(id))
}

function noSuchUrl(request: IncomingMessage, url: URL): ApiError {
  return new ApiError(404, `Invalid URL (${request.method} ${url.pathname})`)
}

function fail(response: ServerResponse, error: unknown): void {
  if (response.destroyed) return
  if (response.headersSent) {
    response.destroy()
    return
  }
  const refusal =
    error instanceof ApiError ? error : new ApiError(500, `The fake provider failed: ${String(error)}`, { code: 'fake_failed' })
  for (const [name, value] of Object.entries(refusal.headers)) response.setHeader(name, value)
  sendJson(response, refusal.status, refusal.toJson())
}

function sendJson(response: ServerResponse, status: number, value: unknown): void {
  const body = Buffer.from(JSON.stringify(value))
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': body.length })
  response.end(body)
}
