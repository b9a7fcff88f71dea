/** What one run of a sidecar leaves the next one of the same pod: when it began, and when the operator last confirmed its config. */
import { randomBytes } from 'node:crypto'
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import * as z from 'zod'

const KeptSchema = z.object({
  runSinceMs: z.int().min(0).catch(0),
  confirmedAtMs: z.int().min(0).nullable().catch(null),
  firstRunMs: z.int().min(0).nullable().catch(null),
  /** Names the embedded books in this folder. */
  books: z
    .string()
    .regex(/^[0-9a-f]{32}$/)
    .catch(() => randomBytes(16).toString('hex')),
})
type Kept = z.infer<typeof KeptSchema>

export class RunFile {
  readonly #path: string
  readonly books: string
  /** Later than that of any run before, even where the clock was set back. */
  readonly runSinceMs: number
  /** When the operator last confirmed the config of the pod; where it never did, when the pod's first run began. By the pod's clock. */
  readonly knownGoodAtMs: number
  readonly #firstRunMs: number

  /** Throws when the folder takes no files. */
  constructor(dataDir: string, nowMs: number) {
    this.#path = join(dataDir, 'delivery.json')
    const before = read(this.#path)
    this.books = before.books
    this.#firstRunMs = before.firstRunMs ?? nowMs
    this.knownGoodAtMs = before.confirmedAtMs ?? this.#firstRunMs
    this.runSinceMs = Math.max(nowMs, before.runSinceMs + 1)
    this.#write(before.confirmedAtMs)
  }

  /** Throws when the folder takes no files. */
  confirmed(atMs: number): void {
    this.#write(atMs)
  }

  #write(confirmedAtMs: number | null): void {
    const kept: Kept = { runSinceMs: this.runSinceMs, confirmedAtMs, firstRunMs: this.#firstRunMs, books: this.books }
    writeFileSync(`${this.#path}.new`, JSON.stringify(kept))
    renameSync(`${this.#path}.new`, this.#path)
  }
}

function read(path: string): Kept {
  try {
    return KeptSchema.parse(JSON.parse(readFileSync(path, 'utf8')))
  } catch {
    return KeptSchema.parse({}) // the first run, or a file that was cut
  }
}
