/** Calls beside a chat under its own id (titles, sub-agents): what they leave alone of the chat, whose next call goes on as if they had not been. */
import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, test } from 'node:test'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { formatUsd, parseUsd } from '@farebox/crds/usd.ts'
import type OpenAI from 'openai'
import { startProvider } from '../provider/server.ts'
import type { Provider, SeenRequest } from '../provider/server.ts'
import { makeConfig, makeContract, makePeriod, makeUpstream } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { settled, startTalk } from '../support/talk.ts'
import type { Said, Talk } from '../support/talk.ts'

const WORDS = 'A smaller model answers now.'
const TOOLS: OpenAI.ChatCompletionTool[] = [{ type: 'function', function: { name: 'look_up', parameters: { type: 'object' } } }]
const CALLS_TOOL = { headers: { 'x-fake-tool-call': 'look_up' }, body: { tools: TOOLS } }
const ANSWERS = { headers: { 'x-fake-content': 'Done.' }, body: { tools: TOOLS } }
/** Some thousand tokens. */
const LONG = 'The invoice of the customer was sent again because the number had changed. '.repeat(600)
const LIMITS: SidecarConfig['limits'] = [{ amount: '0.02', period: makePeriod('Day') }]

const CONTRACTS = [
  makeContract({
    tier: 'downgrading',
    models: { downgrades: [{ from: 'gpt-4o', to: 'gpt-4o-mini' }] },
    ladder: [
      { atPercent: 50, rung: 'DowngradeModel' },
      { atPercent: 100, rung: 'EndConversation', end: 'Close' },
    ],
    notices: { mode: 'Inline', texts: { DowngradeModel: { en: WORDS } } },
  }),
  makeContract({ tier: 'plain' }),
  makeContract({
    tier: 'resetting',
    caps: { perConversation: '0.50', perUser: { amount: '10.00', period: makePeriod('Month') } },
    ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Reset' }],
    sessions: { maxResets: 2 },
    notices: { mode: 'Inline' },
  }),
]

let provider: Provider
let sidecar: Sidecar
let seen: SeenRequest[] = []
before(async () => {
  provider = await startProvider({ onRequest: (request) => seen.push(request) })
  sidecar = await startSidecar(configOf())
})
after(async () => {
  await sidecar.close()
  await provider.close()
})
beforeEach(() => {
  seen = []
})

function configOf(parts: Parameters<typeof makeConfig>[2] = {}): SidecarConfig {
  const baseUrl = `${provider.url}/v1`
  return makeConfig(baseUrl, CONTRACTS, {
    upstreams: [
      makeUpstream({ name: 'openai', provider: 'openai', baseUrl }),
      makeUpstream({ name: 'anthropic', provider: 'anthropic', baseUrl, outputLimitField: 'max_tokens' }),
    ],
    ...parts,
  })
}

function talkOf(id: string, tier: string): Talk {
  return settled(sidecar, startTalk(sidecar, { 'x-farebox-conversation': id, 'x-farebox-tier': tier, 'x-farebox-user': 'ann' }))
}

/** Another agent under the chat's id: it has instructions of its own, as the chat has. */
function agentOf(id: string, tier: string): Talk {
  const agent = talkOf(id, tier)
  agent.messages.push({ role: 'system', content: 'You are a researcher.' })
  return agent
}

async function costs(id: string, cost: string): Promise<void> {
  await sidecar.postJson(`/farebox/v1/conversations/${encodeURIComponent(id)}/costs`, {
    cost,
    label: 'search',
    operationId: `cost of ${id}`,
  })
}

function answerTool(talk: Talk, { toolCalls }: Said): void {
  talk.messages.push(...toolCalls.map(({ id }) => ({ role: 'tool' as const, tool_call_id: id, content: 'Found: 42.' })))
}

/** The models that were asked since the test began. */
function models(): readonly string[] {
  return seen.map(({ body }) => (JSON.parse(body.toString()) as { readonly model: string }).model)
}

