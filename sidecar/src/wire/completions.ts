/** The old completions: text that goes on where a prompt ends. https://developers.openai.com/api/docs/api-reference/completions */
import { isList, isObject } from '../core/message.ts'
import type { Json, ModelRequest, RequestChange } from '../core/request.ts'
import { ChatStream } from './event-stream.ts'
import { objectAt, objectsIn, textOrNull } from './json-values.ts'
import { readUsage } from './openai-usage.ts'
import { askForUsage, CHOICES_MAX, InvalidField, OUTPUT_LIMIT_MAX, spliceOf, UngovernedUse } from './request-reading.ts'
import { routerUse } from './router-use.ts'
import { answerWith, modelOf, parseUnitCall, UNIT_WIRE } from './unit-call.ts'
import type { UnitFields } from './unit-call.ts'
import { ABSENT } from './usage-reading.ts'
import type { CallContext, ReadAnswer, Wire } from './wire.ts'

const OUTPUT_FIELD = 'max_tokens'
/** What OpenAI and Azure write at most where nobody says how much. Other servers go on to the end of their window. */
const OUTPUT_TOKENS_DEFAULT = 16
const PROMPTS_MAX = 10_000
const SPLIT: ReadonlySet<string> = new Set(['prompt'])

export const completionsWire: Wire = {
  ...UNIT_WIRE,
  name: 'completions',
  asksForUsage: true,
  parse: (body, call) => parseUnitCall(body, call, SPLIT, (fields) => completionParts(fields, call)),
  render: renderCompletion,
  readAnswer: readCompletion,
  openStream: ({ stripUsage }) => new ChatStream({ stripUsage, notice: null, collect: false }),
  // 422: servers that check fields by a schema, as Mistral's does.
  objection: (status, body) => ((status === 400 || status === 422) && body.includes('stream_options') ? 'streamOptions' : null),
}

function completionParts(fields: UnitFields, call: CallContext): ReturnType<Parameters<typeof parseUnitCall>[3]> {
  const unmetered = routerUse((name) => fields.value(name))
  if (unmetered !== null) throw new UngovernedUse(unmetered)
  const prompts = promptCount(fields.value('prompt'))
  // Candidates that nobody sees are billed as well.
  const candidates = Math.max(fields.count('n', CHOICES_MAX) ?? 1, fields.count('best_of', CHOICES_MAX) ?? 1)
  const none = fields.value(OUTPUT_FIELD) === 0
  const limit = none ? null : (fields.count(OUTPUT_FIELD, OUTPUT_LIMIT_MAX) ?? defaultLimit(call))
  const options = fields.value('stream_options')
  return {
    wire: 'completions',
    model: modelOf(fields, call),
    stream: fields.flag('stream'),
    output: {
      choices: candidates * prompts,
      outputLimit: limit === null ? null : { field: OUTPUT_FIELD, tokens: limit },
      outputField: OUTPUT_FIELD,
      generates: !none,
      includeUsage: isObject(options) && options['include_usage'] === true,
    },
  }
}

function defaultLimit({ upstream: { provider } }: CallContext): number | null {
  return provider === 'openai' || provider === 'azure' ? OUTPUT_TOKENS_DEFAULT : null
}

/** A text, a list of tokens, or a list of these. */
function promptCount(prompt: Json | undefined): number {
  if (!isList(prompt) || prompt.every((each) => typeof each === 'number')) return 1
  if (prompt.length <= PROMPTS_MAX) return prompt.length
  throw new InvalidField('prompt', `must be at most ${PROMPTS_MAX} prompts`)
}

function renderCompletion(request: ModelRequest, change: RequestChange): Buffer {
  const splice = spliceOf(request, SPLIT)
  if (change.model !== undefined && change.model !== request.model) splice.set('model', JSON.stringify(change.model))
  if (change.outputLimit !== undefined) splice.set(OUTPUT_FIELD, String(change.outputLimit.tokens))
  if (change.includeUsage === true && !request.includeUsage) askForUsage(splice)
  return splice.bytes()
}

function readCompletion(body: Buffer): ReadAnswer {
  const answer = objectAt(body)
  if (answer === null) return answerWith(null, ABSENT, { outputBytes: body.length })
  const spoken = objectsIn(answer['choices'])
  let outputBytes = 0
  for (const { text } of spoken) if (typeof text === 'string') outputBytes += Buffer.byteLength(text)
  return answerWith(answer, readUsage(answer['usage']), { outputBytes, finishReason: textOrNull(spoken[0]?.['finish_reason']) })
}
