/** A folder of manifests: read whole, and looked at again and again for changes, however an editor makes them. */
import type { BigIntStats } from 'node:fs'
import { readdir, readFile, realpath, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { messageOf } from '../core/error-text.ts'
import { Unreadable, unreadable } from './unreadable.ts'

export interface ManifestFile {
  /** As people would name it: the folder as given, and the path in it. */
  readonly path: string
  readonly text: string
}

export interface FoundFile extends ManifestFile {
  /** Whatever names and links lead to it. */
  readonly realPath: string
}

export interface FolderOptions {
  /** A folder that holds no manifests, wherever it is; as it was named. */
  readonly leaveOut?: string
}

const FILES_MAX = 2_000
/** Of one file. */
export const FILE_BYTES_MAX = 4 * 1024 * 1024
/** A change is taken when two looks in a row agree on it, or after this many looks that do not. */
const POLL_MS = 150
const RESTLESS_LOOKS_MAX = 4
/** When a change that could not be acted on is told again. */
const AGAIN_MS = 1_000

/** What a folder holds, and what of it cannot be read. */
export interface FolderReading {
  readonly files: readonly FoundFile[]
  readonly unreadable: readonly Unreadable[]
}

/** As `lookIntoFolder`. Throws the first `Unreadable`. */
export async function readManifestFolder(path: string, options: FolderOptions = {}): Promise<readonly FoundFile[]> {
  const {
    files,
    unreadable: [first],
  } = await lookIntoFolder(path, options)
  if (first !== undefined) throw first
  return files
}

/**
 * Every `.yaml`, `.yml` and `.json` file of the folder and those below, in order of path, links followed; hidden ones and `node_modules`
 * aside. Or that one file. One that several links lead to comes once, by the first. There is a file, or something that cannot be read.
 */
export async function lookIntoFolder(path: string, options: FolderOptions = {}): Promise<FolderReading> {
  const { found, unreadable: told } = await listManifests(path, options)
  const files = new Map<string, FoundFile>()
  for (const { path: name, bytes } of found) {
    try {
      const realPath = await realpath(name).catch((error: unknown) => {
        throw unreadable(name, error)
      })
      if (files.has(realPath)) continue
      if (bytes > FILE_BYTES_MAX) throw new Unreadable(name, `must be smaller than ${FILE_BYTES_MAX / 1024 / 1024} MiB`)
      files.set(realPath, { path: name, text: await readText(name), realPath })
    } catch (error) {
      told.push(asUnreadable(error))
    }
  }
  if (files.size === 0 && told.length === 0) told.push(new Unreadable(path, 'must hold at least one .yaml, .yml or .json file'))
  return { files: [...files.values()], unreadable: told }
}

/** Anything else goes on. */
function asUnreadable(error: unknown): Unreadable {
  if (error instanceof Unreadable) return error
  throw error
}

async function readText(path: string): Promise<string> {
  const bytes = await readFile(path).catch((error: unknown) => {
    throw unreadable(path, error)
  })
  return textOf(path, bytes)
}

/** Throws `Unreadable`. */
export function textOf(path: string, bytes: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (error) {
    throw new Unreadable(path, 'must be UTF-8', { cause: error })
  }
}

/**
 * Calls `onChange` once for each change of any file's name, size, time or inode, within half a second; and again a second later for as
 * long as it says so. Looks rather than listens: it works the same for editors that replace files, for symbolic links, mounts and folders
 * that go away and come back. Resolves when it has looked once: read the folder after that, and no change can be missed.
 */
export async function watchManifestFolder(
  path: string,
  onChange: () => Promise<'taken' | 'again'>,
  options: FolderOptions = {},
): Promise<{ stop(): void }> {
  let taken = await signatureOf(path, options)
  let seen = taken
  let restless = 0
  let stopped = false
  /** After how long to look again. */
  const look = async (): Promise<number> => {
    const now = await signatureOf(path, options)
    restless = now === taken ? 0 : restless + 1
    const settled = now === seen || restless > RESTLESS_LOOKS_MAX
    seen = now
    if (now === taken || !settled || stopped) return POLL_MS
    restless = 0
    if ((await onChange()) === 'again') return AGAIN_MS
    taken = now
    return POLL_MS
  }
  const loop = async (): Promise<void> => {
    const waitMs = await look()
    if (!stopped) timer = setTimeout(() => void loop(), waitMs)
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

interface Listing {
  readonly found: Found[]
  readonly unreadable: Unreadable[]
}

async function listManifests(path: string, { leaveOut }: FolderOptions): Promise<Listing> {
  const listing: Listing = { found: [], unreadable: [] }
  try {
    const root = await statOf(path)
    if (root.isFile()) listing.found.push({ path, bytes: Number(root.size), signature: signatureOfFile(root) })
    else if (root.isDirectory())
      await collect({ path, inode: inodeOf(root) }, { above: [], leaveOut: leaveOut === undefined ? null : resolve(leaveOut) }, listing)
    else throw new Unreadable(path, 'must be a folder or a file')
  } catch (error) {
    // Given up: of some files alone nothing true can be said.
    return { found: [], unreadable: [...listing.unreadable, asUnreadable(error)] }
  }
  return listing
}

interface Folder {
  readonly path: string
  readonly inode: string
}

interface Walk {
  /** The folders that this one is in, so that a link to one of them is not followed for ever. */
  readonly above: readonly string[]
  /** As an absolute path. */
  readonly leaveOut: string | null
}

/** Throws `Unreadable` where it gives up; what it goes on without is in the listing. */
async function collect(folder: Folder, { above, leaveOut }: Walk, listing: Listing): Promise<void> {
  const entries = await readdir(folder.path, { withFileTypes: true }).catch((error: unknown) => unreadable(folder.path, error))
  if (entries instanceof Unreadable) return void listing.unreadable.push(entries)
  for (const entry of entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    if (entry.name.startsWith('.') || entry.name === 'node_modules') continue
    const isManifest = /\.(ya?ml|json)$/i.test(entry.name)
    if (!isManifest && !entry.isDirectory() && !entry.isSymbolicLink()) continue
    const path = join(folder.path, entry.name)
    const stats = await statOf(path).catch(asUnreadable)
    if (stats instanceof Unreadable) {
      // Else it was replaced this very moment, or is a link that is none of ours.
      if (isManifest && entry.isSymbolicLink()) listing.unreadable.push(stats)
    } else if (stats.isDirectory()) {
      const inode = inodeOf(stats)
      if (inode === folder.inode || above.includes(inode) || resolve(path) === leaveOut) continue
      await collect({ path, inode }, { above: [...above, folder.inode], leaveOut }, listing)
    } else if (isManifest && stats.isFile()) {
      if (listing.found.length >= FILES_MAX) throw new Unreadable(folder.path, `must hold at most ${FILES_MAX} manifest files`)
      listing.found.push({ path, bytes: Number(stats.size), signature: signatureOfFile(stats) })
    }
  }
}

async function statOf(path: string): Promise<BigIntStats> {
  return stat(path, { bigint: true }).catch((error: unknown) => {
    throw unreadable(path, error)
  })
}

function inodeOf({ dev, ino }: BigIntStats): string {
  return `${dev} ${ino}`
}

function signatureOfFile({ ino, size, mtimeNs }: BigIntStats): string {
  return `${ino} ${size} ${mtimeNs}`
}

/** Of the whole folder; what cannot be read has a signature too, so that its coming back is a change. */
async function signatureOf(path: string, options: FolderOptions): Promise<string> {
  try {
    const { found, unreadable: told } = await listManifests(path, options)
    return [...found.map((file) => `${file.path} ${file.signature}`), ...told.map(({ message }) => message)].join('\n')
  } catch (error) {
    return messageOf(error)
  }
}
