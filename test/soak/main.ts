/**
 * `make soak`: random schedules by the million on the model, judged by the oracle of `test/simulation`, on every core.
 * `--schedules N`: how many. `--seed N`: the first of them; absent: drawn. A failure names the seed that plays it again.
 */
import { randomInt } from 'node:crypto'
import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import { soak } from './soak.ts'

const SCHEDULES = 1_000_000
const SCHEDULES_MAX = 1_000_000_000
/** A schedule's seed is one of so many. */
const SEEDS = 2 ** 32
const SAY_EVERY_MS = 10_000

const { values } = parseArgs({ options: { schedules: { type: 'string', default: String(SCHEDULES) }, seed: { type: 'string' } } })
const schedules = whole('--schedules', values.schedules, 1, SCHEDULES_MAX)
const first = values.seed === undefined ? randomInt(2 ** 31) : whole('--seed', values.seed, 0, SEEDS - 1)

main().catch((error: unknown) => {
  console.error(`soak: ${error instanceof Error ? error.message : String(error)}`)
  process.exitCode = 1
})

async function main(): Promise<void> {
  const workers = availableParallelism()
  const startedAt = performance.now()
  const seconds = (): number => (performance.now() - startedAt) / 1_000
  console.log(`${count(schedules)} schedules from seed ${first}, by ${workers} workers ...`)
  let saidAt = startedAt
  const { steps, violations } = await soak({ first, schedules, workers }, (done) => {
    if (performance.now() - saidAt < SAY_EVERY_MS) return
    saidAt = performance.now()
    console.log(`  ${count(done)} played, ${count(Math.round(done / seconds()))} a second`)
  })
  console.log(`${count(schedules)} schedules, ${count(steps)} steps, ${seconds().toFixed(1)} s: ${violations.length} violations`)
  for (const { seed, message } of violations) console.log(`  ${message} (make soak SCHEDULES=1 SEED=${seed} plays it again)`)
  if (violations.length > 0) process.exitCode = 1
}

function whole(name: string, text: string, least: number, most: number): number {
  const value = Number(text)
  if (text.trim() === '' || !Number.isInteger(value) || value < least || value > most)
    throw new RangeError(`${name} must be a whole number from ${least} to ${most}`)
  return value
}

function count(value: number): string {
  return value.toLocaleString('en-US')
}
