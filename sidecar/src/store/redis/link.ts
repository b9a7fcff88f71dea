/**
 * The connection to Redis or Valkey: one server, or a cluster. A step that finds nobody fails at once, and one that is not
 * answered in time fails then; the connection comes back by itself. Steps are keyed by operation, so that one whose answer
 * was lost may be asked for again; none is sent again unasked, for who answers then may be another.
 */
import { Cluster, Redis } from 'ioredis'
import { messageOf } from '../../error-text.ts'
import { StoreError } from '../store.ts'
import type { Reply } from './codec.ts'
import { list } from './codec.ts'
import { CORRUPT_MARK, RANGE_MARK } from './lua/step.ts'
import { SCRIPTS } from './scripts.ts'
import type { ScriptName } from './scripts.ts'
import { parseStoreUrl } from './store-url.ts'
import type { StoreUrl } from './store-url.ts'

/** The oldest major version whose commands and scripts this engine is tested with. Valkey reports 7 and above. */
const VERSION_MIN = 7
const CONNECT_MS_MAX = 5_000
const ANSWER_MS_MAX = 300
/** A connection that owes an answer and has said nothing for so long leads nowhere: a server that lost its power closes none. */
const SILENT_MS_MAX = 2_000
const RETRY_MS_MAX = 1_000
/** ioredis asks the cluster who owns which slots. */
const SLOTS_MS_MAX = 2_000

export interface LinkOptions {
  /** `redis://`, `rediss://` (TLS), or `redis+cluster://`, `rediss+cluster://` with one or more `host:port` between commas. */
  readonly url: string
  /** Certificates, as PEM, of which one signed the server's; null or absent: the system's authorities. For TLS alone. */
  readonly ca?: string | null
  /** How long a step waits for its answer, in line and on the way. */
  readonly answerMsMax?: number
  /** Told of errors that belong to no step: a connection that broke, one that could not be made again. */
  readonly onTrouble?: (error: StoreError) => void
  /** Told when a connection that was there is gone. */
  readonly onLost?: () => void
}

interface ConnectionOptions {
  readonly maxRetriesPerRequest: number
  readonly autoResendUnfulfilledCommands: false
  readonly enableReadyCheck: false
  readonly commandTimeout: number
  readonly connectTimeout: number
  readonly stringNumbers: true
  readonly lazyConnect: true
  readonly username?: string
  readonly password?: string
  readonly db?: number
  readonly tls?: { readonly ca?: string; readonly allowPartialTrustChain?: true }
}

type Target = Pick<StoreUrl, 'isCluster' | 'nodes'> & { readonly options: ConnectionOptions; readonly silentMsMax: number }

/** As `declaredKeys` gives them. */
type Keys = readonly [meta: string, none: string]
type Commands = Readonly<Record<ScriptName, (...keysAndValues: string[]) => Promise<unknown>>>

/**
 * Keeps connecting until it is closed. What is asked meanwhile rejects at once, or when its time is over, with `StoreError`: `away`, or
 * `corrupt` where what is there cannot be read; an amount that is too large with `RangeError`.
 */
export class Link {
  readonly isCluster: boolean
  readonly #client: Redis | Cluster
  readonly #place: string
  readonly #commands: Commands
  #isOpen = true
  /** Of the connection: why it was closed, where a step learns only that it was. */
  #lastError: unknown = null
  #connections = 0

