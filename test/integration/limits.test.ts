/** What a limit of the workload does to conversations whose own budgets have room. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { settled, startTalk } from '../support/talk.ts'
import type { Talk } from '../support/talk.ts'

const TOOL = { type: 'function', function: { name: 'look_up', parameters: { type: 'object' } } } as const
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
