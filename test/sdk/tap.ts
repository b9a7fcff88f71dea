/** Stands between an SDK and what it calls: counts the requests of each conversation, and tells the fake provider what to do to them. */
import { once } from 'node:events'
import { Agent, createServer, request as send } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/** A request that came, and what it was answered. */
export interface Exchange {
  readonly method: string
  readonly path: string
  readonly status: number
  /** Headers of the answer, by name. */
  readonly headers: Readonly<Record<string, string>>
}

export interface Tap {
  /** `http://127.0.0.1:PORT` */
  readonly origin: string
  /** All requests of the conversation so far, in the order in which their answers began. */
  exchanges(conversation: string): readonly Exchange[]
  /** Headers that the next requests of the conversation get, one set each; the last one stays. */
  script(conversation: string, headers: readonly Readonly<Record<string, string>>[]): void
  close(): Promise<void>
}

export const CONVERSATION_HEADER = 'x-farebox-conversation'

/** `pathOf` gives the path to ask `target` for. */
export async function startTap(target: string, pathOf: (path: string) => string = (path) => path): Promise<Tap> {
  const seen = new Map<string, Exchange[]>()
  const scripts = new Map<string, Readonly<Record<string, string>>[]>()
  const agent = new Agent({ keepAlive: true })
  const { hostname, port } = new URL(target)

  const scripted = (conversation: string): Readonly<Record<string, string>> => {
    const script = scripts.get(conversation) ?? []
    return (script.length > 1 ? script.shift() : script[0]) ?? {}
  }
  const pass = (incoming: IncomingMessage, outgoing: ServerResponse): void => {
    const conversation = String(incoming.headers[CONVERSATION_HEADER] ?? '')
    const { method = '', url: path = '/' } = incoming
    const raw = incoming.rawHeaders.concat(Object.entries({ ...scripted(conversation), 'x-fake-tag': conversation }).flat())
    const call = send({ host: hostname, port, agent, method, path: pathOf(path), headers: raw }, (answer) => {
      const { statusCode: status = 0 } = answer
      const headers = Object.fromEntries(Object.entries(answer.headers).map(([name, value]) => [name, String(value)]))
      const list = seen.get(conversation) ?? []
      list.push({ method, path, status, headers })
      seen.set(conversation, list)
      outgoing.writeHead(status, answer.rawHeaders)
      answer.pipe(outgoing)
      answer.on('error', () => outgoing.destroy())
    })
    call.on('error', () => outgoing.destroy())
    outgoing.on('close', () => {
      if (!outgoing.writableFinished) call.destroy()
    })
    incoming.pipe(call)
  }

  const server = createServer(pass)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    exchanges: (conversation) => seen.get(conversation) ?? [],
    script: (conversation, headers) => void scripts.set(conversation, [...headers]),
    async close() {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
      agent.destroy()
    },
  }
}
