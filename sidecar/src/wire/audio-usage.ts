/** What OpenAI's transcription and speech endpoints used -> `Usage`. https://developers.openai.com/api/docs/api-reference/audio */
import { METERED_KINDS, usageOf } from '@farebox/crds/usage.ts'
import type { Usage } from '@farebox/crds/usage.ts'
import { isObject } from '../core/message.ts'
import type { Json, JsonObject } from '../core/request.ts'
import { readUsage } from './openai-usage.ts'
import { ABSENT, details, INVALID, Numbers, Share } from './usage-reading.ts'
import type { UsageReading } from './usage-reading.ts'

/**
 * Of the whole answer, or of the event that ends a stream (`transcript.text.done`): tokens, or seconds for models that are priced by
 * time. Without a usage, the `duration` that the long format gives counts; without that there is none, as in plain text. Sound of no
 * tokens is none: servers that count nothing say zeros.
 */
export function readTranscriptionUsage(answer: JsonObject): UsageReading {
  const raw = answer['usage']
  if (raw === undefined || raw === null) return readSeconds(answer['duration'])
  if (!isObject(raw)) return INVALID
  if (raw['type'] === 'duration') return readSeconds(raw['seconds'])
  const reading = raw['prompt_tokens'] === undefined ? readAudioTokens(raw, false) : readUsage(raw)
  return reading.usage !== null && isNothing(reading.usage) ? readSeconds(answer['duration']) : reading
}

function isNothing(usage: Usage): boolean {
  return METERED_KINDS.every((kind) => usage[kind] === 0)
}

/** Of the event that ends a stream of speech (`speech.audio.done`); all output is audio. Speech in one piece says nothing. */
export function readSpeechUsage(raw: Json | undefined): UsageReading {
  if (raw === undefined || raw === null) return ABSENT
  return isObject(raw) ? readAudioTokens(raw, true) : INVALID
}

/** Characters of a text to speak, as models that are priced by them count: an emoji is as many as it has code points. */
export function spokenCharacters(text: string): number {
  let count = 0
  for (let index = 0; index < text.length; index += 1) {
    const code = text.charCodeAt(index)
    const next = text.charCodeAt(index + 1)
    if (code >= 0xd800 && code < 0xdc00 && next >= 0xdc00 && next < 0xe000) index += 1
    count += 1
  }
  return count
}

function readSeconds(value: Json | undefined): UsageReading {
  const numbers = new Numbers()
  // Some write it as text.
  const seconds = numbers.readBegun(typeof value === 'string' && /^\d+(\.\d+)?$/.test(value) ? Number(value) : value)
  if (numbers.broken) return INVALID
  return seconds === null ? ABSENT : { usage: usageOf({ seconds }), clamped: false, invalid: false }
}

function readAudioTokens(raw: JsonObject, isSpoken: boolean): UsageReading {
  const numbers = new Numbers()
  const input = numbers.read(raw['input_tokens'])
  const output = numbers.read(raw['output_tokens'])
  const audio = numbers.read(details(raw, 'input_token_details')['audio_tokens']) ?? 0
  if (numbers.broken) return INVALID
  if (input === null || output === null) return ABSENT
  const split = new Share(input)
  const audioInput = split.take(audio)
  const made = isSpoken ? { audioOutput: output } : { output }
  return { usage: usageOf({ uncachedInput: split.left, audioInput, ...made }), clamped: split.short, invalid: false }
}
