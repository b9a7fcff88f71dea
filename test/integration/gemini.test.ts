/** Gemini's own API through a sidecar, by Google's own client: nothing changes for the app but what it is told, and the books are the provider's bill. */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, beforeEach, describe, test } from 'node:test'
import type { Content, FunctionDeclaration, GenerateContentParameters, GenerateContentResponse } from '@google/genai'
import { ApiError, FunctionCallingConfigMode, GoogleGenAI, Type } from '@google/genai'
import { WORTHLESS_KEY } from '@farebox/crds/cluster.ts'
import type { Contract, SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { formatUsd, parseUsd } from '@farebox/crds/usd.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider, SeenRequest } from '../provider/server.ts'
import { makeConfig, makeContract, makeUpstream } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { talking } from '../support/talk.ts'

const MODEL = 'gemini-2.5-flash'
const SMALLER = 'gemini-2.5-flash-lite'
const THIRD = 'gemini-3-flash-preview'
const NOTICE = 'From here on this chat goes on with a smaller model.'
const WORDS = 'This chat has come to its end.'
const look: FunctionDeclaration = {
  name: 'look_up',
  parameters: { type: Type.OBJECT, properties: { order: { type: Type.STRING } }, required: ['order'] },
}
const tools = [{ functionDeclarations: [look] }]
const callLook = { 'x-fake-tool-call': '[{"name":"look_up","arguments":{"order":"17"}}]' }
/** What a tier sells of a window that is thirty times as large. */
const WINDOW_TOKENS = 32_000
const LADDER: Contract['ladder'] = [
  { atPercent: 4, rung: 'DropRetrieval' },
  { atPercent: 35, rung: 'Summarize' },
  { atPercent: 55, rung: 'DowngradeModel' },
  { atPercent: 75, rung: 'RefuseTools' },
  { atPercent: 100, rung: 'EndConversation', end: 'Close' },
]

let provider: Provider
let sidecar: Sidecar
let seen: SeenRequest[] = []
before(async () => {
  provider = await startProvider({ onRequest: (request) => seen.push(request) })
  sidecar = await startSidecar(configOf('Passthrough'))
})
after(async () => {
  await sidecar.close()
  await provider.close()
})
beforeEach(() => {
  seen = []
  provider.clearCache()
})

function configOf(credential: 'Passthrough' | 'Held'): SidecarConfig {
  const models = {
    allow: [],
    downgrades: [
      { from: MODEL, to: SMALLER },
      { from: THIRD, to: SMALLER },
    ],
    summarizer: SMALLER,
    usefulOutputTokens: 60,
  }
  const contracts = [
    makeContract({ tier: 'plenty', caps: { perConversation: '5.00' } }),
    makeContract({
      tier: 'ladder',
      caps: { perConversation: '0.012' },
      context: { overflow: 'DropOldest', keepRecentTurns: 2 },
      models,
      ladder: LADDER,
    }),
    makeContract({
      tier: 'window',
      caps: { perConversation: '20.00' },
      context: { windowTokens: WINDOW_TOKENS, overflow: 'Summarize', keepRecentTurns: 3, summarizeAfterPercent: 70 },
      models: { ...models, downgrades: [] },
    }),
    makeContract({ tier: 'small', caps: { perConversation: '0.004' }, models: { ...models, downgrades: [] } }),
    makeContract({ tier: 'thinking', caps: { perConversation: '0.09' } }),
    makeContract({
      tier: 'closing',
      caps: { perConversation: '0.004' },
      models: { ...models, downgrades: [] },
      ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Close' }],
      notices: { mode: 'HeadersOnly', texts: { End: { en: WORDS } }, defaultLocale: 'en' },
    }),
    makeContract({
      tier: 'spoken',
      models,
      ladder: [
        { atPercent: 0, rung: 'DowngradeModel' },
        { atPercent: 100, rung: 'EndConversation', end: 'Close' },
      ],
      notices: { mode: 'Inline', texts: { DowngradeModel: { en: NOTICE } }, defaultLocale: 'en' },
    }),
  ]
  return makeConfig(provider.url, contracts, {
    retrieval: { toolNames: ['look_up'], tags: ['context'] },
    upstreams: [makeUpstream({ name: 'gemini', provider: 'google', baseUrl: provider.url, credential })],
  })
}

function client(headers: Record<string, string> = {}, apiKey = 'a-key-of-the-app'): GoogleGenAI {
  return new GoogleGenAI({ apiKey, httpOptions: { baseUrl: `${sidecar.url}/gemini`, headers } })
}
function direct(headers: Record<string, string> = {}): GoogleGenAI {
  return new GoogleGenAI({ apiKey: 'a-key-of-the-app', httpOptions: { baseUrl: provider.url, headers } })
}

const ask: GenerateContentParameters = { model: MODEL, contents: 'How are you?' }

describe('the same answers as without a sidecar', () => {
  // oxfmt-ignore
  const cases: readonly [string, GenerateContentParameters, Record<string, string>][] = [
    ['in words', ask, {}],
    ['with thoughts', { ...ask, config: { thinkingConfig: { includeThoughts: true, thinkingBudget: 512 } } }, { 'x-fake-reasoning-tokens': '128' }],
    ['with a call', { ...ask, model: THIRD, config: { tools } }, callLook],
    ['with a forced call', { ...ask, config: { tools, toolConfig: { functionCallingConfig: { mode: FunctionCallingConfigMode.ANY } } } }, {}],
    ['by a schema', { ...ask, config: { responseMimeType: 'application/json', responseSchema: { type: Type.OBJECT, properties: { ok: { type: Type.BOOLEAN } }, required: ['ok'] } } }, {}],
    ['within a bound', { ...ask, config: { maxOutputTokens: 25 } }, { 'x-fake-output-tokens': '90', 'x-fake-reasoning-tokens': '0' }],
    ['twice', { ...ask, config: { candidateCount: 2, thinkingConfig: { thinkingBudget: 0 } } }, {}],
    ['under an instruction', { ...ask, config: { systemInstruction: 'Be brief.', temperature: 0.2, stopSequences: ['zzz'] } }, {}],
  ]
  for (const [name, params, headers] of cases) {
    test(name, async () => {
      const id = `same ${name}`
      const expected = await direct(headers).models.generateContent(params)
      const answer = await client(talking(id, 'plenty', headers)).models.generateContent(params)
      assert.deepEqual(essence(answer), essence(expected))
      const chunks = await collect(client(talking(`${id}, streamed`, 'plenty', headers)), params)
      assert.deepEqual(chunks.map(essence), (await collect(direct(headers), params)).map(essence))
      await provider.settled()
      await sidecar.idle()
      const spent = parseUsd((await sidecar.standing(id, '?tier=plenty')).spent)
      const spentStreamed = parseUsd((await sidecar.standing(`${id}, streamed`, '?tier=plenty')).spent)
      assert.equal(spent, provider.bill.totalNanoUsd(id))
      assert.equal(spentStreamed, spent, 'a stream costs what the whole answer costs')
    })
  }

  test('a stream that is a list, not events', async () => {
    const body = JSON.stringify({ contents: [{ parts: [{ text: 'How are you?' }] }] })
    const send = async (base: string, headers: Record<string, string>): Promise<unknown> => {
      const response = await fetch(`${base}/v1beta/models/${MODEL}:streamGenerateContent`, {
        method: 'POST',
        headers: { 'x-goog-api-key': 'app', 'content-type': 'application/json', ...headers },
        body,
      })
      assert.equal(response.status, 200)
      return response.json()
    }
    const through = (await send(`${sidecar.url}/gemini`, talking('list', 'plenty'))) as GenerateContentResponse[]
    assert.deepEqual(through.map(essence), ((await send(provider.url, {})) as GenerateContentResponse[]).map(essence))
    await sidecar.idle()
    assert.equal(parseUsd((await sidecar.standing('list', '?tier=plenty')).spent), provider.bill.totalNanoUsd('list'))
  })

  test('of calls that cost nothing', async () => {
    assert.deepEqual(
      (await client().models.countTokens({ model: MODEL, contents: 'Hello' })).totalTokens,
      (await direct().models.countTokens({ model: MODEL, contents: 'Hello' })).totalTokens,
    )
    assert.equal((await client().models.get({ model: MODEL })).name, `models/${MODEL}`)
    const names = []
    for await (const { name } of await client().models.list()) names.push(name)
    assert.ok(names.includes(`models/${THIRD}`))
  })

  test('and what is changed is the bound alone: every other byte is the app’s', async () => {
    const body = '{ "contents" : [ {"parts":[{"text":"Hi \\u00e9"}]} ],\n"generation_config":{ "temperature" : 0.5 , "top_k":3 } }'
    const response = await fetch(`${sidecar.url}/gemini/v1beta/models/${MODEL}:generateContent?key=app`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...talking('bytes', 'plenty') },
      body,
    })
    assert.equal(response.status, 200)
    const limit = response.headers.get('x-farebox-max-output')
    assert.equal(seen.at(-1)?.body.toString(), body.replace('"top_k":3 }', `"top_k":3,"maxOutputTokens":${limit} }`))
  })
})

