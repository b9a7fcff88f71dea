/** Which terms a conversation is held to when they change, and what `Observe` leaves alone. */
import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Contract, SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { formatUsd, parseUsd } from '@farebox/crds/usd.ts'
import type { Alert } from '@farebox/sidecar/proxy/alert-feed.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider, SeenRequest } from '../provider/server.ts'
import { makeConfig, makeContract, makePeriod } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { settled, startTalk } from '../support/talk.ts'
import { waitFor } from '../support/wait-for.ts'

const EMBEDDER = 'text-embedding-3-small'
const OLD = makeContract({ caps: { perConversation: '0.02' }, models: { allow: [], downgrades: [], maxOutputTokens: 500 } })
const NEW = makeContract({ caps: { perConversation: '0.04' }, models: { allow: [], downgrades: [], maxOutputTokens: 700 }, alerts: [10] })

let provider: Provider
let sidecar: Sidecar
let seen: SeenRequest[] = []
before(async () => {
  provider = await startProvider({ onRequest: (request) => seen.push(request) })
  sidecar = await startSidecar(configOf([OLD]))
})
after(async () => {
  await sidecar.close()
  await provider.close()
})
beforeEach(() => {
  seen = []
})

function configOf(contracts: readonly Contract[], parts: Parameters<typeof makeConfig>[2] = {}): SidecarConfig {
  return makeConfig(`${provider.url}/v1`, contracts, parts)
}

function talkOf(id: string, headers: Record<string, string> = {}): ReturnType<typeof startTalk> {
  return startTalk(sidecar, { 'x-farebox-conversation': id, 'x-fake-output-tokens': '50', 'x-fake-tag': id, ...headers })
}

