/** Speech, and what was said. https://developers.openai.com/api/docs/guides/speech-to-text, .../text-to-speech */
import { badRequest } from '../api-error.ts'
import { decimalAt, oneOf, onlyKeys, stringAt } from '../fields.ts'
import { languageOf, prose } from '../prose.ts'
import { hashOf, randomOf } from '../random.ts'
import { countTokens } from '../tokens.ts'
import { mp3Of, secondsOf, wavOf } from './audio-file.ts'
import { unitModel } from './models.ts'
import type { UnitCall } from './call.ts'
import { typedEvent } from './call.ts'

const SPEECH_PARAMETERS = new Set(['model', 'input', 'voice', 'instructions', 'response_format', 'speed', 'stream_format'])
// oxfmt-ignore
const HEARING_PARAMETERS = new Set([
  'model', 'language', 'prompt', 'response_format', 'temperature', 'stream', 'include[]', 'timestamp_granularities[]', 'chunking_strategy',
  'known_speaker_names[]', 'known_speaker_references[]',
])
const INPUT_CHARACTERS_MAX = 4_096
const CHARACTERS_PER_SECOND = 14
/** Tokens of speech: 1,250 a minute made, ten a second heard. */
const MADE_TOKENS_PER_MINUTE = 1_250
const HEARD_TOKENS_PER_SECOND = 10
const WORDS_PER_SECOND = 3
const TYPES = { mp3: 'audio/mpeg', wav: 'audio/wav', pcm: 'audio/pcm', opus: 'audio/opus', aac: 'audio/aac', flac: 'audio/flac' } as const

export function speak(call: UnitCall): void {
  const { fields, response } = call
  onlyKeys(fields, SPEECH_PARAMETERS, '')
  const model = unitModel(fields['model'], 'speech')
  const text = stringAt(fields['input'], 'input', INPUT_CHARACTERS_MAX)
  if (text === '') throw badRequest('input', 'string_below_min_length', "Invalid 'input': string too short.")
  stringAt(fields['voice'], 'voice')
  const speed = fields['speed'] === undefined ? 1 : decimalAt(fields['speed'], 'speed', 0.25, 4)
  const format = oneOf(fields['response_format'] ?? 'mp3', 'response_format', ['mp3', 'wav', 'pcm', 'opus', 'aac', 'flac'])
  const seconds = Math.max(1, text.length / CHARACTERS_PER_SECOND / speed)
  const input = countTokens(text) + countTokens(typeof fields['instructions'] === 'string' ? fields['instructions'] : '')
  const output = Math.ceil((seconds * MADE_TOKENS_PER_MINUTE) / 60)
  const isStream = fields['stream_format'] === 'sse'
  if (isStream && model.id.startsWith('tts-1'))
    throw badRequest('stream_format', 'unsupported_value', "'sse' is not supported for this model.")
  const line = call.open(model, { stream: isStream, promptTokens: input })
  line.use({ characters: Array.from(text).length, input, output }, output)
  const audio =
    format === 'wav' || format === 'pcm'
      ? wavOf(seconds, format === 'wav')
      : format === 'mp3'
        ? mp3Of(seconds)
        : Buffer.alloc(Math.ceil(seconds * 4_000), 7)
  if (!isStream) {
    call.send(TYPES[format], audio)
    return line.close('complete')
  }
  call.startEvents()
  const half = Math.ceil(audio.length / 2)
  for (const part of [audio.subarray(0, half), audio.subarray(half)])
    response.write(typedEvent({ type: 'speech.audio.delta', audio: part.toString('base64') }))
  const usage = { input_tokens: input, output_tokens: output, total_tokens: input + output }
  response.end(typedEvent({ type: 'speech.audio.done', usage }))
  line.close('complete')
}

export async function transcribe(call: UnitCall, task: 'transcribe' | 'translate'): Promise<void> {
  const { fields, files, controls, response } = call
  onlyKeys(fields, HEARING_PARAMETERS, '')
  const model = unitModel(fields['model'], 'transcriptions')
  if (task === 'translate' && model.id !== 'whisper-1') throw badRequest('model', 'invalid_value', 'Translations are made by whisper-1.')
  const [file] = files
  if (file === undefined || files.length > 1) throw badRequest('file', 'missing_required_parameter', "Missing required parameter: 'file'.")
  // Another one is billed by time, too, and speaks of tokens all the same.
  const byTime = model.id === 'whisper-1'
  const format = oneOf(
    fields['response_format'] ?? 'json',
    'response_format',
    byTime ? ['json', 'text', 'srt', 'verbose_json', 'vtt'] : ['json', 'text'],
  )
  const bytes = Buffer.from(await file.arrayBuffer())
  const seconds = secondsOf(bytes)
  const prompt = typeof fields['prompt'] === 'string' ? fields['prompt'] : ''
  const said = prose(randomOf(hashOf(`${bytes.length} ${prompt}`)), Math.ceil(seconds * WORDS_PER_SECOND), languageOf(prompt))
  const heard = { audioInput: Math.ceil(seconds * HEARD_TOKENS_PER_SECOND), input: countTokens(prompt), output: said.length }
  const isStream = fields['stream'] === 'true' && !byTime
  const line = call.open(model, { stream: isStream, promptTokens: heard.audioInput + heard.input })
  line.use(model.price.perMinute === undefined ? heard : { seconds: Math.ceil(seconds) }, heard.output)
  const usage = byTime
    ? { type: 'duration', seconds: Math.ceil(seconds) }
    : {
        type: 'tokens',
        input_tokens: heard.audioInput + heard.input,
        output_tokens: heard.output,
        total_tokens: heard.audioInput + heard.input + heard.output,
        input_token_details: { audio_tokens: heard.audioInput, text_tokens: heard.input },
      }
  const counted = controls.usage === 'omit' || task === 'translate' ? {} : { usage }
  const text = said.join('')
  if (isStream) {
    call.startEvents()
    for (const delta of said) response.write(typedEvent({ type: 'transcript.text.delta', delta }))
    response.end(typedEvent({ type: 'transcript.text.done', text, ...counted }))
  } else if (format === 'json') call.sendJson({ text, ...counted })
  else if (format === 'verbose_json') call.sendJson({ task, language: 'english', duration: seconds, text, segments: [], ...counted })
  else call.send('text/plain; charset=utf-8', Buffer.from(format === 'text' ? `${text}\n` : `1\n00:00:00,000 --> 00:00:01,000\n${text}\n`))
  line.close('complete')
}
