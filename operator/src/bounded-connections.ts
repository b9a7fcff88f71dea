/** Whoever can reach a listener can open connections, without any token: so many that we run out of memory, if nothing bounded them. */
import type { Server } from 'node:https'
import type { Socket } from 'node:net'

export interface ConnectionBounds {
  /** Open at a time, in all and from one address: where pods are behind one, they are those of a node. */
  readonly max: number
  readonly ofAddressMax: number
  /** One more was closed before its handshake. */
  readonly onRefused: () => void
}

export function boundConnections(server: Server, { max, ofAddressMax, onRefused }: ConnectionBounds): void {
  const open = new Map<string, number>()
  server.maxConnections = max
  server.on('drop', onRefused)
  server.prependListener('connection', (socket: Socket) => {
    const { remoteAddress = '' } = socket
    const count = (open.get(remoteAddress) ?? 0) + 1
    open.set(remoteAddress, count)
    socket.once('close', () => {
      const left = (open.get(remoteAddress) ?? 1) - 1
      if (left === 0) open.delete(remoteAddress)
      else open.set(remoteAddress, left)
    })
    if (count <= ofAddressMax) return
    onRefused()
    socket.destroy()
  })
}
