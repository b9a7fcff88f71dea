/** Ports for programs that tests start. */
import { createServer } from 'node:net'
import type { Server } from 'node:net'

const LOOPBACK = '127.0.0.1'
/** Below those that connections of this machine are given, and those of node ports: what is free now is not taken by chance. */
const FIRST = 10_000
const COUNT = 20_000
/** Of one process, of ports that follow one another. */
const STRETCH = 200
/** Another process may take a port between our look and its use. */
const STARTS_MAX = 3

/** The program ended since somebody else has its port. */
export class PortTaken extends Error {
  override readonly name = 'PortTaken'
}

/** Ports that are free now; the same one is given to this process once, and while it lives to no other. */
export async function freePorts(count: number, host = LOOPBACK): Promise<readonly number[]> {
  const servers: { readonly server: Server; readonly port: number }[] = []
  while (servers.length < count) {
    if (own.length === 0) own.push(...(await stretchOfOurOwn()))
    const port = own.shift()
    const server = port === undefined ? null : await listening(host, port)
    if (server !== null && port !== undefined) servers.push({ server, port })
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

/** Of our stretches, those that were not given yet. */
const own: number[] = []

/**
 * Ports that no other process which asks here is given: files run side by side, and a program is started on its port later, or again.
 * Whoever listens on the first of them has the others; that ends with the process, however it ends.
 */
async function stretchOfOurOwn(): Promise<readonly number[]> {
  const begin = Math.floor(Math.random() * (COUNT / STRETCH))
  for (let tries = 0; tries < COUNT / STRETCH; tries += 1) {
    const first = FIRST + ((begin + tries) % (COUNT / STRETCH)) * STRETCH
    const sign = await listening(LOOPBACK, first)
    if (sign === null) continue
    sign.unref()
    return Array.from({ length: STRETCH - 1 }, (_, index) => first + 1 + index)
  }
  throw new Error('all stretches of ports are taken')
}

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
