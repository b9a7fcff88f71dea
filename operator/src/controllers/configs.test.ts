import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { waitFor } from '../../../test/support/wait-for.ts'
import type { FakeApiServer } from '../../../test/kube/fake-api-server.ts'
import { putDesk, putTier, stageCluster } from '../../../test/kube/staged-cluster.ts'
import type { ConversationBudgetStatus } from '@farebox/crds/conversation-budget.ts'
import { canonicalJson, contentHash } from '../core/canonical.ts'
import { reportOf } from '../core/reports.testing.ts'
import { ReportBook } from '../delivery/report-book.ts'
import { CONFIG_MAPS, CONVERSATION_BUDGETS, NAMESPACES, PODS, PRICE_BOOKS, PRICING_TIERS } from '../kube/resources.ts'
import { createLog } from '../telemetry/log.ts'
import type { Cluster } from './cluster.ts'
import { Configs } from './configs.ts'
import type { KnownConfigMap } from './known.ts'

const CONFIG_MAP = 'farebox-config-desk'
const BUDGETS = 30

interface Stage {
  readonly server: FakeApiServer
  readonly cluster: Cluster
  readonly configs: Configs
  readonly outcomes: string[]
  readonly setNow: (nowMs: number) => void
  /** What sidecars are to trust from now on. */
  readonly setTrust: (ca: string | null) => void
  /** What pods say. */
  readonly reports: ReportBook
  /** As a replica that was just started has it. */
  readonly afresh: () => Configs
}

async function stage(context: TestContext, hasStore = true): Promise<Stage> {
  const { server, kube, cluster } = await stageCluster(context, (empty) => {
    putTier(empty, 'pro')
    putDesk(empty, 'shop')
  })
  const outcomes: string[] = []
  let nowMs = 1_000
  let trust: string | null = 'a certificate'
  const reports = new ReportBook()
  const afresh = (): Configs =>
    new Configs({
      cluster,
      client: kube,
      reports,
      trust: () => trust,
      hasStore,
      nowMs: () => nowMs,
      steadyMs: () => nowMs,
      log: createLog('silent'),
      onOutcome: (outcome) => outcomes.push(outcome),
    })
  return { server, cluster, configs: afresh(), outcomes, setNow: (ms) => (nowMs = ms), setTrust: (ca) => (trust = ca), reports, afresh }
}

/** With these no config map holds a config. */
async function putTooMuch({ server, cluster }: Stage): Promise<void> {
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
}

function statusOf({ inForce }: Configs): ConversationBudgetStatus {
  const status: ConversationBudgetStatus | undefined = inForce?.compiled.statuses.get('ConversationBudget/shop/desk')
  assert.ok(status !== undefined)
  return status
}

/** Makes each reading of a cached config take this long; says how many there were, and the most in one turn of the event loop. */
function slowReads(
  context: TestContext,
  { configMaps }: Cluster,
  readMs: number,
): { readonly all: () => number; readonly most: () => number } {
  const [real, known] = [configMaps.get.bind(configMaps), new WeakMap<object, KnownConfigMap>()]
  let [all, inTurn, most] = [0, 0, 0]
  const slow = (map: KnownConfigMap): KnownConfigMap => {
    let isRead = false
    return Object.create(map, {
      config: {
        get: () => {
          if (isRead) return map.config
          isRead = true
          all += 1
          if ((inTurn += 1) === 1) setImmediate(() => (inTurn = 0))
          most = Math.max(most, inTurn)
          const untilMs = performance.now() + readMs
          while (performance.now() < untilMs);
          return map.config
        },
      },
    }) as KnownConfigMap
  }
  context.mock.method(configMaps, 'get', (key: string) => {
    const map = real(key)
    if (map === undefined) return undefined
    const told = known.get(map) ?? slow(map)
    known.set(map, told)
    return told
  })
  return { all: () => all, most: () => most }
}

