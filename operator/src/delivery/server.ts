/** The delivery listener: config streams and reports of sidecars, and reports that other replicas pass on. https alone. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import {
  FORWARDED_PATH,
  ReceivedReportSchema,
  REPORT_BYTES_MAX,
  REPORTS_PATH,
  SidecarReportSchema,
  STREAM_PATH,
} from '@farebox/crds/delivery.ts'
import type { ReceivedReport, ReportAnswer } from '@farebox/crds/delivery.ts'
import * as z from 'zod'
import { boundConnections } from '../bounded-connections.ts'
import { Allowances } from './allowances.ts'
import type { DeliveryEvents } from './events.ts'
import { excessIn } from './report-bounds.ts'
import { helloOf } from './stream-hub.ts'
import type { StreamHub } from './stream-hub.ts'
import type { PodIdentity, ServiceAccount, TokenVerifier, Verdict } from './token-verifier.ts'
import { TotalsTellers } from './totals-tellers.ts'

export interface Certificate {
  /** PEM: the certificate, and what is between it and its CA. */
  readonly cert: string
  readonly key: string
}

export interface DeliveryServerOptions {
  readonly certificate: Certificate
  readonly verifier: Pick<TokenVerifier, 'pod' | 'serviceAccount'>
  readonly hub: StreamHub
  readonly events: DeliveryEvents
  readonly nowMs: () => number
  /** Whose reports about others are believed. */
  readonly ownServiceAccount: ServiceAccount
  /** The leader keeps it, others pass it on. */
  readonly takeReport: (received: ReceivedReport) => void
  readonly isLeader: () => boolean
  /** Of the budget that governs it; null: none does. Such a pod is asked for no totals, and of what it says what is bounded is kept. */
  readonly tiersOf: (pod: PodIdentity) => readonly string[] | null
  /** Reports passed on of pods that this replica does not know are left out. */
  readonly knowsPod: (pod: ReceivedReport['pod']) => boolean
  /** Open at a time, in all and from one address. */
  readonly connectionsMax?: number
  readonly connectionsOfAddressMax?: number
}

export interface DeliveryServer {
  /** Once it listens. */
  readonly port: number
  listen(host: string, port: number): Promise<void>
  /** For connections from now on. Throws for what is no certificate with its key. */
  setCertificate(certificate: Certificate): void
  /** Tells sidecars to look for another replica within this time, answers what is under way, and closes, within a second. */
  drain(withinMs: number): Promise<void>
}

export const FORWARDED_BYTES_MAX = 8 * 1024 * 1024
/**
 * Each is read by itself: one that another version of the operator took must not take the others with it. `sentAtMs` is by the clock of
 * the replica that sends, as is when it received them; absent: an older version sends.
 */
const ForwardedSchema = z.object({ sentAtMs: z.int().optional(), reports: z.array(z.unknown()).max(1_000) })

/** In all, and from one address: where pods are behind one, they are those of a node. Each takes some 60 KiB of memory. */
const CONNECTIONS_MAX = 6_000
const CONNECTIONS_OF_ADDRESS_MAX = 1_000
/** Those that have shaken no hand, or sent no request, are looked through so often. */
const CONNECTIONS_LOOK_MS = 5_000
/** Of one pod. A sidecar that is well reports some KiB every 15 s, and a few times a second at the most. */
const POD_BURST_BYTES = 2 * 1024 * 1024
const POD_BYTES_PER_SECOND = 64 * 1024
/** What it costs to look at a token, and what a stream costs that comes, in bytes of the same account. */
const TOKEN_COST_BYTES = 4 * 1024
const STREAM_COST_BYTES = 64 * 1024

const HEADER_BYTES_MAX = 16 * 1024
const HEADERS_TIMEOUT_MS = 10_000
const REQUEST_TIMEOUT_MS = 30_000
const HANDSHAKE_TIMEOUT_MS = 10_000
/** Longer than a sidecar is silent. */
const KEEP_ALIVE_MS = 75_000
/** Of a body that is too long, so much is thrown away so that its sender reads the answer. */
const DISCARDED_BYTES_MAX = 32 * 1024 * 1024
const RETRY_AFTER_S_MAX = 15
const CLOSE_MS = 1_000

interface Parts extends DeliveryServerOptions {
  readonly allowances: Allowances
  readonly tellers: TotalsTellers
}

