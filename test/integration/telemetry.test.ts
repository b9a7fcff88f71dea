/** What leaves the pod besides answers: metrics as docs/metrics.md lists them and logs, without a prompt, a key or an id in them. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, describe, test } from 'node:test'
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { startTalk } from '../support/talk.ts'

const PAGE = readFileSync(new URL('../../docs/metrics.md', import.meta.url), 'utf8')
/** Each is somewhere in what goes through the sidecar below, and must not come out at its side. */
const SECRETS = {
  conversation: 'conversation-zeppelin',
  user: 'user-quagmire',
  key: 'sk-very-secret-marmalade',
  prompt: 'periwinkle',
  answer: 'xylophone',
  tool: 'tool-argument-gazpacho',
  model: 'model-sk-hidden-rhubarb',
  tier: 'tier-claim-ocelot',
  path: 'path-sk-tangerine',
  cost: 'label-of-a-persimmon',
}
const ID_HASH = /\b[0-9a-f]{32}\b/

let provider: Provider
let sidecar: Sidecar
before(async () => {
  provider = await startProvider({ models: [{ id: SECRETS.model }] })
  const parts: Partial<Contract> = {
    models: { allow: [], downgrades: [{ from: 'gpt-4o', to: 'gpt-4o-mini' }] },
    ladder: [
      { atPercent: 1, rung: 'DropRetrieval' },
      { atPercent: 3, rung: 'DowngradeModel' },
      { atPercent: 100, rung: 'EndConversation', end: 'Close' },
    ],
  }
  const contracts = [
    makeContract({ ...parts, caps: { perConversation: '2.00' } }),
    makeContract({
      ...parts,
      tier: 'summarised',
      context: { windowTokens: 100_000, overflow: 'Summarize', summarizeAfterPercent: 1, keepRecentTurns: 1 },
    }),
  ]
  const config = makeConfig(`${provider.url}/v1`, contracts, { retrieval: { toolNames: [], tags: ['document'] } })
  sidecar = await startSidecar(config, { environment: { FAREBOX_LOG_LEVEL: 'debug' } })
  await goThroughAll()
})
after(async () => {
  await sidecar.close()
  await provider.close()
})

/** Turns of every kind: answered, degraded, refused, failed, broken off. */
async function goThroughAll(): Promise<void> {
  const headers = {
    'x-farebox-conversation': SECRETS.conversation,
    'x-farebox-user': SECRETS.user,
    authorization: `Bearer ${SECRETS.key}`,
    'x-fake-content': `The ${SECRETS.answer} plays.`,
  }
  const tools = [{ type: 'function', function: { name: 'look_up', parameters: { type: 'object' } } } as const]
  const talk = startTalk(sidecar, headers, { tools })
  const question = `Tell me of the ${SECRETS.prompt}. <document>${SECRETS.prompt} ${'is a colour. '.repeat(300)}</document>`
  for (const stream of [false, true]) {
    await talk.say(question, { stream })
    const call = { 'x-fake-content': null, 'x-fake-tool-call': JSON.stringify([{ name: 'look_up', arguments: { of: SECRETS.tool } }]) }
    const { toolCalls } = await talk.say(question, { stream, headers: call })
    for (const { id } of toolCalls) talk.messages.push({ role: 'tool', tool_call_id: id, content: SECRETS.tool })
    await talk.goOn({ stream })
    for (const status of ['400', '429', '500']) await talk.say(question, { stream, headers: { 'x-fake-status': status } })
    for (const failure of [
      { 'x-fake-cut-after-tokens': 'headers' },
      { 'x-fake-cut-after-tokens': '2' },
      { 'x-fake-malformed': 'true' },
      { 'x-fake-usage': 'omit' },
    ])
      await talk.say(question, { stream, headers: failure }).catch(() => talk.messages.pop())
    await startTalk(sidecar, { ...headers, 'x-farebox-conversation': `${SECRETS.conversation}-model` }, { model: SECRETS.model }).say(
      question,
      { stream },
    )
  }
  await talk.say(question, { body: { response_format: { type: 'json_object' } } })
  await talk.say(question.repeat(30))
  await talk.say(question, { headers: { 'x-farebox-user': `${SECRETS.user}-other` } })
  await talk.say(question, { headers: { 'x-farebox-tier': SECRETS.tier } })
  await talk.say(question, { headers: { 'x-farebox-boundary': SECRETS.prompt } })
  const { conversation } = await sidecar.standing(SECRETS.conversation)
  await sidecar.postJson(`/farebox/v1/conversations/${conversation}/costs`, {
    cost: '0.001',
    label: SECRETS.cost,
    operationId: SECRETS.prompt,
  })
  await sidecar.postJson(`/farebox/v1/conversations/${conversation}/costs`, { cost: SECRETS.prompt })
  const raw = { method: 'POST', headers: { authorization: `Bearer ${SECRETS.key}` } }
  await fetch(`${sidecar.url}/openai/v1/chat/completions`, { ...raw, body: `{"messages": "${SECRETS.prompt}` })
  await fetch(`${sidecar.url}/openai/v1/chat/completions`, {
    ...raw,
    body: JSON.stringify({ model: 'gpt-4o', messages: [{ role: SECRETS.prompt }] }),
  })
  await fetch(`${sidecar.url}/openai/v1/${SECRETS.path}`, { ...raw, body: '{}' })

  const summarised = startTalk(sidecar, {
    ...headers,
    'x-farebox-conversation': `${SECRETS.conversation}-long`,
    'x-farebox-tier': 'summarised',
  })
  await summarised.say(`${SECRETS.prompt} `.repeat(1_500))
  await summarised.say(question)
  while (!sidecar.log().includes('summary between turns')) await new Promise((resolve) => setTimeout(resolve, 10))
  await summarised.say(question)
}

