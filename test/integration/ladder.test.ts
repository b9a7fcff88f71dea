/** Recorded conversations through the whole ladder: every request that the provider gets passes its strict checks. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { RUNGS } from '@farebox/crds/ladder.ts'
import type { Rung } from '@farebox/crds/ladder.ts'
import { formatUsd, parseUsd } from '@farebox/crds/usd.ts'
import { readRecords, RETRIEVAL_TAG, RETRIEVAL_TOOL_NAME } from '@farebox/operator/laptop/records.ts'
import type { RecordedConversation, RetrievalShape } from '@farebox/operator/laptop/records.ts'
import { replay } from '@farebox/operator/laptop/replay.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { EXAMPLE_CONVERSATIONS, recordedFile, recordedPaths } from '../support/recorded-data.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'

interface Recording {
  readonly name: string
  /** Null where the file is not on this machine. */
  readonly file: string | null
  readonly shape: RetrievalShape
  /** Every conversation is played once under each budget. */
  readonly budgets: readonly string[]
  /** Rungs that must be in effect somewhere. */
  readonly rungs: readonly Rung[]
}

const TOOLS = recordedFile('conversations-tools.ndjson.gz')
const RETRIEVAL = recordedFile('conversations-retrieval.ndjson.gz')
const RECORDINGS: readonly Recording[] = [
  { name: 'our own examples', file: EXAMPLE_CONVERSATIONS, shape: 'tools', budgets: ['0.006', '0.01', '0.02'], rungs: RUNGS },
  { name: 'recorded tool conversations', file: TOOLS, shape: 'tools', budgets: ['0.05'], rungs: RUNGS },
  { name: 'recorded retrieval, passages as tool results', file: RETRIEVAL, shape: 'tools', budgets: ['0.03'], rungs: RUNGS },
  { name: 'recorded retrieval, passages in tags', file: RETRIEVAL, shape: 'tagged', budgets: ['0.01'], rungs: RUNGS },
]
const CONCURRENCY = 8
/** Said on every rung, in the owner's words. */
const NOTICE = 'This chat now works with less.'
const OCCASIONS = ['DropRetrieval', 'Summarize', 'DowngradeModel', 'RefuseTools', 'DropOldest']

let provider: Provider
let sidecar: Sidecar
before(async () => {
  provider = await startProvider({ data: recordedPaths() })
  const contracts = [...new Set(RECORDINGS.flatMap(({ budgets }) => budgets))].map((budget) => contractOf(budget))
  const retrieval = { toolNames: [RETRIEVAL_TOOL_NAME, 'search_*', 'get_*'], tags: [RETRIEVAL_TAG] }
  sidecar = await startSidecar(makeConfig(`${provider.url}/v1`, contracts, { retrieval }))
})
after(async () => {
  await sidecar.close()
  await provider.close()
})

for (const recording of RECORDINGS) {
  describe(recording.name, { skip: recording.file === null }, () => {
    test('climb the ladder without one refusal by the provider, within their budgets', () => playAll(recording))
  })
}

async function playAll({ name, file, shape, budgets, rungs }: Recording): Promise<void> {
  assert.ok(file !== null)
  const records = await readRecords(file, { shape })
  const played = budgets.flatMap((budget) => records.map((record) => ({ budget, record, id: `${name}, ${record.id}, ${budget}` })))
  const byId = new Map(played.map((entry) => [entry.id, entry]))
  const partOf = (id: string): (typeof played)[number] => {
    const entry = byId.get(id)
    assert.ok(entry !== undefined, id)
    return entry
  }
  const seen = new Set<string>()
  const conversations = played.map(({ id, record }): RecordedConversation => ({ ...record, id, model: 'gpt-4o' }))
  const reports = await replay(conversations, {
    baseUrls: [`${sidecar.url}/openai/v1`],
    apiKey: 'test',
    concurrency: CONCURRENCY,
    headers: ({ id }) => ({ 'x-farebox-tier': tierOf(partOf(id).budget), 'x-fake-tag': id, 'x-fake-recording': partOf(id).record.id }),
    onAnswer: (_id, standing) => seen.add(standing?.rung ?? ''),
  })
  await provider.settled()
  assert.deepEqual(
    reports.filter(({ outcome }) => outcome !== 'finished' && outcome !== 'ended'),
    [],
    'no refusal by anyone',
  )
  assert.ok(
    reports.some(({ outcome }) => outcome === 'finished'),
    'some came to their end',
  )
  assert.ok(
    reports.some(({ outcome }) => outcome === 'ended'),
    'some were closed with words',
  )
  assert.deepEqual(
    rungs.filter((rung) => !seen.has(rung)),
    [],
    `rungs seen: ${[...seen].join(', ')}`,
  )
  for (const { id, budget } of played) {
    const billed = provider.bill.totalNanoUsd(id)
    const standing = (await sidecar.getJson(`/farebox/v1/conversations/${encodeURIComponent(id)}?tier=${tierOf(budget)}`)) as {
      readonly budget: string
      readonly spent: string
      readonly held: string
    }
    assert.equal(parseUsd(standing.budget), parseUsd(budget))
    assert.ok(billed <= parseUsd(budget), `${id}: billed ${formatUsd(billed)} of ${budget}`)
    assert.ok(billed <= parseUsd(standing.spent), `${id}: billed ${formatUsd(billed)}, entered ${standing.spent}`)
    assert.equal(standing.held, '0.00')
  }
}

function tierOf(budget: string): string {
  return `tier-${budget.replace('.', '-')}`
}

function contractOf(budget: string): ReturnType<typeof makeContract> {
  return makeContract({
    tier: tierOf(budget),
    caps: { perConversation: budget },
    context: { overflow: 'DropOldest', keepRecentTurns: 2 },
    models: { allow: [], downgrades: [{ from: 'gpt-4o', to: 'gpt-4o-mini' }], summarizer: 'gpt-4o-mini', usefulOutputTokens: 50 },
    ladder: [
      { atPercent: 20, rung: 'DropRetrieval' },
      { atPercent: 30, rung: 'Summarize' },
      { atPercent: 60, rung: 'DowngradeModel' },
      { atPercent: 80, rung: 'RefuseTools' },
      { atPercent: 100, rung: 'EndConversation', end: 'Close' },
    ],
    notices: { mode: 'Inline', texts: Object.fromEntries(OCCASIONS.map((occasion) => [occasion, { en: `${NOTICE} (${occasion})` }])) },
  })
}
