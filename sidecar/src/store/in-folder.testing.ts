/** For tests of the embedded store: a folder of their own, which goes with them. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Runs a test on the books of a folder that is empty. */
export function inFolder<T>(run: (file: string, folder: string) => Promise<T>): () => Promise<T> {
  return async () => {
    const folder = mkdtempSync(join(tmpdir(), 'farebox-store-'))
    try {
      return await run(join(folder, 'books.sqlite'), folder)
    } finally {
      rmSync(folder, { recursive: true })
    }
  }
}
