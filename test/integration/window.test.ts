/** The context window that a tier sells: summarised between turns, cut, or refused; and a prefix that the provider can cache. */
import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import { formatUsd, parseUsd } from '@farebox/crds/usd.ts'
import { BUILT_IN_TEXTS } from '@farebox/sidecar/core/notice-texts.ts'
import type { SidecarStatus } from '@farebox/crds/sidecar-status.ts'
import type OpenAI from 'openai'
import type { BillLine } from '../provider/bill.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider, SeenRequest } from '../provider/server.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { startTalk } from '../support/talk.ts'
import type { Said, Talk } from '../support/talk.ts'
import { waitFor } from '../support/wait-for.ts'

const WINDOW_TOKENS = 1_200
const SYSTEM = 'You are the help desk of a lighthouse.'
/** About 90 tokens. */
const QUESTION = 'The lamp turns, the keeper climbs the stairs and writes the weather down. '.repeat(6)
const ANSWER_TOKENS = 120
const SUMMARIZER = 'gpt-4o-mini'
/** Answers when `held` does. */
const SLOW_SUMMARIZER = 'gpt-4.1-mini'
const SOON = { everyMs: 10 }

function tier(name: string, context: Partial<Contract['context']>, parts: Partial<Contract> = {}): Contract {
  return makeContract({
    tier: name,
    context: { windowTokens: WINDOW_TOKENS, keepRecentTurns: 2, summarizeAfterPercent: 60, ...context },
    models: { allow: [], downgrades: [], summarizer: SUMMARIZER },
    notices: { mode: 'Inline', texts: {}, defaultLocale: 'en' },
    ...parts,
  })
}

let provider: Provider
let sidecar: Sidecar
let seen: SeenRequest[] = []
let held: Promise<unknown> | null = null
before(async () => {
  provider = await startProvider({
    onRequest: async (request) => {
      seen.push(request)
      if (request.body.includes(SLOW_SUMMARIZER)) await held
    },
  })
  sidecar = await startSidecar(
    makeConfig(
      `${provider.url}/v1`,
      [
        tier('refuse', { overflow: 'Refuse' }),
        tier('drop', { overflow: 'DropOldest' }),
        tier('summarise', { overflow: 'Summarize' }),
        tier('unserved', { overflow: 'Summarize' }, { models: { allow: [], downgrades: [], summarizer: 'gpt-3.5-turbo' } }),
        tier('slow', { overflow: 'Summarize' }, { models: { allow: [], downgrades: [], summarizer: SLOW_SUMMARIZER } }),
        tier('thinking', { overflow: 'Summarize' }, { models: { allow: [], downgrades: [], summarizer: 'gpt-5-mini' } }),
        makeContract({ tier: 'retrieval', ladder: [{ atPercent: 1, rung: 'DropRetrieval' }] }),
      ],
      { retrieval: { toolNames: [], tags: ['document'] } },
    ),
  )
})
after(async () => {
  await sidecar.close()
  await provider.close()
})
beforeEach(() => {
  seen = []
  provider.bill.clear()
  provider.clearCache()
})

function talkOf(id: string, tierName: string): Talk {
  const headers = {
    'x-farebox-conversation': id,
    'x-farebox-tier': tierName,
    'x-fake-output-tokens': String(ANSWER_TOKENS),
    authorization: 'Bearer of-the-turn',
  }
  const talk = startTalk(sidecar, headers, { max_tokens: ANSWER_TOKENS })
  talk.messages.push({ role: 'system', content: SYSTEM })
  return talk
}

interface Sent {
  readonly text: string
  readonly model: string
  readonly messages: readonly { readonly role: string; readonly content: string }[]
  readonly limit: number
}

/** Requests of the turns, or those of the summariser. */
function sentTo(model: string): readonly Sent[] {
  return seen
    .map(({ body }) => ({
      text: body.toString(),
      json: JSON.parse(body.toString()) as Sent & { readonly max_tokens?: number; readonly max_completion_tokens?: number },
    }))
    .filter(({ json }) => json.model === model)
    .map(({ text, json }) => ({ text, model, messages: json.messages, limit: json.max_completion_tokens ?? json.max_tokens ?? 0 }))
}

