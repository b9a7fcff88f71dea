/**
 * The streams of sidecars: each is told the config of the budget that governs its pod, when it comes and whenever that changes.
 * What is to be said follows from the caches, whatever woke us; a reader that is slow gets the newest only.
 */
import { STREAM_HEADERS, DELIVERY_PROTOCOL, BEAT_MS } from '@farebox/crds/delivery.ts'
import type { StreamEvent } from '@farebox/crds/delivery.ts'
import type { IncomingHttpHeaders, ServerResponse } from 'node:http'
import * as z from 'zod'
import type { DeliveryEvents } from './events.ts'
import type { PodIdentity } from './token-verifier.ts'

/** A budget's config as it goes out. One object for as long as it is the same: its bytes are made once for each object. */
export interface StreamConfig {
  /** `namespace/name`. */
  readonly budget: string
  readonly version: number
  readonly hash: string
  readonly schemaVersion: number
  /** The whole `SidecarConfig` as JSON. */
  readonly text: string
}

/** `pending`: a budget governs the pod and has no config yet: nothing is said. `released`: none does. */
export type Governing =
  | { readonly status: 'governed'; readonly config: StreamConfig }
  | { readonly status: 'pending' }
  | { readonly status: 'released' }

export interface StreamHubOptions {
  readonly configFor: (pod: PodIdentity) => Governing
  readonly events: DeliveryEvents
  readonly nowMs: () => number
  readonly connectionsMax?: number
  readonly acceptsPerSecond?: number
  /** Changes that follow one another within this time are told once. */
  readonly debounceMs?: number
  /** Spoken here; the two before it are served as well. */
  readonly protocol?: number
  /** After this time without a byte taken a reader is cut off. */
  readonly slowMs?: number
  readonly beatMs?: number
}

export interface ConnectedSidecar {
  readonly pod: PodIdentity
  readonly sidecarVersion: string
  readonly protocol: number
  /** Of the config that it was told last, or said to have. */
  readonly hash: string | null
  /** It cannot read the config that it should have. */
  readonly isUnsupported: boolean
}

/** What a sidecar says of itself when it opens its stream. */
export interface Hello {
  readonly protocol: number
  readonly sidecarVersion: string
  readonly schemas: ReadonlySet<number>
  readonly have: string | null
}

/** Each sidecar keeps two connections of some 60 KB, one for reports: so many fit into the chart's 512 Mi. */
const CONNECTIONS_MAX = 3_000
const ACCEPTS_PER_SECOND = 200
const DEBOUNCE_MS = 50
const SLOW_MS = 60_000
/** So many protocols before ours are served. */
const PROTOCOLS_BEFORE = 2
const VERSION_LENGTH_MAX = 64
const SCHEMAS_MAX = 16

const ConfigFieldsSchema = z.object({
  namespace: z.string(),
  budget: z.string(),
  version: z.int(),
  hash: z.string(),
  schemaVersion: z.int(),
})

/** From a config map's text; null where that is no config. */
export function streamConfigOf(text: string): StreamConfig | null {
  try {
    const fields = ConfigFieldsSchema.safeParse(JSON.parse(text))
    if (!fields.success) return null
    const { namespace, budget, version, hash, schemaVersion } = fields.data
    return { budget: `${namespace}/${budget}`, version, hash, schemaVersion, text }
  } catch {
    return null
  }
}

/** Null where the headers are none of a sidecar. */
export function helloOf(headers: IncomingHttpHeaders): Hello | null {
  const text = (name: string): string => String(headers[name] ?? '')
  const protocol = Number(text(STREAM_HEADERS.protocol))
  if (!Number.isSafeInteger(protocol) || protocol < 1) return null
  const have = text(STREAM_HEADERS.have)
  const schemas = text(STREAM_HEADERS.schemas).split(',').slice(0, SCHEMAS_MAX)
  return {
    protocol,
    sidecarVersion: text(STREAM_HEADERS.sidecar).slice(0, VERSION_LENGTH_MAX),
    schemas: new Set(schemas.map((schema) => Number(schema.trim()))),
    have: have === '' ? null : have,
  }
}

/** Owns every stream that was opened, and the timers of what they are told, until `drain`, which ends them. */
export class StreamHub {
  readonly #options: StreamHubOptions
  readonly #streams = new Map<string, Stream>()
  readonly #frames = new WeakMap<StreamConfig, Buffer>()
  readonly #accepts: { tokens: number; atMs: number }
  #trusted: Buffer | null = null
  #changing: NodeJS.Timeout | null = null
  /** Null: all of them. */
  #changed: Set<string> | null = new Set()
  #beat: NodeJS.Timeout | null = null
  #isDraining = false

