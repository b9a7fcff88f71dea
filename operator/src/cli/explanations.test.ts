import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { ConversationBudget } from '@farebox/crds/conversation-budget.ts'
import type { CompiledTier } from '../core/compile-tier.ts'
import { pricesOf } from '../core/price-books.ts'
import { loadManifests } from '../laptop/loaded-manifests.ts'
import type { LoadedManifests } from '../laptop/loaded-manifests.ts'
import { readManifestFolder } from '../laptop/manifest-folder.ts'
import type { Standing } from '../laptop/sidecar-client.ts'
import { explainBudget, explainConversation, explainTier } from './explanations.ts'
import type { BudgetContext } from './explanations.ts'

const EXAMPLE = fileURLToPath(new URL('../../../examples/support-desk', import.meta.url))
const NOW_MS = Date.UTC(2026, 10, 1)

async function example(change: (text: string) => string = (text) => text) {
  const files = await readManifestFolder(EXAMPLE)
  const result = loadManifests(
    files.map((file) => ({ path: file.path.slice(EXAMPLE.length + 1), text: change(file.text) })),
    { nowMs: NOW_MS },
  )
  assert.equal(result.status, 'loaded')
  return result.loaded
}

async function explainedTier(name: string, change?: (text: string) => string): Promise<string> {
  const { manifests, compiled } = await example(change)
  const tier = manifests.snapshot.tiers.find(({ metadata }) => metadata.name === name)
  const result = compiled.tiers.get(name)
  assert.ok(tier !== undefined && result !== undefined)
  return explainTier(tier, result, (field) => `${manifests.locate(`PricingTier/${name}`, field)?.file}:${field}`).join('\n')
}

/** Of the only budget that there is. */
function explainedBudget(
  { manifests: { snapshot }, compiled }: LoadedManifests,
  context: Partial<BudgetContext> = {},
  change: (budget: ConversationBudget) => ConversationBudget = (budget) => budget,
): string {
  const [budget] = snapshot.budgets
  assert.ok(budget)
  const place = (): string => 'budget.yaml:8'
  const whole = { tiers: compiled.tiers, prices: pricesOf(snapshot, NOW_MS), nowMs: NOW_MS, place, ...context }
  return explainBudget(change(budget), whole).join('\n')
}

test('explain tier goes from a price per user to the cap of a conversation and the steps of its ladder', async () => {
  const text = await explainedTier('support-seat')
  assert.match(
    text,
    /19\.00 +price per user and period\n +5\.70 +what a margin of 70 % leaves\n +-2\.70 +less other cost of revenue\n +3\.00 +for inference per user and period\n +0\.10 +over 30 expected conversations: per conversation/,
  )
  assert.match(text, /0\.10 +cap of a conversation\n +3\.00 +cap of a user and month \(Europe\/Berlin\)/)
  assert.match(text, /\n +0\.095 +2\.85 +95 %: RefuseTools\n/)
  assert.match(text, /tiers\.yaml:spec\.ladder/)
})

test('explain tier says how the ladder ends: by its last step, without a word of how, or by none', async () => {
  const ended = (ladder: string) => explainedTier('support-seat', (yaml) => yaml.replace(/ladder:\n(?: {4}- .*\n)+/, `ladder: ${ladder}\n`))
  const closed = /\n +0\.10 +3\.00 +100 %: EndConversation \(Close\): calls are answered with closing words\n/
  assert.match(await explainedTier('support-seat'), closed)
  assert.match(await ended('[{ atPercent: 100, rung: EndConversation }]'), closed)
  assert.match(
    await ended('[{ atPercent: 90, rung: EndConversation, end: Refuse }]'),
    /\n +0\.09 +2\.70 +90 %: EndConversation \(Refuse\): calls are refused with 402\n(?!.*no step)/,
  )
  const none = /\n +0\.10 +3\.00 +100 %: no step ends it: calls are refused with 402\n/
  assert.match(await ended('[{ atPercent: 70, rung: DropRetrieval }]'), none)
  const bare = await ended('[]')
  assert.match(bare, /\nno ladder: nothing is taken away below the cap\n/)
  assert.match(bare, none)
})

