/** Endpoints that are not metered, for owners who let them pass: the bytes go through as they are, and are counted as such. */
import { readBody } from './body.ts'
import { refuse, sentHeaders } from './exchange.ts'
import type { Exchange } from './exchange.ts'
import { responseHeaders } from './headers.ts'

export async function passThrough(exchange: Exchange): Promise<void> {
  const { gateway, incoming, outgoing, upstream, path } = exchange
  const read = await readBody(incoming)
  if (read.status === 'aborted') return
  if (read.status === 'refused') return refuse(exchange, read.refusal)
  gateway.metrics.turns.add(['none', 'ungoverned'])
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
          outgoing.writeHead(statusCode, [...responseHeaders(rawHeaders, { lengthChanges: false }), 'x-farebox-ungoverned', 'true'])
        },
        data: (chunk) => {
          if (!outgoing.write(Buffer.from(chunk))) handle.pause()
        },
        end: () => {
          outgoing.end()
          resolve()
        },
        failed: (failure) => {
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
}
