/** Who is speaking: conversations by their carriers or by their history, users and their pin, tiers by claim, scopes. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, beforeEach, describe, test } from 'node:test'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { formatUsd, parseUsd } from '@farebox/crds/usd.ts'
import type OpenAI from 'openai'
import { startProvider } from '../provider/server.ts'
import type { Provider, SeenRequest } from '../provider/server.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { startTalk } from '../support/talk.ts'
import type { Said } from '../support/talk.ts'

const USER_BUDGET = { amount: '0.03', period: { unit: 'Month', timeZone: 'UTC', anchorDay: 1 } } as const
const CONTRACTS = [
  makeContract({ tier: 'pro' }),
  makeContract({ tier: 'team', caps: { perUser: USER_BUDGET } }),
  makeContract({ tier: 'tiny', caps: { perConversation: '0.012' } }),
]
const TOOLS: OpenAI.ChatCompletionTool[] = [{ type: 'function', function: { name: 'look_up', parameters: { type: 'object' } } }]

let provider: Provider
let sidecar: Sidecar
let seen: SeenRequest[] = []
before(async () => {
  provider = await startProvider({ onRequest: (request) => seen.push(request) })
  sidecar = await startSidecar(configOf({}))
})
after(async () => {
  await sidecar.close()
  await provider.close()
})
beforeEach(() => {
  seen = []
})

function configOf(parts: Parameters<typeof makeConfig>[2]): SidecarConfig {
  return makeConfig(`${provider.url}/v1`, CONTRACTS, { ...parts, identity: { headers: ['x-chat-id', 'X-Thread-Id'], ...parts?.identity } })
}

type Body = Partial<OpenAI.ChatCompletionCreateParamsNonStreaming>

/** One short turn of its own. */
function ask(headers: Record<string, string>, body: Body = {}): Promise<Said> {
  return startTalk(sidecar, { 'x-fake-output-tokens': '5', ...headers }, { max_tokens: 5, ...body }).say('Hello.')
}

function conversationOf(said: Said): string {
  assert.equal(said.code, null, said.text)
  return said.headers.get('x-farebox-conversation') ?? ''
}

function assertRejected(said: Said, status: number, code: string): void {
  assert.deepEqual([said.status, said.code], [status, code])
  assert.equal(said.headers.get('x-should-retry'), 'false')
  assert.equal(seen.length, 0, 'the provider hears nothing of it')
}

