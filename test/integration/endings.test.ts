/** How a conversation ends: closed with words, begun afresh, or refused; and opened again with what remained. */
import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, test } from 'node:test'
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import { setTimeout as sleep } from 'node:timers/promises'
import { formatUsd, parseUsd } from '@farebox/crds/usd.ts'
import OpenAI from 'openai'
import { BUILT_IN_TEXTS, END_TEXTS } from '@farebox/sidecar/core/notice-texts.ts'
import type { Alert } from '@farebox/sidecar/proxy/alert-feed.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider, SeenRequest } from '../provider/server.ts'
import { makeConfig, makeContract, makePeriod } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { settled, startTalk } from '../support/talk.ts'
import type { Said, Talk } from '../support/talk.ts'

/** Two answers of 900 tokens at 10.00 USD per million leave less than the least useful answer. */
const BUDGET = '0.02'
const ANSWER = { 'x-fake-output-tokens': '900' }
const USER_BUDGET = { amount: '10.00', period: makePeriod('Month') }
const TOOLS: OpenAI.ChatCompletionTool[] = [{ type: 'function', function: { name: 'look_up', parameters: { type: 'object' } } }]

function tier(name: string, end: 'Close' | 'Reset' | 'Refuse', sessions: Partial<Contract['sessions']> = {}, user = true): Contract {
  return makeContract({
    tier: name,
    caps: { perConversation: BUDGET, ...(user ? { perUser: USER_BUDGET } : {}) },
    ladder: [{ atPercent: 100, rung: 'EndConversation', end }],
    sessions,
  })
}

let provider: Provider
let sidecar: Sidecar
let seen: SeenRequest[] = []
before(async () => {
  provider = await startProvider({ onRequest: (request) => seen.push(request) })
  sidecar = await startSidecar(
    makeConfig(`${provider.url}/v1`, [
      tier('close', 'Close'),
      tier('refuse', 'Refuse'),
      tier('reset', 'Reset', { maxResets: 2 }),
      makeContract({
        ...tier('reset-with-recap', 'Reset', { maxResets: 2, recap: 'Summary' }),
        caps: { perConversation: '0.10', perUser: USER_BUDGET },
        models: { allow: [], downgrades: [], summarizer: 'gpt-4o-mini' },
        notices: { mode: 'Inline', texts: {}, defaultLocale: 'en' },
      }),
      tier('reset-without-user-budget', 'Reset', { maxResets: 2 }, false),
      tier('reset-at-task', 'Reset', { maxResets: 5, resetAt: 'TaskBoundary' }),
    ]),
  )
})
after(async () => {
  await sidecar.close()
  await provider.close()
})
beforeEach(() => {
  seen = []
  provider.bill.clear()
})

/** A conversation of this tier that has used up its budget. */
async function spentTalk(id: string, tierName: string, headers: Record<string, string> = { 'x-farebox-user': 'ann' }): Promise<Talk> {
  const talk = startTalk(sidecar, { 'x-farebox-conversation': id, 'x-farebox-tier': tierName, 'x-fake-tag': id, ...ANSWER, ...headers })
  for (const question of ['First.', 'Second.']) {
    const said = await talk.say(question)
    assert.equal(said.headers.get('x-farebox-rung'), 'None')
    assert.equal(said.headers.get('x-farebox-synthetic'), null)
  }
  return talk
}

/** What the feed has of one conversation, oldest first: the session and the threshold. */
async function alertsOf(id: string): Promise<readonly string[]> {
  const { conversation } = await sidecar.standing(id)
  const { alerts } = (await sidecar.getJson('/farebox/v1/alerts?limit=1000')) as { readonly alerts: readonly Alert[] }
  const own = alerts.filter((alert) => alert.conversation === conversation)
  return own.toReversed().map(({ session, percent }) => `${session}: ${percent} %`)
}

function assertClosed(said: Said): void {
  assert.equal(said.status, 200)
  assert.equal(said.headers.get('x-farebox-synthetic'), 'true')
  assert.equal(said.headers.get('x-farebox-rung'), 'EndConversation')
  assert.equal(said.text, BUILT_IN_TEXTS.End.en)
  assert.equal(said.finish, 'stop')
}

