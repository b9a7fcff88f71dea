/** Recorded conversations with Claude through the whole ladder: the provider's strict checks pass every request, whatever was rewritten. */
import type Anthropic from '@anthropic-ai/sdk'
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { RUNGS } from '@farebox/crds/ladder.ts'
import { formatUsd, parseUsd } from '@farebox/crds/usd.ts'
import { readRecords, RETRIEVAL_TAG, RETRIEVAL_TOOL_NAME } from '@farebox/operator/laptop/records.ts'
import type { RecordedConversation, RetrievalShape } from '@farebox/operator/laptop/records.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider, SeenRequest } from '../provider/server.ts'
import { startClaudeTalk } from '../support/claude-talk.ts'
import type { ClaudeSaid, ClaudeTalk } from '../support/claude-talk.ts'
import { makeConfig, makeContract, makeUpstream } from '../support/make.ts'
import { EXAMPLE_CONVERSATIONS, recordedFile, recordedPaths } from '../support/recorded-data.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'

interface Recording {
  readonly name: string
  /** Null where the file is not on this machine. */
  readonly file: string | null
  readonly shape: RetrievalShape
  readonly records: number
  readonly budgets: readonly string[]
}

const RECORDINGS: readonly Recording[] = [
  { name: 'our own examples', file: EXAMPLE_CONVERSATIONS, shape: 'tools', records: 6, budgets: ['0.02', '0.04', '0.08'] },
  {
    name: 'recorded tool conversations',
    file: recordedFile('conversations-tools.ndjson.gz'),
    shape: 'tools',
    records: 20,
    budgets: ['0.15', '0.30'],
  },
  { name: 'recorded retrieval', file: recordedFile('conversations-retrieval.ndjson.gz'), shape: 'tagged', records: 20, budgets: ['0.03'] },
]
/** One that checks what stands before its thinking, and one with a budget for it. */
const MODELS: Readonly<Record<string, Partial<Anthropic.MessageCreateParamsNonStreaming>>> = {
  'claude-opus-5-5': { max_tokens: 2_000 },
  'claude-sonnet-4-5': { max_tokens: 3_000, thinking: { type: 'enabled', budget_tokens: 1_500 } },
}
const CONCURRENCY = 4
const CALLS_PER_TURN_MAX = 24
const NOTICE = 'This chat now works with less.'

let provider: Provider
let sidecar: Sidecar
let seen: SeenRequest[] = []
before(async () => {
  provider = await startProvider({ data: recordedPaths(), onRequest: (request) => seen.push(request) })
  const budgets = [...new Set(RECORDINGS.flatMap((recording) => recording.budgets))]
  sidecar = await startSidecar(
    makeConfig('', budgets.map(contractOf), {
      upstreams: [makeUpstream({ name: 'anthropic', provider: 'anthropic', baseUrl: `${provider.url}/v1` })],
      retrieval: { toolNames: [RETRIEVAL_TOOL_NAME, 'search_*', 'get_*'], tags: [RETRIEVAL_TAG] },
    }),
  )
})
after(async () => {
  await sidecar.close()
  await provider.close()
})

for (const recording of RECORDINGS)
  describe(recording.name, { skip: recording.file === null }, () => {
    for (const model of Object.keys(MODELS))
      test(`${model} climbs the ladder without one refusal by the provider, within every budget`, () => playAll(recording, model))
  })

async function playAll({ name, file, shape, records: count, budgets }: Recording, model: string): Promise<void> {
  assert.ok(file !== null)
  seen = []
  provider.bill.clear()
  const records = (await readRecords(file, { shape })).slice(0, count)
  const plays = budgets.flatMap((budget) => records.map((record) => ({ budget, record, id: `${name}, ${model}, ${record.id}, ${budget}` })))
  const rungs = new Set<string>()
  await inLanes(plays, async ({ budget, record, id }, index) => {
    const headers = { 'x-farebox-conversation': id, 'x-farebox-tier': tierOf(budget), 'x-fake-tag': id, 'x-fake-recording': record.id }
    const talk = startClaudeTalk(sidecar, headers, { model, ...MODELS[model], ...setting(record) })
    for (const said of await play(talk, record, index % 2 === 0)) {
      rungs.add(said.headers.get('x-farebox-rung') ?? '')
      assert.ok(said.status === 200 || said.status === 402, `${id}: ${said.error?.message}`)
    }
  })
  await sidecar.idle()
  await provider.settled()
  const asked = seen.filter(({ path }) => path === '/v1/messages').length
  assert.equal(provider.bill.lines().length, asked, 'the provider refused nothing')
  assert.deepEqual(
    RUNGS.filter((rung) => !rungs.has(rung)),
    [],
    `rungs seen: ${[...rungs].join(', ')}`,
  )
  let booked = 0n
  for (const { id, budget } of plays) {
    const billed = provider.bill.totalNanoUsd(id)
    const { spent, held } = await sidecar.standing(id, `?tier=${tierOf(budget)}`)
    assert.ok(billed <= parseUsd(budget), `${id}: billed ${formatUsd(billed)} of ${budget}`)
    // Summaries are booked with the conversation; at the provider they have no name.
    assert.ok(billed <= parseUsd(spent) && parseUsd(spent) <= parseUsd(budget), `${id}: billed ${formatUsd(billed)}, booked ${spent}`)
    assert.equal(held, '0.00', id)
    booked += parseUsd(spent)
  }
  assert.equal(formatUsd(booked), formatUsd(provider.bill.totalNanoUsd()), 'all that is billed is booked, and no more')
}

