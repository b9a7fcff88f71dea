/** Calls that are no talk, through a sidecar, by OpenAI's own client: answers as without it, books as the bill, and the cap holds. */
import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, test } from 'node:test'
import OpenAI, { APIError, AzureOpenAI, toFile } from 'openai'
import { formatUsd, parseUsd } from '@farebox/crds/usd.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider, SeenRequest } from '../provider/server.ts'
import { DEFAULT_DEPLOYMENTS } from '../provider/azure.ts'
import { mp3Of, wavOf } from '../provider/units/audio-file.ts'
import { makeConfig, makeContract, makeUpstream } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { talking } from '../support/talk.ts'

let provider: Provider
let sidecar: Sidecar
let seen: SeenRequest[] = []
before(async () => {
  provider = await startProvider({ onRequest: (request) => seen.push(request) })
  const contracts = [
    makeContract({ tier: 'plenty', caps: { perConversation: '5.00' } }),
    makeContract({ tier: 'small', caps: { perConversation: '0.01' } }),
    makeContract({ tier: 'windowed', caps: { perConversation: '5.00' }, context: { windowTokens: 1_000, overflow: 'Refuse' } }),
    makeContract({
      tier: 'low',
      caps: { perConversation: '5.00' },
      models: { allow: [], downgrades: [{ from: '*', to: 'gpt-4o-mini' }] },
      ladder: [
        { atPercent: 0, rung: 'DowngradeModel' },
        { atPercent: 100, rung: 'EndConversation', end: 'Close' },
      ],
    }),
  ]
  sidecar = await startSidecar(
    makeConfig(`${provider.url}/v1`, contracts, {
      upstreams: [
        makeUpstream({ name: 'openai', provider: 'openai', baseUrl: `${provider.url}/v1` }),
        makeUpstream({
          name: 'azure',
          provider: 'azure',
          baseUrl: provider.url,
          deployments: DEFAULT_DEPLOYMENTS.map((each) => ({ ...each })),
        }),
      ],
    }),
  )
})
after(async () => {
  await sidecar.close()
  await provider.close()
})
beforeEach(() => {
  seen = []
})

function governed(id: string, tier: string): OpenAI {
  return new OpenAI({ apiKey: 'app', baseURL: `${sidecar.url}/openai/v1`, defaultHeaders: talking(id, tier), maxRetries: 2 })
}
function direct(): OpenAI {
  return new OpenAI({ apiKey: 'app', baseURL: `${provider.url}/v1`, maxRetries: 0 })
}

interface Case {
  readonly name: string
  readonly ask: (client: OpenAI) => Promise<unknown>
  /** The provider says nothing of its usage, or the price list has only the dearest: what is settled is a bound. */
  readonly isBound?: true
}

const wav = (): Promise<File> => toFile(wavOf(3.2), 'note.wav')
const mp3 = (): Promise<File> => toFile(mp3Of(5), 'note.mp3')
const speaker = (): string => `data:audio/wav;base64,${wavOf(4).toString('base64')}`
/** Base64 of a picture that is longer than any answer that is kept. */
const LARGE = { headers: { 'x-fake-picture-bytes': String(17 * 1024 * 1024) } }
const ZEROS = { headers: { 'x-fake-usage': 'zeros' } }
const picture = (): Promise<File> => toFile(Buffer.alloc(3_000, 1), 'cat.png')
const diarize: Case['ask'] = async (client) =>
  client.audio.transcriptions.create({
    model: 'gpt-4o-transcribe-diarize',
    file: await wav(),
    known_speaker_names: ['a', 'b', 'c', 'd'],
    known_speaker_references: [speaker(), speaker(), speaker(), speaker()],
  })
