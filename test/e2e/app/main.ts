/**
 * A chat service as teams have them, which knows nothing of Farebox: the `openai` client finds its base URL and its key in the
 * environment, and a conversation is told apart by what the provider has for it.
 *
 *   POST /say {conversation, user, text, model?, stream?, fake?} -> {status, code, text, headers}; keeps each conversation's history.
 *   GET /env -> the variables of the client; POST /bypass {url} -> calls that URL by itself, holds the connection open for a while
 *
 * `fake`: headers for the fake provider. `--once TEXT` says one thing, prints the answer, and exits; `--exit CODE` does just that.
 */
import { createServer, request } from 'node:http'
import { json } from 'node:stream/consumers'
import OpenAI from 'openai'

interface Say {
  readonly conversation?: string
  readonly user?: string
  readonly text: string
  readonly model?: string
  readonly stream?: boolean
  readonly fake?: Readonly<Record<string, string>>
}

const PORT = 8080
const HOLD_MS = 60_000

const client = new OpenAI({ maxRetries: 0 })
const histories = new Map<string, OpenAI.ChatCompletionMessageParam[]>()

async function say({ conversation, user, text, model = 'gpt-4o', stream = false, fake = {} }: Say): Promise<object> {
  const history = histories.get(conversation ?? '') ?? []
  const messages = [...history, { role: 'user' as const, content: text }]
  const body = {
    model,
    messages,
    ...(conversation === undefined ? {} : { prompt_cache_key: conversation }),
    ...(user === undefined ? {} : { safety_identifier: user }),
  }
  try {
    const { answer, headers } = stream ? await streamed(body, fake) : await plain(body, fake)
    if (conversation !== undefined) histories.set(conversation, [...messages, { role: 'assistant', content: answer }])
    return { status: 200, code: null, text: answer, headers: ours(headers) }
  } catch (error) {
    if (!(error instanceof OpenAI.APIError)) throw error
    return { status: error.status ?? 0, code: error.code ?? null, text: error.message, headers: ours(error.headers) }
  }
}

type Body = Omit<OpenAI.ChatCompletionCreateParamsNonStreaming, 'stream'>

async function plain(body: Body, headers: Readonly<Record<string, string>>): Promise<{ answer: string; headers: Headers }> {
  const { data, response } = await client.chat.completions.create(body, { headers }).withResponse()
  return { answer: data.choices[0]?.message.content ?? '', headers: response.headers }
}

async function streamed(body: Body, headers: Readonly<Record<string, string>>): Promise<{ answer: string; headers: Headers }> {
  const { data, response } = await client.chat.completions.create({ ...body, stream: true }, { headers }).withResponse()
  let answer = ''
  for await (const chunk of data) answer += chunk.choices[0]?.delta.content ?? ''
  return { answer, headers: response.headers }
}

function ours(headers: Headers | undefined): Record<string, string> {
  return Object.fromEntries([...(headers ?? [])].filter(([name]) => name.startsWith('x-farebox-')))
}

/** What a team does that has forgotten the base URL: a connection to the provider that nobody meters. */
function bypass(url: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const outgoing = request(url, (response) => {
      resolve(response.statusCode ?? 0)
      setTimeout(() => response.destroy(), HOLD_MS)
    })
    outgoing.on('error', reject)
    outgoing.end()
  })
}

const [, , flag, value = ''] = process.argv
if (flag === '--once') {
  console.log(JSON.stringify(await say({ text: value })))
} else if (flag === '--exit') {
  process.exitCode = Number(value)
} else {
  createServer((incoming, outgoing) => {
    const answer = (status: number, body: object): void => {
      outgoing.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
    }
    const { pathname } = new URL(incoming.url ?? '/', 'http://app')
    const route = async (): Promise<object> => {
      if (pathname === '/say') return await say((await json(incoming)) as Say)
      if (pathname === '/bypass') return { status: await bypass(((await json(incoming)) as { url: string }).url) }
      if (pathname === '/env') return Object.fromEntries(Object.entries(process.env).filter(([name]) => /^(OPENAI|FAREBOX)_/.test(name)))
      return { status: 'up' }
    }
    route().then(
      (body) => answer(200, body),
      (error: unknown) => answer(500, { error: String(error) }),
    )
  }).listen(PORT)
}
process.once('SIGTERM', () => process.exit(0))
