/**
 * Conversations of 200 user turns in the shape of each provider, through a plan that sells a window of 32,000 tokens: the app sends its
 * own unedited history with every call, the provider checks what it gets as strictly as it does, and what comes of cache and cost is
 * measured beside the same conversation without a sidecar. docs/study.md shows what this prints.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, describe, test } from 'node:test'
import type { Contract, SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { formatUsd, parseUsd } from '@farebox/crds/usd.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { spawnProvider } from '../support/provider-process.ts'
import type { ProviderProcess } from '../support/provider-process.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { waitFor } from '../support/wait-for.ts'
import { KEPT, SHAPES } from './apps.ts'
import type { Shape } from './apps.ts'
import { cachedShares, editedCalls, labelIn } from './edits.ts'
import { PAGE, rowsIn, table } from './table.ts'
import type { Row } from './table.ts'
import { play } from './play.ts'
import type { Played } from './play.ts'
import { script } from './script.ts'

const USER_TURNS = 200
const WINDOW_TOKENS = 32_000
const SUMMARIZE_AFTER_PERCENT = 80
/** What the tools of one turn bring into the window, at most. */
const LOOP_TOKENS_MAX = 1_500
const CAP = '0.25'
/** Providers keep no shorter prefix, and no part of a block of it. */
const CACHED_TOKENS_MIN = 2_000
const STEADY_SHARE = 0.75
const TURNS = script(USER_TURNS)
const OVERFLOWS = ['DropOldest', 'Summarize'] as const
type Overflow = (typeof OVERFLOWS)[number]

let provider: Provider
let direct: ProviderProcess
let sidecar: Sidecar
/** Labels of the requests that reached the provider, by tag, in order. */
const labels = new Map<string, (string | null)[]>()
const ungoverned = new Map<string, Promise<Played>>()
const rows: Row[] = []

before(async () => {
  direct = await spawnProvider()
  let before: Promise<unknown> = Promise.resolve()
  for (const shape of [...SHAPES, KEPT]) {
    const place = { baseUrl: direct.url, headers: { 'x-fake-tag': shape.name } }
    const played = before.then(() => play(shape, TURNS, place))
    ungoverned.set(shape.name, played)
    before = played
  }
  provider = await startProvider({
    onRequest({ headers, body }) {
      const tag = headers['x-fake-tag']
      if (typeof tag === 'string') labels.set(tag, [...(labels.get(tag) ?? []), labelIn(body)])
    },
  })
  sidecar = await startSidecar(configOf())
})
after(async () => {
  await sidecar.close()
  await provider.close()
  await direct.stop()
  console.log(table(rows))
})

function tierOf(shape: Shape, overflow: Overflow): string {
  return `${shape.upstream}-${shape.keptByProvider ? 'kept' : shape.summarizer}-${overflow}`.toLowerCase()
}

function configOf(): SidecarConfig {
  const contract = (shape: Shape, overflow: Overflow): Contract =>
    makeContract({
      tier: tierOf(shape, overflow),
      caps: { perConversation: '50.00' },
      context: { windowTokens: WINDOW_TOKENS, overflow, keepRecentTurns: 4, summarizeAfterPercent: SUMMARIZE_AFTER_PERCENT },
      models: { allow: [], downgrades: [], summarizer: shape.summarizer },
    })
  const contracts = [...SHAPES, KEPT].flatMap((shape) => OVERFLOWS.map((overflow) => contract(shape, overflow)))
  const byTier = new Map(contracts.map((each) => [each.tier, each]))
  const capped = makeContract({ tier: 'capped', caps: { perConversation: CAP }, context: { windowTokens: WINDOW_TOKENS } })
  const upstream = { credential: 'Passthrough' as const, injectUsage: 'Auto' as const, deployments: [] }
  return makeConfig('', [...byTier.values(), capped], {
    retrieval: { toolNames: ['search_docs'], tags: ['context'] },
    upstreams: [
      { ...upstream, name: 'openai', provider: 'openai', baseUrl: `${provider.url}/v1`, outputLimitField: 'max_completion_tokens' },
      { ...upstream, name: 'anthropic', provider: 'anthropic', baseUrl: `${provider.url}/v1`, outputLimitField: 'max_tokens' },
      { ...upstream, name: 'gemini', provider: 'google', baseUrl: provider.url, outputLimitField: 'max_tokens' },
    ],
  })
}

/** Plays the conversation through the sidecar. Where a summary is due it waits for it, as a user who reads does. */
function playGoverned(shape: Shape, id: string, tier: string): Promise<Played> {
  provider.clearCache() // another conversation has begun with the same words
  return play(shape, TURNS, {
    baseUrl: `${sidecar.url}/${shape.upstream}`,
    headers: { 'x-farebox-conversation': id, 'x-farebox-tier': tier, 'x-fake-tag': id },
    ...(tier.endsWith('-summarize') ? { afterTurn: summaryOf(tier) } : {}),
  })
}

/** Waits for the summary after a turn that fills the window so far. */
function summaryOf(tier: string): (last: { readonly input: number }) => Promise<void> {
  let seen = 0
  return async ({ input }) => {
    if (input * 100 < WINDOW_TOKENS * SUMMARIZE_AFTER_PERCENT) return
    const look = async (): Promise<number | null> => {
      const made = await summaries(tier)
      return made > seen ? made : null
    }
    seen = await waitFor('the summary', look, { withinMs: 6_000, everyMs: 10 })
  }
}

async function summaries(tier: string): Promise<number> {
  const series = `farebox_summaries_total{tier="${tier}",outcome="made"} `
  const line = (await sidecar.metrics()).split('\n').find((each) => each.startsWith(series))
  return Number(line?.slice(series.length) ?? 0)
}