test('what it wrote itself it never reads again; what another leader wrote it reads a few at a time, so that admissions do not wait for all', async (context) => {
  const { server, cluster, configs, setNow, afresh } = await stage(context)
  for (let index = 1; index < BUDGETS; index += 1) putDesk(server, `shop${index}`)
  await waitFor('the budgets', () => cluster.snapshot().budgets.length === BUDGETS)
  const reads = slowReads(context, cluster, 5)
  for (const price of ['1.00', '2.00', '3.00']) {
    const entries = [{ provider: 'openai', model: 'ours', input: price, output: '9.00' }]
    server.put(PRICE_BOOKS, 'book', { fields: { spec: { entries } } })
    await waitFor('the book', () => JSON.stringify([...cluster.books.values()]).includes(`"${price}"`))
    setNow(Number(price) * 1_000)
    await configs.reconcile()
    await configs.reconcile() // some of it may still be on its way back
    const inForce = [...(configs.inForce?.configs.values() ?? [])]
    assert.deepEqual(
      inForce.map(({ version }) => version),
      inForce.map(() => Number(price) * 1_000),
    )
    const hashes = new Set(inForce.map(({ hash }) => hash))
    await waitFor(
      'the config maps',
      () => [...cluster.configMaps.values()].filter(({ name }) => hashes.has(name?.hash ?? '')).length === BUDGETS,
    )
    await configs.reconcile()
    assert.deepEqual([...(configs.inForce?.configs.values() ?? [])], inForce)
  }
  assert.equal(reads.all(), 0)

  const next = afresh()
  await next.reconcile()
  assert.equal(reads.all(), BUDGETS)
  assert.ok(reads.most() <= 2, `${reads.most()} at once`)
  assert.deepEqual(next.inForce?.configs, configs.inForce?.configs)
})

test('a config that no config map can hold is not sent, and said; the one before stays', async (context) => {
  const staged = await stage(context)
  const { server, configs, outcomes } = staged
  await configs.reconcile()
  const before = server.read(CONFIG_MAPS, CONFIG_MAP, 'shop')
  const inForce = configs.inForce?.configs.get('shop/desk')
  assert.ok(before !== undefined && inForce !== undefined)
  await putTooMuch(staged)
  await configs.reconcile()
  assert.deepEqual(server.read(CONFIG_MAPS, CONFIG_MAP, 'shop'), before)
  const hindrance = configs.inForce?.hindered.get('shop/desk')
  assert.equal(hindrance?.reason, 'TooLarge')
  assert.match(hindrance.message, /^the config has 1\d{6} bytes, and a ConfigMap holds 1048512: take prices that nobody needs out/)
  assert.deepEqual(outcomes, ['written', 'failed'])
  assert.deepEqual(configs.inForce?.configs.get('shop/desk'), inForce)
  assert.deepEqual(statusOf(configs).config, { version: 1_000, hash: inForce.hash })
})

test('where the first config cannot be written none is in force, and status names none', async (context) => {
  const staged = await stage(context)
  const { configs } = staged
  await putTooMuch(staged)
  await configs.reconcile()
  assert.equal(configs.inForce?.hindered.get('shop/desk')?.reason, 'TooLarge')
  assert.equal(configs.inForce.configs.size, 0)
  assert.equal(statusOf(configs).config, undefined)
})

test('a config that a config map cannot hold beside what sidecars are to trust is said to be too large', async (context) => {
  const { server, configs, setTrust } = await stage(context)
  const most = 1_048_512
  setTrust('x'.repeat(most - 100))
  await configs.reconcile()
  const hindrance = configs.inForce?.hindered.get('shop/desk')
  assert.equal(hindrance?.reason, 'TooLarge')
  assert.equal(server.read(CONFIG_MAPS, CONFIG_MAP, 'shop'), undefined)
})

test('nothing is written into a namespace that goes', async (context) => {
  const { server, cluster, configs, outcomes } = await stage(context)
  server.put(NAMESPACES, 'shop', { fields: { metadata: { name: 'shop', deletionTimestamp: '2026-11-24T12:00:00Z' } } })
  await waitFor('the namespace to go', () => cluster.isGoing('shop'))
  await configs.reconcile()
  assert.equal(server.read(CONFIG_MAPS, CONFIG_MAP, 'shop'), undefined)
  assert.deepEqual([outcomes, configs.inForce?.hindered.size], [[], 0])
})

