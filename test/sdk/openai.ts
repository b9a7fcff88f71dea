/** `openai` for Node: Chat Completions, Responses, and both by `AzureOpenAI`. */
import OpenAI, { AzureOpenAI } from 'openai'
import { zodResponseFormat, zodTextFormat } from 'openai/helpers/zod'
import { PLACE } from './place.ts'
import { nodeSdk, STEPS_MAX, TOOL, TOOL_RESULT } from './sdk.ts'
import type { Answer, Ask, Caught, Sdk, TokenCounts, Way } from './sdk.ts'

type ClientOf = (ask: Ask) => OpenAI

const openai: ClientOf = ({ address, headers }) =>
  new OpenAI({ apiKey: 'test', ...(address === null ? {} : { baseURL: address }), defaultHeaders: { ...headers } })
const azure: ClientOf = ({ address, headers }) =>
  new AzureOpenAI({
    apiKey: 'test',
    apiVersion: '2024-10-21',
    ...(address === null ? {} : { endpoint: address }),
    defaultHeaders: { ...headers },
  })

const GPT = {
  npm: 'openai',
  model: 'gpt-4o',
  downgrade: { from: 'gpt-4o', to: 'gpt-4o-mini' },
  refusal: 'APIError',
  address: (origin: string) => `${origin}/openai/v1`,
  environment: (origin: string) => ({ OPENAI_BASE_URL: `${origin}/openai/v1` }),
  visible,
}

export const OPENAI_SDKS: readonly Sdk[] = [
  nodeSdk({
    ...GPT,
    name: '`openai` (Node), Chat Completions',
    operation: /^\/openai\/v1\/chat\/completions$/,
    run: (way, ask) => chat(openai(ask), way, ask),
  }),
  nodeSdk({
    ...GPT,
    name: '`openai` (Node), Responses',
    operation: /^\/openai\/v1\/responses$/,
    run: (way, ask) => responses(openai(ask), way, ask),
  }),
  nodeSdk({
    ...GPT,
    name: '`AzureOpenAI` (Node)',
    address: (origin) => `${origin}/azure`,
    environment: (origin) => ({ AZURE_OPENAI_ENDPOINT: `${origin}/azure` }),
    operation: /^\/azure\/openai\/deployments\/desk-large\/chat\/completions\?api-version=2024-10-21$/,
    model: 'desk-large',
    run: (way, ask) => chat(azure(ask), way, ask),
  }),
]

function visible(error: Error): Pick<Caught, 'status' | 'code'> {
  if (!(error instanceof OpenAI.APIError)) return { status: null, code: null }
  return { status: error.status ?? null, code: error.code ?? null }
}

async function chat(client: OpenAI, way: Way, ask: Ask): Promise<Answer> {
  const { model } = ask
  const messages: OpenAI.ChatCompletionMessageParam[] = [
    ...ask.history.map(({ role, text }) => ({ role, content: text })),
    { role: 'user', content: ask.question },
  ]
  const tools: OpenAI.ChatCompletionTool[] = [{ type: 'function', function: { ...TOOL, strict: true } }]
  switch (way) {
    case 'plain':
      return ofCompletion(await client.chat.completions.create({ model, messages }))
    case 'streamed': {
      const stream = client.chat.completions.stream({ model, messages, stream_options: { include_usage: true } })
      let heard = ''
      for await (const chunk of stream) heard += chunk.choices[0]?.delta.content ?? ''
      return { ...ofCompletion(await stream.finalChatCompletion()), text: heard }
    }
    case 'tools':
    case 'streamedTools': {
      const calls: Answer['calls'][number][] = []
      for (let step = 0; step < STEPS_MAX; step++) {
        const asked = { model, messages, tools }
        const completion =
          way === 'tools'
            ? await client.chat.completions.create(asked)
            : await client.chat.completions.stream({ ...asked, stream_options: { include_usage: true } }).finalChatCompletion()
        const answer = ofCompletion(completion)
        calls.push(...answer.calls)
        const made = functionCalls(completion)
        if (made.length === 0) return { ...answer, calls }
        // Without what the helpers for streams add of their own, which the API does not take back.
        const sentBack = made.map(({ id, type, function: { name, arguments: input } }) => ({
          id,
          type,
          function: { name, arguments: input },
        }))
        messages.push({ role: 'assistant', content: null, tool_calls: sentBack })
        for (const call of made) messages.push({ role: 'tool', tool_call_id: call.id, content: TOOL_RESULT })
      }
      throw new RangeError('the tool loop has no end')
    }
    case 'forced':
      return ofCompletion(await client.chat.completions.create({ model, messages, tools, tool_choice: 'required' }))
    case 'structured': {
      const completion = await client.chat.completions.parse({ model, messages, response_format: zodResponseFormat(PLACE, 'place') })
      return { ...ofCompletion(completion), object: completion.choices[0]?.message.parsed ?? null }
    }
  }
}

