/** What a limit of the workload does to conversations whose own budgets have room. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import type { LimitUse, SidecarStatus } from '@farebox/crds/sidecar-status.ts'
import { parseUsd } from '@farebox/crds/usd.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { makeConfig, makeContract, makePeriod } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { settled, startTalk } from '../support/talk.ts'
import type { Talk } from '../support/talk.ts'
import { waitFor } from '../support/wait-for.ts'

const DAY = makePeriod('Day')
const DAY_NAME = `Day ${DAY.timeZone}`
const TOOL = { type: 'function', function: { name: 'look_up', parameters: { type: 'object' } } } as const
const SHORT = { body: { model: 'gpt-4o', max_tokens: 40 } }
const CONTRACT = makeContract({
  caps: { perConversation: '5.00' },
  models: { allow: [], downgrades: [{ from: 'gpt-4o', to: 'gpt-4o-mini' }], maxOutputTokens: 2_000, usefulOutputTokens: 2_000 },
  ladder: [
    { atPercent: 90, rung: 'DowngradeModel' },
    { atPercent: 100, rung: 'EndConversation', end: 'Refuse' },
  ],
})

let provider: Provider
let sidecar: Sidecar
let models: string[] = []
before(async () => {
  provider = await startProvider({
    onRequest: ({ body }) => models.push((JSON.parse(body.toString()) as { readonly model: string }).model),
  })
  sidecar = await startSidecar(limitedTo('0.01'))
})
after(async () => {
  await sidecar.close()
  await provider.close()
})

/** A day's limit into which, at 0.01, no call to the large model fits. */
function limitedTo(amount: string): SidecarConfig {
  return makeConfig(`${provider.url}/v1`, [CONTRACT], { limits: [{ amount, period: DAY }] })
}

function talkOf(id: string): Talk {
  return settled(sidecar, startTalk(sidecar, { 'x-farebox-conversation': id, 'x-fake-output-tokens': '20' }, { tools: [TOOL] }))
}

/** A question, and the tool loop after it: the models that served. */
async function asked(talk: Talk, text: string, between?: () => Promise<void>): Promise<readonly string[]> {
  models = []
  const first = await talk.say(text, { headers: { 'x-fake-tool-call': 'look_up' } })
  assert.equal(first.status, 200)
  await between?.()
  for (const { id } of first.toolCalls) talk.messages.push({ role: 'tool', tool_call_id: id, content: 'found' })
  assert.equal((await talk.goOn()).status, 200)
  return models
}

test('a tool loop goes on with the model that it began with, and the next question is decided anew', async () => {
  const talk = talkOf('loop')
  const raised = async (): Promise<void> => sidecar.adopt(limitedTo('50.00'))
  assert.deepEqual(await asked(talk, 'First?', raised), ['gpt-4o-mini', 'gpt-4o-mini'])
  assert.deepEqual(await asked(talk, 'Second?'), ['gpt-4o', 'gpt-4o'])
})

test('also in an app that never sends what was said before', async () => {
  await sidecar.adopt(limitedTo('0.01'))
  const question = async (text: string): Promise<readonly string[]> => {
    const talk = talkOf('without history')
    return asked(talk, text)
  }
  assert.deepEqual(await question('First?'), ['gpt-4o-mini', 'gpt-4o-mini'])
  await sidecar.adopt(limitedTo('50.00'))
  for (const text of ['Second?', 'Third?']) assert.deepEqual(await question(text), ['gpt-4o', 'gpt-4o'])
})

test('how much of it is used is told before and after it is used up; calls that it refuses are counted as such, and end no conversation', async () => {
  const own = await startSidecar(limitedTo('0.002'))
  try {
    const say = async (id: string): Promise<number> => (await startTalk(own, { 'x-farebox-conversation': id }).say('Hello.', SHORT)).status
    assert.equal(await say('first'), 200)
    await own.idle()
    const use = async (): Promise<LimitUse | undefined> => ((await own.getJson('/farebox/v1/status')) as SidecarStatus).limits?.[DAY_NAME]
    const before = await use()
    assert.deepEqual(
      [before?.amount, before?.since, before?.held],
      ['0.002', new Date().toLocaleDateString('sv', { timeZone: DAY.timeZone }), '0.00'],
    )
    assert.equal(before?.spent, (await own.standing('first')).spent)
    let answered = 1
    while ((await say(`c${answered}`)) === 200) answered += 1
    assert.equal(await say('next'), 402)
    await own.idle()
    assert.ok(parseUsd((await use())?.spent ?? '0') > parseUsd(before?.spent ?? '0'))
    const metrics = await waitFor('the limit in the metrics', async () => {
      const text = await own.metrics()
      return text.includes(`farebox_limit_usd{budget="shop/support",period="${DAY_NAME}"} 0.002`) ? text : null
    })
    assert.match(metrics, /^farebox_turns_total\{tier="pro",outcome="limited"\} 2$/m)
    assert.match(metrics, /^farebox_turns_total\{tier="pro",outcome="ended"\} 0$/m)
    assert.ok(metrics.includes(`\nfarebox_limit_spent_usd{budget="shop/support",period="${DAY_NAME}"} 0.00`), metrics)
  } finally {
    await own.close()
  }
})

