/** Sessions of a conversation: when the next one begins, what the model and the user are told of it, and what it may cost. */
import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import type { SidecarStatus } from '@farebox/crds/sidecar-status.ts'
import { formatUsd, parseUsd } from '@farebox/crds/usd.ts'
import { BUILT_IN_TEXTS } from '@farebox/sidecar/core/notice-texts.ts'
import type OpenAI from 'openai'
import { startProvider } from '../provider/server.ts'
import type { Provider, SeenRequest } from '../provider/server.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { onEachStore } from '../support/stores.ts'
import { settled, startTalk } from '../support/talk.ts'
import type { SayOptions, Talk } from '../support/talk.ts'
import { waitFor } from '../support/wait-for.ts'

const USER_BUDGET = { amount: '10.00', period: { unit: 'Month', timeZone: 'UTC', anchorDay: 1 } } as const
const BUDGET = '0.50'
/** Long enough for a turn and its settlement on a slow machine, short enough to wait for. */
const PAUSE_MS = 3_000
const TOOLS: OpenAI.ChatCompletionTool[] = ['look_up', 'close_ticket'].map((name) => ({
  type: 'function',
  function: { name, parameters: { type: 'object' } },
}))
const CALLS_TOOL = { headers: { 'x-fake-tool-call': 'look_up' }, body: { tools: TOOLS } }
const PICTURE = 'data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='
const OWN_WORDS = 'A fresh session of {{tier}}.'