function assertRefused(said: Said): void {
  assert.equal(said.status, 402)
  assert.equal(said.code, 'conversation_budget_exhausted')
  assert.equal(said.headers.get('x-should-retry'), 'false')
}

/** The books say what the provider billed under this tag, which is within the budget of so many sessions. */
async function assertBooked(id: string, drivers: Readonly<Record<string, string>>, sessions = 1): Promise<void> {
  await provider.settled()
  const bill = provider.bill.totalNanoUsd(id)
  const booked = Object.values(drivers).reduce((sum, cost) => sum + parseUsd(cost), 0n)
  assert.equal(formatUsd(booked), formatUsd(bill))
  assert.ok(bill <= parseUsd(BUDGET) * BigInt(sessions), `billed ${formatUsd(bill)}`)
}

describe('Close', () => {
  test('is a normal completion that no model gave, plain and streamed, and stays so', async () => {
    const talk = await spentTalk('closed', 'close')
    const calls = seen.length
    const plain = await talk.say('Third.')
    assertClosed(plain)
    assert.deepEqual([plain.usage?.prompt_tokens, plain.usage?.completion_tokens], [0, 0])
    const streamed = await talk.say('Fourth.', { stream: true })
    assertClosed(streamed)
    assert.equal(streamed.usage, null, 'nobody asked for usage')
    const counted = await talk.say('Fifth.', { stream: true, body: { stream_options: { include_usage: true } } })
    assertClosed(counted)
    assert.equal(counted.usage?.total_tokens, 0)
    assert.equal(seen.length, calls, 'the provider hears nothing of it')
    const standing = await sidecar.standing('closed')
    assert.deepEqual([standing.state, standing.rung, standing.advice, standing.turns], ['ended', 'EndConversation', 'startNew', 2])
    assert.deepEqual(standing.alerts, [70, 90, 100], 'a budget that is exhausted has reached every alert')
    await assertBooked('closed', standing.drivers)
  })

  test('speaks the language of the reader', async () => {
    const talk = await spentTalk('fermée', 'close', { 'accept-language': 'fr-CH, de;q=0.5', 'x-fake-tag': 'closed in French' })
    assert.equal((await talk.say('Et encore ?')).text, BUILT_IN_TEXTS.End.fr)
  })

  test('refuses where the answer must be machine-readable: structured output and forced tools', async () => {
    const talk = await spentTalk('machine', 'close')
    assertRefused(await talk.say('In json, please.', { body: { response_format: { type: 'json_object' } } }))
    assertRefused(await talk.say('Look it up.', { body: { tools: TOOLS, tool_choice: 'required' } }))
    assertClosed(await talk.say('Look it up if you like.', { body: { tools: TOOLS } }))
  })

  test('is nothing that the model said: where the conversation is opened again it reads none of it', async () => {
    const headers = { 'x-farebox-conversation': 'closed early', 'x-farebox-tier': 'close', 'x-fake-output-tokens': '20' }
    const talk = settled(sidecar, startTalk(sidecar, headers, { max_tokens: 20 }))
    await talk.say('First.', { headers: { 'x-fake-output-tokens': '900' }, body: { max_tokens: 900 } })
    assertClosed(await talk.say('All work and no play. '.repeat(800)))
    assert.equal((await talk.say('Und jetzt?', { headers: { 'accept-language': 'de' } })).text, BUILT_IN_TEXTS.End.de)
    assert.equal((await sidecar.postJson('/farebox/v1/conversations/closed%20early/reopen', {})).status, 200)
    const closed = talk.messages.splice(2)
    talk.messages.push(...closed.filter(({ content }) => typeof content !== 'string' || !content.startsWith('All work')))
    assert.equal((await talk.say('Second.')).headers.get('x-farebox-synthetic'), null)
    const { messages } = JSON.parse(seen.at(-1)?.body.toString() ?? '') as { readonly messages: readonly { readonly content: string }[] }
    const answer = talk.messages[1]?.content
    assert.deepEqual(
      messages.map(({ content }) => content),
      ['First.', answer, 'Und jetzt?', 'Second.'],
    )
  })
})

