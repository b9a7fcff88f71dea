import assert from 'node:assert/strict'
import { test } from 'node:test'
import { makeConfig, makeContract } from '../../../test/support/make.ts'
import { newConversation } from '../core/conversation-change.ts'
import { termsOf } from '../core/terms.ts'
import { openEmbeddedStore } from '../store/embedded.ts'
import type { BudgetStore } from '../store/store.ts'
import { ContractShelf } from './gateway.ts'
import { newestStandings } from './standings.ts'

const NOW_MS = Date.UTC(2026, 10, 24, 12)
const KEPT = makeContract({ caps: { perConversation: '0.50' } })
const NEWEST = makeContract({ caps: { perConversation: '0.40' } })

/** Of a contract as a later version keeps it: what this one makes of it, what the log says, and how often the store is asked. */
async function shelfWith(kept: object) {
  const store = openEmbeddedStore({ file: ':memory:', nowMs: () => NOW_MS })
  await store.putContract({ ...KEPT, ...kept })
  const told: unknown[] = []
  let reads = 0
  const counted: Pick<BudgetStore, 'putContract' | 'getContract'> = {
    putContract: (contract) => store.putContract(contract),
    getContract(hash) {
      reads++
      return store.getContract(hash)
    },
  }
  return { store, shelf: new ContractShelf(counted, { warn: (fields) => told.push(fields) }), told, reads: () => reads }
}

test('fields of a contract that a later version added are left out, at any depth', async () => {
  const { store, shelf, told } = await shelfWith({
    later: 1,
    context: { ...KEPT.context, later: { deep: true } },
    ladder: KEPT.ladder.map((step) => ({ ...step, later: 1 })),
    notices: { ...KEPT.notices, texts: { ...KEPT.notices.texts, Later: { en: 'x' } } },
  })
  assert.deepEqual(await shelf.pinned(KEPT.hash), termsOf(KEPT))
  assert.deepEqual(told, [])
  await store.close()
})

test('of a contract that cannot be read the log says so once, and its conversations go by the newest terms', async () => {
  const { store, shelf, told, reads } = await shelfWith({ ladder: [{ atPercent: 50, rung: 'RungOfLater' }] })
  assert.deepEqual(await Promise.all([shelf.pinned(KEPT.hash), shelf.pinned(KEPT.hash)]), [null, null])
  assert.equal(told.length, 1)
  assert.match(JSON.stringify(told), new RegExp(`"contract":"${KEPT.hash}".*ladder.0.rung`))
  const asked = reads()

  for (const [id, tier] of [
    ['old', KEPT.tier],
    ['lost', 'gone'],
  ] as const) {
    const initial = newConversation({ id, tier, contractHash: KEPT.hash, user: null, nowMs: NOW_MS, ladderApplies: true })
    await store.update({ conversation: id, initial, change: {}, nowMs: NOW_MS })
  }
  const config = makeConfig('http://127.0.0.1:1/v1', [NEWEST])
  const listed = await newestStandings({ nowMs: () => NOW_MS, contracts: shelf, store }, { config, budgetKey: 'support/desk' }, 10)
  assert.deepEqual(
    listed.map(({ conversation, contract }) => [conversation, contract]),
    [['old', NEWEST.hash]],
  )
  assert.deepEqual([told.length, reads()], [1, asked], 'told once, and not asked for again')
  await store.close()
})
