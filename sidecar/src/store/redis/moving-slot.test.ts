/** A slot that moves between nodes of a cluster while sidecars run: no step is begun, and none is left half done. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { StoreError } from '../store.ts'
import type { BudgetStore } from '../store.ts'
import { reserveStep, settleStep, START_MS } from '../steps.testing.ts'
import { declaredKeys, tagPrefix } from './keys.ts'
import { openRedisStore } from './redis.ts'
import { openSlot, startCluster } from '../../../../test/support/redis-cluster.ts'
import type { OpenSlot, TestCluster } from '../../../../test/support/redis-cluster.ts'
import { redisProgram } from '../../../../test/support/redis.ts'

const program = redisProgram()

if (program !== null)
  describe('while the slot of a tag moves', () => {
    let cluster: TestCluster
    before(async () => {
      cluster = await startCluster(program)
    })
    after(() => cluster.stop())
    let namespaces = 0

    /** One call has cost 60 of 100, and one holds 20. */
    const withSlot = (run: (store: BudgetStore, slot: OpenSlot, meta: string) => Promise<void>) => async () => {
      const namespace = `moving-${++namespaces}`
      const store = await openRedisStore({ url: cluster.url, namespace, nowMs: () => START_MS, tags: 1, answerMsMax: 5_000 })
      try {
        await store.reserve(reserveStep('o1', START_MS, { atLeast: 60n, atMost: 60n }))
        await store.settle(settleStep('o1', START_MS, 60n))
        await store.reserve({
          ...reserveStep('o2', START_MS, { atLeast: 20n, atMost: 20n }),
          seen: { contractHash: 'k1', user: null, session: 1 },
        })
        const [meta] = declaredKeys(tagPrefix(namespace, 0))
        const slot = await openSlot(cluster, meta)
        try {
          await run(store, slot, meta)
        } finally {
          slot.stop()
        }
      } finally {
        await store.close()
      }
    }
    const isAway = (reason: RegExp) => (error: unknown) =>
      error instanceof StoreError && error.code === 'away' && reason.test(error.message)
    const books = async (store: BudgetStore) => {
      const { accounts } = await store.read({ conversation: 'A', accounts: ['c:A:1'], nowMs: START_MS })
      const entries = await store.readLedger({ afterSequence: 0, limit: 9 })
      return [accounts.get('c:A:1'), entries.map(({ id, cost }) => `${id} ${cost}`)]
    }
    const BEFORE = [{ spent: 60n, held: 20n, heldInput: 0n }, ['o1/settlement 60']]
    const AFTER = [{ spent: 75n, held: 0n, heldInput: 0n }, ['o1/settlement 60', 'o2/settlement 15']]
    /** The cluster tells its clients where the slot is by now as they ask. */
    const settled = async (store: BudgetStore): Promise<void> => {
      assert.deepEqual(await books(store), BEFORE)
      assert.equal((await store.settle(settleStep('o2', START_MS, 15n))).result.status, 'settled')
      assert.equal((await store.settle(settleStep('o2', START_MS, 15n))).result.status, 'exists')
      assert.deepEqual(await books(store), AFTER)
    }

    for (const moved of ['nothing', 'its clock'])
      it(
        `and ${moved} has moved yet, its steps find the store away and write nothing; after that they are taken once`,
        withSlot(async (store, slot, meta) => {
          if (moved !== 'nothing') await slot.move(meta)
          const refused = isAway(/its slot moves to another node/)
          await assert.rejects(store.settle(settleStep('o2', START_MS, 15n)), refused)
          await assert.rejects(store.reserve(reserveStep('o3', START_MS, { atLeast: 20n, atMost: 20n })), refused)
          await slot.finish()
          await settled(store)
        }),
      )
  })
