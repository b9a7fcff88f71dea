/** What users read when something changes for them: once, in the owner's words and their language, and never by the model. */
import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Contract, SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { formatUsd } from '@farebox/crds/usd.ts'
import type OpenAI from 'openai'
import { startProvider } from '../provider/server.ts'
import type { Provider, SeenRequest } from '../provider/server.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { startTalk } from '../support/talk.ts'
import type { Said, Talk } from '../support/talk.ts'

const ENGLISH = 'From here on this chat goes on with a smaller model.'
const GERMAN = 'Ab hier geht dieses Gespräch mit einem kleineren Modell weiter.'
const FRAME = '\n\n---\n'
const ANSWER = 'Order 17 is in Rotterdam.'
const TOOLS: OpenAI.ChatCompletionTool[] = [{ type: 'function', function: { name: 'look_up', parameters: { type: 'object' } } }]

function tier(name: string, notices: Partial<Contract['notices']>): Contract {
  return makeContract({
    tier: name,
    displayName: 'Gold',
    models: { allow: [], downgrades: [{ from: 'gpt-4o', to: 'gpt-4o-mini' }] },
    ladder: [
      { atPercent: 1, rung: 'DowngradeModel' },
      { atPercent: 100, rung: 'EndConversation', end: 'Close' },
    ],
    notices: { mode: 'Inline', texts: {}, defaultLocale: 'en', ...notices },
  })
}

let provider: Provider
let sidecar: Sidecar
let seen: SeenRequest[] = []
/** What calls that came to the provider wait for before they are answered. */
let held: Promise<void> | null = null
before(async () => {
  provider = await startProvider({
    onRequest: (request) => {
      seen.push(request)
      return held
    },
  })
  sidecar = await startSidecar(configOf({}))
})
after(async () => {
  await sidecar.close()
  await provider.close()
})
beforeEach(() => {
  seen = []
  held = null
})

function configOf(parts: Parameters<typeof makeConfig>[2]): SidecarConfig {
  return makeConfig(
    `${provider.url}/v1`,
    [
      tier('spoken', { texts: { DowngradeModel: { en: ENGLISH, de: GERMAN } } }),
      tier('silent', { mode: 'HeadersOnly', texts: { DowngradeModel: { en: ENGLISH } } }),
      tier('wordless', {}),
      makeContract({
        tier: 'seat',
        caps: { perConversation: '1.00', perUser: { amount: '0.02', period: { unit: 'Month', timeZone: 'UTC', anchorDay: 1 } } },
        notices: { mode: 'Inline', texts: { Upgrade: { en: 'You belong on {{tier}}.' } }, defaultLocale: 'en' },
        upgrade: { tier: 'spoken', whenUserExceedsPercent: 30 },
      }),
      makeContract({
        tier: 'quiet-seat',
        caps: { perConversation: '1.00', perUser: { amount: '0.02', period: { unit: 'Month', timeZone: 'UTC', anchorDay: 1 } } },
        notices: { mode: 'Inline', texts: {}, defaultLocale: 'en' },
        upgrade: { tier: 'spoken', whenUserExceedsPercent: 30 },
      }),
      tier('amounts', {
        texts: { DowngradeModel: { en: '{{tier}}: {{remaining}} left after {{percent}} % and turn {{turns}}; {{model}}.' } },
      }),
    ],
    parts,
  )
}

/** A conversation of this tier that steps down a model with its next user turn. */
async function talkAtRung(id: string, tierName: string, headers: Record<string, string> = {}): Promise<Talk> {
  const talk = startTalk(sidecar, { 'x-farebox-conversation': id, 'x-farebox-tier': tierName, ...headers })
  const first = await talk.say('Hello.', { headers: { 'x-fake-output-tokens': '700' } })
  assert.equal(first.headers.get('x-farebox-rung'), 'None')
  return talk
}

/** What the fake is told to answer with. */
function told(content: string): Record<string, string> {
  return { 'x-fake-content': encodeURIComponent(content) }
}

function assertOnRung(said: Said): void {
  assert.equal(said.status, 200)
  assert.equal(said.headers.get('x-farebox-rung'), 'DowngradeModel')
  assert.equal(said.headers.get('x-farebox-reason'), 'threshold')
  assert.match(said.headers.get('x-farebox-percent') ?? '', /^\d+$/)
  assert.match(said.headers.get('x-farebox-conversation') ?? '', /^[0-9a-f]{32}$/)
  assert.match(said.headers.get('x-farebox-contract') ?? '', /^[0-9a-f]{16}$/)
  assert.ok(Number(said.headers.get('x-farebox-max-output')) > 0)
}

function assertUnheard(notice: string): void {
  for (const { body } of seen) assert.ok(!body.toString().includes(notice), 'the provider was sent the notice')
}

