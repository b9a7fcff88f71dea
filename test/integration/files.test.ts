/**
 * Files whose size nothing here can bound: PDFs and films, by link or embedded. Where the money is short the provider is asked what they
 * come to, and the cap holds; one that is too large is refused, and the conversation goes on.
 */
import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, test } from 'node:test'
import { formatUsd, parseUsd } from '@farebox/crds/usd.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider, SeenRequest } from '../provider/server.ts'
import { makeConfig, makeContract, makeUpstream } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'

const CAP = '0.10'
/** A PDF of this many empty pages: some bytes each. */
const pdf = (pages: number): string => Buffer.from(`%PDF-1.7\n${'<</Type /Page>>\n'.repeat(pages)}%%EOF`).toString('base64')
const link = (pages: number): string => `https://files.example.com/${pages}-pages.pdf`

type Message = object

interface Talk {
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly countPath: RegExp
  /** Pages that fit into the cap by the provider's count, though not by any bound that is known here; and pages that do not fit at all. */
  readonly pages: number
  readonly tooMany: number
  /** How the part that is too large is named in a refusal of the first message. */
  readonly param: string
  readonly linked: (pages: number) => object
  readonly embedded: (pages: number) => object
  readonly says: (text: string, part?: object) => Message
  readonly body: (messages: readonly Message[]) => object
  /** What goes back into the history. */
  readonly answers: (answer: object) => readonly Message[]
}

function listOf(value: unknown): readonly Message[] {
  return Array.isArray(value) ? value : []
}

const TALKS: Readonly<Record<string, Talk>> = {
  Messages: {
    path: '/anthropic/v1/messages',
    headers: { 'x-api-key': 'key', 'anthropic-version': '2023-06-01' },
    countPath: /^\/v1\/messages\/count_tokens$/,
    pages: 20,
    tooMany: 80,
    param: 'messages[0].content[0]',
    linked: (pages) => ({ type: 'document', source: { type: 'url', url: link(pages) } }),
    embedded: (pages) => ({ type: 'document', source: { type: 'base64', media_type: 'application/pdf', data: pdf(pages) } }),
    says: (text, part) => ({ role: 'user', content: [...(part === undefined ? [] : [part]), { type: 'text', text }] }),
    body: (messages) => ({ model: 'claude-haiku-4-5', max_tokens: 300, messages }),
    answers: (answer) => [{ role: 'assistant', content: Object(answer).content }],
  },
  Gemini: {
    path: '/google/v1beta/models/gemini-2.5-flash:generateContent',
    headers: { 'x-goog-api-key': 'key' },
    countPath: /^\/v1beta\/models\/gemini-2\.5-flash:countTokens$/,
    pages: 50,
    tooMany: 800,
    param: 'contents[0].parts[0]',
    linked: (pages) => ({ fileData: { mimeType: 'video/mp4', fileUri: link(pages) } }),
    embedded: (pages) => ({ inlineData: { mimeType: 'application/pdf', data: pdf(pages) } }),
    says: (text, part) => ({ role: 'user', parts: [...(part === undefined ? [] : [part]), { text }] }),
    body: (contents) => ({ contents, generationConfig: { maxOutputTokens: 300, thinkingConfig: { thinkingBudget: 0 } } }),
    answers: (answer) => [Object(listOf(Object(answer).candidates)[0]).content],
  },
  Responses: {
    path: '/openai/v1/responses',
    headers: { authorization: 'Bearer key' },
    countPath: /^\/v1\/responses\/input_tokens$/,
    pages: 10,
    tooMany: 60,
    param: 'input[0].content[0]',
    linked: (pages) => ({ type: 'input_file', file_url: link(pages) }),
    embedded: (pages) => ({ type: 'input_file', filename: 'a.pdf', file_data: `data:application/pdf;base64,${pdf(pages)}` }),
    says: (text, part) => ({ role: 'user', content: [...(part === undefined ? [] : [part]), { type: 'input_text', text }] }),
    body: (input) => ({ model: 'gpt-4o', max_output_tokens: 300, store: false, input }),
    answers: (answer) => listOf(Object(answer).output),
  },
}

let provider: Provider
let sidecar: Sidecar
let seen: SeenRequest[] = []

before(async () => {
  provider = await startProvider({ onRequest: (request) => seen.push(request) })
  const upstreams = [
    makeUpstream({ name: 'openai', provider: 'openai', baseUrl: `${provider.url}/v1` }),
    makeUpstream({ name: 'anthropic', provider: 'anthropic', baseUrl: `${provider.url}/v1` }),
    makeUpstream({ name: 'google', provider: 'google', baseUrl: provider.url }),
  ]
  const tight = makeContract({
    tier: 'tight',
    caps: { perConversation: CAP },
    models: { allow: [], downgrades: [], usefulOutputTokens: 50 },
  })
  const rich = makeContract({ tier: 'rich', caps: { perConversation: '20.00' } })
  const resets = makeContract({
    tier: 'resets',
    caps: { perConversation: CAP, perUser: { amount: '5.00', period: { unit: 'Month', timeZone: 'UTC', anchorDay: 1 } } },
    ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Reset' }],
    models: { allow: [], downgrades: [], usefulOutputTokens: 50 },
    sessions: { maxResets: 5 },
  })
  sidecar = await startSidecar(makeConfig('', [tight, rich, resets], { upstreams }))
})
after(async () => {
  await sidecar.close()
  await provider.close()
})
beforeEach(() => {
  seen = []
  provider.bill.clear()
  provider.clearCache()
})