describe('the conversation', () => {
  test('is named by the first carrier that names one', async () => {
    const carriers: { readonly id: string; readonly headers?: Record<string, string>; readonly body?: Body }[] = [
      { id: 'own header', headers: { 'x-farebox-conversation': 'own header' } },
      { id: 'first alias', headers: { 'x-chat-id': 'first alias' } },
      { id: 'second alias', headers: { 'x-thread-id': 'second alias' } },
      { id: 'in baggage, 7', headers: { baggage: 'user.id=ann,gen_ai.conversation.id=in%20baggage%2C%207;p=1,session.id=later' } },
      { id: 'session', headers: { baggage: 'session.id=session' } },
      { id: 'metadata 1', body: { store: true, metadata: { conversation_id: 'metadata 1', session_id: 'later' } } },
      { id: 'metadata 2', body: { store: true, metadata: { thread_id: 'metadata 2' } } },
      { id: 'cache key', headers: { 'x-farebox-user': 'ann' }, body: { prompt_cache_key: 'cache key' } },
    ]
    const hashOf = async (id: string): Promise<string> => (await sidecar.standing(id, '?user=ann')).conversation
    for (const [index, { id }] of carriers.entries()) {
      const rest = carriers.slice(index).toReversed()
      const said = await ask(Object.assign({}, ...rest.map(({ headers }) => headers)), Object.assign({}, ...rest.map(({ body }) => body)))
      assert.equal(conversationOf(said), await hashOf(id), id)
    }
    assert.equal(new Set(await Promise.all(carriers.map(({ id }) => hashOf(id)))).size, carriers.length)
    for (const { headers } of seen) {
      assert.ok(!Object.keys(headers).some((name) => name.startsWith('x-farebox-')), 'our headers are not forwarded')
      assert.equal(headers['baggage'], undefined)
    }
  })

  test('is not that of another user with the same prompt_cache_key, which names a prompt', async () => {
    const body = { prompt_cache_key: 'support-bot-v3' }
    const ann = conversationOf(await ask({ 'x-farebox-user': 'ann' }, body))
    const bob = conversationOf(await ask({ 'x-farebox-user': 'bob' }, body))
    assert.notEqual(ann, bob)
    assert.equal(conversationOf(await ask({ 'x-farebox-user': 'ann' }, body)), ann)
    assert.equal((await sidecar.standing('support-bot-v3', '?user=ann')).conversation, ann)
  })

  test('is found by its history where a prompt_cache_key comes without a user: the chats of a prompt are not one', async () => {
    const talks = ['one', 'another'].map(() =>
      startTalk(sidecar, { 'x-fake-output-tokens': '5' }, { max_tokens: 5, prompt_cache_key: 'bot' }),
    )
    const first: string[] = []
    for (const [index, talk] of talks.entries()) first.push(conversationOf(await talk.say(`Hello, ${index}.`)))
    assert.equal(new Set(first).size, talks.length)
    const second: string[] = []
    for (const talk of talks) second.push(conversationOf(await talk.say('And then?')))
    assert.deepEqual(second, first)
    await assert.rejects(sidecar.standing('bot'), /404/)
  })

  test('has an id that can be read', async () => {
    assertRejected(await ask({ 'x-farebox-conversation': 'x'.repeat(257) }), 403, 'identity_rejected')
    assertRejected(await ask({}, { metadata: { conversation_id: 'line\nbreak' } }), 403, 'identity_rejected')
    assert.equal(seen.length, 0)
    const empty = { user: '', prompt_cache_key: '', store: true, metadata: { conversation_id: '', user_id: '' } }
    assert.equal((await ask({ baggage: 'session.id=' }, empty)).status, 200, 'an empty field names nothing')
  })

  describe('without a carrier, is found by its history', () => {
    for (const stream of [false, true]) {
      test(`over turns, tool calls and a crash (${stream ? 'streamed' : 'plain'})`, async () => {
        const talk = startTalk(sidecar, { 'x-fake-tag': `chain ${stream}` }, { max_tokens: 60, tools: TOOLS })
        const first = conversationOf(await talk.say(`Hello, ${stream}.`, { stream }))
        const call = await talk.say('Where is order 17?', { stream, headers: { 'x-fake-tool-call': 'look_up' } })
        assert.equal(conversationOf(call), first)
        talk.messages.push({ role: 'tool', tool_call_id: call.toolCalls[0]?.id ?? '', content: 'Rotterdam' })
        assert.equal(conversationOf(await talk.goOn({ stream })), first)
        await sidecar.crash()
        assert.equal(conversationOf(await talk.say('Thanks.', { stream })), first)
        talk.messages.splice(2)
        assert.equal(conversationOf(await talk.say('Another question, from further up.', { stream })), first)
        const standing = await sidecar.standing(first)
        assert.deepEqual([standing.turns, standing.spent], [5, formatUsd(provider.bill.totalNanoUsd(`chain ${stream}`))])
      })
    }

    test('the same opening is not the same conversation, of two users never', async () => {
      const headers = { 'x-fake-content': 'Hi.' }
      const [ann, bob] = ['ann', 'bob'].map((user) => startTalk(sidecar, { ...headers, 'x-farebox-user': user }))
      assert.ok(ann !== undefined && bob !== undefined)
      const first = conversationOf(await ann.say('Good morning.'))
      const other = conversationOf(await bob.say('Good morning.'))
      assert.notEqual(other, first)
      assert.deepEqual(ann.messages, bob.messages)
      assert.equal(conversationOf(await bob.say('Same again.')), other)
      assert.equal(conversationOf(await ann.say('Same again.')), first)
      assert.notEqual(conversationOf(await startTalk(sidecar, headers).say('Good morning.')), first)
    })

    test('whichever signature its links have', async () => {
      const talk = startTalk(sidecar, { 'x-fake-output-tokens': '5' }, { max_tokens: 5 })
      const ask = async (question: string, link: string): Promise<string> => {
        talk.messages[0] = {
          role: 'user',
          content: [
            { type: 'text', text: 'What is this?' },
            { type: 'image_url', image_url: { url: link, detail: 'low' } },
          ],
        }
        const found = conversationOf(question === '' ? await talk.goOn() : await talk.say(question))
        assert.ok(seen.at(-1)?.body.includes(link), 'it goes out as it came')
        return found
      }
      const link = (file: string, at: number): string => `https://b.s3.amazonaws.com/${file}?X-Amz-Date=${at}&X-Amz-Signature=${at}`
      const first = await ask('', link('a.png', 1))
      assert.equal(await ask('And then?', link('a.png', 2)), first)
      assert.equal(await ask('And in the end?', link('a.png', 3)), first)
      assert.notEqual(await ask('And now?', link('b.png', 3)), first, 'another file')
    })

    for (const stream of [false, true]) {
      test(`by any of several answers to a question (${stream ? 'streamed' : 'plain'})`, async () => {
        const client = sidecar.client({ 'x-fake-output-tokens': '5' })
        const question = { role: 'user', content: `Two of them, ${stream}.` } as const
        const asked = { model: 'gpt-4o', messages: [question], n: 3, max_tokens: 5 }
        const answers = ['', '', '']
        let first = ''
        if (stream) {
          const { data, response } = await client.chat.completions.create({ ...asked, stream: true }).withResponse()
          for await (const { choices } of data) for (const { index, delta } of choices) answers[index] += delta.content ?? ''
          first = response.headers.get('x-farebox-conversation') ?? ''
        } else {
          const { data, response } = await client.chat.completions.create(asked).withResponse()
          for (const { index, message } of data.choices) answers[index] = message.content ?? ''
          first = response.headers.get('x-farebox-conversation') ?? ''
        }
        assert.equal(new Set(answers).size, answers.length)
        await sidecar.idle()
        const goOn = async (content: string): Promise<string> => {
          const talk = startTalk(sidecar, { 'x-fake-output-tokens': '5' }, { max_tokens: 5 })
          talk.messages.push(question, { role: 'assistant', content })
          return conversationOf(await talk.say('More.'))
        }
        for (const content of answers) assert.equal(await goOn(content), first)
        assert.notEqual(await goOn('What nobody said.'), first)
      })
    }

    test('of an app that keeps of a tool loop the words alone', async () => {
      const talk = startTalk(sidecar, {}, { max_tokens: 60, tools: TOOLS })
      const call = await talk.say('Where is order 18?', { headers: { 'x-fake-tool-call': 'look_up' } })
      talk.messages.push({ role: 'tool', tool_call_id: call.toolCalls[0]?.id ?? '', content: 'Rotterdam' })
      const first = conversationOf(await talk.goOn())
      talk.messages.splice(1, 2)
      assert.deepEqual(
        talk.messages.map(({ role }) => role),
        ['user', 'assistant'],
      )
      assert.equal(conversationOf(await talk.say('Thanks.')), first)
      const other = startTalk(sidecar, {}, { max_tokens: 60, tools: TOOLS })
      assert.notEqual(conversationOf(await other.say('Where is order 18?')), first, 'not by its question alone')
    })

    test('examples with the same question behind them are a conversation for each who asks', async () => {
      const ask = async (): Promise<string> => {
        const talk = startTalk(sidecar, { 'x-fake-output-tokens': '5' }, { max_tokens: 5 })
        talk.messages.push({ role: 'user', content: 'Bad shop!' }, { role: 'assistant', content: 'negative' })
        return conversationOf(await talk.say('Hello.'))
      }
      assert.notEqual(await ask(), await ask())
    })

    test('an app that changes answers is found by what it asked before', async () => {
      const talk = startTalk(sidecar, { 'x-fake-output-tokens': '5' }, { max_tokens: 5 })
      const ids: string[] = []
      for (const question of ['Hello, changer.', 'And then?', 'And after that?', 'And in the end?']) {
        ids.push(conversationOf(await talk.say(question)))
        talk.messages.splice(-1, 1, { role: 'assistant', content: `Changed, ${ids.length}.` })
      }
      assert.equal(new Set(ids.slice(1)).size, 1, 'from the first history on that has an answer in it')
    })

    test('a history that is cut at its beginning is a conversation each time, which is counted', async () => {
      const unfound = async (): Promise<number> =>
        Number(/^farebox_conversations_unfound_total\{tier="pro"\} (\d+)$/m.exec(await sidecar.metrics())?.[1])
      const talk = startTalk(sidecar, { 'x-fake-output-tokens': '5' }, { max_tokens: 5 })
      const before = await unfound()
      const first = conversationOf(await talk.say('Hello, window.'))
      assert.equal(conversationOf(await talk.say('And then?')), first)
      assert.equal(await unfound(), before)
      talk.messages.splice(0, 2)
      assert.notEqual(conversationOf(await talk.say('And in the end?')), first)
      assert.equal(await unfound(), before + 1)
    })

    test('a tool loop is found by its calls where its beginning is cut off', async () => {
      const talk = startTalk(sidecar, { 'x-fake-tool-call': 'look_up' }, { max_tokens: 60, tools: TOOLS })
      const answerTo = (said: Said): void => {
        talk.messages.push({ role: 'tool', tool_call_id: said.toolCalls[0]?.id ?? '', content: 'Rotterdam' })
      }
      let said = await talk.say('Do the task.')
      const first = conversationOf(said)
      for (let step = 1; step <= 3; step += 1) {
        answerTo(said)
        talk.messages.splice(0, talk.messages.length - 2)
        said = await talk.goOn()
        assert.equal(conversationOf(said), first)
      }
      const other = startTalk(sidecar, { 'x-farebox-user': 'bob' }, { max_tokens: 60, tools: TOOLS })
      answerTo(said)
      other.messages.push(...talk.messages)
      assert.notEqual(conversationOf(await other.goOn()), first, 'of two users never')
    })

    const openings: Record<string, OpenAI.ChatCompletionMessageParam[]> = {
      'a greeting of the app': [{ role: 'assistant', content: 'I am Bo. How can I help?' }],
      'examples in its prompt': [
        { role: 'user', content: 'Great shop!' },
        { role: 'assistant', content: 'positive' },
      ],
    }
    for (const [what, opening] of Object.entries(openings)) {
      test(`${what} is nobody's conversation, and each that begins with it is found again`, async () => {
        const talks = ['My order is late.', 'Where is my invoice?'].map((question) => {
          const talk = startTalk(sidecar, { 'x-fake-output-tokens': '5' }, { max_tokens: 5 })
          talk.messages.push(...opening)
          return { talk, question }
        })
        const first: string[] = []
        for (const { talk, question } of talks) first.push(conversationOf(await talk.say(question)))
        assert.equal(new Set(first).size, talks.length)
        const second: string[] = []
        for (const { talk } of talks) second.push(conversationOf(await talk.say('Thank you.')))
        assert.deepEqual(second, first)
        for (const { talk } of talks) talk.messages.splice(opening.length + 2)
        const rewound: string[] = []
        for (const { talk } of talks) rewound.push(conversationOf(await talk.say('One thing more.')))
        assert.deepEqual(rewound, first)
      })
    }
  })
})

