/** Thresholds of a budget: each told once per conversation, on the feed, in the log and as a metric, whatever the restarts. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import type { Alert } from '@farebox/sidecar/proxy/alert-feed.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { startTalk } from '../support/talk.ts'
import type { Talk } from '../support/talk.ts'
import { waitFor } from '../support/wait-for.ts'

/** gpt-4o: 100 output tokens are 0.001, so 1 % of the budget. */
const BUDGET = '0.10'
const PERIOD = { timeZone: 'UTC', anchorDay: 1 } as const
const SUMMARISED_ALERTS = Array.from({ length: 100 }, (_, index) => index + 1)

let provider: Provider
let sidecar: Sidecar
const configOf = (unit: 'Month' | 'Week'): SidecarConfig =>
  makeConfig(`${provider.url}/v1`, [
    makeContract({ tier: 'usual', caps: { perConversation: BUDGET } }),
    makeContract({ tier: 'own', caps: { perConversation: BUDGET }, alerts: [25, 50] }),
    makeContract({ tier: 'user', caps: { perConversation: '10.00', perUser: { amount: BUDGET, period: { ...PERIOD, unit } } } }),
    makeContract({
      tier: 'summarised',
      caps: { perConversation: BUDGET },
      context: { windowTokens: 100_000, overflow: 'Summarize', summarizeAfterPercent: 1, keepRecentTurns: 1 },
      models: { allow: [], downgrades: [], summarizer: 'gpt-4o' },
      alerts: SUMMARISED_ALERTS,
    }),
  ])
before(async () => {
  provider = await startProvider()
  sidecar = await startSidecar(configOf('Month'))
})
after(async () => {
  await sidecar.close()
  await provider.close()
})

function talkOf(id: string, tier: string, headers: Record<string, string> = {}): Talk {
  return startTalk(sidecar, { 'x-farebox-conversation': id, 'x-farebox-tier': tier, ...headers })
}

/** A turn that costs about this many percent of `BUDGET`, without the history before it. */
async function spend(talk: Talk, percent: number): Promise<void> {
  talk.messages.length = 0
  const said = await talk.say('Go on.', { headers: { 'x-fake-output-tokens': String(percent * 100) } })
  assert.equal(said.status, 200)
}

/** What the feed has of one conversation, oldest first. */
async function feedOf(id: string): Promise<readonly Alert[]> {
  const { conversation } = await sidecar.standing(id)
  const { alerts } = (await sidecar.getJson('/farebox/v1/alerts?limit=1000')) as { readonly alerts: readonly Alert[] }
  return alerts.filter((alert) => alert.conversation === conversation).toReversed()
}

async function feedPercents(id: string): Promise<readonly number[]> {
  return (await feedOf(id)).map(({ percent }) => percent)
}

/** Percents of one conversation's alerts in the log, over all processes so far. */
async function loggedPercents(id: string): Promise<readonly unknown[]> {
  const { conversation } = await sidecar.standing(id)
  const lines = sidecar
    .log()
    .split('\n')
    .filter((line) => line.includes('alert: '))
  return lines
    .map((line) => JSON.parse(line) as { readonly conversation: string; readonly percent: number })
    .filter((line) => line.conversation === conversation)
    .map((line) => line.percent)
}

async function counted(tier: string, percent: number): Promise<number> {
  const line = (await sidecar.metrics())
    .split('\n')
    .find((each) => each.startsWith(`farebox_alerts_total{tier="${tier}",percent="${percent}"}`))
  return Number(line?.split(' ').at(-1) ?? 0)
}

test('70, 90 and 100 once each, over two crashes', async () => {
  const talk = talkOf('crashing', 'usual')
  await spend(talk, 60)
  assert.deepEqual(await feedPercents('crashing'), [])
  await spend(talk, 12)
  assert.deepEqual(await feedPercents('crashing'), [70])
  await spend(talk, 2)
  assert.deepEqual(await feedPercents('crashing'), [70], 'once')
  assert.equal(await counted('usual', 70), 1)

  await sidecar.crash()
  assert.deepEqual(await feedPercents('crashing'), [70], 'who reads the feed after the crash finds it')
  await spend(talk, 18)
  assert.deepEqual(await feedPercents('crashing'), [70, 90])
  assert.equal(await counted('usual', 70), 0, 'nothing fires again')
  assert.equal(await counted('usual', 90), 1)

  await sidecar.crash()
  await spend(talk, 5)
  const refused = await talk.say('A long answer, please. '.repeat(400))
  assert.equal(refused.code, 'conversation_budget_exhausted')
  assert.equal((await talk.say('Again.')).code, 'conversation_budget_exhausted')
  assert.deepEqual(await feedPercents('crashing'), [70, 90, 100])
  assert.deepEqual(await loggedPercents('crashing'), [70, 90, 100])
  assert.equal(await counted('usual', 100), 1)
  const [first] = await feedOf('crashing')
  assert.deepEqual([first?.tier, first?.session], ['usual', 1])
  assert.ok(Math.abs((first?.atMs ?? 0) - Date.now()) < 60_000)
})

test('the thresholds of the tier, and several at once when a turn passes them', async () => {
  await spend(talkOf('own', 'own'), 60)
  assert.deepEqual(await feedPercents('own'), [25, 50])
  assert.deepEqual((await sidecar.standing('own')).alerts, [25, 50])
})

