/**
 * The rung `Summarize` in the shape of each provider, with its cache: it makes no conversation dearer than without, summarises seldom, and where
 * a budget ends the conversation lets it go further. The provider's bill is the judge. A summary has to be earned back by calls that follow: of a
 * conversation that ends right after one, for another reason than money, its cost is lost.
 */
import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import { formatUsd } from '@farebox/crds/usd.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { makeConfig, makeContract, makeUpstream } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import { SHAPES } from './apps.ts'
import type { Shape } from './apps.ts'
import { play } from './play.ts'
import { script } from './script.ts'

const USER_TURNS = 40
/** Longer than any budget here lasts. */
const TURNS = script(2 * USER_TURNS)
const SUMMARIES_MAX = 8
const CACHED_PERCENT_MIN = 60
/** What the rung may cost, of what the same turns cost without it. */
const COST_PERCENT_MAX = 102n
/** A budget that ends some turns after `USER_TURNS`. */
const CAP_PERCENT = 130n
const AMPLE = '1000.00'
const END: Contract['ladder'][number] = { atPercent: 100, rung: 'EndConversation', end: 'Refuse' }

interface Run {
  /** What the provider had billed when each user turn was over, summaries included. */
  readonly billed: readonly bigint[]
  readonly summaries: number
  /** Of the input of all calls. */
  readonly cachedPercent: number
  /** How many words each summary was allowed, and how many the notes had that it took the place of. */
  readonly words: readonly { readonly allowed: number; readonly before: number }[]
}

interface Terms {
  readonly cap: string
  readonly turns: number
  readonly summarizeAt?: number
  readonly pricing?: Contract['pricing']
}

let provider: Provider
/** What the sidecar asked by itself. */
let asked: string[] = []
beforeEach(async () => {
  asked = []
  provider = await startProvider({
    onRequest({ headers, body }) {
      if (headers['x-fake-tag'] === undefined) asked.push(body.toString())
    },
  })
})
afterEach(() => provider.close())

/** Plays as many turns as the budget lets it. `summarizeAt`: percent of the cap; absent: no rung. */
async function run(shape: Shape, terms: Terms): Promise<Run> {
  const rung = terms.summarizeAt === undefined ? [] : [{ atPercent: terms.summarizeAt, rung: 'Summarize' as const }]
  const contract = makeContract({
    caps: { perConversation: terms.cap },
    ladder: [...rung, END],
    models: { allow: [], downgrades: [], summarizer: shape.summarizer },
    ...(terms.pricing === undefined ? {} : { pricing: terms.pricing }),
  })
  const upstreams = [
    makeUpstream({ name: 'openai', provider: 'openai', baseUrl: `${provider.url}/v1` }),
    makeUpstream({ name: 'anthropic', provider: 'anthropic', baseUrl: `${provider.url}/v1`, outputLimitField: 'max_tokens' }),
    makeUpstream({ name: 'gemini', provider: 'google', baseUrl: provider.url, outputLimitField: 'max_tokens' }),
  ]
  provider.clearCache()
  asked = []
  const before = provider.bill.lines().length
  const billed: bigint[] = []
  const sidecar = await startSidecar(makeConfig('', [contract], { upstreams }))
  try {
    await play(shape, TURNS.slice(0, terms.turns), {
      baseUrl: `${sidecar.url}/${shape.upstream}`,
      headers: { 'x-farebox-conversation': 'c', 'x-fake-tag': 'c' },
      // As a user who reads: the next question comes when the summary is there.
      async afterTurn() {
        await sidecar.idle()
        await provider.settled()
        billed.push(
          provider.bill
            .lines()
            .slice(before)
            .reduce((sum, { nanoUsd }) => sum + nanoUsd, 0n),
        )
      },
    })
  } finally {
    await sidecar.close()
  }
  const lines = provider.bill.lines().slice(before)
  const calls = lines.filter(({ tag }) => tag !== null)
  const tokens = (kind: 'cachedTokens' | 'promptTokens'): number => calls.reduce((sum, call) => sum + call[kind], 0)
  return {
    billed,
    summaries: lines.length - calls.length,
    cachedPercent: (tokens('cachedTokens') * 100) / tokens('promptTokens'),
    words: asked.map(wordsIn),
  }
}

