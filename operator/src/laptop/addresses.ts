/** Addresses on this machine: reading them, finding free ones, and saying clearly when one is taken. */
import { once } from 'node:events'
import { connect, createServer, isIPv6 } from 'node:net'
import { formatAddress } from '@farebox/crds/address.ts'
import type { Address } from '@farebox/crds/address.ts'
import { messageOf } from '../core/error-text.ts'

const ADDRESS_PATTERN = /^(?:([A-Za-z0-9.-]+)|\[([0-9a-fA-F:.]+)\]):(\d{1,5})$/
const PORT_MAX = 65_535
const CONNECT_MS_MAX = 5_000

/** `127.0.0.1:4180` or `[::1]:4180` -> its parts; null when it is no `HOST:PORT`. Port 0 is refused: everybody must know where to go. */
export function parseAddress(text: string): Address | null {
  const [, name, literal, digits] = ADDRESS_PATTERN.exec(text) ?? []
  const port = Number(digits)
  if (port < 1 || port > PORT_MAX) return null
  if (literal !== undefined) return isIPv6(literal) ? { host: literal, port } : null
  return name === undefined ? null : { host: name, port }
}

/** Why nobody can listen there, in words for people; null: it is free at this moment. */
export async function whyTaken(address: Address): Promise<string | null> {
  const server = createServer()
  server.listen({ ...address, exclusive: true })
  try {
    await once(server, 'listening')
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : null
    if (code === 'EADDRINUSE') return `${formatAddress(address)} is in use`
    if (code === 'EACCES') return `${formatAddress(address)} may not be used by this user`
    if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND') return `${address.host} is no address of this machine`
    return `${formatAddress(address)}: ${messageOf(error)}`
  }
  server.close()
  await once(server, 'close')
  return null
}

/** Why no connection to the host and port of an http or https URL comes about, in words for people; null: one did. */
export async function whyUnreachable(url: string): Promise<string | null> {
  const { protocol, hostname, port } = new URL(url)
  const host = hostname.replace(/^\[(.*)\]$/, '$1')
  const socket = connect({ host, port: Number(port) || (protocol === 'https:' ? 443 : 80) })
  try {
    await once(socket, 'connect', { signal: AbortSignal.timeout(CONNECT_MS_MAX) })
    return null
  } catch (error) {
    if (error instanceof Error && error.name === 'AbortError') return `no connection within ${CONNECT_MS_MAX / 1000} s`
    const code = error instanceof Error && 'code' in error ? error.code : null
    return typeof code === 'string' ? code : String(error)
  } finally {
    socket.on('error', () => undefined).destroy()
  }
}

/** Loopback addresses that were free a moment ago, all different. */
export async function freeAddresses(count: number): Promise<readonly Address[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'))
  await Promise.all(servers.map((server) => once(server, 'listening')))
  const addresses = servers.map((server): Address => {
    const bound = server.address()
    if (bound === null || typeof bound === 'string') throw new Error('a listening TCP server has a port')
    return { host: '127.0.0.1', port: bound.port }
  })
  await Promise.all(
    servers.map(async (server) => {
      server.close()
      await once(server, 'close')
    }),
  )
  return addresses
}
