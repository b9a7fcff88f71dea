/** Requests to the API server: pooled connections, an end for each call, patience where the server asks for it. */
import type { Readable } from 'node:stream'
import { Agent, request } from 'undici'
import { messageOf } from '../core/error-text.ts'
import { backoffMs, sleep } from './clock.ts'
import type { Clock } from './clock.ts'
import type { Credentials, CredentialSource } from './credentials.ts'
import { KubeError } from './kube.ts'
import { TokenBucket } from './rate.ts'

export type Verb = 'get' | 'list' | 'watch' | 'create' | 'update' | 'apply' | 'delete' | 'text'

export interface ApiCall {
  readonly verb: Verb
  /** Plural of what is asked for, or the path: for metrics and messages. */
  readonly resource: string
  readonly path: string
  readonly query?: Readonly<Record<string, string | undefined>>
  readonly accept?: string
  readonly body?: { readonly type: string; readonly json: unknown }
  readonly fence?: Fence
}

/** Asked last thing before a write is sent, also when it is sent again. */
export interface Fence {
  mayWrite(): boolean
}

export interface RequestReport {
  readonly verb: Verb
  readonly resource: string
  /** 0: there was no answer. */
  readonly code: number
  readonly seconds: number
}

export interface TransportOptions {
  readonly credentials: CredentialSource
  readonly clock: Clock
  readonly random: () => number
  readonly userAgent: string
  readonly deadlineMs: number
  readonly attemptMs: number
  readonly queriesPerSecond: number
  readonly burst: number
  readonly onRequest: (report: RequestReport) => void
}

export interface WatchStream {
  readonly body: Readable
}

const METHODS = {
  get: 'GET',
  list: 'GET',
  watch: 'GET',
  text: 'GET',
  create: 'POST',
  update: 'PUT',
  apply: 'PATCH',
  delete: 'DELETE',
} as const
/** What a repeat does not change. A `create` or `update` that may have arrived is not sent again. */
const REPEATABLE: ReadonlySet<Verb> = new Set(['get', 'list', 'text', 'apply', 'delete'])
const READS: ReadonlySet<Verb> = new Set(['get', 'list', 'text'])
/** Connections for requests; watches have one each. */
const CONNECTIONS = 8
const CONNECT_MS = 5_000
/** Events have a rate of their own: a crowd of new pods must not hold up what they need. */
const EVENTS = { resource: 'events', perSecond: 20, burst: 40 } as const
const KEEP_ALIVE_MS = 30_000
const RETRY_BOUNDS = { minMs: 250, maxMs: 5_000 }
const RETRY_AFTER_MAX_MS = 60_000
/** Under a fence an attempt ends well before another may lead: 10 s of leading left at most, 15 s until the lease ends. */
export const FENCED_ATTEMPT_MS = 4_000
/** Beyond any object that etcd keeps, and any page of a list, for those of large objects are small. */
const BODY_BYTES_MAX = 256 * 1024 * 1024
const MESSAGE_MAX = 1_024

/** Owns the connections to the API server, new ones whenever the credentials change, until `close`: from then on calls reject at once. */
export class Transport {
  readonly #options: TransportOptions
  readonly #bucket: TokenBucket
  readonly #eventsBucket: TokenBucket
  readonly #closing = new AbortController()
  #pools: Pools | null = null

  constructor(options: TransportOptions) {
    this.#options = options
    const nowMs = (): number => options.clock.nowMs()
    this.#bucket = new TokenBucket({ perSecond: options.queriesPerSecond, burst: options.burst, nowMs })
    this.#eventsBucket = new TokenBucket({ perSecond: EVENTS.perSecond, burst: EVENTS.burst, nowMs })
  }

  get clock(): Clock {
    return this.#options.clock
  }

  get random(): () => number {
    return this.#options.random
  }

  credentials(): Promise<Credentials> {
    return this.#options.credentials.current()
  }

  /** Throws `KubeError`. */
  async text(call: ApiCall): Promise<string> {
    const { clock, random, deadlineMs } = this.#options
    const endMs = clock.nowMs() + deadlineMs
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#attempt(call, endMs)
      } catch (error) {
        const known = kubeErrorOf(error, call)
        if (known.status === 401) this.#options.credentials.refused()
        if (this.#closing.signal.aborted || !mayRepeat(call, known, attempt)) throw known
        const waitMs = Math.max(known.retryAfterMs ?? 0, backoffMs(attempt, RETRY_BOUNDS, random))
        if (clock.nowMs() + waitMs >= endMs) throw known
        await sleep(clock, waitMs, this.#closing.signal)
      }
    }
  }