  constructor(options: StreamHubOptions) {
    this.#options = options
    this.#accepts = { tokens: options.acceptsPerSecond ?? ACCEPTS_PER_SECOND, atMs: performance.now() }
  }

  /** Whether there is room for one more. Asked before its token is looked at: that costs more than this. */
  hasRoom(): boolean {
    const { connectionsMax = CONNECTIONS_MAX, events } = this.#options
    const hasRoom = !this.#isDraining && this.#streams.size < connectionsMax
    if (!hasRoom) events.count('streamBusy')
    return hasRoom
  }

  /** Whether one more may come within this second. Asked of those with a good token alone: others must not keep them out. */
  mayAccept(): boolean {
    const { acceptsPerSecond = ACCEPTS_PER_SECOND, events } = this.#options
    const nowMs = performance.now()
    this.#accepts.tokens = Math.min(acceptsPerSecond, this.#accepts.tokens + ((nowMs - this.#accepts.atMs) * acceptsPerSecond) / 1_000)
    this.#accepts.atMs = nowMs
    if (this.#accepts.tokens < 1) {
      events.count('streamBusy')
      return false
    }
    this.#accepts.tokens -= 1
    return true
  }

  /** Null: served. Otherwise why not. */
  protocolProblem({ protocol }: Hello): string | null {
    const { protocol: own = DELIVERY_PROTOCOL } = this.#options
    if (protocol > own) return `this operator speaks protocol ${own}, which is older than ${protocol}`
    if (protocol < own - PROTOCOLS_BEFORE) return `this operator serves protocols ${own - PROTOCOLS_BEFORE} to ${own}, not ${protocol}`
    return null
  }