function wordsIn(body: string): Run['words'][number] {
  const notes = /<summary>(.*?)<\/summary>/s.exec(body)?.[1] ?? ''
  return { allowed: Number(/at most (\d+) words in all/.exec(body)?.[1]), before: notes.match(/\w+/g)?.length ?? 0 }
}

function assertNoDearer(name: string, run: Run, plain: Run): void {
  const turns = run.billed.length
  const [cost, without] = [run.billed[turns - 1] ?? 0n, plain.billed[turns - 1] ?? 0n]
  assert.ok(
    cost * 100n <= without * COST_PERCENT_MAX,
    `${name}: ${formatUsd(cost)} for ${turns} turns that cost ${formatUsd(without)} without`,
  )
}

test('none is made below the thresholds of a tier that is priced per resolution and on target, though the next call may find no room', async () => {
  const claude = SHAPES.find(({ upstream }) => upstream === 'anthropic')
  assert.ok(claude !== undefined)
  const ofEach = { otherCost: '0.00', targetGrossMarginPercent: 50, targetCostPerConversation: '1.00' } as const
  const pricing = { ...ofEach, model: 'PerResolution', price: '2.00', targetCostPerResolution: '1.00' } as const
  const setup = { cap: '0.80', turns: TURNS.length, summarizeAt: 80 }
  assert.equal((await run(claude, { ...setup, pricing })).summaries, 0)
  assert.ok((await run(claude, setup)).summaries > 0, 'where thresholds apply')
})

for (const shape of SHAPES) {
  describe(shape.name, () => {
    test('from the first turn on it costs less, keeps the cache, and its notes grow with what they stand for', async () => {
      const plain = await run(shape, { cap: AMPLE, turns: USER_TURNS })
      const summarised = await run(shape, { cap: AMPLE, turns: USER_TURNS, summarizeAt: 0 })
      assert.equal(summarised.billed.length, USER_TURNS)
      assertNoDearer(shape.name, summarised, plain)
      assert.ok((summarised.billed.at(-1) ?? 0n) < (plain.billed.at(-1) ?? 0n))
      const { summaries, cachedPercent, words } = summarised
      assert.ok(summaries > 0 && summaries <= SUMMARIES_MAX, `${summaries} summaries`)
      assert.ok(cachedPercent >= CACHED_PERCENT_MIN, `${cachedPercent} % cached`)
      for (const { allowed, before } of words) assert.ok(allowed > before, `${before} words of notes are to become ${allowed}`)
    })

    test('wherever it rises, a budget lasts longer, and no turn costs more for it', async () => {
      const plain = await run(shape, { cap: AMPLE, turns: TURNS.length })
      const cap = formatUsd(((plain.billed[USER_TURNS - 1] ?? 0n) * CAP_PERCENT) / 100n)
      const unaided = await run(shape, { cap, turns: TURNS.length })
      const found = [`${shape.name}, ${cap}: ${unaided.billed.length} turns without`]
      const made: number[] = []
      for (const summarizeAt of [20, 40, 60, 80]) {
        const aided = await run(shape, { cap, turns: TURNS.length, summarizeAt })
        found.push(`${summarizeAt} %: ${aided.billed.length} turns, ${aided.summaries} summaries`)
        // A summary may hold a quarter of what is left: where that is too little, none is made, and nothing is lost by it.
        const longer = aided.summaries > 0 ? aided.billed.length > unaided.billed.length : aided.billed.length === unaided.billed.length
        assert.ok(longer, found.join('; '))
        made.push(aided.summaries)
        assertNoDearer(`at ${summarizeAt} %`, aided, plain)
      }
      assert.ok(
        made.slice(0, 3).every((summaries) => summaries > 0),
        found.join('; '),
      )
      // Three quarters of it are used when the next call of a cached history, held as if nothing were cached, no longer fits: the rung at 80 % is
      // reached by a summary before that, or never.
      if (shape.upstream === 'anthropic') assert.ok(made.at(-1) === 1, found.join('; '))
    })
  })
}