function tier(name: string, sessions: Partial<Contract['sessions']>, more: Parameters<typeof makeContract>[0] = {}): Contract {
  return makeContract({
    tier: name,
    caps: { perConversation: BUDGET, perUser: USER_BUDGET },
    ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Close' }],
    models: { allow: [], downgrades: [], summarizer: 'gpt-4o-mini' },
    notices: { mode: 'Inline', texts: {}, defaultLocale: 'en' },
    ...more,
    sessions: { maxResets: 2, ...sessions },
  })
}
const CONTRACTS = [
  tier('two-turns', { maxTurns: 2 }),
  tier('own-words', { maxTurns: 1 }, { notices: { mode: 'Inline', texts: { Reset: { en: OWN_WORDS } }, defaultLocale: 'en' } }),
  tier('recap', { maxTurns: 2, recap: 'Summary' }),
  tier('at-task', { maxTurns: 1, resetAt: 'TaskBoundary' }),
  tier(
    'at-cap',
    { recap: 'None' },
    { caps: { perConversation: '0.02', perUser: USER_BUDGET }, ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Reset' }] },
  ),
  tier('pause', { idleAfterMs: PAUSE_MS, resetAt: 'TaskBoundary', recap: 'Summary' }),
  tier('pause-at-cap', { idleAfterMs: PAUSE_MS }, { caps: { perConversation: '0.02', perUser: USER_BUDGET } }),
  tier(
    'small-user-budget',
    { maxTurns: 1, maxResets: 9 },
    { caps: { perConversation: '0.02', perUser: { ...USER_BUDGET, amount: '0.03' } } },
  ),
  tier('no-user-budget', { maxTurns: 1 }, { caps: { perConversation: BUDGET } }),
]

interface SentMessage {
  readonly role: string
  readonly content: string
}

onEachStore((environment) => {
  let provider: Provider
  let sidecar: Sidecar
  let seen: SeenRequest[] = []
  before(async () => {
    provider = await startProvider({ onRequest: (request) => seen.push(request) })
    const taskBoundary = { toolNames: ['close_*'] }
    sidecar = await startSidecar(makeConfig(`${provider.url}/v1`, CONTRACTS, { taskBoundary }), { environment: environment() })
  })
  after(async () => {
    await sidecar.close()
    await provider.close()
  })
  beforeEach(() => {
    seen = []
  })

  function talkOf(id: string, tierName: string, headers: Record<string, string> = { 'x-farebox-user': 'ann' }): Talk {
    const own = { 'x-farebox-conversation': id, 'x-farebox-tier': tierName, 'x-fake-tag': id, 'x-fake-output-tokens': '40' }
    return settled(sidecar, startTalk(sidecar, { ...own, ...headers }))
  }
  const sessionOf = async (id: string): Promise<number> => (await sidecar.standing(id)).session
  /** What the provider was sent last for a turn. */
  function sent(): readonly SentMessage[] {
    const turns = seen.filter(({ body }) => !body.includes('"gpt-4o-mini"'))
    return (JSON.parse(turns.at(-1)?.body.toString() ?? '') as { readonly messages: readonly SentMessage[] }).messages
  }
  async function counted(metric: string): Promise<number> {
    const line = (await sidecar.metrics()).split('\n').find((candidate) => candidate.startsWith(metric))
    return Number(line?.split(' ').at(-1) ?? 0)
  }

  describe('a session of two user turns', () => {
    test('gives way to the next with the third, in a budget of its own; the last one goes on', async () => {
      const talk = talkOf('two', 'two-turns')
      for (let turn = 1; turn <= 8; turn++) {
        const said = await talk.say(`Question ${turn}.`)
        assert.deepEqual([said.status, said.headers.get('x-farebox-synthetic')], [200, null])
        const session = Math.min(3, Math.ceil(turn / 2))
        const standing = await sidecar.standing('two')
        assert.deepEqual([standing.session, standing.budget, standing.turns], [session, BUDGET, turn])
        const begins = turn === 3 || turn === 5
        assert.equal(said.text.includes(BUILT_IN_TEXTS.Reset.en), begins)
        if (begins) {
          assert.deepEqual(
            sent().map(({ content }) => content),
            [
              `[New session (the last one had all its turns): turns 1-${turn - 1} of the earlier conversation left out]`,
              `Question ${turn}.`,
            ],
          )
          assert.equal(formatUsd(parseUsd(standing.spent)), formatUsd(provider.bill.lines('two').at(-1)?.nanoUsd ?? 0n))
        }
      }
      await provider.settled()
      const { drivers } = await sidecar.standing('two')
      const booked = Object.values(drivers).reduce((sum, cost) => sum + parseUsd(cost), 0n)
      assert.equal(formatUsd(booked), formatUsd(provider.bill.totalNanoUsd('two')))
      assert.equal(await counted('farebox_sessions_opened_total{tier="two-turns",why="maxTurns"}'), 2)
      assert.equal(await counted('farebox_resets_skipped_total{tier="two-turns",why="maxTurns",reason="noResetsLeft"}'), 2)
      const totals = ((await sidecar.getJson('/farebox/v1/status')) as SidecarStatus).tiers['two-turns']
      assert.deepEqual([totals?.conversations, totals?.sessions], [1, 3])
      assert.ok(parseUsd(totals?.cost.max ?? '0') < parseUsd(totals?.spent ?? '0'), 'a cost is of one session')
    })

    test('gives way once to calls that come together, each of which begins without the history', async () => {
      const talk = talkOf('together', 'two-turns')
      await talk.say('One.')
      await talk.say('Two.')
      seen = []
      const alike = Array.from({ length: 6 }, () => {
        const other = talkOf('together', 'two-turns')
        other.messages.push(...talk.messages)
        return other
      })
      // None is answered, and counted, before all are under way.
      const slowly = { headers: { 'x-fake-delay-ms': '400' } }
      const said = await Promise.all(alike.map((other, index) => other.say(`Three ${index}.`, slowly)))
      assert.deepEqual([...new Set(said.map(({ status }) => status))], [200])
      assert.equal(await sessionOf('together'), 2)
      const label = '[New session (the last one had all its turns): turns 1-2 of the earlier conversation left out]'
      const histories = seen.map(({ body }) => (JSON.parse(body.toString()) as { readonly messages: readonly SentMessage[] }).messages)
      assert.deepEqual(
        histories.map(([first, question, ...more]) => [first?.content, question?.content.startsWith('Three'), more.length]),
        Array.from({ length: 6 }, () => [label, true, 0]),
      )
    })

    test('counts a question with its tool loop as one, streamed or not', async () => {
      const talk = talkOf('loop', 'two-turns')
      for (const stream of [false, true]) {
        const asked = await talk.say('Where is it?', { stream, body: { tools: TOOLS }, headers: { 'x-fake-tool-call': 'look_up' } })
        assert.equal(asked.toolCalls.length, 1)
        talk.messages.push({ role: 'tool', tool_call_id: asked.toolCalls[0]?.id ?? '', content: 'In June.' })
        await talk.goOn({ stream, body: { tools: TOOLS } })
        assert.equal(await sessionOf('loop'), 1)
      }
      await talk.say('And now?')
      assert.equal(await sessionOf('loop'), 2)
    })

    test('counts a question that is asked again as it was once', async () => {
      const talk = talkOf('again', 'two-turns')
      await talk.say('First.')
      for (let attempt = 0; attempt < 3; attempt++) {
        talk.messages.pop()
        await talk.goOn()
      }
      await talk.say('Second.')
      assert.equal(await sessionOf('again'), 1)
      await talk.say('Third.')
      assert.equal(await sessionOf('again'), 2)
    })

    for (const tierName of ['two-turns', 'recap'])
      test(`answers its last question again in it, from the same history (${tierName})`, async () => {
        const talk = talkOf(`again at the end ${tierName}`, tierName)
        await talk.say('First. '.repeat(80))
        await talk.say('Second.')
        const asked = sent()
        for (let attempt = 0; attempt < 2; attempt++) {
          talk.messages.pop()
          const said = await talk.goOn()
          assert.deepEqual(sent(), asked)
          for (const occasion of ['Reset', 'Summarize'] as const) assert.ok(!said.text.includes(BUILT_IN_TEXTS[occasion].en))
        }
        assert.equal(await sessionOf(`again at the end ${tierName}`), 1)
        assert.ok((await talk.say('Third.')).text.includes(BUILT_IN_TEXTS.Reset.en))
        assert.equal(await sessionOf(`again at the end ${tierName}`), 2)
      })

    test('does not count a question that came to nothing', async () => {
      const talk = talkOf('nothing', 'two-turns')
      await talk.say('First.')
      assert.equal((await talk.say('Second.', { headers: { 'x-fake-status': '500' } })).status, 500)
      await talk.say('Second.')
      assert.equal(await sessionOf('nothing'), 1)
    })

    test('goes on in a conversation that the provider keeps: it cannot be cut', async () => {
      const client = sidecar.client({ 'x-farebox-conversation': 'stored', 'x-farebox-tier': 'two-turns', 'x-farebox-user': 'ann' })
      const created = await fetch(`${provider.url}/v1/conversations`, {
        method: 'POST',
        headers: { authorization: 'Bearer test' },
        body: '{}',
      })
      const { id } = (await created.json()) as { readonly id: string }
      for (let turn = 1; turn <= 3; turn++) {
        await client.responses.create({ model: 'gpt-4o', input: `Go on, ${turn}.`, conversation: id })
        await sidecar.idle()
      }
      assert.equal(await sessionOf('stored'), 1)
      assert.equal(await counted('farebox_resets_skipped_total{tier="two-turns",why="maxTurns",reason="historyKept"}'), 1)
      const history = [
        { role: 'user', content: 'Go on.' },
        { role: 'assistant', content: 'I do.' },
        { role: 'user', content: 'Something else.' },
      ] as const
      const { id: last } = await client.responses.create({ model: 'gpt-4o', input: [...history] })
      await sidecar.idle()
      assert.equal(await sessionOf('stored'), 2, 'a request that brings its history along is cut')
      await client.responses.create({ model: 'gpt-4o', input: 'More.', previous_response_id: last })
      await sidecar.idle()
      seen = []
      await client.responses.create({ model: 'gpt-4o', input: 'And more.', previous_response_id: last })
      await sidecar.idle()
      assert.equal(await sessionOf('stored'), 3)
      const sentOn = seen.filter(({ path }) => path === '/v1/responses')
      assert.deepEqual(
        sentOn.map(({ body }) => body.includes('previous_response_id')),
        [false],
        'the next session begins without what is stored',
      )
    })

    test('goes on where no user, or no budget of the user, is behind it', async () => {
      for (const [id, tierName, headers] of [
        ['nobody', 'two-turns', {}],
        ['unbounded', 'no-user-budget', { 'x-farebox-user': 'ann' }],
      ] as const) {
        const talk = talkOf(id, tierName, headers)
        for (let turn = 1; turn <= 3; turn++) assert.equal((await talk.say(`Question ${turn}.`)).status, 200)
        assert.equal(await sessionOf(id), 1)
        assert.ok((await counted(`farebox_resets_skipped_total{tier="${tierName}",why="maxTurns",reason="noUserBudget"}`)) > 0)
      }
    })

    test('is not over by the pictures that a tool loop is shown: they are part of its question', async () => {
      const talk = talkOf('shots', 'two-turns')
      let said = await talk.say('Book a flight to Oslo.', CALLS_TOOL)
      for (let shot = 1; shot <= 3; shot++) {
        talk.messages.push(...said.toolCalls.map(({ id }) => ({ role: 'tool' as const, tool_call_id: id, content: 'taken' })))
        talk.messages.push({ role: 'user', content: [{ type: 'image_url', image_url: { url: PICTURE } }] })
        said = await talk.goOn(CALLS_TOOL)
        assert.ok(sent().some(({ content }) => content === 'Book a flight to Oslo.'))
      }
      assert.equal(await sessionOf('shots'), 1)
    })
  })

  test('the user is told in the words of the owner', async () => {
    const talk = talkOf('words', 'own-words')
    await talk.say('First.')
    const said = await talk.say('Second.')
    assert.ok(said.text.endsWith('\nA fresh session of Pro.'), said.text)
    await talk.say('Third.')
    assert.ok(!sent().some(({ content }) => content.includes('A fresh session')), 'the model never reads it')
  })

  test('with a recap the model has a summary of all that was said, made before the session began', async () => {
    const talk = talkOf('recap', 'recap')
    await talk.say('My cat is called Ada. '.repeat(40))
    await talk.say('She is grey. '.repeat(40))
    await talk.say('What is she called?')
    const [recap, question, ...rest] = sent()
    assert.match(
      recap?.content ?? '',
      /^\[New session \(the last one had all its turns\): turns 1-2 of the earlier conversation left out\]\n\n\[Earlier conversation summarised by farebox: turns 1-2, .*\n.*\n<summary>\n[^]*My cat[^]*She is[^]*<\/summary>$/,
    )
    assert.deepEqual([question?.content, rest], ['What is she called?', []])
    const { drivers } = await sidecar.standing('recap')
    assert.ok(parseUsd(drivers['summaries'] ?? '0') > 0n)
  })

  describe('at a task boundary', () => {
    async function waiting(id: string): Promise<Talk> {
      const talk = talkOf(id, 'at-task')
      for (const question of ['First.', 'Second.', 'Third.']) await talk.say(question)
      assert.equal(await sessionOf(id), 1, 'no task has ended')
      return talk
    }

    test('by a header of the turn that begins a task', async () => {
      const talk = await waiting('by-header')
      await talk.say('Something else.', { headers: { 'x-farebox-boundary': 'task' } })
      assert.equal(await sessionOf('by-header'), 2)
    })

    test('by the app API', async () => {
      const talk = await waiting('by-api')
      assert.equal((await sidecar.postJson('/farebox/v1/conversations/by-api/boundary', {})).status, 200)
      await talk.say('Something else.')
      assert.equal(await sessionOf('by-api'), 2)
    })

    test('by the app API, whatever the app has written beside the chat before that turn', async () => {
      const talk = await waiting('beside')
      assert.equal((await sidecar.postJson('/farebox/v1/conversations/beside/boundary', {})).status, 200)
      await talkOf('beside', 'at-task').say('Write a title of three words for this chat.')
      assert.equal(await sessionOf('beside'), 1)
      await talk.say('Something else.')
      assert.equal(await sessionOf('beside'), 2)
      await talk.say('More of it.')
      assert.equal(await sessionOf('beside'), 2, 'the boundary is past')
    })

    for (const stream of [false, true])
      test(`by a tool that the answer calls, with the user turn after its loop (${stream ? 'streamed' : 'plain'})`, async () => {
        const id = `by-tool-${stream}`
        const talk = await waiting(id)
        const options: SayOptions = { stream, body: { tools: TOOLS } }
        const closed = await talk.say('That is all.', { ...options, headers: { 'x-fake-tool-call': 'close_ticket' } })
        talk.messages.push({ role: 'tool', tool_call_id: closed.toolCalls[0]?.id ?? '', content: 'Closed.' })
        await talk.goOn(options)
        assert.equal(await sessionOf(id), 1)
        await talk.say('Something else.')
        assert.equal(await sessionOf(id), 2)
        await talk.say('More of it.')
        assert.equal(await sessionOf(id), 2, 'the boundary is past')
      })

    test('another tool ends no task', async () => {
      const talk = await waiting('other-tool')
      const looked = await talk.say('Look.', { body: { tools: TOOLS }, headers: { 'x-fake-tool-call': 'look_up' } })
      talk.messages.push({ role: 'tool', tool_call_id: looked.toolCalls[0]?.id ?? '', content: 'Seen.' })
      await talk.goOn({ body: { tools: TOOLS } })
      await talk.say('Something else.')
      assert.equal(await sessionOf('other-tool'), 1)
    })
  })

  describe('a session that has used up its budget', () => {
    async function useUp(id: string): Promise<void> {
      const body = { cost: '0.02', label: 'search', operationId: id }
      assert.equal((await sidecar.postJson(`/farebox/v1/conversations/${id}/costs`, body)).status, 200)
    }

    test('gives way to the next question of the user, which tells so, not to a title that is asked for before', async () => {
      const talk = talkOf('titled', 'at-cap')
      await talk.say('First.')
      await talk.say('Second.')
      await useUp('titled')
      const title = await talkOf('titled', 'at-cap').say('Write a title of three words for this chat.')
      assert.equal(title.headers.get('x-farebox-rung'), 'EndConversation')
      assert.equal(await sessionOf('titled'), 1)
      const said = await talk.say('Third.')
      assert.equal(await sessionOf('titled'), 2)
      assert.ok(said.text.endsWith(BUILT_IN_TEXTS.Reset.en), said.text)
      assert.deepEqual(
        sent().map(({ content }) => content),
        ['[New session (the last one had used up its budget): turns 1-2 of the earlier conversation left out]', 'Third.'],
      )
    })

    test('gives way to any question where the app sends no history', async () => {
      const alone = (question: string) => talkOf('alone', 'at-cap').say(question)
      await alone('First.')
      await alone('Second.')
      await useUp('alone')
      const said = await alone('Third.')
      assert.deepEqual([said.status, said.headers.get('x-farebox-synthetic')], [200, null])
      assert.equal(await sessionOf('alone'), 2)
    })
  })

  describe('a pause', () => {
    test('opens a session, which has its recap from the second turn on: nobody waits for it', async () => {
      const talk = talkOf('pause', 'pause')
      await talk.say('My cat is called Ada. '.repeat(40))
      await talk.say('She is grey.')
      assert.equal(await sessionOf('pause'), 1)
      await sleep(PAUSE_MS + 100)
      const said = await talk.say('What is she called?')
      assert.equal(await sessionOf('pause'), 2)
      assert.ok(said.text.includes(BUILT_IN_TEXTS.Reset.en))
      const label = '[New session (after a pause): turns 1-2 of the earlier conversation left out]'
      assert.deepEqual(
        sent().map(({ content }) => content),
        [label, 'What is she called?'],
      )
      await talk.say('And her colour?')
      assert.equal(await sessionOf('pause'), 2)
      const [recap, ...rest] = sent()
      assert.ok(recap?.content.startsWith(`${label}\n\n[Earlier conversation summarised by farebox: turns 1-2, `), recap?.content)
      assert.match(recap?.content ?? '', /My cat[^]*<\/summary>$/)
      assert.deepEqual(
        rest.map(({ role }) => role),
        ['user', 'assistant', 'user'],
      )
      assert.equal(await counted('farebox_sessions_opened_total{tier="pause",why="idle"}'), 1)

      await sleep(PAUSE_MS + 100)
      await talk.say('Her food is fish. '.repeat(40))
      const later =
        '[New session (after a pause): turns 1-4 of the earlier conversation left out]\n\n[Earlier conversation summarised by farebox: turns '
      assert.equal(await sessionOf('pause'), 3)
      assert.ok(sent()[0]?.content.startsWith(`${later}1-2, `), 'of the session before that stands in for it')
      await talk.say('And her age?')
      const [both] = sent()
      assert.ok(both?.content.startsWith(`${later}1-4, `), both?.content)
      assert.equal(both?.content.split('<summary>').length, 2)
    })

    test('is none while an answer is awaited', async () => {
      const talk = talkOf('busy', 'pause')
      await talk.say('First.')
      const client = startTalk(sidecar, { 'x-farebox-conversation': 'busy', 'x-farebox-tier': 'pause', 'x-farebox-user': 'ann' })
      const calls = seen.length
      const slow = client.say('Slowly.', { headers: { 'x-fake-delay-ms': String(2 * PAUSE_MS) } })
      await waitFor('the slow call is out', () => seen.length > calls)
      await sleep(PAUSE_MS + 100)
      // Not through `talkOf`: it would wait for the slow one.
      const beside = startTalk(sidecar, { 'x-farebox-conversation': 'busy', 'x-farebox-tier': 'pause', 'x-farebox-user': 'ann' })
      assert.equal((await beside.say('Meanwhile.')).status, 200)
      assert.equal(await sessionOf('busy'), 1)
      await slow
    })

    test('opens a conversation again that had ended at its cap', async () => {
      const talk = talkOf('ended', 'pause-at-cap', { 'x-farebox-user': 'ann', 'x-fake-output-tokens': '900' })
      await talk.say('First.')
      await talk.say('Second.')
      const closed = await talk.say('Third.')
      assert.equal(closed.headers.get('x-farebox-synthetic'), 'true')
      assert.equal((await sidecar.standing('ended')).state, 'ended')
      await sleep(PAUSE_MS + 100)
      const said = await talk.say('Fourth.')
      assert.deepEqual([said.headers.get('x-farebox-synthetic'), said.headers.get('x-farebox-rung')], [null, 'None'])
      const standing = await sidecar.standing('ended')
      assert.deepEqual([standing.state, standing.session], ['open', 2])
    })
  })

  test('fresh sessions mint no money: what a user may spend in a period holds over all of them', async () => {
    const talk = talkOf('minted', 'small-user-budget', { 'x-farebox-user': 'eve', 'x-fake-output-tokens': '900' })
    const rungs: (string | null)[] = []
    for (let turn = 1; turn <= 5; turn++) rungs.push((await talk.say(`Question ${turn}.`)).headers.get('x-farebox-rung'))
    assert.deepEqual(rungs, ['None', 'None', 'None', 'EndConversation', 'EndConversation'])
    await provider.settled()
    assert.ok(provider.bill.totalNanoUsd('minted') <= parseUsd('0.03'))
    assert.ok((await sessionOf('minted')) >= 3)
  })
})
