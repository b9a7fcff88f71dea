/** The last config in force, kept beside the books: a sidecar that finds neither a mounted one nor the operator starts with it. */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import type { ReadConfig } from './in-force.ts'
import { readConfig } from './watch.ts'

export class LastGood {
  readonly #path: string

  constructor(dataDir: string) {
    this.#path = join(dataDir, 'config', 'last.json')
  }

  /** Null when there is none, or none that this version can read. */
  read(): ReadConfig | null {
    let text: string
    try {
      text = readFileSync(this.#path, 'utf8')
    } catch {
      return null
    }
    const reading = readConfig(text)
    return reading.status === 'ok' ? reading : null
  }

  /** Whole or not at all. Throws when the folder takes no files. */
  write(config: SidecarConfig): void {
    mkdirSync(dirname(this.#path), { recursive: true })
    writeFileSync(`${this.#path}.new`, JSON.stringify(config))
    renameSync(`${this.#path}.new`, this.#path)
  }
}
