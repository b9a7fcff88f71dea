/** A conversation with Claude as an app leads it: the whole history goes along with each turn, as the real client sends it. */
import Anthropic, { APIError } from '@anthropic-ai/sdk'
import type { Sidecar } from './sidecar.ts'

type Params = Partial<Anthropic.MessageCreateParamsNonStreaming>

export interface ClaudeTurn {
  readonly stream?: boolean
  /** Headers of this turn only. */
  readonly headers?: Readonly<Record<string, string>>
  readonly params?: Params
}

/** What a turn came to: an answer (`error` is null), or an error. */
export interface ClaudeSaid {
  readonly status: number
  readonly headers: Headers
  readonly message: Anthropic.Message | null
  /** What the user reads. */
  readonly text: string
  readonly calls: readonly Anthropic.ToolUseBlock[]
  readonly error: APIError | null
}

export interface ClaudeTalk {
  readonly client: Anthropic
  /** What the app has of the conversation, and would send. */
  readonly messages: Anthropic.MessageParam[]
  /** How often the client has asked, retries included. */
  attempts(): number
  /** A user turn. An answer joins the history; after an error the history is as before. */
  say(content: Anthropic.MessageParam['content'], turn?: ClaudeTurn): Promise<ClaudeSaid>
  /** Answers every call of the last answer with these words, and goes on; the results come with whatever `more` adds. */
  answer(result: string, turn?: ClaudeTurn): Promise<ClaudeSaid>
}

const ANSWER_WITHIN_MS = 60_000

/** Begins a conversation; `params` go with every turn. The client retries as it does by default. */
export function startClaudeTalk(sidecar: Pick<Sidecar, 'url'>, headers: Readonly<Record<string, string>>, params: Params): ClaudeTalk {
  let attempts = 0
  const client = new Anthropic({
    apiKey: 'test',
    authToken: null,
    baseURL: `${sidecar.url}/anthropic`,
    defaultHeaders: headers,
    timeout: ANSWER_WITHIN_MS,
    fetch: (url, init) => {
      attempts += 1
      return fetch(url, init)
    },
  })
  const messages: Anthropic.MessageParam[] = []
  const goOn = async (turn: ClaudeTurn): Promise<ClaudeSaid> => {
    const whole = { model: 'claude-sonnet-4-5', max_tokens: 1_000, ...params, ...turn.params, messages }
    const said = await send(client, whole, turn)
    if (said.message !== null && said.message.content.length > 0) messages.push({ role: 'assistant', content: said.message.content })
    return said
  }
  const ask = async (content: Anthropic.MessageParam['content'], turn: ClaudeTurn = {}): Promise<ClaudeSaid> => {
    messages.push({ role: 'user', content })
    const said = await goOn(turn)
    if (said.error !== null) messages.pop()
    return said
  }
  return {
    client,
    messages,
    attempts: () => attempts,
    say: ask,
    answer(result, turn) {
      const last = messages.at(-1)?.content ?? []
      const calls = typeof last === 'string' ? [] : last.filter((block) => block.type === 'tool_use')
      return ask(
        calls.map(({ id }) => ({ type: 'tool_result', tool_use_id: id, content: result })),
        turn,
      )
    },
  }
}

async function send(client: Anthropic, params: Anthropic.MessageCreateParamsNonStreaming, turn: ClaudeTurn): Promise<ClaudeSaid> {
  const options = turn.headers === undefined ? {} : { headers: turn.headers }
  try {
    const { message, response } = turn.stream === true ? await streamed(client, params, options) : await plain(client, params, options)
    return {
      status: response.status,
      headers: response.headers,
      message,
      text: message.content.map((block) => (block.type === 'text' ? block.text : '')).join(''),
      calls: message.content.filter((block) => block.type === 'tool_use'),
      error: null,
    }
  } catch (error) {
    if (!(error instanceof APIError)) throw error
    const { status, headers } = error
    return { status: typeof status === 'number' ? status : 0, headers: headers ?? new Headers(), message: null, text: '', calls: [], error }
  }
}

interface Answered {
  readonly message: Anthropic.Message
  readonly response: Response
}

async function plain(client: Anthropic, params: Anthropic.MessageCreateParamsNonStreaming, options: object): Promise<Answered> {
  const { data, response } = await client.messages.create(params, options).withResponse()
  return { message: data, response }
}

async function streamed(client: Anthropic, params: Anthropic.MessageCreateParamsNonStreaming, options: object): Promise<Answered> {
  const { data, response } = await client.messages.stream(params, options).withResponse()
  return { message: await data.finalMessage(), response }
}
