/**
 * `make chaos`: round after round of faults, each with a seed of its own and judged by itself, until the time is up. Ends with
 * exit code 1 after a round that violates anything, with its seed, its faults and the first violations.
 * `--seconds N`: how long (1800). `--seed N`: of the first round; absent: drawn. `--mode Deny|Allowance`: that one alone; absent: in turn.
 */
import { randomInt } from 'node:crypto'
import { parseArgs } from 'node:util'
import { redisProgram } from '../support/redis.ts'
import { playRound } from './round.ts'
import type { Mode } from './round.ts'

const SECONDS = 1_800
const SECONDS_MAX = 7 * 86_400
/** What follows the faults of a round takes up to two minutes: fewer rounds, more faults. */
const FAULT_SECONDS = { min: 20, max: 240 }
const QUIET_SECONDS = 110
const VIOLATIONS_SHOWN = 20
const MODES: readonly Mode[] = ['Deny', 'Allowance']

const { values } = parseArgs({
  options: { seconds: { type: 'string', default: String(SECONDS) }, seed: { type: 'string' }, mode: { type: 'string' } },
})
const seconds = Number(values.seconds)
if (!Number.isInteger(seconds) || seconds < 1 || seconds > SECONDS_MAX)
  throw new RangeError(`--seconds must be a whole number from 1 to ${SECONDS_MAX}`)
const first = values.seed === undefined ? randomInt(2 ** 31) : Number(values.seed)
if (!Number.isSafeInteger(first) || first < 0) throw new RangeError('--seed must be a whole number from 0 on')
const modes = MODES.filter((mode) => values.mode === undefined || values.mode === mode)
if (modes.length === 0) throw new RangeError(`--mode must be one of ${MODES.join(', ')}`)

main().catch((error: unknown) => {
  console.error(`chaos: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`)
  process.exitCode = 1
})

async function main(): Promise<void> {
  const program = redisProgram()
  if (program === null) throw new Error('there is no redis-server')
  const end = performance.now() + seconds * 1_000
  for (let round = 0; round === 0 || performance.now() < end; round++) {
    const seed = first + round
    const mode = modes[round % modes.length] ?? 'Deny'
    const left = (end - performance.now()) / 1_000 - QUIET_SECONDS
    const faultSeconds = Math.round(Math.min(FAULT_SECONDS.max, Math.max(FAULT_SECONDS.min, left)))
    const name = `SEED=${seed} MODE=${mode} SECONDS=${faultSeconds + QUIET_SECONDS}`
    console.log(`${name}: ${faultSeconds} s of faults ...`)
    const { violations, log, summary } = await playRound({ program, seed, mode, faultMs: faultSeconds * 1_000 })
    for (const line of summary) console.log(`  ${line}`)
    if (violations.length === 0) continue
    console.log(`What went wrong:\n${log.join('\n')}`)
    console.log(`${violations.length} violations:\n${violations.slice(0, VIOLATIONS_SHOWN).join('\n')}`)
    console.log(`make chaos ${name} plays these faults again`)
    process.exitCode = 1
    return
  }
}