test('waits where JSON was asked for in words alone; headers tell of it, and the next answer in prose', async () => {
  const json = '{"order": 17}'
  const talk = await talkAtRung('in words', 'spoken')
  for (const stream of [false, true]) {
    const said = await talk.say('Order 17 as JSON.', { stream, headers: told(json) })
    assertOnRung(said)
    assert.equal(said.text, json)
  }
  assert.ok((await talk.say('Where is it?', { headers: told(ANSWER) })).text.endsWith(ENGLISH))
})

test('waits where an answer was cut off inside a block of code, and follows the next one', async () => {
  const code = `It is:\n\n\`\`\`js\n${'let order = 17\n'.repeat(20)}`
  const talk = await talkAtRung('cut in code', 'spoken')
  for (const stream of [false, true]) {
    const said = await talk.say('Write it.', { stream, headers: told(`${code}\`\`\``), body: { max_tokens: 40 } })
    assertOnRung(said)
    assert.equal(said.finish, 'length')
    assert.ok(code.startsWith(said.text) && said.text.includes('let order'), said.text)
  }
  const whole = await talk.say('All of it.', { headers: told(`${code}\`\`\``) })
  assert.equal(whole.text, `${code}\`\`\`${FRAME}${ENGLISH}`)
})

test('closing words are none of several answers: such a call is refused', async () => {
  const talk = startTalk(sidecar, { 'x-farebox-conversation': 'several', 'x-farebox-tier': 'spoken' })
  await talk.say('Hello.', { headers: told(ANSWER) })
  await sidecar.postJson('/farebox/v1/conversations/several/costs', { cost: '5', label: 'search', operationId: 'all of it' })
  const several = await talk.say('Twice, please.', { body: { n: 2 } })
  assert.deepEqual([several.status, several.code], [402, 'conversation_budget_exhausted'])
  assert.equal((await talk.say('Once?')).headers.get('x-farebox-synthetic'), 'true')
})

for (const stream of [false, true]) {
  const how = stream ? 'streamed' : 'plain'
  test(`stands after the answer, once, and is taken out of the history that comes back (${how})`, async () => {
    const talk = await talkAtRung(`once ${how}`, 'spoken', { 'x-fake-tag': how })
    const usage = stream ? { stream_options: { include_usage: true } } : {}
    const said = await talk.say('Where is order 17?', { stream, headers: told(ANSWER), body: usage })
    assertOnRung(said)
    assert.equal(said.text, `${ANSWER}${FRAME}${ENGLISH}`)
    assert.equal(said.finish, 'stop')
    const next = await talk.say('And order 18?', { stream, headers: told(ANSWER) })
    assertOnRung(next)
    assert.equal(next.text, ANSWER, 'it is told once')
    await talk.say('And order 19?', { stream, headers: told(ANSWER) })

    assertUnheard(ENGLISH)
    const sent = JSON.parse(seen.at(-1)?.body.toString() ?? '') as { readonly messages: readonly { readonly content: string }[] }
    assert.equal(sent.messages.at(3)?.content, ANSWER, 'what the model wrote, to the letter')
    const standing = await sidecar.standing(`once ${how}`)
    assert.equal(standing.spent, formatUsd(provider.bill.totalNanoUsd(how)), 'nobody pays for our words')
  })
}

for (const stream of [false, true]) {
  test(`is told by a later answer where the reader of this one has left (${stream ? 'streamed' : 'plain'})`, async () => {
    await sidecar.adopt(configOf({ onDisconnect: 'Drain' }))
    const id = `left ${stream}`
    const talk = await talkAtRung(id, 'spoken')
    const leaving = new AbortController()
    const calls = seen.length
    const gate = Promise.withResolvers<void>()
    held = gate.promise
    const unread = fetch(`${sidecar.url}/openai/v1/chat/completions`, {
      method: 'POST',
      headers: {
        'x-farebox-conversation': id,
        'x-farebox-tier': 'spoken',
        authorization: 'Bearer test',
        'x-fake-output-tokens': '100',
      },
      body: JSON.stringify({ model: 'gpt-4o', stream, messages: [...talk.messages, { role: 'user', content: 'And order 17?' }] }),
      signal: leaving.signal,
    }).then((answer) => answer.text())
    while (seen.length === calls) await sleep(5)
    leaving.abort()
    await assert.rejects(unread)
    // With the second of these the sidecar has heard of all that came before the first.
    for (let looks = 0; looks < 2; looks++) await sidecar.getJson('/farebox/v1/status')
    held = null
    gate.resolve()
    await sidecar.idle()
    assert.equal((await sidecar.standing(id)).turns, 2, 'the answer was read to its end')
    assert.ok((await talk.say('Are you there?')).text.endsWith(ENGLISH))
    await sidecar.adopt(configOf({}))
  })
}

