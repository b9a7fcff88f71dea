/** Our kinds in a real API server, as people and controllers meet them: what may change, who may write what, and what `kubectl` shows. */
import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe } from 'node:test'
import { checkChange, checkObject } from '@farebox/crds/check.ts'
import type { FareboxObject } from '@farebox/crds/check.ts'
import { SKIP_REASONS } from '@farebox/crds/cluster.ts'
import type { ConversationBudget, ConversationBudgetStatus } from '@farebox/crds/conversation-budget.ts'
import type { PricingTier } from '@farebox/crds/pricing-tier.ts'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { compile } from '../../operator/src/core/compile.ts'
import type { Compiled } from '../../operator/src/core/compile.ts'
import { apply, DEFINITIONS, install, pathOf, pathOfOne } from './api.ts'
import type { Refusal } from './api.ts'
import { book, budget, NAMESPACE, tier } from './cases.ts'
import type { Manifest } from './cases.ts'
import { withOwnCluster } from './own-cluster.ts'

const EXAMPLES = new URL('../../examples/', import.meta.url).pathname
const OPENAI = { name: 'openai', baseURL: 'https://api.openai.com/v1' }
const ALL = 'pricingtiers,pricebooks,conversationbudgets'

const { cluster, test } = withOwnCluster([NAMESPACE, 'support', 'assistant'])
const folder = mkdtempSync(join(tmpdir(), 'farebox-crd-'))
after(() => rmSync(folder, { recursive: true, force: true }))

/** A test that finds none of our objects. */
function cleanTest(name: string, body: () => Promise<void>): void {
  test(name, async () => {
    await cluster().kubectl(['delete', ALL, '--all', '--all-namespaces'])
    await body()
  })
}

async function create(object: Manifest): Promise<void> {
  const { status, body } = await cluster().request<Refusal>({
    method: 'POST',
    path: `${pathOf(object)}?fieldValidation=Strict`,
    body: object,
  })
  assert.equal(status, 201, body.message)
}

/** As a controller reads it. */
async function read(object: Manifest): Promise<FareboxObject> {
  const { body } = await cluster().request({ path: pathOfOne(object) })
  const checked = checkObject(body)
  assert.ok(checked.status === 'ok', JSON.stringify(checked))
  return checked.value
}

async function readBudget(): Promise<ConversationBudget> {
  const object = await read(budget())
  assert.ok(object.kind === 'ConversationBudget')
  return object
}

const merge = (object: Manifest, body: object, subresource: '/status' | '' = '') =>
  cluster().request<Refusal>({ method: 'PATCH', path: `${pathOfOne(object)}${subresource}?fieldValidation=Strict`, body })

async function compiled(previous: ReadonlyMap<string, SidecarConfig>): Promise<Compiled> {
  const listed = async (kind: Manifest['kind']): Promise<readonly FareboxObject[]> => {
    const { body } = await cluster().request<{ readonly items: readonly object[] }>({ path: pathOf({ kind, metadata: {} }) })
    return body.items.map((item) => {
      const checked = checkObject(item)
      assert.ok(checked.status === 'ok')
      return checked.value
    })
  }
  const tiers = (await listed('PricingTier')).filter((object): object is PricingTier => object.kind === 'PricingTier')
  const budgets = (await listed('ConversationBudget')).filter(
    (object): object is ConversationBudget => object.kind === 'ConversationBudget',
  )
  return compile({ tiers, budgets, priceBooks: [] }, { nowMs: Date.now(), previous })
}

