/** The cap holds, against the provider's own bill: parallel calls, endless streams, clients that leave, and a killed sidecar. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { formatUsd, parseUsd } from '@farebox/crds/usd.ts'
import OpenAI from 'openai'
import { assertUsed, BUDGET, burst, LADDER, MODEL, OUTPUT_MAX, startGatedProvider } from '../support/burst.ts'
import type { GatedProvider } from '../support/burst.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { ledgerTotal, startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { waitFor } from '../support/wait-for.ts'

let provider: GatedProvider
before(async () => {
  provider = await startGatedProvider()
})
after(() => provider.close())

describe('200 parallel calls on one budget that covers about 20 holds', () => {
  const CALLS = 200

  for (const stream of [false, true]) {
    test(`bill <= budget, used to 90 % or more, no rung from held money (${stream ? 'streamed' : 'plain'}, one conversation)`, async () => {
      const contract = makeContract({ caps: { perConversation: BUDGET }, ladder: LADDER })
      await withSidecar(makeConfig(`${provider.url}/v1`, [contract]), async (sidecar) => {
        const outcomes = await burst(provider, [sidecar], CALLS, () => ({ 'x-farebox-conversation': 'one' }), {
          stream,
          outputTokens: OUTPUT_MAX / 10,
        })
        await assertUsed(provider, outcomes)
      })
    })

    test(`bill <= the user's budget over 200 conversations (${stream ? 'streamed' : 'plain'})`, async () => {
      const contract = makeContract({
        caps: { perConversation: BUDGET, perUser: { amount: BUDGET, period: { unit: 'Month', timeZone: 'UTC', anchorDay: 1 } } },
        ladder: LADDER,
      })
      await withSidecar(makeConfig(`${provider.url}/v1`, [contract]), async (sidecar) => {
        const outcomes = await burst(
          provider,
          [sidecar],
          CALLS,
          (call) => ({ 'x-farebox-conversation': `conversation-${call}`, 'x-farebox-user': 'ann' }),
          { stream, outputTokens: OUTPUT_MAX / 10 },
        )
        await assertUsed(provider, outcomes)
      })
    })
  }

  test('when every call uses its whole bound, as many are admitted as holds fit, and not one more', async () => {
    // Of 0.01 and at most 0.0005 of input each. What is left then is no whole bound, which is all that is of use here.
    const holds = 19
    const contract = makeContract({
      caps: { perConversation: BUDGET },
      models: { allow: [], downgrades: [], usefulOutputTokens: OUTPUT_MAX },
    })
    await withSidecar(makeConfig(`${provider.url}/v1`, [contract]), async (sidecar) => {
      const outcomes = await burst(provider, [sidecar], CALLS, () => ({ 'x-farebox-conversation': 'full' }), {
        stream: false,
        outputTokens: OUTPUT_MAX,
        holds,
      })
      const answered = outcomes.filter((outcome) => outcome.status === 200).length
      assert.ok(provider.bill.totalNanoUsd() <= parseUsd(BUDGET))
      assert.ok(answered >= holds, `${answered} of about 20 were admitted`)
      assert.equal(outcomes.filter(({ isFirst }) => isFirst).length, holds, 'at once')
    })
  })
})

test('a stream that would cost ten times the budget ends normally with finish_reason length', async () => {
  const budget = '0.02'
  await withSidecar(makeConfig(`${provider.url}/v1`, [makeContract({ caps: { perConversation: budget } })]), async (sidecar) => {
    const client = sidecar.client({ 'x-farebox-conversation': 'long', 'x-fake-output-tokens': '20000' })
    const stream = await client.chat.completions.create({
      model: MODEL,
      stream: true,
      messages: [{ role: 'user', content: 'Tell me everything.' }],
    })
    let finish: string | null = null
    let text = ''
    for await (const chunk of stream) {
      assert.ok(chunk.choices.length > 0, 'the client did not ask for usage, so no chunk without choices reaches it')
      text += chunk.choices[0]?.delta.content ?? ''
      finish = chunk.choices[0]?.finish_reason ?? finish
    }
    await provider.settled()
    assert.equal(finish, 'length')
    assert.ok(text.length > 1_000)
    const bill = provider.bill.totalNanoUsd()
    assert.ok(bill <= parseUsd(budget), `billed ${formatUsd(bill)}`)
    assert.ok(bill * 100n >= parseUsd(budget) * 80n, 'what the money affords is given, not less')
  })
})

describe('a client that leaves', () => {
  const OUTPUT = 600
  for (const onDisconnect of ['Drain', 'Cancel'] as const) {
    for (const share of [0, 50, 99]) {
      test(`${onDisconnect} at ${share} % of a stream`, async () => {
        await withSidecar(makeConfig(`${provider.url}/v1`, [makeContract()], { onDisconnect }), async (sidecar) => {
          await leaveAt(sidecar, (OUTPUT * share) / 100, OUTPUT)
          await waitFor('the end of the call', async () => (await callsInFlight(sidecar)) === 0, { withinMs: 10_000 })
          await provider.settled()
          const bill = provider.bill.totalNanoUsd()
          const hold = parseUsd('0.0401') // 4,000 output tokens, and the input
          await sidecar.kill('SIGTERM')
          const ledger = parseUsd(ledgerTotal(sidecar))
          if (onDisconnect === 'Drain') assert.equal(formatUsd(ledger), formatUsd(bill))
          else {
            assert.ok(bill <= ledger, `billed ${formatUsd(bill)}, entered ${formatUsd(ledger)}`)
            assert.ok(ledger <= hold)
            const margin = 64n * 10_000n // 64 output tokens at 10.00 per million
            if (share > 0)
              assert.ok(ledger <= (bill * 115n) / 100n + margin, `entered ${formatUsd(ledger)} for a bill of ${formatUsd(bill)}`)
          }
        })
      })
    }
  }
})

test('kill -9 in mid-stream: after the restart nothing is lost, nothing is twice, and the hold is charged', async () => {
  await withSidecar(makeConfig(`${provider.url}/v1`, [makeContract({ caps: { perConversation: '0.10' } })]), async (sidecar) => {
    const headers = { 'x-farebox-conversation': 'crash' }
    await sidecar
      .client({ ...headers, 'x-fake-output-tokens': '100' })
      .chat.completions.create({ model: MODEL, max_tokens: 200, messages: [{ role: 'user', content: 'First.' }] })
    const settled = provider.bill.totalNanoUsd()
    const client = sidecar.client({ ...headers, 'x-fake-output-tokens': '5000', 'x-fake-token-delay-ms': '2' })
    const stream = await client.chat.completions.create({
      model: MODEL,
      stream: true,
      max_tokens: 2_000,
      messages: [{ role: 'user', content: 'Second.' }],
    })
    const broken = assert.rejects(async () => {
      for await (const _chunk of stream) void _chunk
    })
    await sleep(150)
    const during = await standing(sidecar, 'crash')
    assert.ok(parseUsd(during.held) > 0n)
    await sidecar.kill('SIGKILL')
    await broken
    await sidecar.start()
    const afterwards = await standing(sidecar, 'crash')
    assert.equal(parseUsd(afterwards.spent), settled + parseUsd(during.held), 'the hold is charged, the first turn counts once')
    assert.equal(afterwards.held, '0.00')
    await sidecar.kill('SIGKILL')
    await sidecar.start()
    assert.deepEqual((await standing(sidecar, 'crash')).spent, afterwards.spent, 'a second restart changes nothing')
    await provider.settled()
    await sidecar.kill('SIGTERM')
    const entries = sidecar.ledger()
    assert.equal(entries.length, 2)
    assert.deepEqual(
      entries.map((entry) => entry.kind),
      ['settlement', 'expiry'],
    )
    assert.ok(provider.bill.totalNanoUsd() <= parseUsd(ledgerTotal(sidecar)))
  })
})

/** Reads a stream up to about this many tokens, then hangs up. */
async function leaveAt(sidecar: Sidecar, tokens: number, outputTokens: number): Promise<void> {
  const leaving = new AbortController()
  const client = new OpenAI({
    baseURL: `${sidecar.url}/openai/v1`,
    apiKey: 'test',
    maxRetries: 0,
    defaultHeaders: { 'x-farebox-conversation': 'leaver', 'x-fake-output-tokens': String(outputTokens), 'x-fake-token-delay-ms': '2' },
  })
  const stream = await client.chat.completions.create(
    { model: MODEL, stream: true, max_tokens: 4_000, messages: [{ role: 'user', content: 'Go on.' }] },
    { signal: leaving.signal },
  )
  let chunks = 0
  if (tokens === 0) leaving.abort()
  try {
    for await (const _chunk of stream) {
      void _chunk
      if (++chunks >= tokens) leaving.abort()
    }
  } catch (error) {
    assert.ok(leaving.signal.aborted, String(error))
  }
}

interface Standing {
  readonly spent: string
  readonly held: string
}
async function standing(sidecar: Sidecar, id: string): Promise<Standing> {
  return (await sidecar.getJson(`/farebox/v1/conversations/${id}`)) as Standing
}

async function callsInFlight(sidecar: Sidecar): Promise<number> {
  return ((await sidecar.getJson('/farebox/v1/status')) as { readonly callsInFlight: number }).callsInFlight
}

async function withSidecar(config: ReturnType<typeof makeConfig>, use: (sidecar: Sidecar) => Promise<void>): Promise<void> {
  provider.bill.clear()
  const sidecar = await startSidecar(config)
  try {
    await use(sidecar)
  } finally {
    await sidecar.close()
  }
}