describe('under Observe a call that would be refused for want of money goes on, and leaves a line and a count', () => {
  const TIGHT = [{ amount: '0.002', period: DAY }]
  let watched: Sidecar
  before(async () => {
    watched = await startSidecar(makeConfig(`${provider.url}/v1`, [CONTRACT], { limits: TIGHT, mode: 'Observe' }))
  })
  after(() => watched.close())

  /** What the log has said since `from`, of calls that go on. */
  function told(from = 0): readonly string[] {
    const lines = watched
      .log()
      .split('\n')
      .filter((line) => line.includes('observed: '))
    return lines.slice(from).map((line) => {
      const { msg, code, param, requestId, conversation } = JSON.parse(line) as Readonly<Record<string, string | undefined>>
      assert.ok(requestId !== undefined && conversation !== undefined, line)
      return `${msg} ${code} ${param}`
    })
  }
  async function counted(name: string): Promise<readonly string[]> {
    return (await watched.metrics()).split('\n').filter((line) => line.startsWith(`${name}{`) && !line.endsWith(' 0'))
  }
  async function say(id: string, more: Readonly<Record<string, string>> = {}): Promise<void> {
    const headers = { 'x-farebox-conversation': id, 'x-fake-output-tokens': '20', ...more }
    assert.equal((await startTalk(watched, headers).say('Hello.', SHORT)).status, 200)
    await watched.idle()
  }

  test('by a limit of the workload, in each conversation', async () => {
    while (told().length === 0) await say('first')
    await say('first')
    await say('second')
    const line = 'observed: would be refused conversation_budget_exhausted limits'
    assert.deepEqual(told(), [line, line, line])
    assert.deepEqual(await counted('farebox_observed_refusals_total'), [
      'farebox_observed_refusals_total{code="conversation_budget_exhausted",cap="workload"} 3',
    ])
    assert.deepEqual(await counted('farebox_refusals_total'), [])
    assert.ok((await counted('farebox_turns_total')).every((series) => series.includes('outcome="settle"')))
  })

  test('by the budget of the conversation, at its end and with each call after it; by that of the user', async () => {
    for (const [cap, caps, user] of [
      ['conversation', { perConversation: '0.002' }, undefined],
      ['user', { perConversation: '5.00', perUser: { amount: '0.002', period: DAY } }, 'ada'],
    ] as const) {
      const { length } = told()
      await watched.adopt(makeConfig(`${provider.url}/v1`, [makeContract({ ...CONTRACT, caps })], { mode: 'Observe' }))
      const headers = user === undefined ? undefined : { 'x-farebox-user': user }
      while (told(length).length < 3) await say(cap, headers)
      const line = 'observed: would be refused conversation_budget_exhausted undefined'
      assert.deepEqual(told(length), [line, line, line])
      const series = await counted('farebox_observed_refusals_total')
      assert.ok(series.includes(`farebox_observed_refusals_total{code="conversation_budget_exhausted",cap="${cap}"} 3`), series.join())
    }
  })

  test('not where another session would follow, nor of what would come in it', async () => {
    const { length } = told()
    const contract = makeContract({
      ...CONTRACT,
      caps: { perConversation: '0.002', perUser: { amount: '9.00', period: DAY } },
      ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Reset' }],
      sessions: { maxResets: 9 },
    })
    await watched.adopt(makeConfig(`${provider.url}/v1`, [contract], { mode: 'Observe' }))
    const headers = { 'x-farebox-conversation': 'reset', 'x-farebox-user': 'ada', 'x-fake-output-tokens': '20' }
    const talk = settled(watched, startTalk(watched, headers, { tools: [TOOL] }))
    // Its end is found by a question: in a tool loop it would be refused, and another session come after that.
    while ((await watched.standing('reset').catch(() => null))?.rung !== 'EndConversation')
      assert.equal((await talk.say('And?', SHORT)).status, 200)
    for (let question = 0; question < 2; question++) assert.equal((await asked(talk, 'And?')).length, 2)
    assert.deepEqual(told(length), [])
  })
})