test('a budget that was deleted and made again goes on from no config of the one before', async (context) => {
  const staged = await stage(context)
  const { server, cluster, configs, outcomes, setNow } = staged
  const makeAgain = async (): Promise<void> => {
    const uid = (): string | undefined => cluster.budgets.get('shop/desk')?.object.metadata.uid
    const before = uid()
    server.remove(CONVERSATION_BUDGETS, 'desk', 'shop')
    putDesk(server, 'shop')
    await waitFor('the budget as it is now', () => uid() !== undefined && uid() !== before)
  }
  await configs.reconcile()
  await cacheOf(staged)
  await makeAgain()
  await configs.reconcile()
  assert.deepEqual(outcomes, ['written', 'written'], 'nobody wrote into its config')
  await cacheOf(staged)
  await makeAgain()
  setNow(2_000)
  await configs.reconcile()
  assert.equal(configs.inForce?.configs.get('shop/desk')?.version, 2_000)
})

test('a config that the API server refuses is told apart from one that it merely did not take now', async (context) => {
  const { server, configs } = await stage(context)
  const answers = async (code: number): Promise<string | undefined> => {
    server.fault = ({ method, path }) => (method === 'PATCH' && path.includes('/configmaps/') ? { code } : null)
    await assert.rejects(configs.reconcile(), /^Error: 1 configs could not be written/)
    return configs.inForce?.hindered.get('shop/desk')?.reason
  }
  for (const code of [403, 422, 400, 413]) assert.equal(await answers(code), 'WriteRefused', String(code))
  for (const code of [401, 409]) assert.equal(await answers(code), 'NotWritten', String(code))
  server.fault = () => null
  await configs.reconcile()
  assert.equal(configs.inForce?.hindered.size, 0)
})

/** Of a later version: one field more, which is passed over, or a value that is not known here. */
const OF_LATER = [
  [{ fieldOfLater: '1.00' }, /^the last good config stays in force$/],
  [{ mode: 'ModeOfLater' }, /^the last config stays in force, which another version wrote/],
] as const

test('a config of a later version stays in force while what it was compiled from cannot be read, and sidecars are told it', async (context) => {
  for (const [later, words] of OF_LATER) await staysInForce(context, later, words)
})

async function staysInForce(context: TestContext, later: object, words: RegExp): Promise<void> {
  const { server, cluster, configs, afresh } = await stage(context)
  await configs.reconcile()
  const before = server.read(CONFIG_MAPS, CONFIG_MAP, 'shop')
  assert.ok(before !== undefined)
  const data = before['data'] as Record<string, string>
  const { hash: _, version, ...content } = JSON.parse(data['config.json'] ?? '') as Record<string, unknown>
  const ofLater = { ...content, ...later }
  const hash = contentHash(ofLater)
  const write = async (text: string): Promise<void> => {
    const fields = { metadata: before.metadata, data: { ...data, 'config.json': text } }
    const { resourceVersion } = server.put(CONFIG_MAPS, CONFIG_MAP, { namespace: 'shop', fields }).metadata
    await waitFor('the cache', () => cluster.configMaps.get(`shop/${CONFIG_MAP}`)?.object.metadata.resourceVersion === resourceVersion)
  }
  const pod = { namespace: 'shop', name: 'a', uid: 'a', serviceAccount: 'default' }
  server.put(PODS, 'a', { namespace: 'shop', fields: { metadata: { name: 'a', namespace: 'shop', uid: 'a', labels: { app: 'desk' } } } })
  server.put(PRICE_BOOKS, 'list', { fields: { spec: { entries: [], fieldOfLater: true } } })
  await waitFor('the book and the pod', () => cluster.books.size === 1 && cluster.pods.size === 1)
  await write(canonicalJson({ ...ofLater, version, hash }))
  assert.partialDeepStrictEqual(cluster.configFor(pod), { status: 'governed', config: { version, hash } })
  const rolledBack = afresh()
  await rolledBack.reconcile()
  assert.deepEqual(statusOf(rolledBack).config, { version, hash })
  const { message } = statusOf(rolledBack).conditions?.find(({ type }) => type === 'Programmed') ?? {}
  assert.match(message ?? '', words)

  server.remove(PRICE_BOOKS, 'list')
  await waitFor('the book to be gone', () => cluster.books.size === 0)
  await rolledBack.reconcile()
  assert.equal(statusOf(rolledBack).config?.version, Number(version) + 1, 'what replaces it is later, by whatever clock')

  await write(canonicalJson({ ...ofLater, mode: 'Observe', version, hash }))
  assert.deepEqual(cluster.configFor(pod), { status: 'pending' }, 'one whose hash is of another content is told nobody')
}