test('where little is left, less is thought, so that there are words', async () => {
  const headers = talking('thinking', 'thinking', { 'x-fake-reasoning-tokens': '20000', 'x-fake-output-tokens': '20100' })
  const config = { thinkingConfig: { thinkingBudget: 24_576 }, maxOutputTokens: 60_000 }
  const answer = await client(headers).models.generateContent({ model: 'gemini-2.5-pro', contents: 'Hello.', config })
  const { maxOutputTokens, thinkingConfig } = (JSON.parse(seen.at(-1)?.body.toString() ?? '') as { generationConfig: typeof config })
    .generationConfig
  assert.ok(maxOutputTokens < 20_000, `${maxOutputTokens}`)
  assert.equal(thinkingConfig.thinkingBudget, maxOutputTokens - 256)
  assert.ok((answer.text ?? '').length > 0)
  await provider.settled()
  await sidecar.idle()
  assert.equal(parseUsd((await sidecar.standing('thinking', '?tier=thinking')).spent), provider.bill.totalNanoUsd('thinking'))
})

describe('the key', () => {
  test('goes on where the app put it, and stands in no log', async () => {
    const secret = 'AIza-this-is-a-secret'
    await client({}, secret).models.generateContent(ask)
    assert.equal(seen.at(-1)?.headers['x-goog-api-key'], secret)
    const response = await fetch(`${sidecar.url}/gemini/v1beta/models/${MODEL}:generateContent?key=${secret}`, {
      method: 'POST',
      body: JSON.stringify({ contents: [{ parts: [{ text: 'Hi' }] }] }),
    })
    assert.equal(response.status, 200)
    assert.equal(seen.at(-1)?.search, `?key=${secret}`)
    await fetch(`${sidecar.url}/gemini/v1beta/cachedContents?key=${secret}`)
    assert.ok(!sidecar.log().includes(secret))
  })

  test('that is held takes the place of the app’s, in a header as in the query', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'farebox-keys-'))
    mkdirSync(join(folder, 'keys'))
    writeFileSync(join(folder, 'keys', 'gemini'), 'the-real-key')
    const held = await startSidecar(configOf('Held'), {
      environment: { FAREBOX_CREDENTIALS: join(folder, 'keys'), FAREBOX_LOG_LEVEL: 'debug' },
    })
    try {
      const genai = new GoogleGenAI({ apiKey: WORTHLESS_KEY, httpOptions: { baseUrl: `${held.url}/gemini` } })
      await genai.models.generateContent(ask)
      assert.deepEqual([seen.at(-1)?.headers['x-goog-api-key'], seen.at(-1)?.search], ['the-real-key', ''])
      for (const path of [`${MODEL}:generateContent?key=app`, `${MODEL}:countTokens?key=app`]) {
        const response = await fetch(`${held.url}/gemini/v1beta/models/${path}`, {
          method: 'POST',
          body: JSON.stringify({ contents: [{ parts: [{ text: 'Hi' }] }] }),
        })
        assert.equal(response.status, 200, path)
        assert.deepEqual([seen.at(-1)?.headers['x-goog-api-key'], seen.at(-1)?.search], ['the-real-key', ''])
      }
      assert.ok(!held.log().includes('the-real-key'))
      // A pod keeps the worthless key that it started with, when its owner lets the app's own pass.
      await held.adopt(configOf('Passthrough'))
      await genai.models.generateContent(ask)
      assert.deepEqual([seen.at(-1)?.headers['x-goog-api-key'], seen.at(-1)?.search], ['the-real-key', ''])
      await fetch(`${held.url}/gemini/v1beta/models?key=${WORTHLESS_KEY}`)
      assert.deepEqual([seen.at(-1)?.headers['x-goog-api-key'], seen.at(-1)?.search], ['the-real-key', ''])
      await fetch(`${held.url}/gemini/v1beta/models?key=its-own`)
      assert.deepEqual([seen.at(-1)?.headers['x-goog-api-key'], seen.at(-1)?.search], [undefined, '?key=its-own'])
    } finally {
      await held.close()
      rmSync(folder, { recursive: true, force: true })
    }
  })
})

