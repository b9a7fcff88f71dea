/** Azure OpenAI through a sidecar, by OpenAI's own client for it: deployments are priced by the models that they serve. */
import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, test } from 'node:test'
import OpenAI, { APIError, AzureOpenAI } from 'openai'
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import { formatUsd, parseUsd } from '@farebox/crds/usd.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider, SeenRequest } from '../provider/server.ts'
import { DEFAULT_DEPLOYMENTS } from '../provider/azure.ts'
import { makeConfig, makeContract, makeUpstream } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { talking } from '../support/talk.ts'

type Params = OpenAI.ChatCompletionCreateParamsNonStreaming
type Message = OpenAI.ChatCompletionMessageParam

const WORDS = 'This chat has come to its end.'
const NOTICE = 'From here on this chat goes on with a smaller model.'
const LADDER: Contract['ladder'] = [
  { atPercent: 4, rung: 'DropRetrieval' },
  { atPercent: 35, rung: 'Summarize' },
  { atPercent: 55, rung: 'DowngradeModel' },
  { atPercent: 75, rung: 'RefuseTools' },
  { atPercent: 100, rung: 'EndConversation', end: 'Close' },
]
const models = { allow: [], downgrades: [{ from: 'gpt-4o', to: 'gpt-4o-mini' }], summarizer: 'gpt-4o-mini', usefulOutputTokens: 60 }
const tools: OpenAI.ChatCompletionTool[] = [
  { type: 'function', function: { name: 'look_up', parameters: { type: 'object', properties: { order: { type: 'string' } } } } },
]

let provider: Provider
let sidecar: Sidecar
let seen: SeenRequest[] = []
before(async () => {
  provider = await startProvider({ onRequest: (request) => seen.push(request) })
  const contracts = [
    makeContract({ tier: 'plenty', caps: { perConversation: '5.00' } }),
    makeContract({
      tier: 'ladder',
      caps: { perConversation: '0.03' },
      context: { overflow: 'DropOldest', keepRecentTurns: 2 },
      models,
      ladder: LADDER,
    }),
    makeContract({ tier: 'small', caps: { perConversation: '0.005' } }),
    makeContract({
      tier: 'closing',
      caps: { perConversation: '0.005' },
      ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Close' }],
      notices: { mode: 'HeadersOnly', texts: { End: { en: WORDS } }, defaultLocale: 'en' },
    }),
    makeContract({
      tier: 'spoken',
      models,
      ladder: [
        { atPercent: 0, rung: 'DowngradeModel' },
        { atPercent: 100, rung: 'EndConversation', end: 'Close' },
      ],
      notices: { mode: 'Inline', texts: { DowngradeModel: { en: NOTICE } }, defaultLocale: 'en' },
    }),
  ]
  sidecar = await startSidecar(
    makeConfig(provider.url, contracts, {
      retrieval: { toolNames: ['look_up'], tags: ['context'] },
      upstreams: [
        makeUpstream({
          name: 'azure',
          provider: 'azure',
          baseUrl: provider.url,
          deployments: DEFAULT_DEPLOYMENTS.filter(({ model }) => !model.startsWith('gpt-5')),
        }),
      ],
    }),
  )
})
after(async () => {
  await sidecar.close()
  await provider.close()
})
beforeEach(() => {
  seen = []
  provider.clearCache()
})

/** By the older API, whose paths name the deployment, and by the newer, where the body does. */
const APIS = ['deployments', 'v1'] as const
type Api = (typeof APIS)[number]

function client(api: Api, base: string, headers: Record<string, string> = {}): OpenAI {
  if (api === 'v1') return new OpenAI({ apiKey: 'a-key', baseURL: `${base}/openai/v1`, defaultHeaders: headers, maxRetries: 2 })
  return new AzureOpenAI({ apiKey: 'a-key', apiVersion: '2024-10-21', baseURL: `${base}/openai`, defaultHeaders: headers, maxRetries: 2 })
}
function governed(api: Api, headers: Record<string, string> = {}): OpenAI {
  return client(api, `${sidecar.url}/azure`, headers)
}

const ask: Params = { model: 'desk-large', messages: [{ role: 'user', content: 'How are you?' }] }

