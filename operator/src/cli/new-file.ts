/** A file that is there whole or not at all, where its folder allows that: what was there before stays until the new one is finished. */
import { createReadStream, createWriteStream } from 'node:fs'
import type { WriteStream } from 'node:fs'
import { chmod, open, readlink, realpath, rename, rm, stat } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { dirname, isAbsolute } from 'node:path'
import { pipeline } from 'node:stream/promises'

const PERMISSIONS = 0o777
/** As many as Linux follows. */
const LINKS_MAX = 40
/** Of a folder that lets a file be written to and takes no other in its place: a folder of somebody else, or a file that is a mount. */
const KEEPS_FILE: ReadonlySet<unknown> = new Set(['EACCES', 'EPERM', 'EROFS', 'EBUSY', 'EXDEV'])

/**
 * Writes a file beside it and puts that in its place, with the permissions of the one before; when anything fails or `signal` says
 * so, nothing is left of it. A pipe or a device is written to as it is, and so is a file in a folder that takes no new one; a file
 * that cannot be replaced is written over once the new one is finished.
 */
export async function writeNewFile(path: string, text: AsyncIterable<string>, signal: AbortSignal): Promise<void> {
  const before = await stat(path).catch((error: unknown) => {
    if (codeOf(error) === 'ENOENT') return null
    throw error
  })
  if (before !== null && !before.isFile()) return await pour(text, createWriteStream(path), signal)
  const place = before === null ? await endOfLinks(path) : await realpath(path) // a link goes on being one
  const beside = `${place}.${process.pid}.new`
  const mode = before === null ? null : before.mode & PERMISSIONS
  const file = await openIn(beside, mode)
  if (file === null) return await pour(text, createWriteStream(place), signal)
  try {
    await pour(text, file.createWriteStream(), signal)
    if (mode !== null) await chmod(beside, mode) // the umask took some
    await replace(place, beside)
  } catch (error) {
    await rm(beside, { force: true })
    throw error
  }
}

/** Null: its folder takes no new file. */
async function openIn(beside: string, mode: number | null): Promise<FileHandle | null> {
  try {
    return await open(beside, 'w', mode ?? undefined)
  } catch (error) {
    if (KEEPS_FILE.has(codeOf(error))) return null
    throw error
  }
}

async function replace(place: string, beside: string): Promise<void> {
  try {
    await rename(beside, place)
  } catch (error) {
    if (!KEEPS_FILE.has(codeOf(error))) throw error
    await pipeline(createReadStream(beside), createWriteStream(place)) // not stopped by the signal: it would be left in halves
    await rm(beside)
  }
}

/** Where it leads, though nothing is there. Not normalized: `..` is of the folder that a link before it leads to. */
async function endOfLinks(path: string): Promise<string> {
  let end = path
  for (let links = 0; links < LINKS_MAX; links += 1) {
    const target = await readlink(end).catch(() => null)
    if (target === null) break
    end = isAbsolute(target) ? target : `${dirname(end)}/${target}`
  }
  return end
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined
}

/** Ends with the signal, even while the next piece is waited for. */
async function pour(text: AsyncIterable<string>, into: WriteStream, signal: AbortSignal): Promise<void> {
  const stopped = Promise.withResolvers<never>()
  const stop = (): void => stopped.reject(signal.reason)
  signal.addEventListener('abort', stop)
  try {
    await Promise.race([pipeline(text, into, { signal }), stopped.promise])
  } finally {
    signal.removeEventListener('abort', stop)
  }
}