  /** Throws `KubeError`, for an answer that is not JSON, too. */
  async json(call: ApiCall): Promise<unknown> {
    const text = await this.text(call)
    try {
      return JSON.parse(text)
    } catch (error) {
      throw new KubeError(`${call.verb} ${call.resource}: the answer is not JSON`, { status: 200, reason: 'InternalError', cause: error })
    }
  }

  /** One attempt. The body ends with `signal`, and its socket with it. Throws `KubeError`. */
  async watch(call: ApiCall, signal: AbortSignal): Promise<WatchStream> {
    const { clock, attemptMs } = this.#options
    const startMs = clock.nowMs()
    // The deadline is for the head of the answer; from there on whoever reads it watches over it.
    const opening = new AbortController()
    const timer = clock.after(attemptMs, () => opening.abort(new KubeError('no answer in time', { status: 0, reason: 'Timeout' })))
    try {
      const { watches, url, headers } = await this.#prepare(call)
      const {
        statusCode,
        headers: got,
        body,
      } = await request(url, {
        method: 'GET',
        headers,
        dispatcher: watches,
        signal: AbortSignal.any([signal, opening.signal, this.#closing.signal]),
        headersTimeout: 0,
        bodyTimeout: 0,
      })
      this.#report(call, statusCode, startMs)
      if (statusCode === 200) return { body }
      if (statusCode === 401) this.#options.credentials.refused()
      throw refusalOf(call, statusCode, got, await body.text())
    } catch (error) {
      if (!(error instanceof KubeError) || error.status === 0) this.#report(call, 0, startMs)
      throw kubeErrorOf(opening.signal.aborted ? opening.signal.reason : error, call)
    } finally {
      timer.cancel()
    }
  }

  /** Ends what is under way, and all connections. */
  async close(): Promise<void> {
    this.#closing.abort(new KubeError('closed', { status: 0, reason: 'Unreachable' }))
    await this.#pools?.destroy()
    this.#pools = null
  }

  async #attempt(call: ApiCall, endMs: number): Promise<string> {
    const { clock, attemptMs } = this.#options
    const waitMs = (call.resource === EVENTS.resource ? this.#eventsBucket : this.#bucket).take()
    if (waitMs > 0) {
      if (clock.nowMs() + waitMs >= endMs) throw new KubeError('too many requests of our own', { status: 0, reason: 'Timeout' })
      await sleep(clock, waitMs, this.#closing.signal)
    }
    const { requests, url, headers } = await this.#prepare(call)
    if (call.fence?.mayWrite() === false)
      throw new KubeError('another may lead by now: nothing is written', { status: 0, reason: 'NotLeader' })
    const startMs = clock.nowMs()
    const limitMs = Math.max(1, Math.min(call.fence === undefined ? attemptMs : Math.min(attemptMs, FENCED_ATTEMPT_MS), endMs - startMs))
    const late = new AbortController()
    const timer = clock.after(limitMs, () =>
      late.abort(new KubeError(`no answer in ${Math.round(limitMs)} ms`, { status: 0, reason: 'Timeout' })),
    )
    let code = 0
    try {
      const answer = await request(url, {
        method: METHODS[call.verb],
        headers,
        dispatcher: requests,
        signal: AbortSignal.any([late.signal, this.#closing.signal]),
        body: call.body === undefined ? null : JSON.stringify(call.body.json),
      })
      code = answer.statusCode
      const text = await answer.body.text()
      if (code >= 300) throw refusalOf(call, code, answer.headers, text)
      return text
    } catch (error) {
      throw late.signal.aborted ? late.signal.reason : error
    } finally {
      timer.cancel()
      this.#report(call, code, startMs)
    }
  }

  async #prepare(call: ApiCall): Promise<{ requests: Agent; watches: Agent; url: string; headers: Record<string, string> }> {
    const credentials = await this.#options.credentials.current()
    if (this.#closing.signal.aborted) throw new KubeError('closed', { status: 0, reason: 'Unreachable' })
    if (this.#pools?.key !== credentials.key) {
      this.#pools?.retire()
      this.#pools = new Pools(credentials)
    }
    const query = new URLSearchParams()
    for (const [name, value] of Object.entries(call.query ?? {})) if (value !== undefined) query.set(name, value)
    return {
      requests: this.#pools.requests,
      watches: this.#pools.watches,
      url: `${credentials.server}${call.path}${query.size === 0 ? '' : `?${query.toString()}`}`,
      headers: {
        'user-agent': this.#options.userAgent,
        accept: call.accept ?? 'application/json',
        ...(call.body === undefined ? {} : { 'content-type': call.body.type }),
        ...credentials.headers,
      },
    }
  }

  #report({ verb, resource }: ApiCall, code: number, startMs: number): void {
    this.#options.onRequest({ verb, resource, code, seconds: (this.#options.clock.nowMs() - startMs) / 1_000 })
  }
}

/** HTTP/1.1 only: over one shared HTTP/2 connection a dead TCP connection would take every watch and request along. */
class Pools {
  readonly key: string
  readonly requests: Agent
  readonly watches: Agent

  constructor({ key, tls }: Credentials) {
    this.key = key
    const shared = {
      allowH2: false,
      pipelining: 1,
      keepAliveTimeout: KEEP_ALIVE_MS,
      // The CA of a cluster may itself be signed by another: kubectl and pods in Go take it as it is.
      connect: { ...tls, allowPartialTrustChain: true, timeout: CONNECT_MS, keepAlive: true },
    }
    this.requests = new Agent({ ...shared, connections: CONNECTIONS, maxResponseSize: BODY_BYTES_MAX })
    this.watches = new Agent({ ...shared, connections: null })
  }

  /** What is under way ends in its own time; watches too, since the server ends them within minutes. */
  retire(): void {
    for (const agent of [this.requests, this.watches]) agent.close().catch(() => agent.destroy())
  }

  async destroy(): Promise<void> {
    await Promise.all([this.requests.destroy(), this.watches.destroy()])
  }
}

function mayRepeat(call: ApiCall, error: KubeError, attempt: number): boolean {
  if (error.reason === 'NotLeader') return false
  if (error.status === 429 || error.status === 503) return true
  // With a token that was replaced since.
  if (error.status === 401) return attempt === 1
  if (error.status >= 500) return READS.has(call.verb)
  return error.status === 0 && (REPEATABLE.has(call.verb) || neverSent(error.cause))
}

const NEVER_SENT: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'UND_ERR_CONNECT_TIMEOUT',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
])

function neverSent(cause: unknown): boolean {
  return NEVER_SENT.has(codeOf(cause))
}

function codeOf(error: unknown): string {
  return typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'string' ? error.code : ''
}

function kubeErrorOf(error: unknown, { verb, resource }: ApiCall): KubeError {
  if (error instanceof KubeError) {
    if (error.status !== 0 || error.message.startsWith(`${verb} `)) return error
    const { reason, retryAfterMs, cause } = error
    return new KubeError(`${verb} ${resource}: ${error.message}`, { status: 0, reason, retryAfterMs, cause })
  }
  const code = codeOf(error)
  const reason = code.endsWith('TIMEOUT') ? 'Timeout' : 'Unreachable'
  const what = messageOf(error)
  return new KubeError(`${verb} ${resource}: ${what}${code === '' ? '' : ` (${code})`}`, { status: 0, reason, cause: error })
}

type Headers = Readonly<Record<string, string | readonly string[] | undefined>>

function refusalOf({ verb, resource }: ApiCall, status: number, headers: Headers, text: string): KubeError {
  const { message, reason, retryAfterSeconds } = statusOf(text)
  const header = headers['retry-after']
  const seconds = typeof header === 'string' && /^\d{1,6}$/.test(header) ? Number(header) : retryAfterSeconds
  return new KubeError(`${verb} ${resource}: ${status} ${message.slice(0, MESSAGE_MAX)}`, {
    status,
    reason: reason ?? reasonOf(status),
    retryAfterMs: seconds === undefined ? null : Math.min(seconds * 1_000, RETRY_AFTER_MAX_MS),
  })
}

/** What `meta/v1 Status` says; a proxy before the API server may answer something else. */
export function statusOf(text: string): { readonly message: string; readonly reason?: string; readonly retryAfterSeconds?: number } {
  let status: unknown
  try {
    status = JSON.parse(text)
  } catch {
    return { message: text.trim().slice(0, 200) }
  }
  if (typeof status !== 'object' || status === null) return { message: text.slice(0, 200) }
  const { message, reason, details } = status as { message?: unknown; reason?: unknown; details?: { retryAfterSeconds?: unknown } | null }
  const seconds = details?.retryAfterSeconds
  return {
    message: typeof message === 'string' ? message : '',
    ...(typeof reason === 'string' && reason !== '' ? { reason } : {}),
    ...(typeof seconds === 'number' && seconds > 0 ? { retryAfterSeconds: seconds } : {}),
  }
}

function reasonOf(status: number): string {
  const known: Readonly<Record<number, string>> = {
    401: 'Unauthorized',
    403: 'Forbidden',
    404: 'NotFound',
    409: 'Conflict',
    410: 'Gone',
    422: 'Invalid',
    429: 'TooManyRequests',
    503: 'ServiceUnavailable',
    504: 'Timeout',
  }
  return known[status] ?? 'InternalError'
}
