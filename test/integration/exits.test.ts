/** Every way in which a call can end, as docs/turn.md lists them: settled once, by the provider's own bill. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { request } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { formatUsd, parseUsd } from '@farebox/crds/usd.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider, SeenRequest } from '../provider/server.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { startTalk } from '../support/talk.ts'
import type { Said, SayOptions } from '../support/talk.ts'
import { startUpstream } from '../hostile/upstream.ts'
import type { Upstream } from '../hostile/upstream.ts'

const OUTPUT = 400
const OUTPUT_MAX = 600
/** In our price list, but not served by the fake. */
const UNSERVED = 'gpt-3.5-turbo'
/** What may have been on its way when an answer broke off is taken from the pace of what came. */
const PACED = { 'x-fake-token-delay-ms': '1' }
const SMALLER = 'A smaller model answers from here on.'
/** gpt-4o: 10.00 USD per million output tokens. */
const NANO_PER_OUTPUT_TOKEN = 10_000n

let provider: Provider
let sidecar: Sidecar
let seen: SeenRequest[] = []
/** Takes connections and shakes no hands. */
const silent = createServer((socket) => {
  handshakes.push(socket)
  socket.on('error', () => undefined)
})
const handshakes: Socket[] = []
/** Speaks: the fake provider does not. */
let speaker: Upstream
before(async () => {
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
  speaker = await startUpstream()
  provider = await startProvider({ onRequest: (request) => seen.push(request) })
  sidecar = await startSidecar(await config())
})
after(async () => {
  await sidecar.close()
  await provider.close()
  await speaker.close()
  silent.close()
})

async function config(): Promise<SidecarConfig> {
  const usual = makeConfig(`${provider.url}/v1`, [
    makeContract(),
    makeContract({
      tier: 'down',
      models: { allow: [], downgrades: [{ from: 'gpt-4o', to: UNSERVED }] },
      ladder: [
        { atPercent: 1, rung: 'DowngradeModel' },
        { atPercent: 100, rung: 'EndConversation', end: 'Refuse' },
      ],
    }),
    makeContract({
      tier: 'down-served',
      models: { allow: [], downgrades: [{ from: 'gpt-4o', to: 'gpt-4o-mini' }] },
      ladder: [
        { atPercent: 1, rung: 'DowngradeModel' },
        { atPercent: 100, rung: 'EndConversation', end: 'Refuse' },
      ],
      notices: { mode: 'Inline', texts: { DowngradeModel: { en: SMALLER } }, defaultLocale: 'en' },
    }),
    makeContract({
      tier: 'down-told',
      models: { allow: [], downgrades: [{ from: 'gpt-4o', to: UNSERVED }] },
      ladder: [
        { atPercent: 1, rung: 'DowngradeModel' },
        { atPercent: 100, rung: 'EndConversation', end: 'Refuse' },
      ],
      notices: { mode: 'Inline', texts: { DowngradeModel: { en: SMALLER } }, defaultLocale: 'en' },
    }),
    // Fits no useful answer of gpt-4o, so that the very first turn steps down.
    makeContract({
      tier: 'down-at-once',
      caps: { perConversation: '0.003' },
      models: { allow: [], downgrades: [{ from: 'gpt-4o', to: UNSERVED }] },
      ladder: [
        { atPercent: 90, rung: 'DowngradeModel' },
        { atPercent: 100, rung: 'EndConversation', end: 'Refuse' },
      ],
    }),
  ])
  const [openai] = usual.upstreams
  assert.ok(openai !== undefined)
  return {
    ...usual,
    upstreams: [
      openai,
      { ...openai, name: 'closed', baseUrl: 'http://127.0.0.1:1/v1' },
      { ...openai, name: 'silent', baseUrl: `https://127.0.0.1:${(silent.address() as AddressInfo).port}/v1` },
      { ...openai, name: 'older' },
      { ...openai, name: 'stricter' },
      { ...openai, name: 'speaker', baseUrl: `${speaker.url}/v1` },
      { ...openai, name: 'claude', provider: 'anthropic', baseUrl: `${speaker.url}/v1` },
      { ...openai, name: 'gemini', provider: 'google', baseUrl: provider.url },
      { ...openai, name: 'house', outputLimitField: 'max_tokens' },
    ],
  }
}

