/** Apps as they lead a conversation with each provider: they keep all that was said, and send it again with every call, unedited. */
import { at, countAt, listAt, textAt } from './json.ts'
import { systemFor, TOOLS } from './script.ts'
import type { ToolName } from './script.ts'

export interface Call {
  readonly id: string
  readonly name: ToolName
}

/** Input tokens as the provider counted them, and those of them that came from its cache. */
export interface Counted {
  readonly input: number
  readonly cached: number
}

/** What a call came to. */
export interface Answer extends Counted {
  readonly calls: readonly Call[]
}

export interface App {
  /** Below the upstream's base URL. */
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  say(text: string, instruction: string | null): void
  bring(results: readonly { readonly call: Call; readonly text: string }[]): void
  /** The body of the next call. */
  body(): string
  /** Reads what came back, and keeps it. */
  take(answer: unknown): Answer
}

export interface Shape {
  readonly name: string
  readonly upstream: 'openai' | 'anthropic' | 'gemini'
  readonly model: string
  readonly summarizer: string
  /** The provider keeps the history: nobody else can cut it. */
  readonly keptByProvider: boolean
  start(): App
}

const OUTPUT_MAX = 1_000
const schemaOf = (argument: string): object => ({ type: 'object', properties: { [argument]: { type: 'string' } }, required: [argument] })
const nameOf = (name: string): ToolName => (name === 'look_up' ? 'look_up' : 'search_docs')

export const SHAPES: readonly Shape[] = [
  {
    name: 'OpenAI Chat',
    upstream: 'openai',
    model: 'gpt-4.1',
    summarizer: 'gpt-4.1-nano',
    keptByProvider: false,
    start: () => startChat('gpt-4.1'),
  },
  {
    name: 'OpenAI Responses',
    upstream: 'openai',
    model: 'gpt-5-mini',
    summarizer: 'gpt-4.1-nano',
    keptByProvider: false,
    start: () => startResponses('gpt-5-mini', false),
  },
  {
    name: 'Anthropic Messages',
    upstream: 'anthropic',
    model: 'claude-opus-5-5',
    summarizer: 'claude-haiku-4-5',
    keptByProvider: false,
    start: () => startClaude('claude-opus-5-5'),
  },
  {
    name: 'Gemini',
    upstream: 'gemini',
    model: 'gemini-3-flash-preview',
    summarizer: 'gemini-2.5-flash-lite',
    keptByProvider: false,
    start: () => startGemini('gemini-3-flash-preview'),
  },
]

/** Only the new turn goes along: the provider has what was said before. */
export const KEPT: Shape = {
  name: 'OpenAI Responses, previous_response_id',
  upstream: 'openai',
  model: 'gpt-5-mini',
  summarizer: 'gpt-4.1-nano',
  keptByProvider: true,
  start: () => startResponses('gpt-5-mini', true),
}

function startChat(model: string): App {
  const messages: object[] = [{ role: 'system', content: systemFor('chat') }]
  const tools = TOOLS.map(({ name, argument }) => ({ type: 'function', function: { name, parameters: schemaOf(argument) } }))
  return {
    path: '/v1/chat/completions',
    headers: { authorization: 'Bearer test' },
    say(text, instruction) {
      if (instruction !== null) messages.push({ role: 'system', content: instruction })
      messages.push({ role: 'user', content: text })
    },
    bring(results) {
      for (const { call, text } of results) messages.push({ role: 'tool', tool_call_id: call.id, content: text })
    },
    body: () => JSON.stringify({ model, max_completion_tokens: OUTPUT_MAX, tools, messages }),
    take(answer) {
      const calls = listAt(answer, 'choices', 0, 'message', 'tool_calls')
      const content = at(answer, 'choices', 0, 'message', 'content')
      messages.push({ role: 'assistant', content, ...(calls.length > 0 ? { tool_calls: calls } : {}) })
      return {
        calls: calls.map((call) => ({ id: textAt(call, 'id'), name: nameOf(textAt(call, 'function', 'name')) })),
        input: countAt(answer, 'usage', 'prompt_tokens'),
        cached: countAt(answer, 'usage', 'prompt_tokens_details', 'cached_tokens'),
      }
    },
  }
}

