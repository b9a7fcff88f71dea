import assert from 'node:assert/strict'
import { test } from 'node:test'
import { KeyedHash } from '../core/keyed-hash.ts'
import { chainDigests } from '../core/chain.ts'
import { atOnce } from '../core/slices.ts'
import type { JsonObject, Message } from '../core/request.ts'
import { messageFromContent, ownGeminiMessage, readContents } from './gemini-message.ts'
import { memberRanges, elementRanges } from './json-scan.ts'

function messagesOf(contents: readonly object[]): readonly Message[] {
  const body = Buffer.from(JSON.stringify({ contents }))
  const list = memberRanges(body, { start: 0, end: body.length }).get('contents')
  assert.ok(list)
  const read = elementRanges(body, list).map(({ start, end }) => ({
    json: JSON.parse(body.toString('utf8', start, end)) as JsonObject,
    start,
    end,
  }))
  const messages = readContents(body, read)
  assert.ok(!('unknownRole' in messages))
  return messages
}
const text = (role: string, ...texts: string[]): object => ({ role, parts: texts.map((each) => ({ text: each })) })
const calls = (...names: string[]): object => ({ role: 'model', parts: names.map((name) => ({ functionCall: { name, args: { n: 1 } } })) })
const result = (name: string, response: object, id?: string): object => ({
  functionResponse: { name, response, ...(id === undefined ? {} : { id }) },
})

test('contents of the model that follow each other are one message, with their bytes as they stand', () => {
  const [user, model, last] = messagesOf([text('user', 'a'), text('model', 'b'), text('model', 'c'), text('user', 'd')])
  assert.deepEqual([user?.role, model?.role, last?.role], ['user', 'assistant', 'user'])
  assert.equal(
    Buffer.from(model?.bytes ?? []).toString(),
    '{"role":"model","parts":[{"text":"b"}]},{"role":"model","parts":[{"text":"c"}]}',
  )
  assert.deepEqual(
    model?.texts.map((part) => part.text),
    ['b', 'c'],
  )
  assert.deepEqual(model?.json, { role: 'model', parts: [{ text: 'b' }, { text: 'c' }] })
  model?.forget?.()
  assert.deepEqual(
    model?.texts.map((part) => part.text),
    ['b', 'c'],
    'read again from its bytes',
  )
})

test('a streamed answer in many contents has the digest of the same answer in one', () => {
  const key = new KeyedHash(Buffer.alloc(32, 1))
  const chain = (...contents: object[]): string | undefined => atOnce(chainDigests(messagesOf(contents), key, 'scope')).at(-1)
  assert.equal(chain(text('user', 'a'), text('model', 'b ', 'c')), chain(text('user', 'a'), text('model', 'b '), text('model', 'c')))
  const thinking = {
    role: 'model',
    parts: [
      { text: 'Hm', thought: true },
      { text: 'b c', thoughtSignature: 's' },
    ],
  }
  assert.equal(
    chain(text('user', 'a'), thinking),
    chain(text('user', 'a'), text('model', 'b c')),
    'thoughts and signatures are no part of it',
  )
})

test('results are paired with their calls, by id or by name and order, across contents', () => {
  const messages = messagesOf([
    text('user', 'a'),
    calls('look', 'look', 'jump'),
    { role: 'user', parts: [result('look', { output: '1' }), result('jump', { output: '2' })] },
    { role: 'user', parts: [result('look', { output: '3' })] },
    { role: 'model', parts: [{ functionCall: { id: 'x', name: 'look', args: {} } }] },
    { role: 'function', parts: [result('look', { output: '4' })] },
    { role: 'user', parts: [result('look', {}, 'stray')] },
  ])
  assert.deepEqual(
    messages[1]?.toolCalls.map(({ id, name, input }) => [id, name, input]),
    [
      ['look#0', 'look', '{"n":1}'],
      ['look#1', 'look', '{"n":1}'],
      ['jump#0', 'jump', '{"n":1}'],
    ],
  )
  assert.deepEqual(
    messages.map(({ role }) => role),
    ['user', 'assistant', 'tool', 'tool', 'assistant', 'tool', 'tool'],
  )
  assert.deepEqual(
    messages.map(({ answers }) => answers),
    [[], [], ['look#0', 'jump#0'], ['look#1'], [], ['x'], ['stray']],
  )
  assert.deepEqual(
    messages[2]?.texts.map((part) => [part.text, part.answers]),
    [
      ['1', 'look#0'],
      ['2', 'jump#0'],
    ],
  )
})

test('texts are changed in place: results stay results, thoughts and signatures stay', () => {
  const [, model, tool] = messagesOf([
    text('user', 'a'),
    {
      role: 'model',
      parts: [
        { text: 'Hm', thought: true },
        { text: 'Well.', thoughtSignature: 's' },
        { functionCall: { name: 'look' }, thoughtSignature: 't' },
      ],
    },
    { role: 'user', parts: [result('look', { result: 'long', more: 1 }), { text: 'So?', partMetadata: { name: 'retrieval' } }] },
  ])
  assert.deepEqual(model?.withTexts([null])?.json['parts'], [
    { text: 'Hm', thought: true },
    { text: '', thoughtSignature: 's' },
    { functionCall: { name: 'look' }, thoughtSignature: 't' },
  ])
  assert.deepEqual(
    tool?.texts.map((part) => [part.text, part.name]),
    [
      ['{"result":"long","more":1}', null],
      ['So?', 'retrieval'],
    ],
  )
  assert.deepEqual(tool?.withTexts(['[omitted]', 'So?'])?.json['parts'], [
    result('look', { output: '[omitted]' }),
    { text: 'So?', partMetadata: { name: 'retrieval' } },
  ])
  assert.deepEqual(tool?.withTexts([null, null])?.json['parts'], [result('look', { output: '' })])
  assert.equal(messagesOf([text('user', 'a')])[0]?.withTexts([null]), null)
})

