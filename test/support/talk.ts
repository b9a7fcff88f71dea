/** A conversation as an app leads it: the whole history goes along with each turn, as the real `openai` client sends it. */
import OpenAI from 'openai'
import type { Sidecar } from './sidecar.ts'

type Body = Partial<OpenAI.ChatCompletionCreateParamsNonStreaming>
type ToolCall = OpenAI.ChatCompletionMessageFunctionToolCall

export interface SayOptions {
  readonly stream?: boolean
  /** Headers of this turn only; null takes one of the conversation's away. */
  readonly headers?: Readonly<Record<string, string | null>>
  readonly body?: Body
}

/** What a turn came to: an answer (`code` is null), or an error with its code. */
export interface Said {
  readonly status: number
  readonly headers: Headers
  /** What the user reads. */
  readonly text: string
  readonly code: string | null
  readonly finish: string | null
  readonly toolCalls: readonly ToolCall[]
  readonly usage: OpenAI.CompletionUsage | null
}

export interface Talk {
  /** What the app has of the conversation, and would send. */
  readonly messages: OpenAI.ChatCompletionMessageParam[]
  /** A user turn. An answer joins the history; after an error the history is as before. */
  say(text: string, options?: SayOptions): Promise<Said>
  /** The next call on the history as it is: in a tool loop. */
  goOn(options?: SayOptions): Promise<Said>
}

/** Headers of a conversation, which the fake provider bills under the same name. */
export function talking(id: string, tier: string, more: Readonly<Record<string, string>> = {}): Record<string, string> {
  return { 'x-farebox-conversation': id, 'x-farebox-tier': tier, 'x-fake-tag': id, ...more }
}

/** Begins a conversation. `headers` and `body` go with every turn; the model is `gpt-4o` unless the body says otherwise. */
export function startTalk(sidecar: Sidecar, headers: Readonly<Record<string, string>>, body: Body = {}): Talk {
  const client = sidecar.client(headers)
  const messages: OpenAI.ChatCompletionMessageParam[] = []
  const goOn = async (options: SayOptions = {}): Promise<Said> => {
    const said = await send(client, { model: 'gpt-4o', ...body, ...options.body, messages }, options)
    const { code, text, toolCalls } = said
    if (code === null)
      messages.push({
        role: 'assistant',
        content: text === '' ? null : text,
        ...(toolCalls.length > 0 ? { tool_calls: [...toolCalls] } : {}),
      })
    return said
  }
  return {
    messages,
    goOn,
    async say(text, options) {
      messages.push({ role: 'user', content: text })
      const said = await goOn(options)
      if (said.code !== null) messages.pop()
      return said
    },
  }
}

/** The same talk, each of whose turns is in the books before the next begins: an answer ends a moment earlier. */
export function settled(sidecar: Pick<Sidecar, 'idle'>, talk: Talk): Talk {
  const ended = async (speaking: Promise<Said>): Promise<Said> => {
    const said = await speaking
    await sidecar.idle()
    return said
  }
  return { messages: talk.messages, say: (text, options) => ended(talk.say(text, options)), goOn: (options) => ended(talk.goOn(options)) }
}

async function send(client: OpenAI, body: OpenAI.ChatCompletionCreateParamsNonStreaming, options: SayOptions): Promise<Said> {
  const request = { headers: { ...options.headers } }
  try {
    if (options.stream === true) {
      const { data, response } = await client.chat.completions.create({ ...body, stream: true }, request).withResponse()
      return { status: response.status, headers: response.headers, code: null, ...(await collected(data)) }
    }
    const { data, response } = await client.chat.completions.create(body, request).withResponse()
    const [choice] = data.choices
    return {
      status: response.status,
      headers: response.headers,
      code: null,
      text: choice?.message.content ?? '',
      finish: choice?.finish_reason ?? null,
      toolCalls: choice?.message.tool_calls?.filter((call) => call.type === 'function') ?? [],
      usage: data.usage ?? null,
    }
  } catch (error) {
    if (!(error instanceof OpenAI.APIError) || error.status === undefined) throw error
    const { status, headers, code, message } = error
    return { status, headers: new Headers(headers), text: message, code: code ?? String(status), finish: null, toolCalls: [], usage: null }
  }
}

/** The first answer of a stream, put together. */
async function collected(
  stream: AsyncIterable<OpenAI.ChatCompletionChunk>,
): Promise<Pick<Said, 'text' | 'finish' | 'toolCalls' | 'usage'>> {
  let text = ''
  let finish: string | null = null
  let usage: OpenAI.CompletionUsage | null = null
  const toolCalls: ToolCall[] = []
  for await (const chunk of stream) {
    usage = chunk.usage ?? usage
    const choice = chunk.choices.find(({ index }) => index === 0)
    text += choice?.delta.content ?? ''
    finish = choice?.finish_reason ?? finish
    for (const { index, id, function: called } of choice?.delta.tool_calls ?? []) {
      const call = (toolCalls[index] ??= { id: id ?? '', type: 'function', function: { name: called?.name ?? '', arguments: '' } })
      call.function.arguments += called?.arguments ?? ''
    }
  }
  return { text, finish, toolCalls, usage }
}
