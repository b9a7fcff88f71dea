/**
 * An app that has one client for all of its chats says of each call whose it is: every SDK sends headers with one call, in the way that
 * docs/sdks.md names. What stands on the client is said of all calls alike.
 */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import Anthropic from '@anthropic-ai/sdk'
import { createOpenAI } from '@ai-sdk/openai'
import { GoogleGenAI } from '@google/genai'
import { ChatAnthropic } from '@langchain/anthropic'
import { ChatOpenAI } from '@langchain/openai'
import { generateText, streamText } from 'ai'
import OpenAI, { AzureOpenAI } from 'openai'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { pageRows } from './page.ts'
import { startPython } from './python.ts'
import type { Python } from './python.ts'
import { matrixConfig } from './stages.ts'
import { CONVERSATION_HEADER } from './tap.ts'

const [GPT, CLAUDE, GEMINI] = ['gpt-4o', 'claude-sonnet-4-5', 'gemini-2.5-pro']
const TIER = 'no-rung'
const MAX_TOKENS = 100

type Headers = Record<string, string>
/** One call by a client that was made before it. */
type Call = (question: string, headers: Headers) => Promise<unknown>

/** A row of the page: where headers of a client stand, and where those of one call do. */
interface Spelling {
  /** As docs/sdks.md calls it. */
  readonly name: string
  readonly ofClient: string
  readonly ofCall: string
  /** Clients of a sidecar at `origin`, by what they are; those of a language that is not there are none. */
  readonly clients: (origin: string, python: Python | null) => Readonly<Record<string, Call>>
}

const SPELLINGS: readonly Spelling[] = [
  {
    name: "OpenAI's and Anthropic's for Node",
    ofClient: '`defaultHeaders`',
    ofCall: '`create(body, { headers })`',
    clients(origin) {
      const openai = new OpenAI({ apiKey: 'test', baseURL: `${origin}/openai/v1` })
      const azure = new AzureOpenAI({ apiKey: 'test', apiVersion: '2024-10-21', endpoint: `${origin}/azure` })
      const anthropic = new Anthropic({ apiKey: 'test', baseURL: `${origin}/anthropic` })
      return {
        chat: (question, headers) => openai.chat.completions.create({ model: GPT, messages: asked(question) }, { headers }),
        responses: (question, headers) => openai.responses.create({ model: GPT, input: question }, { headers }),
        azure: (question, headers) => azure.chat.completions.create({ model: 'desk-large', messages: asked(question) }, { headers }),
        messages: (question, headers) =>
          anthropic.messages.create({ model: CLAUDE, max_tokens: MAX_TOKENS, messages: asked(question) }, { headers }),
      }
    },
  },
  {
    name: 'the same for Python',
    ofClient: '`default_headers`',
    ofCall: '`create(..., extra_headers=headers)`',
    clients: (origin, python) => ({
      ...pythonClient(python, 'openai-chat', GPT, `${origin}/openai/v1`),
      ...pythonClient(python, 'openai-responses', GPT, `${origin}/openai/v1`),
      ...pythonClient(python, 'azure', 'desk-large', `${origin}/azure`),
      ...pythonClient(python, 'anthropic', CLAUDE, `${origin}/anthropic`),
    }),
  },
  {
    name: 'AI SDK',
    ofClient: '`headers`',
    ofCall: '`generateText({ ..., headers })`, and so `streamText`',
    clients(origin) {
      const model = createOpenAI({ apiKey: 'test', baseURL: `${origin}/openai/v1` })(GPT)
      return {
        generateText: (prompt, headers) => generateText({ model, prompt, headers }),
        streamText: async (prompt, headers) => await streamText({ model, prompt, headers }).text,
      }
    },
  },
  {
    name: "Google's",
    ofClient: '`httpOptions.headers`',
    ofCall: '`config.httpOptions.headers`',
    clients(origin) {
      const { models } = new GoogleGenAI({ apiKey: 'test', httpOptions: { baseUrl: `${origin}/gemini` } })
      return {
        generateContent: (contents, headers) => models.generateContent({ model: GEMINI, contents, config: { httpOptions: { headers } } }),
      }
    },
  },
  {
    name: "LangChain's for OpenAI",
    ofClient: '`configuration.defaultHeaders`',
    ofCall: '`invoke(messages, { options: { headers } })`',
    clients(origin) {
      const model = new ChatOpenAI({ model: GPT, apiKey: 'test', configuration: { baseURL: `${origin}/openai/v1` } })
      return { invoke: (question, headers) => model.invoke(question, { options: { headers } }) }
    },
  },
  {
    name: "LangChain's for Anthropic",
    ofClient: '`clientOptions.defaultHeaders`',
    ofCall: '`invoke(messages, { headers })`',
    clients(origin) {
      const model = new ChatAnthropic({ model: CLAUDE, apiKey: 'test', anthropicApiUrl: `${origin}/anthropic` })
      return { invoke: (question, headers) => model.invoke(question, { headers }) }
    },
  },
  {
    name: "LangChain's for Python",
    ofClient: '`default_headers`',
    ofCall: '`invoke(messages, extra_headers=headers)`',
    clients: (origin, python) => ({
      ...pythonClient(python, 'langchain-openai', GPT, `${origin}/openai/v1`),
      ...pythonClient(python, 'langchain-anthropic', CLAUDE, `${origin}/anthropic`),
    }),
  },
]

