/** An app that begins each answer itself (a prefill, to get JSON from Claude 4): one conversation, degraded as any other, and no word of ours in its JSON. */
import Anthropic, { APIError } from '@anthropic-ai/sdk'
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { formatUsd, parseUsd } from '@farebox/crds/usd.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { makeConfig, makeContract, makeUpstream } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'

const SMALLER = 'A smaller model answers from here on.'
const CAP = '0.05'
const BEGUN = '{'
const REST = '"order": "17", "in": "Rotterdam"}'
const WORDS = 'word '.repeat(50)
const USER_BUDGET = { amount: '5', period: { unit: 'Month', timeZone: 'UTC', anchorDay: 1 } } as const
const DOWN = { allow: [], downgrades: [{ from: 'claude-sonnet-4-5', to: 'claude-haiku-4-5' }] }
const CONTRACTS = [
  makeContract({ tier: 'capped', caps: { perConversation: CAP } }),
  makeContract({
    tier: 'sessions',
    caps: { perConversation: '0.06', perUser: USER_BUDGET },
    sessions: { maxTurns: 3, maxResets: 5, resetAt: 'Immediately', recap: 'None', memory: { mode: 'Searchable', retentionMs: 86_400_000 } },
  }),
  makeContract({
    tier: 'told',
    models: DOWN,
    ladder: [
      { atPercent: 1, rung: 'DowngradeModel' },
      { atPercent: 100, rung: 'EndConversation', end: 'Close' },
    ],
    notices: { mode: 'Inline', texts: { DowngradeModel: { en: SMALLER } }, defaultLocale: 'en' },
  }),
]

let provider: Provider
let sidecar: Sidecar
before(async () => {
  provider = await startProvider()
  sidecar = await startSidecar(
    makeConfig('', CONTRACTS, { upstreams: [makeUpstream({ name: 'anthropic', provider: 'anthropic', baseUrl: `${provider.url}/v1` })] }),
  )
})
after(async () => {
  await sidecar.close()
  await provider.close()
})

interface Answered {
  readonly status: number
  readonly text: string
  readonly model: string
  readonly conversation: string
  readonly rung: string
}

interface Chat {
  readonly messages: Anthropic.MessageParam[]
  /** A user turn. With `begun` the app begins the answer, and keeps both as one message. */
  ask(question: string, turn?: { readonly begun?: string | null; readonly headers?: Record<string, string> }): Promise<Answered>
}

function startChat(headers: Record<string, string>, maxTokens = 600): Chat {
  const client = new Anthropic({
    apiKey: 'test',
    authToken: null,
    baseURL: `${sidecar.url}/anthropic`,
    defaultHeaders: headers,
    maxRetries: 0,
  })
  const messages: Anthropic.MessageParam[] = []
  return {
    messages,
    async ask(question, { begun = BEGUN, headers: ofTurn = {} } = {}) {
      messages.push({ role: 'user', content: question })
      const prefill: Anthropic.MessageParam[] = begun === null ? [] : [{ role: 'assistant', content: begun }]
      const body = { model: 'claude-sonnet-4-5', max_tokens: maxTokens, messages: [...messages, ...prefill] }
      const answer = await client.messages
        .create(body, { headers: ofTurn })
        .withResponse()
        .catch((error: unknown) => {
          assert.ok(error instanceof APIError && error.headers !== undefined)
          return error
        })
      await sidecar.idle()
      const { headers: said } = answer instanceof APIError ? answer : answer.response
      const of = (name: string): string => said?.get(name) ?? ''
      const state = { conversation: of('x-farebox-conversation'), rung: of('x-farebox-rung') }
      if (answer instanceof APIError) {
        messages.pop()
        return { status: answer.status ?? 0, text: answer.message, model: '', ...state }
      }
      const text = answer.data.content.flatMap((block) => (block.type === 'text' ? [block.text] : [])).join('')
      messages.push({ role: 'assistant', content: `${begun ?? ''}${text}` })
      return { status: 200, text: `${begun ?? ''}${text}`, model: answer.data.model, ...state }
    },
  }
}

/** What the fake is told to answer with. */
function told(content: string): Record<string, string> {
  return { 'x-fake-content': encodeURIComponent(content) }
}

