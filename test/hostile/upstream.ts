/** A provider that answers with whatever bytes a test gives it, and keeps what it was sent. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setImmediate as turn } from 'node:timers/promises'

export interface Upstream {
  readonly url: string
  /** Bodies of the requests since the last answer was set. */
  readonly seen: readonly Buffer[]
  /** What to do with every request from now on. */
  answerWith(answer: (response: ServerResponse) => Promise<void> | void): void
  close(): Promise<void>
}

export async function startUpstream(): Promise<Upstream> {
  const seen: Buffer[] = []
  let answer: (response: ServerResponse) => Promise<void> | void = (response) => void response.writeHead(500).end()
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    response.on('error', () => undefined)
    request.on('data', (chunk: Buffer) => void chunks.push(chunk))
    request.on('end', () => {
      seen.push(Buffer.concat(chunks))
      void answer(response)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    seen,
    answerWith(next) {
      seen.length = 0
      answer = next
    },
    async close() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

export type Answer = (response: ServerResponse) => Promise<void> | void

export function whole(body: string, contentType = 'application/json'): Answer {
  return (response) => void response.writeHead(200, { 'content-type': contentType }).end(body)
}

export function events(stream: Buffer | string, contentType = 'text/event-stream'): Answer {
  return (response) => void response.writeHead(200, { 'content-type': contentType }).end(stream)
}

/** The first bytes of a stream, and then no more: the connection is cut, or the stream ends as if that were all. */
export function cut(bytes: Buffer, how: 'cut' | 'ended'): Answer {
  return async (response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.flushHeaders()
    if (bytes.length > 0) await new Promise<void>((resolve) => response.write(bytes, () => resolve()))
    await turn()
    await turn()
    if (how === 'cut') response.destroy()
    else response.end()
  }
}
