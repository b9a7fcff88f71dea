/**
 * A primary and its replica, real servers with an append-only file each, that fail as they do: frozen, killed, without power,
 * replaced by the replica. Every start is on another port: who wants the primary asks for it, or is told by `onMoved`.
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { globSync, mkdtempSync, rmSync, statSync, truncateSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { freePorts } from '../support/free-ports.ts'
import { waitFor } from '../support/wait-for.ts'
import { startStoreProxy } from '../support/store-proxy.ts'
import type { StoreProxy } from '../support/store-proxy.ts'
import { endsWithUs } from '../support/children.ts'

/** `appendfsync everysec`: what a machine had not yet written to its disk when the power went. */
export const UNSYNCED_MS = 1_000
const READY = { withinMs: 15_000, everyMs: 25 }
const SIZED_EVERY_MS = 50
/** Another process may have taken the port meanwhile. */
const STARTS_MAX = 3

export interface StorePairOptions {
  /** `redis-server` or `valkey-server`. */
  readonly program: string
  /** Told of the port of a new primary, once it answers. */
  readonly onMoved: (port: number) => void
}

export class StorePair {
  readonly #options: StorePairOptions
  /** Between primary and replica: late bytes are what a failover loses. */
  readonly #link: StoreProxy
  #primary: Server
  #replica: Server

  private constructor(options: StorePairOptions, link: StoreProxy, primary: Server, replica: Server) {
    this.#options = options
    this.#link = link
    this.#primary = primary
    this.#replica = replica
  }

  static async start(options: StorePairOptions): Promise<StorePair> {
    const primary = await Server.start(options.program)
    const link = await startStoreProxy(1, primary.port)
    const replica = await Server.start(options.program)
    const pair = new StorePair(options, link, primary, replica)
    await pair.#follow()
    return pair
  }

  get port(): number {
    return this.#primary.port
  }

  freeze(): void {
    this.#primary.signal('SIGSTOP')
  }
  thaw(): void {
    this.#primary.signal('SIGCONT')
  }

  /** The primary dies, and is back after `awayMs` with all that it had answered. */
  async crash(awayMs: number): Promise<void> {
    await this.#primary.kill()
    await sleep(awayMs)
    await this.#restart()
  }

  /** As `crash`; but what came within the last second before is not on the disk. */
  async losePower(awayMs: number): Promise<void> {
    const bytes = this.#primary.bytesBefore(UNSYNCED_MS)
    await this.#primary.kill()
    this.#primary.cut(bytes)
    await sleep(awayMs)
    await this.#restart()
  }

  /** The primary dies, and after `awayMs` the replica, `behindMs` behind it, takes its place; a new replica follows that. */
  async failOver(behindMs: number, awayMs: number): Promise<void> {
    const [lane] = this.#link.lanes
    lane?.delay(behindMs)
    await sleep(behindMs)
    const before = this.#primary
    await before.kill()
    lane?.reset()
    lane?.delay(0)
    await sleep(awayMs)
    this.#primary = this.#replica
    await this.#primary.ask((client) => client.replicaof('NO', 'ONE'))
    this.#options.onMoved(this.#primary.port)
    before.forget()
    this.#replica = await Server.start(this.#options.program)
    await this.#follow()
  }

  async stop(): Promise<void> {
    await this.#link.close()
    for (const server of [this.#primary, this.#replica]) {
      await server.kill()
      server.forget()
    }
  }

  async #restart(): Promise<void> {
    await this.#primary.run()
    this.#options.onMoved(this.#primary.port)
    await this.#follow()
  }

  /** Until the replica has all that the primary has. */
  async #follow(): Promise<void> {
    this.#link.pointAt(this.#primary.port)
    const port = this.#link.lanes[0]?.port ?? 0
    await this.#replica.ask((client) => client.replicaof('127.0.0.1', port))
    const isFollowing = async (): Promise<boolean> =>
      /master_link_status:up/.test(await this.#replica.ask((client) => client.info('replication')))
    await waitFor('the replica follows', isFollowing, READY)
  }
}