test('after a rollback a config with a field more is replaced once, by a later one, and not again', async (context) => {
  const staged = await stage(context)
  const { server, configs, afresh, outcomes } = staged
  await configs.reconcile()
  const { hash: _, version, ...content } = JSON.parse(dataIn(staged)?.['config.json'] ?? '') as Record<string, unknown>
  const ofLater = { ...content, fieldOfLater: '1.00' }
  const { metadata } = server.read(CONFIG_MAPS, CONFIG_MAP, 'shop') ?? {}
  const data = { ...dataIn(staged), 'config.json': canonicalJson({ ...ofLater, version, hash: contentHash(ofLater) }) }
  server.put(CONFIG_MAPS, CONFIG_MAP, { namespace: 'shop', fields: { metadata, data } })
  await cacheOf(staged)
  const rolledBack = afresh()
  const before = outcomes.length
  for (let round = 0; round < 3; round++) {
    await rolledBack.reconcile()
    await cacheOf(staged)
  }
  assert.deepEqual(outcomes.slice(before), ['written'])
  const now = JSON.parse(dataIn(staged)?.['config.json'] ?? '') as Record<string, unknown>
  assert.deepEqual([now['version'], now['fieldOfLater']], [Number(version) + 1, undefined])
})

test('a config with a field more comes back whole where somebody deletes it while its budget is refused', async (context) => {
  const staged = await stage(context)
  const { server, cluster, configs, afresh } = staged
  await configs.reconcile()
  const { hash: _, version, ...content } = JSON.parse(dataIn(staged)?.['config.json'] ?? '') as Record<string, unknown>
  const ofLater = { ...content, fieldOfLater: { deep: ['1.00'] } }
  const { metadata } = server.read(CONFIG_MAPS, CONFIG_MAP, 'shop') ?? {}
  const data = { ...dataIn(staged), 'config.json': canonicalJson({ ...ofLater, version, hash: contentHash(ofLater) }) }
  server.put(CONFIG_MAPS, CONFIG_MAP, { namespace: 'shop', fields: { metadata, data } })
  await cacheOf(staged)
  await refuseTier(staged)
  const rolledBack = afresh()
  await rolledBack.reconcile()
  server.remove(CONFIG_MAPS, CONFIG_MAP, 'shop')
  await waitFor('the config map to be gone', () => cluster.configMaps.size === 0)
  rolledBack.forget(`shop/${CONFIG_MAP}`)
  await rolledBack.reconcile()
  assert.deepEqual(dataIn(staged), data)
})

/** No budget can be made of it. */
async function refuseTier({ server, cluster }: Stage): Promise<void> {
  server.put(PRICING_TIERS, 'pro', { fields: { spec: { displayName: 'Pro', fieldOfLater: 1 } } })
  await waitFor('the tier as it is now', () => cluster.tiers.get('pro')?.checked.status === 'invalid')
}

function dataIn({ server }: Stage): Record<string, string> | undefined {
  return server.read(CONFIG_MAPS, CONFIG_MAP, 'shop')?.['data'] as Record<string, string> | undefined
}

async function cacheOf(staged: Stage): Promise<void> {
  const { server, cluster } = staged
  const now = (): string | undefined => server.read(CONFIG_MAPS, CONFIG_MAP, 'shop')?.metadata.resourceVersion
  await waitFor('the cache', () => cluster.configMaps.get(`shop/${CONFIG_MAP}`)?.object.metadata.resourceVersion === now())
}

test('T53: while a budget is refused, or its config is too large, the config that stays has the certificate of today', async (context) => {
  for (const hinder of [refuseTier, putTooMuch]) {
    const staged = await stage(context)
    const { configs, outcomes, setTrust, afresh } = staged
    await configs.reconcile()
    const before = dataIn(staged)
    await hinder(staged)
    for (const [configsNow, ca] of [
      [configs, 'another'],
      [afresh(), 'a third'],
    ] as const) {
      setTrust(ca)
      await configsNow.reconcile()
      assert.deepEqual(dataIn(staged), { ...before, 'ca.crt': ca })
      await cacheOf(staged)
      await configsNow.reconcile()
      assert.ok(!outcomes.includes('reverted'))
    }
    assert.equal(outcomes.filter((outcome) => outcome === 'written').length, 3)
    assert.equal(configs.inForce?.configs.get('shop/desk')?.version, 1_000)
  }
})