interface Said {
  readonly status: number
  readonly json: object
  readonly text: string
}

async function ask(
  id: string,
  talk: Pick<Talk, 'path' | 'headers'>,
  body: object,
  tier = 'tight',
  more: Readonly<Record<string, string>> = {},
): Promise<Said> {
  const response = await fetch(sidecar.url + talk.path, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-farebox-conversation': id, 'x-farebox-tier': tier, ...talk.headers, ...more },
    body: JSON.stringify(body),
  })
  const text = await response.text()
  return { status: response.status, json: Object(JSON.parse(text)), text }
}

/** The books say what the provider bills, and that is below the cap. */
async function assertBooked(id: string, cap: string = CAP, tier = 'tight'): Promise<void> {
  await provider.settled()
  await sidecar.idle()
  const { spent, held } = await sidecar.standing(id, `?tier=${tier}`)
  const billed = provider.bill.totalNanoUsd()
  assert.deepEqual([spent, held], [formatUsd(billed), '0.00'])
  assert.ok(billed <= parseUsd(cap), `${spent} of ${cap}`)
}

for (const [name, talk] of Object.entries(TALKS)) {
  describe(name, () => {
    const counts = (): number => seen.filter(({ path }) => talk.countPath.test(path.split('?')[0] ?? '')).length

    for (const how of ['linked', 'embedded'] as const) {
      test(`a file that is ${how} is counted by its provider once, and goes through`, async () => {
        const id = `${name} ${how}`
        const first = talk.says('What does it say?', talk[how](talk.pages))
        const said = await ask(id, talk, talk.body([first]))
        assert.equal(said.status, 200, said.text)
        assert.equal(counts(), 1)
        await assertBooked(id)
        const again = await ask(id, talk, talk.body([first, ...talk.answers(said.json), talk.says('And then?')]))
        assert.equal(again.status, 200, again.text)
        assert.equal(counts(), 1, 'from then on it is in the exact count')
        await assertBooked(id)
      })

      test(`a file that is ${how} and too large is refused by name, and the conversation goes on`, async () => {
        const id = `${name} large ${how}`
        const refused = await ask(id, talk, talk.body([talk.says('What does it say?', talk[how](talk.tooMany))]))
        assert.equal(refused.status, 402, refused.text)
        assert.match(refused.text, /conversation_budget_exhausted/i)
        assert.match(refused.text, /attachment is too large/)
        assert.ok(refused.text.includes(talk.param), refused.text)
        assert.equal(counts(), 1)
        const said = await ask(id, talk, talk.body([talk.says('Never mind.')]))
        assert.equal(said.status, 200, said.text)
        await assertBooked(id)
      })
    }

    test('where there is money for all that a file can be, nobody is asked', async () => {
      const id = `${name} rich`
      const said = await ask(id, talk, talk.body([talk.says('What does it say?', talk.linked(talk.pages))]), 'rich')
      assert.equal(said.status, 200, said.text)
      assert.equal(counts(), 0)
      await assertBooked(id, '20.00', 'rich')
    })
  })
}

describe('Chat', () => {
  const talk = { path: '/openai/v1/chat/completions', headers: { authorization: 'Bearer key' } }
  const says = (text: string, pages: number | null): object => ({
    model: 'gpt-4o',
    max_completion_tokens: 300,
    messages: [
      {
        role: 'user',
        content: [
          { type: 'text', text },
          ...(pages === null
            ? []
            : [{ type: 'file', file: { filename: 'a.pdf', file_data: `data:application/pdf;base64,${pdf(pages)}` } }]),
        ],
      },
    ],
  })

  test('has no count: a file is held for by the context of its model, or refused', async () => {
    const refused = await ask('chat', talk, says('What does it say?', 1))
    assert.equal(refused.status, 402, refused.text)
    assert.equal(Object(Object(refused.json).error).param, 'messages[0].content[1]')
    const said = await ask('chat', talk, says('Never mind.', null))
    assert.equal(said.status, 200, said.text)
    await assertBooked('chat')
  })

  test('goes through where there is money for that', async () => {
    const said = await ask('rich chat', talk, says('What does it say?', 90), 'rich')
    assert.equal(said.status, 200, said.text)
    await assertBooked('rich chat', '20.00', 'rich')
  })
})

test('a provider that gives no count is no way around the cap: the file is refused', async () => {
  const talk = TALKS['Responses']
  assert.ok(talk !== undefined)
  const body = talk.body([talk.says('What does it say?', talk.linked(1))])
  const refused = await ask('uncounted', talk, body, 'tight', { 'x-fake-status': '404' })
  assert.equal(refused.status, 402, refused.text)
  assert.ok(seen.length > 0 && seen.every(({ path }) => talk.countPath.test(path)), 'only the count was asked for')
  const said = await ask('uncounted', talk, body)
  assert.equal(said.status, 200, 'asked again, the provider counts')
  await assertBooked('uncounted')
})

test('a new session begins for a file that fits into it, and none for one that does not', async () => {
  const talk = TALKS['Messages']
  assert.ok(talk !== undefined)
  const say = (pages: number): Promise<Said> =>
    ask('resets', talk, talk.body([talk.says('What does it say?', talk.linked(pages))]), 'resets', { 'x-farebox-user': 'ann' })
  const session = async (): Promise<number> => (await sidecar.standing('resets', '?tier=resets')).session
  assert.deepEqual([(await say(20)).status, await session()], [200, 1])
  assert.deepEqual([(await say(80)).status, await session()], [402, 1])
  assert.deepEqual([(await say(40)).status, await session()], [200, 2])
})