describe('the ladder', () => {
  test('every rung comes, every request passes the provider’s strict checks, and the bill stays below the budget', async () => {
    const rungs = new Set<string>()
    const models = new Set<string>()
    for (const model of [MODEL, THIRD]) {
      for (const stream of [false, true]) {
        const id = `ladder ${model} ${stream ? 'streamed' : 'plain'}`
        provider.bill.clear()
        const contents: Content[] = []
        let closed = false
        for (let turn = 0; turn < 90 && !closed; turn += 1) {
          contents.push({
            role: 'user',
            parts: [{ text: `<context>${'Facts about orders and parcels. '.repeat(40)}</context>\nQuestion ${turn}?` }],
          })
          for (let step = 0; step < 3 && !closed; step += 1) {
            const more = step === 0 ? callLook : {}
            const mayCall = !rungs.has('RefuseTools') || rungs.size < 4
            const headers = talking(id, 'ladder', {
              'x-fake-output-tokens': '120',
              'x-fake-reasoning-tokens': '64',
              ...(mayCall ? more : {}),
            })
            const answer = await say(
              client(await withoutRefused(id, headers)),
              { model, contents, config: { systemInstruction: 'You help with orders.', tools } },
              stream,
            )
            rungs.add(answer.headers['x-farebox-rung'] ?? '')
            closed = answer.headers['x-farebox-synthetic'] === 'true'
            contents.push(...answer.contents)
            if (answer.calls.length === 0) break
            contents.push({
              role: 'user',
              parts: answer.calls.map(({ id: callId, name }) => ({
                functionResponse: {
                  ...(callId === undefined ? {} : { id: callId }),
                  name: name ?? '',
                  response: { output: 'It is in Rotterdam. '.repeat(30) },
                },
              })),
            })
          }
          await sidecar.idle()
        }
        assert.ok(closed, `${id} came to its end`)
        await provider.settled()
        const billed = provider.bill.totalNanoUsd() // its summaries too, which carry no tag
        const { spent, held, budget } = await sidecar.standing(id, '?tier=ladder')
        for (const { model: served } of provider.bill.lines()) models.add(served)
        assert.ok(billed <= parseUsd(budget), `${id}: billed ${formatUsd(billed)} of ${budget}`)
        assert.equal(parseUsd(spent), billed, id)
        assert.equal(held, '0.00')
      }
    }
    assert.deepEqual(
      ['DropRetrieval', 'Summarize', 'DowngradeModel', 'RefuseTools', 'EndConversation'].filter((rung) => !rungs.has(rung)),
      [],
    )
    assert.deepEqual([...models].toSorted(), [MODEL, SMALLER, THIRD])
    assert.ok(
      seen.some(({ body }) => body.includes('summarised by farebox')),
      'a summary took the place of old turns',
    )
    assert.ok(seen.some(({ body }) => body.includes('[retrieved context omitted: budget]')))
    assert.ok(seen.some(({ body }) => body.includes('"mode":"NONE"')))
  })

  for (const stream of [false, true]) {
    const how = stream ? 'streamed' : 'plain'
    test(`a notice stands after the answer, once, and is taken out of the history (${how})`, async () => {
      const id = `notice ${how}`
      const headers = talking(id, 'spoken', { 'x-fake-content': encodeURIComponent('It is in Rotterdam.') })
      const cut = await say(client(headers), { ...ask, config: { systemInstruction: 'Be brief.', stopSequences: ['zzz'] } }, stream)
      assert.equal(cut.text, 'It is in Rotterdam.', 'not where the app ends answers at words of its own')
      const first = await say(client(headers), { ...ask, config: { systemInstruction: 'Be brief.', stopSequences: [] } }, stream)
      assert.equal(first.text, `It is in Rotterdam.\n\n---\n${NOTICE}`)
      assert.equal(first.headers['x-farebox-rung'], 'DowngradeModel')
      const contents: Content[] = [
        { role: 'user', parts: [{ text: 'How are you?' }] },
        ...first.contents,
        { role: 'user', parts: [{ text: 'And now?' }] },
      ]
      const second = await say(client(headers), { model: MODEL, contents, config: { systemInstruction: 'Be brief.' } }, stream)
      assert.equal(second.text, 'It is in Rotterdam.', 'it is told once')
      assert.ok(!seen.some(({ body }) => body.includes(NOTICE)), 'the model never reads it')
      assert.ok(
        seen.every(({ path }) => path.includes(SMALLER)),
        'the path names the model that serves',
      )
      await sidecar.idle()
      assert.equal(parseUsd((await sidecar.standing(id, '?tier=spoken')).spent), provider.bill.totalNanoUsd(id))
    })
  }
})

