/** JSON logs on standard error, one line per event. What is logged is written field by field: Secrets and tokens have no field. */
import { pino } from 'pino'

export interface Log {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

export function createLog(level: string): Log {
  const destination = pino.destination({ dest: 2, sync: true })
  return pino({ level, base: { part: 'operator' }, timestamp: pino.stdTimeFunctions.isoTime }, destination)
}
