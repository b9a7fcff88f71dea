/**
 * The kernel's table of TCP connections of a network namespace, as text: `/proc/net/tcp` and `/proc/net/tcp6`
 * (https://docs.kernel.org/networking/proc_net_tcp.html).
 */

export interface TcpConnection {
  /** As people write it; an IPv4 address within IPv6 (RFC 4291 section 2.5.5.2) as the IPv4 address that it is. */
  readonly remoteAddress: string
  readonly remotePort: number
  /** Whose the socket is, as our own user namespace counts users. */
  readonly uid: number
  /** Names the socket, in `/proc/PID/fd` too. */
  readonly inode: number
}

const ESTABLISHED = '01'
const COLUMNS_MIN = 10

/** Those that are established and belong to a process. Lines that cannot be read are left out. */
export function establishedIn(table: string): readonly TcpConnection[] {
  const connections: TcpConnection[] = []
  for (const line of table.split('\n')) {
    const columns = line.trim().split(/\s+/)
    if (columns.length < COLUMNS_MIN || columns[3] !== ESTABLISHED) continue
    const [hexAddress = '', hexPort = ''] = (columns[2] ?? '').split(':')
    const remoteAddress = addressOf(hexAddress)
    const remotePort = Number.parseInt(hexPort, 16)
    const uid = Number(columns[7])
    const inode = Number(columns[9])
    if (remoteAddress === null || !(remotePort > 0) || !(inode > 0)) continue
    connections.push({ remoteAddress, remotePort, uid, inode })
  }
  return connections
}

/** Words of 32 bits, each in the machine's byte order: little-endian on all that we run on. */
function addressOf(hex: string): string | null {
  if (!/^(?:[0-9A-F]{8}|[0-9A-F]{32})$/i.test(hex)) return null
  const words = hex.match(/.{8}/g) ?? []
  const bytes = words.flatMap((word) => [...Buffer.from(word, 'hex')].toReversed())
  if (bytes.length === 4) return bytes.join('.')
  if (bytes.slice(0, 10).every((byte) => byte === 0) && bytes[10] === 0xff && bytes[11] === 0xff) return bytes.slice(12).join('.')
  return plainAddress(
    Array.from({ length: 8 }, (_, index) => (((bytes[2 * index] ?? 0) << 8) | (bytes[2 * index + 1] ?? 0)).toString(16)).join(':'),
  )
}

/** One spelling for each address (RFC 5952): the one that URLs have. */
export function plainAddress(address: string): string {
  if (!address.includes(':')) return address
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1]
  if (mapped !== undefined) return mapped
  try {
    return new URL(`http://[${address.split('%', 1)[0]}]`).hostname.slice(1, -1)
  } catch {
    return address
  }
}

/** Within the pod, or nowhere. */
export function isLocal(address: string): boolean {
  return address.startsWith('127.') || address === '::1' || address === '0.0.0.0' || address === '::'
}