test('a certificate that is none any more is taken out, of a budget that is refused too', async (context) => {
  for (const hinder of [null, refuseTier]) {
    const staged = await stage(context)
    await staged.configs.reconcile()
    const { 'ca.crt': _, ...rest } = dataIn(staged) ?? {}
    await hinder?.(staged)
    staged.setTrust(null)
    await staged.configs.reconcile()
    assert.deepEqual(dataIn(staged), rest)
  }
})

test('a config that another version wrote keeps its text with another certificate', async (context) => {
  for (const [later, words] of OF_LATER) await keepsItsText(context, later, words)
})

async function keepsItsText(context: TestContext, later: object, words: RegExp): Promise<void> {
  const staged = await stage(context)
  const { server, configs, setTrust, afresh } = staged
  await configs.reconcile()
  const before = server.read(CONFIG_MAPS, CONFIG_MAP, 'shop')
  const { hash: _, version, ...content } = JSON.parse(dataIn(staged)?.['config.json'] ?? '') as Record<string, unknown>
  const ofLater = { ...content, ...later }
  const text = canonicalJson({ ...ofLater, version, hash: contentHash(ofLater) })
  const data = { 'config.json': text, 'ca.crt': 'a certificate' }
  server.put(CONFIG_MAPS, CONFIG_MAP, { namespace: 'shop', fields: { metadata: before?.metadata, data } })
  await cacheOf(staged)
  await refuseTier(staged)
  setTrust('another')
  const rolledBack = afresh()
  await rolledBack.reconcile()
  assert.deepEqual(dataIn(staged), { 'config.json': text, 'ca.crt': 'another' })
  await cacheOf(staged)
  await rolledBack.reconcile()
  const { message } = statusOf(rolledBack).conditions?.find(({ type }) => type === 'Programmed') ?? {}
  assert.match(message ?? '', words)
}

test('a later config of another version stays, though this operator wrote the one before', async (context) => {
  const staged = await stage(context)
  const { server, configs, setTrust } = staged
  await configs.reconcile()
  const { hash: _, version, ...content } = JSON.parse(dataIn(staged)?.['config.json'] ?? '') as Record<string, unknown>
  const ofLater = { ...content, fieldOfLater: '1.00' }
  const text = canonicalJson({ ...ofLater, version: Number(version) + 1, hash: contentHash(ofLater) })
  const { metadata } = server.read(CONFIG_MAPS, CONFIG_MAP, 'shop') ?? {}
  server.put(CONFIG_MAPS, CONFIG_MAP, { namespace: 'shop', fields: { metadata, data: { 'config.json': text, 'ca.crt': 'a certificate' } } })
  await cacheOf(staged)
  await refuseTier(staged)
  await configs.reconcile()
  assert.deepEqual(dataIn(staged), { 'config.json': text, 'ca.crt': 'a certificate' })
  setTrust('another')
  await configs.reconcile()
  assert.deepEqual(dataIn(staged), { 'config.json': text, 'ca.crt': 'another' })
})

