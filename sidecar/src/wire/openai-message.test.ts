import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as fc from 'fast-check'
import { AUDIO_TOKENS_CEILING } from '../core/media-tokens.ts'
import { messageTokensBound } from '../core/message-tokens.ts'
import type { ImagePart, Json, JsonObject, Message } from '../core/request.ts'
import { ROLES } from '../core/request.ts'
import { conversations, message, user } from '../core/requests.testing.ts'
import { calledName, messageFromJson, readMessage } from './openai-message.ts'

function read(json: JsonObject): Message {
  const found = messageFromJson(json)
  if (found === null) throw new TypeError('no message')
  return found
}

/** What a message says of itself. */
function factsOf({ role, bytes, stableBytes, json, toolCalls, answers, name, texts, others, images, mediaBytes }: Message): object {
  return { role, bytes, stableBytes, json, toolCalls, answers, name, texts, others, images, mediaBytes }
}

test('messages of a conversation are read as what they are', () => {
  fc.assert(
    fc.property(conversations(), (messages) => {
      for (const json of messages) {
        const found = read(json)
        assert.deepEqual(factsOf(found), factsOf(message(json)))
        found.forget?.()
        assert.deepEqual(factsOf(found), factsOf(message(json))) // its JSON is read again
      }
    }),
    { numRuns: 50 },
  )
})

test('a message is an object with a role that is known', () => {
  for (const role of ROLES) assert.equal(read({ role }).role, role)
  const none: Json[] = [null, 1, 'user', [], {}, { role: null }, { role: 'User' }, { role: ['user'] }, { content: 'x' }]
  for (const json of none) assert.equal(readMessage(json, Buffer.from(JSON.stringify(json))), null)
})

test('the bytes are those given, not written anew', () => {
  const bytes = Buffer.from('{ "role":"user" }')
  assert.equal(readMessage({ role: 'user' }, bytes)?.bytes, bytes)
})

describe('tool calls and their answers', () => {
  test('functions, custom tools and calls without a name', () => {
    const calls = [
      { id: 'a', type: 'function', function: { name: 'look_up', arguments: '{}' } },
      { id: 'b', type: 'custom', custom: { name: 'run', input: 'x' } },
      { id: 'c' },
      { type: 'function', function: { name: 'no_id' } },
      'nonsense',
    ]
    assert.deepEqual(read({ role: 'assistant', tool_calls: calls }).toolCalls, [
      { id: 'a', name: 'look_up', input: '{}' },
      { id: 'b', name: 'run', input: 'x' },
      { id: 'c', name: '', input: '' },
    ])
    assert.equal(calledName({ function: { name: 5 }, custom: { name: 'run' } }), 'run')
  })

  test('an old function call is answered by its name', () => {
    const called = read({ role: 'assistant', content: null, function_call: { name: 'look_up', arguments: '{}' } })
    assert.deepEqual(called.toolCalls, [{ id: 'look_up', name: 'look_up', input: '{}' }])
    assert.deepEqual(read({ role: 'function', name: 'look_up', content: 'found' }).answers, ['look_up'])
  })

  test('only an assistant calls, and only a tool answers', () => {
    const calls = [{ id: 'a', type: 'function', function: { name: 'f', arguments: '' } }]
    assert.deepEqual(read({ role: 'user', tool_calls: calls }).toolCalls, [])
    assert.deepEqual(read({ role: 'user', tool_call_id: 'a' }).answers, [])
    assert.deepEqual(read({ role: 'tool', tool_call_id: 'a' }).answers, ['a'])
    assert.deepEqual(read({ role: 'tool', tool_call_id: 7 }).answers, [])
  })
})