describe('the provider’s count stays with the chat', () => {
  /** Calls by the API of Anthropic: of its tokens little is known but what it counts. */
  function asking(id: string): (messages: readonly object[], headers?: Record<string, string>) => Promise<Response> {
    const headers = {
      'content-type': 'application/json',
      'x-api-key': 'test',
      'anthropic-version': '2023-06-01',
      'x-farebox-conversation': id,
      'x-farebox-tier': 'plain',
      'x-fake-output-tokens': '5',
    }
    const tools = [{ name: 'look_up', input_schema: { type: 'object' } }]
    return async (messages, more = {}) => {
      const body = JSON.stringify({ model: 'claude-sonnet-4-5', max_tokens: 50, tools, messages })
      const answer = await fetch(`${sidecar.url}/anthropic/v1/messages`, { method: 'POST', headers: { ...headers, ...more }, body })
      await answer.clone().text()
      await sidecar.idle()
      return answer
    }
  }
  /** Adds the call of a tool and what that gave. */
  async function goOn(asked: object[], answer: Response): Promise<void> {
    const { content } = (await answer.json()) as { readonly content: readonly { readonly type: string; readonly id?: string }[] }
    const used = content.find(({ type }) => type === 'tool_use')
    asked.push(
      { role: 'assistant', content },
      { role: 'user', content: [{ type: 'tool_result', tool_use_id: used?.id, content: 'Found: 42.' }] },
    )
  }
  /** Leaves a fifth more of the budget than the last call cost. */
  async function leaveOneCall(id: string, before: string): Promise<void> {
    const { spent, budget } = await sidecar.standing(id)
    const last = parseUsd(spent) - parseUsd(before)
    await costs(id, formatUsd(parseUsd(budget) - parseUsd(spent) - (last * 12n) / 10n))
  }

  test('where a title is asked for beside it, of as many messages as its first question', async () => {
    const ask = asking('title')
    const messages: object[] = [{ role: 'user', content: LONG }]
    assert.equal((await ask(messages)).status, 200)
    await leaveOneCall('title', '0')
    assert.equal((await ask([{ role: 'user', content: 'A title for this chat?' }])).status, 200)
    messages.push({ role: 'assistant', content: 'Yes.' }, { role: 'user', content: 'And now?' })
    assert.equal((await ask(messages)).status, 200)
  })

  test('where the app sends no history, so that its questions look like calls beside it: their tool loops go on from them', async () => {
    const ask = asking('stateless')
    const call = { 'x-fake-tool-call': 'look_up' }
    for (const question of ['First', 'Second']) {
      const messages: object[] = [{ role: 'user', content: `${question}: ${LONG}` }]
      const { spent } = question === 'First' ? { spent: '0' } : await sidecar.standing('stateless')
      const called = await ask(messages, call)
      if (question === 'Second') await leaveOneCall('stateless', spent)
      await goOn(messages, called)
      assert.equal((await ask(messages)).status, 200, question)
    }
  })

  test('where a sub-agent works beside it, whose loop has a count of its own', async () => {
    const ask = asking('agent')
    const call = { 'x-fake-tool-call': 'look_up' }
    const messages: object[] = [{ role: 'user', content: LONG }]
    await goOn(messages, await ask(messages, call))
    const { spent } = await sidecar.standing('agent')
    const agent: object[] = [{ role: 'user', content: `Research: ${LONG}` }]
    await goOn(agent, await ask(agent, call))
    const { spent: spentByBoth } = await sidecar.standing('agent')
    const last = parseUsd(spentByBoth) - parseUsd(spent)
    await costs('agent', formatUsd(parseUsd('0.50') - parseUsd(spentByBoth) - (last * 22n) / 10n))
    assert.equal((await ask(agent)).status, 200, 'two are left, but not by what is estimated')
    assert.equal((await ask(messages)).status, 200)
  })
})

describe('a tool loop ends as it began', () => {
  for (const begins of ['first', 'later'] as const)
    test(`on its model, while a sub-agent works for its ${begins} question by the rung that is due`, async () => {
      const id = `loop of ${begins}`
      const talk = talkOf(id, 'downgrading')
      talk.messages.push({ role: 'system', content: 'You are an agent.' })
      if (begins === 'later') await talk.say('Hello.', ANSWERS)
      const called = await talk.say('Research the market for me.', CALLS_TOOL)
      await costs(id, '0.30')
      seen = []

      const agent = agentOf(id, 'downgrading')
      answerTool(agent, await agent.say('Research: market', CALLS_TOOL))
      const report = await agent.goOn(ANSWERS)
      assert.equal(report.text, 'Done.')
      assert.deepEqual(models(), ['gpt-4o-mini', 'gpt-4o-mini'])

      answerTool(talk, called)
      const answer = await talk.goOn(ANSWERS)
      assert.deepEqual([answer.text, answer.headers.get('x-farebox-rung'), models().at(-1)], ['Done.', 'None', 'gpt-4o'])
      const next = await talk.say('And now?', ANSWERS)
      assert.deepEqual([next.text, next.headers.get('x-farebox-rung')], [`Done.\n\n---\n${WORDS}`, 'DowngradeModel'])
      assert.equal(models().at(-1), 'gpt-4o-mini')
    })

  test('on the cheaper model that a limit of the workload had it begin on, though a sub-agent needs none', async () => {
    await sidecar.adopt(configOf({ limits: LIMITS }))
    try {
      const talk = talkOf('limited', 'downgrading')
      talk.messages.push({ role: 'system', content: 'You are an agent.' })
      const called = await talk.say(LONG, CALLS_TOOL)
      const agent = agentOf('limited', 'downgrading')
      assert.equal((await agent.say('Research: market', ANSWERS)).status, 200)
      answerTool(talk, called)
      assert.equal((await talk.goOn(ANSWERS)).status, 200)
      assert.deepEqual(models(), ['gpt-4o-mini', 'gpt-4o', 'gpt-4o-mini'])
    } finally {
      await sidecar.adopt(configOf())
    }
  })
})

