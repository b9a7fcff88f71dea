import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { usageOf } from '@farebox/crds/usage.ts'
import type { Usage } from '@farebox/crds/usage.ts'
import type { JsonObject } from '../core/request.ts'
import { readSpeechUsage, readTranscriptionUsage, spokenCharacters } from './audio-usage.ts'

describe('usage of transcriptions', () => {
  const cases: Record<string, [answer: JsonObject, expected: Partial<Usage>, audioTokens?: number]> = {
    'by tokens': [
      {
        text: 'Hello',
        usage: {
          type: 'tokens',
          input_tokens: 14,
          input_token_details: { text_tokens: 4, audio_tokens: 10 },
          output_tokens: 101,
          total_tokens: 115,
        },
      },
      { uncachedInput: 4, audioInput: 10, output: 101 },
    ],
    'tokens without details': [{ usage: { type: 'tokens', input_tokens: 14, output_tokens: 1 } }, { uncachedInput: 14, output: 1 }],
    'by seconds': [{ text: 'Hello', usage: { type: 'duration', seconds: 27 } }, { seconds: 27 }],
    'a second that has begun is whole': [{ usage: { type: 'duration', seconds: 27.01 } }, { seconds: 28 }],
    'no audio': [{ usage: { type: 'duration', seconds: 0 } }, {}],
    'the long format without a usage says how long it was': [{ task: 'transcribe', duration: 8.47, text: 'Hello' }, { seconds: 9 }],
    'the same as text': [{ duration: '8.470000267028809' }, { seconds: 9 }],
    'zeros, from who counts nothing': [
      { duration: 8.4, usage: { type: 'tokens', input_tokens: 0, output_tokens: 0, total_tokens: 0 } },
      { seconds: 9 },
    ],
    'as Mistral counts': [
      { usage: { prompt_audio_seconds: 203, prompt_tokens: 4, total_tokens: 3264, completion_tokens: 635 } },
      { uncachedInput: 4, audioInput: 2625, output: 635, seconds: 203 },
      2625,
    ],
  }
  for (const [name, [answer, expected, audioTokens]] of Object.entries(cases)) {
    const sound = audioTokens === undefined ? {} : { audioTokens }
    test(name, () =>
      assert.deepEqual(readTranscriptionUsage(answer), { usage: usageOf(expected), ...sound, clamped: false, invalid: false }),
    )
  }
})

test('speech in a stream is audio; nothing is known of what says nothing', () => {
  assert.deepEqual(readSpeechUsage({ input_tokens: 14, output_tokens: 101, total_tokens: 115 }), {
    usage: usageOf({ uncachedInput: 14, audioOutput: 101 }),
    clamped: false,
    invalid: false,
  })
  assert.equal(readSpeechUsage(undefined).usage, null)
  assert.equal(readTranscriptionUsage({ text: 'Hello' }).usage, null)
  assert.equal(readTranscriptionUsage({ usage: { type: 'tokens', input_tokens: 1 } }).usage, null)
  assert.equal(readTranscriptionUsage({ usage: { type: 'tokens', input_tokens: 0, output_tokens: 0 } }).usage, null)
})

test('what cannot be is invalid, what is too much is cut', () => {
  for (const usage of [{ type: 'duration', seconds: -1 }, { type: 'duration', seconds: 'long' }, { input_tokens: -1, output_tokens: 1 }, 5])
    assert.deepEqual(readTranscriptionUsage({ usage }), { usage: null, clamped: false, invalid: true })
  assert.equal(readTranscriptionUsage({ duration: [] }).invalid, true)
  const cut = readTranscriptionUsage({ usage: { input_tokens: 5, input_token_details: { audio_tokens: 9 }, output_tokens: 1 } })
  assert.deepEqual(cut, { usage: usageOf({ audioInput: 5, output: 1 }), clamped: true, invalid: false })
})

test('characters are code points, whatever their size', () => {
  for (const text of ['', 'Hello.', 'Grüße, 世界', '👋🏽', 'half \ud83d alone', '\udc00\ud83d'])
    assert.equal(spokenCharacters(text), Array.from(text).length, text)
})
