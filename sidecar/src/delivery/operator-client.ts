/**
 * The connection to the operator: one stream that is called again whenever it ends, for ever, and reports beside it. Whatever
 * goes wrong here is told and tried again: no call of an app waits for it.
 */
import { readFile } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { Agent, request } from 'node:https'
import { isIP } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  DELIVERY_PROTOCOL,
  ReportAnswerSchema,
  REPORTS_PATH,
  STREAM_HEADERS,
  STREAM_PATH,
  StreamEventSchemas,
} from '@farebox/crds/delivery.ts'
import { SIDECAR_CONFIG_SCHEMA_VERSION } from '@farebox/crds/sidecar-config.ts'
import { CONFIG_BYTES_MAX } from '../config/watch.ts'
import { messageOf } from '../error-text.ts'
import { SIDECAR_VERSION } from '../version.ts'
import { EventReader } from './event-reader.ts'
import type { NamedEvent } from './event-reader.ts'
import { reconnectWaitMs } from './reconnect.ts'
import type { StreamEnd } from './reconnect.ts'
import type { Trust } from './trust.ts'

export interface StreamListener {
  /** Not checked yet. */
  config(text: string): void
  /** The operator would send what has this hash. */
  current(hash: string): void
  released(): void
  beat(nowMs: number): void
  connected(): void
  ended(end: StreamEnd): void
}

export interface OperatorClientOptions {
  readonly url: string
  readonly trust: Trust
  /** Path of the token; read for each call, since it is replaced while we run. */
  readonly tokenFile: string
  /** Hash of the config in force; null: none. */
  readonly have: () => string | null
  readonly listener: StreamListener
  /** How long the stream may take to be there. */
  readonly connectMsMax?: number
}

/** Three beats. */
const SILENT_MS_MAX = 45_000
const CONNECT_MS_MAX = 10_000
const REPORT_MS_MAX = 10_000
const EVENT_BYTES_MAX = CONFIG_BYTES_MAX + 64 * 1024
const ERROR_BYTES_MAX = 1_024