describe('what names a conversation when nothing does', () => {
  test('Require: nothing, and the request is refused', async () => {
    await sidecar.adopt(configOf({ identity: { fallback: 'Require' } }))
    assertRejected(await ask({}), 400, 'conversation_id_required')
    assert.equal((await ask({ 'x-chat-id': 'named' })).status, 200)
  })

  test('PerRequest: each request is a conversation, with the cap of one', async () => {
    await sidecar.adopt(configOf({ identity: { fallback: 'PerRequest' } }))
    const talk = startTalk(sidecar, { 'x-farebox-tier': 'tiny', 'x-fake-output-tokens': '900' })
    const ids = [
      conversationOf(await talk.say('First.')),
      conversationOf(await talk.say('Second.')),
      conversationOf(await talk.say('Third.')),
    ]
    assert.equal(new Set(ids).size, 3)
    for (const id of ids) assert.equal((await sidecar.standing(id)).turns, 1)
  })

  test('Workload: all requests without an id are one conversation', async () => {
    await sidecar.adopt(configOf({ identity: { fallback: 'Workload' } }))
    const shared = conversationOf(await ask({}))
    assert.equal(conversationOf(await ask({})), shared)
    assert.notEqual(conversationOf(await ask({ 'x-farebox-conversation': 'named by header' })), shared)
    assert.equal((await sidecar.standing(shared)).turns, 2)
    const [ann, bob] = [await ask({ 'x-farebox-user': 'ann' }), await ask({ 'x-farebox-user': 'bob' })].map(conversationOf)
    assert.equal(new Set([shared, ann, bob]).size, 3, 'of each user, where one is known')
    assert.equal(conversationOf(await ask({ 'x-farebox-user': 'ann' })), ann)
    await sidecar.adopt(configOf({}))
  })
})

