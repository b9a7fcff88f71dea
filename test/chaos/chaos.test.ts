/** A good minute of faults as `make chaos` has them, the same ones each time: both ways in which a sidecar may go on without its store, side by side. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { ONLY_WAITS } from '../support/only-waits.ts'
import { redisProgram } from '../support/redis.ts'
import { playRound } from './round.ts'
import type { Mode } from './round.ts'

const FAULT_MS = 65_000
/** Of calls that were answered: fewer would prove nothing. */
const ANSWERED_MIN = 100
const VIOLATIONS_SHOWN = 20
const MODES: readonly Mode[] = ['Deny', 'Allowance']

const program = redisProgram()
let quiet = 0
const onQuiet = (): void => {
  quiet += 1
  if (quiet === MODES.length) console.log(ONLY_WAITS)
}
/** The same faults each time; `make chaos` draws others. `FAREBOX_SEED=n` plays those that a failure named. */
const seed = Number(process.env['FAREBOX_SEED'] ?? 2_011_513_803)

describe(
  'while sidecars and their store are killed, cut off, frozen and replaced',
  { concurrency: true, skip: program === null ? 'there is no redis-server' : false },
  () => {
    for (const mode of MODES)
      test(`${mode}: nobody is billed above a cap, and every billed call is in the ledger once`, async () => {
        const { violations, log, summary, answered } = await playRound({ program: program ?? '', seed, mode, faultMs: FAULT_MS, onQuiet })
        const told = [`FAREBOX_SEED=${seed}, ${mode}`, ...violations.slice(0, VIOLATIONS_SHOWN), ...summary, ...log].join('\n')
        assert.equal(violations.length, 0, told)
        assert.ok(answered >= ANSWERED_MIN, told)
      })
  },
)
