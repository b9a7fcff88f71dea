/**
 * Every SDK against every stage of a conversation's budget, in every way in which apps call models: through a real sidecar, with the
 * SDK's own defaults. No exception that the same call straight to the provider would not give, but a 402, which is not tried again; an
 * answer that the SDK can use; the provider's own usage where the SDK shows it; and no call that costs more than its conversation may.
 */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { parseUsd } from '@farebox/crds/usd.ts'
import { BUILT_IN_TEXTS } from '@farebox/sidecar/core/notice-texts.ts'
import { RETRIEVAL_STUB } from '@farebox/sidecar/core/retrieval.ts'
import type { BillLine } from '../provider/bill.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider, SeenRequest } from '../provider/server.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { waitFor } from '../support/wait-for.ts'
import { AI_SDKS } from './ai-sdk.ts'
import { ANTHROPIC_SDKS } from './anthropic.ts'
import { GOOGLE_SDKS } from './google-genai.ts'
import { LANGCHAIN_SDKS } from './langchain.ts'
import { OPENAI_SDKS } from './openai.ts'
import { pageRows, rowOf, stageRow, WAYS_IN_WORDS } from './page.ts'
import { startPython } from './python.ts'
import { TOOL, TOOL_RESULT, WAYS } from './sdk.ts'
import type { Answer, Ask, Outcome, Said, Sdk, Way } from './sdk.ts'
import { DIRECT, GOVERNED, matrixConfig, PASSAGE, RETRIEVAL_TAG, WARM_UP_TOKENS } from './stages.ts'
import type { Stage } from './stages.ts'
import { CONVERSATION_HEADER, startTap } from './tap.ts'
import type { Exchange, Tap } from './tap.ts'
import { describeTraps } from './traps.ts'

/** Conversations under way at once. */
const CONCURRENCY = 6
const SUMMARY_MS_MAX = 10_000
const FINAL_ANSWER = 'Your order 17 is in Rotterdam.'
const TOLD_ANSWER = { 'x-fake-content': encodeURIComponent(FINAL_ANSWER) }
const TOLD_CALL = { 'x-fake-tool-call': JSON.stringify([{ name: TOOL.name, arguments: { order: '17' } }]) }
/** Turns before the call that is looked at. */
const WARM_UP = ['What of my first order? It left the lighthouse a week ago.', 'And of my second one, which left a day later?']
const QUESTION = 'Where is order 17?'
/** What the app sends of each question. No two conversations begin alike: what one left in the provider's cache is no use to another. */
const asked = (id: string, question: string): string => `Customer ${id}.\n\n<${RETRIEVAL_TAG}>${PASSAGE}</${RETRIEVAL_TAG}>\n\n${question}`

const python = await startPython()
after(() => python?.stop())
const sdks: readonly Sdk[] = [...OPENAI_SDKS, ...ANTHROPIC_SDKS, ...AI_SDKS, ...LANGCHAIN_SDKS, ...GOOGLE_SDKS, ...(python?.sdks ?? [])]

test('docs/sdks.md says of every SDK and stage what is seen here', () => {
  const rows = pageRows()
  for (const sdk of sdks) assert.deepEqual(rows.get(sdk.name), rowOf(sdk), sdk.name)
  assert.deepEqual(
    rows.get('the conversation is'),
    WAYS.map((way) => WAYS_IN_WORDS[way]),
  )
  for (const stage of GOVERNED)
    assert.deepEqual(
      rows.get(stage.words),
      stageRow((way) => stage.expected(way, 'format')),
      stage.words,
    )
})

for (const sdk of sdks) describe(sdk.variant === null ? sdk.name : `${sdk.name}, ${sdk.variant}`, () => runMatrix(sdk))
describeTraps(python)

interface Bench {
  readonly provider: Provider
  readonly sidecar: Sidecar
  /** In front of the sidecar, and in front of the provider. */
  readonly governed: Tap
  readonly direct: Tap
  readonly seen: readonly SeenRequest[]
}

