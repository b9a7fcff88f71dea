/** The pod-wide port: metrics and health, no user data. */
import { createServer } from 'node:http'
import type { Server, ServerResponse } from 'node:http'
import type { Gateway } from './gateway.ts'

/**
 * `/healthz`: the process serves. `/startz`: it has some config, wherever from, and takes calls: it waits for nobody else.
 * `/readyz`: and it has a store or leave to go on without. `/metrics`: Prometheus text.
 */
export function createAdmin(gateway: Gateway): Server {
  return createServer((incoming, outgoing) => {
    void respond(gateway, incoming.url ?? '', outgoing)
  })
}

async function respond(gateway: Gateway, path: string, outgoing: ServerResponse): Promise<void> {
  const { status, contentType, body } = await answer(gateway, path)
  outgoing.writeHead(status, { 'content-type': contentType, 'cache-control': 'no-store' })
  outgoing.end(body)
}

interface Answer {
  readonly status: number
  readonly contentType: string
  readonly body: string
}

async function answer(gateway: Gateway, path: string): Promise<Answer> {
  switch (path) {
    case '/metrics':
      return { status: 200, contentType: gateway.metrics.contentType, body: await gateway.metrics.render() }
    case '/healthz':
      return text(200, 'ok')
    case '/startz':
      // This port opens after the one for calls.
      return gateway.policy() === null ? text(503, 'no valid config yet') : text(200, 'ok')
    case '/readyz':
      return await readiness(gateway)
    default:
      return text(404, 'not found')
  }
}

async function readiness(gateway: Gateway): Promise<Answer> {
  const policy = gateway.policy()
  if (policy === null) return text(503, 'no valid config yet')
  const { staleness } = gateway
  const stale = staleness.isStale ? `the config has not been confirmed for ${Math.round(staleness.sinceMs / 1_000)} s` : null
  if (stale !== null && staleness.denies) return text(503, stale)
  const { state, reason } = gateway.storeStanding()
  if (state !== 'Ready' && policy.config.onStoreFailure.allowancePercent === 0) return text(503, `the budget store is away: ${reason}`)
  if (!gateway.canHashIds()) return text(503, `the budget store has not been reached yet: ${reason}`)
  try {
    await gateway.store.getContract('0000000000000000')
    return text(200, stale === null ? 'ok' : `ok, but ${stale}`)
  } catch (error) {
    return text(503, `the budget store does not answer: ${error instanceof Error ? error.message : String(error)}`)
  }
}

function text(status: number, body: string): Answer {
  return { status, contentType: 'text/plain; charset=utf-8', body: `${body}\n` }
}