function billed(model: string): readonly BillLine[] {
  return provider.bill.lines().filter((line) => line.model === model)
}

/** How often a request does not begin with the bytes of the one before it. */
function prefixBreaks(sent: readonly Sent[]): number {
  return sent.filter(({ text }, index) => index > 0 && !text.startsWith(sent[index - 1]?.text.slice(0, -']}'.length) ?? '')).length
}

/** Labels that stand in for what was left out, in order, each once. */
function labels(sent: readonly Sent[], pattern: RegExp): readonly string[] {
  const found = sent.flatMap(({ messages }) => messages.flatMap(({ content }) => pattern.exec(content)?.[0] ?? []))
  return [...new Set(found)]
}

/** When no call is under way, of a turn or of a summary: that begins a moment after its turn. */
async function idle(): Promise<void> {
  for (let quiet = 0; quiet < 3; await sleep(15)) {
    const { callsInFlight } = (await sidecar.getJson('/farebox/v1/status')) as SidecarStatus
    quiet = callsInFlight === 0 ? quiet + 1 : 0
  }
  await provider.settled()
}

async function assertBooked(id: string): Promise<void> {
  await idle()
  const { spent, drivers, budget } = await sidecar.standing(id)
  assert.equal(spent, formatUsd(provider.bill.totalNanoUsd()))
  assert.equal(
    parseUsd(spent),
    Object.values(drivers).reduce((sum, cost) => sum + parseUsd(cost), 0n),
  )
  assert.ok(parseUsd(spent) <= parseUsd(budget))
}

async function summaries(tierName: string, outcome: string): Promise<number> {
  const series = `farebox_summaries_total{tier="${tierName}",outcome="${outcome}"} `
  const line = (await sidecar.metrics()).split('\n').find((each) => each.startsWith(series))
  return Number(line?.slice(series.length) ?? 0)
}

test('Refuse: a longer conversation is a 400, and a shorter one goes on', async () => {
  const talk = talkOf('refused', 'refuse')
  let refused: Said | null = null
  while (refused === null) {
    const said = await talk.say(QUESTION)
    if (said.code !== null) refused = said
    assert.ok(talk.messages.length < 40)
  }
  assert.deepEqual([refused.status, refused.code, refused.headers.get('x-should-retry')], [400, 'context_window_exceeded', 'false'])
  assert.equal(seen.length, (talk.messages.length - 1) / 2, 'the provider hears nothing of it')
  assert.equal(refused.headers.get('x-farebox-percent'), String((await sidecar.standing('refused')).percent))
  for (const { promptTokens } of provider.bill.lines()) assert.ok(promptTokens <= WINDOW_TOKENS)
  talk.messages.splice(1, talk.messages.length - 3)
  assert.equal((await talk.say(QUESTION)).status, 200)
  await assertBooked('refused')
})

