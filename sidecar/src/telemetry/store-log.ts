/** What the log says of the store: that it is there or not, and what no call is told of. */
import { DroppedStep } from '../store/outage/replayer.ts'
import type { StoreStanding } from '../store/store-standing.ts'
import type { Log } from './log.ts'

export function logStanding(log: Pick<Log, 'info' | 'warn'>, { state, reason, unsent }: StoreStanding): void {
  switch (state) {
    case 'Ready':
      return log.info({ unsent }, 'the store is there')
    case 'Replaying':
      return log.info({ state, reason, unsent }, 'the store is back, and is told what it missed; until then this sidecar goes on by itself')
    case 'Away':
      return log.warn({ state, reason, unsent }, 'the store is away; it is looked for until it is back')
  }
}

export function logTrouble(log: Pick<Log, 'error'>, error: Error): void {
  if (error instanceof DroppedStep) log.error({ err: error.message }, 'the books of the store lack a step for good')
  else log.error({ err: error.message }, 'the store has trouble that no call was told of')
}
