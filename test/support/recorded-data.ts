/** Where the recorded conversations are: a folder beside the repository when it is there, and always our own few. */
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** Our own six conversations, part of the repository. */
export const EXAMPLE_CONVERSATIONS = fileURLToPath(new URL('../../examples/support-desk/conversations.ndjson', import.meta.url))

const RECORDED_DIRECTORY = fileURLToPath(new URL('../../../shared/data/', import.meta.url))

/** The path of a recorded file such as `conversations-tools.ndjson.gz`, or null where it is absent: a test then uses `EXAMPLE_CONVERSATIONS`. */
export function recordedFile(name: string): string | null {
  const path = `${RECORDED_DIRECTORY}${name}`
  return existsSync(path) ? path : null
}

/** What to give the provider as `data`: everything that is recorded here. */
export function recordedPaths(): readonly string[] {
  return existsSync(RECORDED_DIRECTORY) ? [RECORDED_DIRECTORY, EXAMPLE_CONVERSATIONS] : [EXAMPLE_CONVERSATIONS]
}
