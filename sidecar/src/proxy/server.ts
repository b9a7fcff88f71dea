/** The data plane: routes, refuses what is not metered, and sees every request to its end. */
import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { familyOf } from '@farebox/crds/provider-family.ts'
import type { Family } from '@farebox/crds/provider-family.ts'
import type { Refusal } from '../errors.ts'
import { StoreError } from '../store/store.ts'
import { isRebound, serveAppApi } from './app-api.ts'
import { UNUSABLE } from './credentials.ts'
import { refuse, secretsOf } from './exchange.ts'
import { withoutHeaders, withoutQueryKey } from './headers.ts'
import { queryNamesModel, routingHeader } from '../wire/router-use.ts'
import { operationOf, providerPath } from '../wire/routes.ts'
import type { Gateway, Policy } from './gateway.ts'
import { serveFree, serveUngoverned } from './pass-through.ts'
import { runTurn } from './turn.ts'

const HEADER_BYTES_MAX = 16 * 1024
/** A client has this long for its headers, and for the whole request; answers may take as long as they do. */
const HEADERS_TIMEOUT_MS = 30_000
const REQUEST_TIMEOUT_MS = 300_000
const KEEP_ALIVE_MS = 75_000
const APP_API_PREFIX = '/farebox/v1/'
/** Of a name that is none. */
const UPSTREAM_SHOWN_MAX = 64
/** Of a path that is not metered. */
const PATH_SHOWN_MAX = 128
/** Of a header. */
const HEADER_SHOWN_MAX = 64
const SOCKET_MESSAGE = 'What goes through a socket cannot be metered, and sockets are refused here.'
const HOST_MESSAGE = 'The host of a request must be an address, localhost, or a name without a domain.'
const LED_MESSAGE =
  'The key of this upstream is held here, and goes nowhere but to its base URL: no header may lead a gateway there to another host or provider.'
const OTHER_MODEL_MESSAGE =
  'A request with a header or a query by which a gateway asks another model cannot be metered as it happens, and is refused here.'
const STALE_MESSAGE = 'The configuration has not been confirmed for longer than its budget allows.'

/** Node's parser refuses conflicting and repeated lengths (RFC 9112 section 6.3); the checks here are for what it lets pass. */
export function createDataPlane(gateway: Gateway): Server {
  const server = createServer({
    maxHeaderSize: HEADER_BYTES_MAX,
    insecureHTTPParser: false,
    requireHostHeader: true,
    keepAliveTimeout: KEEP_ALIVE_MS,
    joinDuplicateHeaders: true,
    noDelay: true,
    // It may be ignored (RFC 9110 section 7.8), and Java's client asks every plain server for `h2c`: that is answered in HTTP/1.1.
    shouldUpgradeCallback: () => false,
  })
  server.headersTimeout = HEADERS_TIMEOUT_MS
  server.requestTimeout = REQUEST_TIMEOUT_MS
  const answers = new WeakMap<Duplex, ServerResponse>()
  server.on('request', (incoming, outgoing) => {
    answers.set(incoming.socket, outgoing)
    gateway.underWay.add(serve(gateway, incoming, outgoing))
  })
  server.on('connect', (_incoming, socket) => answerBare(socket, '403 Forbidden'))
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    gateway.log.debug({ err: error.message, code: error.code }, 'a request could not be read')
    // What is written while another answer is due would be read as a part of that.
    if (answers.get(socket)?.writableFinished === false) socket.destroy()
    else answerBare(socket, BARE_STATUS.get(error.code ?? '') ?? '400 Bad Request')
  })
  return server
}

/** What of a request that cannot be read has an answer of its own; as Node's own is (RFC 6585 section 5, RFC 9110 section 15.5.9). */
const BARE_STATUS: ReadonlyMap<string, string> = new Map([
  ['HPE_HEADER_OVERFLOW', '431 Request Header Fields Too Large'],
  ['HPE_CHUNK_EXTENSIONS_OVERFLOW', '413 Payload Too Large'],
  ['ERR_HTTP_REQUEST_TIMEOUT', '408 Request Timeout'],
])