test('explain tier says of a cheaper model that there is none, where the tier names none', async () => {
  assert.match(await explainedTier('support-seat'), /\n +0\.09 +2\.70 +90 %: DowngradeModel\n/)
  const without = (yaml: string) => yaml.replaceAll(/    downgrades:\n {6}- .*\n/g, '')
  const idle = /\n +0\.09 +2\.70 +90 %: DowngradeModel: nothing to do, as spec\.models\.downgrades is empty\n/
  assert.match(await explainedTier('support-seat', without), idle)
})

test('the plan that README shows comes to what README says, and each step of its ladder has something to do', async () => {
  const readme = readFileSync(new URL('../../../README.md', import.meta.url), 'utf8')
  const [, text = ''] = /```yaml\n(.*?)```/s.exec(readme) ?? []
  const result = loadManifests([{ path: 'pro.yaml', text }], { nowMs: NOW_MS })
  assert.equal(result.status, 'loaded')
  const { manifests, compiled, complaints } = result.loaded
  assert.deepEqual(complaints, [])
  const [[tier], explained] = [manifests.snapshot.tiers, compiled.tiers.get('pro')]
  assert.ok(tier !== undefined && explained !== undefined)
  const lines = explainTier(tier, explained, (field) => field).join('\n')
  assert.match(lines, /0\.50 +cap of a conversation\n/)
  assert.match(lines, /90 %: DowngradeModel\n/)
  assert.doesNotMatch(lines, /nothing to do/)
})

test('explain tier names the override and the field that it comes from', async () => {
  const text = await explainedTier('support-outcome')
  assert.match(text, /0\.84 +cap of a conversation: the revenue at stake/)
  assert.match(text, /0\.20 +cap of a conversation, as spec\.budget\.perConversation says \(tiers\.yaml:spec\.budget\.perConversation\)/)
  assert.match(text, /0\.246 +target cost of a resolution/)
})

test('explain tier shows the sums of a refused tier and why it is refused', async () => {
  const text = await explainedTier('support-chat', (yaml) => yaml.replace('otherCost: "0.02"', 'otherCost: "0.14"'))
  assert.match(text, /0\.00 +for inference per conversation/)
  assert.match(text, /refused: spec\.unitEconomics\.targetGrossMarginPercent: .*nothing is left/)
})

test('explain tier says who agreed to the numbers and when, or that nobody has, of a refused tier too', async () => {
  const silent = /\nnobody has signed these numbers off: spec\.unitEconomics\.signedOff says who and when\n\n/
  assert.match(await explainedTier('support-chat'), silent)
  assert.match(await explainedTier('support-chat', (yaml) => yaml.replace('otherCost: "0.02"', 'otherCost: "0.14"')), silent)
  const signed = 'otherCost: "0.02"\n    signedOff: { by: Ada of finance, date: 2026-10-01 }'
  assert.match(
    await explainedTier('support-chat', (yaml) => yaml.replace('otherCost: "0.02"', signed)),
    /\nsigned off by Ada of finance on 2026-10-01 \(tiers\.yaml:spec\.unitEconomics\.signedOff\)\n\n/,
  )
})

test('explain tier expects of no conversation more than its cap, and says where that of its user is reached first', async () => {
  const lower = await explainedTier('support-outcome', (yaml) => yaml.replace('perConversation: "0.20"', 'perConversation: "0.01"'))
  assert.match(lower, /\n +0\.01 +cap of a conversation, as/)
  assert.doesNotMatch(lower, /expected cost of a conversation|the cap of a user is reached first/)
  const above = 'budget: { perConversation: "4.00", allowBelowMargin: Acknowledged }'
  const higher = await explainedTier('support-seat', (yaml) => yaml.replace(/expectedConversationsPerUser: 30.*\n/, `$&  ${above}\n`))
  assert.match(higher, /\nthe cap of a user is reached first, unless a conversation goes on for several periods\n/)
  assert.match(higher, /\n +0\.10 +expected cost of a conversation\n/)
  const lowUser = 'budget: { perUser: "1.50" }'
  const dry = await explainedTier('support-seat', (yaml) => yaml.replace(/expectedConversationsPerUser: 30.*\n/, `$&  ${lowUser}\n`))
  assert.match(dry, /\n +0\.05 +expected cost of a conversation\n/)
  assert.match(dry, /\nthe cap of a user holds 15 at their cap, of 30 conversations that are expected\n/)
})

