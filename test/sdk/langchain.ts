/** LangChain for JavaScript, with its chat models of OpenAI and Anthropic. */
import { ChatAnthropic } from '@langchain/anthropic'
import { AIMessage, AIMessageChunk, HumanMessage, ToolMessage } from '@langchain/core/messages'
import type { BaseMessage, UsageMetadata } from '@langchain/core/messages'
import { tool } from '@langchain/core/tools'
import { ChatOpenAI } from '@langchain/openai'
import * as z from 'zod'
import { codeOf } from './anthropic.ts'
import { PLACE } from './place.ts'
import { nodeSdk, STEPS_MAX, TOOL, TOOL_RESULT } from './sdk.ts'
import type { Answer, Ask, Caught, Sdk, TokenCounts, Way } from './sdk.ts'

const CLAUDE = {
  npm: '@langchain/anthropic',
  name: '`@langchain/anthropic`',
  address: (origin: string) => `${origin}/anthropic`,
  environment: (origin: string) => ({ ANTHROPIC_BASE_URL: `${origin}/anthropic` }),
  operation: /^\/anthropic\/v1\/messages$/,
  model: 'claude-sonnet-4-5',
  downgrade: { from: 'claude-sonnet-4-5', to: 'claude-haiku-4-5' },
  // It adds the placeholder of the first event to the count of the last one.
  streamedUsage: ({ input, output }: TokenCounts) => ({ input, output: output + 1 }),
  refusal: 'APIError',
  visible,
}

export const LANGCHAIN_SDKS: readonly Sdk[] = [
  nodeSdk({
    npm: '@langchain/openai',
    name: '`@langchain/openai`',
    address: (origin) => `${origin}/openai/v1`,
    environment: (origin) => ({ OPENAI_BASE_URL: `${origin}/openai/v1` }),
    operation: /^\/openai\/v1\/chat\/completions$/,
    model: 'gpt-4o',
    downgrade: { from: 'gpt-4o', to: 'gpt-4o-mini' },
    refusal: 'APIError',
    run: (way, ask) => run(openai(ask), way, ask),
    visible,
  }),
  nodeSdk({ ...CLAUDE, structuredBy: 'tool', run: (way, ask) => run(anthropic(ask), way, ask) }),
  nodeSdk({
    ...CLAUDE,
    variant: '`method: "jsonSchema"`',
    ways: ['structured'],
    run: (way, ask) => run(anthropic(ask), way, ask, 'jsonSchema'),
  }),
]

function openai({ address, headers, model }: Ask): ChatOpenAI {
  const where = address === null ? {} : { baseURL: address }
  return new ChatOpenAI({ model, apiKey: 'test', configuration: { ...where, defaultHeaders: { ...headers } } })
}

function anthropic({ address, headers, model }: Ask): ChatAnthropic {
  const where = address === null ? {} : { anthropicApiUrl: address }
  return new ChatAnthropic({ model, apiKey: 'test', ...where, clientOptions: { defaultHeaders: { ...headers } } })
}

/** The exception is that of the SDK below. */
function visible(error: Error): Pick<Caught, 'status' | 'code'> {
  const { status, code, error: body } = error as { readonly status?: number; readonly code?: string | null; readonly error?: unknown }
  return { status: status ?? null, code: code ?? codeOf(body) }
}

/** `method`: how it asks for an object; absent: as it likes. */
async function run(model: ChatOpenAI | ChatAnthropic, way: Way, ask: Ask, method?: 'jsonSchema'): Promise<Answer> {
  const messages: BaseMessage[] = [
    ...ask.history.map(({ role, text }) => (role === 'user' ? new HumanMessage(text) : new AIMessage(text))),
    new HumanMessage(ask.question),
  ]
  const look = tool(() => TOOL_RESULT, {
    name: TOOL.name,
    description: TOOL.description,
    schema: z.object({ order: z.string() }),
  })
  switch (way) {
    case 'plain':
      return ofMessage(await model.invoke(messages))
    case 'streamed':
      return ofMessage(await heard(await model.stream(messages)))
    case 'tools':
    case 'streamedTools': {
      const calls: Answer['calls'][number][] = []
      const bound = model.bindTools([look])
      for (let step = 0; step < STEPS_MAX; step++) {
        const message = way === 'tools' ? await bound.invoke(messages) : await heard(await bound.stream(messages))
        const answer = ofMessage(message)
        calls.push(...answer.calls)
        if (answer.calls.length === 0) return { ...answer, calls }
        messages.push(message)
        for (const call of message.tool_calls ?? [])
          messages.push(
            new ToolMessage({
              content: await look.invoke({ order: String(call.args['order']) }),
              tool_call_id: call.id ?? '',
              name: call.name,
            }),
          )
      }
      throw new RangeError('the tool loop has no end')
    }
    case 'forced':
      return ofMessage(await model.bindTools([look], { tool_choice: 'any' }).invoke(messages))
    case 'structured': {
      const { raw, parsed } = await model
        .withStructuredOutput(PLACE, { includeRaw: true, ...(method === undefined ? {} : { method }) })
        .invoke(messages)
      if (!(raw instanceof AIMessage) && !(raw instanceof AIMessageChunk)) throw new TypeError('the raw answer is no message')
      return { ...ofMessage(raw), calls: [], object: parsed }
    }
  }
}

async function heard(stream: AsyncIterable<AIMessageChunk>): Promise<AIMessageChunk> {
  let whole: AIMessageChunk | null = null
  for await (const chunk of stream) whole = whole === null ? chunk : whole.concat(chunk)
  if (whole === null) throw new RangeError('an empty stream')
  return whole
}

function ofMessage(message: AIMessage | AIMessageChunk): Answer {
  // A count of zero is left out, whatever the type says.
  const usage = message.usage_metadata as Partial<UsageMetadata> | undefined
  return {
    text: message.text,
    usage: usage === undefined ? null : { input: usage.input_tokens ?? 0, output: usage.output_tokens ?? 0 },
    calls: (message.tool_calls ?? []).map(({ name, args }) => ({ name, input: args })),
    object: null,
  }
}