/** One turn of a conversation named after the way it ends. Null: the answer broke off. */
async function end(id: string, headers: Record<string, string>, options: SayOptions = {}): Promise<Said | null> {
  const all = { 'x-farebox-conversation': id, 'x-fake-tag': id, 'x-fake-output-tokens': String(OUTPUT), ...headers }
  try {
    return await startTalk(sidecar, all, { max_tokens: OUTPUT_MAX }).say('Tell me more.', options)
  } catch {
    return null
  }
}

interface Books {
  readonly spent: bigint
  readonly billed: bigint
}

/** What the ledger and the provider have of a conversation, when nothing is under way any more. */
async function books(id: string): Promise<Books> {
  await provider.settled()
  for (;;) {
    const { spent, held } = await sidecar.standing(id)
    if (held === '0.00') return { spent: parseUsd(spent), billed: provider.bill.totalNanoUsd(id) }
    await sleep(5)
  }
}

function assertEqualUsd({ spent, billed }: Books): void {
  assert.ok(billed > 0n)
  assert.equal(formatUsd(spent), formatUsd(billed))
}

/** Also an answer that is an error says where the conversation stands. */
function assertTellsState(headers: Headers | undefined): void {
  assert.match(headers?.get('x-farebox-conversation') ?? '', /^[0-9a-f]{32}$/)
  assert.match(headers?.get('x-farebox-percent') ?? '', /^\d+$/)
  assert.equal(headers?.get('x-farebox-rung'), 'None')
}

/** The bill is covered, and at most 15 % and 64 tokens too much is entered. */
function assertCovers({ spent, billed }: Books): void {
  assert.ok(billed > 0n)
  assert.ok(billed <= spent, `billed ${formatUsd(billed)}, entered ${formatUsd(spent)}`)
  assert.ok(spent <= (billed * 115n) / 100n + 64n * NANO_PER_OUTPUT_TOKEN, `entered ${formatUsd(spent)} for ${formatUsd(billed)}`)
}

const WAYS = [
  { how: 'plain', stream: false },
  { how: 'streamed', stream: true },
] as const

