/**
 * The provider call: one attempt, streamed as it comes, with deadlines and back-pressure, over kept-alive HTTP/1.1. Follows
 * no redirect and repeats nothing: whether a request that broke off was billed, nobody can know.
 */
import { UpstreamConnection } from './upstream-connection.ts'
import type { ConnectionEvents, Origin } from './upstream-connection.ts'

const CONNECT_TIMEOUT_MS = 10_000
/** Reasoning models send nothing while they think; the SDKs wait ten minutes by default. */
const HEADERS_TIMEOUT_MS = 600_000
/** Longest silence inside an answer. */
const BODY_TIMEOUT_MS = 600_000
/** For as long a client may take nothing of its answer, alive as it may be: the call holds money and a connection meanwhile. */
const UNREAD_TIMEOUT_MS = 600_000
const CONNECTIONS_PER_ORIGIN = 512
/** A free connection is closed after this time: sooner than servers do, as a rule, so that none is closed under a request. */
const FREE_MS_MAX = 4_000
const LOOK_EVERY_MS = 1_000

/** What a client is told of a provider that answers with one: it would carry the credential elsewhere, and the body too. */
export const REDIRECT_MESSAGE = 'The model provider answered with a redirect, which is not followed.'

export interface UpstreamCall {
  /** With or without a path; a trailing slash counts for nothing. */
  readonly baseUrl: string
  /** Path and query below the base URL: `/chat/completions`. */
  readonly path: string
  readonly method: string
  /** Raw list; host and length of the body are added. */
  readonly headers: readonly string[]
  readonly body: Buffer | null
}

/** What happens to a call, in order but for `sent`: `head`, any `data`, then exactly one of `end` and `failed`. After `abort()`: nothing. */
export interface UpstreamEvents {
  /** The request has all gone out: nothing reads its body any more. At any time before the end, or never. */
  sent?(): void
  /** Name, value, name, value. */
  head(statusCode: number, rawHeaders: readonly string[]): void
  /** Good for the time of the call, its memory is used again: what is kept must be copied. */
  data(chunk: Buffer): void
  end(): void
  failed(failure: UpstreamFailure): void
}

export interface UpstreamFailure {
  /**
   * `connect`: nothing was sent; `timeout`: no answer in time; `cut`: the connection broke after the request was out; `unread`: the answer
   * was paused for too long.
   */
  readonly kind: 'connect' | 'timeout' | 'cut' | 'unread'
  readonly cause: Error
}

export interface UpstreamHandle {
  /** Closes the connection, so that the provider stops. False: nothing was sent, so that nothing can be billed. */
  abort(): boolean
  pause(): void
  resume(): void
}

export interface UpstreamTimes {
  /** Until a connection stands, and for as long again until one is free where all are in use. */
  readonly connectMs: number
  readonly headersMs: number
  readonly bodyMs: number
  readonly unreadMs: number
  readonly freeMs: number
}

export class UpstreamPool {
  readonly #times: UpstreamTimes
  readonly #connectionsMax: number
  readonly #bases = new Map<string, Base>()
  readonly #hosts = new Map<string, Host>()
  readonly #look: NodeJS.Timeout
  #isOpen = true

