/** The shared store goes away while calls are out: frozen, killed, replaced, and back again. The provider's bill is the judge. */
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, before, beforeEach, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { SidecarStatus } from '@farebox/crds/sidecar-status.ts'
import { formatUsd, parseUsd } from '@farebox/crds/usd.ts'
import type { Alert } from '@farebox/sidecar/proxy/alert-feed.ts'
import { StorePair } from '../chaos/store-pair.ts'
import { startStoreProxy } from '../support/store-proxy.ts'
import type { StoreProxy } from '../support/store-proxy.ts'
import { waitFor } from '../support/wait-for.ts'
import { redisProgram } from '../support/redis.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { MODEL } from '../support/burst.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { startCluster } from '../support/redis-cluster.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'

const CALLS = 8
/** Longer than a step waits for its answer, several times. */
const AWAY_MS = 1_500
const BACK_MS_MAX = 20_000
/** So far is a replica behind, and so long after that began its primary dies: what is to be lost is done by then. */
const BEHIND_MS = 5_000

const program = redisProgram()

describe('a shared store that goes away while calls are out', { skip: program === null ? 'there is no redis-server' : false }, () => {
  let provider: Provider
  let gate: Gate | null = null
  before(async () => {
    provider = await startProvider({ onRequest: () => gate?.enter() })
  })
  after(() => provider.close())

  let pair: StorePair
  let proxy: StoreProxy
  let sidecars: Sidecar[]
  let billedBefore: bigint
  let folder: string
  beforeEach(async () => {
    pair = await StorePair.start({ program: program ?? '', onMoved: (port) => proxy.pointAt(port) })
    proxy = await startStoreProxy(1, pair.port)
    sidecars = []
    folder = mkdtempSync(join(tmpdir(), 'farebox-outage-'))
    billedBefore = provider.bill.totalNanoUsd()
  })
  afterEach(async () => {
    gate?.open()
    gate = null
    for (const sidecar of sidecars) await sidecar.close()
    await proxy.close()
    await pair.stop()
    rmSync(folder, { recursive: true })
  })
  const start = async (
    allowancePercent: number,
    {
      perConversation = '1.00',
      ...environment
    }: { readonly perConversation?: string; readonly [variable: `FAREBOX_${string}`]: string } = {},
  ): Promise<Sidecar> => {
    const config = makeConfig(`${provider.url}/v1`, [makeContract({ caps: { perConversation } })], {
      onStoreFailure: { action: allowancePercent === 0 ? 'Deny' : 'Allowance', allowancePercent },
    })
    const sidecar = await startSidecar(config, {
      environment: { FAREBOX_STORE: `redis://127.0.0.1:${proxy.lanes[0]?.port}`, ...environment },
    })
    sidecars.push(sidecar)
    return sidecar
  }

  test('Deny: calls under way are answered whole, new ones are refused as such, and afterwards the books are the bill', async () => {
    const sidecar = await start(0)
    gate = shutGate()
    const out = Array.from({ length: CALLS }, (_, call) => ask(sidecar, `frozen-${call}`, { 'x-fake-output-tokens': '40' }))
    await gate.entered(CALLS)
    pair.freeze()
    gate.open()
    const answers = await Promise.all(out)
    assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([200]))
    for (const { text } of answers) assert.equal((JSON.parse(text) as { usage: { completion_tokens: number } }).usage.completion_tokens, 40)
    const refused = await ask(sidecar, 'newcomer')
    assert.equal(refused.status, 503)
    assert.match(refused.text, /budget_store_unavailable/)
    assert.equal(refused.retryAfter, '2')
    const { store } = await statusOf(sidecar)
    assert.deepEqual([store.kind, store.state], ['Shared', 'Away'])
    assert.match(store.reason ?? '', /cannot be used|lost/)
    assert.ok(store.unsent >= CALLS)
    assert.equal((await fetch(`${sidecar.adminUrl}/readyz`)).status, 503)
    await sleep(AWAY_MS)
    pair.thaw()
    await back(sidecar)
    assert.equal((await ask(sidecar, 'newcomer')).status, 200)
    await settled(sidecar, CALLS + 1)
    const metrics = await sidecar.metrics()
    assert.match(metrics, /^farebox_store_ready 1$/m)
    assert.match(metrics, /^farebox_store_outages_total 1$/m)
    assert.match(metrics, /^farebox_store_unsent_steps 0$/m)
  })

  test('Allowance: conversations go on, each within its allowance, and are in the shared books afterwards', async () => {
    const sidecar = await start(10)
    const other = await start(10)
    await ask(sidecar, 'known', { 'x-fake-output-tokens': '40' })
    pair.freeze()
    const first = await ask(sidecar, 'known', { 'x-fake-output-tokens': '40' })
    assert.deepEqual([first.status, first.store], [200, 'away'])
    assert.equal((await ask(other, 'known', { 'x-fake-output-tokens': '40' })).status, 200)
    assert.equal((await ask(sidecar, 'newcomer')).status, 200)
    assert.equal((await fetch(`${sidecar.adminUrl}/readyz`)).status, 200)
    await sleep(AWAY_MS)
    pair.thaw()
    await back(sidecar)
    await back(other)
    await settled(sidecar, 2)
    assert.equal((await sidecar.standing('known')).turns, 3, 'of both sidecars')
    const again = await ask(sidecar, 'known')
    assert.deepEqual([again.status, again.store], [200, null])
  })

  test('an alert that only both have reached together is told when the store is back, by one of them', async () => {
    const both = [await start(50, { perConversation: '0.01' }), await start(50, { perConversation: '0.01' })]
    const told = async (): Promise<readonly number[]> => {
      const feeds = both.map(async (sidecar) => (await sidecar.getJson('/farebox/v1/alerts')) as { readonly alerts: readonly Alert[] })
      return (await Promise.all(feeds)).flatMap(({ alerts }) => alerts.map(({ percent }) => percent))
    }
    pair.freeze()
    for (const sidecar of both)
      for (let call = 0; call < 4; call++) assert.equal((await ask(sidecar, 'common', { 'x-fake-output-tokens': '100' })).status, 200)
    for (const sidecar of both) await sidecar.idle()
    assert.deepEqual(await told(), [])
    pair.thaw()
    for (const sidecar of both) await back(sidecar)
    assert.deepEqual(await told(), [70])
    const counted = await Promise.all(both.map(async (sidecar) => (await sidecar.metrics()).match(/^farebox_alerts_total{.*} 1$/gm) ?? []))
    assert.equal(counted.flat().length, 1)
    assert.equal(both.flatMap((sidecar) => sidecar.log().match(/alert: budget threshold reached/g) ?? []).length, 1)
  })

  test('the app is not told that a conversation is none which only the store knows; it tells its outcome again', async () => {
    const sidecar = await start(10)
    const other = await start(10)
    assert.equal((await ask(sidecar, 'theirs')).status, 200)
    await settled(sidecar, 1)
    pair.freeze()
    assert.equal((await ask(other, 'own')).status, 200)
    const confirm = () => other.postJson('/farebox/v1/conversations/theirs/resolution', { outcome: 'confirmed' })
    assert.equal((await confirm()).status, 503)
    pair.thaw()
    await back(other)
    assert.deepEqual(await confirm(), { status: 200, body: { status: 'added' } })
    assert.equal((await other.postJson('/farebox/v1/conversations/nobody/resolution', { outcome: 'confirmed' })).status, 404)
  })

  test('an allowance that is used up is a store that is away, not a conversation that ends', async () => {
    // A call of 100 tokens costs about 0.001; its hold is a little more.
    const sidecar = await start(25, { perConversation: '0.01' })
    await ask(sidecar, 'spent', { 'x-fake-output-tokens': '100' })
    pair.freeze()
    const answers: number[] = []
    for (let call = 0; call < 6; call++) answers.push((await ask(sidecar, 'spent', { 'x-fake-output-tokens': '100' })).status)
    assert.ok(answers.includes(200) && answers.at(-1) === 503, answers.join())
    pair.thaw()
    await back(sidecar)
    assert.equal((await ask(sidecar, 'spent', { 'x-fake-output-tokens': '100' })).status, 200)
    await settled(sidecar, 1)
  })

  test('a sidecar that is killed meanwhile tells what it did when it is back', async () => {
    const sidecar = await start(10)
    await ask(sidecar, 'before')
    pair.freeze()
    await ask(sidecar, 'before')
    await ask(sidecar, 'meanwhile')
    await sidecar.idle() // a call whose end it did not see is charged whole
    await sidecar.kill('SIGKILL')
    // It knows the key by which ids are hashed from its last run: it serves before the store is back.
    await sidecar.start()
    assert.equal((await ask(sidecar, 'meanwhile')).status, 200)
    pair.thaw()
    await back(sidecar)
    await settled(sidecar, 2)
    assert.equal((await sidecar.standing('meanwhile')).turns, 2)
  })

  test('a replica that takes the place of the primary is told what it lacks', async () => {
    const sidecar = await start(0)
    await ask(sidecar, 'early')
    const begin = performance.now()
    const replaced = pair.failOver(BEHIND_MS, 300)
    for (let call = 0; call < 4; call++) assert.equal((await ask(sidecar, 'late', { 'x-fake-output-tokens': '40' })).status, 200)
    gate = shutGate()
    const out = ask(sidecar, 'out')
    await gate.entered(1)
    assert.ok(performance.now() - begin < BEHIND_MS, 'before the primary dies')
    await replaced
    await back(sidecar)
    gate.open()
    assert.equal((await out).status, 200)
    await settled(sidecar, 3)
    assert.equal((await sidecar.standing('late')).turns, 4)
  })

  test('a cluster of which one node is frozen is away as a whole, and told all of it when that goes on', async () => {
    const cluster = await startCluster(program ?? '')
    try {
      const sidecar = await start(50, { FAREBOX_STORE: cluster.url })
      const conversations = Array.from({ length: 12 }, (_, index) => `spread-${index}`)
      const askAll = async (): Promise<void> => {
        for (const id of conversations) assert.equal((await ask(sidecar, id, { 'x-fake-output-tokens': '10' })).status, 200)
      }
      await askAll()
      cluster.nodes[1]?.process.kill('SIGSTOP')
      await askAll()
      assert.equal((await statusOf(sidecar)).store.state, 'Away')
      cluster.nodes[1]?.process.kill('SIGCONT')
      await back(sidecar)
      await askAll()
      await settled(sidecar, conversations.length)
      assert.equal((await sidecar.standing('spread-0')).turns, 3)
    } finally {
      await cluster.stop()
    }
  })

  test('one that starts while the store is away waits for it, and says why', async () => {
    pair.freeze()
    const log = join(folder, 'sidecar.log')
    const starting = start(0, { FAREBOX_LOG: log })
    while (!existsSync(log) || !readFileSync(log, 'utf8').includes('the store is away; it is looked for until it is back')) await sleep(50)
    pair.thaw()
    const sidecar = await starting
    assert.equal((await ask(sidecar, 'first')).status, 200)
    await settled(sidecar, 1)
  })

  async function statusOf(sidecar: Sidecar): Promise<SidecarStatus> {
    return (await sidecar.getJson('/farebox/v1/status')) as SidecarStatus
  }

  async function back(sidecar: Sidecar): Promise<void> {
    const end = performance.now() + BACK_MS_MAX
    for (;;) {
      const { store } = await statusOf(sidecar)
      if (store.state === 'Ready') return
      assert.ok(performance.now() < end, `${store.state}: ${store.reason}`)
      await sleep(50)
    }
  }

  /** Until nothing is held; then all that was spent by so many conversations is what was billed. */
  async function settled(sidecar: Sidecar, conversations: number): Promise<void> {
    await sidecar.idle()
    await provider.settled()
    const list = (await sidecar.getJson('/farebox/v1/conversations?limit=1000')) as { conversations: { spent: string; held: string }[] }
    assert.equal(list.conversations.length, conversations)
    assert.deepEqual(new Set(list.conversations.map(({ held }) => held)), new Set(['0.00']))
    const spent = list.conversations.reduce((sum, conversation) => sum + parseUsd(conversation.spent), 0n)
    assert.equal(formatUsd(spent), formatUsd(provider.bill.totalNanoUsd() - billedBefore))
  }

  async function ask(
    sidecar: Sidecar,
    conversation: string,
    headers: Record<string, string> = {},
  ): Promise<{ status: number; text: string; retryAfter: string | null; store: string | null }> {
    const answer = await fetch(`${sidecar.url}/openai/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: 'Bearer test', 'x-farebox-conversation': conversation, ...headers },
      body: JSON.stringify({ model: MODEL, max_tokens: 100, messages: [{ role: 'user', content: 'Hello.' }] }),
    })
    const { headers: answered } = answer
    return {
      status: answer.status,
      text: await answer.text(),
      retryAfter: answered.get('retry-after'),
      store: answered.get('x-farebox-store'),
    }
  }
})

/** At the provider: who enters waits until it is opened. */
interface Gate {
  enter(): Promise<void>
  /** When so many have entered. */
  entered(count: number): Promise<void>
  open(): void
}

function shutGate(): Gate {
  const opened = Promise.withResolvers<void>()
  let entered = 0
  return {
    enter() {
      entered += 1
      return opened.promise
    },
    entered: async (count) => {
      await waitFor(`${count} calls at the provider`, () => entered >= count, { everyMs: 5 })
    },
    open: () => opened.resolve(),
  }
}
