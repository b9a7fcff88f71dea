/**
 * What is not metered: calls that cost nothing, and endpoints that nobody can meter, for owners who let them pass. The bytes go through as
 * they are, and are counted as such. Only an error waits for its end, where a key is held that it may show.
 */
import { readBody } from './body.ts'
import type { Refusal } from '../errors.ts'
import { Pieces } from '../wire/pieces.ts'
import type { FreeBody, ParsedRequest } from '../wire/wire.ts'
import { goesOnObserved, refuse, secretsOf, sentHeaders } from './exchange.ts'
import type { Exchange } from './exchange.ts'
import { responseHeaders } from './headers.ts'
import { bytesWithoutSecrets, ERROR_BODY_BYTES_MAX } from './held-key.ts'
import { outcomeOfStatus } from '../telemetry/metrics.ts'
import type { ProviderOutcome } from '../telemetry/metrics.ts'
import { REDIRECT_MESSAGE } from './upstream.ts'

const NOTHING = Buffer.alloc(0)

/** What cannot be metered: it passes where the owner lets it, or only observes; else it is refused so. `body`: where it was read already. */
export async function serveUngoverned(exchange: Exchange, refusal: Refusal, body?: Buffer): Promise<void> {
  if (exchange.policy.config.ungoverned !== 'Pass' && !goesOnObserved(exchange, refusal)) return refuse(exchange, refusal)
  return passThrough(exchange, { kind: 'ungoverned', ...(body === undefined ? {} : { body }) })
}

/** A call whose body was not read as one that can be metered, or passed on for nothing: why not. */
export async function serveUnread(exchange: Exchange, why: Exclude<ParsedRequest, { readonly status: 'ok' }>, body: Buffer): Promise<void> {
  if (why.status === 'invalid') {
    const { message, field } = why
    return refuse(exchange, { code: 'invalid_request', message, ...(field === null ? {} : { param: field }) })
  }
  const { what, code = 'endpoint_not_governed' } = why
  return serveUngoverned(exchange, { code, message: `${what} cannot be metered as it happens, and is refused here.` }, body)
}

/** What costs nothing. `read`: what its body must be read by first; absent: nothing. */
export async function serveFree(exchange: Exchange, read?: (body: Buffer) => Promise<FreeBody>): Promise<void> {
  if (read === undefined) return passThrough(exchange, { kind: 'free' })
  const given = await readBody(exchange)
  if (given.status === 'aborted') return
  if (given.status === 'refused') return refuse(exchange, given.refusal)
  const found = await read(given.body)
  if (found.status !== 'ok') return serveUnread(exchange, found, given.body)
  return passThrough(exchange, { kind: 'free', body: found.body })
}

/** `body`: where it was read already. */
async function passThrough(
  exchange: Exchange,
  { kind, body }: { readonly kind: 'free' | 'ungoverned'; readonly body?: Buffer },
): Promise<void> {
  const { gateway, incoming, outgoing, upstream, path } = exchange
  const secrets = secretsOf(exchange)
  const read = body === undefined ? await readBody(exchange) : ({ status: 'ok', body } as const)
  if (read.status === 'aborted') return
  if (read.status === 'refused') return refuse(exchange, read.refusal)
  gateway.metrics.turns.add(['none', kind])
  /** Of an error that may show what is held; null: what comes goes on at once. */
  let kept: Pieces | null = null
  const release = (): boolean => {
    const body = bytesWithoutSecrets(kept?.whole() ?? NOTHING, secrets)
    kept = null
    return body.length === 0 || outgoing.write(body)
  }
  let outcome: ProviderOutcome = 'left'
  await new Promise<void>((resolve) => {
    const handle = gateway.upstreams.call(
      {
        baseUrl: upstream.baseUrl,
        path,
        method: incoming.method ?? 'GET',
        headers: sentHeaders(exchange),
        body: read.body.length === 0 ? null : read.body,
      },
      {
        head: (statusCode, rawHeaders) => {
          outcome = statusCode === 404 ? '4xx' : outcomeOfStatus(statusCode) // a client may well ask for what is not there
          // 304 leads nowhere (RFC 9110 section 15.4.5).
          if (statusCode >= 300 && statusCode < 400 && statusCode !== 304) {
            handle.abort()
            refuse(exchange, { code: 'upstream_unreachable', message: REDIRECT_MESSAGE })
            return resolve()
          }
          const isError = statusCode >= 400 && secrets.length > 0
          if (isError) kept = new Pieces()
          const headers = responseHeaders(rawHeaders, { lengthChanges: isError, secrets })
          outgoing.writeHead(statusCode, kind === 'free' ? headers : [...headers, 'x-farebox-ungoverned', 'true'])
        },
        data: (chunk) => {
          if (kept === null) return outgoing.write(Buffer.from(chunk)) ? undefined : handle.pause()
          kept.addCopy(chunk)
          if (kept.bytes > ERROR_BODY_BYTES_MAX && !release()) handle.pause()
        },
        end: () => {
          release()
          outgoing.end()
          resolve()
        },
        failed: (failure) => {
          outcome = failure.kind
          const { requestId } = exchange
          gateway.log.warn(
            { requestId, upstream: upstream.name, kind: failure.kind, err: failure.cause.message },
            'the provider call failed',
          )
          if (outgoing.headersSent) outgoing.destroy()
          else refuse(exchange, { code: failure.kind === 'timeout' ? 'upstream_timeout' : 'upstream_unreachable' })
          resolve()
        },
      },
    )
    outgoing.on('drain', () => handle.resume())
    outgoing.on('close', () => {
      if (outgoing.writableFinished) return
      handle.abort()
      resolve()
    })
  })
  gateway.metrics.providerCalls.add([upstream.name, outcome])
}
