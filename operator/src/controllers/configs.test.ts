import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { waitFor } from '../../../test/cluster/wait-for.ts'
import type { FakeApiServer } from '../../../test/kube/fake-api-server.ts'
import { putDesk, putTier, stageCluster } from '../../../test/kube/staged-cluster.ts'
import { CONFIG_MAPS, PRICE_BOOKS, PRICING_TIERS } from '../kube/resources.ts'
import { createLog } from '../telemetry/log.ts'
import type { Cluster } from './cluster.ts'
import { Configs } from './configs.ts'

const CONFIG_MAP = 'farebox-config-desk'

interface Stage {
  readonly server: FakeApiServer
  readonly cluster: Cluster
  readonly configs: Configs
  readonly outcomes: string[]
  readonly setNow: (nowMs: number) => void
}

async function stage(context: TestContext, hasStore = true): Promise<Stage> {
  const { server, kube, cluster } = await stageCluster(context, (empty) => {
    putTier(empty, 'pro')
    putDesk(empty, 'shop')
  })
  const outcomes: string[] = []
  let nowMs = 1_000
  const configs = new Configs({
    cluster,
    client: kube,
    trust: () => 'a certificate',
    hasStore,
    nowMs: () => nowMs,
    steadyMs: () => nowMs,
    log: createLog('silent'),
    onOutcome: (outcome) => outcomes.push(outcome),
  })
  return { server, cluster, configs, outcomes, setNow: (ms) => (nowMs = ms) }
}

test('a config that no config map can hold is not sent, and said; the one before stays', async (context) => {
  const { server, cluster, configs, outcomes } = await stage(context)
  await configs.reconcile()
  const before = server.read(CONFIG_MAPS, CONFIG_MAP, 'shop')
  assert.ok(before !== undefined)
  const long = 'x'.repeat(50)
  for (let book = 0; book < 24; book += 1) {
    const entries = Array.from({ length: 256 }, (_, index) => ({
      provider: 'openai',
      model: `model-${long}-${book}-${index}`,
      input: '1.00',
      output: '2.00',
    }))
    server.put(PRICE_BOOKS, `book-${book}`, { fields: { spec: { entries } } })
  }
  await waitFor('the books', () => cluster.books.size === 24)
  await configs.reconcile()
  assert.deepEqual(server.read(CONFIG_MAPS, CONFIG_MAP, 'shop'), before)
  const hindrance = configs.inForce?.hindered.get('shop/desk')
  assert.equal(hindrance?.reason, 'TooLarge')
  assert.match(hindrance.message, /^the config has 1\d{6} bytes, and a ConfigMap holds 1048512: take prices that nobody needs out/)
  assert.deepEqual(outcomes, ['written', 'failed'])
})

test('what a book or a tier of another version says is not left out: nothing is compiled without it, until it goes', async (context) => {
  const { server, cluster, configs } = await stage(context)
  const entries = [{ provider: 'openai', model: 'gpt-4o', input: '99.00', output: '199.00' }]
  server.put(PRICE_BOOKS, 'list', { fields: { spec: { entries } } })
  await waitFor('the book', () => cluster.books.size === 1)
  await configs.reconcile()
  const before = server.read(CONFIG_MAPS, CONFIG_MAP, 'shop')
  const said = (): readonly (string | undefined)[] => {
    const { conditions = [] } = configs.inForce?.compiled.statuses.get('ConversationBudget/shop/desk') ?? {}
    const { reason, message } = conditions.find(({ type }) => type === 'Accepted') ?? {}
    return [reason, message]
  }
  server.put(PRICE_BOOKS, 'list', { fields: { spec: { entries, fieldOfLater: true } } })
  await waitFor('the book as it is now', () => cluster.books.get('list')?.checked.status === 'invalid')
  await configs.reconcile()
  assert.deepEqual(said(), ['PriceBookNotAccepted', 'PriceBook "list" is not accepted: spec.fieldOfLater is not a field here'])
  assert.deepEqual(server.read(CONFIG_MAPS, CONFIG_MAP, 'shop'), before)

  const going = { name: 'list', deletionTimestamp: '2026-11-24T12:00:00Z' }
  server.put(PRICE_BOOKS, 'list', { fields: { metadata: going, spec: { entries, fieldOfLater: true } } })
  await waitFor('the book to go', () => cluster.books.get('list')?.object.metadata.deletionTimestamp !== undefined)
  await configs.reconcile()
  assert.equal(said()[0], 'Accepted')
  assert.notDeepEqual(server.read(CONFIG_MAPS, CONFIG_MAP, 'shop'), before)

  server.put(PRICING_TIERS, 'pro', { fields: { spec: { displayName: 'Pro', fieldOfLater: 1 } } })
  await waitFor('the tier as it is now', () => cluster.tiers.get('pro')?.checked.status === 'invalid')
  await configs.reconcile()
  assert.equal(said()[0], 'TierNotAccepted')
  assert.match(said()[1] ?? '', /^PricingTier "pro" is not accepted: .*spec\.fieldOfLater is not a field here/)
})

