/** The old completions: text that goes on where a prompt ends. https://developers.openai.com/api/docs/api-reference/completions */
import { isList, isObject } from '../core/message.ts'
import type { Json, ModelRequest, RequestChange } from '../core/request.ts'
import { ChatStream } from './event-stream.ts'
import { scanObject } from './json-scan.ts'
import { CHOICES_MAX, OUTPUT_LIMIT_MAX } from './openai-chat.ts'
import { readUsage } from './openai-usage.ts'
import { Splice } from './splice.ts'
import type { Layout } from './splice.ts'
import { answerWith, asBuffer, InvalidField, modelOf, parseAnswer, parseUnitCall, UNIT_WIRE } from './unit-call.ts'
import type { UnitFields } from './unit-call.ts'
import { ABSENT } from './usage-reading.ts'
import type { CallContext, ReadAnswer, Wire } from './wire.ts'

const OUTPUT_FIELD = 'max_tokens'
/** What the provider writes at most where nobody says how much. */
const OUTPUT_TOKENS_DEFAULT = 16
const PROMPTS_MAX = 10_000
const SPLIT: ReadonlySet<string> = new Set(['prompt'])
const LAYOUTS = new WeakMap<Uint8Array, Layout>()

export const completionsWire: Wire = {
  ...UNIT_WIRE,
  name: 'completions',
  asksForUsage: true,
  parse: (body, call) => parseUnitCall(body, call, SPLIT, (fields) => completionParts(fields, call)),
  render: renderCompletion,
  readAnswer: readCompletion,
  openStream: ({ stripUsage }) => new ChatStream({ stripUsage, notice: null, collect: false }),
  objection: (status, body) => (status === 400 && body.includes('stream_options') ? 'streamOptions' : null),
}

function completionParts(fields: UnitFields, call: CallContext): ReturnType<Parameters<typeof parseUnitCall>[3]> {
  const prompts = promptCount(fields.value('prompt'))
  // Candidates that nobody sees are billed as well.
  const candidates = Math.max(fields.count('n', CHOICES_MAX) ?? 1, fields.count('best_of', CHOICES_MAX) ?? 1)
  const none = fields.value(OUTPUT_FIELD) === 0
  const limit = none ? 0 : (fields.count(OUTPUT_FIELD, OUTPUT_LIMIT_MAX) ?? OUTPUT_TOKENS_DEFAULT)
  const options = fields.value('stream_options')
  if (fields.layout !== null) {
    const { bodyStart, fields: layout } = fields.layout
    LAYOUTS.set(fields.body, { bodyStart, fields: layout.map(({ name, keyStart, start, end }) => ({ name, keyStart, start, end })) })
  }
  return {
    wire: 'completions',
    model: modelOf(fields, call),
    stream: fields.flag('stream'),
    output: {
      choices: candidates * prompts,
      outputLimit: none ? null : { field: OUTPUT_FIELD, tokens: limit },
      outputField: OUTPUT_FIELD,
      generates: !none,
      includeUsage: isObject(options) && options['include_usage'] === true,
    },
  }
}

/** A text, a list of tokens, or a list of these. */
function promptCount(prompt: Json | undefined): number {
  if (!isList(prompt) || prompt.every((each) => typeof each === 'number')) return 1
  if (prompt.length <= PROMPTS_MAX) return prompt.length
  throw new InvalidField('prompt', `must be at most ${PROMPTS_MAX} prompts`)
}

function renderCompletion(request: ModelRequest, change: RequestChange): Buffer {
  const body = asBuffer(request.body)
  const splice = new Splice(body, layoutOf(body))
  if (change.model !== undefined && change.model !== request.model) splice.set('model', JSON.stringify(change.model))
  if (change.outputLimit !== undefined) splice.set(OUTPUT_FIELD, String(change.outputLimit.tokens))
  if (change.includeUsage === true && !request.includeUsage) {
    const own: Json = JSON.parse(splice.text('stream_options') ?? 'null')
    splice.set('stream_options', JSON.stringify({ ...(isObject(own) ? own : {}), include_usage: true }))
  }
  return splice.bytes()
}

function layoutOf(body: Buffer): Layout {
  const known = LAYOUTS.get(body)
  if (known !== undefined) return known
  const work = scanObject(body, SPLIT) // a copy of a body that was read before
  for (;;) {
    const step = work.next()
    if (step.done !== true) continue
    if (step.value.status === 'invalid') throw new TypeError(`a request that was read must render: ${step.value.message}`)
    return step.value
  }
}

function readCompletion(body: Buffer): ReadAnswer {
  const answer = parseAnswer(body)
  if (answer === null) return answerWith(null, ABSENT, { outputBytes: body.length })
  const { choices } = answer
  const spoken = isList(choices) ? choices.filter(isObject) : []
  const reason = spoken[0]?.['finish_reason']
  let outputBytes = 0
  for (const { text } of spoken) if (typeof text === 'string') outputBytes += Buffer.byteLength(text)
  return answerWith(answer, readUsage(answer['usage']), { outputBytes, finishReason: typeof reason === 'string' ? reason : null })
}
