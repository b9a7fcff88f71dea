/** Speech (by characters, or by the tokens made) and transcription (by seconds, or by tokens). https://developers.openai.com/api/docs/guides/speech-to-text */
import { usageOf } from '@farebox/crds/usage.ts'
import type { ModelRequest } from '../core/request.ts'
import { audioSeconds } from './audio-length.ts'
import { readSpeechUsage, readTranscriptionUsage } from './audio-usage.ts'
import { objectAt } from './json-values.ts'
import { InvalidField } from './request-reading.ts'
import { answerWith, modelOf, parseUnitCall, UNIT_WIRE, UnitStream } from './unit-call.ts'
import { ABSENT } from './usage-reading.ts'
import type { ReadAnswer, Wire } from './wire.ts'

const NONE_SPLIT: ReadonlySet<string> = new Set()
/** Speech is 1,250 tokens a minute, as the price per minute comes to. */
const MADE_TOKENS_PER_SECOND = 21
/** Slow speech: about four syllables of a language that writes each with one character. */
const CHARACTERS_PER_SECOND_MIN = 3.5
/** "777,777" is nine words. */
const CHARACTERS_PER_DIGIT = 3
/** No provider speaks a longer text; what is beyond may be all digits, since to count them would hold up everybody else. */
const COUNTED_CHARACTERS_MAX = 64 * 1024
/** Silence around the words. */
const PAUSE_SECONDS = 2
const SPEED_MIN = 0.25
/** Ten tokens a second, and what is cut at the borders of chunks. */
const HEARD_TOKENS_PER_SECOND = 12
/** Fast speech, in tokens of what is written down. */
const WRITTEN_TOKENS_PER_SECOND = 8
const WRITTEN_TOKENS_BASE = 128

export const speechWire: Wire = {
  ...UNIT_WIRE,
  name: 'speech',
  parse: (body, call) =>
    parseUnitCall(body, call, NONE_SPLIT, (fields) => {
      const input = fields.text('input')
      if (input === null || input === '') throw new InvalidField('input', 'must be a text')
      // Written as text it counts, too.
      const speed = Number(fields.value('speed') ?? 1)
      const slowest = speed < 1 ? Math.max(SPEED_MIN, speed) : Number.isNaN(speed) ? SPEED_MIN : 1
      const counted = input.slice(0, COUNTED_CHARACTERS_MAX)
      const digits = (counted.match(/\p{N}/gu)?.length ?? 0) + input.length - counted.length
      const spoken = input.length + digits * (CHARACTERS_PER_DIGIT - 1)
      const seconds = spoken / CHARACTERS_PER_SECOND_MIN / slowest + PAUSE_SECONDS
      return {
        wire: 'speech',
        model: modelOf(fields, call),
        stream: fields.text('stream_format') === 'sse',
        units: { characters: input.length, audioOutput: Math.ceil(seconds * MADE_TOKENS_PER_SECOND) },
      }
    }),
  readAnswer: readSpeech,
  openStream: ({ request }) =>
    new UnitStream(({ usage }) => {
      const reading = readSpeechUsage(usage)
      const { characters = 0 } = request.units
      // Models priced by characters say nothing of those.
      return reading.usage === null ? null : { ...reading, usage: { ...reading.usage, characters } }
    }),
}

/** Of speech in one piece the provider says nothing: its characters are known, and what was made of them is measured where it can be. */
function readSpeech(body: Buffer, request: ModelRequest): ReadAnswer {
  const answer = body[0] === OPEN_BRACE ? objectAt(body) : null
  if (answer !== null) return answerWith(answer, ABSENT)
  const { seconds, isRead } = audioSeconds(body)
  const held = request.units.audioOutput ?? 0
  // Longer than it was held for, too: what was made is billed.
  const audioOutput = isRead ? seconds * MADE_TOKENS_PER_SECOND : held
  const usage = usageOf({ characters: request.units.characters ?? 0, audioOutput, uncachedInput: request.fixedBytes })
  return answerWith(null, { usage: body.length === 0 ? null : usage, clamped: false, invalid: false }, { isEstimate: true })
}

const OPEN_BRACE = 0x7b

/** Transcriptions, and translations, which are the same call by another name. */
export const transcriptionsWire: Wire = {
  ...UNIT_WIRE,
  name: 'transcriptions',
  parse: (body, call) =>
    parseUnitCall(body, call, NONE_SPLIT, (fields) => {
      if (fields.files.length === 0) throw new InvalidField('file', 'must be a file in a form')
      const seconds = fields.files.reduce((sum, { bytes }) => sum + audioSeconds(bytes).seconds, 0)
      return {
        wire: 'transcriptions',
        model: modelOf(fields, call),
        stream: fields.flag('stream'),
        units: {
          seconds,
          audioInput: seconds * HEARD_TOKENS_PER_SECOND,
          output: seconds * WRITTEN_TOKENS_PER_SECOND + WRITTEN_TOKENS_BASE,
        },
        textBytes: body.length - fields.files.reduce((sum, { bytes }) => sum + bytes.length, 0),
      }
    }),
  /** Plain text and subtitles say nothing of their usage, nor do translations: they are settled as they were held for. */
  readAnswer(body) {
    const answer = objectAt(body)
    if (answer === null) return { ...answerWith(null, ABSENT), readable: body.length > 0 }
    return answerWith(answer, readTranscriptionUsage(answer))
  },
  openStream: () => new UnitStream((event) => (event['usage'] === undefined ? null : readTranscriptionUsage(event))),
}