describe('texts', () => {
  const image = { type: 'image_url', image_url: { url: 'https://example.com/a.png' } }
  const rewritten = (json: JsonObject, texts: readonly (string | null)[]): JsonObject | null => read(json).withTexts(texts)?.json ?? null

  test('a string, or the text parts, with the names that the app gave them', () => {
    const parts = [{ type: 'text', text: 'a', name: 'retrieval' }, image, { type: 'text', text: 'b' }]
    assert.deepEqual(read(user('plain')).texts, [{ text: 'plain', kind: 'text', name: null, answers: null }])
    assert.deepEqual(
      read(user(parts)).texts.map(({ text, name }) => [text, name]),
      [
        ['a', 'retrieval'],
        ['b', null],
      ],
    )
    assert.deepEqual(read({ role: 'tool', tool_call_id: 'c', content: 'r' }).texts[0]?.answers, 'c')
    assert.deepEqual(read({ role: 'assistant', content: null, refusal: 'No.' }).texts, [
      { text: 'No.', kind: 'refusal', name: null, answers: null },
    ])
  })

  test('are rewritten in place, and everything else stays', () => {
    const parts = [{ type: 'text', text: 'a', name: 'x' }, image, { type: 'text', text: 'b' }]
    assert.deepEqual(rewritten(user(parts), ['A', null]), user([{ type: 'text', text: 'A', name: 'x' }, image]))
    assert.deepEqual(rewritten(user('a'), ['é']), user('é'))
    const called = {
      role: 'assistant',
      content: 'So.',
      tool_calls: [{ id: 'a', type: 'function', function: { name: 'f', arguments: '{}' } }],
    }
    assert.deepEqual(rewritten(called, [null]), { ...called, content: null })
    assert.equal(rewritten({ role: 'assistant', content: 'So.' }, [null]), null, 'nothing is left of it')
    assert.equal(rewritten(user([{ type: 'text', text: 'a' }]), [null]), null)
  })

  test('what the log kept of a message is read as that message, and nothing else is', () => {
    const original = read(user('a'))
    const kept = JSON.stringify(original.withTexts(['b'])?.json)
    assert.equal(Buffer.from(original.reread(kept)?.bytes ?? []).toString(), kept)
    for (const other of ['', '[]', '{"role":"assistant","content":"x"}', '{']) assert.equal(original.reread(other), null)
  })
})