interface Documented {
  readonly type: string
  readonly labels: readonly string[]
}

function documented(): ReadonlyMap<string, Documented> {
  const [ofSidecars = ''] = PAGE.split('\n## Of the operator')
  const rows = [...ofSidecars.matchAll(/^\| `(\w+)` \| (\w+) \| [^|]* \|([^|]*)\|$/gm)]
  return new Map(
    rows.map(([, name = '', type = '', labels = '']) => [
      name,
      { type, labels: [...labels.matchAll(/`(\w+)`/g)].map(([, label = '']) => label) },
    ]),
  )
}

describe('metrics', () => {
  test('are those of the page, with their types and labels', async () => {
    const text = await sidecar.metrics()
    const known = documented()
    assert.ok(known.size > 10)
    const served = new Map([...text.matchAll(/^# TYPE (\w+) (\w+)$/gm)].map(([, name = '', type = '']) => [name, type]))
    for (const [name, { type, labels }] of known) {
      assert.equal(served.get(name), type, name)
      for (const [, series = ''] of text.matchAll(new RegExp(`^${name}(?:_bucket|_sum|_count)?\\{([^}]*)\\}`, 'gm')))
        assert.deepEqual(
          [...series.matchAll(/(\w+)="/g)].map(([, label]) => label).filter((label) => label !== 'le'),
          labels,
          name,
        )
    }
    const process = /^farebox_(process|nodejs)_/
    assert.deepEqual(
      [...served.keys()].filter((name) => !known.has(name) && !process.test(name)),
      [],
      'each is on the page',
    )
  })

  test('have counted what went through', async () => {
    const text = await sidecar.metrics()
    const value = (series: string): number =>
      Number(
        text
          .split('\n')
          .find((line) => line.startsWith(`${series} `))
          ?.split(' ')
          .at(-1),
      )
    for (const series of [
      'farebox_turns_total{tier="pro",outcome="settle"}',
      'farebox_turns_total{tier="pro",outcome="charge"}',
      'farebox_turns_total{tier="pro",outcome="void"}',
      'farebox_refusals_total{code="identity_rejected"}',
      'farebox_provider_calls_total{upstream="openai",outcome="2xx"}',
      'farebox_provider_calls_total{upstream="openai",outcome="429"}',
      'farebox_cost_usd_total{tier="pro",driver="history"}',
      'farebox_cost_usd_total{tier="pro",driver="other"}',
      'farebox_cost_usd_total{tier="summarised",driver="summaries"}',
      'farebox_model_cost_usd_total{model="gpt-4o",origin="catalogue"}',
      'farebox_units_total{model="gpt-4o",kind="output"}',
      'farebox_rung_transitions_total{tier="pro",rung="DropRetrieval",reason="threshold"}',
      'farebox_summaries_total{tier="summarised",outcome="made"}',
      'farebox_partial_settlements_total{source="estimated"}',
      'farebox_partial_settlements_total{source="partial"}',
      'farebox_saved_bytes_total{tier="pro"}',
      'farebox_config_changes_total{outcome="accepted"}',
      'farebox_turn_seconds_count{tier="pro"}',
      'farebox_time_to_head_seconds_count{tier="pro"}',
    ])
      assert.ok(value(series) > 0, series)
    assert.equal(value('farebox_calls_in_flight'), 0)
  })

  test('have no conversation, user, key or word of a client in any label', async () => {
    const text = await sidecar.metrics()
    for (const [what, secret] of Object.entries(SECRETS)) assert.ok(!text.includes(secret), `${what} is in a metric`)
    assert.doesNotMatch(text, ID_HASH)
  })
})

describe('logs', () => {
  test('are JSON, a line per event, at debug level too', () => {
    const lines = sidecar.log().trimEnd().split('\n')
    assert.ok(lines.length > 30)
    for (const line of lines) {
      const entry = JSON.parse(line) as Record<string, unknown>
      assert.deepEqual([entry['part'], typeof entry['msg'], typeof entry['time']], ['sidecar', 'string', 'string'])
    }
    assert.ok(lines.some((line) => line.includes('turn settled')))
    assert.ok(!lines.some((line) => line.includes('a turn failed')))
  })

  test('hold no prompt, answer, key or raw id', () => {
    const log = sidecar.log()
    for (const what of ['conversation', 'user', 'key', 'prompt', 'answer', 'tool', 'tier', 'cost'] as const)
      assert.ok(!log.includes(SECRETS[what]), `${what} is in the log: ${log.split('\n').find((line) => line.includes(SECRETS[what]))}`)
  })
})

test('the health port has no user data, and says what it is asked', async () => {
  const get = async (path: string): Promise<readonly [number, string]> => {
    const answer = await fetch(`${sidecar.adminUrl}${path}`)
    return [answer.status, await answer.text()]
  }
  assert.deepEqual(await get('/healthz'), [200, 'ok\n'])
  assert.deepEqual(await get('/readyz'), [200, 'ok\n'])
  assert.equal((await get(`/farebox/v1/conversations/${SECRETS.conversation}`))[0], 404)
})
