/**
 * What one run of a sidecar leaves the next one of the same pod: when it began, when the operator last confirmed its config, whom the
 * operator told it to trust, and which claims of a tier it took before they had to be signed.
 */
import { randomBytes } from 'node:crypto'
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import * as z from 'zod'
import type { PlainClaims } from '../core/tier-claim.ts'
import { messageOf } from '../error-text.ts'
import type { TrustMemory } from './trust.ts'

const KeptSchema = z.object({
  runSinceMs: z.int().min(0).catch(0),
  confirmedAtMs: z.int().min(0).nullable().catch(null),
  firstRunMs: z.int().min(0).nullable().catch(null),
  /** Names the embedded books in this folder. */
  books: z
    .string()
    .regex(/^[0-9a-f]{32}$/)
    .catch(() => randomBytes(16).toString('hex')),
  plainClaims: z
    .object({ budget: z.string(), tiers: z.array(z.string()).readonly() })
    .nullable()
    .catch(null),
  toldTrust: z.string().nullable().catch(null),
})
type Kept = z.infer<typeof KeptSchema>

export class RunFile implements TrustMemory {
  readonly #path: string
  readonly books: string
  /** Later than that of any run before, even where the clock was set back. */
  readonly runSinceMs: number
  /** When the operator last confirmed the config of the pod; where it never did, when the pod's first run began. By the pod's clock. */
  readonly knownGoodAtMs: number
  readonly #firstRunMs: number
  #confirmedAtMs: number | null
  #plainClaims: PlainClaims | null
  #toldTrust: string | null
  readonly #onTrouble: (error: Error) => void
  /** Why the folder took no file the last time; null: it did. */
  #trouble: string | null = null

  /** `onTrouble`: told once for each reason for which the folder takes no files. What is to be kept is known in this run all the same. */
  constructor(dataDir: string, nowMs: number, onTrouble: (error: Error) => void) {
    this.#onTrouble = onTrouble
    this.#path = join(dataDir, 'delivery.json')
    const before = read(this.#path)
    this.books = before.books
    this.#firstRunMs = before.firstRunMs ?? nowMs
    this.knownGoodAtMs = before.confirmedAtMs ?? this.#firstRunMs
    this.runSinceMs = Math.max(nowMs, before.runSinceMs + 1)
    this.#confirmedAtMs = before.confirmedAtMs
    this.#plainClaims = before.plainClaims
    this.#toldTrust = before.toldTrust
    this.#write()
  }

  get plainClaims(): PlainClaims | null {
    return this.#plainClaims
  }

  confirmed(atMs: number): void {
    this.#confirmedAtMs = atMs
    this.#write()
  }

  keepPlainClaims(claims: PlainClaims | null): void {
    this.#plainClaims = claims
    this.#write()
  }

  get toldTrust(): string | null {
    return this.#toldTrust
  }

  keepToldTrust(told: string): void {
    this.#toldTrust = told
    this.#write()
  }

  #write(): void {
    const kept: Kept = {
      runSinceMs: this.runSinceMs,
      confirmedAtMs: this.#confirmedAtMs,
      firstRunMs: this.#firstRunMs,
      books: this.books,
      plainClaims: this.#plainClaims,
      toldTrust: this.#toldTrust,
    }
    try {
      writeFileSync(`${this.#path}.new`, JSON.stringify(kept))
      renameSync(`${this.#path}.new`, this.#path)
      this.#trouble = null
    } catch (error) {
      const reason = messageOf(error)
      if (reason !== this.#trouble) this.#onTrouble(new Error(`${this.#path} cannot be written: ${reason}`, { cause: error }))
      this.#trouble = reason
    }
  }
}

function read(path: string): Kept {
  try {
    return KeptSchema.parse(JSON.parse(readFileSync(path, 'utf8')))
  } catch {
    return KeptSchema.parse({}) // the first run, or a file that was cut
  }
}
