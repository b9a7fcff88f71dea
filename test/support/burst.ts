/** Many calls at once on little money, and what must be true afterwards whoever served them. */
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import { formatUsd, parseUsd } from '@farebox/crds/usd.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import type { Sidecar } from './sidecar.ts'

/** gpt-4o: 10.00 USD per million output tokens, so 1,000 tokens cost 0.01. */
export const MODEL = 'gpt-4o'
/** What each call asks for. */
export const OUTPUT_MAX = 1_000
/** Holds that its budget covers: so many calls are under way at once, before anything is spent. */
const HOLDS = 20
/** 20 holds of 1,000 output tokens, and their input. */
export const BUDGET = '0.205'
/** The most that one call holds. */
const HOLD = parseUsd(BUDGET) / BigInt(HOLDS)
/** A rung that held money would reach with the 15th hold, and spent money with the 140th call of 100 tokens. */
export const LADDER: Contract['ladder'] = [
  { atPercent: 70, rung: 'DropRetrieval' },
  { atPercent: 100, rung: 'EndConversation', end: 'Refuse' },
]
/** From the first call at the provider on. Far: who waits longer has no hold, not a slow machine. */
const GATE_MS_MAX = 20_000
/** Who waits for held money is told after 2 s that it is busy, and asks again; on a slow machine more than once. */
const ASKS_AGAIN_MS_MAX = 60_000
/** An answer ends before its hold does: by how much at most. */
const SETTLED_MS_MAX = 1_000

export interface Outcome {
  readonly status: number
  readonly code: string | null
  readonly rung: string | null
  /** It was at the provider, with all that the budget covers, before any of them was answered. */
  readonly isFirst: boolean
  readonly endedAtMs: number
  /** Each time that it was told to ask again, as the money was held by others. */
  readonly busy: readonly { readonly atMs: number; readonly billed: NanoUsd }[]
}

export interface BurstOptions {
  readonly stream: boolean
  /** Of each answer. */
  readonly outputTokens: number
  /** So many calls must be under way at once; `HOLDS` when absent. */
  readonly holds?: number
}

/** A provider that can keep its callers waiting. */
export interface GatedProvider extends Provider {
  /** Nobody is answered until `count` calls are there, or too long a time since the first of them is over; gives the tags of those that were. */
  gather(count: number): Promise<ReadonlySet<string>>
}

export async function startGatedProvider(): Promise<GatedProvider> {
  let enter: ((tag: string) => Promise<void>) | null = null
  const provider = await startProvider({ onRequest: ({ headers }) => enter?.(String(headers['x-fake-tag'])) })
  return {
    ...provider,
    async gather(count) {
      const opened = Promise.withResolvers<void>()
      const tags = new Set<string>()
      let tooLate: NodeJS.Timeout | undefined
      enter = (tag) => {
        tooLate ??= setTimeout(opened.resolve, GATE_MS_MAX)
        tags.add(tag)
        if (tags.size === count) opened.resolve()
        return opened.promise
      }
      await opened.promise
      clearTimeout(tooLate)
      enter = null
      return tags
    },
  }
}

/**
 * Fires all calls at once, spread over the sidecars, and tells how each ended. The first are answered when all that the budget covers are
 * there. Who is told that money is busy asks again when it was told to.
 */
export async function burst(
  provider: GatedProvider,
  sidecars: readonly Pick<Sidecar, 'url'>[],
  calls: number,
  headersOf: (call: number) => Record<string, string>,
  options: BurstOptions,
): Promise<readonly Outcome[]> {
  const gathered = provider.gather(options.holds ?? HOLDS)
  const end = performance.now() + ASKS_AGAIN_MS_MAX
  const ask = (call: number): Promise<Response> =>
    fetch(`${sidecars[call % sidecars.length]?.url}/openai/v1/chat/completions`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        authorization: 'Bearer test',
        'x-fake-output-tokens': String(options.outputTokens),
        'x-fake-delay-ms': '20',
        'x-fake-tag': String(call),
        ...headersOf(call),
      },
      body: JSON.stringify({
        model: MODEL,
        stream: options.stream,
        max_tokens: OUTPUT_MAX,
        messages: [{ role: 'user', content: 'Hello there.' }],
      }),
    })
  return Promise.all(
    Array.from({ length: calls }, async (_, call): Promise<Outcome> => {
      const busy: Outcome['busy'][number][] = []
      for (;;) {
        const answer = await ask(call)
        const text = await answer.text()
        const endedAtMs = performance.now()
        const code = answer.ok ? null : String((JSON.parse(text) as { error: { code: unknown } }).error.code)
        if (code === 'budget_busy' && endedAtMs < end) {
          busy.push({ atMs: endedAtMs, billed: provider.bill.totalNanoUsd() })
          await sleep(Number(answer.headers.get('retry-after')) * 1_000)
          continue
        }
        const isFirst = (await gathered).has(String(call))
        return { status: answer.status, code, rung: answer.headers.get('x-farebox-rung'), isFirst, endedAtMs, busy }
      }
    }),
  )
}

/**
 * Never more billed than the budget; as many at once as it covers holds, none of which sees a rung from what the others hold; used to 90 %
 * before anything was refused, and nobody told that it is used up, or busy, while a hold was free.
 */
export async function assertUsed(provider: Provider, outcomes: readonly Outcome[]): Promise<void> {
  await provider.settled()
  const budget = parseUsd(BUDGET)
  const bill = provider.bill.totalNanoUsd()
  const answered = outcomes.filter((outcome) => outcome.status === 200)
  const refused = outcomes.filter((outcome) => outcome.status !== 200)
  assert.ok(bill <= budget, `billed ${formatUsd(bill)} of ${BUDGET}`)
  const first = outcomes.filter(({ isFirst }) => isFirst)
  assert.equal(first.length, HOLDS, 'so many were under way at once')
  for (const { status, rung } of first) assert.deepEqual([status, rung], [200, 'None'], 'nothing was spent yet, only held')
  for (const { code } of refused) assert.equal(code, 'conversation_budget_exhausted')
  // Whoever had not been answered by then, or only just, may have held money.
  for (const { atMs, billed } of outcomes.flatMap(({ busy }) => busy)) {
    const holders = answered.filter(({ endedAtMs }) => endedAtMs > atMs - SETTLED_MS_MAX).length
    const free = budget - billed - BigInt(holders) * HOLD
    assert.ok(free < HOLD, `${formatUsd(free)} was free, and a call was told that all of it is held`)
  }
  if (refused.length > 0) assert.ok(bill * 100n >= budget * 90n, `only ${formatUsd(bill)} of ${BUDGET} was used before the last refusal`)
  // Who is told so saw at least as much left as there is now.
  if (refused.length > 0) assert.ok(budget - bill < HOLD, `${formatUsd(budget - bill)} was left, and a call was told that nothing is`)
  // A rung comes from what is spent and what input is under way: whoever was decided before 60 % was spent has none.
  const dearest = provider.bill.lines().reduce((most, { nanoUsd }) => (nanoUsd > most ? nanoUsd : most), 1n)
  const unspent = Number((budget * 60n) / 100n / dearest)
  const milder = answered.filter(({ rung }) => rung === 'None').length
  assert.ok(milder >= Math.min(unspent, answered.length), `${milder} without a rung of ${answered.length}; 60 % pays for ${unspent}`)
}
