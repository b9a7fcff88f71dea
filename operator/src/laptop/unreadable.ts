/** Files that cannot be read, told in words for people: `tiers.yaml: may not be read by this user`. */
import { messageOf } from '../core/error-text.ts'

export class Unreadable extends Error {
  readonly path: string
  /** What must be, or what is wrong, without the path. */
  readonly problem: string

  constructor(path: string, problem: string, options?: ErrorOptions) {
    super(`${path}: ${problem}`, options)
    this.path = path
    this.problem = problem
  }
}

/** What the file system said of a path. */
export function unreadable(path: string, error: unknown): Unreadable {
  if (error instanceof Unreadable) return error
  const code = error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : ''
  const message = messageOf(error)
  return new Unreadable(path, PROBLEMS[code] ?? message, { cause: error })
}

const PROBLEMS: Readonly<Record<string, string>> = {
  ENOENT: 'no such file or folder',
  EACCES: 'may not be read by this user',
  EPERM: 'may not be read by this user',
  EISDIR: 'must be a file, not a folder',
  ELOOP: 'links to itself',
}