const cases: readonly Case[] = [
  {
    name: 'an embedding',
    ask: async (client) => client.embeddings.create({ model: 'text-embedding-3-small', input: 'Where is order 17?' }),
  },
  {
    name: 'many embeddings, as numbers, of texts and tokens',
    ask: async (client) =>
      client.embeddings.create({
        model: 'text-embedding-3-large',
        input: Array.from({ length: 60 }, (_, each) => `Text ${each}`),
        encoding_format: 'float',
      }),
  },
  {
    name: 'an embedding of tokens',
    ask: async (client) =>
      client.embeddings.create({
        model: 'text-embedding-3-small',
        input: [
          [1, 2, 3],
          [40_000, 5],
        ],
      }),
  },
  {
    name: 'a completion',
    ask: async (client) => client.completions.create({ model: 'gpt-3.5-turbo-instruct', prompt: 'Once upon a time' }),
  },
  {
    name: 'the best of many completions',
    ask: async (client) =>
      client.completions.create({
        model: 'gpt-3.5-turbo-instruct',
        prompt: ['Once', 'Twice'],
        n: 2,
        best_of: 3,
        echo: true,
        max_tokens: 40,
      }),
  },
  {
    name: 'a streamed completion',
    ask: async (client) =>
      all(await client.completions.create({ model: 'gpt-3.5-turbo-instruct', prompt: 'Once', max_tokens: 30, stream: true })),
  },
  {
    name: 'a streamed completion with its usage',
    ask: async (client) =>
      all(
        await client.completions.create({
          model: 'gpt-3.5-turbo-instruct',
          prompt: 'Once',
          stream: true,
          stream_options: { include_usage: true },
        }),
      ),
  },
  {
    name: 'images by tokens',
    ask: async (client) => client.images.generate({ model: 'gpt-image-1', prompt: 'A cat', n: 2, quality: 'low', size: '1024x1024' }),
  },
  { name: 'an image of whatever size', ask: async (client) => client.images.generate({ model: 'gpt-image-1-mini', prompt: 'A cat' }) },
  {
    name: 'a streamed image',
    ask: async (client) => all(await client.images.generate({ model: 'gpt-image-1', prompt: 'A cat', stream: true, partial_images: 2 })),
  },
  {
    name: 'several streamed images',
    ask: async (client) => all(await client.images.generate({ model: 'gpt-image-1', prompt: 'A cat', stream: true, n: 3 })),
  },
  {
    name: 'an image that is too large to be kept',
    ask: async (client) => client.images.generate({ model: 'gpt-image-1', prompt: 'A cat', quality: 'low', size: '1024x1024' }, LARGE),
  },
  {
    name: 'a streamed image that is too large to be kept',
    ask: async (client) => all(await client.images.generate({ model: 'gpt-image-1', prompt: 'A cat', stream: true }, LARGE)),
  },
  {
    name: 'embeddings that are too long to be kept',
    ask: async (client) =>
      client.embeddings.create({
        model: 'text-embedding-3-large',
        input: Array.from({ length: 700 }, (_, each) => `Text ${each}`),
        encoding_format: 'float',
      }),
  },
  {
    name: 'an image edited as JSON',
    ask: async (client) =>
      client.post('/images/edits', {
        body: {
          model: 'gpt-image-1',
          prompt: 'A hat',
          images: [{ image_url: `data:image/png;base64,${Buffer.alloc(900_000, 1).toString('base64')}` }],
          quality: 'low',
        },
      }),
  },
  {
    name: 'an edited image',
    ask: async (client) =>
      client.images.edit({ model: 'gpt-image-1', prompt: 'A hat', image: [await picture(), await picture()], input_fidelity: 'high' }),
  },
  { name: 'an image by the piece', isBound: true, ask: async (client) => client.images.generate({ model: 'dall-e-3', prompt: 'A cat' }) },
  {
    name: 'an image by the piece, from a server that says zeros',
    isBound: true,
    ask: async (client) => client.images.generate({ model: 'dall-e-3', prompt: 'A cat', quality: 'hd' }, ZEROS),
  },
  {
    name: 'an image by tokens, from a server that says zeros',
    isBound: true,
    ask: async (client) => client.images.generate({ model: 'gpt-image-1', prompt: 'A cat', quality: 'low', size: '1024x1024' }, ZEROS),
  },
  { name: 'a variation', ask: async (client) => client.images.createVariation({ image: await picture(), n: 2 }) },
  {
    name: 'speech by characters',
    ask: async (client) => spoken(await client.audio.speech.create({ model: 'tts-1', voice: 'alloy', input: 'Your order is on its way.' })),
  },
  {
    name: 'speech by tokens, as events',
    ask: async (client) =>
      client.audio.speech
        .create({ model: 'gpt-4o-mini-tts', voice: 'alloy', input: 'Your order is on its way.', stream_format: 'sse' })
        .then((answer) => answer.text()),
  },
  {
    name: 'speech by tokens, in one piece',
    isBound: true,
    ask: async (client) =>
      spoken(
        await client.audio.speech.create({
          model: 'gpt-4o-mini-tts',
          voice: 'alloy',
          input: 'Your order is on its way, and will be there soon.',
        }),
      ),
  },
  {
    name: 'speech whose length is not read',
    isBound: true,
    ask: async (client) =>
      spoken(await client.audio.speech.create({ model: 'gpt-4o-mini-tts', voice: 'alloy', input: 'Your order.', response_format: 'opus' })),
  },
  {
    name: 'a transcription by seconds',
    ask: async (client) => client.audio.transcriptions.create({ model: 'whisper-1', file: await wav() }),
  },
  {
    name: 'a transcription with times',
    ask: async (client) => client.audio.transcriptions.create({ model: 'whisper-1', file: await mp3(), response_format: 'verbose_json' }),
  },
  {
    name: 'a transcription as text',
    ask: async (client) => client.audio.transcriptions.create({ model: 'whisper-1', file: await wav(), response_format: 'text' }),
  },
  {
    name: 'a transcription by tokens',
    ask: async (client) => client.audio.transcriptions.create({ model: 'gpt-4o-transcribe', file: await mp3(), prompt: 'Orders.' }),
  },
  {
    name: 'a transcription by time that is answered in tokens',
    ask: async (client) => client.audio.transcriptions.create({ model: 'gpt-transcribe', file: await wav() }),
  },
  {
    name: 'a streamed transcription by time that is answered in tokens',
    ask: async (client) => all(await client.audio.transcriptions.create({ model: 'gpt-transcribe', file: await wav(), stream: true })),
  },
  { name: 'a transcription of speakers that are known', ask: diarize },
  {
    name: 'a streamed transcription',
    ask: async (client) =>
      all(await client.audio.transcriptions.create({ model: 'gpt-4o-mini-transcribe', file: await wav(), stream: true })),
  },
  {
    name: 'a transcription of a file that cannot be read',
    ask: async (client) =>
      client.audio.transcriptions.create({ model: 'whisper-1', file: await toFile(Buffer.alloc(9_000, 3), 'note.webm') }),
  },
  { name: 'a translation', ask: async (client) => client.audio.translations.create({ model: 'whisper-1', file: await wav() }) },
]