export class OperatorClient {
  readonly #options: OperatorClientOptions
  readonly #closing = new AbortController()
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 })
  #isConnected = false
  #connections = 0

  constructor(options: OperatorClientOptions) {
    this.#options = options
  }

  get isConnected(): boolean {
    return this.#isConnected
  }
  /** How often the stream came to be again, after the first time. */
  get reconnects(): number {
    return Math.max(0, this.#connections - 1)
  }

  /** At once, and whenever it ends. */
  start(): void {
    void this.#follow()
  }

  close(): void {
    this.#closing.abort()
    this.#agent.destroy()
  }

  /** Sends one report; the status of the answer and what it says. Rejects when there is none. */
  async report(body: string, withinMs = REPORT_MS_MAX): Promise<ReportOutcome> {
    const { tls, headers } = await this.#identity()
    const signal = AbortSignal.any([this.#closing.signal, AbortSignal.timeout(withinMs)])
    return await new Promise((resolve, reject) => {
      const asked = request(
        new URL(REPORTS_PATH, this.#options.url),
        {
          ...tls,
          agent: this.#agent,
          method: 'POST',
          signal,
          headers: { ...headers, 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
        },
        (answer) => void saidBy(answer).then(({ error, totals }) => resolve({ status: answer.statusCode ?? 0, error, totals }), reject),
      )
      asked.on('error', reject)
      asked.end(body)
    })
  }

  /** Never rejects. */
  async #follow(): Promise<void> {
    const { signal } = this.#closing
    let failures = 0
    while (!signal.aborted) {
      const end = await this.#stream()
      this.#isConnected = false
      if (signal.aborted) return
      failures = end.kind === 'refused' ? failures + 1 : 0
      this.#options.listener.ended(end)
      await sleep(reconnectWaitMs(end, failures, Math.random()), undefined, { signal, ref: false }).catch(() => undefined)
    }
  }

  /** One connection, from its beginning to its end. */
  async #stream(): Promise<StreamEnd> {
    let identity: Identity
    try {
      identity = await this.#identity()
    } catch (error) {
      return { kind: 'refused', reason: messageOf(error), waitMs: null }
    }
    const have = this.#options.have()
    return await new Promise((resolve) => {
      const asked = request(new URL(STREAM_PATH, this.#options.url), {
        ...identity.tls,
        agent: false,
        signal: this.#closing.signal,
        headers: {
          ...identity.headers,
          accept: 'text/event-stream',
          [STREAM_HEADERS.protocol]: DELIVERY_PROTOCOL,
          [STREAM_HEADERS.sidecar]: SIDECAR_VERSION,
          [STREAM_HEADERS.schemas]: SIDECAR_CONFIG_SCHEMA_VERSION,
          ...(have === null ? {} : { [STREAM_HEADERS.have]: have }),
        },
      })
      // A timeout of the request would begin only when the connection is there, which TCP tries for minutes.
      const late = setTimeout(
        () => asked.destroy(new Error('the operator did not answer in time')),
        this.#options.connectMsMax ?? CONNECT_MS_MAX,
      )
      asked.on('close', () => clearTimeout(late))
      asked.on('error', (error) => resolve({ kind: 'refused', reason: error.message, waitMs: null }))
      asked.on('response', (answer) => {
        if (answer.statusCode !== 200) return void refusal(answer).then(resolve)
        clearTimeout(late)
        this.#connections += 1
        this.#isConnected = true
        this.#options.listener.connected()
        asked.setTimeout(SILENT_MS_MAX, () => asked.destroy(new Error('the operator was silent for too long')))
        this.#read(answer, resolve)
      })
      asked.end()
    })
  }

  #read(answer: IncomingMessage, resolve: (end: StreamEnd) => void): void {
    const events = new EventReader(EVENT_BYTES_MAX)
    answer.on('data', (chunk: Buffer) => {
      try {
        for (const event of events.push(chunk)) {
          const end = this.#take(event)
          if (end === null) continue
          resolve(end)
          answer.destroy()
          return
        }
      } catch (error) {
        // Nothing that is sent here may harm; the next stream may be better.
        resolve({ kind: 'refused', reason: `what it sent cannot be used: ${messageOf(error)}`, waitMs: null })
        answer.destroy()
      }
    })
    answer.on('error', (error) => resolve({ kind: 'lost', reason: error.message }))
    answer.on('close', () => resolve({ kind: 'lost', reason: 'the stream ended' }))
  }

  /** Events that this version does not know say nothing to it. */
  #take({ name, data }: NamedEvent): StreamEnd | null {
    const { listener, trust } = this.#options
    switch (name) {
      case 'config':
        listener.config(data)
        return null
      case 'current':
        listener.current(StreamEventSchemas.current.parse(JSON.parse(data)).hash)
        return null
      case 'released':
        listener.released()
        return null
      case 'trust':
        trust.tell(StreamEventSchemas.trust.parse(JSON.parse(data)).caBundle)
        return null
      case 'beat':
        listener.beat(StreamEventSchemas.beat.parse(JSON.parse(data)).nowMs)
        return null
      case 'goodbye':
        return { kind: 'goodbye', withinMs: StreamEventSchemas.goodbye.parse(JSON.parse(data)).withinMs }
      default:
        return null
    }
  }

  /** Whom we trust, and who we are. */
  async #identity(): Promise<Identity> {
    const { url, trust, tokenFile } = this.#options
    const [ca, token] = await Promise.all([trust.certificates(), readFile(tokenFile, 'utf8')])
    const host = new URL(url).hostname.replace(/^\[|\]$/g, '')
    return {
      // A CA may itself be signed by another. RFC 6066 allows no addresses for a server's name.
      tls: { ca, allowPartialTrustChain: true, ...(isIP(host) === 0 ? { servername: host } : {}) },
      headers: { authorization: `Bearer ${token.trim()}` },
    }
  }
}

export interface ReportOutcome {
  readonly status: number
  readonly error: string
  /** Whether the next report is to have totals. */
  readonly totals: boolean
}

interface Identity {
  readonly tls: { readonly ca: string; readonly allowPartialTrustChain: true; readonly servername?: string }
  readonly headers: Readonly<Record<string, string>>
}

async function refusal(answer: IncomingMessage): Promise<StreamEnd> {
  const said = await saidBy(answer).then(
    ({ error }) => error,
    () => '',
  )
  const seconds = Number(answer.headers['retry-after'])
  return {
    kind: 'refused',
    reason: `the operator answered ${answer.statusCode} ${said}`.trim(),
    waitMs: seconds > 0 ? seconds * 1_000 : null,
  }
}

/** The `error` of an answer, or its text, cut where it is long; and what it says of the next report. */
async function saidBy(answer: IncomingMessage): Promise<Pick<ReportOutcome, 'error' | 'totals'>> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    if (bytes < ERROR_BYTES_MAX) chunks.push(chunk)
    bytes += chunk.length
  }
  const text = Buffer.concat(chunks).toString('utf8').slice(0, ERROR_BYTES_MAX)
  try {
    const json: unknown = JSON.parse(text)
    const error = typeof json === 'object' && json !== null && 'error' in json ? String(json.error) : ''
    return { error, totals: ReportAnswerSchema.safeParse(json).data?.totals ?? true }
  } catch {
    return { error: text, totals: true }
  }
}
