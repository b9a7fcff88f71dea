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
import type { ReceivedReport } from '@farebox/crds/delivery.ts'
import * as z from 'zod'
import type { DeliveryEvents } from './events.ts'
import { helloOf } from './stream-hub.ts'
import type { StreamHub } from './stream-hub.ts'
import type { ServiceAccount, TokenVerifier, Verdict } from './token-verifier.ts'

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
  /** Reports passed on of pods that this replica does not know are left out. */
  readonly knowsPod: (pod: ReceivedReport['pod']) => boolean
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
export const ForwardedSchema = z.object({ reports: z.array(ReceivedReportSchema).max(1_000) })

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

export function createDeliveryServer(options: DeliveryServerOptions): DeliveryServer {
  const server = createServer(
    {
      ...options.certificate,
      minVersion: 'TLSv1.2',
      maxHeaderSize: HEADER_BYTES_MAX,
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
      keepAliveTimeout: KEEP_ALIVE_MS,
      headersTimeout: HEADERS_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      noDelay: true,
    },
    (incoming, outgoing) => {
      serve(options, incoming, outgoing).catch((error: unknown) => {
        options.events.log('error', 'a delivery request failed', { path: incoming.url, err: String(error) })
        answer(outgoing, 500, 'it failed')
      })
    },
  )
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

async function serve(options: DeliveryServerOptions, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  const path = (incoming.url ?? '').split('?', 1)[0]
  switch (`${incoming.method} ${path}`) {
    case `GET ${STREAM_PATH}`:
      return await openStream(options, incoming, outgoing)
    case `POST ${REPORTS_PATH}`:
      return await takeReport(options, incoming, outgoing)
    case `POST ${FORWARDED_PATH}`:
      return await takeForwarded(options, incoming, outgoing)
    case 'GET /healthz':
      return answer(outgoing, 200, null)
    default:
      return answer(outgoing, 404, 'there is nothing here')
  }
}

async function openStream(
  { verifier, hub, events }: DeliveryServerOptions,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
): Promise<void> {
  if (!hub.mayAccept()) return answer(outgoing, 503, 'too many sidecars come at once')
  const hello = helloOf(incoming.headers)
  if (hello === null) return answer(outgoing, 400, 'that is no sidecar: it names no protocol')
  const problem = hub.protocolProblem(hello)
  if (problem !== null) {
    events.count('protocolRefused')
    return answer(outgoing, 426, problem)
  }
  const verdict = await verifier.pod(incoming.headers.authorization)
  if (verdict.status !== 'ok') return refuse(events, outgoing, verdict)
  if (!outgoing.destroyed) hub.open(verdict.identity, hello, outgoing)
}

async function takeReport(options: DeliveryServerOptions, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  const { verifier, events, nowMs } = options
  const verdict = await verifier.pod(incoming.headers.authorization)
  if (verdict.status !== 'ok') return refuse(events, outgoing, verdict)
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
  const { namespace, name, uid } = verdict.identity
  options.takeReport({ pod: { namespace, name, uid }, receivedAtMs: nowMs(), report: parsed.data })
  events.count('reportTaken')
  answer(outgoing, 202, null)
}

async function takeForwarded(options: DeliveryServerOptions, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
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
  const known = parsed.data.reports.filter(({ pod }) => options.knowsPod(pod))
  for (const received of known) options.takeReport(received)
  events.count('forwardedTaken', known.length)
  answer(outgoing, 202, null)
}

function refuse(events: DeliveryEvents, outgoing: ServerResponse, verdict: Exclude<Verdict<unknown>, { readonly status: 'ok' }>): void {
  events.count('tokenRefused')
  if (verdict.status === 'unavailable') answer(outgoing, 503, verdict.reason)
  else answer(outgoing, verdict.code, verdict.reason)
}

/** A refusal closes the connection: what else its sender is about to send is not read. */
function answer(outgoing: ServerResponse, status: number, error: string | null): void {
  if (outgoing.headersSent || outgoing.destroyed) return
  const headers = status < 300 ? {} : { connection: 'close' }
  const wait = status === 503 ? { 'retry-after': String(1 + Math.floor(Math.random() * RETRY_AFTER_S_MAX)) } : {}
  outgoing.writeHead(status, { ...headers, ...wait, 'content-type': 'application/json', 'cache-control': 'no-store' })
  outgoing.end(error === null ? '{}' : JSON.stringify({ error }))
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