describe('the same answer as without a sidecar, and the bill in the books', () => {
  for (const { name, ask, isBound } of cases) {
    test(name, async () => {
      const answer = await ask(governed(name, 'plenty'))
      assert.deepEqual(essence(answer), essence(await ask(direct())))
      await provider.settled()
      await sidecar.idle()
      const billed = provider.bill.totalNanoUsd(name)
      const { spent, held } = await sidecar.standing(name, '?tier=plenty')
      assert.ok(billed > 0n)
      if (isBound === true) assert.ok(parseUsd(spent) >= billed && parseUsd(spent) <= billed * 8n, `${spent} of ${formatUsd(billed)}`)
      else assert.equal(parseUsd(spent), billed)
      assert.equal(held, '0.00')
    })
  }

  test('moderations pass and cost nothing', async () => {
    const answer = await governed('moderated', 'plenty').moderations.create({ input: 'Hello' })
    assert.equal(answer.results[0]?.flagged, false)
    assert.equal(await sidecar.getJson('/farebox/v1/conversations/moderated?tier=plenty').catch(() => null), null)
  })

  test('an answer without a usage is settled by what was held', async () => {
    for (const model of ['gpt-image-1', 'gpt-image-1-mini']) {
      const id = `silent ${model}`
      await governed(id, 'plenty').images.generate({ model, prompt: 'A cat', size: '1024x1024' }, { headers: { 'x-fake-usage': 'omit' } })
      await sidecar.idle()
      assert.ok(parseUsd((await sidecar.standing(id, '?tier=plenty')).spent) >= provider.bill.totalNanoUsd(id))
    }
    const id = 'silent ears'
    await governed(id, 'plenty').audio.transcriptions.create(
      { model: 'gpt-4o-transcribe', file: await wav() },
      { headers: { 'x-fake-usage': 'omit' } },
    )
    await sidecar.idle()
    assert.ok(parseUsd((await sidecar.standing(id, '?tier=plenty')).spent) >= provider.bill.totalNanoUsd(id))
  })
})

