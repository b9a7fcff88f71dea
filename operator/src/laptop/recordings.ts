/** What the demo plays: recorded conversations from beside the repository when they are there, else the examples' own. */
import { existsSync } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { readRecords } from './records.ts'
import type { RecordedConversation } from './records.ts'
import { Unreadable, unreadable } from './unreadable.ts'

const BESIDE = fileURLToPath(new URL('../../../../shared/data', import.meta.url))
const OWN = fileURLToPath(new URL('../../../examples/support-desk/conversations.ndjson', import.meta.url))

/** The folder beside the repository, or the examples' own file. */
export function defaultRecordings(): string {
  return existsSync(BESIDE) ? BESIDE : OWN
}

/**
 * The `conversations*.ndjson[.gz]` of a folder, or one file: at most `limit` conversations, spread evenly over each file and
 * interleaved between files, so that a few give a fair picture of all.
 */
export async function pickRecordings(path: string, limit: number): Promise<readonly RecordedConversation[]> {
  const stats = await stat(path).catch((error: unknown) => {
    throw unreadable(path, error)
  })
  const files = stats.isDirectory() ? await filesOf(path) : [path]
  const [first, ...rest] = await Promise.all(files.map((file) => readRecords(file, { shape: 'tools' })))
  if (first === undefined) throw new Unreadable(path, 'must hold conversations*.ndjson or conversations*.ndjson.gz')
  assertDistinct(files, [first, ...rest])
  const total = [first, ...rest].reduce((sum, records) => sum + records.length, 0)
  const share = Math.min(1, limit / total)
  const picked = [first, ...rest].flatMap((records) => spread(records, Math.max(1, Math.round(records.length * share))))
  return interleaved(picked.slice(0, limit))
}

/** Within a file they are, once it is read. Two of one id would be one conversation, and share a budget. */
function assertDistinct(files: readonly string[], recordings: readonly (readonly RecordedConversation[])[]): void {
  const places = new Map<string, string>()
  for (const [index, records] of recordings.entries()) {
    const file = files[index] ?? ''
    for (const { id } of records) {
      const place = places.get(id)
      if (place !== undefined) throw new Unreadable(file, `id: "${id}" must be there once, and is in ${place} too`)
      places.set(id, file)
    }
  }
}

async function filesOf(folder: string): Promise<readonly string[]> {
  const names = await readdir(folder)
  return names
    .filter((name) => /^conversations.*\.ndjson(\.gz)?$/.test(name))
    .toSorted()
    .map((name) => join(folder, name))
}

/** `count` of a list, at even distances. */
function spread<T>(list: readonly T[], count: number): readonly T[] {
  return list.filter((_, index) => Math.floor(((index + 1) * count) / list.length) > Math.floor((index * count) / list.length))
}

/** Neighbours apart: what was recorded together is rarely alike in length, but often alike in kind. */
function interleaved<T>(list: readonly T[]): readonly T[] {
  const half = Math.ceil(list.length / 2)
  return list.slice(0, half).flatMap((item, index) => [item, ...list.slice(half + index, half + index + 1)])
}