function startResponses(model: string, kept: boolean): App {
  const input: object[] = []
  let previous: string | null = null
  const tools = TOOLS.map(({ name, argument }) => ({ type: 'function', name, strict: null, parameters: schemaOf(argument) }))
  const common = {
    model,
    instructions: systemFor(kept ? 'responses, kept' : 'responses'),
    max_output_tokens: OUTPUT_MAX,
    reasoning: { effort: 'low' },
    tools,
  }
  return {
    path: '/v1/responses',
    headers: { authorization: 'Bearer test' },
    say(text, instruction) {
      if (instruction !== null) input.push({ role: 'developer', content: instruction })
      input.push({ role: 'user', content: text })
    },
    bring(results) {
      for (const { call, text } of results) input.push({ type: 'function_call_output', call_id: call.id, output: text })
    },
    body: () =>
      JSON.stringify(
        kept
          ? { ...common, previous_response_id: previous, input }
          : { ...common, store: false, include: ['reasoning.encrypted_content'], input },
      ),
    take(answer) {
      const output = listAt(answer, 'output')
      previous = textAt(answer, 'id')
      if (kept) input.length = 0
      else input.push(...output)
      return {
        calls: output
          .filter((item) => textAt(item, 'type') === 'function_call')
          .map((item) => ({ id: textAt(item, 'call_id'), name: nameOf(textAt(item, 'name')) })),
        input: countAt(answer, 'usage', 'input_tokens'),
        cached: countAt(answer, 'usage', 'input_tokens_details', 'cached_tokens'),
      }
    },
  }
}

/** The mark of the cache moves to the end with every call, as apps have it; that of the system prompt stays. */
function startClaude(model: string): App {
  const messages: { readonly role: string; readonly content: readonly object[] }[] = []
  const mark = { type: 'ephemeral' }
  const tools = TOOLS.map(({ name, argument }) => ({ name, input_schema: schemaOf(argument) }))
  const system = [{ type: 'text', text: systemFor('messages'), cache_control: mark }]
  const marked = (): readonly object[] => {
    const last = messages.findLastIndex(({ role }) => role === 'user')
    return messages.map((message, index) => (index === last ? { ...message, content: withMark(message.content, mark) } : message))
  }
  return {
    path: '/v1/messages',
    headers: { 'x-api-key': 'test', 'anthropic-version': '2023-06-01' },
    say(text, instruction) {
      messages.push({ role: 'user', content: [{ type: 'text', text }] })
      if (instruction !== null) messages.push({ role: 'system', content: [{ type: 'text', text: instruction }] })
    },
    bring(results) {
      const content = results.map(({ call, text }) => ({ type: 'tool_result', tool_use_id: call.id, content: text }))
      messages.push({ role: 'user', content })
    },
    body: () => JSON.stringify({ model, max_tokens: OUTPUT_MAX, system, tools, messages: marked() }),
    take(answer) {
      const content = listAt(answer, 'content')
      messages.push({ role: 'assistant', content })
      const cached = countAt(answer, 'usage', 'cache_read_input_tokens')
      return {
        calls: content
          .filter((block) => textAt(block, 'type') === 'tool_use')
          .map((block) => ({ id: textAt(block, 'id'), name: nameOf(textAt(block, 'name')) })),
        input: countAt(answer, 'usage', 'input_tokens') + cached + countAt(answer, 'usage', 'cache_creation_input_tokens'),
        cached,
      }
    },
  }
}

function withMark(content: readonly object[], mark: object): readonly object[] {
  return content.map((block, index) => (index === content.length - 1 ? { ...block, cache_control: mark } : block))
}

/** The format has no instruction in the midst of a conversation: the app puts it before the user's words. */
function startGemini(model: string): App {
  const contents: object[] = []
  const tools = [{ functionDeclarations: TOOLS.map(({ name, argument }) => ({ name, parametersJsonSchema: schemaOf(argument) })) }]
  const config = { maxOutputTokens: OUTPUT_MAX, thinkingConfig: { thinkingLevel: 'LOW' } }
  return {
    path: `/v1beta/models/${model}:generateContent`,
    headers: { 'x-goog-api-key': 'test' },
    say(text, instruction) {
      contents.push({ role: 'user', parts: [...(instruction === null ? [] : [{ text: instruction }]), { text }] })
    },
    bring(results) {
      const parts = results.map(({ call, text }) => ({ functionResponse: { id: call.id, name: call.name, response: { output: text } } }))
      contents.push({ role: 'user', parts })
    },
    body: () =>
      JSON.stringify({ systemInstruction: { parts: [{ text: systemFor('gemini') }] }, tools, contents, generationConfig: config }),
    take(answer) {
      const content = at(answer, 'candidates', 0, 'content')
      contents.push({ ...Object(content) })
      return {
        calls: listAt(content, 'parts')
          .filter((part) => at(part, 'functionCall') !== undefined)
          .map((part) => ({ id: textAt(part, 'functionCall', 'id'), name: nameOf(textAt(part, 'functionCall', 'name')) })),
        input: countAt(answer, 'usageMetadata', 'promptTokenCount'),
        cached: countAt(answer, 'usageMetadata', 'cachedContentTokenCount'),
      }
    },
  }
}