describe('the language', () => {
  const asked: Record<string, string> = {
    de: GERMAN,
    'de-AT, en;q=0.8': GERMAN,
    'en-GB': ENGLISH,
    'nl, de;q=0.7': GERMAN,
    nl: ENGLISH,
    '*': ENGLISH,
  }
  for (const [accepted, expected] of Object.entries(asked)) {
    test(`for "${accepted}" is ${expected === GERMAN ? 'German' : 'English'}`, async () => {
      const talk = await talkAtRung(`language ${accepted}`, 'spoken', { 'accept-language': accepted })
      assert.equal((await talk.say('Where?', { headers: told(ANSWER) })).text, `${ANSWER}${FRAME}${expected}`)
    })
  }
})

describe('waits for the next answer in prose', () => {
  const occasions: Record<string, Parameters<Talk['say']>[1]> = {
    'structured output': { headers: told('{"answer":"json"}'), body: { response_format: { type: 'json_object' } } },
    'an answer that ends at words of the app': { headers: told(ANSWER), body: { stop: ['\nObservation:'] } },
    'two answers at once': { headers: told(ANSWER), body: { n: 2 } },
    'a tool call': { headers: { 'x-fake-tool-call': 'look_up' }, body: { tools: TOOLS } },
    'a forced tool call': { body: { tools: TOOLS, tool_choice: 'required' } },
  }
  for (const stream of [false, true]) {
    for (const [name, options] of Object.entries(occasions)) {
      test(`${name}, ${stream ? 'streamed' : 'plain'}`, async () => {
        const talk = await talkAtRung(`${name} ${stream}`, 'spoken')
        const said = await talk.say('Answer in json, or by a tool.', { ...options, stream })
        assertOnRung(said)
        assert.ok(!said.text.includes(ENGLISH))
        if (options?.headers?.['x-fake-content'] !== undefined)
          assert.equal(told(said.text)['x-fake-content'], options.headers['x-fake-content'])
        for (const call of said.toolCalls) talk.messages.push({ role: 'tool', tool_call_id: call.id, content: 'Rotterdam' })
        const next =
          said.toolCalls.length > 0 ? talk.goOn({ stream, headers: told(ANSWER) }) : talk.say('And now?', { stream, headers: told(ANSWER) })
        assert.equal((await next).text, `${ANSWER}${FRAME}${ENGLISH}`)
        assertUnheard(ENGLISH)
      })
    }
  }

  for (const stream of [false, true])
    test(`a title, which the app has written beside the chat (${stream ? 'streamed' : 'plain'})`, async () => {
      const id = `title ${stream}`
      const talk = startTalk(sidecar, { 'x-farebox-conversation': id, 'x-farebox-tier': 'spoken' })
      talk.messages.push({ role: 'system', content: 'You are brief.' })
      await talk.say('Hello.', { headers: { 'x-fake-output-tokens': '700' } })
      await sidecar.idle()
      const title = startTalk(sidecar, { 'x-farebox-conversation': id, 'x-farebox-tier': 'spoken' })
      const said = await title.say('Write a title of three words for this chat.', { stream, headers: told('An order') })
      assertOnRung(said)
      assert.equal(said.text, 'An order')
      assert.equal((await talk.say('And now?', { stream, headers: told(ANSWER) })).text, `${ANSWER}${FRAME}${ENGLISH}`)
    })

  for (const stream of [false, true])
    test(`the report of a sub-agent, which is a tool of the chat (${stream ? 'streamed' : 'plain'})`, async () => {
      const id = `sub-agent ${stream}`
      const headers = { 'x-farebox-conversation': id, 'x-farebox-tier': 'spoken' }
      const calls = { headers: { 'x-fake-tool-call': 'look_up' }, body: { tools: TOOLS }, stream }
      const talk = startTalk(sidecar, headers)
      await talk.say('Hello.', { headers: { 'x-fake-output-tokens': '700' } })
      await sidecar.idle()
      const [called] = (await talk.say('Research the market for me.', calls)).toolCalls
      await sidecar.idle()

      const agent = startTalk(sidecar, headers)
      agent.messages.push({ role: 'system', content: 'You are a researcher.' })
      let said = await agent.say('Research: market', calls)
      for (const found of ['Found: 42.', 'Found: 43.']) {
        agent.messages.push({ role: 'tool', tool_call_id: said.toolCalls[0]?.id ?? '', content: found })
        said = await agent.goOn(
          found === 'Found: 42.' ? calls : { stream, headers: told('The market is worth 42.'), body: { tools: TOOLS } },
        )
      }
      assertOnRung(said)
      assert.equal(said.text, 'The market is worth 42.', 'the chat’s model is to read no words of ours')

      talk.messages.push({ role: 'tool', tool_call_id: called?.id ?? '', content: said.text })
      const answer = await talk.goOn({ stream, headers: told(ANSWER), body: { tools: TOOLS } })
      assert.equal(answer.text, `${ANSWER}${FRAME}${ENGLISH}`)
      assertUnheard(ENGLISH)
    })

  test('not a first question that is asked again: the user reads its answer', async () => {
    const talk = await talkAtRung('asked again', 'spoken')
    await sidecar.idle()
    talk.messages.pop()
    assert.equal((await talk.goOn({ headers: told(ANSWER) })).text, `${ANSWER}${FRAME}${ENGLISH}`)
  })

  test('over a crash of the sidecar', async () => {
    const talk = await talkAtRung('crash', 'spoken')
    await talk.say('In json.', { headers: told('{}'), body: { response_format: { type: 'json_object' } } })
    await sidecar.crash()
    assert.equal((await talk.say('And now?', { headers: told(ANSWER) })).text, `${ANSWER}${FRAME}${ENGLISH}`)
    await sidecar.crash()
    assert.equal((await talk.say('And then?', { headers: told(ANSWER) })).text, ANSWER)
    assertUnheard(ENGLISH)
  })
})

