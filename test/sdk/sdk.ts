/** What the matrix asks of an SDK: the ways in which apps call it, as its own documentation shows them, with all its defaults. */
import { readFileSync } from 'node:fs'

/** How an app calls a model. `tools` is a whole loop: call, result, answer. `forced` must come back with a call. */
export const WAYS = ['plain', 'streamed', 'tools', 'streamedTools', 'forced', 'structured'] as const
export type Way = (typeof WAYS)[number]

export interface Said {
  readonly role: 'user' | 'assistant'
  readonly text: string
}

export interface Ask {
  /** As `address` of the SDK gives it; null: the client is to find it in its environment. */
  readonly address: string | null
  /** For this conversation. */
  readonly headers: Readonly<Record<string, string>>
  readonly model: string
  /** What was said before; the question comes last. */
  readonly history: readonly Said[]
  readonly question: string
}

/** What the app has in hand at the end. */
export interface Answer {
  readonly text: string
  /** Of the last call, all input counted, as the SDK shows it; null where it shows none. */
  readonly usage: TokenCounts | null
  /** Tools that the model called on the way. */
  readonly calls: readonly { readonly name: string; readonly input: unknown }[]
  /** The answer as an object, where one was asked for. */
  readonly object: unknown
}

export interface TokenCounts {
  readonly input: number
  readonly output: number
}

/** An exception as an app would catch it. */
export interface Caught {
  /** Name of its class. */
  readonly name: string
  readonly status: number | null
  /** The provider's code for what happened, where the exception leads to it. */
  readonly code: string | null
  readonly message: string
}

export type Outcome = { readonly status: 'answered'; readonly answer: Answer } | { readonly status: 'thrown'; readonly caught: Caught }

export interface Sdk {
  /** As docs/sdks.md calls it. */
  readonly name: string
  /** What is special about it here; null: nothing. */
  readonly variant: string | null
  /** The version that is called. */
  readonly version: string
  /** The address that its client takes in code, for a sidecar at `origin`. */
  address(origin: string): string
  /** Environment variables that lead it there, where the client is given no address. Null: it reads none. */
  readonly environment: ((origin: string) => Readonly<Record<string, string>>) | null
  /** The path that it then calls. */
  readonly operation: RegExp
  /** What a call names: a model, or a deployment. */
  readonly model: string
  /** The models that the plan speaks of: the one that a call names, and the one that it steps down to. */
  readonly downgrade: { readonly from: string; readonly to: string }
  /** The ways that its model allows. */
  readonly ways: readonly Way[]
  /** How it asks for an object: in a field of its own, or by a tool that it forces. */
  readonly structuredBy: 'format' | 'tool'
  /** What it makes of the usage of a stream, without a sidecar too. */
  streamedUsage(usage: TokenCounts): TokenCounts
  /** Class of the exception for a 402. */
  readonly refusal: string
  call(way: Way, ask: Ask): Promise<Outcome>
  /** One plain call of a client that knows its address from these environment variables alone. */
  callByEnvironment(variables: Readonly<Record<string, string>>, ask: Omit<Ask, 'address'>): Promise<Outcome>
}

/** What most have in common. */
export const USUAL: Pick<Sdk, 'variant' | 'ways' | 'structuredBy' | 'streamedUsage'> = {
  variant: null,
  ways: WAYS,
  structuredBy: 'format',
  streamedUsage: (usage) => usage,
}

export interface NodeParts extends Omit<Sdk, keyof typeof USUAL | 'version' | 'call' | 'callByEnvironment'>, Partial<typeof USUAL> {
  /** The package of that name. */
  readonly npm: string
  readonly run: (way: Way, ask: Ask) => Promise<Answer>
  /** What of an exception an app can see. */
  readonly visible: (error: Error) => Pick<Caught, 'status' | 'code'>
}

/** An SDK that is called in this process. */
export function nodeSdk({ npm, run, visible, ...parts }: NodeParts): Sdk {
  const call: Sdk['call'] = async (way, ask) => {
    try {
      return { status: 'answered', answer: await run(way, ask) }
    } catch (error) {
      if (!(error instanceof Error)) throw error
      return { status: 'thrown', caught: { name: error.constructor.name, message: error.message, ...visible(error) } }
    }
  }
  return {
    ...USUAL,
    ...parts,
    version: versionOf(npm),
    call,
    callByEnvironment: (variables, ask) => withEnvironment(variables, () => call('plain', { ...ask, address: null })),
  }
}

/** The tool of every app here. */
export const TOOL = {
  name: 'look_up',
  description: 'Looks an order up.',
  parameters: {
    type: 'object',
    properties: { order: { type: 'string', description: 'Its number.' } },
    required: ['order'],
    additionalProperties: false,
  },
} as const
/** What it answers. */
export const TOOL_RESULT = 'The order is in Rotterdam.'

/** No tool loop here is longer. */
export const STEPS_MAX = 4

/** Runs `use` while `process.env` holds these variables too, and no other that leads an SDK somewhere. */
export async function withEnvironment<T>(variables: Readonly<Record<string, string>>, use: () => Promise<T>): Promise<T> {
  const before = { ...process.env }
  for (const name of Object.keys(process.env)) if (/^(OPENAI|AZURE_OPENAI|ANTHROPIC|GOOGLE|GEMINI)_/.test(name)) delete process.env[name]
  Object.assign(process.env, variables)
  try {
    return await use()
  } finally {
    for (const name of Object.keys(process.env)) delete process.env[name]
    Object.assign(process.env, before)
  }
}

function versionOf(npm: string): string {
  const own = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
    readonly dependencies: Readonly<Record<string, string>>
    readonly devDependencies: Readonly<Record<string, string>>
  }
  const version = own.dependencies[npm] ?? own.devDependencies[npm]
  if (version === undefined) throw new RangeError(`${npm} is no dependency of the tests`)
  return version
}