/** Answers what is no request, and closes. Node may not listen to the socket any more: a client that leaves now would end the process. */
function answerBare(socket: Duplex, status: string): void {
  socket.on('error', () => socket.destroy())
  if (socket.writable) socket.end(`HTTP/1.1 ${status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`)
  else socket.destroy()
}

async function serve(gateway: Gateway, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  const requestId = `fb-${gateway.newId()}`
  const startedAtMs = gateway.nowMs()
  const startedUptimeMs = performance.now()
  const asked = { gateway, outgoing, requestId, family: familyAsked(gateway.policy(), incoming.url ?? '') }
  const place = gateway.bodies.place()
  try {
    const target = incoming.url ?? ''
    // A browser sends a plain POST for any page without asking first: one would spend with a key that is held here.
    if (incoming.headers['sec-fetch-site'] === 'cross-site')
      return refuse(asked, { code: 'endpoint_not_governed', message: 'A page of another site is not served.' })
    // Its answer is the request as it was received: with a key that is held here.
    if (incoming.method === 'TRACE') return refuse(asked, { code: 'endpoint_not_governed', message: 'TRACE is refused here.' })
    if (/websocket/i.test(incoming.headers.upgrade ?? '')) return refuse(asked, { code: 'endpoint_not_governed', message: SOCKET_MESSAGE })
    if (hasConflictingLengths(incoming))
      return refuse(asked, { code: 'invalid_request', message: 'A request has one content-length or one transfer-encoding, not both.' })
    // Before the check below: an app's id may hold a slash, and nothing of this goes to a provider.
    if (target.startsWith(APP_API_PREFIX)) return await serveAppApi(gateway, incoming, outgoing, requestId)
    // The browser takes it for a call within the page's own site, and says nothing of where it is from.
    if (isRebound(incoming)) return refuse(asked, { code: 'endpoint_not_governed', message: HOST_MESSAGE, param: 'host' })
    if (!isPlainTarget(target)) return refuse(asked, { code: 'endpoint_not_governed', message: 'The request target must be a plain path.' })
    const policy = gateway.policy()
    if (policy === null) return refuse(asked, { code: 'policy_unavailable' })
    if (gateway.staleness.denies)
      return refuse(asked, { code: 'policy_unavailable', message: STALE_MESSAGE }, ['x-farebox-policy', 'stale'])
    const route = routeOf(target)
    const upstream = policy.config.upstreams.find((candidate) => candidate.name === route.upstream)
    if (upstream === undefined) return refuse(asked, noUpstream(cut(route.upstream, UPSTREAM_SHOWN_MAX), policy))
    const heldKey = gateway.credentials.keyFor(upstream, incoming.headers, route.path)
    const upstreamHeaders = gateway.credentials.headersFor(upstream)
    if (heldKey === UNUSABLE || upstreamHeaders === UNUSABLE) return refuse(asked, { code: 'credential_unavailable', param: upstream.name })
    // What the owner sets the app cannot choose by.
    const routing = routingHeader(withoutHeaders(incoming.rawHeaders, upstreamHeaders.raw))
    const param = cut(routing?.name ?? '', HEADER_SHOWN_MAX)
    // Also of a call that is free, not metered or only observed: a key has left for good.
    if (routing !== null && secretsOf({ heldKey, upstreamHeaders }).length > 0)
      return refuse({ ...asked, upstream }, { code: 'endpoint_not_governed', message: LED_MESSAGE, param })
    const family = familyOf(upstream.provider)
    const fullPath = providerPath(family, route.path)
    const path = family === 'google' && heldKey !== null ? withoutQueryKey(fullPath) : fullPath
    const exchange = {
      gateway,
      policy,
      upstream,
      heldKey,
      upstreamHeaders,
      family,
      path,
      incoming,
      outgoing,
      place,
      requestId,
      startedAtMs,
      startedUptimeMs,
    }
    const operation = operationOf(upstream.provider, incoming.method ?? 'GET', path)
    switch (operation.kind) {
      case 'metered': {
        const other = routing?.namesModel === true ? param : queryNamesModel(path) ? 'model' : null
        if (other === null) return await runTurn(exchange, operation.wire)
        return await serveUngoverned(exchange, { code: 'endpoint_not_governed', message: OTHER_MODEL_MESSAGE, param: other })
      }
      case 'free':
        return await serveFree(exchange, operation.read)
      case 'ungoverned':
        return await serveUngoverned(exchange, {
          code: 'endpoint_not_governed',
          message: notMetered(operation.name, incoming.method ?? 'GET', path),
        })
    }
  } catch (error) {
    // That the store is away is no fault of this call: it is refused like others.
    if (error instanceof StoreError && error.code === 'away' && !outgoing.headersSent)
      return refuse({ ...asked, reason: error.message }, { code: 'budget_store_unavailable' })
    gateway.log.error({ requestId, err: error instanceof Error ? error.stack : String(error) }, 'a turn failed')
    if (outgoing.writableEnded) return // it was answered: what failed came after
    if (outgoing.headersSent) outgoing.destroy()
    else refuse(asked, { code: error instanceof StoreError ? 'budget_store_unavailable' : 'internal_error' })
  } finally {
    place.leave()
  }
}

