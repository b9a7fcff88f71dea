/** A model that nobody prices, under `onUnknownModel: Ceiling`: a slip in its name, or one that is newer than the prices. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { startTalk } from '../support/talk.ts'
import type { Talk } from '../support/talk.ts'

const UNPRICED = 'gpt-4o-misspelt'
const WARNING = 'nobody prices this model'

let provider: Provider
let sidecar: Sidecar
before(async () => {
  provider = await startProvider()
  const closing = makeContract({
    caps: { perConversation: '0.05' },
    ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Close' }],
    alerts: [70, 90, 100],
  })
  sidecar = await startSidecar(makeConfig(`${provider.url}/v1`, [closing]))
})
after(async () => {
  await sidecar.close()
  await provider.close()
})

function talkOf(id: string): Talk {
  return startTalk(sidecar, { 'x-farebox-conversation': id, 'x-fake-tag': id, 'x-fake-output-tokens': '20' })
}

for (const [when, opening] of [
  ['as the first of a conversation', []],
  ['in the middle of one', ['Hello.']],
] as const) {
  test(`a call that the ceiling makes too dear is refused alone, ${when}`, async () => {
    const id = `refused ${when}`
    const talk = talkOf(id)
    for (const words of opening) assert.equal((await talk.say(words)).status, 200)
    const said = await talk.say('Hi.', { body: { model: UNPRICED } })
    assert.deepEqual([said.status, said.code], [403, 'model_unpriced'])
    assert.match(said.text, /"gpt-4o-misspelt".*PriceBook.*onUnknownModel/)
    assert.equal(said.headers.get('x-farebox-synthetic'), null)
    assert.equal((await talk.say('Hi.')).status, 200, 'another model goes on')
    const { state, rung, alerts, advice } = await sidecar.standing(id)
    assert.deepEqual([state, rung, alerts, advice], ['open', 'None', [], 'continue'])
  })
}

test('the log warns of the model once, and of no other', async () => {
  const talk = talkOf('warned')
  for (const model of [UNPRICED, 'gpt-4o', UNPRICED]) await talk.say('Hi.', { body: { model } })
  await sidecar.idle()
  const warned = sidecar
    .log()
    .split('\n')
    .filter((line) => line.includes(WARNING))
    .map((line): unknown => JSON.parse(line))
  assert.equal(warned.length, 1)
  assert.partialDeepStrictEqual(warned, [{ level: 40, provider: 'openai', model: UNPRICED, onUnknownModel: 'Ceiling' }])
})