test('without a store the config is written, and pods wait all the same, which is said', async (context) => {
  const { configs, outcomes } = await stage(context, false)
  await configs.reconcile()
  const hindrance = configs.inForce?.hindered.get('shop/desk')
  assert.equal(hindrance?.reason, 'NoStore')
  assert.match(hindrance.message, /the budget is not in force, and new pods wait until it is$/)
  assert.deepEqual(outcomes, ['written'])
})

test('what is right is not written again; what somebody changed is put right with the same version, by a clock that was set back too', async (context) => {
  const { server, cluster, configs, outcomes, setNow } = await stage(context)
  await configs.reconcile()
  await configs.reconcile()
  const cached = (): string | undefined => cluster.configMaps.get(`shop/${CONFIG_MAP}`)?.object.metadata.resourceVersion
  const caughtUp = (): Promise<unknown> =>
    waitFor('the cache', () => cached() === server.read(CONFIG_MAPS, CONFIG_MAP, 'shop')?.metadata.resourceVersion)
  await caughtUp()
  await configs.reconcile()
  assert.deepEqual(outcomes, ['written'])
  const before = server.read(CONFIG_MAPS, CONFIG_MAP, 'shop')
  assert.ok(before !== undefined)
  server.put(CONFIG_MAPS, CONFIG_MAP, {
    namespace: 'shop',
    fields: { metadata: before.metadata, data: { 'config.json': '{}', 'ca.crt': 'another' } },
  })
  await caughtUp()
  setNow(10)
  await configs.reconcile()
  assert.deepEqual(server.read(CONFIG_MAPS, CONFIG_MAP, 'shop')?.['data'], before['data'])
  assert.deepEqual(outcomes, ['written', 'reverted'])
  assert.equal(configs.inForce?.configs.get('shop/desk')?.version, 1_000)
})

test('whoever keeps writing what we write is answered five times, and then every ten seconds', async (context) => {
  const { server, cluster, configs, outcomes, setNow } = await stage(context)
  await configs.reconcile()
  const cached = (): string | undefined => cluster.configMaps.get(`shop/${CONFIG_MAP}`)?.object.metadata.resourceVersion
  const meddle = async (): Promise<void> => {
    const now = server.read(CONFIG_MAPS, CONFIG_MAP, 'shop')
    assert.ok(now !== undefined)
    const data = { ...(now['data'] as object), 'ca.crt': 'of another installation' }
    const { resourceVersion } = server.put(CONFIG_MAPS, CONFIG_MAP, {
      namespace: 'shop',
      fields: { metadata: now.metadata, data },
    }).metadata
    await waitFor('the cache', () => cached() === resourceVersion)
  }
  const reverted = (): number => outcomes.filter((outcome) => outcome === 'reverted').length
  for (let turn = 1; turn <= 5; turn += 1) {
    await meddle()
    assert.equal(await configs.reconcile(), undefined)
    assert.equal(reverted(), turn)
  }
  await meddle()
  assert.deepEqual(await configs.reconcile(), { againAfterMs: 10_000 })
  assert.equal(configs.inForce?.hindered.get('shop/desk')?.reason, 'Contested')
  assert.equal(reverted(), 5)
  setNow(11_000)
  assert.equal(await configs.reconcile(), undefined)
  assert.equal(reverted(), 6)
  assert.equal(configs.inForce?.hindered.size, 0)
})
