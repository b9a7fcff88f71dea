/** Vercel's AI SDK, with its providers for OpenAI (Responses by default, and Chat), Anthropic and Google. */
import { createAnthropic } from '@ai-sdk/anthropic'
import { createGoogleGenerativeAI } from '@ai-sdk/google'
import { createOpenAI } from '@ai-sdk/openai'
import { APICallError, generateText, jsonSchema, Output, stepCountIs, streamText, tool } from 'ai'
import type { LanguageModel, LanguageModelUsage, ModelMessage } from 'ai'
import { codeOf } from './anthropic.ts'
import { reasonIn } from './google-genai.ts'
import { PLACE } from './place.ts'
import { nodeSdk, STEPS_MAX, TOOL, TOOL_RESULT } from './sdk.ts'
import type { Answer, Ask, Caught, Sdk, TokenCounts, Way } from './sdk.ts'

const settings = ({
  address,
  headers,
}: Ask): { readonly apiKey: string; readonly headers: Record<string, string>; readonly baseURL?: string } => ({
  apiKey: 'test',
  headers: { ...headers },
  ...(address === null ? {} : { baseURL: address }),
})

const ALL = { refusal: 'APICallError', visible }
const GPT = {
  ...ALL,
  npm: '@ai-sdk/openai',
  model: 'gpt-4o',
  downgrade: { from: 'gpt-4o', to: 'gpt-4o-mini' },
  address: (origin: string) => `${origin}/openai/v1`,
  environment: (origin: string) => ({ OPENAI_BASE_URL: `${origin}/openai/v1` }),
}

export const AI_SDKS: readonly Sdk[] = [
  nodeSdk({
    ...GPT,
    name: '`@ai-sdk/openai`, Responses',
    operation: /^\/openai\/v1\/responses$/,
    run: (way, ask) => run(createOpenAI(settings(ask))(ask.model), way, ask),
  }),
  nodeSdk({
    ...GPT,
    name: '`@ai-sdk/openai`, Chat Completions',
    operation: /^\/openai\/v1\/chat\/completions$/,
    run: (way, ask) => run(createOpenAI(settings(ask)).chat(ask.model), way, ask),
  }),
  nodeSdk({
    ...ALL,
    npm: '@ai-sdk/anthropic',
    name: '`@ai-sdk/anthropic`',
    address: (origin) => `${origin}/anthropic`,
    environment: (origin) => ({ ANTHROPIC_BASE_URL: `${origin}/anthropic` }),
    operation: /^\/anthropic\/messages$/,
    model: 'claude-sonnet-4-5',
    downgrade: { from: 'claude-sonnet-4-5', to: 'claude-haiku-4-5' },
    run: (way, ask) => run(createAnthropic(settings(ask))(ask.model), way, ask),
  }),
  nodeSdk({
    ...ALL,
    npm: '@ai-sdk/google',
    name: '`@ai-sdk/google`',
    address: (origin) => `${origin}/gemini/v1beta`,
    environment: null,
    operation: /^\/gemini\/v1beta\/models\/gemini-2.5-pro:(generateContent|streamGenerateContent\?alt=sse)$/,
    model: 'gemini-2.5-pro',
    downgrade: { from: 'gemini-2.5-pro', to: 'gemini-2.5-flash' },
    run: (way, ask) => run(createGoogleGenerativeAI(settings(ask))(ask.model), way, ask),
  }),
]

function visible(error: Error): Pick<Caught, 'status' | 'code'> {
  if (!APICallError.isInstance(error)) return { status: null, code: null }
  const body = error.responseBody ?? ''
  return { status: error.statusCode ?? null, code: openaiCodeIn(body) ?? codeOf(error.data) ?? reasonIn(body) }
}

function openaiCodeIn(body: string): string | null {
  try {
    const { error } = JSON.parse(body) as { readonly error?: { readonly code?: unknown } }
    return typeof error?.code === 'string' ? error.code : null
  } catch {
    return null
  }
}

async function run(model: LanguageModel, way: Way, ask: Ask): Promise<Answer> {
  const messages: ModelMessage[] = [
    ...ask.history.map(({ role, text }) => ({ role, content: text })),
    { role: 'user', content: ask.question },
  ]
  const calls: Answer['calls'][number][] = []
  const look = tool({
    description: TOOL.description,
    inputSchema: jsonSchema({ ...TOOL.parameters, required: [...TOOL.parameters.required] }),
    execute: () => TOOL_RESULT,
  })
  const tools = { [TOOL.name]: look }
  switch (way) {
    case 'plain': {
      const { text, usage } = await generateText({ model, messages })
      return { text, usage: countsOf(usage), calls, object: null }
    }
    case 'streamed':
    case 'streamedTools': {
      let failure: unknown = null
      const result = streamText({
        model,
        messages,
        ...(way === 'streamed' ? {} : { tools, stopWhen: stepCountIs(STEPS_MAX) }),
        onError: ({ error }) => {
          failure = error
        },
      })
      let text = ''
      for await (const delta of result.textStream) text += delta
      if (failure !== null) throw failure
      const steps = await result.steps
      for (const step of steps) for (const { toolName, input } of step.toolCalls) calls.push({ name: toolName, input })
      return { text, usage: countsOf(steps.at(-1)?.usage ?? null), calls, object: null }
    }
    case 'tools': {
      const result = await generateText({ model, messages, tools, stopWhen: stepCountIs(STEPS_MAX) })
      for (const step of result.steps) for (const { toolName, input } of step.toolCalls) calls.push({ name: toolName, input })
      return { text: result.text, usage: countsOf(result.steps.at(-1)?.usage ?? null), calls, object: null }
    }
    case 'forced': {
      const { text, toolCalls, usage } = await generateText({ model, messages, tools, toolChoice: 'required' })
      return { text, usage: countsOf(usage), calls: toolCalls.map(({ toolName, input }) => ({ name: toolName, input })), object: null }
    }
    case 'structured': {
      const { output, text, usage } = await generateText({ model, messages, output: Output.object({ schema: PLACE }) })
      return { text, usage: countsOf(usage), calls, object: output }
    }
  }
}

function countsOf(usage: LanguageModelUsage | null): TokenCounts | null {
  const { inputTokens: input, outputTokens: output } = usage ?? {}
  return input === undefined || output === undefined ? null : { input, output }
}