// `test/long` plays all of it with the other one, plain.
for (const { model, turns, sentences, hows } of [
  { model: MODEL, turns: 200, sentences: 20, hows: [true, false] },
  { model: THIRD, turns: 40, sentences: 120, hows: [true] },
]) {
  test(`${turns} turns go through a window of 32,000 tokens without one refusal (${model})`, async () => {
    provider.bill.clear()
    const id = `window ${model}`
    const contents: Content[] = []
    for (let turn = 0; turn < turns; turn += 1) {
      contents.push({ role: 'user', parts: [{ text: `Question ${turn}? ${'All about orders and parcels. '.repeat(sentences)}` }] })
      for (let step = 0; step < 2; step += 1) {
        const stream = hows[turn % hows.length] === true
        const told: Record<string, string> = turn % 3 === 0 && step === 0 ? callLook : { 'x-fake-output-tokens': '60' }
        const headers = talking(id, 'window', { 'x-fake-reasoning-tokens': '0', ...told })
        const said = await say(client(headers), { model, contents, config: { systemInstruction: 'You help with orders.', tools } }, stream)
        contents.push(...said.contents)
        if (said.calls.length === 0) break
        contents.push({
          role: 'user',
          parts: said.calls.map(({ id: callId, name = '' }) => ({
            functionResponse: {
              ...(callId === undefined ? {} : { id: callId }),
              name,
              response: { output: 'It is in Rotterdam. '.repeat(20) },
            },
          })),
        })
      }
      await sidecar.idle()
    }
    await provider.settled()
    const lines = provider.bill.lines(id)
    assert.ok(lines.length >= turns)
    assert.ok(lines.every(({ promptTokens }) => promptTokens <= WINDOW_TOKENS))
    assert.ok(
      lines.some(({ cachedTokens }) => cachedTokens > WINDOW_TOKENS / 2),
      'between its edits the history is read from the cache',
    )
    assert.ok(seen.some(({ body }) => body.includes('summarised by farebox')))
    assert.equal(parseUsd((await sidecar.standing(id, '?tier=window')).spent), provider.bill.totalNanoUsd())
  })
}

