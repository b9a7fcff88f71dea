/**
 * Round trips to a Redis with nothing around them: the floor under every store that is shared. Called with the server's
 * URL; told by its parent how many to make, one after the other, per turn, and at which rate; says when it has.
 */
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import type { RoundTrips } from './loads.ts'

/** A script, as the steps of the store are, that does nothing. */
const NOTHING = 'return 1'
const KEY = 'farebox-bench'

const redis = new Redis(process.argv[2] ?? '', { lazyConnect: true })
process.on('disconnect', () => process.exit(0))
await redis.connect()
process.send?.('ready')
for (;;) {
  const [wanted] = (await once(process, 'message')) as [RoundTrips]
  process.send?.(await run(wanted))
}

async function run({ perTurn, perSecond, seconds }: RoundTrips): Promise<number> {
  const startedAt = performance.now()
  const turns = perSecond * seconds
  const under: Promise<void>[] = []
  for (let turn = 0; turn < turns; turn++) {
    const wait = startedAt + (turn * 1_000) / perSecond - performance.now()
    if (wait > 0) await sleep(wait)
    under.push(oneTurn(perTurn))
  }
  await Promise.all(under)
  return turns
}

async function oneTurn(trips: number): Promise<void> {
  for (let trip = 0; trip < trips; trip++) await redis.call('EVAL', NOTHING, 1, KEY)
}