test('once, when many turns pass it at the same time', async () => {
  const talks = Array.from({ length: 8 }, () => talkOf('parallel', 'usual'))
  await Promise.all(
    talks.map((talk) =>
      talk.say('Go.', { headers: { 'x-fake-output-tokens': '900', 'x-fake-delay-ms': '30' }, body: { max_tokens: 1_000 } }),
    ),
  )
  assert.deepEqual(await feedPercents('parallel'), [70])
  assert.deepEqual(await loggedPercents('parallel'), [70])
})

test("of the user's budget, where that is the tighter one", async () => {
  await spend(talkOf('of ann 1', 'user', { 'x-farebox-user': 'ann' }), 50)
  assert.deepEqual(await feedPercents('of ann 1'), [])
  await spend(talkOf('of ann 2', 'user', { 'x-farebox-user': 'ann' }), 25)
  assert.deepEqual(await feedPercents('of ann 2'), [70])
  const { alerts } = (await sidecar.getJson('/farebox/v1/alerts?limit=1')) as { readonly alerts: readonly Alert[] }
  assert.equal(alerts[0]?.budget, 'user')
})

test("100 once, when the user's budget is used up, and the conversation goes on in the user's next period", async () => {
  const talk = talkOf('of bob', 'user', { 'x-farebox-user': 'bob' })
  await spend(talk, 95)
  assert.deepEqual(await feedPercents('of bob'), [70, 90])
  for (let repeat = 0; repeat < 2; repeat++)
    assert.equal((await talk.say('A long answer, please. '.repeat(400))).code, 'conversation_budget_exhausted')
  assert.deepEqual(await feedPercents('of bob'), [70, 90, 100])
  assert.deepEqual(await loggedPercents('of bob'), [70, 90, 100])
  const { state, alerts, rung } = await sidecar.standing('of bob')
  assert.deepEqual([state, alerts, rung], ['open', [70, 90, 100], 'None'])
  talk.messages.length = 0
  assert.equal((await talk.say('Short?', { body: { max_tokens: 5 } })).status, 200, 'what fits is answered')

  const other = talkOf('of bob 2', 'user', { 'x-farebox-user': 'bob' })
  assert.equal((await other.say('A long answer, please. '.repeat(400))).code, 'conversation_budget_exhausted')
  assert.deepEqual(await feedPercents('of bob 2'), [70, 90, 100], 'whose first turn it was')
})

test("once a period, when calls that name no conversation find the user's budget used up; they leave none behind", async () => {
  const calls = startTalk(sidecar, { 'x-farebox-tier': 'user', 'x-farebox-user': 'cid', 'x-fake-output-tokens': '9500' })
  const found = async () => {
    const { tiers } = (await sidecar.getJson('/farebox/v1/status')) as {
      readonly tiers: { readonly user: { readonly conversations: number } }
    }
    const { alerts } = (await sidecar.getJson('/farebox/v1/alerts?limit=1000')) as { readonly alerts: readonly Alert[] }
    return { conversations: tiers.user.conversations, alerts: alerts.length }
  }
  // A week stands for the period that comes after the month.
  for (const unit of ['Month', 'Week'] as const) {
    await sidecar.adopt(configOf(unit))
    calls.messages.length = 0
    await calls.say('Hello.', { body: { max_tokens: 9_500 } })
    await sidecar.idle()
    const before = await found()
    for (let call = 0; call < 3; call++) {
      calls.messages.length = 0
      assert.equal((await calls.say('A long answer, please. '.repeat(400))).code, 'conversation_budget_exhausted')
    }
    assert.deepEqual(await found(), { conversations: before.conversations, alerts: before.alerts + 3 })
  }
  await sidecar.adopt(configOf('Month'))
})

test('those that a summary between turns passes are told as well', async () => {
  const talk = talkOf('summarised', 'summarised', { 'x-fake-output-tokens': '300' })
  await talk.say('Once upon a time there was a lighthouse keeper. '.repeat(120), { body: { max_tokens: 300 } })
  await talk.say('And then?', { body: { max_tokens: 300 } })
  const isMade = async (): Promise<boolean> => /^farebox_summaries_total\{tier="summarised",.*\} [1-9]/m.test(await sidecar.metrics())
  await waitFor('the summary', isMade)
  const { drivers, alerts } = await sidecar.standing('summarised')
  assert.notEqual(drivers['summaries'], '0.00')
  assert.deepEqual(await feedPercents('summarised'), alerts)
})

test('a cost that the app tells passes them too', async () => {
  const talk = talkOf('told', 'usual')
  await spend(talk, 10)
  const cost = { cost: '0.08', label: 'search', operationId: 'one' }
  for (let repeat = 0; repeat < 2; repeat++) await sidecar.postJson('/farebox/v1/conversations/told/costs', cost)
  assert.deepEqual(await feedPercents('told'), [70, 90])
  assert.deepEqual((await sidecar.standing('told')).alerts, [70, 90])
  assert.deepEqual(await loggedPercents('told'), [70, 90])
})

test('the feed says the newest first, as many as asked for', async () => {
  const all = ((await sidecar.getJson('/farebox/v1/alerts')) as { readonly alerts: readonly Alert[] }).alerts
  const few = ((await sidecar.getJson('/farebox/v1/alerts?limit=2')) as { readonly alerts: readonly Alert[] }).alerts
  assert.deepEqual(few, all.slice(0, 2))
  assert.deepEqual(
    all.map(({ atMs }) => atMs),
    all.map(({ atMs }) => atMs).toSorted((a, b) => b - a),
  )
  assert.deepEqual(Object.keys(all[0] ?? {}).toSorted(), ['atMs', 'budget', 'conversation', 'percent', 'session', 'tier'])
})
