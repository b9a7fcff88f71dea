/** Who we are to the API server, and how we know that it is the one. Only this file uses `@kubernetes/client-node`. */
import { createHash } from 'node:crypto'
import { KubeConfig } from '@kubernetes/client-node'
import { KubeError } from './kube.ts'

/** Plain data: it can be sent to a worker thread. */
export interface Credentials {
  /** `https://HOST:PORT`, with a path where the API server stands behind one; no slash at its end. */
  readonly server: string
  /** Authorization, Impersonate-User. */
  readonly headers: Readonly<Record<string, string>>
  readonly tls: TlsIdentity
  /** Of `server` and `tls`: connections made with another key must not be used any more. */
  readonly key: string
}

export interface TlsIdentity {
  readonly ca?: string
  readonly cert?: string
  readonly key?: string
  readonly servername?: string
  readonly rejectUnauthorized?: boolean
}

export interface CredentialSource {
  /** As they are now. Files are read again once they may have changed, so that rotated tokens, certificates and CAs are taken up. */
  current(): Promise<Credentials>
  /** What `current` gave was refused: read everything again. */
  refused(): void
  /** Of the context, or of the pod. */
  readonly namespace: string | null
}

/** Reading the CA file for every request would be a synchronous read each time. */
const KEPT_MS = 10_000

/** From `file`; without it from KUBECONFIG or `~/.kube/config`, else as a pod. Throws when there is none of them. */
export function credentialSource(file: string | undefined, nowMs: () => number): CredentialSource {
  let config = load(file)
  let kept: { readonly value: Promise<Credentials>; readonly untilMs: number } | null = null
  return {
    namespace: config.getContextObject(config.getCurrentContext())?.namespace ?? null,
    current() {
      if (kept === null || nowMs() >= kept.untilMs) {
        const value = read(config)
        kept = { value, untilMs: nowMs() + KEPT_MS }
        value.catch(() => {
          kept = null
        })
      }
      return kept.value
    },
    refused() {
      if (kept === null) return
      kept = null
      // Its authenticators keep a token for a minute of their own.
      config = load(file)
    },
  }
}

function load(file: string | undefined): KubeConfig {
  const config = new KubeConfig()
  if (file === undefined) config.loadFromDefault()
  else config.loadFromFile(file)
  return config
}

async function read(config: KubeConfig): Promise<Credentials> {
  const cluster = config.getCurrentCluster()
  if (cluster === null) throw new KubeError('the kubeconfig must name a cluster', { status: 0, reason: 'Unreachable' })
  if (cluster.proxyUrl !== undefined) throw new KubeError('`proxy-url` is not supported', { status: 0, reason: 'Unreachable' })
  const options: Parameters<KubeConfig['applyToHTTPSOptions']>[0] = {}
  try {
    await config.applyToHTTPSOptions(options)
  } catch (error) {
    throw new KubeError(`credentials could not be read: ${String(error)}`, { status: 0, reason: 'Unauthorized', cause: error })
  }
  const headers: Record<string, string> = {}
  for (const [name, value] of Object.entries(options.headers ?? {})) {
    // A token file may end with a line break, which no header may.
    if (typeof value === 'string') headers[name.toLowerCase()] = value.trim()
  }
  if (typeof options.auth === 'string') headers['authorization'] = `Basic ${Buffer.from(options.auth).toString('base64')}`
  const tls: TlsIdentity = {
    ...pem('ca', options.ca),
    ...pem('cert', options.cert),
    ...pem('key', options.key),
    ...(options.servername === undefined ? {} : { servername: options.servername }),
    ...(options.rejectUnauthorized === undefined ? {} : { rejectUnauthorized: options.rejectUnauthorized }),
  }
  const server = cluster.server.replace(/\/+$/, '')
  const key = createHash('sha256')
    .update(JSON.stringify([server, tls]))
    .digest('hex')
  return { server, headers, tls, key }
}

function pem<Name extends string>(name: Name, value: unknown): { readonly [key in Name]?: string } {
  if (typeof value === 'string' || Buffer.isBuffer(value)) {
    const found: { [key in Name]?: string } = {}
    found[name] = value.toString()
    return found
  }
  return {}
}