describe('the user', () => {
  test('that a conversation began with owns it: another is refused, none is taken for the same', async () => {
    const headers = { 'x-farebox-conversation': 'of ann', 'x-farebox-tier': 'team' }
    await ask({ ...headers, 'x-farebox-user': 'ann' })
    const { user } = await sidecar.standing('of ann')
    assert.match(user ?? '', /^[0-9a-f]{32}$/)
    seen = []
    assertRejected(await ask({ ...headers, 'x-farebox-user': 'bob' }), 403, 'identity_rejected')

    // 2,000 tokens are 0.02 of the user's 0.03, which the turn without a user draws on as well.
    assert.equal((await ask({ ...headers, 'x-fake-output-tokens': '2000' }, { max_tokens: 2_000 })).status, 200)
    assert.equal((await sidecar.standing('of ann')).user, user)
    const elsewhere = { 'x-farebox-tier': 'team', 'x-farebox-conversation': 'of ann, too', 'x-farebox-user': 'ann' }
    const clamped = await ask({ ...elsewhere, 'x-fake-output-tokens': '2000' }, { max_tokens: 2_000 })
    assert.equal(clamped.finish, 'length')
    assert.ok(Number(clamped.headers.get('x-farebox-max-output')) < 1_000)
    const spent = (['of ann', 'of ann, too'] as const).map(async (id) => parseUsd((await sidecar.standing(id)).spent))
    assert.ok((await Promise.all(spent)).reduce((sum, cost) => sum + cost, 0n) <= parseUsd(USER_BUDGET.amount))
  })

  test('is named by the first carrier that names one', async () => {
    const carriers: { readonly headers?: Record<string, string>; readonly body?: Body }[] = [
      { headers: { 'x-farebox-user': 'u1' } },
      { body: { safety_identifier: 'u2' } },
      { body: { user: 'u3' } },
      { body: { store: true, metadata: { user_id: 'u4' } } },
    ]
    const users: (string | null)[] = []
    for (const [index] of carriers.entries()) {
      const rest = carriers.slice(index).toReversed()
      const headers = Object.assign({ 'x-farebox-conversation': `user ${index}` }, ...rest.map((carrier) => carrier.headers))
      await ask(headers, Object.assign({}, ...rest.map(({ body }) => body)))
      await ask({ 'x-farebox-conversation': `reference ${index}`, 'x-farebox-user': `u${index + 1}` })
      const { user } = await sidecar.standing(`user ${index}`)
      assert.equal(user, (await sidecar.standing(`reference ${index}`)).user)
      users.push(user)
    }
    assert.equal(new Set(users).size, carriers.length)
  })
})

