import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as nextTick } from 'node:timers/promises'
import { makeConfig, makeContract } from '../../../test/support/make.ts'
import { newConversation } from '../core/conversation-change.ts'
import { openEmbeddedStore } from '../store/embedded.ts'
import { isLedHere, newestStandings } from './app-api.ts'
import { ContractShelf } from './gateway.ts'

function led(host: string | undefined, localAddress: string): boolean {
  return isLedHere({ headers: { host }, socket: { localAddress } })
}

test('the app API on the loopback address is for what calls it by an address, localhost or a plain name', () => {
  for (const host of [
    '127.0.0.1:4180',
    '127.0.0.1',
    'localhost:4180',
    'app.localhost',
    '[::1]:4180',
    '[::ffff:127.0.0.1]',
    'farebox:4180',
    'host.docker.internal:4180',
    undefined,
  ])
    assert.equal(led(host, '127.0.0.1'), false, host)
  for (const localAddress of ['127.0.0.1', '127.3.2.1', '::1', '::ffff:127.0.0.1'])
    for (const host of [
      'evil.example:4180',
      'EVIL.example',
      'evil.example.',
      '127.0.0.1.evil.example',
      'localhost.evil.example:80',
      'internal.example',
    ])
      assert.equal(led(host, localAddress), true, `${host} at ${localAddress}`)
})

test('behind another address a domain may well lead to it', () => {
  assert.equal(led('farebox.shop.svc.cluster.local:4180', '10.1.2.3'), false)
})

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
      contracts: new ContractShelf(store),
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