for (const { how, stream } of WAYS) {
  describe(`${how}:`, () => {
    test('answered', async () => {
      const said = await end(`answered ${how}`, {}, { stream })
      assert.equal(said?.code, null)
      assertEqualUsd(await books(`answered ${how}`))
    })

    for (const status of [400, 401, 404, 429, 500, 503]) {
      test(`${status} passes, and the hold is given back`, async () => {
        const said = await end(`${status} ${how}`, { 'x-fake-status': String(status), 'x-fake-retry-after': '7' }, { stream })
        assert.equal(said?.status, status)
        assert.equal(said.headers.get('retry-after'), '7')
        assert.notEqual(said.code, 'upstream_unreachable')
        assert.deepEqual(await books(`${status} ${how}`), { spent: 0n, billed: 0n })
        assert.equal((await sidecar.standing(`${status} ${how}`)).turns, 0)
      })
    }

    test('cut before its head: the hold is charged', async () => {
      const said = await end(`no head ${how}`, { 'x-fake-cut-after-tokens': 'headers' }, { stream })
      assert.deepEqual([said?.status, said?.code], [502, 'upstream_unreachable'])
      assert.match(said?.text ?? '', /broke the connection before it answered; it may bill the call/)
      assertTellsState(said?.headers)
      const { spent, billed } = await books(`no head ${how}`)
      assert.ok(billed > 0n && billed <= spent)
      assert.ok(spent >= BigInt(OUTPUT_MAX) * NANO_PER_OUTPUT_TOKEN)
      assert.ok(spent <= BigInt(OUTPUT_MAX + 100) * NANO_PER_OUTPUT_TOKEN)
    })

    for (const tokens of [1, OUTPUT / 2, OUTPUT - 1]) {
      for (const mid of stream ? ['false', 'true'] : ['false']) {
        test(`cut after its head and ${tokens} tokens${mid === 'true' ? ', in the middle of an event' : ''}`, async () => {
          const id = `cut ${how} ${tokens} ${mid}`
          const headers = { 'x-fake-cut-after-tokens': String(tokens), 'x-fake-cut-mid-chunk': mid, ...PACED }
          assert.equal(await end(id, headers, { stream }), null, 'the client sees the cut')
          const entered = await books(id)
          // Half of a plain answer says nothing of when it was cut: its whole length is entered.
          if (stream) assertCovers(entered)
          else assert.ok(entered.billed <= entered.spent)
          assert.ok(entered.spent <= BigInt(OUTPUT_MAX + 100) * NANO_PER_OUTPUT_TOKEN, 'never above the hold')
        })
      }
    }

    test('cut at a dearer service tier: what the answer had yet to say of it, the request did', async () => {
      const headers = { 'x-fake-cut-after-tokens': String(OUTPUT - 1), ...PACED }
      assert.equal(await end(`cut at priority ${how}`, headers, { stream, body: { service_tier: 'priority' } }), null)
      const { spent, billed } = await books(`cut at priority ${how}`)
      assert.ok(billed > BigInt(OUTPUT - 1) * NANO_PER_OUTPUT_TOKEN, 'billed at priority')
      assert.ok(billed <= spent, `billed ${formatUsd(billed)}, entered ${formatUsd(spent)}`)
      assert.ok(spent <= (BigInt(OUTPUT_MAX + 100) * NANO_PER_OUTPUT_TOKEN * 17n) / 10n, 'never above the hold')
    })

    test('usage missing', async () => {
      const said = await end(`no usage ${how}`, { 'x-fake-usage': 'omit' }, { stream })
      assert.equal(said?.code, null)
      assert.equal(said.finish, 'stop')
      const { spent, billed } = await books(`no usage ${how}`)
      assert.ok(billed <= spent, `billed ${formatUsd(billed)}, entered ${formatUsd(spent)}`)
      assert.ok(spent <= BigInt(OUTPUT_MAX + 100) * NANO_PER_OUTPUT_TOKEN, 'never above the hold')
    })

    test('an answer that cannot be read', async () => {
      const said = await end(`malformed ${how}`, { ...PACED, 'x-fake-malformed': 'true' }, { stream })
      if (!stream) assert.equal(said, null)
      const { spent, billed } = await books(`malformed ${how}`)
      assert.ok(billed > 0n && billed <= spent, `billed ${formatUsd(billed)}, entered ${formatUsd(spent)}`)
    })

    test('the connection is refused: nothing is charged', async () => {
      const answer = await fetch(`${sidecar.url}/closed/v1/chat/completions`, {
        method: 'POST',
        headers: { 'x-farebox-conversation': `closed ${how}` },
        body: JSON.stringify({ model: 'gpt-4o', stream, messages: [{ role: 'user', content: 'Anyone there?' }] }),
      })
      assert.deepEqual([answer.status, answer.headers.get('retry-after')], [502, '1'])
      assert.match(await answer.text(), /could not be reached/)
      assertTellsState(answer.headers)
      assert.deepEqual(await books(`closed ${how}`), { spent: 0n, billed: 0n })
    })

    test('the client left while the connection was being made: nothing is charged', async () => {
      const leaving = new AbortController()
      const answer = fetch(`${sidecar.url}/silent/v1/chat/completions`, {
        method: 'POST',
        headers: { 'x-farebox-conversation': `silent ${how}` },
        body: JSON.stringify({ model: 'gpt-4o', stream, messages: [{ role: 'user', content: 'Anyone there?' }] }),
        signal: leaving.signal,
      })
      while (handshakes.length === 0) await sleep(5)
      leaving.abort()
      await assert.rejects(answer)
      await sidecar.idle()
      handshakes.splice(0)
      assert.deepEqual(await books(`silent ${how}`), { spent: 0n, billed: 0n })
    })

    test('with a search of the web, whose fee no usage names', async () => {
      const body = { model: 'gpt-4o-search-preview', web_search_options: {} }
      await end(`searched ${how}`, {}, { stream, body })
      assertEqualUsd(await books(`searched ${how}`))
      await end(`searched, cut ${how}`, { 'x-fake-cut-after-tokens': '200', ...PACED }, { stream, body })
      const { spent, billed } = await books(`searched, cut ${how}`)
      assert.ok(billed > 0n && billed <= spent, `billed ${formatUsd(billed)}, entered ${formatUsd(spent)}`)
    })
  })
}

