/** A file that is there whole or not at all: what was there before stays until the new one is finished. */
import { createWriteStream } from 'node:fs'
import type { WriteStream } from 'node:fs'
import { chmod, realpath, rename, rm, stat } from 'node:fs/promises'
import { pipeline } from 'node:stream/promises'

const PERMISSIONS = 0o777

/**
 * Writes a file beside it and puts that in its place, with the permissions of the one before; when anything fails or `signal` says
 * so, nothing is left of it. A pipe or a device is written to as it is.
 */
export async function writeNewFile(path: string, text: AsyncIterable<string>, signal: AbortSignal): Promise<void> {
  const before = await stat(path).catch(() => null)
  if (before !== null && !before.isFile()) return await pour(text, createWriteStream(path), signal)
  const place = before === null ? path : await realpath(path) // a link goes on being one
  const beside = `${place}.${process.pid}.new`
  const mode = before === null ? null : before.mode & PERMISSIONS
  try {
    await pour(text, createWriteStream(beside, mode === null ? {} : { mode }), signal)
    if (mode !== null) await chmod(beside, mode) // the umask took some
    await rename(beside, place)
  } catch (error) {
    await rm(beside, { force: true })
    throw error
  }
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
