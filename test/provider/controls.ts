/** The `x-fake-...` request headers by which a test says what the provider should do to its request. Absent headers change nothing. */
import type { IncomingHttpHeaders } from 'node:http'
import { ApiError } from './api-error.ts'
import { isObject } from './fields.ts'

export interface Controls {
  /** Copied to the line of the bill. */
  readonly tag: string | null
  /** The answer, word for word (percent-encoded in the header). */
  readonly content: string | null
  /** Billed tokens of each answer in words, before any bound. */
  readonly outputTokens: number | null
  /** Hidden tokens before the answer. */
  readonly reasoningTokens: number | null
  /** Tools to call, with arguments or with some that fit the schema. */
  readonly toolCalls: readonly { readonly name: string; readonly arguments: string | null }[] | null
  /** Tools of the provider that the model calls before it answers, by type, and the tokens of each result. Null: as it likes. */
  readonly hostedCalls: readonly string[] | null
  readonly hostedResultTokens: number | null
  /** The recorded conversation to answer from, where several fit. */
  readonly recording: string | null
  readonly delayMs: number
  readonly tokenDelayMs: number
  /** After this many visible tokens, or before the headers: the connection is cut, goes silent, or an error event is sent. */
  readonly cutAfterTokens: 'headers' | number | null
  /** The cut leaves half an event behind. */
  readonly cutMidChunk: boolean
  readonly hang: 'headers' | number | null
  readonly errorAfterTokens: number | null
  /** Answer with this status instead; `statusTimes` times for each tag, then as usual. */
  readonly status: number | null
  readonly statusTimes: number
  readonly retryAfter: string | null
  readonly malformed: boolean
  /** Claude declines before any output, in this category; null: it does not. */
  readonly refusal: string | null
  readonly usage: 'asked' | 'omit' | 'cumulative' | 'zeros'
  /** Base64 of each picture; null: as it comes. */
  readonly pictureBytes: number | null
  /** With this status, as OpenAI (400) or Mistral (422) refuses a field; null: they are taken. */
  readonly rejectStreamOptions: 400 | 422 | null
  /** What the account of the key has set for requests that leave it open: OpenAI's project, Anthropic's workspace. */
  readonly accountTier: 'priority' | 'flex' | null
  readonly accountGeo: 'us' | 'global' | null
  /** Models whose chat template wants users and the assistant to take turns. */
  readonly alternateRoles: readonly string[]
}

// oxfmt-ignore
const HEADERS = [
  'tag', 'content', 'output-tokens', 'reasoning-tokens', 'tool-call', 'recording', 'delay-ms', 'token-delay-ms', 'cut-after-tokens',
  'cut-mid-chunk', 'hang', 'error-after-tokens', 'status', 'status-times', 'retry-after', 'malformed', 'usage', 'reject-stream-options',
  'refusal', 'hosted-calls', 'hosted-result-tokens', 'picture-bytes', 'alternate-roles', 'account-tier',
  'account-geo',
] as const
type Header = (typeof HEADERS)[number]
const PREFIX = 'x-fake-'
const DELAY_MS_MAX = 600_000
const TOKENS_MAX = 1_000_000
const PICTURE_BYTES_MAX = 64 * 1024 * 1024

const NO_CONTROLS: Controls = {
  tag: null,
  content: null,
  outputTokens: null,
  reasoningTokens: null,
  toolCalls: null,
  hostedCalls: null,
  hostedResultTokens: null,
  recording: null,
  delayMs: 0,
  tokenDelayMs: 0,
  cutAfterTokens: null,
  cutMidChunk: false,
  hang: null,
  errorAfterTokens: null,
  status: null,
  statusTimes: Number.POSITIVE_INFINITY,
  retryAfter: null,
  malformed: false,
  refusal: null,
  usage: 'asked',
  pictureBytes: null,
  rejectStreamOptions: null,
  accountTier: null,
  accountGeo: null,
  alternateRoles: [],
}

