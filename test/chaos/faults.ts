/** Makes what was planned go wrong, on time, and keeps the log of it: for the oracle, and for whoever has to find out why. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Sidecar } from '../support/sidecar.ts'
import { clockTime } from './oracle.ts'
import type { Death, TailLoss } from './oracle.ts'
import type { Plan, Planned, SidecarFault, StoreFault } from './plan.ts'
import { describeFault } from './plan.ts'
import { UNSYNCED_MS } from './store-pair.ts'
import type { StorePair } from './store-pair.ts'
import type { LaneState, StoreProxy } from '../support/store-proxy.ts'

export interface Parts {
  readonly proxy: StoreProxy
  readonly pair: StorePair
  readonly sidecars: readonly Sidecar[]
}

/** For what a server had not yet passed on or written, beside what was arranged. */
const SLACK_MS = 300
const START_AGAIN_MS = 250
/** A fault of the store lasts seconds; who does not start after that has another reason. */
const STARTS_MAX = 30

/** Makes a sidecar's wall clock one that jumps when `jumpClock` says so; to be put into its environment as `NODE_OPTIONS`. */
export const JUMPING_CLOCK = `--import=data:text/javascript,${encodeURIComponent(`
  import { readFileSync } from 'node:fs'
  const now = Date.now
  let byMs = 0
  Date.now = () => now() + byMs
  setInterval(() => {
    try { byMs = Number(readFileSync(process.env.FAREBOX_DATA + '/clock-jump-ms', 'utf8')) } catch {}
  }, 50).unref()
`)}`

function jumpClock({ dataDir }: Sidecar, byMs: number): void {
  writeFileSync(join(dataDir, 'clock-jump-ms'), String(byMs))
}

export class Faults {
  readonly deaths: Death[] = []
  readonly losses: TailLoss[] = []
  readonly log: string[] = []
  readonly #parts: Parts
  #startedAtMs = 0

  constructor(parts: Parts) {
    this.#parts = parts
  }

  /** All of them; when it resolves, every part is well. */
  async run(plan: Plan): Promise<void> {
    this.#startedAtMs = Date.now()
    await Promise.all([
      this.#inTurn(plan.store, (fault) => this.#ofStore(fault)),
      this.#inTurn(plan.sidecars, (fault) => this.#ofSidecar(fault)),
    ])
  }

  async #inTurn<Fault extends StoreFault | SidecarFault>(
    faults: readonly Planned<Fault>[],
    run: (fault: Planned<Fault>) => Promise<void>,
  ): Promise<void> {
    for (const fault of faults) {
      await sleep(Math.max(0, this.#startedAtMs + fault.atMs - Date.now()))
      this.#say(`${describeFault(fault)} ...`)
      await run(fault)
      this.#say(`${fault.kind} is over`)
    }
  }

  async #ofStore(fault: StoreFault): Promise<void> {
    const { pair } = this.#parts
    switch (fault.kind) {
      case 'latency':
        for (const lane of this.#lanes(fault.lane)) lane.delay(fault.delayMs)
        await sleep(fault.forMs)
        for (const lane of this.#lanes(fault.lane)) lane.delay(0)
        return
      case 'reset':
        for (const lane of this.#lanes(fault.lane)) lane.reset()
        return
      case 'stalled':
      case 'deaf':
      case 'silent':
      case 'refused':
        await this.#turn(fault.lane, fault.kind)
        await sleep(fault.forMs)
        return await this.#turn(fault.lane, 'open')
      case 'freeze':
        pair.freeze()
        await sleep(fault.forMs)
        return pair.thaw()
      case 'crash':
        return await pair.crash(fault.forMs)
      case 'losePower':
        return await this.#losing({ tailMs: UNSYNCED_MS, inMs: 0 }, () => pair.losePower(fault.forMs))
      case 'failOver':
        return await this.#losing({ tailMs: fault.behindMs, inMs: fault.behindMs }, () => pair.failOver(fault.behindMs, fault.forMs))
    }
  }

  async #ofSidecar(fault: SidecarFault): Promise<void> {
    const sidecar = this.#parts.sidecars[fault.sidecar]
    if (sidecar === undefined) throw new RangeError(`there is no sidecar ${fault.sidecar}`)
    if (fault.kind === 'clock') {
      jumpClock(sidecar, fault.byMs)
      await sleep(fault.forMs)
      return jumpClock(sidecar, 0)
    }
    await sidecar.kill('SIGKILL')
    this.deaths.push({ sidecar: fault.sidecar, atMs: Date.now() })
    await sleep(fault.forMs)
    await startAgain(sidecar)
  }

  /** `tailMs`: how much the store forgets; `inMs`: how long after now it dies. */
  async #losing({ tailMs, inMs }: { readonly tailMs: number; readonly inMs: number }, run: () => Promise<void>): Promise<void> {
    const diesMs = Date.now() + inMs
    await run()
    this.losses.push({ fromMs: diesMs - tailMs - SLACK_MS, atMs: diesMs + SLACK_MS, backMs: Date.now() })
  }

  #lanes(lane: number | null): StoreProxy['lanes'] {
    return this.#parts.proxy.lanes.filter((_, index) => lane === null || lane === index)
  }
  async #turn(lane: number | null, state: LaneState): Promise<void> {
    await Promise.all(this.#lanes(lane).map((one) => one.turn(state)))
  }

  #say(what: string): void {
    this.log.push(`${clockTime(Date.now())} ${what}`)
  }
}

/** One that ends, for want of a store, is started again: as Kubernetes does. */
async function startAgain(sidecar: Sidecar): Promise<void> {
  for (let start = 1; ; start++) {
    try {
      await sidecar.start()
      return
    } catch (error) {
      await sidecar.kill('SIGKILL')
      if (start === STARTS_MAX) throw error
      await sleep(START_AGAIN_MS)
    }
  }
}
