/** What is asked for in the bench: request bodies, the model and its price, and the commands of the load generator. */

/** In the shipped catalogue at 0.15 and 0.60 USD per million tokens. */
const MODEL = 'gpt-4o-mini'
export const INPUT_PICO_USD = 150_000n
export const OUTPUT_PICO_USD = 600_000n
/** Stands before the time in microseconds at which a chunk was sent, inside its text. */
export const SENT_AT = 'sent@'

export const BODIES = ['small', 'large', 'stream'] as const
export type BodyName = (typeof BODIES)[number]

export interface Target {
  readonly port: number
  readonly path: string
}

/** What the load generator is told to do, one at a time. */
export type Command =
  /** As fast as the connections allow, each with one request at a time, spread over the targets. */
  | {
      readonly kind: 'closed'
      readonly targets: readonly Target[]
      readonly body: BodyName
      readonly connections: number
      readonly seconds: number
    }
  /** Sent by the clock, whatever is still out; for latency. */
  | { readonly kind: 'open'; readonly target: Target; readonly body: BodyName; readonly perSecond: number; readonly seconds: number }
  /** Streams side by side, each read to its end once. */
  | { readonly kind: 'streams'; readonly target: Target; readonly streams: number; readonly chunks: number }
  /** At once, all on one conversation and one user, each asking for `output` tokens. */
  | {
      readonly kind: 'burst'
      readonly target: Target
      readonly body: BodyName
      readonly calls: number
      readonly output: number
      readonly conversation: string
      readonly tier: string
    }

export interface LoadResult {
  readonly requests: number
  /** Answers by status; 0 is a broken connection. */
  readonly statuses: Readonly<Record<string, number>>
  /** Per request, or per chunk of a stream, in microseconds. */
  readonly latenciesUs: readonly number[]
  readonly chunks: number
}

/** What the process of bare round trips is told to do: `perTurn` of them, one after the other, by the clock. */
export interface RoundTrips {
  readonly perTurn: number
  readonly perSecond: number
  readonly seconds: number
}

/** A body of a support conversation: 2 KB, 100 KB, or a short one that streams. */
export function bodyOf(name: BodyName): Buffer {
  const bytes = { small: 2_048, large: 102_400, stream: 600 }[name]
  const messages: { readonly role: string; readonly content: string }[] = [
    {
      role: 'system',
      content: 'You answer customers of a shop for garden tools. Be brief, name the order, never promise a date that you do not know.',
    },
  ]
  const render = (): string => JSON.stringify({ model: MODEL, messages, ...(name === 'stream' ? { stream: true } : { temperature: 0.2 }) })
  const turns = ['Where is my order? It said "Tuesday", and today is Friday.\n', 'It is on its way: the carrier has it since Monday.\n']
  const perMessage = name === 'large' ? 1_200 : 300
  for (let index = 0; ; index++) {
    const left = bytes - render().length - 40
    if (left <= 0) return Buffer.from(render())
    const last = left < 2 * perMessage
    const role = last || index % 2 === 0 ? 'user' : 'assistant'
    const length = last ? left : perMessage
    const text = turns[index % 2] ?? ''
    messages.push({ role, content: text.repeat(Math.ceil(length / text.length)).slice(0, length) })
    if (last) return Buffer.from(render())
  }
}