for (const api of APIS) {
  describe(`below /openai/${api}`, () => {
    // oxfmt-ignore
    const cases: readonly [string, Params, Record<string, string>][] = [
      ['in words', ask, {}],
      ['with a call', { ...ask, tools }, { 'x-fake-tool-call': '[{"name":"look_up","arguments":{"order":"17"}}]' }],
      ['by a schema', { ...ask, response_format: { type: 'json_schema', json_schema: { name: 'verdict', schema: { type: 'object', properties: { ok: { type: 'boolean' } }, required: ['ok'] } } } }, {}],
      ['within a bound', { ...ask, max_completion_tokens: 25 }, { 'x-fake-output-tokens': '90' }],
    ]
    for (const [name, params, headers] of cases) {
      test(`the same answers as without a sidecar: ${name}`, async () => {
        const id = `${api} ${name}`
        const answer = await governed(api, talking(id, 'plenty', headers)).chat.completions.create(params)
        assert.deepEqual(essence(answer), essence(await client(api, provider.url, headers).chat.completions.create(params)))
        const streamed = { ...params, stream: true } as const
        const chunks = await collect(governed(api, talking(`${id}, streamed`, 'plenty', headers)), streamed)
        assert.deepEqual(chunks.map(essence), (await collect(client(api, provider.url, headers), streamed)).map(essence))
        assert.ok(chunks[0] !== undefined && 'prompt_filter_results' in chunks[0], 'its first chunk is there')
        await sidecar.idle()
        const spent = parseUsd((await sidecar.standing(id, '?tier=plenty')).spent)
        assert.equal(spent, provider.bill.totalNanoUsd(id))
        assert.equal(parseUsd((await sidecar.standing(`${id}, streamed`, '?tier=plenty')).spent), spent)
      })
    }

    test('every rung comes, on the deployment that serves the smaller model, within the budget', async () => {
      const id = `ladder ${api}`
      provider.bill.clear()
      const rungs = new Set<string>()
      const messages: Message[] = [{ role: 'system', content: 'You help with orders.' }]
      for (let turn = 0; turn < 80 && !rungs.has('EndConversation'); turn += 1) {
        messages.push({ role: 'user', content: `<context>${'Facts about orders and parcels. '.repeat(40)}</context>\nQuestion ${turn}?` })
        for (let step = 0; step < 2; step += 1) {
          const calls: Record<string, string> = step === 0 && !rungs.has('RefuseTools') ? { 'x-fake-tool-call': 'look_up' } : {}
          const rung = await nextRung(id)
          const headers = talking(id, 'ladder', { 'x-fake-output-tokens': '120', ...(rung === 'RefuseTools' ? {} : calls) })
          const { data, response } = await governed(api, headers)
            .chat.completions.create({ ...ask, messages, tools })
            .withResponse()
          rungs.add(response.headers.get('x-farebox-rung') ?? '')
          const said = data.choices[0]?.message
          if (said === undefined) break
          messages.push(said)
          for (const call of said.tool_calls ?? [])
            messages.push({ role: 'tool', tool_call_id: call.id, content: 'It is in Rotterdam. '.repeat(30) })
          if ((said.tool_calls ?? []).length === 0) break
        }
        await sidecar.idle()
      }
      assert.deepEqual(
        LADDER.map(({ rung }) => rung).filter((rung) => !rungs.has(rung)),
        [],
      )
      await provider.settled()
      const billed = provider.bill.totalNanoUsd() // its summaries too, which carry no tag
      const { spent, budget, held } = await sidecar.standing(id, '?tier=ladder')
      assert.ok(billed <= parseUsd(budget), formatUsd(billed))
      assert.deepEqual([parseUsd(spent), held], [billed, '0.00'])
      assert.ok(provider.bill.lines(id).some(({ model }) => model === 'gpt-4o-mini'))
      assert.ok(seen.some(({ body }) => body.includes('summarised by farebox')))
      const downgraded = seen.filter(({ path, body }) => path.includes('desk-small') || body.includes('"desk-small"'))
      assert.ok(downgraded.length > 0)
      if (api === 'deployments') assert.ok(downgraded.every(({ path }) => path === '/openai/deployments/desk-small/chat/completions'))
    })

    test('an answer on another deployment says so where the owner wants it', async () => {
      for (const stream of [false, true]) {
        const id = `spoken ${api} ${stream}`
        const headers = talking(id, 'spoken', { 'x-fake-content': 'Yes.' })
        const text = stream
          ? (await collect(governed(api, headers), { ...ask, stream })).map((chunk) => chunk.choices[0]?.delta.content ?? '').join('')
          : (await governed(api, headers).chat.completions.create(ask)).choices[0]?.message.content
        assert.equal(text, `Yes.\n\n---\n${NOTICE}`)
        assert.equal(provider.bill.lines(id)[0]?.model, 'gpt-4o-mini')
      }
    })

    test('at the cap a call is refused in one attempt, or answered in words', async () => {
      const id = `cap ${api}`
      const headers = talking(id, 'small', { 'x-fake-output-tokens': '9000' })
      const first = await governed(api, headers).chat.completions.create(ask)
      assert.equal(first.choices[0]?.finish_reason, 'length')
      const before = [seen.length, await refusals()]
      await assert.rejects(governed(api, headers).chat.completions.create(ask), (error: unknown) => {
        assert.ok(error instanceof APIError)
        assert.deepEqual([error.status, error.code], [402, 'conversation_budget_exhausted'])
        return true
      })
      assert.deepEqual([seen.length, await refusals()], [before[0], (before[1] ?? 0) + 1])
      await provider.settled()
      assert.ok(provider.bill.totalNanoUsd(id) <= parseUsd('0.005'))
      const closing = talking(`closing ${api}`, 'closing', { 'x-fake-output-tokens': '9000' })
      await governed(api, closing).chat.completions.create(ask)
      assert.equal((await governed(api, closing).chat.completions.create(ask)).choices[0]?.message.content, WORDS)
    })
  })
}

