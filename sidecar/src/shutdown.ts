/** How the sidecar ends: no new calls, time for those under way, then what is left is cut off, entered, and the books are closed. */
import type { Server } from 'node:http'
import type { Delivery } from './delivery/delivery.ts'
import type { Gateway } from './proxy/gateway.ts'
import type { OpenStore } from './store/open-store.ts'

/** What did not end in time is cut off, and has this share of that time, at most so long, to enter what it came to. */
const GIVE_UP_SHARE = 0.15
const GIVE_UP_MS_MAX = 2_000
/** Then the books are closed. What they have is kept by then: a process that hangs in closing them is ended. */
const CLOSE_SHARE = 0.1
const CLOSE_MS_MAX = 2_500

interface Stoppable {
  stop(): void
}

export interface Running {
  readonly gateway: Pick<Gateway, 'underWay' | 'upstreams' | 'log'>
  readonly dataPlane: Server
  readonly admin: Server
  /** Those that begin something by themselves. */
  readonly beginners: readonly Stoppable[]
  /** Those that calls under way need to their end. */
  readonly keepers: readonly Stoppable[]
  readonly delivery: Delivery | null
  readonly store: Pick<OpenStore, 'close'>
}

/** Ends the process. `drainMs`: how long calls under way have to end. */
export async function shutdown(
  { gateway, dataPlane, admin, beginners, keepers, delivery, store }: Running,
  drainMs: number,
): Promise<void> {
  const { underWay, upstreams, log } = gateway
  for (const beginner of beginners) beginner.stop()
  dataPlane.close()
  dataPlane.closeIdleConnections()
  if (!(await underWay.ended(drainMs))) log.warn({ inFlight: underWay.count }, 'what is still under way is cut off')
  dataPlane.closeAllConnections()
  admin.close()
  admin.closeAllConnections()
  upstreams.close()
  const giveUpMs = Math.min(GIVE_UP_MS_MAX, drainMs * GIVE_UP_SHARE)
  await Promise.allSettled([underWay.ended(giveUpMs), delivery?.stop(giveUpMs)])
  for (const keeper of keepers) keeper.stop()
  setTimeout(() => process.exit(0), Math.min(CLOSE_MS_MAX, drainMs * CLOSE_SHARE))
  await store.close().catch((error: unknown) => log.error({ err: String(error) }, 'the books could not be closed'))
  process.exit(0)
}
