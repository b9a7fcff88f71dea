/**
 * Which certificate authorities may have signed the operator's certificate: those of the mounted file, and what the operator told. A pod whose
 * budget is deleted or renamed loses the file: what was told to an earlier run of it is then all that there is.
 */
import { X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { messageOf } from '../error-text.ts'

const PEM = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g
const BYTES_MAX = 256 * 1024

/** What the operator told last, as PEM, from one run of a pod to the next; null: nothing. */
export interface TrustMemory {
  readonly toldTrust: string | null
  keepToldTrust(told: string): void
}

export class Trust {
  readonly #file: string
  readonly #memory: TrustMemory
  #mounted: readonly string[] = []
  #told: readonly string[] = []

  constructor(file: string, memory: TrustMemory) {
    this.#file = file
    this.#memory = memory
  }

  /** As of now. A file that is away or damaged leaves what was there. Rejects when nobody is trusted: a call would trust the world. */
  async certificates(): Promise<string> {
    let cause: unknown
    try {
      const mounted = certificatesIn(await readFile(this.#file, 'utf8'))
      if (mounted.length > 0) this.#mounted = mounted
    } catch (error) {
      cause = error
    }
    const now = new Set([...this.#mounted, ...this.#told])
    // What an earlier run was told may be trusted no more: it counts only where nobody else says whom to trust.
    const all = now.size > 0 ? [...now] : certificatesIn(this.#memory.toldTrust ?? '')
    if (all.length === 0)
      throw new Error(`${this.#file} holds no certificate${cause === undefined ? '' : `: ${messageOf(cause)}`}`, { cause })
    return all.join('\n')
  }

  /** False for a bundle without a single certificate, which changes nothing. */
  tell(caBundle: string): boolean {
    const told = certificatesIn(caBundle)
    if (told.length === 0) return false
    this.#told = told
    const text = told.join('\n')
    if (text !== this.#memory.toldTrust) this.#memory.keepToldTrust(text)
    return true
  }
}

/** Those that can be read: one that is damaged must not make the others worthless. */
function certificatesIn(text: string): readonly string[] {
  return (text.slice(0, BYTES_MAX).match(PEM) ?? []).filter((pem) => {
    try {
      return new X509Certificate(pem).raw.length > 0
    } catch {
      return false
    }
  })
}
