import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as nextTick } from 'node:timers/promises'
import { makeConfig, makeContract } from '../../../test/support/make.ts'
import { newConversation } from '../core/conversation-change.ts'
import { termsOf } from '../core/terms.ts'
import { openEmbeddedStore } from '../store/embedded.ts'
import { ContractShelf } from './gateway.ts'
import { newestStandings, readStanding } from './standings.ts'

const LOG = { warn: () => assert.fail('every contract can be read') }

test('standings are listed newest first, read some at once but never all, and without those whose contract is gone', async () => {
  const clock = { ms: Date.UTC(2026, 10, 24, 12) }
  const store = openEmbeddedStore({ file: ':memory:', nowMs: () => clock.ms })
  const pro = makeContract({ tier: 'pro' })
  const config = makeConfig('http://127.0.0.1:1/v1', [pro])
  const ids = Array.from({ length: 100 }, (_, index) => `c${index}`)
  for (const id of ids) {
    clock.ms += 1
    const known = id !== 'c50'
    const tier = known ? pro.tier : 'gone'
    const initial = newConversation({ id, tier, contractHash: known ? pro.hash : 'gone', user: null, nowMs: clock.ms, ladderApplies: true })
    await store.update({ conversation: id, initial, change: {}, nowMs: clock.ms })
  }
  let open = 0
  let openMost = 0
  const listed = await newestStandings(
    {
      nowMs: () => clock.ms,
      contracts: new ContractShelf(store, LOG),
      store: {
        listConversations: (query) => store.listConversations(query),
        async read(query) {
          open += 1
          openMost = Math.max(openMost, open)
          await nextTick()
          open -= 1
          return await store.read(query)
        },
      },
    },
    { config, budgetKey: 'support/desk' },
    1_000,
  )
  assert.deepEqual(
    listed.map(({ conversation }) => conversation),
    ids.toReversed().filter((id) => id !== 'c50'),
  )
  assert.ok(openMost > 1 && openMost <= 32, `${openMost} at once`)
  await store.close()
})

test('a standing is of one moment: a turn that ended since the conversation was found is in its count as in its balances', async () => {
  const nowMs = Date.UTC(2026, 10, 24, 12)
  const store = openEmbeddedStore({ file: ':memory:', nowMs: () => nowMs })
  const pro = makeContract({ tier: 'pro' })
  const initial = newConversation({ id: 'c', tier: 'pro', contractHash: pro.hash, user: null, nowMs, ladderApplies: true })
  const found = await store.update({ conversation: 'c', initial, change: {}, nowMs })
  assert.ok(found !== null)
  await store.update({ conversation: 'c', change: { turnAtMs: nowMs }, nowMs })
  const gateway = { nowMs: () => nowMs, contracts: new ContractShelf(store, LOG), store }
  const placed = { gateway, policy: { budgetKey: 'support/desk' }, terms: termsOf(pro) }
  assert.equal((await readStanding({ ...placed, conversation: found.conversation })).turns, 1)
  const elsewhere = { ...found.conversation, session: 2 }
  assert.equal((await readStanding({ ...placed, conversation: elsewhere })).turns, 0, 'of another session nothing is taken over')
  await store.close()
})
