/** The calls that are no talk: what is held for each, what its answer comes to, and what of it is changed. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { Usage } from '@farebox/crds/usage.ts'
import type { ModelRequest } from '../core/request.ts'
import { speechWire, transcriptionsWire } from './audio.ts'
import { azureOperation, azureWire } from './azure.ts'
import { completionsWire } from './completions.ts'
import { embeddingsWire } from './embeddings.ts'
import { geminiEmbeddingsWire } from './gemini-embeddings.ts'
import { imagesWire } from './images.ts'
import { chatWire } from './openai-chat.ts'
import { operationOf } from './routes.ts'
import type { AnswerStream, CallContext, Wire } from './wire.ts'

const DEPLOYMENTS = [
  { name: 'desk', model: 'gpt-4o' },
  { name: 'small', model: 'gpt-4o-mini' },
  { name: 'pics', model: 'gpt-image-1' },
]
const callAt = (path: string, contentType = 'application/json'): CallContext => ({
  upstream: { provider: 'openai', outputLimitField: 'max_tokens', deployments: DEPLOYMENTS },
  path,
  contentType,
})
async function read(wire: Wire, body: object | Buffer, call = callAt('/')): Promise<ModelRequest> {
  const parsed = await wire.parse(Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body)), call)
  assert.ok(parsed.status === 'ok', JSON.stringify(parsed))
  return parsed.request
}
async function fault(wire: Wire, body: object): Promise<string | null> {
  const parsed = await wire.parse(Buffer.from(JSON.stringify(body)), callAt('/'))
  assert.ok(parsed.status === 'invalid', JSON.stringify(parsed))
  return parsed.field
}
function form(fields: Readonly<Record<string, string>>, ...files: readonly Buffer[]): Buffer {
  const parts = Object.entries(fields).map(([name, value]) =>
    Buffer.from(`--B\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`),
  )
  const sent = files.flatMap((bytes) => [
    Buffer.from('--B\r\nContent-Disposition: form-data; name="file[]"; filename="f"\r\n\r\n'),
    bytes,
    Buffer.from('\r\n'),
  ])
  return Buffer.concat([...parts, ...sent, Buffer.from('--B--')])
}
const FORM = callAt('/', 'multipart/form-data; boundary=B')
const used = (wire: Wire, answer: object | Buffer, request: ModelRequest): Partial<Usage> | null => {
  const { usage } = wire.readAnswer(Buffer.isBuffer(answer) ? answer : Buffer.from(JSON.stringify(answer)), request).facts
  return usage === null ? null : Object.fromEntries(Object.entries(usage).filter(([, count]) => count > 0))
}
function feed(stream: AnswerStream, text: string): string {
  const bytes = Buffer.from(text)
  const out: Buffer[] = []
  for (let at = 0; at < bytes.length; at += 7) out.push(...stream.push(Buffer.from(bytes.subarray(at, at + 7))))
  return Buffer.concat([...out, ...stream.end()]).toString()
}
const event = (value: object): string => `event: x\ndata: ${JSON.stringify(value)}\n\n`

describe('embeddings of Gemini', () => {
  const content = (...texts: readonly string[]) => ({ parts: texts.map((text) => ({ text })) })
  const MODEL = 'gemini-embedding-001'
  const one = callAt(`/v1beta/models/${MODEL}:embedContent`)
  const many = callAt(`/v1beta/models/${MODEL}:batchEmbedContents?key=k`)
  const statusOf = async (body: object, call: CallContext): Promise<string> =>
    (await geminiEmbeddingsWire.parse(Buffer.from(JSON.stringify(body)), call)).status

  test('of one text and of many are bounded by the bytes of their texts, and a few for each, by the model of the path', async () => {
    for (const [call, body, bytes] of [
      [one, { content: { role: 'user', ...content('Grün?') }, taskType: 'RETRIEVAL_QUERY', outputDimensionality: 768 }, 6 + 4],
      [one, { content: content('One.'), title: 'Two.', further: { known: ['Three.'] } }, 14 + 4],
      [many, { requests: [{ model: `models/${MODEL}`, content: content('One.', 'Two.') }, { content: content('Three.') }] }, 14 + 8],
    ] as const) {
      const request = await read(geminiEmbeddingsWire, body, call)
      const { wire, model, generates, stream, fixedBytes } = request
      assert.deepEqual([wire, model, generates, stream, fixedBytes], ['embeddings', MODEL, false, false, bytes])
      assert.equal(geminiEmbeddingsWire.render(request, {}), request.body)
      assert.equal(geminiEmbeddingsWire.path(call, {}), call.path)
    }
  })

  test('are read by the count of their answer, however long that is, and by nothing where there is none', async () => {
    const request = await read(geminiEmbeddingsWire, { content: content('Hi') }, one)
    const usageMetadata = { promptTokenCount: 7, promptTokenDetails: [{ modality: 'TEXT', tokenCount: 7 }] }
    const values = (count: number) => Array.from({ length: count }, (_, index) => index / 7)
    const answers = [
      { embedding: { values: values(3) }, usageMetadata },
      { embeddings: [{ values: values(90_000) }], usageMetadata },
    ]
    for (const answer of answers) assert.deepEqual(used(geminiEmbeddingsWire, answer, request), { uncachedInput: 7 })
    const untold = geminiEmbeddingsWire.readAnswer(Buffer.from(JSON.stringify({ embedding: { values: [0.5] } })), request)
    assert.deepEqual([untold.readable, untold.facts.usage], [true, null])
  })

  test('are of one text also where its list has no brackets, and of text also where it says that it is no thought', async () => {
    for (const parts of [{ text: 'hi' }, [{ text: 'hi', thought: false }], [{ text: 'hi', inlineData: null }]])
      assert.equal((await read(geminiEmbeddingsWire, { content: { parts } }, one)).fixedBytes, 6)
    assert.equal((await read(geminiEmbeddingsWire, { requests: { content: content('hi') } }, many)).fixedBytes, 6)
    assert.equal(await statusOf({ content: { parts: { inlineData: {} } } }, one), 'ungoverned')
    assert.equal(await statusOf({ requests: { content: { parts: { inlineData: {} } } } }, many), 'ungoverned')
    assert.equal(await statusOf({ requests: [{ content: content('hi') }, 'hi'] }, many), 'invalid')
  })

  test('are of text alone, and are asked for what an answer says', async () => {
    const picture = { parts: [{ inlineData: { mimeType: 'image/png', data: 'AAAA' } }] }
    assert.equal(await statusOf({ content: picture }, one), 'ungoverned')
    assert.equal(await statusOf({ content: { parts: [{ text: 'a', fileData: { fileUri: 'x' } }] } }, one), 'ungoverned')
    assert.equal(await statusOf({ requests: [{ content: content('a') }, { content: picture }] }, many), 'ungoverned')
    for (const body of [{}, { content: {} }, { content: { parts: [] } }, { requests: [{ content: content('a') }] }])
      assert.equal(await statusOf(body, one), 'invalid')
    for (const body of [{ content: content('a') }, { requests: [] }, { requests: [{}] }])
      assert.equal(await statusOf(body, many), 'invalid')
    assert.equal(await statusOf({ content: content('a') }, callAt(`${one.path}?fields=embedding`)), 'invalid')
  })
})

describe('embeddings', () => {
  test('write nothing, and are bounded by their bytes', async () => {
    const request = await read(embeddingsWire, { model: 'text-embedding-3-small', input: ['a', 'b'], user: 'u' })
    assert.deepEqual(
      [request.generates, request.messages, request.units, request.fixedBytes, request.user],
      [false, [], {}, request.body.length, 'u'],
    )
    assert.equal(embeddingsWire.render(request, { toolChoice: 'none' }), request.body)
    assert.equal(await fault(embeddingsWire, { model: 'm', input: [] }), 'input')
    assert.equal(await fault(embeddingsWire, { input: 'a' }), 'model')
  })

  test('are settled by what a short answer says, and by the ends of a long one', async () => {
    const request = await read(embeddingsWire, { model: 'm', input: 'a' })
    const usage = { prompt_tokens: 5, total_tokens: 5 }
    assert.deepEqual(used(embeddingsWire, { object: 'list', data: [], model: 'm', usage }, request), { uncachedInput: 5 })
    const data = Array.from({ length: 60 }, () => ({ embedding: Array.from({ length: 1_536 }, () => -0.123456) }))
    for (const answer of [
      { object: 'list', model: 'm-1', usage, data },
      { object: 'list', data, model: 'm-1', usage },
    ]) {
      const { facts, readable } = embeddingsWire.readAnswer(Buffer.from(JSON.stringify(answer)), request)
      assert.deepEqual([facts.usage?.uncachedInput, facts.model, readable], [5, 'm-1', true])
    }
    assert.equal(embeddingsWire.readAnswer(Buffer.from('{'), request).readable, false)
  })
})

describe('completions', () => {
  test('are bounded at 16 tokens unless they say otherwise, for every candidate of every prompt', async () => {
    const plain = await read(completionsWire, { model: 'm', prompt: 'Once' })
    assert.deepEqual([plain.choices, plain.outputLimit], [1, { field: 'max_tokens', tokens: 16 }])
    const many = await read(completionsWire, { model: 'm', prompt: ['a', 'b', 'c'], n: 2, best_of: 5, max_tokens: 40 })
    assert.deepEqual([many.choices, many.outputLimit?.tokens], [15, 40])
    assert.equal((await read(completionsWire, { model: 'm', prompt: [1, 2, 3] })).choices, 1)
    assert.equal((await read(completionsWire, { model: 'm', prompt: [[1, 2], [3]] })).choices, 2)
    assert.equal((await read(completionsWire, { model: 'm', prompt: 'a', max_tokens: 0 })).generates, false)
    const elsewhere = { ...callAt('/'), upstream: { ...callAt('/').upstream, provider: 'vllm' } }
    const unbounded = await read(completionsWire, { model: 'm', prompt: 'a' }, elsewhere)
    assert.deepEqual([unbounded.outputLimit, unbounded.outputField], [null, 'max_tokens'])
    assert.equal(await fault(completionsWire, { model: 'm', prompt: 'a', n: -1 }), 'n')
  })

  test('a smaller bound and the wish for usage are put into the bytes that came', async () => {
    const body = '{ "model":"m", "prompt" : "a", "stream":true }'
    const request = await read(completionsWire, Buffer.from(body))
    assert.equal(completionsWire.render(request, {}), request.body)
    const bytes = completionsWire.render(request, { outputLimit: { field: 'max_tokens', tokens: 9 }, includeUsage: true })
    assert.equal(bytes.toString(), '{ "model":"m", "prompt" : "a", "stream":true,"max_tokens":9,"stream_options":{"include_usage":true} }')
  })

  test('are metered as they stream, and the usage that we asked for is taken out', async () => {
    const request = await read(completionsWire, { model: 'm', prompt: 'a', stream: true })
    const chunk = (choices: readonly object[], usage: object | null): string =>
      `data: ${JSON.stringify({ id: 'c', object: 'text_completion', choices, usage })}\n\n`
    const text =
      chunk([{ text: 'upon a time', index: 0, finish_reason: null }], null) + chunk([{ text: '', index: 0, finish_reason: 'stop' }], null)
    const stream = completionsWire.openStream({ request, stripUsage: true, notice: 'no', collect: true })
    const output = feed(stream, `${text}${chunk([], { prompt_tokens: 1, completion_tokens: 3, total_tokens: 4 })}data: [DONE]\n\n`)
    assert.equal(output, `${text.replaceAll(',"usage":null', '')}data: [DONE]\n\n`)
    assert.deepEqual([stream.facts.usage?.output, stream.facts.finishReason, stream.message, stream.noticeAdded], [3, 'stop', null, false])
    const cut = completionsWire.openStream({ request, stripUsage: false, notice: null, collect: false })
    feed(cut, text)
    assert.ok(cut.observedOutputTokens() >= 3)
  })
})

describe('images', () => {
  const units = async (more: object): Promise<Partial<Usage>> =>
    (await read(imagesWire, { model: 'gpt-image-1', prompt: 'A cat', ...more })).units
  test('are held for by the piece and by the dearest tokens that they may be', async () => {
    assert.deepEqual(await units({ quality: 'low', size: '1024x1024', n: 3 }), { images: 3, imageOutput: 816 })
    assert.deepEqual(await units({}), { images: 1, imageOutput: 6_240 })
    assert.deepEqual(await units({ model: 'pics' }), { images: 1, imageOutput: 6_240 }, 'a deployment of it')
    assert.deepEqual(await units({ size: '2048x2048', quality: 'medium', partial_images: 2 }), { images: 1, imageOutput: 4_224 + 200 })
    assert.deepEqual(await units({ model: 'gpt-image-2', size: 'auto' }), { images: 1, imageOutput: 16_640 })
    assert.equal(await fault(imagesWire, { model: 'm', prompt: 'a', n: 1_000 }), 'n')
  })

  test('better qualities cost more, also where none is named, and a GIF has as many images as frames', async () => {
    const square = { model: 'gpt-image-2.5-flare', size: '1024x1024' }
    assert.equal((await units({ ...square, quality: 'xhigh' })).imageOutput, 8_320)
    assert.equal((await units({ ...square, quality: 'max' })).imageOutput, 16_640)
    assert.equal((await units(square)).imageOutput, 16_640)
    assert.equal((await units({ ...square, quality: 'low', output_format: 'gif' })).imageOutput, 9 * 272)
    assert.equal((await units({ ...square, quality: 'low', output_format: 'gif', frame_count: 16 })).imageOutput, 16 * 272)
    assert.equal((await units({ ...square, quality: 'low', image: ['a', 'b'] })).imageInput, 20_000)
  })

  test('a model that the provider chooses has no price that is known, and a model beside it none that is bounded', async () => {
    assert.equal(await fault(imagesWire, { prompt: 'a', quality: 'high' }), 'model')
    const variation = await read(imagesWire, form({ n: '2' }, Buffer.alloc(9)), callAt('/images/variations', FORM.contentType))
    assert.equal(variation.model, 'dall-e-2')
    for (const more of [{ output_format: 'svg' }, { svg: { model: 'gpt-5.5-pro' } }]) {
      const body = Buffer.from(JSON.stringify({ model: 'gpt-image-2.5-flare', prompt: 'a', ...more }))
      assert.equal((await imagesWire.parse(body, callAt('/'))).status, 'ungoverned')
    }
  })

  test('in a form, a parameter is no file, and no early views may be asked for', async () => {
    const asFile = form({ model: 'gpt-image-1' })
      .toString()
      .replace('--B--', '--B\r\nContent-Disposition: form-data; name="n"; filename="n"\r\n\r\n10\r\n--B--')
    const parsed = await imagesWire.parse(Buffer.from(asFile), FORM)
    assert.ok(parsed.status === 'invalid' && parsed.field === 'n')
    const plain = await read(imagesWire, form({ model: 'gpt-image-1', quality: 'low', size: '1024x1024', partial_images: '0' }), FORM)
    assert.equal(plain.units.imageOutput, 272)
  })

  test('in a form, the files are counted, and their bytes are no text', async () => {
    const body = form(
      { model: 'gpt-image-1', prompt: 'A hat', n: '2', quality: 'low', size: '1024x1024' },
      Buffer.alloc(5_000),
      Buffer.alloc(5_000),
    )
    const request = await read(imagesWire, body, FORM)
    assert.deepEqual(request.units, { images: 2, imageOutput: 544, imageInput: 20_000 })
    assert.deepEqual([request.model, request.fixedBytes], ['gpt-image-1', body.length - 10_000])
    assert.equal(imagesWire.render(request, {}), body)
  })

  test('are settled by their usage, or as they were held for', async () => {
    const request = await read(imagesWire, { model: 'gpt-image-1', prompt: 'A cat', n: 2, quality: 'low', size: '1024x1024' })
    const usage = { input_tokens: 9, output_tokens: 544, total_tokens: 553, input_tokens_details: { text_tokens: 9, image_tokens: 0 } }
    assert.deepEqual(used(imagesWire, { created: 1, data: [{}, {}], usage }, request), { uncachedInput: 9, imageOutput: 544, images: 2 })
    const zeros = { input_tokens: 0, output_tokens: 0, total_tokens: 0 }
    assert.deepEqual(used(imagesWire, { data: [{}], usage: zeros }, request), {
      images: 1,
      imageOutput: 544,
      uncachedInput: request.fixedBytes,
    })
    const silent = used(imagesWire, { created: 1, data: [{}, {}] }, request)
    assert.deepEqual([silent?.images, silent?.imageOutput], [2, 544])
    assert.equal(used(imagesWire, { error: { code: 'x' } }, request), null)
    const stream = imagesWire.openStream({ request, stripUsage: false, notice: null, collect: false })
    const text =
      event({ type: 'image_generation.partial_image', b64_json: 'A' }) +
      event({ type: 'image_generation.completed', b64_json: 'A', usage }).repeat(2)
    assert.equal(feed(stream, text), text)
    assert.equal(stream.facts.usage?.imageOutput, 1_088)
  })

  test('of a stream are settled when each has said what it took, or the stream has ended; not where one says nothing', async () => {
    const request = await read(imagesWire, { model: 'gpt-image-1', prompt: 'A cat', n: 2, stream: true })
    const usage = { input_tokens: 9, output_tokens: 272, total_tokens: 281 }
    const done = { type: 'image_generation.completed', b64_json: 'A' }
    const open = (...events: readonly object[]): AnswerStream => {
      const stream = imagesWire.openStream({ request, stripUsage: false, notice: null, collect: false })
      stream.push(Buffer.from(events.map(event).join('')))
      return stream
    }
    const one = open({ ...done, usage })
    assert.deepEqual([one.facts.usage, one.usageSoFar], [null, null])
    one.end()
    assert.equal(one.facts.usage?.imageOutput, 272, 'the other was not made')
    assert.equal(open({ ...done, usage }, { ...done, usage }).facts.usage?.images, 2)
    for (const silent of [done, { ...done, usage: null }, { ...done, usage: { input_tokens: 0, output_tokens: 0 } }]) {
      const stream = open({ ...done, usage }, silent)
      stream.end()
      assert.equal(stream.facts.usage, null)
    }
    const broken = open({ ...done, usage })
    broken.push(Buffer.from('data: {"type":"image_generation.completed","b64\n\n'))
    broken.end()
    assert.equal(broken.facts.usage, null)
  })

  test('of a stream say what they took however large they are', async () => {
    const request = await read(imagesWire, { model: 'gpt-image-1', prompt: 'A cat', stream: true })
    const usage = { input_tokens: 9, output_tokens: 4_160, total_tokens: 4_169 }
    const large = 'A'.repeat(9 * 1024 * 1024)
    const early = event({ type: 'image_generation.partial_image', b64_json: large })
    for (const last of [
      { b64_json: large, usage },
      { usage, b64_json: large },
    ]) {
      const text = early + event({ type: 'image_generation.completed', ...last })
      const stream = imagesWire.openStream({ request, stripUsage: false, notice: null, collect: false })
      for (let at = 0; at < text.length; at += 1 << 16) stream.push(Buffer.from(text.slice(at, at + (1 << 16))))
      assert.deepEqual([stream.facts.usage?.imageOutput, stream.facts.usage?.images], [4_160, 1])
    }
    const silent = imagesWire.openStream({ request, stripUsage: false, notice: null, collect: false })
    silent.push(Buffer.from(event({ type: 'image_generation.completed', b64_json: large })))
    silent.end()
    assert.equal(silent.facts.usage, null)
  })

  test('written out in JSON they are counted, and their bytes are no text', async () => {
    const picture = `data:image/png;base64,${'A'.repeat(40_000)}`
    const body = { model: 'gpt-image-1', prompt: 'A hat', images: [{ image_url: picture }, { file_id: 'f' }], mask: { image_url: picture } }
    const request = await read(imagesWire, body)
    assert.equal(request.units.imageInput, 30_000)
    assert.equal(request.fixedBytes, JSON.stringify(body).length - 2 * picture.length)
    const linked = await read(imagesWire, { model: 'gpt-image-1', prompt: picture, image: [picture, 'https://example.com/a.png'] })
    assert.equal(linked.fixedBytes, linked.body.length - picture.length, 'a prompt is text, whatever it begins with')
  })
})

describe('audio', () => {
  test('speech is held for by its characters, and by what the slowest speaker makes of them', async () => {
    const request = await read(speechWire, { model: 'tts-1', input: 'x'.repeat(350), voice: 'alloy' })
    assert.deepEqual(request.units, { characters: 350, audioOutput: 102 * 21 })
    assert.equal((await read(speechWire, { model: 'm', input: 'x'.repeat(350), speed: 0.5 })).units.audioOutput, 202 * 21)
    assert.equal((await read(speechWire, { model: 'm', input: 'x'.repeat(350), speed: '0.5' })).units.audioOutput, 202 * 21)
    assert.equal((await read(speechWire, { model: 'm', input: '7'.repeat(350) })).units.audioOutput, 302 * 21)
    assert.equal(await fault(speechWire, { model: 'm', input: '' }), 'input')
  })

  test('speech in one piece says nothing: what it lasts is measured, or taken as it was held for', async () => {
    const request = await read(speechWire, { model: 'gpt-4o-mini-tts', input: 'x'.repeat(350) })
    const frame = Buffer.concat([Buffer.from([0xff, 0xfb, 0x90, 0]), Buffer.alloc(413)])
    const measured = used(speechWire, Buffer.concat(Array.from({ length: 200 }, () => frame)), request)
    assert.deepEqual([measured?.characters, measured?.audioOutput], [350, Math.ceil((200 * 1_152) / 44_100) * 21])
    const long = used(speechWire, Buffer.concat(Array.from({ length: 9_000 }, () => frame)), request)
    assert.equal(long?.audioOutput, Math.ceil((9_000 * 1_152) / 44_100) * 21, 'more than it was held for')
    assert.equal(used(speechWire, Buffer.alloc(9_000, 1), request)?.audioOutput, request.units.audioOutput)
    assert.equal(speechWire.readAnswer(Buffer.alloc(9_000, 1), request).facts.isEstimate, true)
    assert.equal(used(speechWire, Buffer.alloc(0), request), null)
    const stream = speechWire.openStream({ request, stripUsage: false, notice: null, collect: false })
    feed(stream, event({ type: 'speech.audio.done', usage: { input_tokens: 3, output_tokens: 40, total_tokens: 43 } }))
    assert.deepEqual([stream.facts.usage?.audioOutput, stream.facts.usage?.characters], [40, 350])
  })

  test('transcriptions are held for by the length of the file, or by its size where that cannot be read', async () => {
    const request = await read(transcriptionsWire, form({ model: 'whisper-1', stream: 'true' }, Buffer.alloc(7_500, 1)), FORM)
    assert.deepEqual([request.units.seconds, request.units.audioInput, request.stream, request.generates], [10, 120, true, false])
    const parsed = await transcriptionsWire.parse(form({ model: 'whisper-1' }), FORM)
    assert.ok(parsed.status === 'invalid' && parsed.field === 'file')
  })

  test('recordings of speakers are heard, and are no text', async () => {
    const sound = Buffer.alloc(7_500, 1)
    const url = `data:audio/webm;base64,${sound.toString('base64')}`
    const speaker = (text: string): string => `--B\r\nContent-Disposition: form-data; name="known_speaker_references[]"\r\n\r\n${text}\r\n`
    const withSpeakers = (...texts: readonly string[]): Buffer =>
      Buffer.concat([Buffer.from(texts.map(speaker).join('')), form({ model: 'gpt-4o-transcribe-diarize' }, sound)])
    const alone = await read(transcriptionsWire, withSpeakers(), FORM)
    const request = await read(transcriptionsWire, withSpeakers(url, url), FORM)
    assert.deepEqual([request.units.seconds, request.units.audioInput, request.units.output], [30, 360, alone.units.output])
    assert.equal(request.fixedBytes, alone.fixedBytes + 2 * speaker('').length)
    for (const text of ['no recording', `data:audio/webm,${'a'.repeat(100)}`, `x${url}`]) {
      const other = await read(transcriptionsWire, withSpeakers(text), FORM)
      assert.deepEqual([other.units.seconds, other.fixedBytes], [10, alone.fixedBytes + speaker(text).length])
    }
    const many = await read(transcriptionsWire, withSpeakers(...Array.from({ length: 5 }, () => url)), FORM)
    assert.deepEqual([many.units.seconds, many.fixedBytes > url.length], [50, true])
  })

  test('transcriptions are settled by seconds or tokens; text says nothing', async () => {
    const request = await read(transcriptionsWire, form({ model: 'm' }, Buffer.alloc(7_500, 1)), FORM)
    assert.deepEqual(used(transcriptionsWire, { text: 'a', usage: { type: 'duration', seconds: 4 } }, request), { seconds: 4 })
    const tokens = {
      type: 'tokens',
      input_tokens: 12,
      output_tokens: 5,
      total_tokens: 17,
      input_token_details: { audio_tokens: 10, text_tokens: 2 },
    }
    assert.deepEqual(used(transcriptionsWire, { text: 'a', usage: tokens }, request), { uncachedInput: 2, audioInput: 10, output: 5 })
    const text = transcriptionsWire.readAnswer(Buffer.from('Just text\n'), request)
    assert.deepEqual([text.facts.usage, text.readable], [null, true])
    const stream = transcriptionsWire.openStream({ request, stripUsage: false, notice: null, collect: false })
    feed(stream, event({ type: 'transcript.text.delta', delta: 'a' }) + event({ type: 'transcript.text.done', text: 'a', usage: tokens }))
    assert.equal(stream.facts.usage?.audioInput, 10)
  })
})

describe('Azure', () => {
  const wire = azureWire(chatWire)
  const body = { model: 'desk', messages: [{ role: 'user', content: 'Hi' }] }
  const older = callAt('/openai/deployments/desk/chat/completions?api-version=2024-10-21')
  const newer = callAt('/openai/v1/chat/completions')

  test('a deployment has the model that the config says, wherever it is named', async () => {
    assert.equal((await read(wire, body, older)).model, 'gpt-4o')
    assert.equal((await read(wire, { ...body, model: 'whatever' }, older)).model, 'gpt-4o', 'the path counts')
    assert.equal((await read(wire, { messages: body.messages }, older)).model, 'gpt-4o')
    assert.equal((await read(wire, body, newer)).model, 'gpt-4o')
    assert.equal((await read(wire, { ...body, model: 'unknown' }, newer)).model, 'unknown')
  })

  test('data sources, which the provider adds as it likes, cannot be metered', async () => {
    const parsed = await wire.parse(Buffer.from(JSON.stringify({ ...body, data_sources: [{ type: 'azure_search' }] })), older)
    assert.equal(parsed.status, 'ungoverned')
  })

  test('another model goes to the deployment that serves it: in the path, or in the body', async () => {
    const inPath = await read(wire, body, older)
    assert.equal(wire.path(older, { model: 'gpt-4o-mini' }), '/openai/deployments/small/chat/completions?api-version=2024-10-21')
    assert.equal(wire.render(inPath, { model: 'gpt-4o-mini' }, older), inPath.body)
    const inBody = await read(wire, body, newer)
    assert.equal(wire.path(newer, { model: 'gpt-4o-mini' }), newer.path)
    assert.equal((JSON.parse(wire.render(inBody, { model: 'gpt-4o-mini' }, newer).toString()) as { model: string }).model, 'small')
    assert.equal(wire.render(inBody, {}, newer), inBody.body, 'the name of a deployment stays')
  })

  test('a prompt of ours goes to a deployment too, or nowhere', () => {
    const task = { system: 's', user: 'u', maxTokens: 9 }
    assert.equal(
      wire.prompt({ ...task, model: 'gpt-4o-mini', call: older })?.path,
      '/openai/deployments/small/chat/completions?api-version=2024-10-21',
    )
    assert.equal(wire.prompt({ ...task, model: 'gpt-4o-mini', call: newer })?.path, '/openai/v1/chat/completions')
    assert.match(wire.prompt({ ...task, model: 'gpt-4o-mini', call: newer })?.body.toString() ?? '', /"model":"small"/)
    assert.equal(wire.prompt({ ...task, model: 'gpt-5', call: newer }), null)
  })

  test('operations are OpenAI’s; names that could lead elsewhere are none', () => {
    assert.equal(azureOperation(older.path.split('?')[0] ?? ''), '/chat/completions')
    for (const path of [
      '/openai/v1/embeddings',
      '/openai/deployments/a.b-c_1/embeddings',
      '/openai/embeddings',
      '/deployments/d/embeddings',
    ])
      assert.equal(operationOf('azure', 'POST', path).kind, 'metered', path)
    for (const path of [
      '/openai/deployments/a%20b/embeddings',
      `/openai/deployments/${'x'.repeat(65)}/embeddings`,
      '/openai/v1/batches',
      '/openai/v1/files',
    ])
      assert.equal(operationOf('azure', 'POST', path).kind, 'ungoverned', path)
    assert.equal(operationOf('azure', 'POST', '/openai/v1/moderations').kind, 'free')
  })
})

test('Google’s calls by what they are', () => {
  const kind = (method: string, path: string): string => {
    const operation = operationOf('google', method, path)
    return operation.kind === 'metered' ? operation.wire.name : operation.kind === 'ungoverned' ? `not ${operation.name}` : operation.kind
  }
  assert.equal(kind('POST', '/v1beta/models/m:generateContent?key=k'), 'gemini')
  assert.equal(kind('POST', '/v1beta/models/m:streamGenerateContent?alt=sse'), 'gemini')
  assert.equal(kind('GET', '/v1beta/models/m:generateContent'), 'not generateContent')
  assert.equal(kind('POST', '/v1beta/models/m:countTokens'), 'free')
  assert.equal(kind('GET', '/v1beta/models?pageSize=2'), 'free')
  assert.equal(kind('POST', '/v1beta/models/m:batchEmbedContents'), 'embeddings')
  assert.equal(kind('POST', '/v1beta/models/m:asyncBatchEmbedContent'), 'not asyncBatchEmbedContent')
  assert.equal(kind('POST', '/v1beta/batches/1:cancel'), 'not batches')
  assert.equal(kind('POST', '/v1beta/tunedModels/m:generateContent'), 'not tunedModels')
  assert.equal(kind('POST', '/upload/v1beta/files?key=k'), 'not files')
})
