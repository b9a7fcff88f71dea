/** A model that costs nothing, as the last rung of a ladder: an owner who serves one goes on where the budget has ended. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { LadderStep } from '@farebox/crds/ladder.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { startTalk } from '../support/talk.ts'
import type { Talk } from '../support/talk.ts'

const FREE = 'gpt-4o-mini'
const SWAP: LadderStep = { atPercent: 90, rung: 'DowngradeModel' }

let provider: Provider
before(async () => {
  provider = await startProvider()
})
after(() => provider.close())

/** A sidecar with that ladder, and a talk whose budget an app has used up by a cost of its own. */
async function usedUp(ladder: readonly LadderStep[]): Promise<{ readonly sidecar: Sidecar; readonly talk: Talk }> {
  const models = { allow: [], downgrades: [{ from: 'gpt-4o', to: FREE }], usefulOutputTokens: 16 }
  const contract = makeContract({ caps: { perConversation: '0.01' }, ladder: [...ladder], models })
  const free = {
    provider: 'openai' as const,
    model: FREE,
    input: '0',
    output: '0',
    cacheRead: '0',
    steps: [],
    serviceTierPercent: {},
    toolFees: {},
  }
  const sidecar = await startSidecar(makeConfig(`${provider.url}/v1`, [contract], { prices: [free] }))
  const talk = startTalk(sidecar, { 'x-farebox-conversation': 'free', 'x-fake-output-tokens': '20' })
  assert.equal((await talk.say('Hello.', { body: { model: FREE, max_tokens: 30 } })).status, 200)
  const cost = await fetch(`${sidecar.url}/farebox/v1/conversations/free/costs`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ cost: '0.01', label: 'search', operationId: 'search-1' }),
  })
  assert.equal(cost.status, 200)
  assert.equal((await sidecar.standing('free')).percent, 100)
  return { sidecar, talk }
}

test('without EndConversation calls to it go on at 100 percent, and calls to a dear model are moved to it', async () => {
  const { sidecar, talk } = await usedUp([SWAP])
  try {
    for (const model of [FREE, 'gpt-4o']) {
      const said = await talk.say('More.', { body: { model, max_tokens: 30 } })
      assert.deepEqual(
        [said.status, said.headers.get('x-farebox-synthetic'), said.headers.get('x-farebox-percent')],
        [200, null, '100'],
        model,
      )
    }
    assert.equal((await sidecar.standing('free')).state, 'open')
    assert.deepEqual(
      provider.bill
        .lines()
        .slice(-2)
        .map(({ model }) => model),
      [FREE, FREE],
    )
  } finally {
    await sidecar.close()
  }
})

test('without a downgrade to it a dear model is refused there, and with EndConversation so is the free one', async () => {
  const end: LadderStep = { atPercent: 100, rung: 'EndConversation', end: 'Refuse' }
  for (const [ladder, model] of [
    [[], 'gpt-4o'],
    [[SWAP, end], FREE],
  ] as const) {
    const { sidecar, talk } = await usedUp(ladder)
    try {
      const said = await talk.say('More.', { body: { model, max_tokens: 30 } })
      assert.deepEqual([said.status, said.code], [402, 'conversation_budget_exhausted'], model)
    } finally {
      await sidecar.close()
    }
  }
})
