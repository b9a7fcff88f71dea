/** The old completions: text that goes on where a prompt ends. https://developers.openai.com/api/docs/api-reference/completions */
import { badRequest } from '../api-error.ts'
import type { Draft } from '../drafts.ts'
import { integerAt, isObject, onlyKeys } from '../fields.ts'
import { completeProgress, generate } from '../generation.ts'
import { languageOf, prose } from '../prose.ts'
import { hashOf, randomOf } from '../random.ts'
import { countTokens } from '../tokens.ts'
import { unitModel } from './models.ts'
import type { UnitCall } from './call.ts'

// oxfmt-ignore
const PARAMETERS = new Set([
  'model', 'prompt', 'best_of', 'echo', 'frequency_penalty', 'logit_bias', 'logprobs', 'max_tokens', 'n', 'presence_penalty', 'seed', 'stop',
  'stream', 'stream_options', 'suffix', 'temperature', 'top_p', 'user',
])
const CONTEXT_TOKENS = 4_097
const OUTPUT_TOKENS_DEFAULT = 16
const ANSWER_TOKENS = 60

export async function completeText(call: UnitCall): Promise<void> {
  const { fields, controls, reader, response } = call
  onlyKeys(fields, PARAMETERS, '')
  const model = unitModel(fields['model'], 'completions')
  const prompts = promptsOf(fields['prompt'])
  const n = fields['n'] === undefined ? 1 : integerAt(fields['n'], 'n', 1, 128)
  const bestOf = fields['best_of'] === undefined ? n : integerAt(fields['best_of'], 'best_of', n, 20)
  const limit =
    fields['max_tokens'] === undefined ? OUTPUT_TOKENS_DEFAULT : integerAt(fields['max_tokens'], 'max_tokens', 0, CONTEXT_TOKENS)
  const stream = fields['stream'] === true
  const options = isObject(fields['stream_options']) ? fields['stream_options'] : null
  if (options !== null && !stream) throw badRequest('stream_options', null, "'stream_options' is only allowed when 'stream' is enabled.")
  if (stream && bestOf > n) throw badRequest('best_of', null, 'You cannot stream with best_of > n.')
  const promptTokens = prompts.reduce((sum, prompt) => sum + (typeof prompt === 'string' ? countTokens(prompt) : prompt.length), 0)
  const longest = Math.max(...prompts.map((prompt) => (typeof prompt === 'string' ? countTokens(prompt) : prompt.length)))
  if (longest + limit > CONTEXT_TOKENS)
    throw badRequest(
      'max_tokens',
      'context_length_exceeded',
      `This model's maximum context length is ${CONTEXT_TOKENS} tokens, however you requested ${longest + limit} tokens.`,
    )
  // All candidates are billed, those that nobody sees too.
  const drafts = prompts.flatMap((prompt, at) =>
    Array.from({ length: bestOf }, (_, choice) => draftOf(prompt, at * bestOf + choice, limit, controls.outputTokens)),
  )
  const shown = drafts.map((draft, index) => ({ draft, index })).filter(({ index }) => index % bestOf < n)
  const line = call.open(model, { stream, promptTokens })
  const use = (outputTokens: number): void => line.use({ input: promptTokens, output: outputTokens })
  use(0)
  const frame = { id: `cmpl-${call.requestId.slice(4)}`, object: 'text_completion', created: 1_760_000_000, model: model.id }
  const echoed = (choice: number): string => {
    const prompt = prompts[Math.floor(choice / n)]
    return fields['echo'] === true && typeof prompt === 'string' ? prompt : ''
  }
  const choice = (index: number, text: string, finish: string | null): object => ({ text, index, logprobs: null, finish_reason: finish })
  const usage = (output: number): object => ({
    prompt_tokens: promptTokens,
    completion_tokens: output,
    total_tokens: promptTokens + output,
  })
  const stopAfter = typeof controls.cutAfterTokens === 'number' ? controls.cutAfterTokens : null
  let text = ''
  const emit = (choices: readonly object[], more: object): void => {
    text += `data: ${JSON.stringify({ ...frame, choices, ...more })}\n\n`
  }
  const counted = options?.['include_usage'] === true
  if (stream) {
    call.startEvents()
    for (const [index] of shown.entries())
      if (echoed(index) !== '') emit([choice(index, echoed(index), null)], counted ? { usage: null } : {})
  }
  await generate(
    shown.map(({ draft }) => draft),
    { tokenDelayMs: controls.tokenDelayMs, stopAfter },
    reader,
    {
      piece(index, at) {
        const piece = shown[index]?.draft.pieces[at]
        if (stream && piece?.kind === 'text') emit([choice(index, piece.text, null)], counted ? { usage: null } : {})
      },
      done({ outputTokens }) {
        use(outputTokens)
        if (text !== '') response.write(text)
        text = ''
      },
    },
  )
  if (reader.gone) return line.close('aborted')
  if (stopAfter !== null) {
    response.destroy()
    return line.close('cut')
  }
  const total = completeProgress(drafts).outputTokens
  use(total)
  const ended = shown.map(({ draft }, index) => ({ index, finish: draft.finish === 'length' ? 'length' : 'stop' }))
  if (!stream) {
    const choices = ended.map(({ index, finish }) => choice(index, echoed(index) + wordsOf(shown[index]?.draft), finish))
    call.sendJson({ ...frame, choices, ...(controls.usage === 'omit' ? {} : { usage: usage(total) }) })
    return line.close('complete')
  }
  for (const { index, finish } of ended) emit([choice(index, '', finish)], counted ? { usage: null } : {})
  if (counted && controls.usage !== 'omit') emit([], { usage: usage(total) })
  response.end(`${text}data: [DONE]\n\n`)
  line.close('complete')
}

function promptsOf(value: unknown): readonly (string | readonly number[])[] {
  if (value === undefined || typeof value === 'string') return [value ?? '']
  if (isTokens(value)) return [value]
  if (Array.isArray(value) && value.length > 0) {
    const prompts: (string | readonly number[])[] = []
    for (const each of value) if (typeof each === 'string' || isTokens(each)) prompts.push(each)
    if (prompts.length === value.length) return prompts
  }
  throw badRequest('prompt', null, "'$.prompt' is invalid. Please check the API reference.")
}

function isTokens(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.length > 0 && value.every(Number.isInteger)
}

function draftOf(prompt: string | readonly number[], choice: number, limit: number, wanted: number | null): Draft {
  const text = typeof prompt === 'string' ? prompt : prompt.join(' ')
  const whole = prose(randomOf(hashOf(`${text} ${choice}`)), wanted ?? ANSWER_TOKENS, languageOf(text))
  const kept = whole.slice(0, limit)
  return {
    pieces: kept.map((each) => ({ kind: 'text', text: each })),
    reasoningTokens: 0,
    finish: kept.length < whole.length ? 'length' : 'stop',
    billedBefore: (index) => Math.min(index, kept.length),
  }
}

function wordsOf(draft: Draft | undefined): string {
  return draft?.pieces.map((piece) => (piece.kind === 'text' ? piece.text : '')).join('') ?? ''
}
