/**
 * What lies between sidecars and their store: a lane for each, as the network would have it, and one address behind all of them
 * that can be moved, as a Kubernetes Service is. Lanes carry bytes late, keep them, lose them, break and refuse.
 */
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { Socket } from 'node:net'
import { onFreePorts } from './free-ports.ts'

/**
 * `stalled`: bytes wait, and arrive when it is over. `deaf`: what is sent arrives, what comes back is lost. `silent`: lost either
 * way, and nobody is told. `refused`: nobody listens.
 */
export type LaneState = 'open' | 'stalled' | 'deaf' | 'silent' | 'refused'

export interface Lane {
  readonly port: number
  /** Connections that have lost bytes do not come back: leaving `deaf` and `silent` breaks them. */
  turn(state: LaneState): Promise<void>
  /** Bytes arrive so much later, either way. */
  delay(ms: number): void
  /** Breaks what is connected now: RST to both. */
  reset(): void
}

export interface StoreProxy {
  readonly lanes: readonly Lane[]
  /** Another server from now on; what was connected to the one before is broken. */
  pointAt(port: number): void
  close(): Promise<void>
}

export async function startStoreProxy(lanes: number, port: number): Promise<StoreProxy> {
  const target = { port }
  const opened = await Promise.all(Array.from({ length: lanes }, () => ProxyLane.open(target)))
  return {
    lanes: opened,
    pointAt(next) {
      target.port = next
      for (const lane of opened) lane.reset()
    },
    async close() {
      await Promise.all(opened.map((lane) => lane.close()))
    },
  }
}

class ProxyLane implements Lane {
  readonly port: number
  readonly #target: { readonly port: number }
  readonly #pairs = new Set<Pair>()
  readonly #server = createServer((client) => this.#accept(client))
  #state: LaneState = 'open'
  #delayMs = 0

  private constructor(target: { readonly port: number }, port: number) {
    this.#target = target
    this.port = port
  }

  static async open(target: { readonly port: number }): Promise<ProxyLane> {
    return onFreePorts(1, async ([port = 0]) => {
      const lane = new ProxyLane(target, port)
      await lane.#listen()
      return lane
    })
  }

  async turn(state: LaneState): Promise<void> {
    const before = this.#state
    this.#state = state
    if (before === 'deaf' || before === 'silent' || state === 'refused') this.reset()
    if (state === 'refused' && before !== 'refused') await this.#unlisten()
    if (state !== 'refused' && before === 'refused') await this.#listen()
    for (const pair of this.#pairs) pair.carry()
  }

  delay(ms: number): void {
    this.#delayMs = ms
  }

  reset(): void {
    for (const pair of this.#pairs) pair.reset()
  }

  async close(): Promise<void> {
    this.reset()
    if (this.#server.listening) await this.#unlisten()
  }

  #accept(client: Socket): void {
    const server = connect({ port: this.#target.port, host: '127.0.0.1', noDelay: true })
    const pair = new Pair({ client, server, state: () => this.#state, delayMs: () => this.#delayMs })
    this.#pairs.add(pair)
    pair.onEnd(() => this.#pairs.delete(pair))
  }

  async #listen(): Promise<void> {
    this.#server.listen(this.port, '127.0.0.1')
    await once(this.#server, 'listening')
  }

  async #unlisten(): Promise<void> {
    await new Promise((resolve) => this.#server.close(resolve))
  }
}

interface PairOptions {
  readonly client: Socket
  readonly server: Socket
  readonly state: () => LaneState
  readonly delayMs: () => number
}

/** Two sockets, and what is on its way between them. */
class Pair {
  readonly #options: PairOptions
  readonly #ways: readonly [toServer: Way, toClient: Way]
  #isOver = false
  #ended = (): void => undefined

  constructor(options: PairOptions) {
    this.#options = options
    const { client, server, state } = options
    client.setNoDelay(true)
    this.#ways = [
      new Way(client, server, { ...options, isLost: () => state() === 'silent' }),
      new Way(server, client, { ...options, isLost: () => state() === 'silent' || state() === 'deaf' }),
    ]
    for (const socket of [client, server]) {
      socket.on('error', () => this.reset())
      socket.on('close', () => {
        if (socket.destroyed && client.destroyed && server.destroyed) this.#over()
      })
    }
  }

  onEnd(ended: () => void): void {
    this.#ended = ended
  }
  /** What waited, if nothing is in its way any more. */
  carry(): void {
    for (const way of this.#ways) way.carry()
  }
  reset(): void {
    const { client, server } = this.#options
    for (const way of this.#ways) way.stop()
    for (const socket of [client, server]) {
      // A reset of a socket that is not, or no longer, open both ways leaves Node's event loop spinning.
      if (socket.readyState === 'open') socket.resetAndDestroy()
      else socket.destroy()
    }
    this.#over()
  }

  #over(): void {
    if (this.#isOver) return
    this.#isOver = true
    for (const way of this.#ways) way.stop()
    this.#ended()
  }
}

type WayOptions = PairOptions & { readonly isLost: () => boolean }

/**
 * Bytes of one direction, in their order. Who has sent and left does not take back what is on its way: it arrives, and the
 * end of it after it.
 */
class Way {
  readonly #to: Socket
  readonly #options: WayOptions
  readonly #waiting: { readonly dueMs: number; readonly bytes: Buffer | null }[] = []
  #timer: NodeJS.Timeout | null = null

  constructor(from: Socket, to: Socket, options: WayOptions) {
    this.#to = to
    this.#options = options
    from.on('data', (bytes: Buffer) => this.#take(bytes))
    from.once('end', () => this.#take(null))
  }

  carry(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    const nowMs = performance.now()
    for (let first = this.#waiting[0]; first !== undefined; first = this.#waiting[0]) {
      if (this.#options.state() === 'stalled') return
      if (first.dueMs > nowMs) {
        this.#timer = setTimeout(() => this.carry(), first.dueMs - nowMs)
        return
      }
      this.#waiting.shift()
      if (first.bytes === null) this.#to.end()
      else if (!this.#to.destroyed) this.#to.write(first.bytes)
    }
  }

  stop(): void {
    this.#waiting.length = 0
    if (this.#timer !== null) clearTimeout(this.#timer)
  }

  /** Null: the end. */
  #take(bytes: Buffer | null): void {
    if (this.#options.isLost()) return
    this.#waiting.push({ dueMs: performance.now() + this.#options.delayMs(), bytes })
    this.carry()
  }
}
