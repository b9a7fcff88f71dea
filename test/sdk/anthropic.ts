/** `@anthropic-ai/sdk` for Node. */
import Anthropic from '@anthropic-ai/sdk'
import { zodOutputFormat } from '@anthropic-ai/sdk/helpers/zod'
import { PLACE } from './place.ts'
import { nodeSdk, STEPS_MAX, TOOL, TOOL_RESULT, WAYS } from './sdk.ts'
import type { Answer, Ask, Caught, Sdk, Way } from './sdk.ts'

const MAX_TOKENS = 2_048

const CLAUDE = {
  npm: '@anthropic-ai/sdk',
  name: '`@anthropic-ai/sdk`',
  refusal: 'PaymentRequiredError',
  address: (origin: string) => `${origin}/anthropic`,
  environment: (origin: string) => ({ ANTHROPIC_BASE_URL: `${origin}/anthropic` }),
  operation: /^\/anthropic\/v1\/messages$/,
  run: messages,
  visible,
}

export const ANTHROPIC_SDKS: readonly Sdk[] = [
  nodeSdk({ ...CLAUDE, model: 'claude-sonnet-4-5', downgrade: { from: 'claude-sonnet-4-5', to: 'claude-haiku-4-5' } }),
  // It takes no forced tool, and checks that nothing changes before its thinking.
  nodeSdk({
    ...CLAUDE,
    variant: 'a model that always thinks',
    model: 'claude-sonnet-5-5',
    downgrade: { from: 'claude-sonnet-5-5', to: 'claude-haiku-5-5' },
    ways: WAYS.filter((way) => way !== 'forced'),
  }),
]

function visible(error: Error): Pick<Caught, 'status' | 'code'> {
  if (!(error instanceof Anthropic.APIError)) return { status: null, code: null }
  return { status: error.status ?? null, code: codeOf(error.error) }
}

/** `error.details.error_code` of the body. */
export function codeOf(body: unknown): string | null {
  const { error } = (body ?? {}) as { readonly error?: { readonly details?: { readonly error_code?: string } | null } }
  return error?.details?.error_code ?? null
}

async function messages(way: Way, ask: Ask): Promise<Answer> {
  const where = ask.address === null ? {} : { baseURL: ask.address }
  const client = new Anthropic({ apiKey: 'test', ...where, defaultHeaders: { ...ask.headers } })
  const said: Anthropic.MessageParam[] = [
    ...ask.history.map(({ role, text }) => ({ role, content: text })),
    { role: 'user', content: ask.question },
  ]
  const base = { model: ask.model, max_tokens: MAX_TOKENS, messages: said }
  const { parameters, ...named } = TOOL
  const tools: Anthropic.Tool[] = [{ ...named, input_schema: { ...parameters, required: [...parameters.required] } }]
  switch (way) {
    case 'plain':
      return ofMessage(await client.messages.create(base))
    case 'streamed': {
      const stream = client.messages.stream(base)
      let heard = ''
      stream.on('text', (delta) => {
        heard += delta
      })
      return { ...ofMessage(await stream.finalMessage()), text: heard }
    }
    case 'tools':
    case 'streamedTools': {
      const calls: Answer['calls'][number][] = []
      for (let step = 0; step < STEPS_MAX; step++) {
        const asked = { ...base, tools }
        const message = way === 'tools' ? await client.messages.create(asked) : await client.messages.stream(asked).finalMessage()
        const answer = ofMessage(message)
        calls.push(...answer.calls)
        if (message.stop_reason !== 'tool_use') return { ...answer, calls }
        said.push({ role: 'assistant', content: message.content })
        const results = message.content.flatMap((block) =>
          block.type === 'tool_use' ? [{ type: 'tool_result' as const, tool_use_id: block.id, content: TOOL_RESULT }] : [],
        )
        said.push({ role: 'user', content: results })
      }
      throw new RangeError('the tool loop has no end')
    }
    case 'forced':
      return ofMessage(await client.messages.create({ ...base, tools, tool_choice: { type: 'any' } }))
    case 'structured': {
      const message = await client.messages.parse({ ...base, output_config: { format: zodOutputFormat(PLACE) } })
      return { ...ofMessage(message), object: message.parsed_output }
    }
  }
}

function ofMessage({ content, usage }: Pick<Anthropic.Message, 'content' | 'usage'>): Answer {
  const cached = (usage.cache_creation_input_tokens ?? 0) + (usage.cache_read_input_tokens ?? 0)
  return {
    text: content.map((block) => (block.type === 'text' ? block.text : '')).join(''),
    usage: { input: usage.input_tokens + cached, output: usage.output_tokens },
    calls: content.flatMap((block) => (block.type === 'tool_use' ? [{ name: block.name, input: block.input }] : [])),
    object: null,
  }
}
