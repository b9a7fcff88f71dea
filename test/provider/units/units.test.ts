import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'
import OpenAI, { APIError, toFile } from 'openai'
import type { BillLine } from '../bill.ts'
import type { Provider } from '../server.ts'
import { startProvider } from '../server.ts'
import { mp3Of, wavOf } from './audio-file.ts'

let provider: Provider
let client: OpenAI
before(async () => {
  provider = await startProvider()
  client = new OpenAI({ apiKey: 'any', baseURL: `${provider.url}/v1`, maxRetries: 0 })
})
beforeEach(() => provider.bill.clear())
after(() => provider.close())

/** Nano-dollars of one line. */
function onlyCost(): bigint {
  const lines: readonly BillLine[] = provider.bill.lines()
  assert.equal(lines.length, 1)
  assert.equal(lines[0]?.state, 'complete')
  return lines[0].nanoUsd
}

test('embeddings are billed by their input', async () => {
  const { data, usage } = await client.embeddings.create({
    model: 'text-embedding-3-small',
    input: ['One two three', 'four'],
    dimensions: 8,
  })
  assert.deepEqual(
    data.map(({ embedding }) => embedding.length),
    [8, 8],
  )
  assert.equal(usage.prompt_tokens, 4)
  assert.equal(onlyCost(), 80n)
  await assert.rejects(client.embeddings.create({ model: 'text-embedding-3-small', input: [] }), APIError)
})

test('moderations cost nothing', async () => {
  assert.equal((await client.moderations.create({ input: 'Hello' })).results[0]?.flagged, false)
  assert.equal(provider.bill.lines().length, 0)
})

test('completions bill every candidate, and stop at 16 tokens unless told otherwise', async () => {
  const ask = { model: 'gpt-3.5-turbo-instruct', prompt: 'One two three' } as const
  const plain = await client.completions.create(ask)
  assert.deepEqual([plain.usage?.prompt_tokens, plain.usage?.completion_tokens, plain.choices[0]?.finish_reason], [3, 16, 'length'])
  assert.equal(onlyCost(), BigInt(3 * 1_500 + 16 * 2_000))
  const best = await client.completions.create({ ...ask, n: 2, best_of: 5, max_tokens: 10, echo: true })
  assert.deepEqual([best.choices.length, best.usage?.completion_tokens], [2, 50])
  assert.ok(best.choices[0]?.text.startsWith('One two three'))
  const chunks = []
  for await (const chunk of await client.completions.create({ ...ask, stream: true, stream_options: { include_usage: true } }))
    chunks.push(chunk)
  assert.equal(chunks.map(({ choices }) => choices[0]?.text ?? '').join(''), plain.choices[0]?.text)
  assert.deepEqual(chunks.at(-1)?.usage, plain.usage)
})

test('images are billed by tokens or by the piece', async () => {
  const made = await client.images.generate({ model: 'gpt-image-1', prompt: 'A cat', n: 2, size: '1024x1024', quality: 'low' })
  assert.deepEqual([made.data?.length, made.usage?.output_tokens, made.usage?.input_tokens], [2, 544, 2])
  assert.equal(onlyCost(), BigInt(2 * 5_000 + 544 * 40_000))
  provider.bill.clear()
  await client.images.generate({ model: 'dall-e-3', prompt: 'A cat', size: '1792x1024', quality: 'hd' })
  assert.equal(onlyCost(), 120_000_000n)
  provider.bill.clear()
  const edited = await client.images.edit({
    model: 'gpt-image-1',
    prompt: 'A hat',
    image: await toFile(Buffer.from('no image'), 'a.png'),
    quality: 'low',
    size: '1024x1024',
  })
  assert.deepEqual(edited.usage?.input_tokens_details, { text_tokens: 2, image_tokens: 65 + 129 * 4 })
  assert.ok(onlyCost() > 0n)
})

test('a streamed image tells its usage at the end', async () => {
  const stream = await client.images.generate({
    model: 'gpt-image-1',
    prompt: 'A cat',
    size: '1024x1024',
    quality: 'low',
    stream: true,
    partial_images: 2,
  })
  const events = []
  for await (const event of stream) events.push(event)
  assert.deepEqual(
    events.map(({ type }) => type),
    ['image_generation.partial_image', 'image_generation.partial_image', 'image_generation.completed'],
  )
  const last = events.at(-1)
  assert.ok(last?.type === 'image_generation.completed')
  assert.equal(last.usage.output_tokens, 272 + 200)
})

test('speech is billed by its characters or by what was made', async () => {
  const spoken = await client.audio.speech.create({ model: 'tts-1', voice: 'alloy', input: 'Good morning', response_format: 'wav' })
  assert.equal((await spoken.arrayBuffer()).byteLength, wavOf(1).length)
  assert.equal(onlyCost(), BigInt(12 * 15_000))
  provider.bill.clear()
  const events = await client.audio.speech.create({ model: 'gpt-4o-mini-tts', voice: 'alloy', input: 'Good morning', stream_format: 'sse' })
  assert.match(await events.text(), /"usage":\{"input_tokens":2,"output_tokens":21,"total_tokens":23\}/)
  assert.equal(onlyCost(), BigInt(2 * 600 + 21 * 12_000))
})

test('what is heard is billed by seconds or tokens', async () => {
  const file = await toFile(wavOf(2.5), 'a.wav')
  const timed = await client.audio.transcriptions.create({ model: 'whisper-1', file })
  assert.deepEqual(timed.usage, { type: 'duration', seconds: 3 })
  assert.equal(onlyCost(), 300_000n)
  provider.bill.clear()
  const counted = await client.audio.transcriptions.create({ model: 'gpt-4o-transcribe', file: await toFile(mp3Of(2.4), 'a.mp3') })
  assert.ok(counted.usage?.type === 'tokens')
  assert.equal(counted.usage.input_tokens, 24)
  assert.equal(onlyCost(), BigInt(24 * 6_000 + counted.usage.output_tokens * 10_000))
  const deltas = []
  for await (const event of await client.audio.transcriptions.create({ model: 'gpt-4o-transcribe', file, stream: true })) deltas.push(event)
  assert.equal(deltas.at(-1)?.type, 'transcript.text.done')
  const text: unknown = await client.audio.translations.create({ model: 'whisper-1', file, response_format: 'text' })
  assert.equal(typeof text, 'string')
})
