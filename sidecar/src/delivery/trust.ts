/** Which certificate authorities may have signed the operator's certificate: those of the mounted file, and what the operator told. */
import { X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'

const PEM = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g
const BYTES_MAX = 256 * 1024

export class Trust {
  readonly #file: string
  #mounted: readonly string[] = []
  #told: readonly string[] = []

  constructor(file: string) {
    this.#file = file
  }

  /** As of now. A file that is away or damaged leaves what was there. Rejects when nobody is trusted: a call would trust the world. */
  async certificates(): Promise<string> {
    try {
      const mounted = certificatesIn(await readFile(this.#file, 'utf8'))
      if (mounted.length > 0) this.#mounted = mounted
    } catch (error) {
      if (this.#mounted.length + this.#told.length === 0) throw error
    }
    const all = new Set([...this.#mounted, ...this.#told])
    if (all.size === 0) throw new Error(`${this.#file} holds no certificate`)
    return [...all].join('\n')
  }

  /** False for a bundle without a single certificate, which changes nothing. */
  tell(caBundle: string): boolean {
    const told = certificatesIn(caBundle)
    if (told.length > 0) this.#told = told
    return told.length > 0
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
