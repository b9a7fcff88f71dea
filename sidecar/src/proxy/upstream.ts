/** The provider call: one attempt, streamed as it comes, with deadlines and back-pressure. Follows no redirect. */
import { Agent } from 'undici'
import type { Dispatcher } from 'undici'

const CONNECT_TIMEOUT_MS = 10_000
/** Reasoning models send nothing while they think; the SDKs wait ten minutes by default. */
const HEADERS_TIMEOUT_MS = 600_000
/** Longest silence inside an answer. */
const BODY_TIMEOUT_MS = 600_000
const CONNECTIONS_PER_ORIGIN = 512

export interface UpstreamCall {
  readonly origin: string
  readonly path: string
  readonly method: string
  /** Raw list; the length of the body is added. */
  readonly headers: readonly string[]
  readonly body: Buffer | null
}

/** What happens to a call, in order: `head`, any `data`, then exactly one of `end` and `failed`. After `abort()`: nothing. */
export interface UpstreamEvents {
  head(statusCode: number, rawHeaders: readonly Buffer[]): void
  data(chunk: Buffer): void
  end(): void
  failed(failure: UpstreamFailure): void
}

export interface UpstreamFailure {
  /** `connect`: nothing was sent; `timeout`: no answer in time; `cut`: the connection broke after the request was out. */
  readonly kind: 'connect' | 'timeout' | 'cut'
  readonly cause: Error
}

export interface UpstreamHandle {
  /** Closes the connection, so that the provider stops. */
  abort(): void
  pause(): void
  resume(): void
}

export class UpstreamPool {
  readonly #agent: Agent

  constructor(options: { readonly headersTimeoutMs?: number; readonly bodyTimeoutMs?: number } = {}) {
    this.#agent = new Agent({
      connect: { timeout: CONNECT_TIMEOUT_MS },
      headersTimeout: options.headersTimeoutMs ?? HEADERS_TIMEOUT_MS,
      bodyTimeout: options.bodyTimeoutMs ?? BODY_TIMEOUT_MS,
      connections: CONNECTIONS_PER_ORIGIN,
      pipelining: 1,
      allowH2: false,
    })
  }

  call(call: UpstreamCall, events: UpstreamEvents): UpstreamHandle {
    const attempt = new Attempt(events)
    this.#agent.dispatch(
      {
        origin: call.origin,
        path: call.path,
        method: call.method,
        headers: call.headers as string[],
        body: call.body,
        idempotent: false,
      },
      attempt,
    )
    return attempt
  }

  async close(): Promise<void> {
    await this.#agent.destroy()
  }
}

class AbortedByUs extends Error {}

/** One call as undici drives it. */
class Attempt implements Dispatcher.DispatchHandler, UpstreamHandle {
  readonly #events: UpstreamEvents
  #controller: Dispatcher.DispatchController | null = null
  #aborted = false
  #over = false
  #paused = false

  constructor(events: UpstreamEvents) {
    this.#events = events
  }

  abort(): void {
    this.#aborted = true
    this.#controller?.abort(new AbortedByUs())
  }
  pause(): void {
    this.#paused = true
    this.#controller?.pause()
  }
  resume(): void {
    this.#paused = false
    this.#controller?.resume()
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
    if (this.#aborted) controller.abort(new AbortedByUs())
    else if (this.#paused) controller.pause()
  }
  onResponseStart(controller: Dispatcher.DispatchController, statusCode: number): void {
    if (statusCode < 200 || this.#aborted) return // 1xx answers are not the answer
    this.#events.head(statusCode, (controller.rawHeaders ?? []) as readonly Buffer[])
  }
  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (!this.#aborted) this.#events.data(chunk)
  }
  onResponseEnd(): void {
    if (this.#aborted || this.#over) return
    this.#over = true
    this.#events.end()
  }
  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    if (this.#aborted || this.#over) return
    this.#over = true
    this.#events.failed({ kind: failureKind(error, this.#controller !== null), cause: error })
  }
}

function failureKind(error: Error, started: boolean): UpstreamFailure['kind'] {
  const code = 'code' in error ? error.code : undefined
  if (code === 'UND_ERR_HEADERS_TIMEOUT' || code === 'UND_ERR_BODY_TIMEOUT') return 'timeout'
  if (
    code === 'UND_ERR_CONNECT_TIMEOUT' ||
    code === 'ECONNREFUSED' ||
    code === 'ENOTFOUND' ||
    code === 'EAI_AGAIN' ||
    code === 'EHOSTUNREACH' ||
    code === 'ENETUNREACH'
  )
    return 'connect'
  return started ? 'cut' : 'connect'
}
