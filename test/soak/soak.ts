/** Deals seeds to worker threads, a batch at a time, until all have been played or too many have failed. */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import type { Batch, Played, Violation } from './worker.ts'

/** Small enough that the workers end together and progress is told; large enough that a message costs nothing. */
const BATCH = 500
/** More say no more: the rest is not played. */
const VIOLATIONS_MAX = 10
const WORKER = new URL('./worker.ts', import.meta.url)

export interface SoakOptions {
  /** Seeds from here on, one for each schedule. */
  readonly first: number
  readonly schedules: number
  readonly workers: number
}
export interface Soaked {
  readonly played: number
  readonly steps: number
  readonly violations: readonly Violation[]
}

/** `onProgress` is told how many have been played, after each batch. */
export async function soak({ first, schedules, workers }: SoakOptions, onProgress: (played: number) => void): Promise<Soaked> {
  const end = first + schedules
  const violations: Violation[] = []
  let next = first
  let played = 0
  let steps = 0
  const lane = async (): Promise<void> => {
    const worker = new Worker(WORKER, { execArgv: ['--disable-warning=ExperimentalWarning'] })
    try {
      while (next < end && violations.length < VIOLATIONS_MAX) {
        const batch: Batch = { first: next, count: Math.min(BATCH, end - next) }
        next += batch.count
        const answer = await asked(worker, batch)
        played += batch.count
        steps += answer.steps
        violations.push(...answer.violations)
        onProgress(played)
      }
    } finally {
      await worker.terminate()
    }
  }
  await Promise.all(Array.from({ length: Math.min(workers, Math.ceil(schedules / BATCH)) }, lane))
  return { played, steps, violations: violations.toSorted((a, b) => a.seed - b.seed).slice(0, VIOLATIONS_MAX) }
}

/** Rejects when the worker dies of it. */
async function asked(worker: Worker, batch: Batch): Promise<Played> {
  const answered = once(worker, 'message') as Promise<[Played]>
  worker.postMessage(batch)
  const [answer] = await answered
  return answer
}