/** Reads the controls. Throws a 400 `fake_control_invalid` for one that is unknown or makes no sense: a test must not pass by a slip. */
export function readControls(headers: IncomingHttpHeaders): Controls {
  const given = new Map<Header, string>()
  for (const name in headers) {
    if (!name.startsWith(PREFIX)) continue
    const header = HEADERS.find((known) => PREFIX + known === name)
    if (header === undefined) throw invalid(name, `is none of ${HEADERS.map((known) => PREFIX + known).join(', ')}`)
    given.set(header, String(headers[name]))
  }
  if (given.size === 0) return NO_CONTROLS
  const number = (header: Header, most: number): number | null => {
    const text = given.get(header)
    if (text === undefined) return null
    const value = Number(text)
    if (text.trim() === '' || !(value >= 0 && value <= most))
      throw invalid(PREFIX + header, `must be a number from 0 to ${most}, not "${text}"`)
    return value
  }
  const tokens = (header: Header): number | null => {
    const value = number(header, TOKENS_MAX)
    if (value !== null && !Number.isInteger(value)) throw invalid(PREFIX + header, 'must be a whole number')
    return value
  }
  const oneOf = <Choice extends string>(header: Header, choices: readonly Choice[]): Choice => {
    const found = choices.find((choice) => choice === given.get(header))
    if (found === undefined) throw invalid(PREFIX + header, `must be one of ${choices.join(', ')}`)
    return found
  }
  const flag = (header: Header): boolean => given.has(header) && oneOf(header, ['true', 'false']) === 'true'
  const status = number('status', 599)
  if (status !== null && !(Number.isInteger(status) && status >= 400)) throw invalid('x-fake-status', 'must be from 400 to 599')
  return {
    tag: given.get('tag') ?? null,
    content: contentOf(given.get('content')),
    outputTokens: tokens('output-tokens'),
    reasoningTokens: tokens('reasoning-tokens'),
    toolCalls: callsOf(given.get('tool-call')),
    hostedCalls: namesOf(given.get('hosted-calls')),
    hostedResultTokens: tokens('hosted-result-tokens'),
    recording: given.get('recording') ?? null,
    delayMs: number('delay-ms', DELAY_MS_MAX) ?? 0,
    tokenDelayMs: number('token-delay-ms', DELAY_MS_MAX) ?? 0,
    cutAfterTokens: given.get('cut-after-tokens') === 'headers' ? 'headers' : tokens('cut-after-tokens'),
    cutMidChunk: flag('cut-mid-chunk'),
    hang: given.get('hang') === 'headers' ? 'headers' : tokens('hang'),
    errorAfterTokens: tokens('error-after-tokens'),
    status,
    statusTimes: tokens('status-times') ?? Number.POSITIVE_INFINITY,
    retryAfter: given.get('retry-after') ?? null,
    malformed: flag('malformed'),
    refusal: given.get('refusal') ?? null,
    usage: given.has('usage') ? oneOf('usage', ['asked', 'omit', 'cumulative', 'zeros']) : 'asked',
    pictureBytes: number('picture-bytes', PICTURE_BYTES_MAX),
    rejectStreamOptions: given.has('reject-stream-options') ? (oneOf('reject-stream-options', ['400', '422']) === '400' ? 400 : 422) : null,
    accountTier: given.has('account-tier') ? oneOf<'priority' | 'flex'>('account-tier', ['priority', 'flex']) : null,
    accountGeo: given.has('account-geo') ? oneOf<'us' | 'global'>('account-geo', ['us', 'global']) : null,
    alternateRoles: namesOf(given.get('alternate-roles')) ?? [],
  }
}

/** `name, name`; an empty text is no name. */
function namesOf(text: string | undefined): readonly string[] | null {
  if (text === undefined) return null
  return text.split(',').flatMap((name) => (name.trim() === '' ? [] : [name.trim()]))
}

function contentOf(text: string | undefined): string | null {
  if (text === undefined) return null
  try {
    return decodeURIComponent(text)
  } catch {
    throw invalid('x-fake-content', 'must be percent-encoded UTF-8')
  }
}

/** `name, name` or `[{"name": ..., "arguments": {...}}]`. */
function callsOf(text: string | undefined): Controls['toolCalls'] {
  if (text === undefined) return null
  if (!text.startsWith('[')) return text.split(',').map((name) => ({ name: name.trim(), arguments: null }))
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    value = null
  }
  if (!Array.isArray(value)) throw invalid('x-fake-tool-call', 'must be names with commas between, or a JSON list of {name, arguments}')
  return value.map((call: unknown) => {
    if (!isObject(call) || typeof call['name'] !== 'string') throw invalid('x-fake-tool-call', 'must name each tool')
    return { name: call['name'], arguments: call['arguments'] === undefined ? null : JSON.stringify(call['arguments']) }
  })
}

function invalid(header: string, what: string): ApiError {
  return new ApiError(400, `The test header ${header} ${what}.`, { param: header, code: 'fake_control_invalid' })
}