  private constructor(
    { isCluster, nodes, options, silentMsMax }: Target,
    place: string,
    { onTrouble = ignore, onLost = ignore }: LinkOptions,
  ) {
    this.isCluster = isCluster
    this.#place = place
    const follow = (connection: Redis): void => {
      keepTime(connection, silentMsMax)
      if (isCluster) failWhereSlotMoves(connection)
      connection.on('ready', () => {
        this.#connections += 1
        this.#lastError = null
      })
      // ioredis hears one error of a socket. A TLS handshake that is broken off may give another, which would end the process.
      connection.on('error', () => connection.stream?.on('error', ignore))
      connection.on('close', () => {
        this.#lastError ??= new Error('the connection was closed')
        if (this.#isOpen) onLost()
      })
    }
    const [first] = nodes
    if (isCluster) {
      this.#client = new Cluster([...nodes], {
        redisOptions: options,
        enableOfflineQueue: false,
        enableReadyCheck: false,
        lazyConnect: true,
        slotsRefreshTimeout: SLOTS_MS_MAX,
        clusterRetryStrategy: (times) => Math.min(50 * times, RETRY_MS_MAX),
        // With TLS a certificate names hosts, not addresses: those are asked for as they are known.
        ...(options.tls === undefined ? {} : { dnsLookup: (address, callback) => callback(null, address) }),
      })
      this.#client.on('+node', follow)
    } else {
      const retryStrategy = (times: number): number => Math.min(50 * times, RETRY_MS_MAX)
      this.#client = new Redis({ ...options, ...first, enableOfflineQueue: false, retryStrategy })
      follow(this.#client)
    }
    this.#client.on('error', (error: unknown) => {
      this.#lastError = error
      if (this.#isOpen) onTrouble(trouble(place, error))
    })
    const client = this.#client
    const names = Object.keys(SCRIPTS) as ScriptName[]
    this.#commands = Object.fromEntries(
      names.map((name) => {
        // Sent by its hash; by its text when a connection has not sent it yet, or the server has lost it (SCRIPT FLUSH).
        client.defineCommand(`farebox_${name}`, { numberOfKeys: 2, lua: SCRIPTS[name] })
        const command = (client as unknown as Record<string, (...values: string[]) => Promise<unknown>>)[`farebox_${name}`]
        if (command === undefined) throw new TypeError(`ioredis defined no command ${name}`)
        return [name, command.bind(client)]
      }),
    ) as unknown as Commands
  }

  /** Rejects with `StoreError` when nobody answers, or somebody who will not do. */
  static async open(options: LinkOptions): Promise<Link> {
    const target = targetOf(options.url, options.ca ?? null, options.answerMsMax ?? ANSWER_MS_MAX)
    const place = target.nodes.map(({ host, port }) => `${host}:${port}`).join(',')
    const link = new Link(target, place, options)
    try {
      await link.#client.connect()
      // A number that the server does not have would leave us in another database, without a word.
      if (target.options.db !== undefined) await link.#client.select(target.options.db)
      await link.run()
      return link
    } catch (error) {
      link.#isOpen = false
      link.#client.disconnect()
      throw storeError(place, error instanceof StoreError ? error : (link.#lastError ?? error))
    }
  }

  /** Counts the connections that were made: what was asked before it changed may have been answered by another run of the server. */
  get connections(): number {
    return this.#connections
  }

  /**
   * Names the run of the server, or of all masters of a cluster: another one, after a restart or a failover, may lack the last
   * of what was written. Rejects with `StoreError` when it will not do: too old, evicting, a replica that takes no writes.
   * Then it is left, for by now its name may lead to another, or the cluster have another master: the next step finds out.
   */
  async run(): Promise<string> {
    const client = this.#client
    const servers = client instanceof Cluster ? client.nodes('master') : [client]
    const infos = await this.#guarded(() => Promise.all(servers.map(async (server) => ({ server, info: await server.info() }))))
    const runs = infos.map(({ server, info }) => {
      try {
        checkServer(this.#place, info)
      } catch (error) {
        server.disconnect(true)
        throw error
      }
      return infoField(info, 'run_id')
    })
    return runs.toSorted().join(',')
  }

  /** One step: a script, on the tag that declares these keys. Sent before this returns. */
  async step(name: ScriptName, keys: Keys, values: readonly string[]): Promise<Reply> {
    return this.#guarded(async () => list(await this.#script(name, keys, values)))
  }

  /** Flushed once more between its text and its hash: by its text. */
  async #script(name: ScriptName, keys: Keys, values: readonly string[]): Promise<unknown> {
    try {
      return await this.#commands[name](...keys, ...values)
    } catch (error) {
      if (!reasonOf(error).startsWith('NOSCRIPT')) throw error
      return await this.#client.eval(SCRIPTS[name], keys.length, ...keys, ...values)
    }
  }

  /** A plain command. */
  async ask<T>(command: (client: Redis | Cluster) => Promise<T>): Promise<T> {
    return this.#guarded(() => command(this.#client))
  }

  /** What a reply means is read here too: one that cannot be read is damage. */
  async #guarded<T>(run: () => Promise<T>): Promise<T> {
    if (!this.#isOpen) throw new StoreError('closed', 'the store is closed')
    try {
      return await run()
    } catch (error) {
      if (!this.#isOpen) throw new StoreError('closed', 'the store is closed', error)
      // Where there is no connection a step learns only that; why is what the connection said last.
      throw storeError(this.#place, this.#client.status === 'ready' ? error : (this.#lastError ?? error))
    }
  }

  /** Errors of whoever reads a reply. */
  failed(error: unknown): Error {
    return storeError(this.#place, error)
  }

  async close(): Promise<void> {
    if (!this.#isOpen) return
    try {
      // Behind the steps that are under way.
      await this.#client.quit()
    } catch {
      // It is gone already.
    } finally {
      this.#isOpen = false
      this.#client.disconnect()
    }
  }
}

/** Budgets that a server may forget when it is full are no budgets. */
function checkServer(place: string, info: string): void {
  if (infoField(info, 'loading') === '1') throw new StoreError('away', `${place} is still loading its data`)
  const version = infoField(info, 'redis_version')
  if (version === '') throw new StoreError('away', `${place} is no Redis and no Valkey: it does not tell its version`)
  if (Number.parseInt(version, 10) < VERSION_MIN)
    throw new StoreError('away', `${place} is Redis ${version}; Redis ${VERSION_MIN} or later, or Valkey, is needed`)
  const policy = infoField(info, 'maxmemory_policy')
  if (infoField(info, 'maxmemory') !== '0' && policy !== 'noeviction')
    throw new StoreError('away', `${place} evicts keys when it is full (${policy}); set maxmemory-policy to noeviction`)
  if (infoField(info, 'role') === 'slave' && infoField(info, 'slave_read_only') === '1')
    throw new StoreError('away', `${place} is a replica of ${infoField(info, 'master_host')} that takes no writes; name the primary`)
}

function infoField(info: string, name: string): string {
  return new RegExp(`^${name}:(.*?)\r?$`, 'm').exec(info)?.[1] ?? ''
}

function ignore(): void {
  // Nobody wants to know.
}

/**
 * A step on a slot that moves fails at once, and says so: it was not begun. ioredis would go on to ask any node, after the step's time is over
 * too, and tell what the last of them said.
 */
function failWhereSlotMoves(connection: Redis): void {
  const send = connection.sendCommand.bind(connection)
  connection.sendCommand = (command, ...more) => {
    const { reject } = command
    command.reject = (error) => {
      const isMoving = error.message.startsWith('TRYAGAIN')
      reject.call(command, isMoving ? new Error(`its slot moves to another node (${error.message})`, { cause: error }) : error)
    }
    return send(command, ...more)
  }
}

/**
 * Fails a command that is not answered within ioredis' `commandTimeout`, and leaves a connection that then says nothing more and owes
 * something: an idle one stays.
 */
function keepTime(connection: Redis, silentMsMax: number): void {
  const send = connection.sendCommand.bind(connection)
  let watched: Redis['stream'] | null = null
  const leaveWhenSilent = (afterMs: number): void => {
    const { stream, status } = connection
    if (status !== 'ready' || watched === stream) return
    watched = stream
    const heard = stream.bytesRead
    const timer = afterLooking(afterMs, () => {
      watched = null
      if (connection.commandQueue.length === 0 || stream.bytesRead !== heard) return
      stream.destroy(new Error(`it has said nothing for ${silentMsMax} ms, and owes an answer`))
    })
    timer.unref()
  }
  connection.sendCommand = (command, ...more) => {
    // ioredis calls it as it sends. Its own is a plain timer.
    command.setTimeout = (answerMsMax) => {
      const timer = afterLooking(answerMsMax, () => {
        if (command.isSettled) return
        command.reject(new Error('Command timed out'))
        leaveWhenSilent(silentMsMax - answerMsMax)
      })
      const answered = (): void => clearTimeout(timer)
      command.promise.then(answered, answered)
    }
    return send(command, ...more)
  }
}

/**
 * Runs it once this process has looked at what has arrived by then. After a stall of its own (a large body, a throttled CPU, a suspended
 * host) timers come first, then the sockets are read, then immediates run: what the server said long ago is not late.
 */
function afterLooking(ms: number, run: () => void): NodeJS.Timeout {
  return setTimeout(() => setImmediate(run), ms)
}

function targetOf(url: string, ca: string | null, answerMsMax: number): Target {
  const { isCluster, isTls, nodes, username, password, database } = parseStoreUrl(url)
  return {
    isCluster,
    nodes,
    silentMsMax: Math.max(SILENT_MS_MAX, 2 * answerMsMax),
    options: {
      maxRetriesPerRequest: 1,
      autoResendUnfulfilledCommands: false,
      // Who is still loading says so itself, to each step; nobody waits for it.
      enableReadyCheck: false,
      commandTimeout: answerMsMax,
      connectTimeout: CONNECT_MS_MAX,
      stringNumbers: true,
      lazyConnect: true,
      ...(username === '' ? {} : { username }),
      ...(password === '' ? {} : { password }),
      ...(database === null ? {} : { db: database }),
      // Any certificate of `ca` will do, also one that another signed.
      ...(isTls ? { tls: ca === null ? {} : { ca, allowPartialTrustChain: true } } : {}),
    },
  }
}

/** What a failure means for who asked. Errors of a caller (`RangeError`) are not the store's. */
function storeError(place: string, error: unknown): Error {
  const marked = new RegExp(`${RANGE_MARK} (.*? at most \\d+)`).exec(reasonOf(error))
  if (marked !== null) return new RangeError(`${marked[1]} nano-dollars`)
  return error instanceof RangeError ? error : trouble(place, error)
}

function trouble(place: string, error: unknown): StoreError {
  if (error instanceof StoreError) return error
  const reason = reasonOf(error)
  // What Lua itself says of a script begins with its line; what the server says of a command in it does not.
  const isDamage =
    error instanceof TypeError ||
    error instanceof SyntaxError ||
    reason.includes(CORRUPT_MARK) ||
    reason.includes('WRONGTYPE') ||
    /\buser_script:\d+: |value is not an integer/.test(reason)
  return isDamage
    ? new StoreError('corrupt', `${place} holds what this version did not write: ${reason}`, error)
    : new StoreError('away', `${place} cannot be used: ${reason}`, error)
}

function reasonOf(error: unknown): string {
  const reason = messageOf(error)
  return reason.startsWith('Unknown RESP type') ? 'it does not speak the protocol of Redis' : reason
}