describe('what may change', () => {
  cleanTest('T58: a currency is refused another, by the API server and by lint in the same words', async () => {
    const before = tier({ currency: 'EUR' })
    await create(before)
    for (const [spec, from, to] of [
      [{ currency: 'USD' }, before, tier({ currency: 'USD' })],
      [{ currency: null }, before, tier()], // left out: the default takes its place
    ] as const) {
      const { status, body } = await merge(before, { spec })
      assert.equal(status, 422)
      assert.deepEqual(
        body.details?.causes?.map(({ field, message }) => `${field}: ${message}`),
        ['spec.currency: Invalid value: "USD": currency cannot be changed: create another tier'],
      )
      const [earlier, later] = [checkObject(from), checkObject(to)]
      assert.ok(earlier.status === 'ok' && later.status === 'ok')
      assert.deepEqual(checkChange(earlier.value, later.value), [
        { field: 'spec.currency', message: 'currency cannot be changed: create another tier' },
      ])
    }
    assert.equal((await merge(before, { spec: { displayName: 'Other', pricing: { price: '3.00' } } })).status, 200, 'all else can be')
    await cluster().kubectl(['delete', 'ptier', 'pro'])
    await create(tier({ currency: 'USD' }))
  })

  cleanTest(
    'T54: what only compile can refuse is accepted by the API server, keeps the old config, and is ready once it is put right',
    async () => {
      await create(tier())
      await create(budget())
      const first = await compiled(new Map())
      const config = first.configs.get(`${NAMESPACE}/desk`)
      assert.ok(config !== undefined)
      await writeStatuses(first)

      const spoiled = await merge(tier(), { spec: { unitEconomics: { otherCost: '0.60' } } })
      assert.equal(spoiled.status, 200, 'CEL has no decimals')
      const second = await compiled(first.configs)
      assert.deepEqual([...second.configs], [])
      await writeStatuses(second)
      assert.match(await shown('ptier'), /^pro .* False +MarginLeavesNothing +\S+$/m)
      const kept = await readBudget()
      assert.deepEqual(kept.status?.config, { version: config.version, hash: config.hash })
      assert.deepEqual(
        kept.status?.conditions?.map(({ type, status, reason }) => `${type} ${status} ${reason}`),
        [
          'Accepted False TierNotAccepted',
          'Programmed False NotAccepted',
          'Ready False TierNotAccepted',
          'Reconciling True TierNotAccepted',
        ],
      )

      await merge(tier(), { spec: { unitEconomics: { otherCost: '0.10' } } })
      const third = await compiled(first.configs)
      await writeStatuses(third)
      assert.match(await shown('ptier'), /^pro .* True +Ready +\S+$/m)
      assert.deepEqual(
        (await readBudget()).status?.conditions?.map(({ type, status }) => `${type} ${status}`),
        ['Accepted True', 'Programmed True', 'Ready True'],
        'what was abnormal is gone',
      )
    },
  )

  cleanTest(
    'T57: an object that was stored before a rule came can be read, labelled and edited elsewhere, but not made wrong anew',
    async () => {
      const path = join(folder, 'looser.yaml')
      const definition = readFileSync(join(DEFINITIONS, 'farebox.dev_conversationbudgets.yaml'), 'utf8')
      const rule = /rule: '!has\(self\.after\)[^\n]*|rule: >-\n\s+!has\(self\.after\)[\s\S]*?(?=\n\s+message)/
      assert.match(definition, rule)
      const limits = /\n +limits:[\s\S]*?maxItems: 8/
      assert.match(definition, limits)
      writeFileSync(
        path,
        definition.replace(rule, "rule: 'true'").replace(limits, (text) => text.replace(/8$/, '9')),
      )
      await install(cluster(), path)
      const old = budget({
        onStale: { after: '10s' },
        limits: Array.from({ length: 9 }, (_, index) => ({ amount: `${index + 1}`, period: { unit: 'Day' } })),
      })
      await create(old)
      await install(cluster())

      assert.equal((await merge(old, { metadata: { labels: { team: 'a' } } })).status, 200)
      assert.equal((await merge(old, { spec: { mode: 'Observe' } })).status, 200, 'another field')
      assert.equal((await merge(old, { status: { observedGeneration: 1 } }, '/status')).status, 200, 'its status')
      const worse = await merge(old, { spec: { onStale: { after: '20s' } } })
      assert.equal(worse.status, 422)
      assert.match(worse.body.message, /spec\.onStale\.after: Invalid value: must be at least 1m/)
      assert.equal((await merge(old, { spec: { onStale: { after: '5m' }, limits: [] } })).status, 200, 'put right')
      assert.equal((await readBudget()).spec.mode, 'Observe')
    },
  )
})