/** Says what the recorded user said, and answers calls with what the recorded tools answered; ends with the conversation. */
async function play(talk: ClaudeTalk, record: RecordedConversation, stream: boolean): Promise<readonly ClaudeSaid[]> {
  const results = new Map(
    record.messages.flatMap((message) => (message.role === 'tool' ? [[message.callId, message.content] as const] : [])),
  )
  const all: ClaudeSaid[] = []
  for (const message of record.messages) {
    if (message.role !== 'user' || message.content.trim() === '') continue
    let said = await talk.say(message.content, { stream })
    all.push(said)
    for (let calls = 0; calls < CALLS_PER_TURN_MAX && said.message?.stop_reason === 'tool_use'; calls++) {
      const blocks = said.calls.map(({ id }) => ({ type: 'tool_result' as const, tool_use_id: id, content: results.get(id) ?? 'Nothing.' }))
      said = await talk.say(blocks, { stream })
      all.push(said)
    }
    // What was cut off in a call, or refused, cannot be gone on from.
    if (said.error !== null || said.message?.stop_reason === 'tool_use' || said.calls.length > 0) break
    if (said.headers.get('x-farebox-rung') === 'EndConversation') break
  }
  return all
}

function setting({ messages, tools }: RecordedConversation): Partial<Anthropic.MessageCreateParamsNonStreaming> {
  const system = messages.flatMap((message) => (message.role === 'system' ? [message.content] : [])).join('\n')
  return {
    ...(system === '' ? {} : { system }),
    ...(tools.length === 0
      ? {}
      : {
          tools: tools.map(({ function: { name, description, parameters } }) => ({
            name,
            ...(description === undefined ? {} : { description }),
            input_schema: { ...parameters, type: 'object' as const },
          })),
        }),
  }
}

async function inLanes<Item>(items: readonly Item[], work: (item: Item, index: number) => Promise<void>): Promise<void> {
  let next = 0
  const lane = async (): Promise<void> => {
    for (let index = next++; index < items.length; index = next++) {
      const item = items[index]
      if (item !== undefined) await work(item, index)
    }
  }
  await Promise.all(Array.from({ length: CONCURRENCY }, lane))
}

function tierOf(budget: string): string {
  return `tier-${budget.replace('.', '-')}`
}

function contractOf(budget: string): ReturnType<typeof makeContract> {
  const occasions = ['DropRetrieval', 'Summarize', 'DowngradeModel', 'RefuseTools', 'DropOldest']
  return makeContract({
    tier: tierOf(budget),
    caps: { perConversation: budget },
    context: { overflow: 'DropOldest', keepRecentTurns: 2 },
    models: {
      allow: [],
      downgrades: [{ from: 'claude-*', to: 'claude-haiku-4-5' }],
      summarizer: 'claude-haiku-4-5',
      usefulOutputTokens: 50,
    },
    ladder: [
      { atPercent: 10, rung: 'DropRetrieval' },
      { atPercent: 20, rung: 'Summarize' },
      { atPercent: 45, rung: 'DowngradeModel' },
      { atPercent: 70, rung: 'RefuseTools' },
      { atPercent: 100, rung: 'EndConversation', end: 'Close' },
    ],
    notices: { mode: 'Inline', texts: Object.fromEntries(occasions.map((occasion) => [occasion, { en: `${NOTICE} (${occasion})` }])) },
  })
}
