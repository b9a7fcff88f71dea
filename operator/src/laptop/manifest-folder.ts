/** A folder of manifests: read whole, and looked at again and again for changes, however an editor makes them. */
import type { BigIntStats } from 'node:fs'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'

export interface ManifestFile {
  /** As people would name it: the folder as given, and the path in it. */
  readonly path: string
  readonly text: string
}

const FILES_MAX = 2_000
const FILE_BYTES_MAX = 4 * 1024 * 1024
/** A change is taken when two looks in a row agree on it, or after this many looks that do not. */
const POLL_MS = 150
const RESTLESS_LOOKS_MAX = 4

/** Every `.yaml`, `.yml` and `.json` file of the folder and those below, in order of path; hidden ones and `node_modules` aside. Or that one file. */
export async function readManifestFolder(path: string): Promise<readonly ManifestFile[]> {
  const files: ManifestFile[] = []
  for (const found of await listManifests(path)) {
    if (found.bytes > FILE_BYTES_MAX) throw new Error(`${found.path}: must be smaller than ${FILE_BYTES_MAX / 1024 / 1024} MiB`)
    files.push({ path: found.path, text: await readFile(found.path, 'utf8') })
  }
  if (files.length === 0) throw new Error(`${path}: must hold at least one .yaml, .yml or .json file`)
  return files
}

/**
 * Calls `onChange` once for each change of any file's name, size, time or inode, within half a second. Looks rather than listens: it works
 * the same for editors that replace files, for symbolic links, mounts and folders that go away and come back. Resolves when it has looked once:
 * read the folder after that, and no change can be missed.
 */
export async function watchManifestFolder(path: string, onChange: () => Promise<void>): Promise<{ stop(): void }> {
  let taken = await signatureOf(path)
  let seen = taken
  let restless = 0
  let stopped = false
  const look = async (): Promise<void> => {
    const now = await signatureOf(path)
    restless = now === taken ? 0 : restless + 1
    const settled = now === seen || restless > RESTLESS_LOOKS_MAX
    seen = now
    if (now === taken || !settled || stopped) return
    taken = now
    restless = 0
    await onChange()
  }
  const loop = async (): Promise<void> => {
    await look()
    if (!stopped) timer = setTimeout(() => void loop(), POLL_MS)
  }
  let timer = setTimeout(() => void loop(), POLL_MS)
  return {
    stop() {
      stopped = true
      clearTimeout(timer)
    },
  }
}

interface Found {
  readonly path: string
  readonly bytes: number
  readonly signature: string
}

async function listManifests(path: string): Promise<readonly Found[]> {
  let root: BigIntStats
  try {
    root = await stat(path, { bigint: true })
  } catch (error) {
    if (isMissing(error)) throw new Error(`${path}: no such file or folder`, { cause: error })
    throw error
  }
  if (!root.isDirectory()) return [{ path, bytes: Number(root.size), signature: `${root.ino} ${root.size} ${root.mtimeNs}` }]
  const found: Found[] = []
  await collect(path, found)
  return found
}

async function collect(folder: string, found: Found[]): Promise<void> {
  const entries = await readdir(folder, { withFileTypes: true })
  for (const entry of entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    if (entry.name.startsWith('.') || entry.name === 'node_modules') continue
    const path = join(folder, entry.name)
    if (entry.isDirectory()) {
      await collect(path, found)
    } else if (/\.(ya?ml|json)$/i.test(entry.name)) {
      const file = await stat(path, { bigint: true }).catch((error: unknown) => {
        if (isMissing(error)) return null // replaced this very moment, or a link to nowhere
        throw error
      })
      if (file?.isFile() !== true) continue
      if (found.length >= FILES_MAX) throw new Error(`${folder}: must hold at most ${FILES_MAX} manifest files`)
      found.push({ path, bytes: Number(file.size), signature: `${file.ino} ${file.size} ${file.mtimeNs}` })
    }
  }
}

/** Of the whole folder; what cannot be read has a signature too, so that its coming back is a change. */
async function signatureOf(path: string): Promise<string> {
  try {
    return (await listManifests(path)).map((file) => `${file.path} ${file.signature}`).join('\n')
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT'
}