function ofCompletion(completion: OpenAI.ChatCompletion): Answer {
  const { choices, usage } = completion
  return {
    text: choices[0]?.message.content ?? '',
    usage: usage === undefined ? null : { input: usage.prompt_tokens, output: usage.completion_tokens },
    calls: functionCalls(completion).map((call) => ({ name: call.function.name, input: JSON.parse(call.function.arguments) as unknown })),
    object: null,
  }
}

function functionCalls({ choices }: OpenAI.ChatCompletion): readonly OpenAI.ChatCompletionMessageFunctionToolCall[] {
  return choices[0]?.message.tool_calls?.flatMap((call) => (call.type === 'function' ? [call] : [])) ?? []
}

async function responses(client: OpenAI, way: Way, ask: Ask): Promise<Answer> {
  const { model } = ask
  const input: OpenAI.Responses.ResponseInputItem[] = [
    ...ask.history.map(({ role, text }) => ({ role, content: text })),
    { role: 'user', content: ask.question },
  ]
  const tools: OpenAI.Responses.FunctionTool[] = [{ type: 'function', ...TOOL, strict: true }]
  switch (way) {
    case 'plain':
      return ofResponse(await client.responses.create({ model, input }))
    case 'streamed': {
      const stream = client.responses.stream({ model, input })
      let heard = ''
      for await (const event of stream) if (event.type === 'response.output_text.delta') heard += event.delta
      return { ...ofResponse(await stream.finalResponse()), text: heard }
    }
    case 'tools':
    case 'streamedTools': {
      const calls: Answer['calls'][number][] = []
      // History on the provider's side, as most apps of this API have it.
      let previous: string | null = null
      let next = input
      for (let step = 0; step < STEPS_MAX; step++) {
        const asked = { model, input: next, tools, ...(previous === null ? {} : { previous_response_id: previous }) }
        const response: OpenAI.Responses.Response =
          way === 'tools' ? await client.responses.create(asked) : await client.responses.stream(asked).finalResponse()
        const answer = ofResponse(response)
        calls.push(...answer.calls)
        if (answer.calls.length === 0) return { ...answer, calls }
        previous = response.id
        next = response.output.flatMap((item) =>
          item.type === 'function_call' ? [{ type: 'function_call_output' as const, call_id: item.call_id, output: TOOL_RESULT }] : [],
        )
      }
      throw new RangeError('the tool loop has no end')
    }
    case 'forced':
      return ofResponse(await client.responses.create({ model, input, tools, tool_choice: 'required' }))
    case 'structured': {
      const response = await client.responses.parse({ model, input, text: { format: zodTextFormat(PLACE, 'place') } })
      return { ...ofResponse(response), object: response.output_parsed }
    }
  }
}

function ofResponse({ output, output_text: text, usage }: OpenAI.Responses.Response): Answer {
  const counts: TokenCounts | null = usage === undefined ? null : { input: usage.input_tokens, output: usage.output_tokens }
  return {
    text,
    usage: counts,
    calls: output.flatMap((item) =>
      item.type === 'function_call' ? [{ name: item.name, input: JSON.parse(item.arguments) as unknown }] : [],
    ),
    object: null,
  }
}