describe('DropOldest', () => {
  test('leaves out the oldest turns, says so to model and user, and moves the prefix only then', async () => {
    const talk = talkOf('dropped', 'drop')
    const told: string[] = []
    for (let turn = 0; turn < 14; turn++) {
      const said = await talk.say(`Question ${turn}. ${QUESTION}`)
      assert.equal(said.code, null)
      if (said.text.includes(BUILT_IN_TEXTS.DropOldest.en)) told.push(said.text)
    }
    const sent = sentTo('gpt-4o')
    const cuts = labels(sent, /^\[Earlier conversation left out: turns? [\d-]+\]$/)
    assert.ok(cuts.length >= 2, `cut ${cuts.length} times`)
    assert.equal(prefixBreaks(sent), cuts.length)
    assert.equal(told.length, cuts.length, 'each cut is told')
    for (const { messages } of sent) {
      assert.equal(messages[0]?.content, SYSTEM)
      assert.equal(messages.at(-1)?.role, 'user')
      assert.ok(messages.every(({ content }) => !content.includes(BUILT_IN_TEXTS.DropOldest.en)))
    }
    for (const { promptTokens } of provider.bill.lines()) assert.ok(promptTokens <= WINDOW_TOKENS)
    assert.ok(
      provider.bill.lines().some(({ promptTokens }) => promptTokens > WINDOW_TOKENS / 2),
      'no more than has to be',
    )
    await assertBooked('dropped')
  })

  test('goes on uncut, and untold, behind a server that wants users and the assistant to take turns', async () => {
    const talk = talkOf('turns', 'drop')
    const strict = { headers: { 'x-fake-alternate-roles': 'gpt-4o' } }
    for (let turn = 0; turn < 14; turn++) {
      const said = await talk.say(`Question ${turn}. ${QUESTION}`, strict)
      assert.deepEqual([said.status, said.code], [200, null], `turn ${turn}`)
      assert.ok(!said.text.includes(BUILT_IN_TEXTS.DropOldest.en))
    }
    const sent = sentTo('gpt-4o')
    assert.equal(sent.length, 15, 'one cut is refused, and none tried again')
    assert.equal(labels(sent, /left out: turns? [\d-]+/).length, 1)
    assert.equal(sent.at(-1)?.messages.length, 28)
    await assertBooked('turns')
  })

  test('several cuts that no prose answer has told of yet are told of once', async () => {
    const talk = talkOf('told once', 'drop')
    for (let turn = 0; turn < 14; turn++)
      assert.equal((await talk.say(`In json, please. ${QUESTION}`, { body: { response_format: { type: 'json_object' } } })).code, null)
    assert.ok(labels(sentTo('gpt-4o'), /left out: turns? [\d-]+/).length >= 2)
    const { text } = await talk.say(QUESTION)
    assert.equal(text.split(BUILT_IN_TEXTS.DropOldest.en).length - 1, 1)
  })

  test('a last turn that is too long alone is refused', async () => {
    const said = await talkOf('too long', 'drop').say(QUESTION.repeat(20))
    assert.deepEqual([said.status, said.code], [400, 'context_window_exceeded'])
  })
})

