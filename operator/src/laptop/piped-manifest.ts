/** What comes by a pipe instead of a folder: `kustomize build overlays/prod | farebox lint -`. */
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { FILE_BYTES_MAX, textOf } from './manifest-folder.ts'
import type { FoundFile } from './manifest-folder.ts'
import { Unreadable, unreadable } from './unreadable.ts'

/** As a path, what is piped to the command. */
const STANDARD_INPUT = '-'

/** All that comes by this path, where that is a pipe; null: it is none. Rejects with `Unreadable`. */
export async function readPipe(path: string): Promise<FoundFile | null> {
  if (path !== STANDARD_INPUT && !(await isPipe(path))) return null
  const name = path === STANDARD_INPUT ? 'standard input' : path
  const parts: Buffer[] = []
  let bytes = 0
  try {
    for await (const part of path === STANDARD_INPUT ? process.stdin : createReadStream(path)) {
      parts.push(part as Buffer)
      bytes += (part as Buffer).length
      if (bytes > FILE_BYTES_MAX) throw new Unreadable(name, `must be smaller than ${FILE_BYTES_MAX / 1024 / 1024} MiB`)
    }
  } catch (error) {
    throw unreadable(name, error)
  }
  return { path: name, text: textOf(name, Buffer.concat(parts)), realPath: name }
}

/** What cannot be looked at is told by whoever reads it as a folder. */
async function isPipe(path: string): Promise<boolean> {
  const stats = await stat(path).catch(() => null)
  return stats !== null && (stats.isFIFO() || stats.isSocket() || stats.isCharacterDevice())
}