describe('a stream', () => {
  test('that says its usage with every chunk, whole and cut', async () => {
    await end('cumulative', { 'x-fake-usage': 'cumulative' }, { stream: true })
    assertEqualUsd(await books('cumulative'))
    await end('cumulative, cut', { ...PACED, 'x-fake-usage': 'cumulative', 'x-fake-cut-after-tokens': '200' }, { stream: true })
    assertCovers(await books('cumulative, cut'))
  })

  test('with an error inside', async () => {
    await end('error inside', { ...PACED, 'x-fake-error-after-tokens': '200' }, { stream: true })
    assertCovers(await books('error inside'))
  })

  test('of a reasoning model, cut: what it thought is covered', async () => {
    const headers = { 'x-fake-reasoning-tokens': '300', 'x-fake-cut-after-tokens': '20', 'x-fake-token-delay-ms': '1' }
    const body = { model: 'o4-mini', max_tokens: null, max_completion_tokens: 3_000 }
    await end('thought', headers, { stream: true, body })
    const { spent, billed } = await books('thought')
    assert.ok(billed > 0n && billed <= spent, `billed ${formatUsd(billed)}, entered ${formatUsd(spent)}`)
  })
})

describe('sound and pictures', () => {
  /** All that came of an answer, or as many bytes as the client had when it left. */
  async function ask(path: string, id: string, body: object, headers: Record<string, string> = {}, leaveAfter = Infinity): Promise<number> {
    const leaving = new AbortController()
    const answer = await fetch(`${sidecar.url}${path}`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        'x-farebox-conversation': id,
        'x-fake-tag': id,
        authorization: 'Bearer test',
        ...headers,
      },
      body: JSON.stringify(body),
      signal: leaving.signal,
    })
    assert.equal(answer.status, 200)
    assert.ok(answer.body !== null)
    let bytes = 0
    try {
      for await (const chunk of answer.body as AsyncIterable<Uint8Array>) {
        bytes += chunk.length
        if (bytes >= leaveAfter) leaving.abort()
      }
    } catch {
      return bytes // it was cut, or the client left
    }
    return bytes
  }
  const drawing = { contents: [{ role: 'user', parts: [{ text: 'Draw a cat.' }] }], generationConfig: { maxOutputTokens: 3_000 } }
  const STREAM = '/gemini/v1beta/models/gemini-3-pro-image-preview:streamGenerateContent?alt=sse'
  const WHOLE = '/gemini/v1beta/models/gemini-3-pro-image-preview:generateContent'
  const LARGE = 9 * 1024 * 1024
  const draws = (bytes: number, more: Record<string, string> = {}): Record<string, string> => ({
    'x-fake-picture-bytes': String(bytes),
    'x-fake-output-tokens': '20',
    'x-fake-reasoning-tokens': '0',
    ...more,
  })
  const assertBounds = ({ spent, billed }: Books): void => {
    assert.ok(billed > 0n && billed <= spent, `billed ${formatUsd(billed)}, entered ${formatUsd(spent)}`)
    assert.ok(spent <= parseUsd('0.37'), `at most the hold: ${formatUsd(spent)}`)
  }

  // oxfmt-ignore
  for (const [name, path, bytes] of [['an event', STREAM, LARGE], ['a small event', STREAM, 1_000], ['an answer', WHOLE, 2 * LARGE], ['a small answer', WHOLE, 1_000]] as const) {
    test(`a picture in ${name} is settled by what is said beside it`, async () => {
      const id = `picture in ${name}`
      assert.ok((await ask(path, id, drawing, draws(bytes))) > bytes)
      assertEqualUsd(await books(id))
    })
  }

  for (const [name, path] of [
    ['an event', STREAM],
    ['an answer', WHOLE],
  ] as const) {
    for (const bytes of [1_000_000, LARGE, 2 * LARGE]) {
      test(`the client leaves in the middle of a picture of ${bytes} bytes in ${name}`, async () => {
        const id = `left ${name} ${bytes}`
        await ask(path, id, drawing, draws(bytes), bytes / 2)
        assertBounds(await books(id))
      })

      test(`nobody counts a picture of ${bytes} bytes in ${name}`, async () => {
        const id = `uncounted ${name} ${bytes}`
        await ask(path, id, drawing, draws(bytes, { 'x-fake-usage': 'omit' }))
        assertBounds(await books(id))
      })
    }
  }

  test('of two images the second one breaks off', async () => {
    const body = { model: 'gpt-image-1', prompt: 'A cat', n: 2, quality: 'low', size: '1024x1024', stream: true }
    await ask('/openai/v1/images/generations', 'second image', body, { 'x-fake-cut-after-tokens': '1' })
    const { spent, billed } = await books('second image')
    assert.ok(billed > 0n && billed <= spent, `billed ${formatUsd(billed)}, entered ${formatUsd(spent)}`)
  })

  for (const isCut of [true, false]) {
    test(`a spoken answer, ${isCut ? 'cut' : 'which the client leaves'}`, async () => {
      const id = `spoken, ${isCut ? 'cut' : 'left'}`
      const SECONDS = 30
      /** gpt-audio: 64.00 USD per million tokens of sound, of which a second has 20; and 10.00 for the words. */
      const billed = BigInt(SECONDS) * (20n * 64_000n + 3n * 10_000n)
      const delta = (audio: object): string =>
        `data: ${JSON.stringify({ id: 'a', object: 'chat.completion.chunk', model: 'gpt-audio', choices: [{ index: 0, delta: { audio }, finish_reason: null }] })}\n\n`
      let made = 0
      speaker.answerWith(async (response) => {
        response.writeHead(200, { 'content-type': 'text/event-stream' })
        for (let second = 0; second < SECONDS; second += 1) {
          response.write(delta({ id: 'x', transcript: ' of the sea' }) + delta({ id: 'x', data: 'A'.repeat(64_000) }))
          made += 1
          await sleep(2)
        }
        if (isCut) response.destroy()
      })
      const body = {
        model: 'gpt-audio',
        stream: true,
        modalities: ['text', 'audio'],
        audio: { voice: 'alloy', format: 'pcm16' },
        max_completion_tokens: 5_000,
        messages: [{ role: 'user', content: 'Tell a story.' }],
      }
      await ask('/speaker/v1/chat/completions', id, body, {}, isCut ? Infinity : SECONDS * 64_000)
      assert.equal(made, SECONDS)
      const { spent } = await books(id)
      assert.ok(spent >= billed, `billed ${formatUsd(billed)}, entered ${formatUsd(spent)}`)
      assert.ok(spent <= 2n * billed, `billed ${formatUsd(billed)}, entered ${formatUsd(spent)}`)
    })
  }
})

