/**
 * Whether the pod speaks to a provider past this sidecar: connections of its network namespace to where the governed upstreams
 * are, whose sockets are neither ours nor a mesh's. A provider whose address another service shares is taken for that provider.
 */
import { lookup } from 'node:dns/promises'
import { readdir, readFile, readlink } from 'node:fs/promises'
import type { SidecarReport } from '@farebox/crds/delivery.ts'
import { establishedIn, isLocal, plainAddress } from './tcp-table.ts'
import type { TcpConnection } from './tcp-table.ts'

const LOOK_MS = 10_000
const RESOLVE_MS = 5 * 60_000
/** An address stays one of a provider's for so long after it was last seen to be: connections outlive answers of name servers. */
const KNOWN_MS = 60 * 60_000
const ADDRESSES_MAX = 10_000
/**
 * Users of mesh proxies, who open the connections of all of a pod, ours too: Istio's, which no app may be
 * (https://istio.io/latest/docs/ops/deployment/application-requirements/), and Linkerd's, unless `config.linkerd.io/proxy-uid` says
 * otherwise (https://linkerd.io/2/reference/proxy-configuration/).
 */
const MESH_UIDS: ReadonlySet<number> = new Set([1_337, 2_102])

export interface Upstreams {
  /** Of the config in force. */
  readonly baseUrls: () => readonly string[]
  /** Where our own connections to them go now. */
  readonly remotes: () => readonly { readonly host: string; readonly address: string; readonly port: number }[]
}

export class BypassWatch {
  readonly #upstreams: Upstreams
  readonly #onFound: (place: string) => void
  /** By `ADDRESS PORT`. */
  readonly #known = new Map<string, { readonly host: string; readonly untilMs: number }>()
  readonly #resolvedAtMs = new Map<string, number>()
  #timer: NodeJS.Timeout | null = null
  #isLooking = false
  #looks = 0
  #found = 0
  #lastSeen: string | null = null
  #lastMs: number | null = null

  /** `onFound` is told of each place once, until another is found. */
  constructor(upstreams: Upstreams, onFound: (place: string) => void) {
    this.#upstreams = upstreams
    this.#onFound = onFound
  }

  get state(): SidecarReport['bypass'] {
    return { looks: this.#looks, found: this.#found, lastSeen: this.#lastSeen, lastMs: this.#lastMs }
  }

  start(): void {
    this.#timer = setInterval(() => {
      // A name server that does not answer must not make looks pile up.
      if (this.#isLooking) return
      this.#isLooking = true
      this.look()
        .catch(() => undefined) // a look that failed is not counted
        .finally(() => {
          this.#isLooking = false
        })
    }, LOOK_MS).unref()
  }
  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer)
  }

  /** Rejects where there is no such table. */
  async look(): Promise<void> {
    await this.#learn()
    if (this.#known.size === 0) return
    // A socket of ours that is closed or made meanwhile is in one of the two.
    const before = await ownInodes()
    const [tcp, tcp6] = await Promise.all([
      readFile('/proc/self/net/tcp', 'latin1'),
      readFile('/proc/self/net/tcp6', 'latin1').catch(() => ''),
    ])
    const connections = [...establishedIn(tcp), ...establishedIn(tcp6)]
    const suspects = suspectsAmong(connections, this.#known, before)
    this.#looks += 1
    if (suspects.length === 0) return
    const after = await ownInodes()
    const found = suspects.find(({ inode }) => !after.has(inode))
    if (found === undefined) return
    const host = this.#known.get(`${found.remoteAddress} ${found.remotePort}`)?.host ?? ''
    const place = `${host} (${found.remoteAddress}):${found.remotePort}`.slice(-256)
    this.#found += 1
    this.#lastMs = Date.now()
    if (place !== this.#lastSeen) this.#onFound(place)
    this.#lastSeen = place
  }

  async #learn(): Promise<void> {
    const nowMs = performance.now()
    for (const [place, { untilMs }] of this.#known) if (untilMs < nowMs) this.#known.delete(place)
    for (const { host, address, port } of this.#upstreams.remotes()) this.#see(host, address, port)
    // One after the other: each holds a thread while it waits, of the four that connections of calls and bodies need, too.
    for (const baseUrl of this.#upstreams.baseUrls()) {
      const { hostname, port, protocol, origin } = new URL(baseUrl)
      if (nowMs - (this.#resolvedAtMs.get(origin) ?? Number.NEGATIVE_INFINITY) < RESOLVE_MS) continue
      try {
        const host = hostname.replace(/^\[|\]$/g, '')
        const addresses = await lookup(host, { all: true })
        for (const { address } of addresses) this.#see(host, address, Number(port) || (protocol === 'https:' ? 443 : 80))
        this.#resolvedAtMs.set(origin, nowMs)
      } catch {
        // No name server: what is known goes on, and the next look asks again.
      }
    }
  }

  #see(host: string, address: string, port: number): void {
    const plain = plainAddress(address)
    if (isLocal(plain) || this.#known.size >= ADDRESSES_MAX) return
    this.#known.set(`${plain} ${port}`, { host, untilMs: performance.now() + KNOWN_MS })
  }
}

/** Connections to places that are known, by `ADDRESS PORT`, whose sockets are not ours. */
export function suspectsAmong(
  connections: readonly TcpConnection[],
  known: Pick<ReadonlyMap<string, unknown>, 'has'>,
  own: ReadonlySet<number>,
): readonly TcpConnection[] {
  return connections.filter(
    ({ remoteAddress, remotePort, uid, inode }) => !own.has(inode) && !MESH_UIDS.has(uid) && known.has(`${remoteAddress} ${remotePort}`),
  )
}

/** Of the sockets of this process. */
async function ownInodes(): Promise<ReadonlySet<number>> {
  const folder = '/proc/self/fd'
  const links = await Promise.all((await readdir(folder)).map((name) => readlink(`${folder}/${name}`).catch(() => '')))
  return new Set(links.flatMap((link) => /^socket:\[(\d+)\]$/.exec(link)?.[1] ?? []).map(Number))
}
