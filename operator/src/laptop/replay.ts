/** Plays recorded conversations through the real `openai` client, several at once, as an app would live them. */
import OpenAI from 'openai'
import { messageOf } from '../core/error-text.ts'
import type { RecordedCall, RecordedConversation } from './records.ts'
import type { Answer, HistoryMessage, Script } from './turns.ts'
import { reactTo, scriptOf } from './turns.ts'

/**
 * `finished`: played to its end; `ended`: closed by its budget with a proper answer; `refused`: 402; `failed`: anything else that
 * went wrong, see `error`; `stopped`: the replay itself was stopped.
 */
export type Outcome = 'finished' | 'ended' | 'refused' | 'failed' | 'stopped'

export interface ReplayReport {
  readonly id: string
  readonly outcome: Outcome
  /** Calls that got an answer, of those recorded. */
  readonly calls: number
  readonly callsRecorded: number
  /** Tool loops that the answers left: they did not make the recorded calls. */
  readonly loopsStopped: number
  /** What the answers' headers said last; null where nobody governs. */
  readonly standing: HeaderStanding | null
  readonly error: string | null
  readonly durationMs: number
}

/** The state headers of an answer. */
export interface HeaderStanding {
  /** The hashed id of the conversation. */
  readonly conversation: string
  readonly rung: string
  readonly percent: number
}

export interface ReplayOptions {
  /** With the version: `http://127.0.0.1:4180/openai/v1`. Of several, the calls of a conversation go to each in turn. */
  readonly baseUrls: readonly string[]
  readonly apiKey: string
  /** Conversations at the same time. */
  readonly concurrency: number
  /** In place of the recorded models. */
  readonly model?: string
  /** Further headers of a conversation's requests: a tier claim, a tag. */
  readonly headers?: (conversation: RecordedConversation) => Readonly<Record<string, string>>
  /** Who speaks; default: one user for each conversation. */
  readonly user?: (conversation: RecordedConversation) => string
  readonly signal?: AbortSignal
  /** Told after each answer. */
  readonly onAnswer?: (id: string, standing: HeaderStanding | null) => void
  /** Told when a conversation is over. */
  readonly onDone?: (report: ReplayReport, conversation: RecordedConversation) => void | Promise<void>
}

/** Used where a recording names no model. */
export const DEFAULT_MODEL = 'gpt-4o'
/** `budget_busy` asks for a second's patience; the client honours `retry-after`. */
const RETRIES = 8
const TIMEOUT_MS = 120_000
const CONCURRENCY_MAX = 256

/** Plays all of them; reports in the order given. Every other conversation is streamed. One that fails does not stop the others. */
export async function replay(conversations: readonly RecordedConversation[], options: ReplayOptions): Promise<readonly ReplayReport[]> {
  const clients = options.baseUrls.map(
    (baseURL) => new OpenAI({ baseURL, apiKey: options.apiKey, maxRetries: RETRIES, timeout: TIMEOUT_MS }),
  )
  const reports: ReplayReport[] = []
  let next = 0
  const work = async (): Promise<void> => {
    for (let index = next++; index < conversations.length; index = next++) {
      const conversation = conversations[index]
      if (conversation === undefined) return
      const report = await playOne(clients, conversation, { ...options, stream: index % 2 === 1 })
      reports[index] = report
      await options.onDone?.(report, conversation)
    }
  }
  const workers = Math.min(Math.max(1, options.concurrency), CONCURRENCY_MAX, conversations.length)
  await Promise.all(Array.from({ length: workers }, work))
  return reports
}

interface PlayOptions extends ReplayOptions {
  readonly stream: boolean
}

async function playOne(clients: readonly OpenAI[], conversation: RecordedConversation, options: PlayOptions): Promise<ReplayReport> {
  const script = scriptOf(conversation)
  const player = new Player(clients, conversation, options)
  const startedAt = performance.now()
  let outcome: Outcome
  let error: string | null = null
  try {
    outcome = await player.play(script)
  } catch (caught) {
    if (options.signal?.aborted === true) outcome = 'stopped'
    else if (caught instanceof OpenAI.APIError && caught.status === 402) outcome = 'refused'
    else {
      outcome = 'failed'
      error = messageOf(caught)
    }
    if (caught instanceof OpenAI.APIError) player.note(caught.headers)
  }
  return {
    id: conversation.id,
    outcome,
    calls: player.calls,
    callsRecorded: script.calls,
    loopsStopped: player.loopsStopped,
    standing: player.standing,
    error,
    durationMs: Math.round(performance.now() - startedAt),
  }
}