describe('at the cap', () => {
  test('an answer is bounded to what is left, and the next call is refused in one attempt, in Google’s words', async () => {
    const id = 'cap'
    const long = talking(id, 'small', { 'x-fake-output-tokens': '9000', 'x-fake-reasoning-tokens': '0' })
    const answer = await client(long).models.generateContent(ask)
    assert.equal(answer.candidates?.[0]?.finishReason, 'MAX_TOKENS')
    const asked = seen.length
    const before = await refusals()
    const genai = new GoogleGenAI({
      apiKey: 'app',
      httpOptions: { baseUrl: `${sidecar.url}/gemini`, headers: long, retryOptions: { attempts: 3 } },
    })
    for (const attempt of [(): Promise<unknown> => genai.models.generateContent(ask), (): Promise<unknown> => collect(genai, ask)]) {
      await assert.rejects(attempt(), (error: unknown) => {
        assert.ok(error instanceof ApiError)
        assert.equal(error.status, 402)
        const { error: body } = JSON.parse(error.message) as { error: { status: string; code: number; details: { reason: string }[] } }
        assert.deepEqual([body.status, body.code, body.details[0]?.reason], ['RESOURCE_EXHAUSTED', 402, 'CONVERSATION_BUDGET_EXHAUSTED'])
        return true
      })
    }
    assert.equal((await refusals()) - before, 2, 'one attempt each')
    assert.equal(seen.length, asked, 'the provider was not asked')
    await provider.settled()
    assert.ok(provider.bill.totalNanoUsd(id) <= parseUsd('0.004'))
  })

  test('forty calls at once never cost more than the budget', async () => {
    const id = 'burst'
    const headers = talking(id, 'small', { 'x-fake-output-tokens': '300', 'x-fake-reasoning-tokens': '20' })
    const outcomes = await Promise.allSettled(
      Array.from({ length: 40 }, (_, call) => say(client(headers), { ...ask, config: { maxOutputTokens: 400 } }, call % 2 === 0)),
    )
    assert.ok(outcomes.some(({ status }) => status === 'fulfilled'))
    assert.ok(outcomes.some(({ status }) => status === 'rejected'))
    await provider.settled()
    await sidecar.idle()
    const billed = provider.bill.totalNanoUsd(id)
    assert.ok(billed > 0n && billed <= parseUsd('0.004'), formatUsd(billed))
    assert.equal(parseUsd((await sidecar.standing(id, '?tier=small')).spent), billed)
  })

  test('a tier that closes with words gives them as an answer; who needs JSON is refused', async () => {
    const id = 'closing'
    const headers = talking(id, 'closing', { 'x-fake-output-tokens': '9000', 'x-fake-reasoning-tokens': '0' })
    await client(headers).models.generateContent(ask)
    const plain = await client(headers).models.generateContent(ask)
    assert.deepEqual([plain.text, plain.candidates?.[0]?.finishReason, plain.usageMetadata?.totalTokenCount], [WORDS, 'STOP', 0])
    const chunks = await collect(client(headers), ask)
    assert.equal(chunks.map((chunk) => chunk.text).join(''), WORDS)
    const list = await fetch(`${sidecar.url}/gemini/v1beta/models/${MODEL}:streamGenerateContent?key=app`, {
      method: 'POST',
      headers,
      body: JSON.stringify({ contents: [{ parts: [{ text: 'Hi' }] }] }),
    })
    assert.equal(((await list.json()) as GenerateContentResponse[])[0]?.candidates?.[0]?.content?.parts?.[0]?.text, WORDS)
    await assert.rejects(
      client(headers).models.generateContent({ ...ask, config: { responseMimeType: 'application/json' } }),
      (error: unknown) => error instanceof ApiError && error.status === 402,
    )
  })
})