describe('silence', () => {
  for (const [name, why] of [
    ['silent', 'HeadersOnly'],
    ['wordless', 'an occasion for which the owner wrote nothing'],
  ] as const) {
    test(why, async () => {
      const talk = await talkAtRung(`silence ${name}`, name)
      for (const stream of [false, true]) {
        const said = await talk.say('Where is order 17?', { stream, headers: told(ANSWER) })
        assertOnRung(said)
        assert.equal(said.text, ANSWER)
      }
    })
  }
})

describe('an upgrade', () => {
  const UPGRADE = 'You belong on Gold.'
  const seat = (id: string, tierName = 'seat'): Talk =>
    startTalk(
      sidecar,
      { 'x-farebox-conversation': id, 'x-farebox-tier': tierName, 'x-farebox-user': `user of ${tierName}` },
      { max_tokens: 700 },
    )

  test('is told once to a user who has used enough of this period, in whichever conversation, over a crash too', async () => {
    const first = seat('seat 1')
    assert.equal((await first.say('Hello.', { headers: { 'x-fake-output-tokens': '700' } })).text.includes(UPGRADE), false, 'not before')
    const structured = { headers: told('{}'), body: { response_format: { type: 'json_object' } as const } }
    assert.equal((await first.say('In json.', structured)).text, '{}')
    await sidecar.crash()
    assert.equal((await first.say('Where?', { headers: told(ANSWER) })).text, `${ANSWER}${FRAME}${UPGRADE}`)
    for (const stream of [false, true]) assert.equal((await first.say('And now?', { stream, headers: told(ANSWER) })).text, ANSWER)
    await sidecar.crash()
    assert.equal((await first.say('And then?', { headers: told(ANSWER) })).text, ANSWER)
    const second = seat('seat 2')
    for (const stream of [true, false]) assert.equal((await second.say('Where?', { stream, headers: told(ANSWER) })).text, ANSWER)
    assertUnheard(UPGRADE)
  })

  test('is not told without the owner’s words', async () => {
    const talk = seat('quiet seat', 'quiet-seat')
    await talk.say('Hello.', { headers: { 'x-fake-output-tokens': '700' } })
    assert.equal((await talk.say('Where?', { headers: told(ANSWER) })).text, ANSWER)
  })
})

test('names an amount where the text asks for one, and keeps placeholders that it does not know', async () => {
  const talk = await talkAtRung('amounts', 'amounts')
  const { text } = await talk.say('Where?', { headers: told(ANSWER), body: { max_tokens: 100 } })
  assert.match(text.slice(ANSWER.length + FRAME.length), /^Gold: \$0\.49 left after 1 % and turn 2; \{\{model\}\}\.$/)
})

test('is taken out of a history that goes on under another id or in another tier, and so are closing words', async () => {
  const talk = await talkAtRung('forked', 'spoken')
  assert.ok((await talk.say('Where is it?', { headers: told(ANSWER) })).text.endsWith(ENGLISH))
  await sidecar.postJson('/farebox/v1/conversations/forked/costs', { cost: '5', label: 'search', operationId: 'all of it' })
  const closing = await talk.say('And order 18?')
  assert.equal(closing.headers.get('x-farebox-synthetic'), 'true')
  for (const [id, tierName] of [
    ['a fork', 'spoken'],
    ['forked', 'wordless'],
  ] as const) {
    const other = startTalk(sidecar, { 'x-farebox-conversation': id, 'x-farebox-tier': tierName })
    other.messages.push(...talk.messages)
    for (const question of ['Going on.', 'And on.']) {
      seen = []
      assert.equal((await other.say(question, { headers: told(ANSWER) })).status, 200)
      assertUnheard(ENGLISH)
      assertUnheard(closing.text)
    }
  }
})
