import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { after, before, test } from 'node:test'
import { loadCatalogue } from '@farebox/crds/catalogue.ts'
import { createPriceList } from '@farebox/crds/price-list.ts'
import { waitFor } from '../../../test/support/wait-for.ts'
import { makeConfig } from '../../../test/support/make.ts'
import { NEVER_STALE } from '../delivery/staleness.ts'
import type { StoreStanding, StoreState } from '../store/store-standing.ts'
import { createAdmin } from './admin.ts'
import type { AdminParts } from './admin.ts'
import { policyOf } from './gateway.ts'
import type { Policy } from './gateway.ts'

const onStoreFailure = { action: 'Allowance', allowancePercent: 10 } as const
const policyWith = (more: Parameters<typeof makeConfig>[2]): Policy =>
  policyOf(makeConfig('http://provider/v1', undefined, more), createPriceList([], loadCatalogue()))
let policy = policyWith({ onStoreFailure })
const store: { asked: number; isAway: boolean; isShared: boolean; state: StoreState; more: Pick<StoreStanding, 'isFull'> } = {
  asked: 0,
  isAway: false,
  isShared: true,
  state: 'Ready',
  more: {},
}
let isStopping = false
const parts: AdminParts = {
  policy: () => policy,
  staleness: NEVER_STALE,
  storeStanding: () => ({ state: store.state, reason: null, sinceMs: 0, unsent: 0, outages: 0, replayed: 0, ...store.more }),
  get storeIsShared() {
    return store.isShared
  },
  canHashIds: () => true,
  metrics: { contentType: 'text/plain', render: () => Promise.resolve('') },
  store: {
    getContract() {
      store.asked += 1
      return store.isAway ? Promise.reject(new Error('away')) : Promise.resolve(null)
    },
  },
}
const server = createAdmin(parts, () => isStopping)
const ports = { own: 0 }
const strangers: Socket[] = []
before(async () => {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  ports.own = (server.address() as AddressInfo).port
})
after(() => {
  for (const socket of strangers) socket.destroy()
  server.closeAllConnections()
  server.close()
})

const ask = (path: string, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(`http://127.0.0.1:${ports.own}${path}`, { headers })

/** A request that never ends. */
async function stranger(): Promise<Socket> {
  const socket = connect(ports.own, '127.0.0.1')
  socket.on('error', () => undefined)
  strangers.push(socket)
  await once(socket, 'connect')
  socket.resume()
  socket.write('GET /healthz HTTP/1.1\r\nx: ')
  return socket
}

test('many half-sent requests keep no probe out, and hold no more than 64 connections', async () => {
  for (let index = 0; index < 200; index += 1) await stranger()
  assert.equal((await ask('/healthz')).status, 200)
  const count = await new Promise<number>((resolve) => server.getConnections((_error, open) => resolve(open)))
  assert.ok(count <= 65, `${count} are open`)
  await waitFor('their end', () => strangers.every(({ closed }) => closed), { withinMs: 6_000 })
})

test('a header of more than 4 KiB is refused', async () => {
  assert.equal((await ask('/healthz', { large: 'x'.repeat(5_000) })).status, 431)
})

test('a sidecar that may go on without the store is ready while that is away', async () => {
  store.isAway = true
  store.state = 'Away'
  assert.equal((await ask('/readyz')).status, 200)
  store.isAway = false
  store.state = 'Ready'
  store.asked = 0
})

test('one that may not is not ready, unless its owner only watches', async () => {
  const deny = { action: 'Deny', allowancePercent: 0 } as const
  store.isAway = true
  store.state = 'Away'
  for (const [mode, status] of [
    ['Enforce', 503],
    ['Observe', 200],
  ] as const) {
    policy = policyWith({ mode, onStoreFailure: deny })
    assert.equal((await ask('/readyz')).status, status, mode)
  }
  policy = policyWith({ onStoreFailure })
  store.isAway = false
  store.state = 'Ready'
  store.asked = 0
})

test('none is ready where so much waits for the store that nothing new is begun', async () => {
  store.isAway = true
  store.state = 'Away'
  store.more = { isFull: true }
  for (const mode of ['Enforce', 'Observe'] as const) {
    policy = policyWith({ mode, onStoreFailure })
    assert.equal((await ask('/readyz')).status, 503, mode)
  }
  policy = policyWith({ onStoreFailure })
  store.isAway = false
  store.state = 'Ready'
  store.more = {}
  store.asked = 0
})

test('the store is asked no more than once a second, and again at once after it failed', async () => {
  store.isAway = true
  for (let index = 0; index < 2; index += 1) assert.equal((await ask('/readyz')).status, 503)
  assert.equal(store.asked, 2)
  store.isAway = false
  const answers = await Promise.all(Array.from({ length: 50 }, () => ask('/readyz')))
  assert.deepEqual([...new Set(answers.map(({ status }) => status))], [200])
  assert.equal(store.asked, 3)
})

test('one whose own books take no steps is not ready, whatever its owner allows: nothing stands in for them', async () => {
  store.isShared = false
  store.state = 'Away'
  assert.equal((await ask('/readyz')).status, 503)
  store.state = 'Ready'
  assert.equal((await ask('/readyz')).status, 200)
  store.isShared = true
})

test('one that is stopping takes no calls, so it is not ready; it is well all the same', async () => {
  isStopping = true
  const answer = await ask('/readyz')
  assert.deepEqual([answer.status, await answer.text()], [503, 'it is stopping\n'])
  assert.equal((await ask('/healthz')).status, 200)
  isStopping = false
})

test('a query changes nothing: scrapers and probes may add one', async () => {
  for (const path of ['/metrics?x=1', '/readyz?verbose', '/healthz?', '/startz?a=/b']) assert.equal((await ask(path)).status, 200, path)
  assert.equal((await ask('/readyz/?verbose')).status, 404)
})
