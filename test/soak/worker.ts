/** A worker thread of the soak: plays each batch of seeds that it is sent on the model, and says what came of it. */
import { parentPort } from 'node:worker_threads'
import { SimulationError } from '../simulation/oracle.ts'
import { playOnModel } from '../simulation/play.ts'

export interface Batch {
  readonly first: number
  readonly count: number
}
export interface Violation {
  readonly seed: number
  readonly message: string
}
export interface Played {
  readonly steps: number
  readonly violations: readonly Violation[]
}

parentPort?.on('message', (batch: Batch) => parentPort?.postMessage(playedBatch(batch)))

function playedBatch({ first, count }: Batch): Played {
  const violations: Violation[] = []
  let steps = 0
  for (let seed = first; seed < first + count; seed++) {
    try {
      steps += playOnModel(seed)
    } catch (error) {
      violations.push({ seed, message: error instanceof SimulationError ? error.message : String(error) })
    }
  }
  return { steps, violations }
}