describe('who writes what', () => {
  cleanTest('T59: two field managers apply items of one list side by side, and neither takes what is the other’s', async () => {
    const by = (manager: string, spec: object) =>
      apply(
        cluster(),
        { ...budget(), spec: { selector: { matchLabels: { app: 'desk' } }, tier: { default: 'pro' }, ...spec } },
        { manager },
      )
    const house = { name: 'house', baseURL: 'http://vllm.models:8000/v1' }
    assert.equal((await by('platform', { upstreams: [OPENAI], injection: { excludeContainers: ['log-shipper'] } })).status, 201)
    assert.equal((await by('team', { upstreams: [house], injection: { excludeContainers: ['proxy'] } })).status, 200)
    const both = await readBudget()
    assert.deepEqual(
      both.spec.upstreams.map(({ name }) => name),
      ['openai', 'house'],
    )
    assert.deepEqual(both.spec.injection.excludeContainers, ['log-shipper', 'proxy'])

    const taken = await by('team', { upstreams: [{ ...OPENAI, baseURL: 'https://elsewhere.example.com/v1' }] })
    assert.equal(taken.status, 409)
    assert.match(taken.body.message, /conflict with "platform".*upstreams\[name="openai"\]\.baseURL/s)

    assert.equal((await by('team', {})).status, 200)
    assert.deepEqual(
      (await readBudget()).spec.upstreams.map(({ name }) => name),
      ['openai'],
      'a manager takes back its own',
    )
  })

  cleanTest('T59: notices of a tier merge by occasion, alerts one by one, and a ladder is one thing', async () => {
    const by = (manager: string, spec: object) => apply(cluster(), tier(spec), { manager })
    const say = (occasion: string) => ({ notices: { texts: [{ occasion, text: { en: occasion } }] } })
    const ladder = [{ atPercent: 100, rung: 'EndConversation', end: 'Close' }]
    assert.equal((await by('product', { ...say('End'), alerts: [50], ladder })).status, 201)
    assert.equal((await by('legal', { ...say('Summarize'), alerts: [95] })).status, 200)
    const both = await read(tier())
    assert.ok(both.kind === 'PricingTier')
    assert.deepEqual(
      both.spec.notices.texts.map(({ occasion }) => occasion),
      ['End', 'Summarize'],
    )
    assert.deepEqual(
      both.spec.alerts.toSorted((a, b) => a - b),
      [50, 95],
    )
    const other = await by('legal', { ladder: [{ atPercent: 90, rung: 'RefuseTools' }] })
    assert.equal(other.status, 409, 'its order is its meaning')
    assert.match(other.body.message, /conflict with "product".*\.spec\.ladder/s)
  })

  cleanTest(
    'an author cannot write a status, nor a controller a spec by it; conditions of two controllers stand side by side',
    async () => {
      await create({ ...budget(), status: { observedGeneration: 7 } })
      assert.equal((await readBudget()).status, undefined)
      const { body: written } = await cluster().request<Manifest>({ path: pathOfOne(budget()) })
      assert.equal(written.metadata['generation'], 1)

      const at = '2026-11-24T12:00:00Z'
      const saying = (manager: string, type: string) => {
        const { apiVersion, kind, metadata } = budget()
        const status = { conditions: [{ type, status: 'True', reason: type, message: '', lastTransitionTime: at }] }
        return apply(cluster(), { apiVersion, kind, metadata, status }, { manager, subresource: '/status' })
      }
      assert.equal((await saying('farebox-status', 'Accepted')).status, 200)
      assert.equal((await saying('another', 'Checked')).status, 200)
      assert.deepEqual(
        (await readBudget()).status?.conditions?.map(({ type }) => type),
        ['Accepted', 'Checked'],
      )

      await merge(budget(), { spec: { mode: 'Observe' }, status: { observedGeneration: 2 } }, '/status')
      const { spec, metadata, status } = await readBudget()
      assert.deepEqual([spec.mode, metadata.generation, status?.observedGeneration], ['Enforce', 1, 2], 'a status moves no generation')
      await merge(budget(), { spec: { mode: 'Observe' } })
      assert.equal((await readBudget()).metadata.generation, 2)
    },
  )

  cleanTest('a status that says all it may is taken as it is; one out of bounds is refused', async () => {
    await create(budget())
    const { status, body } = await merge(budget(), { status: STATUS }, '/status')
    assert.equal(status, 200, body.message)
    assert.deepEqual((await readBudget()).status, STATUS)
    const bytes = JSON.stringify(STATUS).length
    assert.ok(bytes < 16 * 1_024, `${bytes} bytes`)

    for (const [wrong, field] of [
      [{ workloads: { ...STATUS.workloads, matched: -1 } }, 'status.workloads.matched'],
      [{ workloads: { ...STATUS.workloads, skipped: { Forgotten: 1 } } }, 'status.workloads.skipped'],
      [
        { workloads: { ...STATUS.workloads, worst: Array.from({ length: 17 }, () => STATUS.workloads?.worst?.[0]) } },
        'status.workloads.worst',
      ],
      [{ spend: { spent: '1', held: '0', today: '1e3' } }, 'status.spend.today'],
      [{ alerts: { 101: 1 } }, 'status.alerts'],
    ] as const) {
      const refused = await merge(budget(), { status: wrong }, '/status')
      assert.equal(refused.status, 422, field)
      assert.ok(
        refused.body.details?.causes?.some((cause) => cause.field === field),
        refused.body.message,
      )
    }
  })
})

