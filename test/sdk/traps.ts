/** What docs/sdks.md warns of: addresses that an SDK does not take, or takes in another way than its siblings. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import Anthropic from '@anthropic-ai/sdk'
import { betaTool } from '@anthropic-ai/sdk/helpers/beta/json-schema'
import { AzureOpenAI } from 'openai'
import type { Provider, SeenRequest } from '../provider/server.ts'
import { startProvider } from '../provider/server.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import type { Python } from './python.ts'
import { TOOL, TOOL_RESULT, withEnvironment } from './sdk.ts'
import type { Ask } from './sdk.ts'
import { matrixConfig } from './stages.ts'
import { CONVERSATION_HEADER } from './tap.ts'

const ASK: Omit<Ask, 'address' | 'model'> = { headers: {}, history: [], question: 'How are you?' }
const AZURE = { apiKey: 'test', apiVersion: '2024-10-21' }

export function describeTraps(python: Python | null): void {
  describe('traps', () => {
    let provider: Provider
    let seen: SeenRequest[] = []
    before(async () => {
      provider = await startProvider({ onRequest: (request) => seen.push(request) })
    })
    after(() => provider.close())

    describe('the tool runner of Anthropic’s SDKs, which asks for a thread unless it is told that there is none', () => {
      const model = 'claude-haiku-4-5'
      const calling = { 'x-fake-tool-call': JSON.stringify([{ name: TOOL.name, arguments: { order: '17' } }]) }
      let sidecar: Sidecar
      before(async () => {
        sidecar = await startSidecar(matrixConfig(provider.url, { from: 'claude-sonnet-4-5', to: model }))
      })
      after(() => sidecar.close())

      /** Two calls of one conversation, the second with all that was said, and none of a thread. */
      async function assertRan(id: string): Promise<void> {
        const asked = seen.map(
          ({ body }) => JSON.parse(body.toString()) as { readonly messages: readonly object[]; readonly thread?: object },
        )
        assert.deepEqual(
          asked.map(({ messages, thread }) => [messages.length, thread]),
          [
            [1, undefined],
            [3, undefined],
          ],
        )
        assert.equal((await sidecar.standing(id)).turns, 2)
      }

      for (const stream of [false, true])
        test(`runs with the whole history (${stream ? 'streamed' : 'plain'})`, async () => {
          seen = []
          const id = `runner ${stream}`
          const client = new Anthropic({
            apiKey: 'test',
            baseURL: `${sidecar.url}/anthropic`,
            defaultHeaders: { ...calling, [CONVERSATION_HEADER]: id },
          })
          const { parameters, ...named } = TOOL
          const tools = [betaTool({ ...named, inputSchema: parameters, run: () => TOOL_RESULT })]
          const messages: Anthropic.Beta.BetaMessageParam[] = [{ role: 'user', content: ASK.question }]
          await client.beta.messages.toolRunner({ model, max_tokens: 500, messages, tools, max_iterations: 2, stream }).runUntilDone()
          await assertRan(id)
        })

      test('runs in Python, too', { skip: python === null }, async () => {
        seen = []
        const headers = { ...calling, [CONVERSATION_HEADER]: 'runner in Python' }
        const address = `${sidecar.url}/anthropic`
        const outcome = await python?.call('anthropic', 'tools', { ...ASK, headers, model, address, runs: 2 })
        assert.equal(outcome?.status, 'answered', JSON.stringify(outcome))
        await assertRan('runner in Python')
      })
    })

    test('`AzureOpenAI` for Node does not start where OPENAI_BASE_URL is set and its endpoint is given in code', async () => {
      await withEnvironment({ OPENAI_BASE_URL: `${provider.url}/v1` }, async () => {
        assert.throws(() => new AzureOpenAI({ ...AZURE, endpoint: provider.url }), /mutually exclusive/)
      })
    })

    test('where both variables are set, it goes by OPENAI_BASE_URL, to a path that only Azure has', async () => {
      seen = []
      const variables = { OPENAI_BASE_URL: `${provider.url}/v1`, AZURE_OPENAI_ENDPOINT: 'http://127.0.0.1:1' }
      await withEnvironment(variables, async () => {
        const client = new AzureOpenAI({ ...AZURE, maxRetries: 0 })
        await assert.rejects(client.chat.completions.create({ model: 'desk-large', messages: [{ role: 'user', content: 'Hi' }] }))
      })
      assert.deepEqual(
        seen.map(({ path }) => path),
        ['/v1/deployments/desk-large/chat/completions'],
      )
    })

    test('`AzureOpenAI` for Python goes by its own variable', { skip: python === null }, async () => {
      seen = []
      const environment = { OPENAI_BASE_URL: 'http://127.0.0.1:1/v1', AZURE_OPENAI_ENDPOINT: provider.url }
      const outcome = await python?.call('azure', 'plain', { ...ASK, model: 'desk-large', address: null, environment })
      assert.equal(outcome?.status, 'answered')
      assert.deepEqual(
        seen.map(({ path }) => path),
        ['/openai/deployments/desk-large/chat/completions'],
      )
    })

    test(
      '`langchain-openai` shows no usage of a stream where it is led by a variable, unless it is told to',
      { skip: python === null },
      async () => {
        const environment = { OPENAI_BASE_URL: `${provider.url}/v1` }
        for (const streamUsage of [null, undefined]) {
          const told = streamUsage === null ? { streamUsage } : {}
          const outcome = await python?.call('langchain-openai', 'streamed', {
            ...ASK,
            model: 'gpt-4o',
            address: null,
            environment,
            ...told,
          })
          assert.ok(outcome?.status === 'answered', JSON.stringify(outcome))
          assert.equal(outcome.answer.usage === null, streamUsage === null)
        }
      },
    )
  })
}
