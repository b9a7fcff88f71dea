/**
 * One connection to a provider, with one request out at a time. It reads into memory that is there already, and hands on
 * what it read before the next read: an answer costs no allocation here.
 */
import { connect as connectTcp, isIP } from 'node:net'
import type { Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { ResponseReader } from '../wire/http-response.ts'

export interface Origin {
  readonly isTls: boolean
  readonly host: string
  readonly port: number
}

/** What the connection tells whoever has a request out on it. */
export interface ConnectionEvents {
  /** The kernel has all of the request. Not called when the connection breaks before that. */
  sent(): void
  head(statusCode: number, rawHeaders: readonly string[]): void
  /** Good for the time of the call: the memory is used again. */
  data(chunk: Buffer): void
  /** The response is whole. */
  end(): void
  /** The connection broke before that. */
  broken(cause: Error): void
}

/** Shared by all connections without TLS: the event loop reads one socket after the other, never one within another's callback. */
const READ_BUFFER = Buffer.allocUnsafeSlow(64 * 1024)
/** TLS may decrypt more when it is written to or resumed, from within any callback: there each connection has its own, for one record. */
const TLS_READ_BYTES = 16 * 1024
const COPIED_BYTES_MAX = 16 * 1024
/** TLS sessions kept, so that a new connection costs one round trip less. */
const SESSIONS_KEPT = 64
const sessions = new Map<string, Buffer>()

export class UpstreamConnection {
  readonly #socket: Socket
  readonly #reader: ResponseReader
  #events: ConnectionEvents | null = null
  #isOpen = false
  #isOver = false
  #isPaused = false
  #onReady: (() => void) | null = null

  /** Begins to connect. `closed` is called once, when the connection is over, in use or not. */
  constructor(origin: Origin, closed: () => void) {
    this.#reader = new ResponseReader({
      head: (statusCode, rawHeaders) => this.#events?.head(statusCode, rawHeaders),
      data: (chunk) => this.#events?.data(chunk),
      end: () => this.#answered(),
    })
    const socket = open(origin, (bytes) => this.#read(bytes))
    this.#socket = socket
    socket.setNoDelay(true)
    socket.once(origin.isTls ? 'secureConnect' : 'connect', () => {
      this.#isOpen = true
      this.#onReady?.()
      if (this.#isPaused) socket.pause() // TLS had to read until now
    })
    socket.on('error', (error) => this.#broken(error))
    socket.on('end', () => {
      this.#isOver = true // for whoever looks for a free one before `close` comes
      if (!this.#reader.endOfConnection()) this.#broken(new Error('the provider closed the connection'))
      socket.destroy()
    })
    socket.on('close', () => {
      this.#broken(new Error('the connection was closed'))
      closed()
    })
  }

  /** Nothing was sent on it, since it does not stand yet. */
  get isConnecting(): boolean {
    return !this.#isOpen
  }
  /** Undefined before it stands. */
  get remoteAddress(): string | undefined {
    return this.#socket.remoteAddress
  }
  /** Ready for another request. */
  get isFree(): boolean {
    return this.#isOpen && !this.#isOver && this.#events === null
  }

  /** Sends a request, once the connection stands. */
  send(head: string, body: Buffer | null, events: ConnectionEvents): void {
    this.#events = events
    const sent = (error?: Error | null): void => {
      if (error === null || error === undefined) events.sent()
    }
    const write = (): void => {
      const socket = this.#socket
      this.#reader.expect({ isToHead: head.startsWith('HEAD ') })
      socket.ref()
      // One piece costs the kernel less than two, as long as copying it costs nothing.
      if (body === null) socket.write(head, 'latin1', sent)
      else if (body.length <= COPIED_BYTES_MAX) socket.write(joined(head, body), sent)
      else {
        socket.cork()
        socket.write(head, 'latin1')
        socket.write(body, sent)
        socket.uncork()
      }
    }
    if (this.#isOpen) write()
    else this.#onReady = write
  }

  /** Reads no further until `resume`; what was read already is still handed on. */
  pause(): void {
    this.#isPaused = true
    this.#socket.pause()
  }
  resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    this.#socket.resume()
  }

  /** Closes it at once; nobody hears of a request that was out. */
  destroy(): void {
    this.#events = null
    this.#isOver = true
    this.#socket.destroy()
  }

  #read(bytes: Buffer): boolean {
    if (this.#isOver) return false
    try {
      this.#reader.push(bytes)
    } catch (error) {
      this.#broken(error instanceof Error ? error : new Error(String(error)))
      this.#socket.destroy()
    }
    return true
  }

  #answered(): void {
    const events = this.#events
    this.#events = null
    // Who answers before the request has all gone out may not read the rest of it.
    if (this.#reader.keepsAlive && this.#socket.writableLength === 0) {
      this.resume()
      this.#socket.unref() // a connection that waits for work keeps nobody up
    } else {
      this.#isOver = true
      this.#socket.destroy()
    }
    events?.end()
  }

  #broken(cause: Error): void {
    this.#isOver = true
    const events = this.#events
    this.#events = null
    events?.broken(cause)
  }
}

function joined(head: string, body: Buffer): Buffer {
  const bytes = Buffer.allocUnsafe(head.length + body.length) // in latin1, a byte for each character
  bytes.write(head, 0, 'latin1')
  body.copy(bytes, head.length)
  return bytes
}

function open({ isTls, host, port }: Origin, read: (bytes: Buffer) => boolean): Socket {
  const buffer = isTls ? Buffer.allocUnsafeSlow(TLS_READ_BYTES) : READ_BUFFER
  const onread = { buffer, callback: (length: number) => read(buffer.subarray(0, length)) }
  if (!isTls) return connectTcp({ host, port, onread })
  const key = `${host}:${port}`
  const session = sessions.get(key)
  const options = {
    host,
    port,
    // RFC 6066 allows no addresses here.
    ...(isIP(host) === 0 ? { servername: host } : {}),
    ALPNProtocols: ['http/1.1'],
    ...(session === undefined ? {} : { session }),
    onread, // a documented option of sockets, which the types of `tls` leave out
  }
  const socket = connectTls(options)
  socket.once('error', () => sessions.delete(key)) // which may be why
  socket.on('session', (fresh) => {
    if (sessions.size >= SESSIONS_KEPT && !sessions.has(key)) sessions.clear()
    sessions.set(key, fresh)
  })
  return socket
}
