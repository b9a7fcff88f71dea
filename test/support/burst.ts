/** Many calls at once on little money, and what must be true afterwards whoever served them. */
import assert from 'node:assert/strict'
import { formatUsd, parseUsd } from '@farebox/crds/usd.ts'
import type { Provider } from '../provider/server.ts'
import type { Sidecar } from './sidecar.ts'

/** gpt-4o: 10.00 USD per million output tokens, so 1,000 tokens cost 0.01. */
export const MODEL = 'gpt-4o'
/** What each call asks for. */
export const OUTPUT_MAX = 1_000

export interface Outcome {
  readonly status: number
  readonly code: string | null
  readonly rung: string | null
}

/** Fires all calls at once, spread over the sidecars, and tells how each ended. */
export async function burst(
  sidecars: readonly Pick<Sidecar, 'url'>[],
  calls: number,
  headersOf: (call: number) => Record<string, string>,
  options: { readonly stream: boolean; readonly outputTokens: number },
): Promise<readonly Outcome[]> {
  return Promise.all(
    Array.from({ length: calls }, async (_, call): Promise<Outcome> => {
      const answer = await fetch(`${sidecars[call % sidecars.length]?.url}/openai/v1/chat/completions`, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          authorization: 'Bearer test',
          'x-fake-output-tokens': String(options.outputTokens),
          'x-fake-delay-ms': '20',
          ...headersOf(call),
        },
        body: JSON.stringify({
          model: MODEL,
          stream: options.stream,
          max_tokens: OUTPUT_MAX,
          messages: [{ role: 'user', content: 'Hello there.' }],
        }),
      })
      const text = await answer.text()
      return {
        status: answer.status,
        code: answer.ok ? null : String((JSON.parse(text) as { error: { code: unknown } }).error.code),
        rung: answer.headers.get('x-farebox-rung'),
      }
    }),
  )
}

/** Never more billed than `budget`; at least 20 calls answered; used to 90 % before anything was refused; no rung from held money. */
export async function assertUsed(provider: Provider, outcomes: readonly Outcome[], budget: string): Promise<void> {
  await provider.settled()
  const bill = provider.bill.totalNanoUsd()
  const answered = outcomes.filter((outcome) => outcome.status === 200)
  const refused = outcomes.filter((outcome) => outcome.status !== 200)
  assert.ok(bill <= parseUsd(budget), `billed ${formatUsd(bill)} of ${budget}`)
  assert.ok(answered.length >= 20, `${answered.length} were answered`)
  for (const outcome of refused)
    assert.ok(outcome.code === 'conversation_budget_exhausted' || outcome.code === 'budget_busy', `refused with ${outcome.code}`)
  if (refused.length > 0)
    assert.ok(bill * 100n >= parseUsd(budget) * 90n, `only ${formatUsd(bill)} of ${budget} was used before the last refusal`)
  // A rung comes from what is spent and what input is under way; the first calls have nothing but held output before them.
  const inputAndSpent = bill * 100n < parseUsd(budget) * 70n
  if (inputAndSpent) assert.ok(answered.every((outcome) => outcome.rung === 'None'))
  assert.ok(answered.filter((outcome) => outcome.rung === 'None').length >= 20)
}
