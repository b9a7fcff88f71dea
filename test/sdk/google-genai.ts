/** `@google/genai`. */
import type { Content, FunctionDeclaration, GenerateContentConfig, GenerateContentResponse } from '@google/genai'
import { ApiError, FunctionCallingConfigMode, GoogleGenAI } from '@google/genai'
import * as z from 'zod'
import { PLACE } from './place.ts'
import { nodeSdk, STEPS_MAX, TOOL, TOOL_RESULT } from './sdk.ts'
import type { Answer, Ask, Caught, Sdk, Way } from './sdk.ts'

export const GOOGLE_SDKS: readonly Sdk[] = [
  nodeSdk({
    npm: '@google/genai',
    name: '`@google/genai`',
    address: (origin) => `${origin}/gemini`,
    environment: (origin) => ({ GOOGLE_GEMINI_BASE_URL: `${origin}/gemini` }),
    operation: /^\/gemini\/v1beta\/models\/gemini-2.5-pro:(generateContent|streamGenerateContent\?alt=sse)$/,
    model: 'gemini-2.5-pro',
    downgrade: { from: 'gemini-2.5-pro', to: 'gemini-2.5-flash' },
    refusal: 'ApiError',
    run: generate,
    visible,
  }),
]

/** The exception holds the body as text. */
function visible(error: Error): Pick<Caught, 'status' | 'code'> {
  if (!(error instanceof ApiError)) return { status: null, code: null }
  return { status: error.status, code: reasonIn(error.message) }
}

/** `error.details[0].reason` of a body, in lower case as everywhere else. */
export function reasonIn(body: string): string | null {
  try {
    const { error } = JSON.parse(body) as { readonly error?: { readonly details?: readonly { readonly reason?: string }[] } }
    return error?.details?.find(({ reason }) => reason !== undefined)?.reason?.toLowerCase() ?? null
  } catch {
    return null
  }
}

async function generate(way: Way, ask: Ask): Promise<Answer> {
  const where = ask.address === null ? {} : { baseUrl: ask.address }
  const client = new GoogleGenAI({ apiKey: 'test', httpOptions: { ...where, headers: { ...ask.headers } } })
  const { model } = ask
  const contents: Content[] = [
    ...ask.history.map(({ role, text }) => ({ role: role === 'user' ? 'user' : 'model', parts: [{ text }] })),
    { role: 'user', parts: [{ text: ask.question }] },
  ]
  const { name, description, parameters } = TOOL
  const declared: FunctionDeclaration = { name, description, parametersJsonSchema: parameters }
  const tools = [{ functionDeclarations: [declared] }]
  const answered = async (config: GenerateContentConfig = {}): Promise<GenerateContentResponse> =>
    client.models.generateContent({ model, contents, config })
  const streamed = async (config: GenerateContentConfig): Promise<Read> => {
    const chunks: GenerateContentResponse[] = []
    for await (const chunk of await client.models.generateContentStream({ model, contents, config })) chunks.push(chunk)
    const all = chunks.map(read)
    const answers = all.map(({ answer }) => answer)
    return {
      content: { role: 'model', parts: all.flatMap(({ content }) => content.parts ?? []) },
      answer: {
        text: answers.map(({ text }) => text).join(''),
        usage: answers.at(-1)?.usage ?? null,
        calls: answers.flatMap(({ calls }) => calls),
        object: null,
      },
    }
  }
  switch (way) {
    case 'plain':
      return ofResponse(await answered())
    case 'streamed':
      return (await streamed({})).answer
    case 'tools':
    case 'streamedTools': {
      const calls: Answer['calls'][number][] = []
      for (let step = 0; step < STEPS_MAX; step++) {
        const { answer, content } = way === 'tools' ? read(await answered({ tools })) : await streamed({ tools })
        calls.push(...answer.calls)
        if (answer.calls.length === 0) return { ...answer, calls }
        contents.push(content, {
          role: 'user',
          parts: answer.calls.map((call) => ({ functionResponse: { name: call.name, response: { output: TOOL_RESULT } } })),
        })
      }
      throw new RangeError('the tool loop has no end')
    }
    case 'forced':
      return ofResponse(await answered({ tools, toolConfig: { functionCallingConfig: { mode: FunctionCallingConfigMode.ANY } } }))
    case 'structured': {
      const response = await answered({ responseMimeType: 'application/json', responseJsonSchema: z.toJSONSchema(PLACE) })
      return { ...ofResponse(response), object: PLACE.parse(JSON.parse(response.text ?? '')) }
    }
  }
}

/** An answer, and what the app sends back of it. */
interface Read {
  readonly answer: Answer
  readonly content: Content
}

function read(response: GenerateContentResponse): Read {
  return { answer: ofResponse(response), content: response.candidates?.[0]?.content ?? { role: 'model', parts: [] } }
}

function ofResponse(response: GenerateContentResponse): Answer {
  const usage = response.usageMetadata
  const calls = response.functionCalls ?? []
  return {
    text: calls.length > 0 ? '' : (response.text ?? ''),
    usage:
      usage === undefined
        ? null
        : { input: usage.promptTokenCount ?? 0, output: (usage.candidatesTokenCount ?? 0) + (usage.thoughtsTokenCount ?? 0) },
    calls: calls.map((call) => ({ name: call.name ?? '', input: call.args })),
    object: null,
  }
}
