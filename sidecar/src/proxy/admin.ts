/**
 * The pod-wide port: metrics and health, no user data. Every pod of the cluster can reach it, by no token: what it may cost is bounded,
 * and a stranger cannot keep the kubelet out.
 */
import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { messageOf } from '../error-text.ts'
import { allowancePercentOf } from '../store/outage/allowance-percent.ts'
import type { Gateway } from './gateway.ts'

/** What is said here is made of. */
export interface AdminParts extends Pick<Gateway, 'policy' | 'staleness' | 'storeStanding' | 'storeIsShared' | 'canHashIds'> {
  readonly metrics: Pick<Gateway['metrics'], 'contentType' | 'render'>
  readonly store: Pick<Gateway['store'], 'getContract'>
}

/** Whoever asks is answered within milliseconds. Of more connections the oldest goes, so that who asks next is heard. */
const CONNECTIONS_MAX = 64
const HEADER_BYTES_MAX = 4 * 1024
const HEADERS_TIMEOUT_MS = 2_000
const REQUEST_TIMEOUT_MS = 5_000
const CONNECTIONS_LOOK_MS = 1_000
/** Of one that does not read its answer. */
const SILENCE_MS = 10_000
/** Asked more often than this, the store is not asked again. */
const STORE_KNOWN_MS = 1_000
/** No contract has it: to look for it is the least that a store must go and see to answer. */
const HASH_OF_NONE = '0000000000000000'

/**
 * `/healthz`: the process serves. `/startz`: it has some config, wherever from, and takes calls: it waits for nobody else.
 * `/readyz`: and it has a store or leave to go on without, and takes calls still. `/metrics`: Prometheus text.
 */
export function createAdmin(parts: AdminParts, isStopping: () => boolean): Server {
  const asked = { parts, looks: new StoreLooks(parts.store), isStopping }
  const server = createServer(
    {
      maxHeaderSize: HEADER_BYTES_MAX,
      headersTimeout: HEADERS_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      connectionsCheckingInterval: CONNECTIONS_LOOK_MS,
    },
    (incoming, outgoing) => void respond(asked, incoming, outgoing),
  )
  server.timeout = SILENCE_MS
  const open = new Set<Socket>()
  server.on('connection', (socket) => {
    open.add(socket)
    socket.once('close', () => open.delete(socket))
    const [oldest] = open
    if (open.size > CONNECTIONS_MAX) oldest?.destroy()
  })
  return server
}

/** What it was told a moment ago is told again. */
class StoreLooks {
  readonly #store: AdminParts['store']
  #wellUntilMs = 0
  #look: Promise<unknown> | null = null

  constructor(store: AdminParts['store']) {
    this.#store = store
  }

  /** Rejects when the store does not answer. */
  async look(): Promise<void> {
    if (performance.now() < this.#wellUntilMs) return
    this.#look ??= this.#store.getContract(HASH_OF_NONE).finally(() => {
      this.#look = null
    })
    await this.#look
    this.#wellUntilMs = performance.now() + STORE_KNOWN_MS
  }
}

interface Asked {
  readonly parts: AdminParts
  readonly looks: StoreLooks
  readonly isStopping: () => boolean
}

async function respond(asked: Asked, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  const { status, contentType, body } = await answer(asked, incoming.url ?? '')
  outgoing.writeHead(status, { 'content-type': contentType, 'cache-control': 'no-store' })
  outgoing.end(body)
}

interface Answer {
  readonly status: number
  readonly contentType: string
  readonly body: string
}

/** A query asks for nothing here: scrapers and probes may add one. */
async function answer(asked: Asked, target: string): Promise<Answer> {
  const { parts } = asked
  switch (target.split('?', 1)[0]) {
    case '/metrics':
      return { status: 200, contentType: parts.metrics.contentType, body: await parts.metrics.render() }
    case '/healthz':
      return text(200, 'ok')
    case '/startz':
      // This port opens after the one for calls.
      return parts.policy() === null ? text(503, 'no valid config yet') : text(200, 'ok')
    case '/readyz':
      return await readiness(asked)
    default:
      return text(404, 'not found')
  }
}

async function readiness({ parts, looks, isStopping }: Asked): Promise<Answer> {
  if (isStopping()) return text(503, 'it is stopping')
  const policy = parts.policy()
  if (policy === null) return text(503, 'no valid config yet')
  const { staleness } = parts
  const stale = staleness.isStale ? `the config has not been confirmed for ${Math.round(staleness.sinceMs / 1_000)} s` : null
  if (stale !== null && staleness.denies) return text(503, stale)
  const { state, reason, isFull } = parts.storeStanding()
  // Books of its own have none to stand in for them.
  const mayGoOn = parts.storeIsShared && allowancePercentOf(policy.config) > 0 && isFull !== true
  if (state !== 'Ready' && !mayGoOn) return text(503, `the budget store is away: ${reason}`)
  if (!parts.canHashIds()) return text(503, `the budget store has not been reached yet: ${reason}`)
  const well = text(200, stale === null ? 'ok' : `ok, but ${stale}`)
  try {
    await looks.look()
    return well
  } catch (error) {
    // While it is away the sidecar goes on as far as the owner allows.
    if (parts.storeStanding().state !== 'Ready' && mayGoOn) return well
    return text(503, `the budget store does not answer: ${messageOf(error)}`)
  }
}

function text(status: number, body: string): Answer {
  return { status, contentType: 'text/plain; charset=utf-8', body: `${body}\n` }
}
