/** What our listeners show: for every replica. A new certificate is in use from the next handshake on; open connections stay. */
import { createSecureContext } from 'node:tls'
import type { SecureContextOptions } from 'node:tls'
import type { KubeObject } from '../kube/kube.ts'
import { readCertificate } from './pem.ts'
import type { KeyPair } from './pem.ts'
import { secretData } from './secret-data.ts'

export interface Served extends KeyPair {
  /** What to trust for it, PEM; null: the Secret does not say. */
  readonly trust: string | null
  readonly beginsAtMs: number
  readonly expiresAtMs: number
}

/** A TLS server of Node's. */
interface SwappableServer {
  setSecureContext(options: SecureContextOptions): void
}

export interface Serving {
  /** Null: nothing usable has come yet. */
  readonly current: Served | null
  /** Now, and whenever another comes. */
  attach(server: SwappableServer): void
  /** False: nothing usable is in the Secret, or there is none; what is served stays. */
  update(secret: KubeObject | undefined): boolean
}

/** `onProblem`: a Secret whose certificate and key cannot be used, in words for the log. */
export function createServing(onProblem?: (message: string) => void): Serving {
  const servers: SwappableServer[] = []
  let current: Served | null = null
  return {
    get current() {
      return current
    },
    attach(server) {
      servers.push(server)
      if (current !== null) server.setSecureContext(contextOf(current))
    },
    update(secret) {
      if (secret === undefined) return false
      const read = readServed(secret)
      if (typeof read === 'string') {
        onProblem?.(`Secret "${secret.metadata.name}" ${read}: what was served stays`)
        return false
      }
      const isNew = read.cert !== current?.cert || read.key !== current.key
      current = read
      if (isNew) for (const server of servers) server.setSecureContext(contextOf(read))
      return true
    },
  }
}

function readServed(secret: KubeObject): Served | string {
  const { 'tls.crt': cert = '', 'tls.key': key = '', 'ca.crt': trust = '' } = secretData(secret)
  const certificate = readCertificate(cert)
  if (certificate === null) return 'has no certificate in tls.crt'
  try {
    createSecureContext({ cert, key })
  } catch {
    return 'has no key in tls.key that belongs to tls.crt'
  }
  return {
    cert,
    key,
    trust: trust === '' ? null : trust,
    beginsAtMs: certificate.validFromDate.getTime(),
    expiresAtMs: certificate.validToDate.getTime(),
  }
}

function contextOf({ cert, key }: KeyPair): SecureContextOptions {
  return { cert, key, minVersion: 'TLSv1.2' }
}