describe('the tier', () => {
  test('is claimed by header from the allowed ones, and conversations of two tiers are two', async () => {
    const id = { 'x-farebox-conversation': 'in two tiers' }
    const usual = conversationOf(await ask(id))
    const claimed = conversationOf(await ask({ ...id, 'x-farebox-tier': 'team' }))
    assert.notEqual(usual, claimed)
    assert.equal((await sidecar.standing('in two tiers', '?tier=pro')).conversation, usual)
    assert.equal((await sidecar.standing('in two tiers', '?tier=team')).tier, 'team')
    assert.equal((await sidecar.standing('in two tiers')).conversation, claimed, 'the one with the latest turn')
    seen = []
    assertRejected(await ask({ ...id, 'x-farebox-tier': 'gold' }), 403, 'identity_rejected')
  })

  test('is not claimed where no claim is configured, or by another header than that', async () => {
    const { claim: _, ...unclaimed } = configOf({}).tiers
    const { hash: _hash, ...rest } = configOf({})
    await sidecar.adopt({ ...rest, hash: '00000000000000c1', tiers: unclaimed })
    assertRejected(await ask({ 'x-farebox-conversation': 'claims', 'x-farebox-tier': 'team' }), 403, 'identity_rejected')
    await sidecar.adopt(configOf({ tiers: { claim: { header: 'x-plan' } } }))
    assert.equal((await ask({ 'x-farebox-conversation': 'by plan', 'x-plan': 'team' })).status, 200)
    assert.equal((await sidecar.standing('by plan')).tier, 'team')
    await sidecar.adopt(configOf({}))
  })
})