test('an app without ids is known by its history, by the chat of the client as well', async () => {
  for (const stream of [false, true]) {
    const chat = client({ 'x-farebox-tier': 'plenty' }).chats.create({ model: THIRD })
    const ids = new Set<string>()
    for (const message of [`My ${stream ? 'first' : 'second'} order?`, 'And the other one?', 'Thank you.']) {
      if (stream)
        for await (const chunk of await chat.sendMessageStream({ message }))
          ids.add(chunk.sdkHttpResponse?.headers?.['x-farebox-conversation'] ?? '')
      else ids.add((await chat.sendMessage({ message })).sdkHttpResponse?.headers?.['x-farebox-conversation'] ?? '')
      await sidecar.idle()
    }
    assert.equal(ids.size, 1, stream ? 'streamed' : 'plain')
    assert.match([...ids][0] ?? '', /^[0-9a-f]{32}$/)
  }
})

test('an app without ids is known by any of several answers to its question', async () => {
  for (const stream of [false, true]) {
    const question: Content = { role: 'user', parts: [{ text: `Two of them, ${stream}.` }] }
    const asked = { model: MODEL, contents: [question], config: { candidateCount: 2, thinkingConfig: { thinkingBudget: 0 } } }
    const { models } = client({ 'x-farebox-tier': 'plenty' })
    const answers = ['', '']
    let first: string | undefined
    for await (const { candidates, sdkHttpResponse } of stream
      ? await models.generateContentStream(asked)
      : [await models.generateContent(asked)]) {
      first ??= sdkHttpResponse?.headers?.['x-farebox-conversation']
      for (const { index = 0, content } of candidates ?? []) answers[index] += content?.parts?.[0]?.text ?? ''
    }
    assert.equal(new Set(answers).size, answers.length)
    await sidecar.idle()
    for (const text of answers) {
      const contents = [question, { role: 'model', parts: [{ text }] }, { role: 'user', parts: [{ text: 'More.' }] }]
      const { sdkHttpResponse } = await models.generateContent({ ...asked, contents })
      assert.equal(sdkHttpResponse?.headers?.['x-farebox-conversation'], first, stream ? 'streamed' : 'plain')
    }
  }
})

test('a reader that leaves is billed for no more than the hold, and the books have at least the bill', async () => {
  const id = 'left'
  const controller = new AbortController()
  const headers = talking(id, 'plenty', { 'x-fake-output-tokens': '400', 'x-fake-reasoning-tokens': '0', 'x-fake-token-delay-ms': '2' })
  const stream = await client(headers).models.generateContentStream({ ...ask, config: { abortSignal: controller.signal } })
  let seenText = 0
  await assert.rejects(async () => {
    for await (const chunk of stream) {
      if (chunk.text !== undefined) seenText += 1
      if (seenText === 30) controller.abort()
    }
  })
  await provider.settled()
  await sidecar.idle()
  const spent = parseUsd((await sidecar.standing(id, '?tier=plenty')).spent)
  assert.ok(provider.bill.totalNanoUsd(id) <= spent)
})

