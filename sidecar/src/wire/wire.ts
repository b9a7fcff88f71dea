/**
 * What the proxy needs of a wire format: to read a request, to write it again with what must change, to read answers whole
 * and streamed, and to give answers of our own in the same shape. One object for each format; `routes.ts` says which path
 * speaks which.
 */
import type { Upstream } from '@farebox/crds/sidecar-config.ts'
import type { Usage } from '@farebox/crds/usage.ts'
import type { AnswerFacts, Message, ModelRequest, RequestChange, WireName } from '../core/request.ts'

/** Where a request came in, and what its path says. */
export interface CallContext {
  /** Of the upstream, what decides how it is spoken to. */
  readonly upstream: Pick<Upstream, 'provider' | 'outputLimitField' | 'deployments'>
  /** Path and query at the provider, below its base URL: `/chat/completions`. */
  readonly path: string
  /** Of the body; empty when the client names none. */
  readonly contentType: string
  /** What the path names, where the body need not name a model. */
  readonly model?: string
  /** A dearer service tier that a header asks for; null or absent: none. */
  readonly askedTier?: string | null
}

/** What such a use is refused by, where its clients know a code by which they go on without it. */
export type UngovernedCode = 'thread_unsupported_request'

export type ParsedRequest =
  | { readonly status: 'ok'; readonly request: ModelRequest }
  /** `field` is null when the body as a whole is at fault. The message never quotes the body. */
  | { readonly status: 'invalid'; readonly field: string | null; readonly message: string }
  /** A way to use the endpoint that cannot be metered as it happens: `background: true`. */
  | { readonly status: 'ungoverned'; readonly what: string; readonly code?: UngovernedCode }

/** The body of a call that costs nothing, as the provider gets it; or why it must not get it, as of a request. */
export type FreeBody = { readonly status: 'ok'; readonly body: Buffer } | Exclude<ParsedRequest, { readonly status: 'ok' }>

/** What an answer says of itself, and how far its usage can be believed. */
export interface WireFacts extends AnswerFacts {
  /** Parts of the usage added up to more than its total. */
  readonly usageClamped: boolean
  /** The usage held numbers that cannot be; `usage` is null. */
  readonly usageInvalid: boolean
  /** Code or type of an error that the answer carries; null when it carries none. Never the provider's words: they quote prompts. */
  readonly error: string | null
}

export interface ReadAnswer {
  readonly facts: WireFacts
  /** What was said, as an app sends it back; null where nothing was, or the format has none. */
  readonly message: Message | null
  /** All of it, where an answer may be several messages; `message` is the one that holds the words. Absent: `message` is all. */
  readonly messages?: readonly Message[]
  /** Where several answers were asked for: the first of those beside `message`, at most `ALTERNATIVES_MAX`. Absent: none. */
  readonly alternatives?: readonly Message[]
  /** False for bytes that are no answer of this format: they may have lost any part of themselves. */
  readonly readable: boolean
}

export interface StreamOptions {
  readonly request: ModelRequest
  /** We asked for the usage and the client did not: take it out again. */
  readonly stripUsage: boolean
  /** Text to put at the end of the answer when that is prose; brings its own separator. Null: none. */
  readonly notice: string | null
  /** Keep the answer, for `message`. */
  readonly collect: boolean
}

/** A streamed answer on its way to the client: read as it passes, and changed in the little that must change. */
export interface AnswerStream {
  /** Takes the next bytes from the provider; gives those to pass on now, in pieces. */
  push(chunk: Buffer): readonly Buffer[]
  /** The provider's stream has ended: what was held back. */
  end(): readonly Buffer[]
  /** What the answer has said of itself so far. `usage` only when it is final: see `usageSoFar`. */
  readonly facts: WireFacts
  /** The last usage seen: exact for its input, behind for its output. */
  readonly usageSoFar: Usage | null
  /** The answer as a message, when it was collected, without the notice. */
  readonly message: Message | null
  /** As in `ReadAnswer`. */
  readonly messages?: readonly Message[]
  /** As in `ReadAnswer`. */
  readonly alternatives?: readonly Message[]
  readonly noticeAdded: boolean
  /** Its last event has passed: nothing but the end is to come. Absent: the format has no such event. */
  readonly isOver?: boolean
  /** Output tokens of all that has passed, estimated from above; exact where the provider counts along. Hidden reasoning is not in it. */
  observedOutputTokens(): number
  /** Of these, the tokens of text, estimated from above; absent: all of them. */
  observedTextTokens?(): number
  /** Something passed that nobody here can measure, and no usage has counted it yet. Absent: no. */
  readonly isUnread?: boolean
}

/** What we changed in a request, and the provider will not have. */
export type Objection = 'streamOptions' | 'limitField' | 'swap' | 'edits'

/** A call of our own: a summary. */
export interface PromptTask {
  /** As the body names it. */
  readonly model: string
  /** The model that this is, where it is called otherwise. */
  readonly served?: string
  readonly system: string
  readonly user: string
  readonly maxTokens: number
  /** The field for that, in formats that have several; absent: the usual one. */
  readonly limitField?: string
  readonly call: CallContext
}

/** What answers of our own carry. */
export interface SyntheticAnswer {
  readonly text: string
  /** Random, of the characters that ids are made of. */
  readonly id: string
  readonly createdS: number
}

export interface InputCounts {
  /** `change`: to what is counted, a model and messages. */
  ask(
    request: ModelRequest,
    call: CallContext,
    change?: Pick<RequestChange, 'model' | 'messages'>,
  ): { readonly path: string; readonly body: Buffer }
  /** Tokens; null for bytes that say none. */
  read(body: Buffer): number | null
  /** Whether a refusal says that the history named is not there: then the call itself will be refused. `body` is latin1. */
  isUnknown(status: number, body: string): boolean
}

export interface Wire {
  readonly name: WireName
  /** Whether a stream tells its usage only when asked (`stream_options`). */
  readonly asksForUsage: boolean
  /** Whether a body is read as a form where its type says that it is one. Absent: all are read as JSON. */
  readonly readsForms?: boolean
  /** Reads what the turn needs, and refuses what it cannot be sure of; the provider judges the rest. */
  parse(body: Buffer, call: CallContext): Promise<ParsedRequest>
  /** The request with `change` made to it: the same buffer when nothing changes, every other byte as it came. */
  render(request: ModelRequest, change: RequestChange, call?: CallContext): Buffer
  /** Path and query at the provider: those that came, but where a model stands in them. */
  path(call: CallContext, change: RequestChange): string
  readAnswer(body: Buffer, request: ModelRequest): ReadAnswer
  /** The answer with `text` at its end, when it is prose: text that ended by itself or at its limit, and is no JSON. Every other byte stays. */
  addNotice(body: Buffer, text: string): { readonly body: Buffer; readonly added: boolean }
  openStream(options: StreamOptions): AnswerStream
  /** An answer that no model made, used nothing, and ended by itself. Never for callers who expect JSON. Null where the format has no such answer. */
  synthetic(request: ModelRequest, answer: SyntheticAnswer): { readonly contentType: string; readonly body: Buffer } | null
  /** What of our changes an error speaks of; null when it is none of ours. `body` is latin1. */
  objection(status: number, body: string): Objection | null
  /** A plain call with a prompt of ours; null where the format has none. */
  prompt(task: PromptTask): { readonly path: string; readonly body: Buffer } | null
  /** The provider's own count of a request's input, which costs nothing; absent where it has none. */
  readonly counts?: InputCounts
}
