/** What a limit of the workload does to conversations whose own budgets have room. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import type { LimitUse, SidecarStatus } from '@farebox/crds/sidecar-status.ts'
import { parseUsd } from '@farebox/crds/usd.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { settled, startTalk } from '../support/talk.ts'
import type { Talk } from '../support/talk.ts'
import { waitFor } from '../support/wait-for.ts'

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
  return makeConfig(`${provider.url}/v1`, [CONTRACT], { limits: [{ amount, period: { unit: 'Day', timeZone: 'UTC', anchorDay: 1 } }] })
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
    const use = async (): Promise<LimitUse | undefined> => ((await own.getJson('/farebox/v1/status')) as SidecarStatus).limits?.['Day UTC']
    const before = await use()
    assert.deepEqual([before?.amount, before?.since, before?.held], ['0.002', new Date().toISOString().slice(0, 10), '0.00'])
    assert.equal(before?.spent, (await own.standing('first')).spent)
    let answered = 1
    while ((await say(`c${answered}`)) === 200) answered += 1
    assert.equal(await say('next'), 402)
    await own.idle()
    assert.ok(parseUsd((await use())?.spent ?? '0') > parseUsd(before?.spent ?? '0'))
    const metrics = await waitFor('the limit in the metrics', async () => {
      const text = await own.metrics()
      return text.includes('farebox_limit_usd{budget="shop/support",period="Day UTC"} 0.002') ? text : null
    })
    assert.match(metrics, /^farebox_turns_total\{tier="pro",outcome="limited"\} 2$/m)
    assert.match(metrics, /^farebox_turns_total\{tier="pro",outcome="ended"\} 0$/m)
    assert.match(metrics, /^farebox_limit_spent_usd\{budget="shop\/support",period="Day UTC"\} 0[.]00/m)
  } finally {
    await own.close()
  }
})