test('a model that no deployment serves is not gone over to; an unknown deployment is Azure’s to refuse', async () => {
  const { response } = await governed('deployments', talking('small already', 'spoken'))
    .chat.completions.create({ ...ask, model: 'desk-small' })
    .withResponse()
  assert.equal(response.headers.get('x-farebox-rung'), 'None')
  assert.equal(seen.at(-1)?.path, '/openai/deployments/desk-small/chat/completions')
  await assert.rejects(
    governed('deployments').chat.completions.create({ ...ask, model: 'nowhere' }),
    (error: unknown) => error instanceof APIError && error.status === 404 && error.code === 'DeploymentNotFound',
  )
})

test('a body without a model goes out as it came, under the deployment in the path', async () => {
  const body = '{"messages":[{"role":"user","content":"Hi"}],"max_tokens":40}'
  const response = await fetch(`${sidecar.url}/azure/openai/deployments/desk-large/chat/completions?api-version=2024-10-21`, {
    method: 'POST',
    headers: { 'api-key': 'app', 'content-type': 'application/json', ...talking('bare', 'plenty') },
    body,
  })
  assert.equal(response.status, 200)
  assert.deepEqual(
    [seen.at(-1)?.body.toString(), seen.at(-1)?.search, seen.at(-1)?.headers['api-key']],
    [body, '?api-version=2024-10-21', 'app'],
  )
})

async function nextRung(id: string): Promise<string | null> {
  const standing = await sidecar.getJson(`/farebox/v1/conversations/${encodeURIComponent(id)}?tier=ladder`).catch(() => null)
  return typeof standing === 'object' && standing !== null && 'rung' in standing && typeof standing.rung === 'string' ? standing.rung : null
}

async function collect(openai: OpenAI, params: OpenAI.ChatCompletionCreateParamsStreaming): Promise<OpenAI.ChatCompletionChunk[]> {
  const chunks = []
  for await (const chunk of await openai.chat.completions.create(params)) chunks.push(chunk)
  return chunks
}

/** All but what differs from call to call. */
function essence(answer: object): object {
  return JSON.parse(
    JSON.stringify(answer, (key, value: unknown) => (key === 'id' || key === 'created' || key === '_request_id' ? undefined : value)),
  ) as object
}

async function refusals(): Promise<number> {
  return Number(/farebox_refusals_total\{[^}]*conversation_budget_exhausted[^}]*\} (\d+)/.exec(await sidecar.metrics())?.[1] ?? 0)
}