/** What was spent: the books are the bill, of the conversation and of the summaries made for it, and nothing is held. */
async function booked(id: string, tier: string): Promise<bigint> {
  await provider.settled()
  await sidecar.idle()
  const { spent, held, drivers } = await sidecar.standing(id, `?tier=${tier}`)
  assert.equal(held, '0.00')
  assert.equal(formatUsd(parseUsd(spent) - parseUsd(drivers['summaries'] ?? '0.00')), formatUsd(provider.bill.totalNanoUsd(id)))
  return parseUsd(spent)
}

async function measured(shape: Shape, how: string, played: Played, cost: bigint): Promise<Row> {
  const { calls } = played
  const edited = editedCalls(labels.get(`${shape.name} ${how}`) ?? [])
  assert.equal((await ungoverned.get(shape.name))?.refused, null)
  const row: Row = {
    shape: shape.name,
    how,
    edits: edited.length,
    meanInput: Math.round(calls.reduce((sum, { input }) => sum + input, 0) / calls.length),
    mostInput: Math.max(...calls.map(({ input }) => input)),
    cached: cachedShares(calls, edited),
    cost,
    ungoverned: (await direct.bill(shape.name)).totalNanoUsd,
  }
  rows.push(row)
  return row
}

for (const shape of SHAPES) {
  describe(shape.name, () => {
    for (const overflow of OVERFLOWS) {
      test(`${overflow}: nothing is refused, nothing leaves the window, and the prefix moves only with an edit`, async () => {
        const id = `${shape.name} ${overflow}`
        const tier = tierOf(shape, overflow)
        const played = await playGoverned(shape, id, tier)
        assert.equal(played.refused, null)
        const row = await measured(shape, overflow, played, await booked(id, tier))
        assert.equal(provider.bill.lines(id).length, labels.get(id)?.length, 'the provider refused nothing that the client was spared')
        assert.ok(row.edits >= 3, `${row.edits} edits`)
        const words = overflow === 'Summarize' ? 'summarised' : 'left out'
        for (const label of labels.get(id) ?? []) assert.ok(label?.startsWith(words) ?? true, `${label}`)
        assertInWindow(played)
        assertSteady(id, played)
        assert.ok(row.cost < row.ungoverned)
      })
    }
  })
}

describe(KEPT.name, () => {
  test("the history is the provider's: nobody cuts it, the skipped rung says so, and each call is booked at what it costs", async () => {
    const tier = tierOf(KEPT, 'DropOldest')
    const id = `${KEPT.name} not cut`
    const played = await playGoverned(KEPT, id, tier)
    assert.equal(played.refused, null)
    const row = await measured(KEPT, 'not cut', played, await booked(id, tier))
    assert.equal(row.edits, 0)
    assert.equal(labels.get(id)?.length, played.calls.length)
    assert.ok(row.mostInput > 2 * WINDOW_TOKENS, `${row.mostInput} tokens`)
    assert.equal(formatUsd(row.cost), formatUsd(row.ungoverned))
    const skipped = /^farebox_rung_skipped_total\{rung="Summarize",reason="serverHistory"\} (\d+)$/m.exec(await sidecar.metrics())
    assert.ok(Number(skipped?.[1]) > 100)
  })

  test('but the cap holds', async () => {
    const played = await playGoverned(KEPT, 'capped', 'capped')
    assert.equal(played.refused?.status, 402)
    assert.match(played.refused.body, /"conversation_budget_exhausted"/)
    assert.ok(played.calls.some(({ input }) => input > WINDOW_TOKENS))
    const spent = await booked('capped', 'capped')
    assert.ok(spent <= parseUsd(CAP) && spent > parseUsd(CAP) / 2n, formatUsd(spent))
  })
})

test('docs/study.md shows what was measured', () => {
  const shown = rowsIn(readFileSync(PAGE, 'utf8'))
  const found = rowsIn(table(rows))
  assert.deepEqual([...shown.keys()], [...found.keys()])
  for (const [name, numbers] of found)
    for (const [column, number] of numbers.entries()) {
      const said = shown.get(name)?.[column] ?? Number.NaN
      if (Number.isNaN(number) && Number.isNaN(said)) continue // there is nothing to be a share of
      assert.ok(Math.abs(said - number) <= Math.max(1.5, number / 10), `${name}: ${said} is said, ${number} was measured\n${table(rows)}`)
    }
})

/** A user turn begins within the window. Inside a tool loop nothing is cut: it ends on what it began with, and adds what its tools bring. */
function assertInWindow({ calls }: Played): void {
  for (const { turn, step, input } of calls) {
    if (step === 0) assert.ok(input <= WINDOW_TOKENS, `turn ${turn} began with ${input} tokens`)
    else {
      const first = calls.find((other) => other.turn === turn && other.step === 0)?.input ?? 0
      assert.ok(input - first <= LOOP_TOKENS_MAX, `step ${step} of turn ${turn} had ${input} tokens after ${first}`)
    }
  }
}

/** Between two edits the provider finds what it read the last time, but for thinking: that is counted apart, or goes with its turn. */
function assertSteady(id: string, { calls }: Played): void {
  const edited = new Set(editedCalls(labels.get(id) ?? []))
  for (const [index, { turn, step, cached }] of calls.entries()) {
    const before = calls[index - 1]?.input ?? 0
    if (before < CACHED_TOKENS_MIN || edited.has(index)) continue
    assert.ok(cached >= before * STEADY_SHARE, `step ${step} of turn ${turn}: ${cached} cached, of ${before}`)
  }
}