/** One server with a folder of its own. */
class Server {
  readonly #program: string
  readonly #folder = mkdtempSync(join(tmpdir(), 'farebox-chaos-'))
  /** It must not outlive us, however we end. */
  readonly #leave = (): void => this.signal('SIGKILL')
  /** Of the append-only file, as it grew. */
  #sizes: { readonly atMs: number; readonly file: string; readonly bytes: number }[] = []
  #sizer: NodeJS.Timeout | null = null
  #process: ChildProcess | null = null
  #port = 0

  private constructor(program: string) {
    this.#program = program
    process.once('exit', this.#leave)
  }

  static async start(program: string): Promise<Server> {
    const server = new Server(program)
    await server.run()
    return server
  }

  get port(): number {
    return this.#port
  }

  /** Starts it, on what its folder holds. */
  async run(): Promise<void> {
    for (let start = 1; ; start++) {
      try {
        await this.#run()
        return
      } catch (error) {
        await this.kill()
        if (start === STARTS_MAX) throw error
      }
    }
  }

  async #run(): Promise<void> {
    const [port = 0] = await freePorts(1)
    this.#port = port
    // oxfmt-ignore
    const options = [
      '--port', String(port), '--bind', '127.0.0.1', '--dir', this.#folder, '--save', '', '--loglevel', 'warning',
      '--appendonly', 'yes', '--appendfsync', 'everysec', '--auto-aof-rewrite-percentage', '0',
      '--repl-diskless-sync', 'yes', '--repl-diskless-sync-delay', '0',
    ]
    const child = endsWithUs(spawn(this.#program, options, { stdio: 'ignore' }))
    this.#process = child
    // A file that it reads at its start makes it answer LOADING for a while.
    const answersOrEnded = async (): Promise<boolean> => child.exitCode !== null || (await this.ask((client) => client.ping())) === 'PONG'
    await waitFor('the server answers', answersOrEnded, READY)
    if (child.exitCode !== null) throw new Error(`the server ended with ${child.exitCode}`)
    this.#sizer = setInterval(() => this.#size(), SIZED_EVERY_MS).unref()
  }

  async ask<T>(command: (client: Redis) => Promise<T>): Promise<T> {
    const client = new Redis({ port: this.#port, host: '127.0.0.1', lazyConnect: true, retryStrategy: () => null })
    client.on('error', () => undefined)
    try {
      await client.connect()
      return await command(client)
    } finally {
      client.disconnect()
    }
  }

  signal(signal: NodeJS.Signals): void {
    this.#process?.kill(signal)
  }

  async kill(): Promise<void> {
    const child = this.#process
    this.#process = null
    if (this.#sizer !== null) clearInterval(this.#sizer)
    if (child === null || child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await ended
  }

  /** How long its newest append-only file was so long ago; null: it was another one, or none. */
  bytesBefore(ms: number): number | null {
    const atMs = performance.now() - ms
    const file = this.#file()
    return this.#sizes.findLast((size) => size.atMs <= atMs && size.file === file)?.bytes ?? null
  }

  /** Takes the end of its newest append-only file away; the server must be down. */
  cut(bytes: number | null): void {
    const file = this.#file()
    if (bytes !== null && file !== null) truncateSync(file, bytes)
  }

  forget(): void {
    process.off('exit', this.#leave)
    rmSync(this.#folder, { recursive: true, force: true })
  }

  #size(): void {
    const newest = this.#newest()
    if (newest === null) return
    const atMs = performance.now()
    this.#sizes = [...this.#sizes.filter((size) => size.atMs > atMs - 4 * UNSYNCED_MS), { atMs, file: newest.file, bytes: newest.bytes }]
  }

  #file(): string | null {
    return this.#newest()?.file ?? null
  }

  /** A replica that is told everything anew begins another file, and removes the one before meanwhile. */
  #newest(): { readonly file: string; readonly bytes: number } | null {
    const found = globSync(join(this.#folder, 'appendonlydir', '*.incr.aof')).flatMap((file) => {
      const stat = statSync(file, { throwIfNoEntry: false })
      return stat === undefined ? [] : [{ file, bytes: stat.size, mtimeMs: stat.mtimeMs }]
    })
    return found.toSorted((a, b) => a.mtimeMs - b.mtimeMs).at(-1) ?? null
  }
}