describe('a question that is too long for a whole budget', () => {
  for (const tierName of ['close', 'refuse'])
    test(`is refused alone where the ladder ends with ${tierName}, as the first and later`, async () => {
      const id = `too long to ${tierName}`
      const headers = { 'x-farebox-conversation': id, 'x-farebox-tier': tierName, 'x-farebox-user': 'ann', 'x-fake-tag': id }
      const talk = settled(sidecar, startTalk(sidecar, { ...headers, 'x-fake-output-tokens': '20' }, { max_tokens: 20 }))
      for (const place of [0, 2]) {
        const call = sidecar.client(headers).chat.completions.create({
          model: 'gpt-4o',
          messages: [...talk.messages, { role: 'user', content: 'All work and no play. '.repeat(4_000) }],
        })
        await assert.rejects(call, { status: 402, code: 'conversation_budget_exhausted', param: `messages[${place}]` })
        const said = await talk.say('Something short.')
        assert.deepEqual([said.status, said.headers.get('x-farebox-synthetic')], [200, null])
      }
      const { state, alerts, turns, drivers } = await sidecar.standing(id)
      assert.deepEqual([state, alerts, turns], ['open', [], 2])
      await assertBooked(id, drivers)
    })
})

describe('Refuse', () => {
  test('is a 402 that the client does not try again', async () => {
    await spentTalk('refused', 'refuse')
    let attempts = 0
    const client = new OpenAI({
      baseURL: `${sidecar.url}/openai/v1`,
      apiKey: 'test',
      defaultHeaders: { 'x-farebox-conversation': 'refused', 'x-farebox-tier': 'refuse' },
      fetch: (url, init) => (attempts++, fetch(url, init)),
    })
    const call = client.chat.completions.create({ model: 'gpt-4o', messages: [{ role: 'user', content: 'Third.' }] })
    await assert.rejects(call, (error: unknown) => {
      assert.ok(error instanceof OpenAI.APIError)
      assert.equal(error.status, 402)
      assert.equal(error.code, 'conversation_budget_exhausted')
      assert.doesNotMatch(error.message, /\$|USD|0\.0/, 'no amounts')
      assert.equal(error.headers?.get('x-farebox-rung'), 'EndConversation')
      return true
    })
    assert.equal(attempts, 1)
  })

  test('is one rung that rose, however often the app goes on asking', async () => {
    const rises = async (): Promise<number> => {
      const series = /^farebox_rung_transitions_total\{tier="refuse",rung="EndConversation",.*\} (\d+)$/gm
      return [...(await sidecar.metrics()).matchAll(series)].reduce((sum, [, count]) => sum + Number(count), 0)
    }
    const before = await rises()
    const talk = await spentTalk('asked again', 'refuse')
    for (let time = 0; time < 3; time++) assertRefused(await talk.say('Third.'))
    assert.equal(await rises(), before + 1)
  })

  test('reopening gives back what remained, no more', async () => {
    const talk = await spentTalk('reopened', 'refuse')
    assertRefused(await talk.say('Third.'))
    // What remained is too little for the history of this conversation, but not for a question without it.
    const headers = { 'x-farebox-conversation': 'reopened', 'x-farebox-tier': 'refuse', 'x-farebox-user': 'ann', 'x-fake-tag': 'reopened' }
    const short = startTalk(sidecar, { ...headers, 'x-fake-output-tokens': '20' }, { max_tokens: 20 })
    assertRefused(await short.say('Something short.'))
    const before = await sidecar.standing('reopened')
    assert.equal(before.state, 'ended')

    assert.equal((await sidecar.postJson('/farebox/v1/conversations/reopened/reopen', {})).status, 200)
    const opened = await sidecar.standing('reopened')
    assert.deepEqual([opened.state, opened.budget, opened.remaining], ['open', before.budget, before.remaining])
    assert.equal(opened.session, 1)
    const said = await short.say('Something short.')
    assert.deepEqual([said.status, said.usage?.completion_tokens], [200, 20])
    assertRefused(await talk.say('Something long.'))
    const after = await sidecar.standing('reopened')
    assert.equal(after.state, 'ended')
    await assertBooked('reopened', after.drivers)
  })
})