  /** Takes the answer over, until its connection ends. */
  open(pod: PodIdentity, hello: Hello, answer: ServerResponse): void {
    const { events, slowMs = SLOW_MS, beatMs = BEAT_MS } = this.#options
    const former = this.#streams.get(pod.uid)
    if (former !== undefined) {
      events.count('streamReplaced')
      former.end()
    }
    const stream = new Stream(pod, hello, answer, slowMs)
    this.#streams.set(pod.uid, stream)
    events.count('streamOpened')
    answer.on('error', () => undefined) // `close` follows
    answer.on('close', () => {
      stream.end()
      if (this.#streams.get(pod.uid) === stream) this.#streams.delete(pod.uid)
      events.count('streamClosed')
    })
    answer.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store', connection: 'close' })
    if (this.#trusted !== null) stream.send('trust', this.#trusted)
    this.#tell(stream)
    stream.send('beat', this.#beatFrame())
    if (this.#isDraining) stream.end() // it came while its token was looked at
    else this.#beat ??= setInterval(() => this.#beatAll(), beatMs).unref()
  }

  /** Something of what configs follow from has changed, in this namespace or anywhere. */
  changed(namespace?: string): void {
    if (namespace === undefined) this.#changed = null
    else this.#changed?.add(namespace)
    this.#changing ??= setTimeout(() => {
      const namespaces = this.#changed
      this.#changing = null
      this.#changed = new Set()
      for (const stream of this.#streams.values()) if (namespaces?.has(stream.pod.namespace) ?? true) this.#tell(stream)
    }, this.#options.debounceMs ?? DEBOUNCE_MS)
  }

  /** Certificates, as PEM, that all are to trust from now on. */
  trust(caBundle: string): void {
    const frame = frameOf('trust', JSON.stringify({ caBundle }))
    if (this.#trusted?.equals(frame) === true) return
    this.#trusted = frame
    for (const stream of this.#streams.values()) stream.send('trust', frame)
  }

  /** Its stream ends. */
  podGone(uid: string): void {
    this.#streams.get(uid)?.end()
  }

  /** All are to look for another replica within this time; none is taken any more. */
  drain(withinMs: number): void {
    this.#isDraining = true
    if (this.#beat !== null) clearInterval(this.#beat)
    if (this.#changing !== null) clearTimeout(this.#changing)
    const frame = frameOf('goodbye', JSON.stringify({ withinMs }))
    for (const stream of this.#streams.values()) stream.sayLast(frame)
  }

  get size(): number {
    return this.#streams.size
  }

  *connected(): Iterable<ConnectedSidecar> {
    for (const { pod, hello, hash, isUnsupported } of this.#streams.values())
      yield { pod, sidecarVersion: hello.sidecarVersion, protocol: hello.protocol, hash, isUnsupported }
  }

  /** What this pod should know, where that is not what it was told last. */
  #tell(stream: Stream): void {
    const { configFor, events } = this.#options
    const governing = configFor(stream.pod)
    switch (governing.status) {
      case 'pending':
        return
      case 'released':
        if (stream.told === null) return
        stream.told = null
        stream.isUnsupported = false
        stream.send('config', RELEASED)
        return events.count('releasedSent')
      case 'governed': {
        const { config } = governing
        const told = `${config.budget} ${config.version} ${config.hash}`
        if (stream.told === told) return
        stream.told = told
        stream.isUnsupported = !stream.hello.schemas.has(config.schemaVersion)
        if (stream.isUnsupported) {
          const fields = { pod: `${stream.pod.namespace}/${stream.pod.name}`, sidecar: stream.hello.sidecarVersion }
          events.log('warn', 'a sidecar cannot read the schema of its config, and keeps the one that it has', fields)
          // Its name alone: a sidecar that hears nothing of its config would take us for away.
          stream.send('config', frameOf('current', JSON.stringify({ hash: config.hash })))
          return events.count('schemaUnsupported')
        }
        // One that was sent may have been refused as older than what is in force: with another version it is sent again.
        const isThere = config.hash === stream.hash && (stream.sentVersion === null || stream.sentVersion === config.version)
        if (isThere) {
          stream.send('config', frameOf('current', JSON.stringify({ hash: config.hash })))
          return events.count('currentSent')
        }
        stream.hash = config.hash
        stream.sentVersion = config.version
        stream.send('config', this.#frameFor(config))
        return events.count('configPushed')
      }
    }
  }

  #frameFor(config: StreamConfig): Buffer {
    const known = this.#frames.get(config)
    if (known !== undefined) return known
    const frame = frameOf('config', config.text)
    this.#frames.set(config, frame)
    return frame
  }

  #beatFrame(): Buffer {
    return frameOf('beat', JSON.stringify({ nowMs: this.#options.nowMs() }))
  }

  #beatAll(): void {
    const frame = this.#beatFrame()
    for (const stream of this.#streams.values()) {
      if (stream.isStuck) {
        this.#options.events.count('slowReader')
        stream.end()
      } else stream.send('beat', frame)
    }
  }
}

const RELEASED = frameOf('released', '{}')

/** What may wait for a slow reader: of each kind the newest, in this order. */
const KINDS = ['trust', 'config', 'beat'] as const
type Kind = (typeof KINDS)[number]

/** One sidecar's connection. */
class Stream {
  readonly pod: PodIdentity
  readonly hello: Hello
  readonly #answer: ServerResponse
  readonly #slowMs: number
  readonly #waiting = new Map<Kind, Buffer>()
  #stuckSinceMs: number | null = null
  /** What it was told last; undefined: nothing yet; null: that it is released. */
  told: string | null | undefined = undefined
  hash: string | null
  /** Of the config that was sent last; null: none was, and what it said to have counts. */
  sentVersion: number | null = null
  isUnsupported = false

  constructor(pod: PodIdentity, hello: Hello, answer: ServerResponse, slowMs: number) {
    this.pod = pod
    this.hello = hello
    this.hash = hello.have
    this.#answer = answer
    this.#slowMs = slowMs
    answer.on('drain', () => this.#flush())
  }

  /** Its reader has taken nothing for too long. */
  get isStuck(): boolean {
    return this.#stuckSinceMs !== null && performance.now() - this.#stuckSinceMs > this.#slowMs
  }

  send(kind: Kind, frame: Buffer): void {
    if (this.#answer.writableEnded || this.#answer.destroyed) return
    if (this.#stuckSinceMs !== null) this.#waiting.set(kind, frame)
    else if (!this.#answer.write(frame)) this.#stuckSinceMs = performance.now()
  }

  sayLast(frame: Buffer): void {
    if (!this.#answer.writableEnded) this.#answer.end(frame)
  }

  end(): void {
    this.#waiting.clear()
    this.#answer.destroy()
  }

  #flush(): void {
    this.#stuckSinceMs = null
    for (const kind of KINDS) {
      const frame = this.#waiting.get(kind)
      this.#waiting.delete(kind)
      if (frame !== undefined) this.send(kind, frame)
    }
  }
}

/** A line of data for each line of the text. */
function frameOf(event: StreamEvent, text: string): Buffer {
  return Buffer.from(`event: ${event}\ndata: ${text.replaceAll(/\r\n|\r|\n/g, '\ndata: ')}\n\n`)
}