function runMatrix(sdk: Sdk): void {
  let bench: Bench
  before(async () => {
    bench = await startBench(sdk)
  })
  after(async () => {
    await bench.governed.close()
    await bench.direct.close()
    await bench.sidecar.close()
    await bench.provider.close()
  })

  describe('calls', { concurrency: CONCURRENCY }, () => {
    for (const way of sdk.ways) test(`${way}, straight to the provider`, () => checkCell(bench, sdk, DIRECT, way))
    for (const stage of GOVERNED) for (const way of sdk.ways) test(`${way}, ${stage.name}`, () => checkCell(bench, sdk, stage, way))
  })

  const { environment } = sdk
  const isLed = async (): Promise<void> => {
    assert.ok(environment !== null)
    const id = 'environment'
    const headers = headersOf(id, 'no-rung')
    bench.governed.script(id, [TOLD_ANSWER])
    const ask = { headers, model: sdk.model, history: [], question: QUESTION }
    const answer = answerIn(await sdk.callByEnvironment(environment(bench.governed.origin), ask))
    assert.equal(answer.text, FINAL_ANSWER)
    assert.equal(bench.governed.exchanges(id).length, 1)
  }
  if (environment !== null) test('is led here by its environment variables', isLed)

  test('the books are the bill, and no conversation cost more than it may', () => checkBooks(bench, sdk))
}

async function startBench(sdk: Sdk): Promise<Bench> {
  const seen: SeenRequest[] = []
  const provider = await startProvider({ onRequest: (request) => seen.push(request) })
  const sidecar = await startSidecar(matrixConfig(provider.url, sdk.downgrade))
  return {
    provider,
    sidecar,
    seen,
    governed: await startTap(sidecar.url),
    direct: await startTap(provider.url, providerPath),
  }
}

/** The path at the fake provider of what a sidecar is asked for: it has all dialects at one address. */
function providerPath(path: string): string {
  const [, upstream = '', rest = ''] = /^\/([a-z]+)(\/.*)$/.exec(path) ?? []
  return upstream === 'anthropic' && !rest.startsWith('/v1/') ? `/v1${rest}` : rest
}

function headersOf(id: string, tier: string): Readonly<Record<string, string>> {
  return { [CONVERSATION_HEADER]: id, 'x-farebox-tier': tier }
}

