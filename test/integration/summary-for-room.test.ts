/** The one summary that the ladder makes before a budget is used up: when the turn is over, and not while tools are asked in it. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { formatUsd, parseUsd } from '@farebox/crds/usd.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { settled, startTalk } from '../support/talk.ts'

const SUMMARIZER = 'gpt-4o-mini'
const CAP_USD = '0.50'
const SUMMARIZE_PERCENT = 99
const ID = 'short-of-room'
const OUTPUT_TOKENS = 250
const OLD_TURNS = 8
/** About 1,000 tokens. */
const LONG_ANSWER = 'The lamp turns, the keeper climbs the stairs and writes the weather down. '.repeat(66)
/** Left of the budget then, by what the first call cost; when the tool was asked, it is enough for one more call and not for two. */
const TENTHS_OF_A_CALL_LEFT = 24n

let provider: Provider
let sidecar: Sidecar
before(async () => {
  provider = await startProvider()
  const contract = makeContract({
    caps: { perConversation: CAP_USD },
    ladder: [
      { atPercent: SUMMARIZE_PERCENT, rung: 'Summarize' },
      { atPercent: 100, rung: 'EndConversation', end: 'Refuse' },
    ],
    models: { allow: [], downgrades: [], summarizer: SUMMARIZER },
  })
  sidecar = await startSidecar(makeConfig(`${provider.url}/v1`, [contract]))
})
after(async () => {
  await sidecar.close()
  await provider.close()
})

const summaries = (): number => provider.bill.lines().filter(({ model }) => model === SUMMARIZER).length

test('a summary for want of room waits for the end of the turn', async () => {
  const headers = { 'x-farebox-conversation': ID, 'x-fake-output-tokens': String(OUTPUT_TOKENS) }
  const tools = [{ type: 'function' as const, function: { name: 'look_up', parameters: { type: 'object', properties: {} } } }]
  const talk = settled(sidecar, startTalk(sidecar, headers, { max_tokens: OUTPUT_TOKENS, tools }))
  for (let turn = 0; turn < OLD_TURNS; turn++) {
    talk.messages.push({ role: 'user', content: `What does the keeper do on day ${turn}?` }, { role: 'assistant', content: LONG_ANSWER })
  }
  assert.equal((await talk.say('And today?')).code, null)
  assert.equal(summaries(), 0, 'there is room enough')

  const { spent } = await sidecar.standing(ID)
  const rest = (parseUsd(spent) * TENTHS_OF_A_CALL_LEFT) / 10n
  const cost = formatUsd(parseUsd(CAP_USD) - parseUsd(spent) - rest)
  await sidecar.postJson(`/farebox/v1/conversations/${ID}/costs`, { cost, label: 'search', operationId: 'search' })

  const asked = await talk.say('Look it up.', { headers: { 'x-fake-tool-call': 'look_up' } })
  assert.equal(asked.toolCalls.length, 1)
  assert.equal(summaries(), 0, 'a cut would have to wait for the next turn')
  talk.messages.push({ role: 'tool', tool_call_id: asked.toolCalls[0]?.id ?? '', content: 'He paints the door.' })
  assert.equal((await talk.goOn()).code, null)
  assert.equal(summaries(), 1)
  const { percent } = await sidecar.standing(ID)
  assert.ok(percent < SUMMARIZE_PERCENT, `by its threshold the rung is not due: ${percent} %`)
})
