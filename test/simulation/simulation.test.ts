import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { describe, it } from 'node:test'
import * as rules from '@farebox/sidecar/core/books.testing.ts'
import type { BudgetRules } from '@farebox/sidecar/store/model.testing.ts'
import { schedulesToPlay, SEED } from '../support/seed.ts'
import { SimulationError } from './oracle.ts'
import { playOnEmbedded, playOnModel, simulationFolder } from './play.ts'

const ON_MODEL = schedulesToPlay(100_000)
const IN_MEMORY = schedulesToPlay(700)
const IN_FILES = schedulesToPlay(300)
/** A planted bug is found within so many schedules. */
const TO_FIND = 500

function reproducible(seed: number, where: string, error: unknown): unknown {
  if (!(error instanceof Error)) return error
  return new Error(`${error.message} (${where}; FAREBOX_SEED=${seed} plays it again)`, { cause: error })
}

describe('spent + held <= budget, entries sum to spent, settling twice is settling once, more spent is no milder rung', () => {
  it(`in ${ON_MODEL} random schedules on the model`, () => {
    for (let seed = SEED; seed < SEED + ON_MODEL; seed++) {
      try {
        playOnModel(seed)
      } catch (error) {
        throw reproducible(seed, 'on the model', error)
      }
    }
  })

  it(`in ${IN_MEMORY} on the embedded engine in memory`, async () => {
    for (let seed = SEED; seed < SEED + IN_MEMORY; seed++) {
      try {
        await playOnEmbedded(seed, null)
      } catch (error) {
        throw reproducible(seed, 'in memory', error)
      }
    }
  })

  it(`in ${IN_FILES} on the embedded engine in files, opened again after each crash`, async () => {
    const folder = simulationFolder()
    try {
      for (let seed = SEED; seed < SEED + IN_FILES; seed++) {
        try {
          await playOnEmbedded(seed, folder)
        } catch (error) {
          throw reproducible(seed, 'in files', error)
        }
      }
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})

describe('the simulation catches', () => {
  const planted: Readonly<Record<string, { readonly bug: Partial<BudgetRules>; readonly message: RegExp }>> = {
    'a budget that ignores held money': {
      bug: {
        reserve: (books, reservation) => {
          const forgotten = new Map([...books.accounts].map(([id, account]) => [id, { ...account, held: 0n, heldInput: 0n }]))
          const { result } = rules.reserve({ ...books, accounts: forgotten }, reservation)
          if (result.status !== 'held') return { books, result }
          const draws = reservation.draws.map(({ account }) => ({ account, cap: null }))
          return { books: rules.reserve(books, { ...reservation, draws, atMost: result.granted }).books, result }
        },
      },
      message: /must be busy is held|was granted where/,
    },
    'a settlement that counts twice': {
      bug: {
        settle: (books, settlement) => {
          const operation = books.operations.get(settlement.operationId)
          if (operation?.state.status !== 'settled') return rules.settle(books, settlement)
          const open = new Map(books.operations).set(operation.id, { ...operation, state: { status: 'expired' } })
          return rules.settle({ ...books, operations: open }, settlement)
        },
      },
      message: /must be exists is corrected/,
    },
    'an expiry that gives the hold back': {
      bug: {
        expire: (books, nowMs, limit) => {
          const { expired } = rules.expire(books, nowMs, limit)
          const after = expired.reduce((before, { id }) => rules.voidHold(before, { operationId: id, atMs: nowMs }).books, books)
          return { books: after, expired }
        },
      },
      message: /has spent .* where .* was billed|must be (corrected|voided) is exists|must be (busy|exceedsCap) is held/,
    },
    'a cost that is not in the ledger': {
      bug: {
        charge: (books, fact) => {
          const charged = rules.charge(books, fact)
          return { ...charged, books: { ...charged.books, ledger: books.ledger } }
        },
      },
      message: /the ledger of .* sums to/,
    },
  }
  for (const [name, { bug, message }] of Object.entries(planted)) {
    it(name, () => {
      const seed = firstFailing({ ...rules, ...bug })
      assert.ok(seed !== null, `not found in ${TO_FIND} schedules`)
      for (let again = 0; again < 2; again++)
        assert.throws(
          () => playOnModel(seed, { ...rules, ...bug }),
          (error) => error instanceof SimulationError && message.test(error.message),
        )
      playOnModel(seed)
    })
  }
})

function firstFailing(wrong: BudgetRules): number | null {
  for (let seed = 1; seed <= TO_FIND; seed++) {
    try {
      playOnModel(seed, wrong)
    } catch (error) {
      if (error instanceof SimulationError) return seed
      throw error
    }
  }
  return null
}
