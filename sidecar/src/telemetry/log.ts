/** JSON logs, one line per event. What is logged is written field by field: prompts, keys and raw ids have no field. */
import { mkdirSync, openSync } from 'node:fs'
import { dirname } from 'node:path'
import { pino } from 'pino'
import { messageOf } from '../error-text.ts'
import type { Settings } from '../settings.ts'
import { LogLines } from './log-lines.ts'
import { standardError } from './standard-error.ts'

export interface Log {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

/** Throws when `logFile` cannot be opened. One that takes no more (its disk is full) costs lines, never calls: `complain` is told once. */
export function createLog(settings: Pick<Settings, 'logLevel' | 'logFile' | 'pod'>, complain: (line: string) => void): Log {
  const { logFile } = settings
  let isTold = logFile === null // whoever reads standard error is the log that takes no more
  const lines = new LogLines(logFile === null ? standardError() : { descriptor: opened(logFile), mayBlock: false }, (error) => {
    if (!isTold) complain(`the log ${logFile} takes no more lines: ${messageOf(error)}`)
    isTold = true
  })
  process.once('exit', () => lines.lastTry())
  return pino(
    {
      level: settings.logLevel,
      base: { part: 'sidecar', ...(settings.pod === null ? {} : { pod: settings.pod }) },
      timestamp: pino.stdTimeFunctions.isoTime,
    },
    lines,
  )
}

function opened(logFile: string): number {
  try {
    mkdirSync(dirname(logFile), { recursive: true })
    return openSync(logFile, 'a')
  } catch (error) {
    throw new Error(`FAREBOX_LOG (${logFile}): ${messageOf(error)}`, { cause: error })
  }
}
