/** The operator's own pages, by http: whether it lives, whether it may be sent to, and its metrics. */
import { createServer } from 'node:http'
import type { Server } from 'node:http'

export interface AdminParts {
  /** Null: ready. Else why not. */
  readonly whyNotReady: () => Promise<string | null>
  readonly metrics: () => Promise<string>
  readonly metricsType: string
}

export function createAdminServer({ whyNotReady, metrics, metricsType }: AdminParts): Server {
  const pages: Readonly<Record<string, () => Promise<{ readonly status: number; readonly type: string; readonly body: string }>>> = {
    '/healthz': () => Promise.resolve({ status: 200, type: 'text/plain', body: 'ok\n' }),
    '/readyz': async () => {
      const why = await whyNotReady()
      return { status: why === null ? 200 : 503, type: 'text/plain', body: `${why ?? 'ready'}\n` }
    },
    '/metrics': async () => ({ status: 200, type: metricsType, body: await metrics() }),
  }
  return createServer((request, response) => {
    const path = (request.url ?? '').split('?')[0] ?? ''
    const page = Object.hasOwn(pages, path) ? pages[path] : undefined
    request.resume()
    if (page === undefined) {
      response.writeHead(404).end()
      return
    }
    page().then(
      ({ status, type, body }) => response.writeHead(status, { 'content-type': type }).end(body),
      () => response.writeHead(500).end(),
    )
  })
}