describe('Summarize', () => {
  test('between turns, by the cheap model, within its length and in the same budget; then the prefix stays', async () => {
    const talk = talkOf('summarised', 'summarise')
    const told: string[] = []
    for (let turn = 0; turn < 12; turn++) {
      const said = await talk.say(`Question ${turn}. ${QUESTION}`)
      assert.equal(said.code, null)
      assert.equal(said.headers.get('x-farebox-rung'), 'None')
      if (said.text.includes(BUILT_IN_TEXTS.Summarize.en)) told.push(said.text)
      await idle()
    }
    const sent = sentTo('gpt-4o')
    const made = sentTo(SUMMARIZER)
    const marks = labels(sent, /^\[Earlier conversation summarised by farebox: turns? [\d-]+, \d+ -> \d+ tokens\]/)
    assert.ok(marks.length >= 2, `summarised ${marks.length} times`)
    assert.ok(made.length - marks.length <= 1, 'the last one may not have been used yet')
    assert.equal(prefixBreaks(sent), marks.length)
    assert.equal(told.length, marks.length)
    assert.deepEqual(labels(sent, /left out/), [], 'nothing was dropped')
    for (const { messages } of sent) assert.ok(messages.every(({ content }) => !content.includes(BUILT_IN_TEXTS.Summarize.en)))

    const lines = billed(SUMMARIZER)
    assert.equal(lines.length, made.length)
    for (const [index, { outputTokens }] of lines.entries()) assert.ok(outputTokens > 0 && outputTokens <= (made[index]?.limit ?? 0))
    for (const { promptTokens } of billed('gpt-4o')) assert.ok(promptTokens <= WINDOW_TOKENS)
    const { drivers } = await sidecar.standing('summarised')
    assert.equal(drivers['summaries'], formatUsd(lines.reduce((sum, { nanoUsd }) => sum + nanoUsd, 0n)))
    await assertBooked('summarised')

    for (const { headers } of seen.filter(({ body }) => body.includes(SUMMARIZER))) {
      assert.equal(headers.authorization, 'Bearer of-the-turn', 'with the credential of the turn')
      assert.ok(!Object.keys(headers).some((name) => /^x-(farebox|fake)-/.test(name)), 'and nothing else of it')
    }
  })

  test('comes into force where a link in it is signed anew for each call', async () => {
    const talk = talkOf('signed', 'summarise')
    for (let turn = 0; turn < 8; turn++) {
      const url = `https://b.s3.amazonaws.com/a.png?X-Amz-Signature=${turn}`
      const first: OpenAI.ChatCompletionMessageParam = {
        role: 'user',
        content: [
          { type: 'text', text: QUESTION },
          { type: 'image_url', image_url: { url, detail: 'low' } },
        ],
      }
      if (turn > 0) talk.messages[1] = first
      else talk.messages.push(first)
      const said = turn === 0 ? await talk.goOn() : await talk.say(`Question ${turn}. ${QUESTION}`)
      assert.equal(said.code, null)
      await idle()
    }
    const kept = seen.filter(({ body }) => body.includes('[Earlier conversation summarised by farebox'))
    assert.ok(kept.length > 0 && sentTo(SUMMARIZER).length > 0)
    for (const { body } of kept) assert.ok(!body.includes('X-Amz-Signature'), 'in the place of the turn with the link')
  })

  test('by a model that reasons: it is asked to think little, and has room for that beside the summary', async () => {
    const talk = talkOf('thinking', 'thinking')
    for (let turn = 0; turn < 8; turn++) assert.equal((await talk.say(QUESTION)).code, null)
    await waitFor('the summary', async () => (await summaries('thinking', 'made')) > 0, SOON)
    assert.equal(await summaries('thinking', 'blank'), 0)
    const [asked] = seen.filter(({ body }) => body.includes('gpt-5-mini'))
    const { reasoning_effort: effort, max_completion_tokens: bound } = JSON.parse(asked?.body.toString() ?? '{}') as Record<string, unknown>
    assert.equal(effort, 'minimal')
    assert.ok(Number(bound) > 1_024)
    await assertBooked('thinking')
  })

  test('one at a time: turns that come while it is made ask for no other', async () => {
    const talk = talkOf('one at a time', 'slow')
    const { promise, resolve } = Promise.withResolvers<undefined>()
    held = promise
    try {
      for (let turn = 0; turn < 9; turn++) {
        assert.equal((await talk.say(QUESTION)).code, null)
        await sleep(30)
      }
      assert.equal(sentTo(SLOW_SUMMARIZER).length, 1)
    } finally {
      held = null
      resolve(undefined)
    }
    await waitFor('the summary', async () => (await summaries('slow', 'made')) > 0, SOON)
    await assertBooked('one at a time')
  })

  test('over a crash: what was summarised is sent as before', async () => {
    const talk = talkOf('crashed', 'summarise')
    const made = await summaries('summarise', 'made')
    while ((await summaries('summarise', 'made')) === made) {
      await talk.say(QUESTION)
      await sleep(30)
    }
    await talk.say(QUESTION)
    await idle()
    await sidecar.crash()
    await talk.say(QUESTION)
    const [before, after] = sentTo('gpt-4o').slice(-2)
    assert.match(before?.text ?? '', /summarised by farebox/)
    assert.equal(prefixBreaks([before, after].flatMap((sent) => sent ?? [])), 0)
    await assertBooked('crashed')
  })

  test('is not tried again, and never told, behind a server that wants users and the assistant to take turns', async () => {
    const talk = talkOf('turns summarised', 'summarise')
    const strict = { headers: { 'x-fake-alternate-roles': 'gpt-4o' } }
    for (let turn = 0; turn < 14; turn++) {
      const said = await talk.say(`Question ${turn}. ${QUESTION}`, strict)
      assert.deepEqual([said.status, said.code], [200, null], `turn ${turn}`)
      assert.ok(!said.text.includes(BUILT_IN_TEXTS.Summarize.en))
      await idle()
    }
    assert.equal(billed(SUMMARIZER).length, 1, 'the one by which it was seen')
    const sent = sentTo('gpt-4o')
    assert.equal(sent.length, 15)
    assert.equal(sent.at(-1)?.messages.length, 28)
    await assertBooked('turns summarised')
  })

  test('when none can be made, the oldest turns are left out instead', async () => {
    const talk = talkOf('unserved', 'unserved')
    for (let turn = 0; turn < 8; turn++) assert.equal((await talk.say(QUESTION)).code, null)
    await waitFor('the refusal', async () => (await summaries('unserved', 'refused')) > 0, SOON)
    assert.ok((await summaries('unserved', 'refused')) <= 2, 'nor is it asked again before there is much more to sum up')
    assert.ok(labels(sentTo('gpt-4o'), /left out/).length > 0)
    for (const { promptTokens } of billed('gpt-4o')) assert.ok(promptTokens <= WINDOW_TOKENS)
    await assertBooked('unserved')
  })
})

