/**
 * The load generator, a process of its own: HTTP/1.1 written by hand on kept-alive sockets, so that it costs little and
 * adds little. It takes one `Command` at a time from its parent and answers with a `LoadResult`.
 */
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { BODIES, SENT_AT, bodyOf } from './loads.ts'
import type { BodyName, Command, LoadResult, Target } from './loads.ts'

/** A conversation goes on for this many turns; then the next one starts. */
const TURNS_PER_CONVERSATION = 10
const USERS = 50
const HEAD_END = Buffer.from('\r\n\r\n')
const CHUNKED_END = Buffer.from('0\r\n\r\n')
const MARK = Buffer.from(SENT_AT)

const bodies = new Map(BODIES.map((name) => [name, bodyOf(name)]))
/** Sockets that wait for work, by port. */
const idle = new Map<number, Connection[]>()
let sequence = 0

process.on('message', (command: Command) => {
  void run(command).then((result) => process.send?.(result))
})
process.on('disconnect', () => process.exit(0))

async function run(command: Command): Promise<LoadResult> {
  const tally = new Tally()
  switch (command.kind) {
    case 'closed': {
      const end = performance.now() + command.seconds * 1_000
      const { targets, body } = command
      const worker = async (index: number): Promise<void> => {
        const target = targets[index % targets.length]
        if (target === undefined) throw new RangeError('a load needs a target')
        while (performance.now() < end) await one(target, requestOf(target, body), tally)
      }
      await Promise.all(Array.from({ length: command.connections }, (_, index) => worker(index)))
      break
    }
    case 'open':
      await openLoop(command, tally)
      break
    case 'streams':
      await Promise.all(
        Array.from({ length: command.streams }, async (_, index) => {
          await sleep(index * 3) // so that the streams do not tick together
          await one(command.target, requestOf(command.target, 'stream', { output: command.chunks }), tally)
        }),
      )
      break
    case 'burst':
      await Promise.all(
        Array.from({ length: command.calls }, () => one(command.target, requestOf(command.target, command.body, command), tally)),
      )
      break
  }
  return tally.result()
}

async function openLoop(command: Extract<Command, { kind: 'open' }>, tally: Tally): Promise<void> {
  const start = performance.now()
  const total = Math.round(command.perSecond * command.seconds)
  const pending: Promise<void>[] = []
  for (let index = 0; index < total; index++) {
    const waitMs = start + (index * 1_000) / command.perSecond - performance.now()
    if (waitMs > 0) await sleep(waitMs)
    pending.push(one(command.target, requestOf(command.target, command.body), tally))
  }
  await Promise.all(pending)
}

function requestOf(
  target: Target,
  name: BodyName,
  more: { readonly output?: number; readonly conversation?: string; readonly tier?: string } = {},
): readonly Buffer[] {
  const body = bodies.get(name)
  if (body === undefined) throw new RangeError(`no body is called ${name}`)
  const number = sequence++
  const conversation = more.conversation ?? `bench-${process.pid}-${Math.floor(number / TURNS_PER_CONVERSATION)}`
  const user = more.conversation === undefined ? `user-${Math.floor(number / TURNS_PER_CONVERSATION) % USERS}` : 'user-of-the-cap-run'
  const head =
    `POST ${target.path} HTTP/1.1\r\nHost: 127.0.0.1:${target.port}\r\nContent-Type: application/json\r\nAccept: application/json\r\n` +
    `Authorization: Bearer bench\r\nUser-Agent: bench/1\r\nx-farebox-conversation: ${conversation}\r\nx-farebox-user: ${user}\r\n` +
    `${more.tier === undefined ? '' : `x-farebox-tier: ${more.tier}\r\n`}${more.output === undefined ? '' : `x-bench-output: ${more.output}\r\n`}Content-Length: ${body.length}\r\n\r\n`
  return [Buffer.from(head, 'latin1'), body]
}

async function one(target: Target, request: readonly Buffer[], tally: Tally): Promise<void> {
  const connection = idle.get(target.port)?.pop() ?? (await Connection.open(target.port))
  const status = await connection.send(request, tally)
  if (status === 0) return
  const kept = idle.get(target.port)
  if (kept === undefined) idle.set(target.port, [connection])
  else kept.push(connection)
}