test('a call to Claude that the client gives up before a word came is booked at the speed that it asked for', async () => {
  const messages = [{ role: 'user', content: 'word '.repeat(4_000) }]
  const entered: bigint[] = []
  for (const speed of ['standard', 'fast']) {
    const leaving = new AbortController()
    speaker.answerWith(async (response) => {
      leaving.abort()
      await once(response, 'close')
    })
    const answer = fetch(`${sidecar.url}/claude/v1/messages`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-farebox-conversation': `given up, ${speed}`, 'x-api-key': 'test' },
      body: JSON.stringify({ model: 'claude-opus-4-7', max_tokens: 600, messages, speed }),
      signal: leaving.signal,
    })
    await assert.rejects(answer)
    await sidecar.idle()
    entered.push((await books(`given up, ${speed}`)).spent)
  }
  const [standard = 0n, fast = 0n] = entered
  assert.ok(standard > 0n && fast >= 5n * standard, `${formatUsd(standard)}, and at six times the price ${formatUsd(fast)}`)
})

describe('what the provider refuses of our changes is tried again without it, once:', () => {
  test('stream_options, and the upstream is remembered', async () => {
    for (const [name, status] of [
      ['older', '400'],
      ['stricter', '422'],
    ] as const) {
      const headers = { 'x-fake-reject-stream-options': status, 'x-farebox-conversation': name, 'x-fake-tag': name }
      const client = sidecar.client(headers)
      client.baseURL = `${sidecar.url}/${name}/v1`
      for (const calls of [2, 1, 1]) {
        seen = []
        const stream = await client.chat.completions.create({
          model: 'gpt-4o',
          stream: true,
          max_tokens: 50,
          messages: [{ role: 'user', content: 'Hello.' }],
        })
        let text = ''
        for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? ''
        assert.ok(text.length > 0)
        assert.equal(seen.length, calls)
        assert.ok(!(seen.at(-1)?.body.toString() ?? '').includes('stream_options'))
      }
      assertCovers(await books(name))
      assert.equal((await sidecar.standing(name)).turns, 3)
    }
    seen = []
    await end('not older', {}, { stream: true })
    assert.match(seen[0]?.body.toString() ?? '', /include_usage/, 'other upstreams are still asked')
    // The owner puts another server under the name: what the one before refused does not count.
    const usual = await config()
    const elsewhere = `${provider.url.replace('127.0.0.1', 'localhost')}/v1`
    const upstreams = usual.upstreams.map((upstream) => (upstream.name === 'older' ? { ...upstream, baseUrl: elsewhere } : upstream))
    await sidecar.adopt({ ...usual, upstreams, hash: '00000000000000e1' })
    seen = []
    const other = sidecar.client({ 'x-farebox-conversation': 'no longer older', 'x-fake-tag': 'no longer older' })
    other.baseURL = `${sidecar.url}/older/v1`
    const stream = await other.chat.completions.create({ model: 'gpt-4o', stream: true, messages: [{ role: 'user', content: 'Hello.' }] })
    for await (const _ of stream);
    assert.match(seen[0]?.body.toString() ?? '', /include_usage/)
  })

  test('stream_options are not to blame for a request that is refused without them as well', async () => {
    seen = []
    const headers = { 'x-fake-reject-stream-options': '400' }
    assert.equal((await end('bad either way', headers, { stream: true, body: { temperature: 9 } }))?.status, 400)
    assert.equal(seen.length, 2)
    seen = []
    assert.equal((await end('bad no more', {}, { stream: true }))?.status, 200)
    assert.match(seen[0]?.body.toString() ?? '', /include_usage/, 'the upstream is still asked')
  })

  test('the field that bounds the output, by model: it is remembered, and the client’s own bound holds in either', async () => {
    const client = sidecar.client({ 'x-farebox-conversation': 'house', 'x-fake-tag': 'house' })
    client.baseURL = `${sidecar.url}/house/v1`
    const ask = async (model: string, own: object, calls: number): Promise<Record<string, unknown>> => {
      seen = []
      await client.chat.completions.create({ model, messages: [{ role: 'user', content: 'Hello.' }], ...own })
      assert.equal(seen.length, calls)
      return JSON.parse(seen.at(-1)?.body.toString() ?? '') as Record<string, unknown>
    }
    const fresh = await ask('o4-mini', {}, 2)
    assert.deepEqual([typeof fresh['max_completion_tokens'], fresh['max_tokens']], ['number', undefined])
    assert.equal((await ask('o4-mini', { max_completion_tokens: 900 }, 1))['max_completion_tokens'], 900)
    const other = await ask('gpt-4o', { max_completion_tokens: 20 }, 1)
    assert.deepEqual([other['max_tokens'], other['max_completion_tokens']], [20, undefined], 'this upstream may not read the other field')
    assertEqualUsd(await books('house'))
  })

  test('a swap of the model, and nobody is told that a smaller one answers', async () => {
    const headers = {
      'x-farebox-conversation': 'untold',
      'x-farebox-tier': 'down-told',
      'x-fake-tag': 'untold',
      'x-fake-output-tokens': '700',
    }
    const talk = startTalk(sidecar, headers)
    await talk.say('First.')
    seen = []
    for (const said of [await talk.say('Next.'), await talk.say('And then?')]) {
      assert.deepEqual([said.headers.get('x-farebox-rung'), said.headers.get('x-farebox-reason')], ['None', null], 'nothing is in effect')
      assert.ok(!said.text.includes(SMALLER), said.text.slice(-80))
    }
    assert.deepEqual(seen.map(modelOf), [UNSERVED, 'gpt-4o', 'gpt-4o'])
    assertEqualUsd(await books('untold'))
  })

  test('a swap of the model: the original answers, and the swap is not tried again in this conversation', async () => {
    const talk = startTalk(sidecar, {
      'x-farebox-conversation': 'swap',
      'x-farebox-tier': 'down',
      'x-fake-tag': 'swap',
      'x-fake-output-tokens': '700',
    })
    const { headers } = await talk.say('First.')
    for (const models of [[UNSERVED, 'gpt-4o'], ['gpt-4o']]) {
      seen = []
      const said = await talk.say('Next.')
      assert.deepEqual([said.status, said.headers.get('x-farebox-rung')], [200, 'None'])
      assert.deepEqual(seen.map(modelOf), models)
    }
    assertEqualUsd(await books('swap'))
    const warnings = sidecar
      .log()
      .split('\n')
      .filter((line) => line.includes('stays with the one') && line.includes(String(headers.get('x-farebox-conversation'))))
    assert.equal(warnings.length, 1, 'once')
    const { level, upstream, model, asked, status, code } = JSON.parse(warnings[0] ?? '{}') as Record<string, unknown>
    assert.deepEqual([level, upstream, model, asked, status, code], [40, 'openai', UNSERVED, 'gpt-4o', 404, 'model_not_found'])
    assert.match(await sidecar.metrics(), /farebox_rung_skipped_total\{rung="DowngradeModel",reason="refused"\} [1-9]/)
  })

  test('a swap to a model that wants users and the assistant to take turns, in a history of the app where they do not', async () => {
    const id = 'two users'
    const headers = { 'x-farebox-conversation': id, 'x-farebox-tier': 'down-served', 'x-fake-tag': id, 'x-fake-output-tokens': '700' }
    const talk = startTalk(sidecar, headers)
    await talk.say('First.')
    talk.messages.push({ role: 'user', content: 'By the way.' })
    seen = []
    assert.equal((await talk.say('Next.', { headers: { 'x-fake-alternate-roles': 'gpt-4o-mini' } })).status, 200)
    assert.deepEqual(seen.map(modelOf), ['gpt-4o-mini', 'gpt-4o'])
    assertEqualUsd(await books(id))
  })

  for (const status of [400, 404]) {
    test(`a swap is not to blame for a request that the original refuses as well (${status})`, async () => {
      const id = `bad request ${status}`
      const headers = { 'x-farebox-conversation': id, 'x-farebox-tier': 'down-served', 'x-fake-tag': id, 'x-fake-output-tokens': '700' }
      const talk = startTalk(sidecar, headers)
      await talk.say('First.')
      seen = []
      assert.equal((await talk.say('Bad.', { headers: { 'x-fake-status': String(status) } })).status, status)
      assert.deepEqual(seen.map(modelOf), ['gpt-4o-mini', 'gpt-4o'])
      seen = []
      const next = await talk.say('Next.')
      assert.equal(next.status, 200)
      assert.deepEqual(seen.map(modelOf), ['gpt-4o-mini'], 'the next turn is swapped')
      assert.ok(next.text.endsWith(SMALLER), 'and its answer says so')
      assertEqualUsd(await books(id))
    })
  }

  test('a swap in the first turn of a conversation that only its history will name', async () => {
    seen = []
    const said = await startTalk(sidecar, { 'x-farebox-tier': 'down-at-once', 'x-fake-tag': 'first swap' }).say('Hello. '.repeat(80))
    assert.deepEqual(seen.map(modelOf), [UNSERVED])
    assert.deepEqual([said.status, said.code], [402, 'conversation_budget_exhausted'], 'the original does not fit')
    const { conversations } = (await sidecar.getJson('/farebox/v1/conversations')) as {
      readonly conversations: readonly { readonly tier: string }[]
    }
    assert.equal(conversations.filter(({ tier }) => tier === 'down-at-once').length, 1)
  })
})