test('a form goes on byte for byte, and one that two readers could read in two ways is refused', async () => {
  const boundary = 'x-Y_z'
  const file = wavOf(1.5)
  const part = (headers: string, content: Buffer | string): Buffer =>
    Buffer.concat([Buffer.from(`--${boundary}\r\n${headers}\r\n\r\n`), Buffer.from(content), Buffer.from('\r\n')])
  const field = (name: string, value: string): Buffer => part(`Content-Disposition: form-data; name="${name}"`, value)
  const sound = part('content-disposition: form-data; filename="a; b.wav"; name="file"\r\nContent-Type: audio/wav', file)
  const send = async (...parts: Buffer[]): Promise<Response> => {
    const body = Buffer.concat([...parts, Buffer.from(`--${boundary}--\r\n`)])
    return fetch(`${sidecar.url}/openai/v1/audio/transcriptions`, {
      method: 'POST',
      headers: { authorization: 'Bearer app', 'content-type': `multipart/form-data; boundary="${boundary}"`, ...talking('form', 'plenty') },
      body: new Uint8Array(body),
    })
  }
  assert.equal((await send(sound, field('model', 'whisper-1'), field('temperature', '0'))).status, 200)
  const expected = Buffer.concat([sound, field('model', 'whisper-1'), field('temperature', '0'), Buffer.from(`--${boundary}--\r\n`)])
  assert.ok(seen.at(-1)?.body.equals(expected))
  const asked = seen.length
  for (const parts of [
    [sound, field('model', 'whisper-1'), field('model', 'gpt-4o-transcribe')],
    [sound],
    [field('model', 'whisper-1')],
    [sound, part('Content-Disposition: form-data; name="model"\r\nContent-Transfer-Encoding: base64', 'd2hpc3Blci0x')],
    [sound, part('Content-Disposition: form-data; name=model', 'whisper-1')],
  ])
    assert.equal((await send(...parts)).status, 400)
  assert.equal(seen.length, asked)
})

describe('at the cap', () => {
  // oxfmt-ignore
  const tooDear: readonly [string, (client: OpenAI) => Promise<unknown>][] = [
    ['an image', (client) => client.images.generate({ model: 'gpt-image-1', prompt: 'A cat' })],
    ['a long recording', async (client) => client.audio.transcriptions.create({ model: 'whisper-1', file: await toFile(mp3Of(200), 'a.mp3') })],
    ['a long speech', (client) => client.audio.speech.create({ model: 'tts-1-hd', voice: 'alloy', input: 'word '.repeat(200) })],
    ['a book of embeddings', (client) => client.embeddings.create({ model: 'text-embedding-3-large', input: Array.from({ length: 40 }, () => 'word '.repeat(2_000)) })],
    ['many completions', (client) => client.completions.create({ model: 'gpt-3.5-turbo-instruct', prompt: 'word '.repeat(400), n: 100, max_tokens: 400 })],
  ]
  for (const [name, ask] of tooDear) {
    test(`${name} that costs more than is left is refused in one attempt, and the conversation goes on`, async () => {
      const id = `too dear ${name}`
      const before = await refusals()
      await assert.rejects(ask(governed(id, 'small')), (error: unknown) => {
        assert.ok(error instanceof APIError)
        assert.deepEqual([error.status, error.code], [402, 'conversation_budget_exhausted'])
        return true
      })
      assert.deepEqual([await refusals(), seen.length], [before + 1, 0])
      await governed(id, 'small').embeddings.create({ model: 'text-embedding-3-small', input: 'small' })
      assert.equal(provider.bill.lines(id).length, 1)
    })
  }

  test('recordings of speakers, which a form has as texts, are not held for as texts', async () => {
    await diarize(governed('speakers', 'small'))
    assert.equal(provider.bill.lines('speakers').length, 1)
  })

  test('fifty calls of every kind at once never cost more than the budget', async () => {
    const id = 'burst'
    const small: readonly Case['ask'][] = [
      async (client) => client.audio.transcriptions.create({ model: 'whisper-1', file: await wav() }),
      (client) => client.audio.speech.create({ model: 'tts-1', voice: 'alloy', input: 'Your order is on its way.' }),
      (client) => client.embeddings.create({ model: 'text-embedding-3-large', input: 'word '.repeat(500) }),
      (client) => client.completions.create({ model: 'gpt-3.5-turbo-instruct', prompt: 'Once', max_tokens: 100 }),
      (client) => client.images.generate({ model: 'gpt-image-1-mini', prompt: 'A cat', quality: 'low', size: '1024x1024' }),
    ]
    const outcomes = await Promise.allSettled(Array.from({ length: 10 }, () => small.map(async (ask) => ask(governed(id, 'small')))).flat())
    assert.ok(outcomes.some(({ status }) => status === 'fulfilled'))
    assert.ok(outcomes.some(({ status }) => status === 'rejected'))
    await provider.settled()
    await sidecar.idle()
    const billed = provider.bill.totalNanoUsd(id)
    assert.ok(billed > 0n && billed <= parseUsd('0.01'), formatUsd(billed))
    assert.equal(parseUsd((await sidecar.standing(id, '?tier=small')).spent), billed)
  })
})