export function createDeliveryServer(options: DeliveryServerOptions): DeliveryServer {
  const parts: Parts = {
    ...options,
    allowances: new Allowances({ burst: POD_BURST_BYTES, perSecond: POD_BYTES_PER_SECOND }),
    tellers: new TotalsTellers(),
  }
  const server = createServer(
    {
      ...options.certificate,
      minVersion: 'TLSv1.2',
      maxHeaderSize: HEADER_BYTES_MAX,
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
      keepAliveTimeout: KEEP_ALIVE_MS,
      headersTimeout: HEADERS_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      connectionsCheckingInterval: CONNECTIONS_LOOK_MS,
      noDelay: true,
    },
    (incoming, outgoing) => {
      serve(parts, incoming, outgoing).catch((error: unknown) => {
        options.events.log('error', 'a delivery request failed', { path: incoming.url, err: String(error) })
        answer(outgoing, 500, 'it failed')
      })
    },
  )
  const { events, connectionsMax: max = CONNECTIONS_MAX, connectionsOfAddressMax: ofAddressMax = CONNECTIONS_OF_ADDRESS_MAX } = options
  boundConnections(server, { max, ofAddressMax, onRefused: () => events.count('connectionRefused') })
  server.on('tlsClientError', () => undefined) // whoever speaks no TLS, or does not trust us, says so at its end
  return {
    get port() {
      return (server.address() as AddressInfo).port
    },
    listen: (host, port) =>
      new Promise((resolve, reject) => {
        server.once('error', reject)
        server.listen(port, host, () => {
          server.off('error', reject)
          resolve()
        })
      }),
    setCertificate: (certificate) => server.setSecureContext({ ...certificate, minVersion: 'TLSv1.2' }),
    async drain(withinMs) {
      options.hub.drain(withinMs)
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      server.closeIdleConnections()
      const timer = setTimeout(() => server.closeAllConnections(), CLOSE_MS)
      await closed
      clearTimeout(timer)
    },
  }
}

async function serve(options: Parts, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  const path = (incoming.url ?? '').split('?', 1)[0]
  switch (`${incoming.method} ${path}`) {
    case `GET ${STREAM_PATH}`:
      return await openStream(options, incoming, outgoing)
    case `POST ${REPORTS_PATH}`:
      return await takeReport(options, incoming, outgoing)
    case `POST ${FORWARDED_PATH}`:
      return await takeForwarded(options, incoming, outgoing)
    case 'GET /healthz':
      outgoing.setHeader('connection', 'close') // who shows no token keeps no connection
      return answer(outgoing, 200, null)
    default:
      return answer(outgoing, 404, 'there is nothing here')
  }
}

async function openStream(
  { verifier, hub, events, allowances }: Parts,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
): Promise<void> {
  if (!hub.hasRoom()) return answer(outgoing, 503, FULL)
  const hello = helloOf(incoming.headers)
  if (hello === null) return answer(outgoing, 400, 'that is no sidecar: it names no protocol')
  const problem = hub.protocolProblem(hello)
  if (problem !== null) {
    events.count('protocolRefused')
    return answer(outgoing, 426, problem)
  }
  const verdict = await verifier.pod(incoming.headers.authorization)
  if (verdict.status !== 'ok') return refuse(events, outgoing, verdict)
  if (!allowances.take(verdict.identity.uid, STREAM_COST_BYTES, performance.now())) return tooMuch(events, outgoing)
  if (!hub.mayAccept() || !hub.hasRoom()) return answer(outgoing, 503, FULL)
  if (!outgoing.destroyed) hub.open(verdict.identity, hello, outgoing)
}

const FULL = 'too many sidecars come at once'

function tooMuch(events: DeliveryEvents, outgoing: ServerResponse): void {
  events.count('podBusy')
  answer(outgoing, 429, 'this pod asks too much')
}

async function takeReport(options: Parts, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  const { verifier, events, nowMs, allowances } = options
  const verdict = await verifier.pod(incoming.headers.authorization)
  if (verdict.status !== 'ok') return refuse(events, outgoing, verdict)
  // Before it is read: one that does not say how long it is may be as long as any.
  const bytes = Math.min(REPORT_BYTES_MAX, Number(incoming.headers['content-length'] ?? REPORT_BYTES_MAX))
  if (!allowances.take(verdict.identity.uid, TOKEN_COST_BYTES + bytes, performance.now())) return tooMuch(events, outgoing)
  const read = await readJson(incoming, REPORT_BYTES_MAX)
  if (read.status === 'tooLarge') {
    events.count('reportTooLarge')
    return answer(outgoing, 413, `a report has at most ${REPORT_BYTES_MAX} bytes`)
  }
  if (read.status === 'aborted') return
  const parsed = SidecarReportSchema.safeParse(read.json)
  if (!parsed.success) {
    events.count('reportInvalid')
    return answer(outgoing, 422, firstIssue(parsed.error))
  }
  const excess = excessIn(parsed.data)
  if (excess !== null) {
    events.count('reportInvalid')
    return answer(outgoing, 422, excess)
  }
  const { namespace, name, uid } = verdict.identity
  const tiers = options.tiersOf(verdict.identity)
  // Nobody believes a pod that no budget governs. But the leader is to judge that: our cache may be a moment behind.
  const report = tiers === null ? { ...parsed.data, status: null } : parsed.data
  const received: ReceivedReport = { pod: { namespace, name, uid }, receivedAtMs: nowMs(), report }
  options.takeReport(received)
  events.count('reportTaken')
  // Nor may it keep others from telling.
  const said: ReportAnswer = { totals: tiers !== null && options.tellers.isAsked(received, tiers, performance.now()) }
  answer(outgoing, 202, null, said)
}