test('a message comes back from the text that the log kept of it', () => {
  const [message] = messagesOf([text('user', 'a', 'b')])
  const changed = message?.withTexts(['a', 'c'])
  const again = message?.reread(Buffer.from(changed?.bytes ?? []).toString())
  assert.deepEqual(again?.json, { role: 'user', parts: [{ text: 'a' }, { text: 'c' }] })
  for (const other of ['{"role":"model","parts":[]}', 'no JSON', '"text"', '']) assert.equal(message?.reread(other), null, other)
})

test('media are counted by their size, and tell messages apart', () => {
  const png = Buffer.concat([Buffer.from('89504e470d0a1a0a0000000d49484452', 'hex'), Buffer.from('0000002000000010', 'hex')]).toString(
    'base64',
  )
  const [message] = messagesOf([
    {
      role: 'user',
      parts: [
        { inline_data: { mime_type: 'image/png', data: png } },
        { inlineData: { mimeType: 'audio/mp3', data: 'AAAA' } },
        { fileData: { mimeType: 'application/pdf', fileUri: 'gs://x' } },
        { functionResponse: { name: 'f', response: {}, parts: [{ inlineData: { mimeType: 'image/png', data: png } }] } },
      ],
    },
  ])
  assert.deepEqual(
    message?.images.map(({ kind, size }) => [kind, size?.width ?? null]),
    [
      ['image', 32],
      ['audio', null],
      ['file', null],
      ['image', 32],
    ],
  )
  assert.equal(message?.mediaBytes, png.length * 2 + 4)
  assert.equal(message?.others.length, 3)
})

test('what its type says is a document or a picture holds no sound; a film may, and what has no type', () => {
  const file = (mimeType?: string): JsonObject => ({ fileData: { fileUri: 'gs://x', ...(mimeType === undefined ? {} : { mimeType }) } })
  const isSilent = (part: JsonObject): true | undefined => messagesOf([{ role: 'user', parts: [part] }])[0]?.images[0]?.isSilent
  for (const type of ['application/pdf', 'text/plain', 'image/png']) assert.equal(isSilent(file(type)), true, type)
  for (const type of ['video/mp4', 'audio/mp3', 'application/octet-stream', undefined]) assert.equal(isSilent(file(type)), undefined, type)
  assert.equal(isSilent({ inlineData: { mimeType: 'application/pdf', data: 'AAAA' } }), true)
  assert.equal(isSilent({ inlineData: { mimeType: 'video/mp4', data: 'AAAA' } }), undefined)
})

test('a resolution of a part counts as the highest, unless it is a lower one', () => {
  const detailOf = (resolution: JsonObject): string | undefined =>
    messagesOf([{ role: 'user', parts: [{ inlineData: { mimeType: 'image/png', data: 'AAAA' }, ...resolution }] }])[0]?.images[0]?.detail
  for (const mediaResolution of [{ level: 'MEDIA_RESOLUTION_ULTRA_HIGH' }, { level: 4 }, { numTokens: 2_000 }, {}])
    assert.equal(detailOf({ mediaResolution }), 'ultraHigh', JSON.stringify(mediaResolution))
  assert.equal(detailOf({ media_resolution: { level: 'media_resolution_ultra_high' } }), 'ultraHigh')
  for (const level of ['MEDIA_RESOLUTION_UNSPECIFIED', 'MEDIA_RESOLUTION_LOW', 'media_resolution_high'])
    assert.equal(detailOf({ mediaResolution: { level } }), 'auto', level)
  assert.equal(detailOf({}), 'auto')
})

test('our own words are contents of their speaker', () => {
  assert.equal(ownGeminiMessage('assistant', 'x').role, 'assistant')
  assert.deepEqual(ownGeminiMessage('system', 'x').json, { role: 'user', parts: [{ text: 'x' }] })
  assert.equal(messageFromContent({ role: 'model' }), null)
})

test('ids that a client gives to calls which came without one make no other conversation, while calls and results stay paired', () => {
  const key = new KeyedHash(Buffer.alloc(32, 1))
  const history = (id: (name: string) => object, swapped = false): readonly Message[] => {
    const called = ['look', 'jump'].map((name) => ({ functionCall: { name, args: { n: 1 }, ...id(name) } }))
    const results = ['look', 'jump'].map((name) => ({ functionResponse: { name, response: { result: name }, ...id(name) } }))
    return messagesOf([
      text('user', 'a'),
      { role: 'model', parts: called },
      { role: 'user', parts: swapped ? results.toReversed() : results },
    ])
  }
  const chain = (messages: readonly Message[]): readonly string[] => atOnce(chainDigests(messages, key, 's'))
  const given = history((name) => ({ id: `client-${name}` }))
  assert.deepEqual(
    given.map(({ answers }) => answers),
    [[], [], ['client-look', 'client-jump']],
  )
  assert.deepEqual(chain(given), chain(history(() => ({}))))
  const swapped = history((name) => ({ id: `client-${name}` }), true)
  assert.notEqual(chain(swapped).at(-1), chain(given).at(-1), 'the results of other calls are another history')
})