async function checkCell(bench: Bench, sdk: Sdk, stage: Stage, way: Way): Promise<void> {
  const id = `${stage.name}, ${way}`
  const tap = stage === DIRECT ? bench.direct : bench.governed
  const ask = { address: sdk.address(tap.origin), headers: headersOf(id, stage.name), model: sdk.model }
  const history = stage === DIRECT ? madeUpHistory(id) : await warmUp(bench, sdk, stage, ask, id)

  const heardBy = (): readonly SeenRequest[] => bench.seen.filter(({ headers }) => headers['x-fake-tag'] === id)
  const earlier = tap.exchanges(id).length
  const heardEarlier = heardBy().length
  const billedEarlier = bench.provider.bill.lines(id).length
  tap.script(id, SCRIPTS[way])
  const outcome = await sdk.call(way, { ...ask, history, question: asked(id, QUESTION) })
  await bench.provider.settled()
  const exchanges = tap.exchanges(id).slice(earlier)
  const billed = bench.provider.bill.lines(id).slice(billedEarlier)
  // Where history is the provider's, it may be asked first how long that is.
  const requests = heardBy()
    .slice(heardEarlier)
    .filter(({ path }) => !path.endsWith('/input_tokens'))

  for (const { method, path } of exchanges) {
    assert.equal(method, 'POST')
    assert.match(path, sdk.operation)
  }
  const expected = stage.expected(way, sdk.structuredBy)
  switch (expected.status) {
    case 'answered': {
      const answer = answerIn(outcome)
      const isLoop = (way === 'tools' || way === 'streamedTools') && stage.rung !== 'RefuseTools'
      assert.equal(exchanges.length, isLoop ? 2 : 1, 'attempts')
      assert.deepEqual([requests.length, billed.length], [exchanges.length, exchanges.length], 'calls at the provider')
      checkAnswer(answer, way, isLoop)
      const last = billed.at(-1)
      const usage = { input: last?.promptTokens ?? 0, output: last?.outputTokens ?? 0 }
      assert.deepEqual(
        answer.usage,
        way === 'streamed' || way === 'streamedTools' ? sdk.streamedUsage(usage) : usage,
        'usage is what is billed',
      )
      if (stage !== DIRECT) checkRung(stage, exchanges, { requests, billed, sdk, isLoop })
      return
    }
    case 'closed': {
      const answer = answerIn(outcome)
      assert.equal(answer.text, BUILT_IN_TEXTS.End.en)
      assert.deepEqual(answer.calls, [])
      assert.deepEqual(answer.usage, { input: 0, output: 0 })
      assertAtCap(exchanges, requests, 200)
      return
    }
    case 'refused': {
      assert.ok(outcome.status === 'thrown', JSON.stringify(outcome))
      const { name, status, code, message } = outcome.caught
      assert.deepEqual({ name, status, code }, { name: sdk.refusal, status: 402, code: expected.code })
      assert.doesNotMatch(message, /\$\d|USD/, 'no amounts')
      assertAtCap(exchanges, requests, 402)
    }
  }
}

/** What the provider is told to answer to the call, and to the one after it. */
const SCRIPTS: Readonly<Record<Way, readonly Readonly<Record<string, string>>[]>> = {
  plain: [TOLD_ANSWER],
  streamed: [TOLD_ANSWER],
  tools: [TOLD_CALL, TOLD_ANSWER],
  streamedTools: [TOLD_CALL, TOLD_ANSWER],
  forced: [{}],
  structured: [{}],
}

function madeUpHistory(id: string): readonly Said[] {
  return WARM_UP.flatMap((question) => [
    { role: 'user', text: asked(id, question) },
    { role: 'assistant', text: 'It has arrived.' },
  ])
}

/** Leads the conversation to its stage, by the SDK itself. */
async function warmUp(
  bench: Bench,
  sdk: Sdk,
  stage: Stage,
  ask: Pick<Ask, 'address' | 'headers' | 'model'>,
  id: string,
): Promise<readonly Said[]> {
  const history: Said[] = []
  for (const question of WARM_UP) {
    bench.governed.script(id, [{ 'x-fake-output-tokens': String(WARM_UP_TOKENS), 'x-fake-reasoning-tokens': '0' }])
    const { text } = answerIn(await sdk.call('plain', { ...ask, history: [...history], question: asked(id, question) }))
    history.push({ role: 'user', text: asked(id, question) }, { role: 'assistant', text })
  }
  const last = bench.governed.exchanges(id).at(-1)
  assert.equal(last?.headers['x-farebox-rung'], stage.atCap ? 'None' : stage.rung)
  if (stage.rung === 'Summarize') await summaryMade(bench.sidecar, id)
  return history
}

/** A summary is made after the answer, so that no user waits for it. */
function summaryMade(sidecar: Sidecar, id: string): Promise<unknown> {
  const isMade = async (): Promise<boolean> => {
    const { drivers } = await sidecar.standing(id, '?tier=summarize')
    return parseUsd(drivers['summaries'] ?? '0') > 0n
  }
  return waitFor('the summary', isMade, { withinMs: SUMMARY_MS_MAX, everyMs: 10 })
}

function answerIn(outcome: Outcome): Answer {
  assert.ok(outcome.status === 'answered', outcome.status === 'thrown' ? JSON.stringify(outcome.caught) : '')
  return outcome.answer
}

