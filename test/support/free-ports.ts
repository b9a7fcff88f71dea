/** Ports for programs that tests start. */
import { createServer } from 'node:net'
import type { Server } from 'node:net'

const LOOPBACK = '127.0.0.1'
/** Below those that connections of this machine are given, and those of node ports: what is free now is not taken by chance. */
const FIRST = 10_000
const COUNT = 20_000
/** Another process may take a port between our look and its use. */
const STARTS_MAX = 3

/** The program ended since somebody else has its port. */
export class PortTaken extends Error {
  override readonly name = 'PortTaken'
}

/** Ports that are free now; the same one is given to this process once. */
export async function freePorts(count: number, host = LOOPBACK): Promise<readonly number[]> {
  const servers: { readonly server: Server; readonly port: number }[] = []
  while (servers.length < count) {
    const port = FIRST + Math.floor(Math.random() * COUNT)
    if (given.has(port)) continue
    given.add(port)
    const server = await listening(host, port)
    if (server !== null) servers.push({ server, port })
  }
  await Promise.all(servers.map(({ server }) => new Promise((resolve) => server.close(resolve))))
  return servers.map(({ port }) => port)
}

/** Starts something on ports that are free; on others when one of them was taken meanwhile. */
export async function onFreePorts<T>(count: number, start: (ports: readonly number[]) => Promise<T>, host = LOOPBACK): Promise<T> {
  return againOnTakenPorts(async () => start(await freePorts(count, host)))
}

/** Again, a few times, when what it starts finds a port of its own choice taken. */
export async function againOnTakenPorts<T>(start: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await start()
    } catch (error) {
      if (tries >= STARTS_MAX || !isTaken(error)) throw error
    }
  }
}

const given = new Set<number>()

/** Node says EADDRINUSE, Go `address already in use`; what a program logged is in the message of who started it. */
function isTaken(error: unknown): boolean {
  return error instanceof PortTaken || (error instanceof Error && /EADDRINUSE|address already in use/.test(error.message))
}

async function listening(host: string, port: number): Promise<Server | null> {
  const server = createServer()
  return await new Promise((resolve) => {
    server.once('error', () => resolve(null))
    server.listen(port, host, () => resolve(server))
  })
}