describe('an app that changes what is no talk from call to call has the window that it was sold', () => {
  const tool = (turn: number): object => ({
    type: 'function',
    function: { name: `look_up_${turn}`, parameters: { type: 'object', properties: {} } },
  })
  const changes: Readonly<Record<string, (talk: Talk, turn: number) => object>> = {
    'the time of day in its prompt': (talk, turn) => {
      talk.messages[0] = { role: 'system', content: `${SYSTEM} It is 12:${10 + turn} now.` }
      return {}
    },
    'its tools': (_talk, turn) => ({ tools: [tool(turn)], tool_choice: 'none' }),
    'its model': (_talk, turn) => ({ model: turn % 2 === 0 ? 'gpt-4o' : 'gpt-4o-2024-08-06' }),
  }
  for (const [index, [what, change]] of Object.entries(changes).entries()) {
    for (const [tierName, occasion] of [
      ['drop', 'DropOldest'],
      ['summarise', 'Summarize'],
    ] as const) {
      test(`${what}: ${occasion}`, async () => {
        const talk = talkOf(`changing ${index} ${tierName}`, tierName)
        const told: number[] = []
        for (let turn = 0; turn < 12; turn++) {
          const said = await talk.say(`Question ${turn}. ${QUESTION}`, { body: change(talk, turn) })
          assert.equal(said.code, null)
          if (said.text.includes('\n---\n')) told.push(turn)
          await idle()
        }
        assert.ok(told.length >= 2 && told.every((turn, at) => at === 0 || turn - (told[at - 1] ?? 0) > 1), `told at ${told.join(' ')}`)
        const turns = provider.bill.lines().filter(({ model }) => model.startsWith('gpt-4o') && !model.startsWith(SUMMARIZER))
        assert.ok(turns.some(({ promptTokens }) => promptTokens > WINDOW_TOKENS * 0.6))
        for (const { promptTokens } of turns) assert.ok(promptTokens <= WINDOW_TOKENS)
        assert.equal(sentTo(SUMMARIZER).length > 0, occasion === 'Summarize')
        await assertBooked(`changing ${index} ${tierName}`)
      })
    }
  }
})

test('a document that was dropped stays dropped, and the prefix with it', async () => {
  const talk = talkOf('documents', 'retrieval')
  for (let turn = 0; turn < 6; turn++)
    assert.equal(
      (
        await talk.say(`Question ${turn}. <document>${QUESTION}${turn}</document>`, {
          body: { max_tokens: 600 },
          headers: { 'x-fake-output-tokens': '150' },
        })
      ).code,
      null,
    )
  const sent = sentTo('gpt-4o')
  const first = sent.findIndex(({ messages }) =>
    messages.slice(0, -1).some(({ content }) => content.startsWith('Question 0.') && !content.includes(QUESTION)),
  )
  assert.ok(first > 0)
  for (const { messages } of sent.slice(first))
    for (const { role, content } of messages.slice(0, -1)) if (role === 'user') assert.ok(!content.includes(QUESTION))
  await assertBooked('documents')
})