async function takeForwarded(options: Parts, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  const { verifier, events, ownServiceAccount } = options
  const verdict = await verifier.serviceAccount(incoming.headers.authorization, ownServiceAccount)
  if (verdict.status !== 'ok') {
    events.count('forwardedRefused')
    return refuse(events, outgoing, verdict)
  }
  if (!options.isLeader()) return answer(outgoing, 421, 'this replica does not lead')
  const read = await readJson(incoming, FORWARDED_BYTES_MAX)
  if (read.status === 'tooLarge') return answer(outgoing, 413, `so many reports have at most ${FORWARDED_BYTES_MAX} bytes`)
  if (read.status === 'aborted') return
  const parsed = ForwardedSchema.safeParse(read.json)
  if (!parsed.success) return answer(outgoing, 422, firstIssue(parsed.error))
  const known = parsed.data.reports.flatMap((one) => {
    const received = ReceivedReportSchema.safeParse(one)
    return received.success && excessIn(received.data.report) === null && options.knowsPod(received.data.pod) ? [received.data] : []
  })
  const { sentAtMs } = parsed.data
  for (const received of known) options.takeReport(sentAtMs === undefined ? received : byOurClock(received, sentAtMs, options.nowMs()))
  events.count('forwardedTaken', known.length)
  answer(outgoing, 202, null)
}

/** Clocks of replicas may differ by minutes. How long it waited there is known all the same. */
function byOurClock(received: ReceivedReport, sentAtMs: number, nowMs: number): ReceivedReport {
  return { ...received, receivedAtMs: nowMs - Math.max(0, sentAtMs - received.receivedAtMs) }
}

function refuse(events: DeliveryEvents, outgoing: ServerResponse, verdict: Exclude<Verdict<unknown>, { readonly status: 'ok' }>): void {
  events.count('tokenRefused')
  if (verdict.status === 'unavailable') answer(outgoing, 503, verdict.reason)
  else answer(outgoing, verdict.code, verdict.reason)
}

/** A refusal closes the connection: what else its sender is about to send is not read. */
function answer(outgoing: ServerResponse, status: number, error: string | null, said: object = {}): void {
  if (outgoing.headersSent || outgoing.destroyed) return
  const headers = status < 300 ? {} : { connection: 'close' }
  const wait = status === 503 || status === 429 ? { 'retry-after': String(1 + Math.floor(Math.random() * RETRY_AFTER_S_MAX)) } : {}
  outgoing.writeHead(status, { ...headers, ...wait, 'content-type': 'application/json', 'cache-control': 'no-store' })
  outgoing.end(JSON.stringify(error === null ? said : { error }))
}

type Body = { readonly status: 'read'; readonly json: unknown } | { readonly status: 'tooLarge' } | { readonly status: 'aborted' }

/** `json` is undefined for what is no JSON. */
async function readJson(incoming: IncomingMessage, bytesMax: number): Promise<Body> {
  const chunks: Buffer[] = []
  let bytes = 0
  try {
    for await (const chunk of incoming as AsyncIterable<Buffer>) {
      bytes += chunk.length
      if (bytes <= bytesMax) chunks.push(chunk)
      else if (bytes > DISCARDED_BYTES_MAX) return { status: 'tooLarge' }
    }
  } catch {
    return { status: 'aborted' }
  }
  if (bytes > bytesMax) return { status: 'tooLarge' }
  try {
    return { status: 'read', json: JSON.parse(Buffer.concat(chunks).toString('utf8')) }
  } catch {
    return { status: 'read', json: undefined }
  }
}

function firstIssue(error: z.ZodError): string {
  const [issue] = error.issues
  return issue === undefined ? 'that is no report' : `${issue.path.join('.') || 'report'}: ${issue.message}`
}