  constructor(options: Partial<UpstreamTimes> & { readonly connectionsMax?: number } = {}) {
    const { connectionsMax = CONNECTIONS_PER_ORIGIN, ...times } = options
    this.#connectionsMax = connectionsMax
    this.#times = {
      connectMs: CONNECT_TIMEOUT_MS,
      headersMs: HEADERS_TIMEOUT_MS,
      bodyMs: BODY_TIMEOUT_MS,
      unreadMs: UNREAD_TIMEOUT_MS,
      freeMs: FREE_MS_MAX,
      ...times,
    }
    // One look at all calls from time to time costs less than a timer for each.
    const everyMs = Math.max(1, Math.min(LOOK_EVERY_MS, Math.min(...Object.values(this.#times)) / 4))
    this.#look = setInterval(() => this.#lookAtAll(), everyMs).unref()
  }

  /** Throws `TypeError` for a base URL that is none. */
  call(call: UpstreamCall, events: UpstreamEvents): UpstreamHandle {
    const base = this.#baseOf(call.baseUrl)
    const attempt = new Attempt(headOf(call, base), call.body, events)
    const obstacle = this.#isOpen ? obstacleTo(call) : 'the sidecar stops'
    if (obstacle === null) base.host.begin(attempt)
    else queueMicrotask(() => attempt.fail('connect', new Error(obstacle)))
    return attempt
  }

  /** Where the connections that are open go. */
  remotes(): readonly { readonly host: string; readonly address: string; readonly port: number }[] {
    return [...this.#hosts.values()].flatMap((host) => host.remotes())
  }

  /** Breaks off what is out. */
  close(): void {
    this.#isOpen = false
    clearInterval(this.#look)
    for (const host of this.#hosts.values()) host.close()
  }

  #baseOf(baseUrl: string): Base {
    const known = this.#bases.get(baseUrl)
    if (known !== undefined) return known
    const url = new URL(baseUrl)
    const isTls = url.protocol === 'https:'
    if (!isTls && url.protocol !== 'http:') throw new TypeError('the base URL of an upstream must be http or https')
    const origin = { isTls, host: url.hostname.replace(/^\[|\]$/g, ''), port: Number(url.port) || (isTls ? 443 : 80) }
    const host = this.#hosts.get(url.origin) ?? new Host(origin, this.#connectionsMax)
    this.#hosts.set(url.origin, host)
    const base = { host, authority: url.host, prefix: url.pathname.replace(/\/$/, '') }
    this.#bases.set(baseUrl, base)
    return base
  }

  #lookAtAll(): void {
    const nowMs = performance.now()
    for (const host of this.#hosts.values()) host.look(nowMs, this.#times)
  }
}

interface Base {
  readonly host: Host
  /** For the `host` header. */
  readonly authority: string
  readonly prefix: string
}

/** The head of the request, with its empty line. */
function headOf({ path, method, headers, body }: UpstreamCall, { authority, prefix }: Base): string {
  let head = `${method} ${prefix}${path} HTTP/1.1\r\nhost: ${authority}\r\nconnection: keep-alive\r\n`
  for (let index = 0; index + 1 < headers.length; index += 2) head += `${headers[index]}: ${headers[index + 1]}\r\n`
  // A method that usually has a body says that it has none.
  if (body !== null) head += `content-length: ${body.length}\r\n`
  else if (method !== 'GET' && method !== 'HEAD') head += 'content-length: 0\r\n'
  return `${head}\r\n`
}

/** What of a call would be read as something else at the other end; null: nothing. */
function obstacleTo({ method, path, headers }: UpstreamCall): string | null {
  if (method === '' || UNSENDABLE_NAME.test(method)) return 'a method must be a token'
  if (UNSENDABLE_TARGET.test(path)) return 'a path must be without spaces and controls'
  for (let index = 0; index + 1 < headers.length; index += 2) {
    const name = headers[index] ?? ''
    if (name === '' || UNSENDABLE_NAME.test(name) || UNSENDABLE_VALUE.test(headers[index + 1] ?? ''))
      return 'a header must be without line breaks and controls'
  }
  return null
}

// A head leaves in latin1: of a character beyond it, another would arrive, even a line break.
const UNSENDABLE_TARGET = /[^!-~\x80-\xff]/
const UNSENDABLE_NAME = /[^!#$%&'*+\-.^_`|~0-9A-Za-z]/
const UNSENDABLE_VALUE = /[^\t -~\x80-\xff]/

/** The connections to one host, and the calls that wait for one of them. */
class Host {
  readonly #origin: Origin
  readonly #connectionsMax: number
  /** Those without a call, the last used one last. */
  readonly #free: { readonly connection: UpstreamConnection; readonly sinceMs: number }[] = []
  readonly #busy = new Map<UpstreamConnection, Attempt>()
  #waiting: Attempt[] = []

  constructor(origin: Origin, connectionsMax: number) {
    this.#origin = origin
    this.#connectionsMax = connectionsMax
  }

  begin(attempt: Attempt): void {
    for (let last = this.#free.pop(); last !== undefined; last = this.#free.pop()) {
      if (last.connection.isFree) return this.#send(attempt, last.connection)
    }
    if (this.#busy.size >= this.#connectionsMax) {
      this.#waiting.push(attempt)
      return
    }
    const connection = new UpstreamConnection(this.#origin, () => this.#closed(connection))
    this.#send(attempt, connection)
  }

  /** Fails what takes too long, closes what has been free for long, and lets go of the bodies of calls that gave up waiting. */
  look(nowMs: number, times: UpstreamTimes): void {
    for (const attempt of this.#waiting)
      if (nowMs - attempt.heardMs > times.connectMs)
        attempt.fail('connect', new Error(`all ${this.#connectionsMax} connections to the provider are in use`))
    if (this.#waiting.some(({ isOver }) => isOver)) this.#waiting = this.#waiting.filter(({ isOver }) => !isOver)
    while (this.#free[0] !== undefined && nowMs - this.#free[0].sinceMs > times.freeMs) this.#free.shift()?.connection.destroy()
    for (const [connection, attempt] of this.#busy) {
      if (attempt.pausedMs !== null) {
        if (nowMs - attempt.pausedMs > times.unreadMs)
          attempt.fail('unread', new Error('the client took nothing of the answer for too long'))
        continue
      }
      const silentMs = nowMs - attempt.heardMs
      if (connection.isConnecting && silentMs > times.connectMs)
        attempt.fail('connect', new Error('the provider could not be reached in time'))
      else if (!connection.isConnecting && silentMs > (attempt.hasHead ? times.bodyMs : times.headersMs))
        attempt.fail('timeout', new Error('the provider was silent for too long'))
    }
  }

  close(): void {
    const cause = new Error('the sidecar stops')
    for (const { connection } of this.#free.splice(0)) connection.destroy()
    for (const attempt of this.#waiting.splice(0)) attempt.fail('connect', cause)
    for (const [connection, attempt] of this.#busy) attempt.fail(connection.isConnecting ? 'connect' : 'cut', cause)
  }

  remotes(): readonly { readonly host: string; readonly address: string; readonly port: number }[] {
    const { host, port } = this.#origin
    const open = [...this.#busy.keys(), ...this.#free.map(({ connection }) => connection)]
    const addresses = new Set(open.flatMap(({ remoteAddress }) => remoteAddress ?? []))
    return [...addresses].map((address) => ({ host, address, port }))
  }

  #send(attempt: Attempt, connection: UpstreamConnection): void {
    if (attempt.isOver) return this.#release(connection)
    this.#busy.set(connection, attempt)
    attempt.sendOn(connection, () => this.#release(connection))
  }

  #release(connection: UpstreamConnection): void {
    this.#busy.delete(connection)
    if (!connection.isFree) return // closed: the next in line gets a new one
    const next = this.#next()
    if (next !== null) this.#send(next, connection)
    else this.#free.push({ connection, sinceMs: performance.now() })
  }

  #closed(connection: UpstreamConnection): void {
    this.#busy.delete(connection)
    const place = this.#free.findIndex((free) => free.connection === connection)
    if (place >= 0) this.#free.splice(place, 1)
    const next = this.#busy.size < this.#connectionsMax ? this.#next() : null
    if (next !== null) this.begin(next)
  }

  #next(): Attempt | null {
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) if (!next.isOver) return next
    return null
  }
}

/** One call on its way. */
class Attempt implements UpstreamHandle, ConnectionEvents {
  readonly #head: string
  #body: Buffer | null
  readonly #events: UpstreamEvents
  #connection: UpstreamConnection | null = null
  #released: () => void = () => undefined
  /** Since when it is paused; null: it is not. */
  pausedMs: number | null = null
  isOver = false
  hasHead = false
  /** When something was last heard of it; of one that waits for a connection, when it came. */
  heardMs = performance.now()

  constructor(head: string, body: Buffer | null, events: UpstreamEvents) {
    this.#head = head
    this.#body = body
    this.#events = events
  }

  sendOn(connection: UpstreamConnection, released: () => void): void {
    this.#connection = connection
    this.#released = released
    this.heardMs = performance.now()
    connection.send(this.#head, this.#body, this)
    if (this.pausedMs !== null) connection.pause()
  }

  // Once it is over, its connection may be another's.
  abort(): boolean {
    const wasSent = this.#connection?.isConnecting === false
    if (this.isOver) return wasSent
    this.isOver = true
    this.#connection?.destroy()
    return wasSent
  }
  pause(): void {
    if (this.isOver) return
    this.pausedMs ??= performance.now()
    this.#connection?.pause()
  }
  resume(): void {
    if (this.isOver) return
    this.pausedMs = null
    this.heardMs = performance.now() // the silence was ours
    this.#connection?.resume()
  }

  /** Gives up on it. */
  fail(kind: UpstreamFailure['kind'], cause: Error): void {
    if (this.isOver) return
    this.abort()
    this.#events.failed({ kind, cause })
  }

  sent(): void {
    this.#body = null
    this.#events.sent?.()
  }
  head(statusCode: number, rawHeaders: readonly string[]): void {
    this.hasHead = true
    this.heardMs = performance.now()
    if (!this.isOver) this.#events.head(statusCode, rawHeaders)
  }
  data(chunk: Buffer): void {
    this.heardMs = performance.now()
    if (!this.isOver) this.#events.data(chunk)
  }
  end(): void {
    const wasOver = this.isOver
    this.isOver = true
    this.#released()
    if (!wasOver) this.#events.end()
  }
  broken(cause: Error): void {
    const kind = this.#connection?.isConnecting === true ? 'connect' : 'cut'
    if (this.isOver) return
    this.isOver = true
    this.#events.failed({ kind, cause })
  }
}