describe('kubectl', () => {
  cleanTest('applies every example, strictly; a second time nothing is changed', async () => {
    const names = readdirSync(EXAMPLES)
    assert.ok(names.length >= 3, names.join(', '))
    for (const name of names) {
      const { stdout } = await cluster().kubectl(['apply', '--validate=strict', '--filename', join(EXAMPLES, name)])
      assert.match(stdout, / created$/m)
      const again = await cluster().kubectl(['apply', '--validate=strict', '--filename', join(EXAMPLES, name)])
      assert.doesNotMatch(again.stdout, / (created|configured)$/m, 'nor does a tool that merges by itself find a difference')
      assert.equal((await cluster().kubectl(['diff', '--filename', join(EXAMPLES, name)])).stdout, '')
    }
  })

  cleanTest('refuses unknown fields where it is strict, which it is by itself; where it is not, they are left out', async () => {
    const input = JSON.stringify(
      budget({ mode: 'Observe', onStael: { after: '1h' }, selector: { matchLabels: { app: 'desk' }, matchLabel: {} } }),
    )
    for (const flags of [['--validate=strict'], []]) {
      const { code, stderr } = await cluster().kubectl(['apply', ...flags, '--filename', '-'], { input, mayFail: true })
      assert.notEqual(code, 0)
      assert.match(stderr, /strict decoding error: unknown field "spec\.onStael", unknown field "spec\.selector\.matchLabel"/)
    }
    const warned = await cluster().kubectl(['apply', '--validate=warn', '--filename', '-'], { input })
    assert.match(warned.stderr, /Warning: unknown field "spec\.onStael"/)
    const { body } = await cluster().request<Manifest>({ path: pathOfOne(budget()) })
    assert.equal(Object.hasOwn(body['spec'] as object, 'onStael'), false)
  })

  cleanTest('says what a rule wants in a line of its own', async () => {
    const input = JSON.stringify(budget({ store: { kind: 'Embedded', redis: { secretRef: { name: 'a', key: 'b' } } } }))
    const { stderr } = await cluster().kubectl(['apply', '--filename', '-'], { input, mayFail: true })
    assert.equal(
      stderr.trim(),
      'The ConversationBudget "desk" is invalid: spec.store.redis: Invalid value: goes with the kind Shared alone: the books of Embedded are in the pod',
    )
  })

  cleanTest('shows at a glance what runs, what it cost and whether it is in force', async () => {
    await create(tier())
    await create(budget())
    await create(book({ entries: [] }))
    await merge(budget(), { status: STATUS }, '/status')
    await merge(
      tier(),
      {
        status: {
          derived: { perConversation: '0.50' },
          boundBudgets: 1,
          margin: { targetPercent: 70, realisedPercent: -4 },
          conditions: READY,
        },
      },
      '/status',
    )
    await merge(book(), { status: { entries: 0, conditions: READY } }, '/status')
    assert.deepEqual(columns(await shown('ptier')), [
      'NAME MODEL PRICE CURRENCY MARGIN REALISED CAP BUDGETS READY REASON AGE',
      'pro PerConversation 2.00 USD 70 -4 0.50 1 True Ready AGE',
    ])
    assert.deepEqual(columns(await shown('cbudget', '--namespace', NAMESPACE)), [
      'NAME TIER MODE CONVERSATIONS SPENT AT100 INJECTED READY REASON AGE',
      'desk pro Enforce 1200 310.40 12 5 True Ready AGE',
    ])
    assert.deepEqual(columns(await shown('cbudget', '--namespace', NAMESPACE, '--output=wide')), [
      'NAME TIER ALSO MODE CONVERSATIONS SPENT TODAY HELD LIMITUSED DEAREST AT100 MATCHED INJECTED INSYNC OUTDATED UNKNOWNMODELS CONFIG READY REASON AGE',
      'desk pro [] Enforce 1200 310.40 -0.10 0.20 62 0.50 12 6 5 4 1 Ceiling 0123456789abcdef True Ready AGE',
    ])
    assert.deepEqual(columns(await shown('pbook')), ['NAME PRICES READY REASON AGE', 'house 0 True Ready AGE'])
  })

  cleanTest('finds them by short name, by kind and by category, and explains each field', async () => {
    await create(tier())
    await create(budget())
    await create(book())
    for (const [name, count] of [
      ['ptier', 1],
      ['cbudget', 1],
      ['pbook', 1],
      ['pricingtier', 1],
      ['ConversationBudget', 1],
      ['ptier,cbudget', 2],
      ['farebox', 3],
      ['ai', 3],
    ] as const) {
      const { stdout } = await cluster().kubectl(['get', name, '--all-namespaces', '--output=name'])
      assert.equal(stdout.trim().split('\n').length, count, name)
    }
    const { stdout } = await cluster().kubectl(['explain', 'cbudget.spec.onStale.after'])
    assert.match(stdout, /How long a sidecar must not have been told what is in force/)
  })

  cleanTest('a cap that is used up leaves a budget ready, and what waits or is stuck is said in the words of kstatus', async () => {
    await create(tier())
    await create(budget())
    await writeStatuses(await compiled(new Map()))
    await cluster().kubectl(['wait', '--for=condition=Ready', 'cbudget/desk', `--namespace=${NAMESPACE}`, '--timeout=5s'])
    await cluster().kubectl(['delete', 'ptier', 'pro'])
    await writeStatuses(await compiled(new Map()))
    await cluster().kubectl(['wait', '--for=condition=Reconciling', 'cbudget/desk', `--namespace=${NAMESPACE}`, '--timeout=5s'])
  })
})

