/** The SDKs for Python, called by `python/driver.py`, one process for all of them. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { pythonWithSdks, REQUIREMENTS } from './python-venv.ts'
import { TOOL, TOOL_RESULT, USUAL } from './sdk.ts'
import type { Answer, Ask, Caught, Outcome, Sdk, Way } from './sdk.ts'

export interface Python {
  readonly sdks: readonly Sdk[]
  /** One call by what the driver knows by this name. */
  call(sdk: string, way: Way, ask: Ask & PythonOptions): Promise<Outcome>
  stop(): Promise<void>
}

/** What only the driver knows. */
export interface PythonOptions {
  readonly environment?: Readonly<Record<string, string>>
  /** Of LangChain for OpenAI: null leaves it as it is. Absent: true. */
  readonly streamUsage?: null
  /** Of Anthropic: so many calls by the SDK's own tool runner. Absent: the loop is the driver's. */
  readonly runs?: number
  /** Of LangChain: how it asks for an object. Absent: as it likes. */
  readonly method?: 'json_schema'
  /** Headers of this one call, of a plain one. Absent: none. */
  readonly callHeaders?: Readonly<Record<string, string>>
}

const DRIVER = fileURLToPath(new URL('python/driver.py', import.meta.url))
const READY_MS_MAX = 60_000
const TOOL_OF_DRIVER = { ...TOOL, result: TOOL_RESULT }

/** Null where there is no Python for them. */
export async function startPython(): Promise<Python | null> {
  const program = pythonWithSdks()
  if (program === null) return null
  const child = spawn(program, [DRIVER], { stdio: ['pipe', 'pipe', 'inherit'] })
  const lines = createInterface({ input: child.stdout })
  const exited = once(child, 'exit')
  const ready = once(lines, 'line', { signal: AbortSignal.timeout(READY_MS_MAX) })
  await Promise.race([ready, exited.then(([code]) => Promise.reject(new Error(`the driver for Python ended with ${code}`)))])

  const waiting = new Map<number, (outcome: Outcome) => void>()
  lines.on('line', (line) => {
    const { id, answer, caught } = JSON.parse(line) as { readonly id: number; readonly answer?: Answer; readonly caught?: Caught }
    waiting.get(id)?.(answer === undefined ? { status: 'thrown', caught: caught ?? UNTOLD } : { status: 'answered', answer })
    waiting.delete(id)
  })
  child.on('exit', () => {
    for (const tell of waiting.values()) tell({ status: 'thrown', caught: UNTOLD })
    waiting.clear()
  })
  let calls = 0
  const call: Python['call'] = (sdk, way, ask) =>
    new Promise((resolve) => {
      const id = ++calls
      waiting.set(id, resolve)
      child.stdin.write(`${JSON.stringify({ id, sdk, way, tool: TOOL_OF_DRIVER, ...ask })}\n`)
    })
  const versions = versionsIn(readFileSync(REQUIREMENTS, 'utf8'))
  return {
    sdks: PARTS.map(({ id, pip, more, ...parts }) => ({
      ...USUAL,
      ...parts,
      version: versions.get(pip) ?? '',
      call: (way, ask) => call(id, way, { ...ask, ...more }),
      callByEnvironment: (variables, ask) => call(id, 'plain', { ...ask, address: null, environment: variables }),
    })),
    call,
    async stop() {
      child.stdin.end()
      await exited
    },
  }
}

function versionsIn(requirements: string): ReadonlyMap<string, string> {
  return new Map([...requirements.matchAll(/^([a-z-]+)==(\S+)$/gm)].map(([, name = '', version = '']) => [name, version]))
}

const UNTOLD: Caught = { name: 'none', status: null, code: null, message: 'the driver for Python has ended' }

interface Parts extends Omit<Sdk, keyof typeof USUAL | 'version' | 'call' | 'callByEnvironment'>, Partial<typeof USUAL> {
  /** What the driver calls it. */
  readonly id: string
  /** Its line in `requirements.txt`. */
  readonly pip: string
  readonly more?: PythonOptions
}

const GPT = {
  pip: 'openai',
  model: 'gpt-4o',
  downgrade: { from: 'gpt-4o', to: 'gpt-4o-mini' },
  address: (origin: string) => `${origin}/openai/v1`,
  environment: (origin: string) => ({ OPENAI_BASE_URL: `${origin}/openai/v1` }),
  operation: /^\/openai\/v1\/chat\/completions$/,
  refusal: 'APIStatusError',
}
const CLAUDE = {
  model: 'claude-sonnet-4-5',
  downgrade: { from: 'claude-sonnet-4-5', to: 'claude-haiku-4-5' },
  address: (origin: string) => `${origin}/anthropic`,
  environment: (origin: string) => ({ ANTHROPIC_BASE_URL: `${origin}/anthropic` }),
  operation: /^\/anthropic\/v1\/messages$/,
  refusal: 'PaymentRequiredError',
}

const PARTS: readonly Parts[] = [
  { ...GPT, id: 'openai-chat', name: '`openai` (Python), Chat Completions' },
  { ...GPT, id: 'openai-responses', name: '`openai` (Python), Responses', operation: /^\/openai\/v1\/responses$/ },
  {
    ...GPT,
    id: 'azure',
    name: '`AzureOpenAI` (Python)',
    model: 'desk-large',
    address: (origin) => `${origin}/azure`,
    environment: (origin) => ({ AZURE_OPENAI_ENDPOINT: `${origin}/azure` }),
    operation: /^\/azure\/openai\/deployments\/desk-large\/chat\/completions\?api-version=2024-10-21$/,
  },
  { ...CLAUDE, id: 'anthropic', pip: 'anthropic', name: '`anthropic` (Python)' },
  { ...GPT, id: 'langchain-openai', pip: 'langchain-openai', name: '`langchain-openai` (Python)' },
  {
    ...CLAUDE,
    id: 'langchain-anthropic',
    pip: 'langchain-anthropic',
    name: '`langchain-anthropic` (Python)',
    structuredBy: 'tool',
    // It reads the input from the last event alone, where the API may leave it out since it has not changed.
    streamedUsage: ({ output }) => ({ input: 0, output }),
  },
  {
    ...CLAUDE,
    id: 'langchain-anthropic',
    pip: 'langchain-anthropic',
    name: '`langchain-anthropic` (Python)',
    variant: '`method="json_schema"`',
    ways: ['structured'],
    more: { method: 'json_schema' },
  },
]