test('pods from before `tier.claim.token` are not cut off by it: they take plain claims until they are replaced', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'farebox-claims-'))
  writeFileSync(join(folder, 'token'), 'token')
  const environment = {
    FAREBOX_OPERATOR: 'https://127.0.0.1:1',
    FAREBOX_OPERATOR_CA: join(folder, 'ca.crt'),
    FAREBOX_TOKEN: join(folder, 'token'),
  }
  const token = { format: 'HMAC' as const }
  const pod = await startSidecar(configOf({}), { environment })
  const say = async (claim: string): Promise<number> =>
    (await startTalk(pod, { 'x-farebox-tier': claim }, { max_tokens: 5 }).say('Hello.')).status
  try {
    assert.equal(await say('team'), 200)
    await pod.adopt(configOf({ tiers: { claim: { header: 'x-farebox-tier', token } } }))
    const soon = Math.floor(Date.now() / 1000) + 600
    assert.deepEqual([await say('team'), await say(`v1;tier=team;exp=${soon};kid=a;sig=AAAA`), await say('gold')], [200, 200, 403])
    await pod.crash()
    assert.deepEqual([await say('team'), await say('gold')], [200, 403])
    const { claim: _, ...unclaimed } = configOf({}).tiers
    const { hash: _hash, ...rest } = configOf({})
    await pod.adopt({ ...rest, hash: '00000000000000c2', tiers: unclaimed })
    await pod.adopt(configOf({ tiers: { claim: { header: 'x-farebox-tier', token } } }))
    assert.equal(await say('team'), 403, 'the last config before took no claim at all')
  } finally {
    await pod.close()
    rmSync(folder, { recursive: true })
  }
})

test('the scope of an id is the namespace, or one budget of it', async () => {
  const headers = { 'x-farebox-conversation': 'shared' }
  for (const [scope, isShared] of [
    ['Namespace', true],
    ['Budget', false],
  ] as const) {
    await sidecar.adopt(configOf({ budget: 'support', identity: { scope } }))
    const first = conversationOf(await ask(headers))
    await sidecar.adopt(configOf({ budget: 'retrieval', identity: { scope } }))
    assert.equal(conversationOf(await ask(headers)) === first, isShared)
    await sidecar.adopt(configOf({ namespace: 'other', budget: 'support', identity: { scope } }))
    assert.notEqual(conversationOf(await ask(headers)), first)
  }
})