function checkAnswer(answer: Answer, way: Way, isLoop: boolean): void {
  switch (way) {
    case 'plain':
    case 'streamed':
      assert.equal(answer.text, FINAL_ANSWER)
      return
    case 'tools':
    case 'streamedTools':
      assert.deepEqual(answer.calls, isLoop ? [{ name: TOOL.name, input: { order: '17' } }] : [])
      if (isLoop) assert.equal(answer.text, FINAL_ANSWER)
      else assert.notEqual(answer.text, '')
      return
    case 'forced': {
      const [call] = answer.calls
      assert.equal(call?.name, TOOL.name)
      assert.equal(typeof (call.input as { readonly order?: unknown }).order, 'string')
      return
    }
    case 'structured': {
      const { place, days } = answer.object as { readonly place?: unknown; readonly days?: unknown }
      assert.deepEqual([typeof place, Number.isInteger(days)], ['string', true])
    }
  }
}

/** The rung was in effect, and did what it is for. */
function checkRung(
  { rung }: Stage,
  exchanges: readonly Exchange[],
  at: { readonly requests: readonly SeenRequest[]; readonly billed: readonly BillLine[]; readonly sdk: Sdk; readonly isLoop: boolean },
): void {
  for (const { headers } of exchanges) assert.equal(headers['x-farebox-rung'], rung)
  const { from, to } = at.sdk.downgrade
  for (const { model } of at.billed) assert.equal(model, rung === 'DowngradeModel' ? to : from)
  const [first] = at.requests
  const sent = at.requests.map(({ body }) => body.toString())
  assert.ok(first !== undefined)
  const isDropped = rung === 'DropRetrieval'
  assert.equal(sent[0]?.includes(PASSAGE), !isDropped)
  assert.equal(sent[0]?.includes(RETRIEVAL_STUB), isDropped)
  const isSummarised = rung === 'Summarize'
  assert.equal(sent[0]?.includes('[Earlier conversation summarised by farebox'), isSummarised)
  assert.equal(sent[0]?.includes(WARM_UP[0] ?? ''), !isSummarised)
  assert.ok(sent[0]?.includes(QUESTION))
  if (at.isLoop) assert.ok(sent[1]?.includes(TOOL_RESULT), 'the tool is heard')
}

/** One attempt, which the provider never hears of. */
function assertAtCap(exchanges: readonly Exchange[], requests: readonly SeenRequest[], status: number): void {
  assert.deepEqual(
    exchanges.map((exchange) => exchange.status),
    [status],
    'one attempt',
  )
  assert.equal(exchanges[0]?.headers['x-farebox-synthetic'], status === 200 ? 'true' : undefined)
  assert.deepEqual(requests, [], 'calls at the provider')
}

async function checkBooks({ provider, sidecar }: Bench, { ways }: Sdk): Promise<void> {
  await sidecar.idle()
  await provider.settled()
  for (const { name } of GOVERNED)
    for (const way of ways) {
      const id = `${name}, ${way}`
      const { budget, spent, held, drivers } = await sidecar.standing(id, `?tier=${name}`)
      const turns = parseUsd(spent) - parseUsd(drivers['summaries'] ?? '0')
      assert.equal(turns, provider.bill.totalNanoUsd(id), `${id}: booked and billed`)
      assert.ok(parseUsd(spent) <= parseUsd(budget), `${id}: spent ${spent} of ${budget}`)
      assert.equal(parseUsd(held), 0n)
    }
  const summaries = provider.bill.lines().filter(({ tag }) => tag === null)
  const booked = await Promise.all(
    ways.map(async (way) => (await sidecar.standing(`summarize, ${way}`, '?tier=summarize')).drivers['summaries'] ?? '0'),
  )
  assert.equal(
    booked.reduce((sum, cost) => sum + parseUsd(cost), 0n),
    summaries.reduce((sum, { nanoUsd }) => sum + nanoUsd, 0n),
    'summaries booked and billed',
  )
}