test('a config map that somebody deletes or spoils is put back as it was, though its budget is refused meanwhile', async (context) => {
  const staged = await stage(context)
  const { server, cluster, configs, afresh } = staged
  await configs.reconcile()
  const before = dataIn(staged)
  await cacheOf(staged)
  await refuseTier(staged)
  // A leader that never wrote it has it from the cache alone.
  const later = afresh()
  for (const leading of [configs, later]) {
    await leading.reconcile()
    server.remove(CONFIG_MAPS, CONFIG_MAP, 'shop')
    await waitFor('the config map to be gone', () => cluster.configMaps.size === 0)
    leading.forget(`shop/${CONFIG_MAP}`)
    await leading.reconcile()
    assert.deepEqual(dataIn(staged), before)
    assert.equal(statusOf(leading).config?.version, 1_000)
    await cacheOf(staged)
  }
  const metadata = server.read(CONFIG_MAPS, CONFIG_MAP, 'shop')?.metadata
  server.put(CONFIG_MAPS, CONFIG_MAP, { namespace: 'shop', fields: { metadata, data: { ...before, 'config.json': '{}' } } })
  await cacheOf(staged)
  await later.reconcile()
  assert.deepEqual(dataIn(staged), before)
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

/** The config that pods have by `inForce` was compiled after the backup from which the cluster was restored. */
async function restored(
  context: TestContext,
): Promise<Stage & { readonly hash: string; readonly say: (version: number, more?: Said) => void }> {
  const staged = await stage(context)
  const { server, cluster, configs, reports } = staged
  await configs.reconcile()
  const pod = (name: string, app: string): void => {
    const metadata = { name, namespace: 'shop', uid: name, labels: { app } }
    server.put(PODS, name, { namespace: 'shop', fields: { metadata } })
  }
  pod('a', 'desk')
  pod('stranger', 'other')
  await waitFor('the caches', () => cluster.pods.size === 2 && cluster.configMaps.size === 1)
  let sequence = 0
  const say = (version: number, { pod: name = 'a', uid = name, budget = 'shop/desk', hash = 'b'.repeat(16) }: Said = {}): void => {
    const received = reportOf({ pod: name, namespace: 'shop', receivedAtMs: 0, inForce: { budget, version, hash } })
    reports.put({ ...received, pod: { ...received.pod, uid }, report: { ...received.report, sequence: (sequence += 1) } })
  }
  return { ...staged, configs: staged.afresh(), hash: configs.inForce?.configs.get('shop/desk')?.hash ?? '', say }
}

interface Said {
  readonly pod?: string
  /** As the pod's name where it is not said. */
  readonly uid?: string
  readonly budget?: string
  readonly hash?: string
}

function inForceOf(configs: Configs): readonly [version: number | undefined, hash: string | undefined] {
  const config = configs.inForce?.configs.get('shop/desk')
  return [config?.version, config?.hash]
}

test('a config of a restored backup goes beyond what sidecars have, which would refuse it as older for ever', async (context) => {
  const { server, configs, reports, hash, say, setNow } = await restored(context)
  setNow(1_500)
  await configs.reconcile()
  assert.deepEqual(inForceOf(configs), [1_000, hash])
  say(2_000)
  const [received] = reports.values()
  assert.ok(received !== undefined)
  assert.equal(configs.isBehind(received), true)
  await configs.reconcile()
  assert.deepEqual(inForceOf(configs), [2_001, hash])
  const data = server.read(CONFIG_MAPS, CONFIG_MAP, 'shop')?.['data'] as Record<string, string>
  assert.partialDeepStrictEqual(JSON.parse(data['config.json'] ?? ''), { version: 2_001, hash })
  assert.equal(configs.isBehind(received), false)
  await configs.reconcile()
  assert.deepEqual(inForceOf(configs), [2_001, hash])
})

test('sidecars that have the same config by a later version keep it: that version is its own again', async (context) => {
  const { configs, hash, say } = await restored(context)
  say(2_000, { hash })
  await configs.reconcile()
  assert.deepEqual(inForceOf(configs), [2_000, hash])
})

test('no pod that another budget governs, or none, says what is in force, nor one that names a time to come', async (context) => {
  const { configs, reports, hash, say } = await restored(context)
  say(2_000, { pod: 'stranger' })
  say(2_000, { pod: 'gone' })
  say(2_000, { uid: 'of the pod that had this name before' })
  say(1_000 + 86_400_001)
  await configs.reconcile()
  assert.deepEqual(inForceOf(configs), [1_000, hash])
  for (const received of reports.values()) assert.equal(configs.isBehind(received), false)
  say(2_000, { budget: 'shop/other' })
  await configs.reconcile()
  assert.deepEqual(inForceOf(configs), [1_000, hash])
})

test('a sidecar that tells ever later versions has its config written once a minute at most', async (context) => {
  const { configs, reports, outcomes, say, setNow } = await restored(context)
  const heard = (): boolean => [...reports.values()].some((received) => configs.isBehind(received))
  for (let second = 0; second < 60; second += 1) {
    setNow(10_000 + second * 1_000)
    say(100_000 + second * 1_000)
    await configs.reconcile()
    assert.equal(heard(), false)
  }
  assert.deepEqual([outcomes, inForceOf(configs)[0]], [['written', 'written'], 100_001])
  setNow(70_000)
  assert.equal(heard(), true)
  await configs.reconcile()
  assert.deepEqual([outcomes.length, inForceOf(configs)[0]], [3, 159_001])
})