const READY = [{ type: 'Ready', status: 'True', reason: 'Ready', message: 'in force', lastTransitionTime: '2026-11-24T12:00:00Z' }] as const

/** Everything, up to its bounds where that is a matter of length. */
const STATUS: ConversationBudgetStatus = {
  observedGeneration: 1,
  conditions: [...READY],
  config: { version: 1_795_521_600_000, hash: '0123456789abcdef' },
  workloads: {
    matched: 6,
    injected: 5,
    inSync: 4,
    outdated: 1,
    nacked: 1,
    stale: 0,
    skipped: Object.fromEntries(SKIP_REASONS.map((reason) => [reason, 1])),
    worst: Array.from({ length: 16 }, (_, index) => ({
      pod: `${'p'.repeat(250)}-${index % 10}`,
      trouble: 'Nacked',
      message: 'm'.repeat(200),
    })),
  },
  conversations: { total: 1_200, turns: 9_000, byRung: { None: 1_100, Summarize: 100 } },
  spend: { spent: '310.40', held: '0.20', today: '-0.10' },
  limits: [{ period: 'Month UTC', amount: '500.00', since: '2026-11-01', spent: '310.40', held: '0.20', usedPercent: 62 }],
  cost: { max: '0.50' },
  alerts: { 70: 100, 90: 40, 100: 12 },
  resolutions: { started: 10, confirmed: 5, reversed: 1 },
  tiers: [
    {
      tier: 'pro',
      conversations: { total: 1_200, turns: 9_000, byRung: { None: 1_200 } },
      spend: { spent: '310.40', held: '0.20' },
      cost: { p50: '0.20', p95: '0.40', p99: '0.45', max: '0.50' },
      alerts: { 100: 12 },
      resolutions: { started: 10, confirmed: 5, reversed: 1, costPer: '0.30' },
      margin: { targetPercent: 70, realisedPercent: -4 },
    },
  ],
}

/** As the operator does: whole, by one field manager. */
async function writeStatuses({ statuses }: Compiled): Promise<void> {
  for (const object of [tier(), budget()]) {
    const { apiVersion, kind, metadata } = object
    const status = statuses.get(kind === 'PricingTier' ? `${kind}/pro` : `${kind}/${NAMESPACE}/desk`)
    if (status === undefined) continue
    const written = await apply(
      cluster(),
      { apiVersion, kind, metadata, status },
      { manager: 'farebox-status', force: true, subresource: '/status' },
    )
    assert.equal(written.status, 200, written.body.message)
  }
}

async function shown(...args: readonly string[]): Promise<string> {
  return (await cluster().kubectl(['get', ...args])).stdout
}

/** Lines with one space between their columns; the last column of all but the first is an age. */
function columns(table: string): readonly string[] {
  const [head = '', ...rows] = table.trimEnd().split('\n')
  return [head, ...rows.map((row) => row.trimEnd().replace(/\S+$/, 'AGE'))].map((line) => line.trimEnd().replaceAll(/ +/g, ' '))
}