describe('without an id', () => {
  test('it is one conversation, and its cap holds', async () => {
    const chat = startChat({ 'x-farebox-tier': 'capped', 'x-fake-tag': 'capped', 'x-fake-output-tokens': '400' })
    const seen = new Set<string>()
    for (let turn = 0; turn < 12; turn++) {
      const { status, conversation } = await chat.ask(`${turn} ${WORDS}`)
      seen.add(conversation)
      if (status === 402) break
    }
    await provider.settled()
    assert.equal(seen.size, 1)
    const billed = provider.bill.totalNanoUsd('capped')
    assert.ok(billed <= parseUsd(CAP), formatUsd(billed))
    assert.ok(chat.messages.length >= 6, 'it went on while there was money')
  })

  test('the same opening, begun alike, is not the same conversation', async () => {
    const [ann, bob] = [startChat(told(REST)), startChat(told(REST))]
    const first = (await ann.ask('Order 17 as JSON.')).conversation
    const other = (await bob.ask('Order 17 as JSON.')).conversation
    assert.notEqual(other, first)
  })

  test('an app that keeps the two apart, or the words of the model alone, is found again', async () => {
    for (const kept of [
      [
        { role: 'assistant', content: BEGUN },
        { role: 'assistant', content: REST },
      ],
      [{ role: 'assistant', content: REST }],
    ] as const) {
      const chat = startChat(told(REST))
      const first = (await chat.ask(`Order ${kept.length} as JSON.`)).conversation
      chat.messages.splice(1, 1, ...kept)
      assert.equal((await chat.ask('And order 18.')).conversation, first)
    }
  })
})

describe('with an id', () => {
  test('its questions are user turns: sessions end, and questions and whole answers are remembered', async () => {
    const chat = startChat({ 'x-farebox-tier': 'sessions', 'x-farebox-conversation': 'counted', 'x-farebox-user': 'una', ...told(REST) })
    for (let turn = 0; turn < 7; turn++) assert.equal((await chat.ask(`Order ${turn} as JSON.`)).status, 200)
    assert.equal((await sidecar.standing('counted')).session, 3)
    const { entries } = (await sidecar.getJson('/farebox/v1/users/una/history')) as {
      readonly entries: readonly { readonly role: string; readonly text: string }[]
    }
    assert.equal(entries.length, 14)
    assert.deepEqual(new Set(entries.filter(({ role }) => role === 'assistant').map(({ text }) => text)), new Set([BEGUN + REST]))
  })

  test('an answer that was cut and is gone on with is no further turn', async () => {
    const chat = startChat({ 'x-farebox-tier': 'sessions', 'x-farebox-conversation': 'cut', 'x-farebox-user': 'ulf', ...told(REST) })
    const question = 'Order 17 as JSON.'
    const answer = await chat.ask(question)
    for (let call = 1; call <= 4; call++) {
      chat.messages.length = 0
      await chat.ask(question, { begun: answer.text })
    }
    const { session, turns } = await sidecar.standing('cut')
    assert.deepEqual([session, turns], [1, 5])
  })

  test('it steps down a model, is not told so in its JSON, and is told with the next answer in prose', async () => {
    const chat = startChat({ 'x-farebox-tier': 'told', 'x-farebox-conversation': 'told' }, 700)
    await chat.ask('Hello.', { headers: { 'x-fake-output-tokens': '700' } })
    const json = await chat.ask('Order 17 as JSON.', { headers: told(REST) })
    assert.equal(json.rung, 'DowngradeModel')
    assert.match(json.model, /^claude-haiku-4-5/)
    assert.deepEqual(JSON.parse(json.text), { order: '17', in: 'Rotterdam' })
    const prose = await chat.ask('In words?', { begun: null, headers: told('Order 17 is in Rotterdam.') })
    assert.equal(prose.text, `Order 17 is in Rotterdam.\n\n---\n${SMALLER}`)
  })

  test('at its end it is refused: closing words are no JSON', async () => {
    const chat = startChat({ 'x-farebox-tier': 'told', 'x-farebox-conversation': 'closed', ...told(REST) })
    await chat.ask('Order 17 as JSON.')
    await sidecar.postJson('/farebox/v1/conversations/closed/costs', { cost: '1', label: 'search', operationId: 'all of it' })
    const { status, rung } = await chat.ask('Order 18 as JSON.')
    assert.deepEqual([status, rung], [402, 'EndConversation'])
    assert.equal((await chat.ask('In words?', { begun: null })).status, 200)
  })
})