describe('parts that are not text', () => {
  const png = Buffer.from('89504e470d0a1a0a0000000d4948445200000280000001e0', 'hex').toString('base64')
  const cases: Record<string, [part: JsonObject, expected: ImagePart, mediaBytes: number]> = {
    'an image by link': [
      { type: 'image_url', image_url: { url: 'https://example.com/a.png', detail: 'low' } },
      { kind: 'image', size: null, detail: 'low', linkedAs: 'picture' },
      0,
    ],
    'an image in the message': [
      { type: 'image_url', image_url: { url: `data:image/png;base64,${png}`, detail: 'high' } },
      { kind: 'image', size: { width: 640, height: 480 }, detail: 'high', embeddedBytes: 24 },
      png.length,
    ],
    'an image of unknown format': [
      { type: 'image_url', image_url: { url: 'data:image/avif;base64,AAAAAAAA' } },
      { kind: 'image', size: null, detail: 'auto', embeddedBytes: 6 },
      8,
    ],
    'an image that is not in base64': [
      { type: 'image_url', image_url: { url: 'data:image/svg+xml,<svg/>', detail: 'original' } },
      { kind: 'image', size: null, detail: 'auto' },
      0,
    ],
    'an image by a signed link, as closely looked at as it can be': [
      { type: 'image_url', image_url: { url: 'https://example.com/a/b.JPEG?sign=x#y', detail: 'ultra_high' } },
      { kind: 'image', size: null, detail: 'ultraHigh', linkedAs: 'picture' },
      0,
    ],
    'a link whose query alone names a picture': [
      { type: 'image_url', image_url: { url: 'https://example.com/a?as=b/c.png' } },
      { kind: 'image', size: null, detail: 'auto' },
      0,
    ],
    'a link that routers follow themselves, to whatever is there': [
      { type: 'image_url', image_url: { url: 'http://example.com/a.png' } },
      { kind: 'image', size: null, detail: 'auto' },
      0,
    ],
    'a document in the place of an image, as LiteLLM takes it': [
      { type: 'image_url', image_url: { url: 'data:application/pdf;base64,AAAAAAAA' } },
      { kind: 'file', size: null, detail: 'auto', isSilent: true, embeddedBytes: 6 },
      8,
    ],
    'a link to a document in the place of an image': [
      { type: 'image_url', image_url: { url: 'https://example.com/a.PDF?as=b/c.png' } },
      { kind: 'image', size: null, detail: 'auto', linkedAs: 'other', isSilent: true },
      0,
    ],
    'a link to a film in the place of an image': [
      { type: 'image_url', image_url: { url: 'https://example.com/a.mp4?frame=3' } },
      { kind: 'image', size: null, detail: 'auto', linkedAs: 'other' },
      0,
    ],
    'sound in the place of an image': [
      { type: 'image_url', image_url: { url: 'data:audio/wav;base64,AAAA' } },
      { kind: 'file', size: null, detail: 'auto', embeddedBytes: 3 },
      4,
    ],
    'a document that is said to be one, by a link': [
      { type: 'image_url', image_url: { url: 'https://example.com/a.png', format: 'application/pdf' } },
      { kind: 'file', size: null, detail: 'auto', isSilent: true },
      0,
    ],
    'an image that is called otherwise': [
      { type: 'image_url', image_url: { url: `data:application/pdf;base64,${png}`, format: 'video/mp4' } },
      { kind: 'image', size: { width: 640, height: 480 }, detail: 'auto', embeddedBytes: 24 },
      png.length,
    ],
    'an image of a type that nobody knew': [
      { type: 'image_url', image_url: { url: 'data:application/octet-stream;base64,AAAAAAAA' } },
      { kind: 'image', size: null, detail: 'auto', embeddedBytes: 6 },
      8,
    ],
    'an image as a bare link': [
      { type: 'image_url', image_url: 'https://example.com/a' },
      { kind: 'image', size: null, detail: 'auto' },
      0,
    ],
    'an image without anything': [{ type: 'image_url' }, { kind: 'image', size: null, detail: 'auto' }, 0],
    audio: [
      { type: 'input_audio', input_audio: { data: 'AAAA', format: 'wav' } },
      { kind: 'audio', size: null, detail: 'auto', embeddedBytes: 3 },
      4,
    ],
    'audio without data': [{ type: 'input_audio' }, { kind: 'audio', size: null, detail: 'auto' }, 0],
    'a document by a link': [
      { type: 'document_url', document_url: 'https://example.com/a.pdf' },
      { kind: 'file', size: null, detail: 'auto', isSilent: true },
      0,
    ],
    'a document of its own': [
      { type: 'document_url', document_url: 'data:application/pdf;base64,AAAAAAAA' },
      { kind: 'file', size: null, detail: 'auto', isSilent: true, embeddedBytes: 6 },
      8,
    ],
    'a film by a link': [
      { type: 'video_url', video_url: { url: 'https://example.com/a.mp4' } },
      { kind: 'file', size: null, detail: 'auto' },
      0,
    ],
    'a film of its own': [
      { type: 'input_video', video_url: { url: 'data:video/mp4;base64,AAAA' } },
      { kind: 'file', size: null, detail: 'auto', embeddedBytes: 3 },
      4,
    ],
    'a film with a source beside its link': [
      { type: 'video_url', video_url: { url: 'https://example.com/a.mp4' }, source: {} },
      { kind: 'file', size: null, detail: 'auto' },
      0,
    ],
    'a film as its frames': [{ type: 'video', video: ['https://example.com/1.jpg'] }, { kind: 'file', size: null, detail: 'auto' }, 0],
    'sound by a link': [
      { type: 'audio_url', audio_url: { url: 'https://example.com/a.mp3' } },
      { kind: 'file', size: null, detail: 'auto' },
      0,
    ],
    'sound by a link, as Mistral takes it': [
      { type: 'input_audio', input_audio: 'https://example.com/a.mp3' },
      { kind: 'file', size: null, detail: 'auto' },
      0,
    ],
    'sound of its own, as Mistral takes it': [
      { type: 'input_audio', input_audio: 'AAAA' },
      { kind: 'audio', size: null, detail: 'auto', embeddedBytes: 3 },
      4,
    ],
    'sound of its own, in a link': [
      { type: 'audio_url', audio_url: { url: 'data:audio/wav;base64,AAAA' } },
      { kind: 'audio', size: null, detail: 'auto', embeddedBytes: 3 },
      4,
    ],
    'sound by a link, in an object': [
      { type: 'input_audio', input_audio: { data: 'https://example.com/a.mp3', format: 'mp3' } },
      { kind: 'file', size: null, detail: 'auto' },
      0,
    ],
    'sound in a bucket': [
      { type: 'input_audio', input_audio: { url: 'gs://bucket/a.mp3' } },
      { kind: 'file', size: null, detail: 'auto' },
      0,
    ],
    'a file of Responses by a link': [
      { type: 'input_file', file_url: 'https://example.com/a.pdf' },
      { kind: 'file', size: null, detail: 'auto', isSilent: true },
      0,
    ],
    'a file of Responses in the message': [
      { type: 'input_file', file_data: 'data:application/pdf;base64,AAAAAAAA' },
      { kind: 'file', size: null, detail: 'auto', isSilent: true, embeddedBytes: 6 },
      8,
    ],
    'an image of Responses by a link': [
      { type: 'input_image', image_url: 'https://example.com/a.png', detail: 'high' },
      { kind: 'image', size: null, detail: 'high', linkedAs: 'picture' },
      0,
    ],
    'an image of Responses in the message': [
      { type: 'input_image', image_url: `data:image/png;base64,${png}` },
      { kind: 'image', size: { width: 640, height: 480 }, detail: 'auto', embeddedBytes: 24 },
      png.length,
    ],
    'a document of Messages by a link': [
      { type: 'document', source: { type: 'url', url: 'https://example.com/a.pdf' } },
      { kind: 'file', size: null, detail: 'auto' },
      0,
    ],
    'a document of Messages in the message': [
      { type: 'document', source: { type: 'base64', media_type: 'application/pdf', data: 'AAAA' } },
      { kind: 'file', size: null, detail: 'auto', embeddedBytes: 3 },
      4,
    ],
    'an image of Messages by a link': [
      { type: 'image', source: { type: 'url', url: 'https://example.com/a.png' } },
      { kind: 'image', size: null, detail: 'auto' },
      0,
    ],
    'what nobody here knows, by a link': [{ type: 'model_url', model_url: {} }, { kind: 'file', size: null, detail: 'auto' }, 0],
    'a file by reference': [{ type: 'file', file: { file_id: 'file-1' } }, { kind: 'file', size: null, detail: 'auto' }, 0],
    'a file in the message': [
      { type: 'file', file: { filename: 'a.pdf', file_data: 'data:application/pdf;base64,AAAAAAAA' } },
      { kind: 'file', size: null, detail: 'auto', isSilent: true, embeddedBytes: 6 },
      8,
    ],
    'a file by a link in the place of its base64, as OpenRouter takes it': [
      { type: 'file', file: { filename: 'a.pdf', file_data: 'https://example.com/a.pdf' } },
      { kind: 'file', size: null, detail: 'auto', isSilent: true },
      0,
    ],
    'a file in bare base64': [
      { type: 'file', file: { file_data: 'AAAA' } },
      { kind: 'file', size: null, detail: 'auto', embeddedBytes: 3 },
      4,
    ],
  }
  for (const [name, [part, expected, mediaBytes]] of Object.entries(cases)) {
    test(name, () => {
      const found = read(user([{ type: 'text', text: 'See:' }, part]))
      assert.deepEqual([found.images, found.mediaBytes], [[expected], mediaBytes])
    })
  }

  test('what was spoken is heard again, however little of it comes back', () => {
    const audio = { kind: 'audio', size: null, detail: 'auto' }
    const spoken = read({ role: 'assistant', audio: { id: 'audio_1' } })
    assert.deepEqual([spoken.images, spoken.mediaBytes], [[audio], 0])
    assert.deepEqual(read({ role: 'assistant', content: 'Hi', audio: { id: 'audio_1', data: 'AAAA', transcript: 'Hi' } }).images, [audio])
    for (const silent of [
      { role: 'assistant', content: 'Hi', audio: null },
      { role: 'user', content: 'Hi', audio: { id: 'audio_1' } },
    ])
      assert.deepEqual(read(silent).images, [])
    const heard =
      messageTokensBound(spoken, 'gpt-4o-audio-preview') - messageTokensBound(read({ role: 'assistant' }), 'gpt-4o-audio-preview')
    assert.ok(heard >= AUDIO_TOKENS_CEILING)
  })

  test('all parts of a message count, and text does not', () => {
    const found = read(user([{ type: 'text', text: 'x' }, ...Object.values(cases).map(([part]) => part), 'x', { type: 'refusal' }]))
    assert.equal(found.images.length, Object.keys(cases).length)
    const embedded = Object.values(cases).reduce((sum, [, , bytes]) => sum + bytes, 0)
    assert.equal(found.mediaBytes, embedded)
    assert.ok(found.mediaBytes < found.bytes.length)
    assert.deepEqual(read(user('data:image/png;base64,AAAA')).images, [])
    const texts = [
      { type: 'document', source: { type: 'text', data: 'x' } },
      { type: 'document', document: { data: 'x' } },
    ]
    assert.deepEqual(read(user(texts)).images, [])
  })
})