/** One conversation as its app holds it. */
class Player {
  calls = 0
  loopsStopped = 0
  standing: HeaderStanding | null = null
  readonly #clients: readonly OpenAI[]
  readonly #conversation: RecordedConversation
  readonly #options: PlayOptions
  readonly #history: HistoryMessage[] = []
  /** The last answer was the closing words of a budget. A rung alone ends nothing: with `mode: Observe` it says what would have been. */
  #isClosed = false

  constructor(clients: readonly OpenAI[], conversation: RecordedConversation, options: PlayOptions) {
    this.#clients = clients
    this.#conversation = conversation
    this.#options = options
  }

  async play(script: Script): Promise<Outcome> {
    for (const content of script.system) this.#history.push({ role: 'system', content })
    for (const turn of script.turns) {
      if (turn.user !== null) this.#history.push({ role: 'user', content: turn.user })
      for (const step of turn.steps) {
        if (this.#options.signal?.aborted === true) return 'stopped'
        const answer = await this.#ask()
        if (this.#isClosed) return 'ended'
        const reaction = reactTo(answer, step)
        this.#history.push(...reaction.messages)
        if (reaction.next === 'stopped' || (reaction.next === 'answered' && step.calls.length > 0)) this.loopsStopped += 1
        if (reaction.next !== 'loop') break
      }
    }
    return 'finished'
  }

  /** Takes the state headers of an answer; keeps what it knew where there are none. */
  note(headers: Headers | undefined): void {
    const conversation = headers?.get('x-farebox-conversation')
    if (headers === undefined || conversation === null || conversation === undefined) return
    this.standing = { conversation, rung: headers.get('x-farebox-rung') ?? 'None', percent: Number(headers.get('x-farebox-percent') ?? 0) }
  }

  #hear(headers: Headers): void {
    this.note(headers)
    this.#isClosed = headers.get('x-farebox-synthetic') === 'true'
  }

  async #ask(): Promise<Answer> {
    const { model, headers, user, signal, stream, onAnswer } = this.#options
    const conversation = this.#conversation
    const body = {
      model: model ?? conversation.model ?? DEFAULT_MODEL,
      messages: [...this.#history],
      ...(conversation.tools.length === 0 ? {} : { tools: conversation.tools.map((tool) => ({ ...tool })) }),
    }
    const request = {
      headers: {
        'x-farebox-conversation': conversation.id,
        'x-farebox-user': user?.(conversation) ?? `user of ${conversation.id}`,
        ...headers?.(conversation),
      },
      ...(signal === undefined ? {} : { signal }),
    }
    const client = this.#clients[this.calls % this.#clients.length]
    if (client === undefined) throw new TypeError('a replay needs a base URL')
    const { completions } = client.chat
    let answer: Answer
    if (stream) {
      const { data, response } = await completions.create({ ...body, stream: true }, request).withResponse()
      this.#hear(response.headers)
      answer = await collect(data)
    } else {
      const { data, response } = await completions.create({ ...body, stream: false }, request).withResponse()
      this.#hear(response.headers)
      answer = answerOf(data)
    }
    this.calls += 1
    onAnswer?.(conversation.id, this.standing)
    return answer
  }
}

function answerOf(completion: OpenAI.ChatCompletion): Answer {
  const [choice] = completion.choices
  if (choice === undefined) throw new Error('the answer has no choice')
  const calls = (choice.message.tool_calls ?? []).flatMap((call): RecordedCall[] =>
    call.type === 'function'
      ? [{ id: call.id, type: 'function', function: { name: call.function.name, arguments: call.function.arguments } }]
      : [],
  )
  return { content: choice.message.content, calls, truncated: choice.finish_reason === 'length' }
}

/** The parts of a stream put together, as its finish reason says. Throws when it ends without one. */
async function collect(stream: AsyncIterable<OpenAI.ChatCompletionChunk>): Promise<Answer> {
  let content: string | null = null
  let finish: string | null = null
  const calls: { id: string; name: string; arguments: string }[] = []
  for await (const chunk of stream) {
    const [choice] = chunk.choices
    if (choice === undefined) continue
    if (typeof choice.delta.content === 'string') content = (content ?? '') + choice.delta.content
    for (const part of choice.delta.tool_calls ?? []) {
      const call = (calls[part.index] ??= { id: '', name: '', arguments: '' })
      call.id += part.id ?? ''
      call.name += part.function?.name ?? ''
      call.arguments += part.function?.arguments ?? ''
    }
    finish = choice.finish_reason ?? finish
  }
  if (finish === null) throw new Error('the stream ended before the answer was finished')
  return {
    content,
    calls: calls.map((call) => ({ id: call.id, type: 'function', function: { name: call.name, arguments: call.arguments } })),
    truncated: finish === 'length',
  }
}
