/** What docs/sdks.md warns of: addresses that an SDK does not take, or takes in another way than its siblings. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { AzureOpenAI } from 'openai'
import type { Provider, SeenRequest } from '../provider/server.ts'
import { startProvider } from '../provider/server.ts'
import type { Python } from './python.ts'
import { withEnvironment } from './sdk.ts'
import type { Ask } from './sdk.ts'

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
