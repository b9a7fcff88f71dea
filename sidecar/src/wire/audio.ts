/** Speech (by characters, or by the tokens made) and transcription (by seconds, or by tokens). https://developers.openai.com/api/docs/guides/speech-to-text */
import { usageOf } from '@farebox/crds/usage.ts'
import type { ModelRequest } from '../core/request.ts'
import { audioSeconds } from './audio-length.ts'
import { readSpeechUsage, readTranscriptionUsage } from './audio-usage.ts'
import { objectAt } from './json-values.ts'
import { InvalidField } from './request-reading.ts'
import { answerWith, modelOf, parseUnitCall, UNIT_WIRE, UnitStream } from './unit-call.ts'
import type { UnitFields } from './unit-call.ts'
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
/** Recordings of speakers that a request may bring along, to know them again; more of them count as text. */
const SPEAKERS_MAX = 4
const SPEAKER = /^known_speaker_references(\[\d{0,3}\])?$/
/** The head of a recording in a text field. */
const DATA_URL = /^data:[^,]{0,128};base64,/i
const DATA_URL_HEAD_BYTES_MAX = 160

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
      const written = secondsOf(fields.files.map(({ bytes }) => bytes))
      const speakers = speakersIn(fields)
      const seconds = written + secondsOf(speakers.map(({ sound }) => sound))
      return {
        wire: 'transcriptions',
        model: modelOf(fields, call),
        stream: fields.flag('stream'),
        units: {
          seconds,
          audioInput: seconds * HEARD_TOKENS_PER_SECOND,
          output: written * WRITTEN_TOKENS_PER_SECOND + WRITTEN_TOKENS_BASE,
        },
        textBytes: body.length - bytesOf(fields.files) - bytesOf(speakers),
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

function secondsOf(sounds: readonly Buffer[]): number {
  return sounds.reduce((sum, bytes) => sum + audioSeconds(bytes).seconds, 0)
}

function bytesOf(parts: readonly { readonly bytes: Buffer }[]): number {
  return parts.reduce((sum, { bytes }) => sum + bytes.length, 0)
}

/** Recordings in text fields: heard, but not written down. https://developers.openai.com/api/docs/guides/speech-to-text#speaker-diarization */
function speakersIn({ texts }: UnitFields): readonly { readonly bytes: Buffer; readonly sound: Buffer }[] {
  const named = texts.filter(({ name }) => SPEAKER.test(name)).slice(0, SPEAKERS_MAX)
  return named.flatMap(({ bytes }) => {
    const head = DATA_URL.exec(bytes.toString('latin1', 0, DATA_URL_HEAD_BYTES_MAX))?.[0]
    return head === undefined ? [] : [{ bytes, sound: Buffer.from(bytes.toString('latin1', head.length), 'base64') }]
  })
}