test('a request that a stop finds half sent is answered and booked before the process ends', async () => {
  const body = JSON.stringify({ model: 'gpt-4o', max_tokens: 50, messages: [{ role: 'user', content: 'Hello.' }] })
  const named = { authorization: 'Bearer test', 'x-farebox-conversation': 'stopped', 'x-fake-tag': 'stopped' }
  const headers = { ...named, 'content-length': body.length, expect: '100-continue' }
  const asked = request(`${sidecar.url}/openai/v1/chat/completions`, { method: 'POST', headers })
  asked.flushHeaders()
  await once(asked, 'continue') // the sidecar is reading it
  asked.write(body.slice(0, 20))
  const stopped = sidecar.kill('SIGTERM')
  while (!sidecar.log().includes('sidecar stops')) await sleep(5)
  asked.end(body.slice(20))
  const [answer] = (await once(asked, 'response')) as [IncomingMessage]
  assert.equal(answer.statusCode, 200)
  answer.resume()
  await stopped
  await sidecar.start()
  assertEqualUsd(await books('stopped'))
})

test('each call that was charged is in the ledger once, and its entries come to what the conversations spent', async () => {
  const { conversations } = (await sidecar.getJson('/farebox/v1/conversations?limit=1000')) as {
    readonly conversations: readonly { readonly spent: string; readonly turns: number }[]
  }
  await sidecar.kill('SIGTERM')
  const entries = sidecar.ledger()
  assert.equal(new Set(entries.map(({ operation }) => operation)).size, entries.length)
  assert.deepEqual([...new Set(entries.map(({ kind }) => kind))], ['settlement'])
  assert.equal(
    entries.length,
    conversations.reduce((sum, { turns }) => sum + turns, 0),
  )
  assert.equal(
    formatUsd(entries.reduce((sum, { cost }) => sum + cost, 0n)),
    formatUsd(conversations.reduce((sum, { spent }) => sum + parseUsd(spent), 0n)),
  )
})

function modelOf({ body }: SeenRequest): string {
  return (JSON.parse(body.toString()) as { readonly model: string }).model
}
