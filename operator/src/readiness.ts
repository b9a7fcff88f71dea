/**
 * When a replica may be sent to: its caches are filled, its listeners have a certificate, and whoever calls its webhook trusts that.
 * Once it was so it stays so until the replica leaves: a readiness that hung on what all replicas share would take all of them away at
 * once, at the worst of times.
 */
import { connect } from 'node:tls'
import { caBundlesOf } from './certificates/trust.ts'
import type { KubeObject } from './kube/kube.ts'

const HANDSHAKE_MS_MAX = 2_000

export interface ReadinessParts {
  readonly hasSynced: () => boolean
  readonly hasCertificate: () => boolean
  readonly isListening: () => boolean
  /** As the API server has it: whom it trusts. */
  readonly webhook: () => KubeObject | undefined
  /** Of our own listener. */
  readonly listener: { readonly port: number; readonly serverName: string }
}

export class Readiness {
  readonly #parts: ReadinessParts
  #state: 'starting' | 'ready' | 'leaving' = 'starting'

  constructor(parts: ReadinessParts) {
    this.#parts = parts
  }

  get isReady(): boolean {
    return this.#state === 'ready'
  }

  /** Null: it is ready. Else why not, for people. */
  async ask(): Promise<string | null> {
    if (this.#state !== 'starting') return this.#state === 'ready' ? null : 'it is leaving'
    const why = await this.#why()
    if (why === null && this.#state === 'starting') this.#state = 'ready'
    return why
  }

  leave(): void {
    this.#state = 'leaving'
  }

  async #why(): Promise<string | null> {
    const { hasSynced, hasCertificate, isListening, webhook, listener } = this.#parts
    if (!hasSynced()) return 'the caches are not filled yet'
    if (!hasCertificate()) return 'there is no certificate yet'
    if (!isListening()) return 'the webhook does not listen yet'
    const configuration = webhook()
    if (configuration === undefined) return 'there is no webhook configuration'
    const bundles = caBundlesOf(configuration)
    for (const bundle of bundles) {
      if (bundle === null) return 'the webhook configuration has no caBundle yet'
      const refusal = await handshake(listener, bundle)
      if (refusal !== null) return `the API server would not trust us: ${refusal}`
    }
    return bundles.length === 0 ? 'the webhook configuration has no webhook' : null
  }
}

/** As the API server would, to which any certificate of the bundle will do, also one that another signed. Null: it is fine. */
function handshake({ port, serverName }: ReadinessParts['listener'], bundle: string): Promise<string | null> {
  return new Promise((resolve) => {
    const trusted = { ca: bundle, allowPartialTrustChain: true }
    const socket = connect({ host: '127.0.0.1', port, servername: serverName, timeout: HANDSHAKE_MS_MAX, ...trusted })
    const end = (refusal: string | null): void => {
      socket.destroy()
      resolve(refusal)
    }
    socket.once('secureConnect', () => end(null))
    socket.once('error', (error) => end(error.message))
    socket.once('timeout', () => end('no answer'))
  })
}