test('no window and no rung of talk applies to them', async () => {
  const long = 'word '.repeat(3_000)
  await governed('windowed', 'windowed').embeddings.create({ model: 'text-embedding-3-small', input: long })
  await assert.rejects(
    governed('windowed', 'windowed').chat.completions.create({ model: 'gpt-4o', messages: [{ role: 'user', content: long }] }),
    APIError,
  )
  const talk = governed('low', 'low')
  await talk.chat.completions.create({ model: 'gpt-4o', messages: [{ role: 'user', content: 'Hi' }] })
  assert.equal(provider.bill.lines('low').at(-1)?.model, 'gpt-4o-mini')
  await talk.completions.create({ model: 'gpt-3.5-turbo-instruct', prompt: 'Once' })
  assert.equal(provider.bill.lines('low').at(-1)?.model, 'gpt-3.5-turbo-instruct')
})

test('Azure’s deployments are priced by what they serve', async () => {
  const id = 'azure units'
  const client = new AzureOpenAI({
    apiKey: 'app',
    apiVersion: '2024-10-21',
    baseURL: `${sidecar.url}/azure/openai`,
    defaultHeaders: talking(id, 'plenty'),
    maxRetries: 0,
  })
  const vectors = await client.embeddings.create({ model: 'desk-vectors', input: 'Where is order 17?' })
  assert.equal(vectors.model, 'text-embedding-3-small')
  await client.audio.transcriptions.create({ model: 'desk-ears', file: await wav() })
  assert.equal(seen.at(-1)?.path, '/openai/deployments/desk-ears/audio/transcriptions')
  await client.images.generate({ model: 'desk-brush', prompt: 'A cat', quality: 'low', size: '1024x1024' })
  const newer = new OpenAI({
    apiKey: 'app',
    baseURL: `${sidecar.url}/azure/openai/v1`,
    defaultHeaders: talking(id, 'plenty'),
    maxRetries: 0,
  })
  await newer.audio.transcriptions.create({ model: 'desk-ears', file: await wav() })
  await provider.settled()
  await sidecar.idle()
  assert.deepEqual(
    provider.bill.lines(id).map(({ model }) => model),
    ['text-embedding-3-small', 'whisper-1', 'gpt-image-1', 'whisper-1'],
  )
  assert.ok(parseUsd((await sidecar.standing(id, '?tier=plenty')).spent) >= provider.bill.totalNanoUsd(id))
})

async function all<Item>(stream: AsyncIterable<Item>): Promise<Item[]> {
  const items = []
  for await (const item of stream) items.push(item)
  return items
}

async function spoken(answer: { arrayBuffer(): Promise<ArrayBuffer> }): Promise<string> {
  return Buffer.from(await answer.arrayBuffer()).toString('base64')
}

/** All but what differs from call to call. */
function essence(answer: unknown): unknown {
  return JSON.parse(JSON.stringify(answer, (key, value: unknown) => (key === 'id' || key === '_request_id' ? undefined : value))) as unknown
}

async function refusals(): Promise<number> {
  return Number(/farebox_refusals_total\{[^}]*conversation_budget_exhausted[^}]*\} (\d+)/.exec(await sidecar.metrics())?.[1] ?? 0)
}