describe('Reset', () => {
  test('opens a session with a budget of its own and a label for what was before, so often and no more', async () => {
    const talk = await spentTalk('fresh', 'reset')
    for (const session of [2, 3]) {
      seen = []
      const question = `Session ${session} begins.`
      const said = await talk.say(question)
      assert.deepEqual([said.status, said.headers.get('x-farebox-rung')], [200, 'None'])
      assert.equal(said.headers.get('x-farebox-percent'), '0')
      const sent = JSON.parse(seen[0]?.body.toString() ?? '') as {
        readonly messages: readonly { readonly role: string; readonly content: string }[]
      }
      assert.deepEqual(
        sent.messages.map(({ role }) => role),
        ['user', 'user'],
      )
      assert.match(
        sent.messages[0]?.content ?? '',
        /^\[New session \(the last one had used up its budget\): turns 1-\d+ of the earlier conversation left out\]$/,
      )
      assert.equal(sent.messages[1]?.content, question)
      const standing = await sidecar.standing('fresh')
      assert.deepEqual([standing.session, standing.budget, standing.alerts, standing.rung], [session, BUDGET, [], 'None'])
      assert.equal(formatUsd(parseUsd(standing.spent)), formatUsd(provider.bill.lines('fresh').at(-1)?.nanoUsd ?? 0n))
      await talk.say('Go on.')
    }
    const last = await talk.say('Session 4 begins.')
    assertClosed(last)
    const standing = await sidecar.standing('fresh')
    assert.equal(standing.session, 3)
    assert.deepEqual(
      await alertsOf('fresh'),
      [1, 2, 3].flatMap((session) => [70, 90, 100].map((percent) => `${session}: ${percent} %`)),
      'each session has used up its budget',
    )
    await assertBooked('fresh', standing.drivers, 3)
  })

  test('leaves a call that is still under way in the session that it began in', async () => {
    const talk = await spentTalk('under way', 'reset')
    const headers = { 'x-farebox-conversation': 'under way', 'x-farebox-tier': 'reset', 'x-farebox-user': 'ann', 'x-fake-tag': 'under way' }
    const beside = startTalk(sidecar, { ...headers, 'x-fake-output-tokens': '20', 'x-fake-token-delay-ms': '15' }, { max_tokens: 20 })
    const slow = beside.say('Without the history.', { stream: true })
    while ((await sidecar.standing('under way')).held === '0.00') await sleep(5)
    assert.equal((await sidecar.standing('under way')).session, 1)
    await talk.say('Third.')
    assert.equal((await sidecar.standing('under way')).session, 2)
    assert.equal((await slow).code, null)
    const standing = await sidecar.standing('under way')
    assert.deepEqual([standing.session, standing.alerts, standing.turns], [2, [], 4])
    await assertBooked('under way', standing.drivers, 2)
  })

  test('begins with a recap where the tier promises one, in the budget that paid for it, and tells the user', async () => {
    const headers = { 'x-farebox-conversation': 'recap', 'x-farebox-tier': 'reset-with-recap', 'x-farebox-user': 'ann' }
    const talk = startTalk(sidecar, { ...headers, 'x-fake-output-tokens': '400' })
    let said = await talk.say('First.')
    while ((await sidecar.standing('recap')).session === 1) {
      assert.equal(said.headers.get('x-farebox-synthetic'), null)
      await sidecar.idle()
      said = await talk.say('Next. '.repeat(50))
      assert.ok(talk.messages.length < 60)
    }
    const turns = seen.filter(({ body }) => !body.includes('gpt-4o-mini'))
    const { messages } = JSON.parse(turns.at(-1)?.body.toString() ?? '') as { readonly messages: readonly { readonly content: string }[] }
    assert.match(
      messages[0]?.content ?? '',
      /^\[New session \(the last one had used up its budget\): turns 1-\d+ of the earlier conversation left out\]\n\n\[Earlier conversation summarised by farebox/,
    )
    assert.equal(messages.length, 2)
    assert.ok(said.text.endsWith(BUILT_IN_TEXTS.Reset.en))
    // What the recap does not tell of yet is summarised after the answer.
    await sidecar.idle()
    await provider.settled()
    const { drivers } = await sidecar.standing('recap')
    const booked = Object.values(drivers).reduce((sum, cost) => sum + parseUsd(cost), 0n)
    assert.equal(formatUsd(booked), formatUsd(provider.bill.totalNanoUsd()))
    const summaries = provider.bill.lines().filter(({ model }) => model === 'gpt-4o-mini')
    assert.equal(drivers['summaries'], formatUsd(summaries.reduce((sum, { nanoUsd }) => sum + nanoUsd, 0n)))
  })

  test('needs a user, and a budget of that user', async () => {
    assertClosed(await (await spentTalk('nobody', 'reset', {})).say('Third.'))
    assertClosed(await (await spentTalk('no user budget', 'reset-without-user-budget')).say('Third.'))
    assert.equal((await sidecar.standing('nobody')).session, 1)
  })

  test('follows at once where it is the history, brought along by the first request, that no budget pays for', async () => {
    const messages = [
      { role: 'user', content: 'All work and no play. '.repeat(4_000) },
      { role: 'assistant', content: 'Indeed.' },
      { role: 'user', content: 'Hi.' },
    ] as const
    const headers = { 'x-farebox-conversation': 'brought along', 'x-farebox-tier': 'reset', 'x-farebox-user': 'ann' }
    const call = sidecar.client(headers).chat.completions.create({ model: 'gpt-4o', max_tokens: 20, messages: [...messages] })
    const { response } = await call.withResponse()
    await sidecar.idle()
    assert.equal(response.headers.get('x-farebox-synthetic'), null)
    const { session, state } = await sidecar.standing('brought along')
    assert.deepEqual([session, state], [2, 'open'])
  })

  test('fires all alerts of the session that gives way, and counts the conversation at each from then on', async () => {
    const counted = async (): Promise<number> => {
      const { tiers } = (await sidecar.getJson('/farebox/v1/status')) as {
        readonly tiers: Record<string, { alerts: Record<string, number> }>
      }
      return tiers['reset']?.alerts['100'] ?? 0
    }
    const talk = settled(sidecar, await spentTalk('alerted', 'reset'))
    const before = await counted()
    assert.deepEqual(await alertsOf('alerted'), ['1: 70 %', '1: 90 %'])
    await talk.say('Third.')
    assert.deepEqual([(await sidecar.standing('alerted')).session, await counted()], [2, before + 1])
    assert.deepEqual(await alertsOf('alerted'), ['1: 70 %', '1: 90 %', '1: 100 %'])
  })

  test('is not wasted on a request that fits no session', async () => {
    const talk = startTalk(sidecar, {
      'x-farebox-conversation': 'huge',
      'x-farebox-tier': 'reset',
      'x-farebox-user': 'bob',
      'x-fake-output-tokens': '20',
    })
    await talk.say('Hello.', { body: { max_tokens: 20 } })
    const before = await sidecar.standing('huge')
    const refused = await talk.say('All work and no play. '.repeat(4_000))
    assertRefused(refused)
    assert.match(refused.text, /message is too long/)
    assert.deepEqual(await sidecar.standing('huge'), before)
    const said = await talk.say('Never mind.', { body: { max_tokens: 20 } })
    assert.deepEqual([said.status, said.headers.get('x-farebox-synthetic')], [200, null])
    assert.equal((await sidecar.standing('huge')).session, 1)
  })

  describe('at a task boundary', () => {
    test('waits for a turn that begins a task, told by header', async () => {
      const talk = await spentTalk('by header', 'reset-at-task')
      assertClosed(await talk.say('Third.'))
      const said = await talk.say('Now something else.', { headers: { 'x-farebox-boundary': 'task' } })
      assert.deepEqual([said.status, said.headers.get('x-farebox-synthetic')], [200, null])
      assert.equal((await sidecar.standing('by header')).session, 2)
    })

    test('or by the app API, for the next user turn', async () => {
      const talk = await spentTalk('by api', 'reset-at-task')
      assert.equal((await sidecar.postJson('/farebox/v1/conversations/by%20api/boundary', {})).status, 200)
      const said = await talk.say('Now something else.')
      assert.deepEqual([said.status, said.headers.get('x-farebox-synthetic')], [200, null])
      assert.equal((await sidecar.standing('by api')).session, 2)
    })

    test('a boundary is past once its turn is answered: no task is cut in its middle', async () => {
      const talk = startTalk(sidecar, {
        'x-farebox-conversation': 'past',
        'x-farebox-tier': 'reset-at-task',
        'x-farebox-user': 'ann',
        ...ANSWER,
      })
      await talk.say('First.', { headers: { 'x-farebox-boundary': 'task' } })
      await sidecar.postJson('/farebox/v1/conversations/past/boundary', {})
      await talk.say('Second.')
      assertClosed(await talk.say('Third, of the same task.'))
      assert.equal((await sidecar.standing('past')).session, 1)
    })

    test('any other boundary is a mistake', async () => {
      const talk = startTalk(sidecar, { 'x-farebox-conversation': 'odd', 'x-farebox-tier': 'reset-at-task', 'x-farebox-boundary': 'turn' })
      assert.equal((await talk.say('First.')).code, 'identity_rejected')
    })
  })
})

describe('where it is not the conversation’s own budget that is short', () => {
  const OWN = 'No more for {{tier}}.'
  const seat = (name: string, unit: 'Day' | 'Week', amount: string, texts: Contract['notices']['texts'] = {}): Contract =>
    makeContract({
      tier: name,
      caps: { perConversation: '1.00', perUser: { amount, period: makePeriod(unit) } },
      ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Close' }],
      models: { allow: [], downgrades: [], maxOutputTokens: 300 },
      notices: { texts },
    })
  /** A week stands for the period that comes after the day. */
  const configOf = (unit: 'Day' | 'Week', more: Parameters<typeof makeConfig>[2] = {}) => {
    const amount = unit === 'Day' ? '0.003' : '1.00'
    const contracts = [seat('seat', unit, amount), seat('own-words', unit, amount, { End: { en: OWN } })]
    return makeConfig(`${provider.url}/v1`, contracts, { existingConversations: 'AdoptNew', ...more })
  }
  let governed: Sidecar
  before(async () => {
    governed = await startSidecar(configOf('Day'))
  })
  after(() => governed.close())

  function talkOf(id: string, tierName = 'seat'): Talk {
    const headers = { 'x-farebox-conversation': id, 'x-farebox-tier': tierName, 'x-farebox-user': `user of ${tierName}` }
    return settled(governed, startTalk(governed, { ...headers, 'x-fake-tag': id, 'x-fake-output-tokens': '100' }))
  }
  async function closed(talk: Talk): Promise<Said> {
    for (;;) {
      const said = await talk.say('Go on.')
      if (said.headers.get('x-farebox-synthetic') !== null) return said
      assert.ok(talk.messages.length < 20)
    }
  }

  test('users read that it is their plan’s, in conversations that stay open; the model reads none of it when they go on', async () => {
    const talk = talkOf('seated')
    assert.equal((await closed(talk)).text, END_TEXTS.user.en)
    const answered = talk.messages.length - 2
    assert.equal((await talk.say('Are you there?', { stream: true })).text, END_TEXTS.user.en)
    assert.equal((await talk.say('Sind Sie da?', { headers: { 'accept-language': 'de' } })).text, END_TEXTS.user.de)
    assert.equal((await talkOf('another').say('Hello.')).text, END_TEXTS.user.en, 'which another conversation does not change')
    assertRefused(await talk.say('In json, please.', { body: { response_format: { type: 'json_object' } } }))
    const { state, turns } = await governed.standing('seated')
    assert.deepEqual([state, turns], ['open', answered / 2])

    await governed.adopt(configOf('Week'))
    const said = await talk.say('A new day.')
    assert.deepEqual([said.status, said.headers.get('x-farebox-synthetic')], [200, null])
    const sent = (JSON.parse(seen.at(-1)?.body.toString() ?? '') as { readonly messages: readonly { readonly content: string }[] }).messages
    const closings: readonly unknown[] = [END_TEXTS.user.en, END_TEXTS.user.de]
    assert.deepEqual(
      sent,
      talk.messages.slice(0, -1).filter(({ content }) => !closings.includes(content)),
    )
    assert.equal(sent.length, answered + 4, 'what was asked meanwhile stays')
    await governed.adopt(configOf('Day'))
  })

  test('no session opens where its budget would not help: the user’s is used up', async () => {
    const day = seat('resetting', 'Day', '0.003')
    const ladder: Contract['ladder'] = [{ atPercent: 100, rung: 'EndConversation', end: 'Reset' }]
    const contract = makeContract({ ...day, ladder, sessions: { maxResets: 3 } })
    await governed.adopt(makeConfig(`${provider.url}/v1`, [contract]))
    const talk = talkOf('not reset', 'resetting')
    await closed(talk)
    for (const question of ['Are you there?', 'And now?']) assert.equal((await talk.say(question)).text, END_TEXTS.user.en)
    const { session, state } = await governed.standing('not reset')
    assert.deepEqual([session, state], [1, 'open'])
    await governed.adopt(configOf('Day'))
  })

  test('an answer that refuses one call tells the rung of the user’s budget', async () => {
    const contract = makeContract({
      tier: 'steps',
      caps: { perConversation: '1.00', perUser: { amount: '0.02', period: makePeriod('Day') } },
      ladder: [{ atPercent: 20, rung: 'RefuseTools' }],
    })
    await governed.adopt(makeConfig(`${provider.url}/v1`, [contract]))
    const talk = talkOf('stepped', 'steps')
    const said = await talk.say('First.', { headers: { 'x-fake-output-tokens': '500' } })
    assert.equal(said.headers.get('x-farebox-rung'), 'None')
    assert.equal((await talk.say('Second.')).headers.get('x-farebox-rung'), 'RefuseTools')
    const refused = await talk.say('Look it up.', { body: { tools: TOOLS, tool_choice: 'required' } })
    assert.equal(refused.code, 'tool_calls_refused')
    assert.deepEqual(
      ['rung', 'reason'].map((name) => refused.headers.get(`x-farebox-${name}`)),
      ['RefuseTools', 'threshold'],
    )
    const { rung, reason, percentOf } = await governed.standing('stepped')
    assert.deepEqual([rung, reason, percentOf], ['RefuseTools', 'threshold', 'user'])
    await governed.adopt(configOf('Day'))
  })

  test('the call that a rung refuses as it rises is told that rung', async () => {
    const contract = makeContract({ tier: 'rising', caps: { perConversation: '0.02' }, ladder: [{ atPercent: 20, rung: 'RefuseTools' }] })
    await governed.adopt(makeConfig(`${provider.url}/v1`, [contract]))
    const talk = talkOf('rising', 'rising')
    const said = await talk.say('First.', { headers: { 'x-fake-output-tokens': '500' } })
    assert.equal(said.headers.get('x-farebox-rung'), 'None')
    for (const stream of [false, true]) {
      const refused = await talk.say('Look it up.', { body: { tools: TOOLS, tool_choice: 'required' }, stream })
      assert.equal(refused.code, 'tool_calls_refused')
      assert.deepEqual(
        ['rung', 'reason'].map((name) => refused.headers.get(`x-farebox-${name}`)),
        ['RefuseTools', 'threshold'],
      )
    }
    await governed.adopt(configOf('Day'))
  })

  test('the owner’s words are said instead, where there are any', async () => {
    const talk = talkOf('own words', 'own-words')
    assert.equal((await closed(talk)).text, 'No more for Pro.')
    const refused = await talk.say('In json, please.', { body: { response_format: { type: 'json_object' } } })
    assertRefused(refused)
    assert.ok(refused.text.endsWith('No more for Pro.'))
  })

  test('a limit of the workload is the service’s, whatever the owner says of plans', async () => {
    const limit = { amount: '0.000001', period: makePeriod('Day') }
    await governed.adopt(configOf('Week', { limits: [limit] }))
    for (const tierName of ['seat', 'own-words']) {
      const id = `limited ${tierName}`
      const refused = await talkOf(id, tierName).say('Hello.', { headers: { 'accept-language': 'fr' } })
      assertRefused(refused)
      assert.ok(refused.text.endsWith(END_TEXTS.workload.fr), refused.text)
    }
    const client = governed.client({ 'x-farebox-conversation': 'limited', 'x-farebox-tier': 'seat' })
    await assert.rejects(client.chat.completions.create({ model: 'gpt-4o', messages: [{ role: 'user', content: 'Hello.' }] }), {
      param: 'limits',
    })
  })
})
