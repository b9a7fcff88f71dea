/**
 * `make study`: what each rung of the ladder saves. Recorded conversations are played through a real sidecar to the stand-in provider,
 * once without anything, and once with each rung alone in effect from the first turn on; the provider's own bills are compared. A rung
 * that rises late saves less: this is the most that it can save.
 *
 *   node_modules/.bin/node test/study/main.ts [--conversations N]
 */
import { parseArgs } from 'node:util'
import type { Rung } from '@farebox/crds/ladder.ts'
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import { formatUsd } from '@farebox/crds/usd.ts'
import { readRecords, RETRIEVAL_TAG, RETRIEVAL_TOOL_NAME } from '@farebox/operator/laptop/records.ts'
import type { RecordedConversation } from '@farebox/operator/laptop/records.ts'
import { replay } from '@farebox/operator/laptop/replay.ts'
import type { BillLine } from '../provider/bill.ts'
import { startProvider } from '../provider/server.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { EXAMPLE_CONVERSATIONS, recordedFile } from '../support/recorded-data.ts'
import { startSidecar } from '../support/sidecar.ts'
import { savedPercent, sharePercent, spread } from './figures.ts'

const CONVERSATIONS = 40
const CONCURRENCY = 2
const MODEL = 'gpt-4o'
const CHEAP = 'gpt-4o-mini'

interface Treatment {
  readonly name: string
  readonly terms: Parameters<typeof makeContract>[0]
}

/** In effect from the first turn on, alone. */
function alone(rung: Rung): Treatment['terms'] {
  return { ladder: [{ atPercent: 0, rung }, END], models: { downgrades: [{ from: MODEL, to: CHEAP }], summarizer: CHEAP } }
}
const END: Contract['ladder'][number] = { atPercent: 100, rung: 'EndConversation', end: 'Refuse' }

const TREATMENTS: readonly Treatment[] = [
  { name: 'metered, no rung', terms: {} },
  { name: 'DropRetrieval', terms: alone('DropRetrieval') },
  { name: 'Summarize', terms: alone('Summarize') },
  { name: 'DowngradeModel', terms: alone('DowngradeModel') },
  { name: 'RefuseTools', terms: alone('RefuseTools') },
  { name: 'window of 8,000 tokens', terms: { context: { windowTokens: 8_000, overflow: 'DropOldest', keepRecentTurns: 1 } } },
]

interface Played {
  readonly lines: readonly BillLine[]
  readonly answered: number
  readonly failed: number
  /** By conversation, what the provider billed, in nano-dollars. */
  readonly costs: readonly bigint[]
}

async function play(conversations: readonly RecordedConversation[], treatment: Treatment | null): Promise<Played> {
  const provider = await startProvider({ conversations })
  const contract = makeContract({ ...treatment?.terms, caps: { perConversation: '1000.00' } })
  const retrieval = { toolNames: [RETRIEVAL_TOOL_NAME], tags: [RETRIEVAL_TAG] }
  const sidecar = treatment === null ? null : await startSidecar(makeConfig(`${provider.url}/v1`, [contract], { retrieval }))
  try {
    const reports = await replay(conversations, {
      baseUrls: [sidecar === null ? `${provider.url}/v1` : `${sidecar.url}/openai/v1`],
      apiKey: 'sk-study',
      concurrency: CONCURRENCY,
      model: MODEL,
      headers: ({ id }) => ({ 'x-farebox-conversation': id, 'x-fake-tag': id }),
    })
    await sidecar?.idle()
    await provider.settled()
    const lines = provider.bill.lines()
    return {
      lines,
      answered: reports.reduce((sum, { calls }) => sum + calls, 0),
      failed: reports.filter(({ outcome }) => outcome !== 'finished').length,
      costs: conversations.map(({ id }) => provider.bill.totalNanoUsd(id)),
    }
  } finally {
    await sidecar?.close()
    await provider.close()
  }
}

async function study(title: string, conversations: readonly RecordedConversation[]): Promise<void> {
  console.log(`\n### ${title}: ${conversations.length} conversations\n`)
  const base = await play(conversations, null)
  console.log(
    '| what is in effect | bill, USD | saved | saved per conversation, p50 (p10 to p90) | calls | input from the cache | not played to the end |',
  )
  console.log('| --- | --- | --- | --- | --- | --- | --- |')
  const row = (name: string, { lines, answered, failed, costs }: Played): void => {
    const total = costs.reduce((sum, cost) => sum + cost, 0n) + untagged(lines)
    const cached = lines.reduce((sum, { cachedTokens }) => sum + cachedTokens, 0)
    const input = lines.reduce((sum, { promptTokens }) => sum + promptTokens, 0)
    const baseTotal = base.costs.reduce((sum, cost) => sum + cost, 0n)
    const each = spread(costs.map((cost, index) => savedPercent(base.costs[index] ?? 0n, cost)))
    console.log(
      `| ${name} | ${formatUsd(total)} | ${savedPercent(baseTotal, total).toFixed(1)} % | ${each.p50.toFixed(0)} % (${each.p10.toFixed(0)} to ${each.p90.toFixed(0)}) | ${answered} | ${sharePercent(cached, input).toFixed(0)} % | ${failed} |`,
    )
  }
  row('nobody governs', base)
  for (const treatment of TREATMENTS) row(treatment.name, await play(conversations, treatment))
}

/** Calls of the sidecar's own, summaries, carry no tag of a conversation. */
function untagged(lines: readonly BillLine[]): bigint {
  return lines.reduce((sum, { tag, nanoUsd }) => (tag === null ? sum + nanoUsd : sum), 0n)
}

/** So many of them, spread over the whole list: records of one kind stand together. */
function sample(records: readonly RecordedConversation[], count: number): readonly RecordedConversation[] {
  const step = Math.max(1, records.length / count)
  return Array.from({ length: Math.min(count, records.length) }, (_, index) => records[Math.floor(index * step)]).filter(
    (record) => record !== undefined,
  )
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { conversations: { type: 'string', default: String(CONVERSATIONS) } } })
  const count = Number(values.conversations)
  if (!Number.isInteger(count) || count < 1) throw new Error('--conversations must be a whole number from 1')
  const tools = recordedFile('conversations-tools.ndjson.gz')
  const retrieval = recordedFile('conversations-retrieval.ndjson.gz')
  if (tools === null || retrieval === null) {
    console.log('The recordings are not at hand: playing the eight conversations of examples/support-desk.')
    await study('support desk', await readRecords(EXAMPLE_CONVERSATIONS, { shape: 'tools' }))
    return
  }
  await study('agents with tools', sample(await readRecords(tools, { shape: 'tools' }), count))
  await study('retrieval as results of a tool', sample(await readRecords(retrieval, { shape: 'tools' }), count))
  await study('retrieval between tags', sample(await readRecords(retrieval, { shape: 'tagged' }), count))
}

await main()
