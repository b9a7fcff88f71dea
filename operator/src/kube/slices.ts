/** Long work in slices, so that what the process serves meanwhile, admissions above all, waits for no more than one of them. */
import { setImmediate as nextTurn } from 'node:timers/promises'

/** How long other work waits for ours. */
const SLICE_MS = 10

/** The first slice begins with it. */
export class Slices {
  #startMs = performance.now()

  /** Ours begins only now, as after we waited for something. */
  begin(): void {
    this.#startMs = performance.now()
  }

  /** Between two pieces of the work: others have their turn where it has taken long enough. */
  async yieldSometimes(): Promise<void> {
    if (performance.now() - this.#startMs < SLICE_MS) return
    await nextTurn()
    this.begin()
  }
}