test('of two sub-agents that begin alike the first ends on its model, though a rung is due when the second begins', async () => {
  const talk = talkOf('alike', 'downgrading')
  await talk.say('Research the market for me.', CALLS_TOOL)
  const [one, two] = [agentOf('alike', 'downgrading'), agentOf('alike', 'downgrading')]
  const called = await one.say('Research: market', CALLS_TOOL)
  await costs('alike', '0.30')
  await two.say('Research: market', CALLS_TOOL)
  answerTool(one, called)
  await one.goOn(CALLS_TOOL)
  assert.equal(models().at(-1), 'gpt-4o')
})

test('an answer that was a call of a tool, and all that was wanted, takes no later notice away', async () => {
  await agentOf('structured', 'downgrading').say('One', CALLS_TOOL)
  await costs('structured', '0.30')
  await agentOf('structured', 'downgrading').say('Two', ANSWERS)
  const said = await agentOf('structured', 'downgrading').say('Three', ANSWERS)
  assert.equal(said.text, `Done.\n\n---\n${WORDS}`)
  assert.equal((await sidecar.standing('structured')).rung, 'DowngradeModel')
})

test('an embedding for a tool leaves the notice to the loop that it is in, whose history was cut to that', async () => {
  const talk = talkOf('embedding', 'downgrading')
  await talk.say('Hello.', ANSWERS)
  await costs('embedding', '0.30')
  const called = await talk.say('Find it.', CALLS_TOOL)
  const client = sidecar.client({ 'x-farebox-conversation': 'embedding', 'x-farebox-tier': 'downgrading', 'x-farebox-user': 'ann' })
  await client.embeddings.create({ model: 'text-embedding-3-small', input: 'x' })
  await sidecar.idle()
  answerTool(talk, called)
  talk.messages.splice(0, talk.messages.length - 2)
  assert.equal((await talk.goOn(ANSWERS)).text, `Done.\n\n---\n${WORDS}`)
})

test('a thread that is begun anew under the same id goes on from its own count: the provider is not asked for one', async () => {
  const client = sidecar.client({ 'x-farebox-conversation': 'anew', 'x-farebox-tier': 'plain', 'x-farebox-user': 'ann' })
  for (const first of ['Hello.', 'Hello again.']) {
    let last: string | null = null
    for (const input of [first, 'And order 17?', 'And order 18?']) {
      const answer: OpenAI.Responses.Response = await client.responses.create(
        { model: 'gpt-4o', input, ...(last === null ? {} : { previous_response_id: last }) },
        { headers: { 'x-fake-content': 'Done.' } },
      )
      last = answer.id
      await sidecar.idle()
    }
  }
  assert.deepEqual([...new Set(seen.map(({ path }) => path))], ['/v1/responses'])
})

describe('where the provider keeps the history of the chat, a title', () => {
  async function chatOf(id: string, tier: string): Promise<(input: string, isTitle?: boolean) => Promise<string>> {
    const client = sidecar.client({ 'x-farebox-conversation': id, 'x-farebox-tier': tier, 'x-farebox-user': 'ann' })
    let last: string | null = null
    const ask = async (input: string, isTitle = false): Promise<string> => {
      const answer: OpenAI.Responses.Response = await client.responses.create(
        { model: 'gpt-4o', input, ...(last === null || isTitle ? {} : { previous_response_id: last }) },
        { headers: { 'x-fake-content': 'Done.' } },
      )
      if (!isTitle) last = answer.id
      await sidecar.idle()
      return answer.output_text
    }
    await ask('Hello.')
    await ask('And order 17?')
    return ask
  }

  test('takes no notice away', async () => {
    const ask = await chatOf('kept', 'downgrading')
    await costs('kept', '0.30')
    assert.equal(await ask('A title for this chat?', true), 'Done.')
    assert.equal(await ask('And order 18?'), `Done.\n\n---\n${WORDS}`)
  })

  test('opens no session', async () => {
    const ask = await chatOf('kept at its end', 'resetting')
    await costs('kept at its end', '0.50')
    await ask('A title for this chat?', true)
    assert.equal((await sidecar.standing('kept at its end')).session, 1)
    seen = []
    await ask('And order 18?')
    assert.equal((await sidecar.standing('kept at its end')).session, 2)
    assert.deepEqual(
      seen.map(({ body }) => body.includes('previous_response_id')),
      [false],
      'the next session begins without what is stored',
    )
  })
})
