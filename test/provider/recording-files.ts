/** Where recorded conversations lie: files, and whatever a folder holds of `conversations*.ndjson[.gz]`. */
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { readRecords } from '@farebox/operator/laptop/records.ts'
import type { RecordedConversation } from '@farebox/operator/laptop/records.ts'

/** All conversations of these files and folders, in order. Throws an `Error` that names file, line and field. */
export async function recordedIn(paths: readonly string[]): Promise<readonly RecordedConversation[]> {
  const files = paths.flatMap((path) => filesOf(path))
  return (await Promise.all(files.map((file) => readRecords(file, { shape: 'tools' })))).flat()
}

function filesOf(path: string): readonly string[] {
  if (!statSync(path).isDirectory()) return [path]
  return readdirSync(path)
    .filter((name) => /^conversations.*\.ndjson(\.gz)?$/.test(name))
    .toSorted()
    .map((name) => join(path, name))
}
