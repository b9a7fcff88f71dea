/** Standard error as something to write to that does not make us wait for whoever reads it. */
import { constants, fstatSync, openSync } from 'node:fs'
import type { LineTarget } from './log-lines.ts'

const STANDARD_ERROR = 2
/** Linux opens a pipe anew by this name: what is set on that is not set for others who write to the same pipe (proc_pid_fd(5)). */
const ITSELF = `/proc/self/fd/${STANDARD_ERROR}`

/** Of a pipe its own opening, which refuses what there is no room for. */
export function standardError(): LineTarget {
  const stat = fstatSync(STANDARD_ERROR)
  if (!stat.isFIFO() && !stat.isSocket()) return { descriptor: STANDARD_ERROR, mayBlock: false }
  try {
    return { descriptor: openSync(ITSELF, constants.O_WRONLY | constants.O_NONBLOCK), mayBlock: false }
  } catch {
    return { descriptor: STANDARD_ERROR, mayBlock: true } // a socket, or another's pipe, or no Linux
  }
}
