/** Summaries of conversations with a model that searches on every call: what they cost is theirs, and no search is in it. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider, SeenRequest } from '../provider/server.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { startTalk, talking } from '../support/talk.ts'

interface Ledger {
  readonly entries: readonly { readonly kind: string; readonly purpose?: string; readonly usage?: { readonly webSearchCalls?: number } }[]
}

const LONG = 'What is said at length is worth a summary of its own, sooner or later. '.repeat(300)

function tier(name: string, models: Partial<Contract['models']>): Contract {
  return makeContract({
    tier: name,
    caps: { perConversation: '1.00' },
    context: { overflow: 'DropOldest', keepRecentTurns: 1 },
    models: { allow: [], downgrades: [], ...models },
    ladder: [
      { atPercent: 1, rung: 'Summarize' },
      { atPercent: 100, rung: 'EndConversation', end: 'Refuse' },
    ],
  })
}

let provider: Provider
let sidecar: Sidecar
let seen: SeenRequest[] = []
before(async () => {
  provider = await startProvider({ onRequest: (request) => seen.push(request) })
  sidecar = await startSidecar(makeConfig(`${provider.url}/v1`, [tier('by-another', { summarizer: 'gpt-4o-mini' }), tier('by-itself', {})]))
})
after(async () => {
  await sidecar.close()
  await provider.close()
})

/** The models of all calls that the provider had, and the entries of the ledger that are for summaries. */
async function searchAtLength(tierName: string): Promise<{ readonly models: readonly unknown[]; readonly summaries: Ledger['entries'] }> {
  seen = []
  const talk = startTalk(sidecar, talking(tierName, tierName), { model: 'gpt-4o-search-preview', web_search_options: {}, n: 2 })
  for (const question of ['First', 'Then', 'Last']) {
    await talk.say(`${question}: ${LONG}`)
    await sidecar.idle()
  }
  const { entries } = (await sidecar.getJson('/farebox/v1/ledger?limit=100')) as Ledger
  return {
    models: seen.map(({ body }) => (JSON.parse(body.toString()) as { readonly model?: unknown }).model),
    summaries: entries.filter(({ purpose }) => purpose === 'summary'),
  }
}

describe('the summary of a conversation that searches', () => {
  test('is booked no search, made by a model that makes none', async () => {
    const { models, summaries } = await searchAtLength('by-another')
    assert.ok(models.includes('gpt-4o-mini'))
    assert.ok(summaries.length > 0)
    assert.deepEqual([...new Set(summaries.map(({ kind }) => kind))], ['settlement'], 'within what was held')
    for (const { usage } of summaries) assert.equal(usage?.webSearchCalls ?? 0, 0)
  })

  test('is not made by the model that would search for it', async () => {
    const { models } = await searchAtLength('by-itself')
    assert.deepEqual(models, ['gpt-4o-search-preview', 'gpt-4o-search-preview', 'gpt-4o-search-preview'])
  })
})