class Tally {
  requests = 0
  chunks = 0
  readonly latenciesUs: number[] = []
  readonly #statuses: Record<string, number> = {}

  answered(status: number): void {
    this.requests += 1
    this.#statuses[status] = (this.#statuses[status] ?? 0) + 1
  }
  result(): LoadResult {
    return { requests: this.requests, statuses: this.#statuses, latenciesUs: this.latenciesUs, chunks: this.chunks }
  }
}

interface Answering {
  readonly tally: Tally
  readonly sentUs: bigint
  readonly done: (status: number) => void
  head: Buffer | null
  status: number
  /** Bytes of the body still to come; null: chunked. */
  left: number | null
  stream: boolean
  tail: Buffer
}

/** One socket with at most one request out. */
class Connection {
  readonly #socket: Socket
  #answering: Answering | null = null

  static open(port: number): Promise<Connection> {
    return new Promise((resolve, reject) => {
      const socket = connect({ port, host: '127.0.0.1', noDelay: true })
      socket.once('error', reject)
      socket.once('connect', () => {
        socket.off('error', reject)
        resolve(new Connection(socket))
      })
    })
  }

  constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', (data) => this.#read(data))
    socket.on('error', () => socket.destroy())
    socket.on('close', () => {
      for (const [port, kept] of idle)
        idle.set(
          port,
          kept.filter((connection) => connection !== this),
        )
      this.#end(0)
    })
  }

  /** Resolves with the status once the whole answer was read; 0 when the connection broke. */
  send(request: readonly Buffer[], tally: Tally): Promise<number> {
    return new Promise((done) => {
      this.#answering = { tally, done, sentUs: nowUs(), head: null, status: 0, left: null, stream: false, tail: Buffer.alloc(0) }
      this.#socket.cork()
      for (const part of request) this.#socket.write(part)
      this.#socket.uncork()
    })
  }

  #read(data: Buffer): void {
    const answering = this.#answering
    if (answering === null) return
    let body = data
    if (answering.status === 0) {
      const head = answering.head === null ? data : Buffer.concat([answering.head, data])
      const end = head.indexOf(HEAD_END)
      if (end < 0) {
        answering.head = head
        return
      }
      const text = head.toString('latin1', 0, end)
      answering.status = Number(text.slice(9, 12))
      const length = /\r\ncontent-length: (\d+)/i.exec(text)?.[1]
      answering.left = length === undefined ? null : Number(length)
      answering.stream = /\r\ncontent-type: text\/event-stream/i.test(text)
      body = head.subarray(end + HEAD_END.length)
    }
    if (answering.stream) readMarks(answering, body)
    if (answering.left !== null) {
      answering.left -= body.length
      if (answering.left <= 0) this.#end(answering.status)
      return
    }
    answering.tail = Buffer.concat([answering.tail, body]).subarray(-CHUNKED_END.length)
    if (answering.tail.equals(CHUNKED_END)) this.#end(answering.status)
  }

  #end(status: number): void {
    const answering = this.#answering
    if (answering === null) return
    this.#answering = null
    if (!answering.stream) answering.tally.latenciesUs.push(Number(nowUs() - answering.sentUs))
    answering.tally.answered(status)
    answering.done(status)
  }
}

/** A chunk tells when it was sent; the clock is the same for all processes of a machine. */
function readMarks(answering: Answering, body: Buffer): void {
  const now = nowUs()
  for (let at = body.indexOf(MARK); at >= 0; at = body.indexOf(MARK, at + MARK.length)) {
    const from = at + MARK.length
    const end = body.indexOf(0x20, from)
    if (end < 0) return // cut in two by the network: not counted as a latency
    answering.tally.chunks += 1
    answering.tally.latenciesUs.push(Number(now - BigInt(body.toString('latin1', from, end))))
  }
}

function nowUs(): bigint {
  return process.hrtime.bigint() / 1_000n
}