const python = await startPython()
let provider: Provider
let sidecar: Sidecar
before(async () => {
  provider = await startProvider()
  sidecar = await startSidecar(matrixConfig(provider.url, { from: GPT, to: 'gpt-4o-mini' }))
})
after(async () => {
  await sidecar.close()
  await provider.close()
  await python?.stop()
})

describe('two users of one client have two conversations by the headers of each call', () => {
  for (const { name, ofClient, ofCall, clients } of SPELLINGS)
    test(name, async () => {
      assert.deepEqual(pageRows().get(name), [ofClient, ofCall], 'the row of docs/sdks.md')
      for (const [way, call] of Object.entries(clients(sidecar.url, python))) {
        const chats = ['Ada', 'Bob'].map((user) => ({ user, id: `${name}, ${way}, ${user}` }))
        for (const { user, id } of chats) await call(`This is ${user}.`, headersOf(id, user))
        await sidecar.idle()
        const standings = await Promise.all(chats.map(({ id }) => sidecar.standing(id, `?tier=${TIER}`)))
        assert.deepEqual(
          standings.map(({ turns, tier }) => [turns, tier]),
          [
            [1, TIER],
            [1, TIER],
          ],
          way,
        )
        assert.equal(new Set(standings.map(({ user }) => user)).size, 2, way)
      }
    })
})

test('by headers of the client all users are in one conversation, which is that of the first', async () => {
  const client = new OpenAI({
    apiKey: 'test',
    baseURL: `${sidecar.url}/openai/v1`,
    defaultHeaders: { [CONVERSATION_HEADER]: 'for all' },
  })
  const say = async (user: string): Promise<unknown> =>
    client.chat.completions.create({ model: GPT, messages: asked(`This is ${user}.`) }, { headers: { 'x-farebox-user': user } })
  await say('Ada')
  await assert.rejects(say('Bob'), { status: 403, code: 'identity_rejected' })
})

const headersOf = (id: string, user: string): Headers => ({
  [CONVERSATION_HEADER]: id,
  'x-farebox-user': user,
  'x-farebox-tier': TIER,
})

const asked = (content: string): { role: 'user'; content: string }[] => [{ role: 'user', content }]

/** One of the driver's, which keeps its clients. */
function pythonClient(python: Python | null, sdk: string, model: string, address: string): Readonly<Record<string, Call>> {
  if (python === null) return {}
  const call: Call = async (question, callHeaders) => {
    const outcome = await python.call(sdk, 'plain', { address, headers: {}, model, history: [], question, callHeaders })
    assert.equal(outcome.status, 'answered', JSON.stringify(outcome))
  }
  return { [sdk]: call }
}
