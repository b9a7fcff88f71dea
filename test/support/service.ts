/**
 * What a Kubernetes Service is to whoever calls it: one address, from which each new connection goes to one of the pods behind it.
 * Here always to the one that has been there the longest, so that a pod that is replaced in its turn is one that was in use.
 */
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { Socket } from 'node:net'
import { onFreePorts } from './free-ports.ts'

export interface Service {
  readonly port: number
  add(port: number): void
  /** No new connection goes there; those that are open stay. */
  remove(port: number): void
  close(): Promise<void>
}

export async function startService(): Promise<Service> {
  const endpoints: number[] = []
  const sockets = new Set<Socket>()
  const server = createServer((client) => {
    const [port] = endpoints
    if (port === undefined) {
      client.resetAndDestroy()
      return
    }
    const pod = connect({ port, host: '127.0.0.1', noDelay: true })
    for (const [one, other] of [
      [client, pod],
      [pod, client],
    ] as const) {
      sockets.add(one)
      one.on('error', () => other.destroy())
      one.on('close', () => {
        sockets.delete(one)
        other.destroy()
      })
      one.pipe(other)
    }
  })
  const port = await onFreePorts(1, async ([free = 0]) => {
    server.listen(free, '127.0.0.1')
    await once(server, 'listening')
    return free
  })
  return {
    port,
    add(endpoint) {
      endpoints.push(endpoint)
    },
    remove(endpoint) {
      endpoints.splice(endpoints.indexOf(endpoint), 1)
    },
    async close() {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}
