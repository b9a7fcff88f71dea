/** When each sidecar was without its store, by what it tells of itself: unplanned spells on a slow machine too. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Sidecar } from '../support/sidecar.ts'
import type { Spell } from './oracle.ts'

const LOOK_EVERY_MS = 200
const ANSWER_MS_MAX = 2_000

interface Look {
  readonly atMs: number
  readonly isReady: boolean
  /** Since its process began. */
  readonly outages: number
}

export class StoreWatch {
  readonly #spells: Spell[] = []
  readonly #watching: Promise<unknown>
  #isOver = false

  constructor(sidecars: readonly Sidecar[]) {
    this.#watching = Promise.all(sidecars.map((sidecar, index) => this.#watch(sidecar, index)))
  }

  async stop(): Promise<readonly Spell[]> {
    this.#isOver = true
    await this.#watching
    return this.#spells
  }

  async #watch(sidecar: Sidecar, index: number): Promise<void> {
    const birth = (): Look => ({ atMs: Date.now(), isReady: true, outages: 0 })
    let before = birth()
    while (!this.#isOver) {
      await sleep(LOOK_EVERY_MS)
      const look = await lookAt(sidecar)
      if (look === null) {
        // Dead: what follows is another process, whose count begins anew.
        before = birth()
        continue
      }
      const more = Math.max(0, look.outages - before.outages)
      if (!look.isReady || more > 0) this.#extend({ sidecar: index, fromMs: before.atMs, toMs: look.atMs, outages: more })
      before = look
    }
  }

  /** What began when another ended is the same. */
  #extend(spell: Spell): void {
    const last = this.#spells.findIndex(({ sidecar, toMs }) => sidecar === spell.sidecar && toMs === spell.fromMs)
    const before = this.#spells[last]
    if (before === undefined) this.#spells.push({ ...spell, outages: Math.max(1, spell.outages) })
    else this.#spells[last] = { ...before, toMs: spell.toMs, outages: before.outages + spell.outages }
  }
}

async function lookAt(sidecar: Sidecar): Promise<Look | null> {
  try {
    const metrics = await (await fetch(`${sidecar.adminUrl}/metrics`, { signal: AbortSignal.timeout(ANSWER_MS_MAX) })).text()
    const value = (name: string): number => Number(new RegExp(`^${name} (\\d+)`, 'm').exec(metrics)?.[1] ?? Number.NaN)
    return { atMs: Date.now(), isReady: value('farebox_store_ready') === 1, outages: value('farebox_store_outages_total') }
  } catch {
    return null
  }
}