describe('a change of the terms', () => {
  const changes = [
    { name: 'KeepContract: the pinned terms stay', parts: { existingConversations: 'KeepContract' }, expected: OLD },
    { name: 'AdoptNew: the new terms hold at once', parts: { existingConversations: 'AdoptNew' }, expected: NEW },
    {
      name: 'KeepContract, but older than contractMaxAge',
      parts: { existingConversations: 'KeepContract', contractMaxAgeMs: 1 },
      expected: NEW,
    },
  ] as const
  for (const { name, parts, expected } of changes) {
    test(name, async () => {
      await sidecar.adopt(configOf([OLD], parts))
      const talk = talkOf(name)
      const first = await talk.say('Hello.')
      assert.equal(first.headers.get('x-farebox-contract'), OLD.hash)
      assert.equal(first.headers.get('x-farebox-max-output'), '500')
      await sleep(2)
      await sidecar.adopt(configOf([NEW], parts))
      for (const crashed of [false, true]) {
        if (crashed) {
          await sidecar.crash()
        }
        const said = await talk.say('And now?')
        assert.equal(said.headers.get('x-farebox-contract'), expected.hash)
        assert.equal(said.headers.get('x-farebox-max-output'), String(expected.models.maxOutputTokens))
        const standing = await sidecar.standing(name)
        assert.deepEqual([standing.contract, standing.budget], [expected.hash, expected.caps.perConversation])
        assert.equal(standing.spent, formatUsd(provider.bill.totalNanoUsd(name)), 'what is spent stays spent')
      }
      assert.equal((await talkOf(`${name}, begun later`).say('Hello.')).headers.get('x-farebox-contract'), NEW.hash)
    })
  }

  test('AdoptNew: a tool loop ends on the terms that it began on, and the next question adopts the new', async () => {
    const parts = { existingConversations: 'AdoptNew' } as const
    const ladder: Contract['ladder'] = [
      { atPercent: 1, rung: 'DowngradeModel' },
      { atPercent: 100, rung: 'EndConversation', end: 'Refuse' },
    ]
    const caps = { perConversation: '0.04' }
    const old = makeContract({ caps, ladder, models: { allow: [], downgrades: [{ from: 'gpt-4o', to: 'gpt-4o-mini' }] } })
    const changed = makeContract({ caps, ladder })
    const question = [{ role: 'user', content: 'Hello.' }]
    const looped = (id: string) => [
      { role: 'assistant', content: null, tool_calls: [{ id, type: 'function', function: { name: 'look', arguments: '{}' } }] },
      { role: 'tool', tool_call_id: id, content: 'found' },
    ]
    const said = async (messages: readonly unknown[]): Promise<readonly unknown[]> => {
      const answer = await fetch(`${sidecar.url}/openai/v1/chat/completions`, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          authorization: 'Bearer test',
          'x-farebox-conversation': 'looping',
          'x-fake-output-tokens': '100',
        },
        body: JSON.stringify({ model: 'gpt-4o', max_tokens: 100, messages }),
      })
      await answer.arrayBuffer()
      await sidecar.idle()
      const { model } = JSON.parse(seen.at(-1)?.body.toString() ?? '') as { readonly model?: string }
      return [answer.status, model, answer.headers.get('x-farebox-contract')]
    }
    await sidecar.adopt(configOf([old], parts))
    await said(question)
    const next = [...question, { role: 'assistant', content: 'Hi.' }, { role: 'user', content: 'Look it up.' }]
    assert.deepEqual(await said(next), [200, 'gpt-4o-mini', old.hash])
    await sidecar.adopt(configOf([changed], parts))
    const loop = [...next, ...looped('a')]
    assert.deepEqual(await said(loop), [200, 'gpt-4o-mini', old.hash])
    // Calls of the app's own beside it, under the chat's id.
    assert.equal((await said([{ role: 'user', content: 'A title for it, please.' }]))[0], 200)
    const embedded = await sidecar.client({ 'x-farebox-conversation': 'looping' }).embeddings.create({ model: EMBEDDER, input: 'found' })
    assert.equal(embedded.object, 'list')
    await sidecar.idle()
    assert.deepEqual(await said([...loop, ...looped('b')]), [200, 'gpt-4o-mini', old.hash])
    assert.deepEqual(await said([...loop, { role: 'user', content: 'Thanks.' }]), [200, 'gpt-4o', changed.hash])
  })

  describe('on budgets that are in use', () => {
    const adopting = { existingConversations: 'AdoptNew' } as const
    const cappedAt = (perConversation: string, perUser?: { amount: string; unit: 'Day' | 'Month' }) =>
      makeContract({
        caps: {
          perConversation,
          ...(perUser === undefined ? {} : { perUser: { amount: perUser.amount, period: makePeriod(perUser.unit) } }),
        },
        ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Refuse' }],
      })
    const asked = async (id: string, headers: Record<string, string> = {}): Promise<{ status: number; contract: string | null }> => {
      const answer = await fetch(`${sidecar.url}/openai/v1/chat/completions`, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          authorization: 'Bearer test',
          'x-farebox-conversation': id,
          'x-fake-output-tokens': '200',
          'x-fake-tag': id,
          ...headers,
        },
        body: JSON.stringify({ model: 'gpt-4o', max_tokens: 300, messages: [{ role: 'user', content: 'Hello.' }] }),
      })
      await answer.arrayBuffer()
      return { status: answer.status, contract: answer.headers.get('x-farebox-contract') }
    }

    test('raised: the conversation has more from its next turn on, and what it spent stays spent', async () => {
      const [low, high] = [cappedAt('0.02'), cappedAt('0.04')]
      await sidecar.adopt(configOf([low], adopting))
      await asked('raised')
      await sidecar.adopt(configOf([high], adopting))
      assert.deepEqual(await asked('raised'), { status: 200, contract: high.hash })
      const { budget, spent, turns } = await sidecar.standing('raised')
      assert.deepEqual([budget, spent, turns], ['0.04', formatUsd(provider.bill.totalNanoUsd('raised')), 2])
    })

    test('lowered to more than was spent: the conversation has less from its next turn on', async () => {
      const [high, low] = [cappedAt('0.04'), cappedAt('0.02')]
      await sidecar.adopt(configOf([high], adopting))
      await asked('lowered')
      await sidecar.adopt(configOf([low], adopting))
      assert.deepEqual(await asked('lowered'), { status: 200, contract: low.hash })
      assert.equal((await sidecar.standing('lowered')).budget, '0.02')
    })

    test('lowered below what was spent: the conversation keeps its terms, and new ones have the new', async () => {
      const [high, low] = [cappedAt('0.04'), cappedAt('0.003')]
      await sidecar.adopt(configOf([high], adopting))
      await asked('spent')
      await asked('spent')
      assert.ok(parseUsd((await sidecar.standing('spent')).spent) > parseUsd('0.003'))
      await sidecar.adopt(configOf([low], adopting))
      assert.deepEqual(await asked('spent'), { status: 200, contract: high.hash })
      assert.equal((await asked('new')).contract, low.hash)
      await sidecar.adopt(configOf([low], { existingConversations: 'KeepContract', contractMaxAgeMs: 1 }))
      assert.deepEqual(await asked('spent'), { status: 200, contract: high.hash }, 'nor is it cut off for its age')
    })

    test('lowered to a little more than was spent, into which no call fits: the conversation goes on under its own', async () => {
      const high = cappedAt('0.04')
      await sidecar.adopt(configOf([high], adopting))
      await asked('tight')
      const { spent } = await sidecar.standing('tight')
      const low = cappedAt(formatUsd(parseUsd(spent) + 1_000n))
      await sidecar.adopt(configOf([low], adopting))
      assert.deepEqual(await asked('tight'), { status: 200, contract: high.hash })
      assert.equal((await sidecar.standing('tight')).state, 'open')
    })

    test('where its own terms end it as well, a conversation goes by the newest: they may have another session follow', async () => {
      const perUser = { amount: '5.00', period: makePeriod('Month') }
      const before = makeContract({ caps: { perConversation: '0.004', perUser } })
      const after = makeContract({
        caps: { perConversation: '0.004', perUser },
        ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Reset' }],
        sessions: { resetAt: 'Immediately', recap: 'None', maxResets: 3 },
      })
      await sidecar.adopt(configOf([before], adopting))
      const user = { 'x-farebox-user': 'ann' }
      await asked('full', user)
      await sidecar.adopt(configOf([after], adopting))
      assert.deepEqual(await asked('full', user), { status: 200, contract: after.hash })
      assert.equal((await sidecar.standing('full')).session, 2)
    })

    const ends = [
      { edit: 'Close', ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Close' }], maxResets: 3 },
      { edit: 'Refuse', ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Refuse' }], maxResets: 3 },
      { edit: 'no resets', ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Reset' }], maxResets: 0 },
    ] as const
    for (const { edit, ladder, maxResets } of ends) {
      test(`whose end was to open another session, edited to ${edit}: it opens that session all the same, and the newest hold there`, async () => {
        const caps = { perConversation: '0.004', perUser: { amount: '5.00', period: makePeriod('Month') } }
        const sessions = { resetAt: 'Immediately', recap: 'None', maxResets: 3 } as const
        const before = makeContract({ caps, ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Reset' }], sessions })
        const after = makeContract({ caps, ladder: [...ladder], sessions: { ...sessions, maxResets } })
        const id = `resetting ${edit}`
        const user = { 'x-farebox-user': 'eve' }
        await sidecar.adopt(configOf([before], adopting))
        await asked(id, user)
        const { percent } = await sidecar.standing(id)
        assert.ok(percent < 100, 'the newest are not at their end: the next call just does not fit')
        await sidecar.adopt(configOf([after], adopting))
        const short = { ...user, 'x-fake-output-tokens': '20' }
        assert.deepEqual(await asked(id, short), { status: 200, contract: before.hash })
        const { session, state, contract } = await sidecar.standing(id)
        assert.deepEqual([session, state, contract], [2, 'open', before.hash])
        assert.deepEqual(await asked(id, short), { status: 200, contract: after.hash }, 'where it fits')
      })
    }

    test('raised after its end: who adopts goes on, and has what the new budget leaves; who keeps the contract has ended', async () => {
      const [low, high] = [cappedAt('0.004'), cappedAt('0.04')]
      await sidecar.adopt(configOf([low], adopting))
      await asked('ended')
      assert.equal((await asked('ended')).status, 402)
      assert.equal((await sidecar.standing('ended')).state, 'ended')
      await sidecar.adopt(configOf([high], { existingConversations: 'KeepContract' }))
      assert.deepEqual(await asked('ended'), { status: 402, contract: low.hash })
      await sidecar.adopt(configOf([high], adopting))
      assert.deepEqual(await asked('ended'), { status: 200, contract: high.hash })
      const { budget, spent, state, contract, rung } = await sidecar.standing('ended')
      const billed = formatUsd(provider.bill.totalNanoUsd('ended'))
      assert.deepEqual([budget, spent, state, contract, rung], ['0.04', billed, 'open', high.hash, 'None'])
    })

    test('raised after its end by less than a call: it stays at its end, and is told so once', async () => {
      const low = cappedAt('0.004')
      await sidecar.adopt(configOf([low], adopting))
      await asked('still ended')
      assert.equal((await asked('still ended')).status, 402)
      const ends = async (): Promise<readonly string[] | null> =>
        (await sidecar.metrics()).match(/^farebox_rung_transitions_total.*EndConversation.*$/gm)
      const before = await ends()
      await sidecar.adopt(configOf([cappedAt('0.0041')], adopting))
      for (let call = 0; call < 2; call++) assert.equal((await asked('still ended')).status, 402)
      assert.equal((await sidecar.standing('still ended')).state, 'ended')
      assert.deepEqual(await ends(), before)
    })

    test('a model that is allowed now may be asked in conversations that began before; one that was allowed then too', async () => {
      const allowing = (...allow: string[]) => makeContract({ models: { allow, downgrades: [], maxOutputTokens: 300 } })
      const [before, now] = [allowing('gpt-4o'), allowing('gpt-4.1')]
      await sidecar.adopt(configOf([before]))
      const talk = talkOf('models')
      await talk.say('Hello.')
      await sidecar.adopt(configOf([now]))
      for (const model of ['gpt-4.1', 'gpt-4o']) {
        const said = await talk.say('And now?', { body: { model } })
        assert.deepEqual([said.status, said.headers.get('x-farebox-contract')], [200, before.hash])
      }
      assert.equal((await talk.say('And now?', { body: { model: 'gpt-4o-mini' } })).code, 'model_not_allowed')
    })

    test('its own terms, by which it waited for money that another call spent after all, do not end it: the newest do', async () => {
      const perUser = { amount: '5.00', period: makePeriod('Month') }
      const models = { allow: [], downgrades: [], maxOutputTokens: 500, usefulOutputTokens: 100 }
      const before = makeContract({ caps: { perConversation: '0.0055', perUser }, models })
      const after = makeContract({
        caps: { perConversation: '0.0023', perUser },
        models,
        ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Reset' }],
        sessions: { resetAt: 'Immediately', recap: 'None', maxResets: 3 },
      })
      const user = { 'x-farebox-user': 'bea' }
      await sidecar.adopt(configOf([before], adopting))
      await asked('waited', user)
      const slow = asked('waited', { ...user, 'x-fake-output-tokens': '300', 'x-fake-delay-ms': '600' })
      await waitFor('the slow call is out', () => seen.length === 2)
      await sidecar.adopt(configOf([after], adopting))
      assert.deepEqual(await asked('waited', user), { status: 200, contract: after.hash })
      assert.equal((await slow).contract, before.hash)
      assert.equal((await sidecar.standing('waited')).session, 2)
    })

    test('another period of a user begins its own count: nobody is refused for what was spent before', async () => {
      const user = { 'x-farebox-user': 'reader' }
      const [monthly, daily] = [cappedAt('1.00', { amount: '0.02', unit: 'Month' }), cappedAt('1.00', { amount: '0.003', unit: 'Day' })]
      await sidecar.adopt(configOf([monthly]))
      await asked('monthly', user)
      await asked('monthly', user)
      await sidecar.adopt(configOf([daily]))
      assert.deepEqual(await asked('daily', user), { status: 200, contract: daily.hash })
      assert.deepEqual(
        await asked('monthly', user),
        { status: 200, contract: monthly.hash },
        'what began by the month goes on by the month',
      )
    })

    test('a lowered budget of a user counts at once for new conversations, and leaves one that is under way its terms', async () => {
      const user = { 'x-farebox-user': 'writer' }
      const [high, low] = [cappedAt('1.00', { amount: '0.05', unit: 'Month' }), cappedAt('1.00', { amount: '0.003', unit: 'Month' })]
      await sidecar.adopt(configOf([high], adopting))
      await asked('under way', user)
      await asked('under way', user)
      await sidecar.adopt(configOf([low], adopting))
      assert.deepEqual(await asked('under way', user), { status: 200, contract: high.hash })
      assert.equal((await asked('after that', user)).status, 402)
    })

    test('another tier is another conversation and another budget of the user', async () => {
      const [pro, team] = [
        cappedAt('0.02', { amount: '0.02', unit: 'Month' }),
        { ...makeContract({ tier: 'team', caps: { perConversation: '0.50' } }) },
      ]
      await sidecar.adopt(configOf([pro, team], { tiers: { allowed: ['pro', 'team'], claim: { header: 'x-farebox-tier' } } }))
      const user = { 'x-farebox-user': 'climber' }
      await asked('climbing', user)
      assert.deepEqual(await asked('climbing', { ...user, 'x-farebox-tier': 'team' }), { status: 200, contract: team.hash })
      const [inPro, inTeam] = [await sidecar.standing('climbing', '?tier=pro'), await sidecar.standing('climbing', '?tier=team')]
      assert.deepEqual([inPro.turns, inTeam.turns, inTeam.budget], [1, 1, '0.50'])
    })

    test('another scope is another conversation under the same id, whoever keeps contracts; the old scope has the old one', async () => {
      const ofMonth = cappedAt('0.50', { amount: '5.00', unit: 'Month' })
      const scoped = (scope: 'Namespace' | 'Budget') => configOf([ofMonth], { existingConversations: 'KeepContract', identity: { scope } })
      const user = { 'x-farebox-user': 'scoped' }
      const turns: number[] = []
      for (const scope of ['Namespace', 'Budget', 'Namespace'] as const) {
        await sidecar.adopt(scoped(scope))
        assert.equal((await asked('scoped', user)).status, 200)
        turns.push((await sidecar.standing('scoped')).turns)
      }
      assert.deepEqual(turns, [1, 1, 2])
    })

    test('a claim in a header that is none any more claims nothing: the call is served in the default tier, as another conversation', async () => {
      const [pro, team] = [cappedAt('0.50'), makeContract({ tier: 'team', caps: { perConversation: '0.50' } })]
      const claimedBy = (header: string) => configOf([pro, team], { tiers: { allowed: ['pro', 'team'], claim: { header } } })
      const claim = { 'x-farebox-tier': 'team' }
      await sidecar.adopt(claimedBy('x-farebox-tier'))
      assert.deepEqual(await asked('claimed', claim), { status: 200, contract: team.hash })
      await sidecar.adopt(claimedBy('x-plan'))
      assert.deepEqual(await asked('claimed', claim), { status: 200, contract: pro.hash })
      assert.deepEqual(await asked('claimed', { ...claim, 'x-plan': 'team' }), { status: 200, contract: team.hash })
      const [inPro, inTeam] = [await sidecar.standing('claimed', '?tier=pro'), await sidecar.standing('claimed', '?tier=team')]
      assert.deepEqual([inPro.turns, inTeam.turns], [1, 2])
    })

    test('a limit of the workload counts at once, raised or lowered', async () => {
      const limited = (amount: string) => configOf([cappedAt('1.00')], { limits: [{ amount, period: makePeriod('Day') }] })
      await sidecar.adopt(limited('0.05'))
      assert.equal((await asked('limited')).status, 200)
      await sidecar.adopt(limited('0.001'))
      assert.equal((await asked('limited')).status, 402)
      await sidecar.adopt(limited('0.05'))
      assert.equal((await asked('limited')).status, 200)
    })

    test('a limit counts at once for a sidecar that is older than the config, which has a field more', async () => {
      const limits = [{ amount: '0.001', period: makePeriod('Day') }]
      const later = { ...configOf([cappedAt('1.00')], { limits }), fieldOfLater: '1.00' }
      await sidecar.adopt(configOf([cappedAt('1.00')]))
      assert.equal((await asked('braked')).status, 200)
      await sidecar.adopt(later)
      assert.equal((await asked('braked')).status, 402)
    })

    test('another rate of a currency is another contract: a conversation keeps the one that it began under', async () => {
      const euro = (usdRate: string, perConversation: string) => makeContract({ currency: 'EUR', usdRate, caps: { perConversation } })
      const [before, after] = [euro('1.25', '0.05'), euro('1.00', '0.04')]
      await sidecar.adopt(configOf([before]))
      await asked('in euro')
      await sidecar.adopt(configOf([after]))
      assert.deepEqual(await asked('in euro'), { status: 200, contract: before.hash })
      const { currency, budget } = await sidecar.standing('in euro')
      assert.deepEqual([currency, budget], ['EUR', '0.04'])
    })
  })

  test("never pins the provider's prices: each turn costs what its call costs on that day", async () => {
    const double = {
      provider: 'openai',
      model: 'gpt-4o',
      input: '5.00',
      output: '20.00',
      cacheRead: '2.50',
      steps: [],
      serviceTierPercent: {},
      toolFees: {},
    }
    await sidecar.adopt(configOf([OLD], { prices: [double] }))
    const talk = talkOf('prices')
    await talk.say('Hello.')
    const billed = provider.bill.totalNanoUsd('prices')
    assert.equal((await sidecar.standing('prices')).spent, formatUsd(2n * billed))
    await sidecar.adopt(configOf([OLD]))
    const said = await talk.say('And now?')
    assert.equal(said.headers.get('x-farebox-contract'), OLD.hash)
    assert.equal((await sidecar.standing('prices')).spent, formatUsd(billed + provider.bill.totalNanoUsd('prices')))
  })
})

describe('Observe', () => {
  const ladder: Contract['ladder'] = [
    { atPercent: 50, rung: 'DropRetrieval' },
    { atPercent: 60, rung: 'DowngradeModel' },
    { atPercent: 70, rung: 'RefuseTools' },
    { atPercent: 100, rung: 'EndConversation', end: 'Close' },
  ]
  const contract = makeContract({
    caps: { perConversation: '0.004' },
    models: { allow: ['gpt-4o'], downgrades: [{ from: 'gpt-4o', to: 'gpt-4o-mini' }], maxOutputTokens: 100 },
    ladder,
    notices: { mode: 'Inline', texts: { DowngradeModel: { en: 'A smaller model from here on.' } } },
  })
  const narrow = makeContract({ tier: 'narrow', context: { windowTokens: 10, overflow: 'Refuse' } })
  before(() => sidecar.adopt(configOf([contract, narrow], { mode: 'Observe', retrieval: { toolNames: [], tags: ['document'] } })))

  async function raw(
    baseUrl: string,
    body: string,
    headers: Record<string, string>,
  ): Promise<{ readonly text: string; readonly answer: Response }> {
    provider.clearCache()
    const answer = await fetch(`${baseUrl}/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: 'Bearer test', 'x-fake-output-tokens': '150', ...headers },
      body,
    })
    const text = (await answer.text()).replaceAll(/"id":"[^"]*"/g, '"id":""').replaceAll(/"created":\d+/g, '"created":0')
    return { text, answer }
  }

  test('changes nothing in the request or the answer, however far over the budget, and says what would have been', async () => {
    const messages = [{ role: 'user', content: `Read <document>${'A long passage. '.repeat(40)}</document> and tell me.` }]
    const tools = [{ type: 'function', function: { name: 'look_up', parameters: { type: 'object' } } }]
    const bodies = [
      { model: 'gpt-4o', messages },
      { model: 'gpt-4o', messages, stream: true, stream_options: { include_usage: true } },
      { model: 'gpt-4o', messages, tools, tool_choice: 'auto' },
      { model: 'gpt-4o', messages, n: 2, max_tokens: 400 },
    ]
    const headers = { 'x-farebox-conversation': 'watched', 'x-fake-tag': 'watched' }
    const rungs: (string | null)[] = []
    for (const body of bodies) {
      const text = JSON.stringify(body, null, 1)
      const direct = await raw(`${provider.url}/v1`, text, { 'x-fake-tag': 'direct' })
      const observed = await raw(`${sidecar.url}/openai/v1`, text, headers)
      assert.equal(observed.answer.status, 200)
      assert.equal(observed.text, direct.text)
      assert.equal(seen.at(-1)?.body.toString(), text)
      rungs.push(observed.answer.headers.get('x-farebox-rung'))
    }
    assert.deepEqual(rungs, ['None', 'None', 'RefuseTools', 'EndConversation'])
    const standing = await sidecar.standing('watched')
    assert.ok(standing.percent > 100)
    assert.deepEqual([standing.rung, standing.state, standing.turns], ['EndConversation', 'open', 4])
    assert.equal(standing.spent, formatUsd(provider.bill.totalNanoUsd('watched')), 'all of it is booked')
    assert.ok(parseUsd(standing.spent) > parseUsd(standing.budget))
    assert.match(await sidecar.metrics(), /farebox_rung_transitions_total\{tier="pro",rung="EndConversation",reason="\w+"\} 1\n/)
    const { alerts } = (await sidecar.getJson('/farebox/v1/alerts')) as { readonly alerts: readonly Alert[] }
    assert.deepEqual(
      alerts
        .filter((alert) => alert.conversation === standing.conversation)
        .map((alert) => alert.percent)
        .toSorted((a, b) => a - b),
      [70, 90, 100],
    )
  })

  test('edited to Enforce, what was spent counts: a conversation that used up its budget ends, one that begins is whole', async (context) => {
    context.after(() => sidecar.adopt(configOf([contract, narrow], { mode: 'Observe', retrieval: { toolNames: [], tags: ['document'] } })))
    const over = settled(sidecar, talkOf('over', { 'x-fake-output-tokens': '600' }))
    await over.say('Hello.', { body: { max_completion_tokens: 600 } })
    assert.ok((await sidecar.standing('over')).percent > 100)
    await sidecar.adopt(configOf([contract]))
    assert.equal((await over.say('And now?')).headers.get('x-farebox-synthetic'), 'true')
    const fresh = await talkOf('fresh').say('Hello.')
    assert.deepEqual([fresh.headers.get('x-farebox-synthetic'), fresh.headers.get('x-farebox-rung')], [null, 'None'])
  })

  test('a stream whose client asks for no usage is asked for it, and that is all', async () => {
    const text = JSON.stringify({ model: 'gpt-4o', stream: true, messages: [{ role: 'user', content: 'Hello.' }] })
    const direct = await raw(`${provider.url}/v1`, text, {})
    const observed = await raw(`${sidecar.url}/openai/v1`, text, { 'x-farebox-conversation': 'streamed' })
    assert.equal(observed.text, direct.text)
    assert.deepEqual(JSON.parse(seen.at(-1)?.body.toString() ?? ''), { ...JSON.parse(text), stream_options: { include_usage: true } })
  })

  test('refuses nothing that it would refuse otherwise: models, tiers, users, missing ids', async () => {
    const told = (): readonly string[] =>
      sidecar
        .log()
        .split('\n')
        .filter((line) => line.includes('would be refused'))
    const before = told().length
    const other = { body: { model: 'gpt-4o-mini' } }
    assert.equal((await talkOf('models').say('Hello.', other)).status, 200)
    const wide = await talkOf('window', { 'x-farebox-tier': 'narrow' }).say('Hello, hello, hello. '.repeat(10))
    assert.deepEqual([wide.status, wide.headers.get('x-farebox-rung')], [200, 'None'])
    assert.equal((await talkOf('tiers', { 'x-farebox-tier': 'gold' }).say('Hello.')).status, 200)
    assert.equal((await talkOf('users', { 'x-farebox-user': 'ann' }).say('Hello.')).status, 200)
    assert.equal((await talkOf('users', { 'x-farebox-user': 'bob' }).say('Hello.')).status, 200)
    assert.equal((await talkOf('x'.repeat(300)).say('Hello.')).status, 200)
    await sidecar.adopt(configOf([contract], { mode: 'Observe', identity: { fallback: 'Require' } }))
    assert.equal((await startTalk(sidecar, {}).say('Hello.')).status, 200)
    const codes = told()
      .slice(before)
      .map((line) => (JSON.parse(line) as { readonly code: string }).code)
    assert.deepEqual(codes, [
      'model_not_allowed',
      'context_window_exceeded',
      'identity_rejected',
      'identity_rejected',
      'identity_rejected',
      'conversation_id_required',
    ])
  })

  test('has nothing summarised that would be, neither on the rung nor for the window', async () => {
    const summarizer = 'gpt-4.1-mini'
    const summarising = makeContract({
      context: { windowTokens: 1_200, overflow: 'Summarize', keepRecentTurns: 2, summarizeAfterPercent: 60 },
      ladder: [
        { atPercent: 1, rung: 'Summarize' },
        { atPercent: 100, rung: 'EndConversation', end: 'Refuse' },
      ],
      models: { allow: [], downgrades: [], summarizer },
    })
    for (const mode of ['Observe', 'Enforce'] as const) {
      seen = []
      await sidecar.adopt(configOf([summarising], { mode }))
      const talk = settled(sidecar, talkOf(`summarised in ${mode}`, { 'x-fake-output-tokens': '150' }))
      for (let turn = 0; turn < 8; turn++) assert.equal((await talk.say('What does the keeper do by day? '.repeat(12))).status, 200)
      const summaries = seen.filter(({ body }) => body.includes(summarizer)).length
      if (mode === 'Observe') assert.deepEqual([summaries, seen.length], [0, 8])
      else assert.ok(summaries > 0)
    }
  })

  test('who speaks in the conversation of another pays for it, and leaves nothing in what is remembered of the other', async () => {
    const perUser = { amount: '5.00', period: makePeriod('Day') }
    const remembering = makeContract({
      caps: { perConversation: '1.00', perUser },
      sessions: { memory: { mode: 'Searchable', retentionMs: 86_400_000 } },
    })
    await sidecar.adopt(configOf([remembering], { mode: 'Observe' }))
    await talkOf('shared', { 'x-farebox-user': 'ann' }).say('Hello.')
    const before = (await sidecar.getJson('/farebox/v1/users/ann')) as { readonly spent: string }
    await talkOf('shared', { 'x-farebox-user': 'bob' }).say('This is about measles.')
    assert.deepEqual(((await sidecar.getJson('/farebox/v1/users/ann/history?q=measles')) as { readonly entries: unknown[] }).entries, [])
    assert.equal(((await sidecar.getJson('/farebox/v1/users/ann')) as { readonly spent: string }).spent, before.spent)
    assert.ok(parseUsd(((await sidecar.getJson('/farebox/v1/users/bob')) as { readonly spent: string }).spent) > 0n)
  })

  test('what cannot be metered passes as it came, and is marked', async () => {
    await sidecar.adopt(configOf([contract], { mode: 'Observe' }))
    const post = async (path: string, body: string): Promise<Response> =>
      fetch(`${sidecar.url}/openai/v1/${path}`, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
    const bodies: Readonly<Record<string, string>> = {
      batches: JSON.stringify({ input_file_id: 'file-1', endpoint: '/v1/chat/completions', completion_window: '24h' }),
      responses: JSON.stringify({ model: 'gpt-4o', input: 'Hello.', background: true }),
    }
    for (const [path, body] of Object.entries(bodies)) {
      const answer = await post(path, body)
      await answer.text()
      assert.equal(answer.headers.get('x-farebox-ungoverned'), 'true', path)
      assert.deepEqual([seen.at(-1)?.path, seen.at(-1)?.body.toString()], [`/v1/${path}`, body])
    }
    await sidecar.adopt(configOf([contract], { mode: 'Enforce' }))
    for (const [path, body] of Object.entries(bodies)) assert.equal((await post(path, body)).status, 403, path)
  })
})