test('explain tier shows the ladder of a user beside that of a conversation, where both climb it', async () => {
  const seat = await explainedTier('support-seat')
  assert.match(seat, /\nladder, by what a conversation, or its user in the period, has used \(tiers\.yaml/)
  assert.match(seat, /\n +0\.07 +2\.10 +70 %: DropRetrieval\n/)
  assert.match(seat, /\n +0\.095 +2\.85 +95 %: RefuseTools\n/)
  assert.match(await explainedTier('support-chat'), /\nladder, by what a conversation has used \(tiers\.yaml/)
})

test('explain tier says at what price the margin in status is counted', async () => {
  assert.match(await explainedTier('support-chat'), /\nthe margin that status shows is counted at the price of today, whatever/)
})

test('explain budget tells the caps of each tier, and for each model where its price comes from', async () => {
  const text = explainedBudget(await example())
  assert.match(text, /support-chat \(default\) +0\.12 USD +-/)
  assert.match(text, /support-seat +0\.10 USD +3\.00 USD /)
  assert.match(text, /openai\/gpt-4o +2\.50 +1\.25 +10\.00 +catalogue\n/)
  assert.match(text, /openai\/gpt-4o-mini +0\.15 +0\.075 +0\.60 +PriceBook our-prices\n/)
  assert.match(text, /at most 50\.00 USD each day/)
  assert.doesNotMatch(text, /anthropic\/|google\//, 'a model is shown where it has a price')
})

test('explain budget names the book whose entry counts: the exact name, then the newest day, whatever the books are called', async () => {
  const loaded = await example((yaml) => {
    if (!yaml.includes('kind: PriceBook')) return yaml
    const book = (name: string, entries: string): string =>
      `apiVersion: farebox.dev/v1alpha1\nkind: PriceBook\nmetadata: { name: ${name} }\nspec: { entries: [${entries}] }\n---\n`
    return (
      book('a-contract', `${entryOf('gpt-4o', '"2.00"', '2026-10-01')}, { provider: openai, model: gpt-4o-mini, input: "0.10" }`) +
      book('z-list', `${entryOf('gpt-4o', '"2.50"', '2026-01-01')}, ${entryOf('gpt-*', '"9.00"', '2026-01-01')}`)
    )
  })
  const text = explainedBudget(loaded)
  assert.match(text, /openai\/gpt-4o +2\.00 +2\.00 +2\.00 +PriceBook a-contract\n/)
  assert.match(text, /openai\/gpt-4o-mini +0\.10 +0\.10 +0\.60 +PriceBook a-contract\n/)
})

test('explain budget has a row for each step of a price and for each later day that changes it', async () => {
  const loaded = await example((yaml) => {
    if (!yaml.includes('kind: PriceBook')) return yaml
    const steps = 'steps: [{ inputOver: 272000, input: "4.00", output: "15.00" }]'
    const entries = [
      entryOf('gpt-4o', '"2.00"', '2026-10-01').replace(' }', `, ${steps} }`),
      entryOf('gpt-4o', '"1.00"', '2027-12-01'),
      entryOf('gpt-*', '"9.00"', '2027-11-01'),
    ]
    return `apiVersion: farebox.dev/v1alpha1\nkind: PriceBook\nmetadata: { name: ours }\nspec: { entries: [${entries.join()}] }\n---\n`
  })
  const rows = explainedBudget(loaded)
    .split('\n')
    .filter((line) => line.includes('openai/gpt-4o '))
  assert.deepEqual(
    rows.map((row) => row.trim().split(/ {2,}/)),
    [
      ['openai/gpt-4o', '2.00', '2.00', '2.00', 'PriceBook ours'],
      ['openai/gpt-4o', '4.00', '4.00', '15.00', 'PriceBook ours, calls over 272,000 tokens of input'],
      ['openai/gpt-4o', '1.00', '1.00', '1.00', 'PriceBook ours, from 2027-12-01'],
    ],
  )
})

function entryOf(model: string, price: string, from: string): string {
  return `{ provider: openai, model: "${model}", from: "${from}", input: ${price}, output: ${price} }`
}

test('explain budget tells the caps of a tier in its own currency, as explain tier does', async () => {
  const loaded = await example((yaml) =>
    yaml
      .replace('  displayName: Support Chat\n', '  displayName: Support Chat\n  currency: EUR\n')
      .replace('name: our-prices\nspec:\n', "$&  exchangeRates: { EUR: '1.25' }\n"),
  )
  const text = explainedBudget(loaded)
  assert.match(text, /support-chat \(default\) +0\.12 EUR +- /)
  assert.match(text, /support-seat +0\.10 USD +3\.00 USD /)
})

test('explain budget says by what a claim is signed, and of a model that nobody prices what its calls are charged', async () => {
  const loaded = await example((yaml) =>
    yaml
      .replace('header: x-farebox-tier', 'header: x-plan\n      token: { format: JWT, secretRef: { name: claim-keys } }')
      .replaceAll('allow: [gpt-4o, gpt-4o-mini]', 'allow: [gpt-4o, house-large]'),
  )
  const text = explainedBudget(loaded)
  assert.match(text, /may claim another by the header x-plan, which holds a token \(JWT\) signed by a key of Secret claim-keys\n/)
  assert.equal(text.match(/\S+\/house-large /g)?.length, 1)
  assert.match(text, /openai\/house-large +150\.00 +150\.00 +600\.00 +ceiling \(no price\)/)
  const charged = (onUnknownModel: 'Refuse' | 'Free'): string =>
    explainedBudget(loaded, {}, (budget) => ({ ...budget, spec: { ...budget.spec, onUnknownModel } }))
  assert.match(charged('Refuse'), /openai\/house-large +- +- +- +refused \(no price\)/)
  assert.match(charged('Free'), /openai\/house-large +0\.00 +0\.00 +0\.00 +free \(no price\)/)
})

test('explain budget names a provider without prices, and what becomes of its calls', async () => {
  const explained = async (more: string): Promise<string> => {
    const upstream = `\n  upstreams: [{ name: openai, provider: opnai, baseURL: "https://api.openai.com/v1" }, { name: own, baseURL: "http://own:1/v1" }]${more}`
    const loaded = await example((yaml) => yaml.replace(/(kind: ConversationBudget\n(?:.*\n)*?spec:)/, `$1${upstream}`))
    return explainedBudget(loaded)
  }
  const text = await explained('')
  assert.match(text, /\nopnai: no prices, its calls are refused\n/)
  assert.doesNotMatch(text, /openai: no prices/)
  assert.match(await explained('\n  onUnknownModel: Free'), /\nopnai: no prices, its calls cost nothing\n/)
})

test('explain budget says last why the budget is not in force, and nothing of models that are not known', async () => {
  const loaded = await example((yaml) => yaml.replace('default: support-chat', 'default: support-chap'))
  const refused = { field: 'spec.tier.default', message: 'there is no PricingTier "support-chap"' }
  assert.match(explainedBudget(loaded, { refused }), /\n\nrefused: spec\.tier\.default: there is no PricingTier "support-chap"$/)
  assert.match(explainedBudget(loaded, { tiers: new Map() }), /\nwhich models the tiers name is known once all of them are/)
  const silent = new Map<string, CompiledTier>(
    [...loaded.compiled.tiers].flatMap(([name, tier]) =>
      tier.status === 'refused' ? [] : [[name, { ...tier, contract: { ...tier.contract, models: { allow: [], downgrades: [] } } }]],
    ),
  )
  assert.match(
    explainedBudget(loaded, { tiers: silent }, (budget) => ({
      ...budget,
      spec: { ...budget.spec, tier: { default: 'support-seat', allowed: [] } },
    })),
    /\nthe tiers name no models: prices are looked up call by call\n/,
  )
})

test('explain tier says when a session follows another, and what users may search', async () => {
  assert.doesNotMatch(await explainedTier('support-seat'), /new session|may search/)
  const text = await explainedTier('support-seat', (yaml) =>
    yaml.replace(
      /expectedConversationsPerUser: 30.*\n/,
      '$&  sessions: { maxTurns: 40, idleAfter: 12h, maxResets: 5, memory: { mode: Searchable } }\n',
    ),
  )
  assert.match(text, /\na new session after 40 user turns, or after a pause of 12h; at most 5 of them \(tiers\.yaml:spec\.sessions\)\n/)
  assert.match(text, /\nbut for a pause it waits until the app says that a task begins\n/)
  assert.match(text, /\nusers may search what was said in the last 720h\n/)
  const atEnd = await explainedTier('support-seat', (yaml) =>
    yaml.replace('end: Close', 'end: Reset').replace(/expectedConversationsPerUser: 30.*\n/, '$&  sessions: { memory: { mode: None } }\n'),
  )
  assert.match(atEnd, /\na new session at the end of the ladder; at most 3 of them/)
  assert.match(atEnd, /\nit waits until the app says that a task begins; at the end of the ladder the conversation is closed until then\n/)
  const atOnce = await explainedTier('support-seat', (yaml) =>
    yaml.replace(/expectedConversationsPerUser: 30.*\n/, '$&  sessions: { maxTurns: 40, resetAt: Immediately, memory: { mode: None } }\n'),
  )
  assert.doesNotMatch(atOnce, /it waits/)
})

test('explain tier says from when on a user belongs on another plan, and whether users are told', async () => {
  const upgrade = '$&  upgrade: { tier: support-chat, whenUserExceedsPercent: 80 }\n'
  const silent = await explainedTier('support-seat', (yaml) => yaml.replace(/expectedConversationsPerUser: 30.*\n/, upgrade))
  assert.match(silent, /\nfrom 80 % of the user budget on a user belongs on \S+ \(.*\); users are not told: spec\.notices has no words/)
  const words = '$&      - { occasion: Upgrade, text: { en: "See {{tier}}." } }\n'
  const told = await explainedTier('support-seat', (yaml) =>
    yaml.replace(/expectedConversationsPerUser: 30.*\n/, upgrade).replace(/ {4}texts:\n/, words),
  )
  assert.match(told, /, and is told so\n/)
})

const STANDING: Standing = {
  conversation: 'abc',
  user: null,
  tier: 'support-seat',
  contract: '74fcb89a55400d1d',
  currency: 'USD',
  budget: '0.10',
  spent: '0.08',
  held: '0.005',
  remaining: '0.015',
  percent: 80,
  rung: 'Summarize',
  reason: 'threshold',
  turns: 9,
  session: 1,
  state: 'open',
  resolution: 'open',
  advice: 'wrapUp',
  drivers: { history: '0.060000001', retrieval: '0.00', output: '0.019999999' },
  alerts: [70],
  lastTurnAt: '2026-11-01T00:00:00.000Z',
}

test('explain conversation splits the cost by what drove it, the most first, and says why the rung was taken', () => {
  const text = explainConversation(STANDING).join('\n')
  assert.match(text, /0\.10 +budget.*\n +-0\.08 +spent \(80 %\)\n +-0\.005 +held.*\n +0\.015 +remaining/)
  assert.match(text, /0\.060000001 +history \(75 %\)\n +0\.019999999 +output \(25 %\)\n/, 'all digits: they add up to what is spent')
  assert.doesNotMatch(text, /retrieval/)
  assert.match(text, /rung Summarize at 80 %: its threshold was reached/)
  assert.match(explainConversation({ ...STANDING, reason: 'fit' }).join('\n'), /did not fit/)
})

test('explain conversation says so where the percent that counts is of the user’s budget', () => {
  const degraded: Standing = { ...STANDING, spent: '0.02', percent: 83, rung: 'RefuseTools' }
  const text = explainConversation({ ...degraded, percentOf: 'user' }).join('\n')
  assert.match(text, /spent \(20 %\)[^]*\nrung RefuseTools at 83 %: its threshold was reached\n83 % of the user's budget of this period/)
  for (const percentOf of [undefined, 'conversation'] as const)
    assert.doesNotMatch(explainConversation({ ...degraded, percentOf }).join('\n'), /user's budget/)
})
