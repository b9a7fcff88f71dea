/** Files whose paths stand in the environment. */
import { readFileSync } from 'node:fs'
import { messageOf } from './error-text.ts'

/** The text of the file at `path`. Throws an `Error` that begins with the name of the variable which held the path. */
export function readNamed(variable: string, path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new Error(`${variable}: ${messageOf(error)}`, { cause: error })
  }
}
