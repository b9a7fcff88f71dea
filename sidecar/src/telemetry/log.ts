/** JSON logs, one line per event. What is logged is written field by field: prompts, keys and raw ids have no field. */
import { pino } from 'pino'
import type { Settings } from '../settings.ts'

export interface Log {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

export function createLog(settings: Pick<Settings, 'logLevel' | 'logFile' | 'pod'>): Log {
  const destination = pino.destination({ dest: settings.logFile ?? 2, sync: settings.logFile === null, mkdir: true })
  return pino(
    {
      level: settings.logLevel,
      base: { part: 'sidecar', ...(settings.pod === null ? {} : { pod: settings.pod }) },
      timestamp: pino.stdTimeFunctions.isoTime,
    },
    destination,
  )
}