describe('answers that go wrong', () => {
  // oxfmt-ignore
  const troubles: readonly [string, Record<string, string>, boolean][] = [
    ['without a usage', { 'x-fake-usage': 'omit' }, true],
    ['that are broken', { 'x-fake-malformed': 'true' }, false],
    ['that are cut', { 'x-fake-output-tokens': '80', 'x-fake-cut-after-tokens': '30', 'x-fake-cut-mid-chunk': 'true' }, false],
    ['that fail on the way', { 'x-fake-output-tokens': '80', 'x-fake-error-after-tokens': '20' }, false],
  ]
  for (const [name, headers, isAnswered] of troubles) {
    for (const stream of [false, true]) {
      test(`${name} are never entered below the bill (${stream ? 'streamed' : 'plain'})`, async () => {
        const id = `${name} ${stream}`
        const said = say(
          client(talking(id, 'plenty', { 'x-fake-reasoning-tokens': '0', ...headers })),
          { ...ask, config: { maxOutputTokens: 200 } },
          stream,
        )
        if (isAnswered) await said
        else await assert.rejects(said)
        await provider.settled()
        await sidecar.idle()
        const { spent, held } = await sidecar.standing(id, '?tier=plenty')
        const isFree = name === 'that fail on the way' && !stream // a 500 is not billed
        if (isFree) assert.equal(spent, '0.00')
        else assert.ok(parseUsd(spent) >= provider.bill.totalNanoUsd(id) && parseUsd(spent) < parseUsd('0.01'), spent)
        assert.equal(held, '0.00')
      })
    }
  }
})

test('embeddings of one text and of many are booked as they are billed, told or not', async () => {
  for (const [id, contents, headers] of [
    ['one text', 'Which lamps are green?', {}],
    ['many texts', ['Which lamps are green?', 'And which are blue?'], {}],
    ['untold', ['Which lamps are green?'], { 'x-fake-usage': 'omit' }],
  ] as const) {
    const genai = new GoogleGenAI({
      apiKey: 'app',
      httpOptions: { baseUrl: `${sidecar.url}/gemini`, headers: talking(id, 'small', headers) },
    })
    const { embeddings } = await genai.models.embedContent({
      model: 'gemini-embedding-001',
      contents: typeof contents === 'string' ? contents : [...contents],
    })
    assert.equal(embeddings?.length, typeof contents === 'string' ? 1 : contents.length)
    const spent = parseUsd((await sidecar.standing(id, '?tier=small')).spent)
    const billed = provider.bill.totalNanoUsd(id)
    assert.ok(billed > 0n)
    assert.ok(id === 'untold' ? spent > billed : spent === billed, `${id}: ${spent} of ${billed}`)
  }
})

test('the priority that Vertex is asked for by a header is held for at its price, like that of the body', async () => {
  const path = `/gemini/v1/projects/p/locations/global/publishers/google/models/${MODEL}:generateContent`
  const bound = async (id: string, headers: Record<string, string>, more: object = {}): Promise<number> => {
    const response = await fetch(`${sidecar.url}${path}`, {
      method: 'POST',
      headers: { ...talking(id, 'small', { 'x-fake-output-tokens': '20' }), 'x-goog-api-key': 'app', ...headers },
      body: JSON.stringify({
        contents: [{ role: 'user', parts: [{ text: 'Hi' }] }],
        generationConfig: { maxOutputTokens: 1_500 },
        ...more,
      }),
    })
    await response.text()
    const sent = JSON.parse(seen.at(-1)?.body.toString() ?? '') as { generationConfig: { maxOutputTokens: number } }
    return sent.generationConfig.maxOutputTokens
  }
  const plain = { serviceTier: 'standard' } // of as many bytes
  assert.equal(await bound('no header', {}, plain), 1_500)
  const asked = await bound('priority by a header', { 'X-Vertex-AI-LLM-Shared-Request-Type': 'priority' }, plain)
  assert.ok(asked < 1_500, `${asked}`)
  assert.equal(asked, await bound('priority by the body', {}, { serviceTier: 'priority' }))
})