/** A pod that is older than a rename calls by the old name, and what is named is all that tells that from an endpoint that is not metered. */
function noUpstream(name: string, { config }: Policy): Refusal {
  const names = config.upstreams.map((upstream) => upstream.name).join(', ')
  const message = `This workload has no upstream "${name}". The path of a call begins with the name of one: ${names}.`
  return { code: 'endpoint_not_governed', message, param: name }
}

/** With method and path: a slash too many, or a method, may be all that is wrong. Not with the query, which may hold a key. */
function notMetered(name: string, method: string, path: string): string {
  const shown = cut(`${method} ${pathOnly(path)}`, PATH_SHOWN_MAX)
  return `"${name}" is not metered here (${shown}), and what is not metered is refused.`
}

function cut(text: string, lengthMax: number): string {
  return text.length > lengthMax ? `${text.slice(0, lengthMax)}...` : text
}

/** How the asked upstream is spoken to, so that even what is refused at the door is refused in its words. */
function familyAsked(policy: Policy | null, target: string): Family {
  const { upstream } = routeOf(target)
  const known = policy?.config.upstreams.find(({ name }) => name === upstream)
  return familyOf(known?.provider ?? (upstream === 'gemini' ? 'google' : upstream))
}

/** `/openai/v1/chat/completions` -> `openai` and `/v1/chat/completions`. */
export function routeOf(target: string): { readonly upstream: string; readonly path: string } {
  const slash = target.indexOf('/', 1)
  // Of a target without a path only its name: the query may hold a key, and the name is logged.
  if (slash < 0 || pathOnly(target).length < slash) return { upstream: pathOnly(target).slice(1), path: '/' }
  return { upstream: target.slice(1, slash), path: target.slice(slash) }
}

/**
 * Refused: absolute form, dot segments, encoded slashes and dots, back-slashes, and a fragment, which no target has (RFC 9112 section 3.2)
 * and many cut off: what two parsers may read as two paths.
 */
export function isPlainTarget(target: string): boolean {
  if (!target.startsWith('/') || target.startsWith('//') || target.includes('#')) return false
  const path = pathOnly(target)
  if (/%2f|%5c|%2e|%00|\\/i.test(path) || path.includes('//')) return false
  return !path.split('/').some((segment) => segment === '.' || segment === '..')
}

function pathOnly(target: string): string {
  const query = target.indexOf('?')
  return query < 0 ? target : target.slice(0, query)
}

/** Both framings at once, or one of them twice: the usual way to smuggle a request past a proxy. */
function hasConflictingLengths(incoming: IncomingMessage): boolean {
  let lengths = 0
  for (let index = 0; index < incoming.rawHeaders.length; index += 2) {
    const name = (incoming.rawHeaders[index] ?? '').toLowerCase()
    if (name === 'content-length' || name === 'transfer-encoding') lengths += 1
  }
  return lengths > 1
}