test('what cannot be metered is refused by its name, and malformed requests in Google’s words', async () => {
  const refused = async (path: string, body: object | string, method = 'POST'): Promise<{ status: number; message: string }> => {
    const response = await fetch(`${sidecar.url}/gemini${path}`, {
      method,
      headers: { 'x-goog-api-key': 'app' },
      ...(method === 'GET' ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    })
    const json = (await response.json()) as { error: { message: string; status: string; code: number } }
    assert.equal(json.error.code, response.status)
    return { status: response.status, message: json.error.message }
  }
  const contents = [{ parts: [{ text: 'Hi' }] }]
  // oxfmt-ignore
  const ungoverned: readonly [string, string, object][] = [
    ['/v1beta/cachedContents', 'cachedContents', {}],
    ['/upload/v1beta/files', 'files', {}],
    [`/v1beta/models/${MODEL}:batchGenerateContent`, 'batchGenerateContent', {}],
    [`/v1beta/models/${MODEL}:asyncBatchEmbedContent`, 'asyncBatchEmbedContent', {}],
    [`/v1beta/models/${MODEL}:bidiGenerateContent`, 'bidiGenerateContent', {}],
    ['/v1beta/openai/chat/completions', 'openai', {}],
  ]
  for (const [path, name, body] of ungoverned) {
    const answer = await refused(path, body)
    assert.equal(answer.status, 403, path)
    assert.match(answer.message, new RegExp(`^"${name}" is not metered here`))
  }
  const cached = await refused(`/v1beta/models/${MODEL}:generateContent`, { contents, cachedContent: 'cachedContents/1' })
  assert.deepEqual([cached.status, /cached content/.test(cached.message)], [403, true])
  for (const body of [
    '{',
    '[]',
    {},
    { contents: [{ role: 'assistant', parts: [] }] },
    { contents, generationConfig: { maxOutputTokens: 0 } },
    { contents, generationConfig: {}, generation_config: {} },
  ])
    assert.equal((await refused(`/v1beta/models/${MODEL}:generateContent`, body)).status, 400, JSON.stringify(body))
  const unknown = await fetch(`${sidecar.url}/gemini/v1beta/models/${MODEL}:generateContent?key=app`, {
    method: 'POST',
    body: JSON.stringify({ contents, mood: 'good' }),
  })
  assert.match(await unknown.text(), /Unknown name \\"mood\\"/, 'the provider judges what we do not know')
})

/** Under `RefuseTools` the fake must not be told to call: it would have to refuse. */
async function withoutRefused(id: string, headers: Record<string, string>): Promise<Record<string, string>> {
  const standing = await sidecar.getJson(`/farebox/v1/conversations/${encodeURIComponent(id)}?tier=ladder`).catch(() => null)
  const rung = typeof standing === 'object' && standing !== null && 'rung' in standing ? standing.rung : null
  if (rung !== 'RefuseTools' && rung !== 'EndConversation') return headers
  const { 'x-fake-tool-call': _told, ...rest } = headers
  return rest
}

interface Said {
  readonly text: string
  readonly headers: Readonly<Record<string, string>>
  readonly contents: readonly Content[]
  readonly calls: NonNullable<GenerateContentResponse['functionCalls']>
}

async function say(genai: GoogleGenAI, params: GenerateContentParameters, stream: boolean): Promise<Said> {
  const chunks = stream ? await collect(genai, params) : [await genai.models.generateContent(params)]
  return {
    text: chunks.map(textOf).join(''),
    headers: chunks[0]?.sdkHttpResponse?.headers ?? {},
    contents: chunks.flatMap((chunk) => chunk.candidates?.[0]?.content ?? []).filter((content) => (content.parts ?? []).length > 0),
    calls: chunks.flatMap((chunk) => chunk.functionCalls ?? []),
  }
}

/** As `text` of the response, which warns of calls beside it. */
function textOf({ candidates }: GenerateContentResponse): string {
  return (candidates?.[0]?.content?.parts ?? []).map(({ text, thought }) => (thought === true ? '' : (text ?? ''))).join('')
}

async function collect(genai: GoogleGenAI, params: GenerateContentParameters): Promise<GenerateContentResponse[]> {
  const chunks = []
  for await (const chunk of await genai.models.generateContentStream(params)) chunks.push(chunk)
  return chunks
}

/** All but what differs from call to call. */
function essence(response: GenerateContentResponse): object {
  const { responseId: _id, sdkHttpResponse: _http, ...rest } = response
  return JSON.parse(JSON.stringify(rest, (key, value: unknown) => (key === 'id' ? undefined : value))) as object
}

async function refusals(): Promise<number> {
  const found = /farebox_refusals_total\{[^}]*conversation_budget_exhausted[^}]*\} (\d+)/.exec(await sidecar.metrics())
  return Number(found?.[1] ?? 0)
}
