/**
 * A model request as the turn sees it, whatever the provider. `wire/` makes it from bytes, once, and turns changes of it
 * back into bytes: whatever is not changed goes out exactly as the client wrote it.
 */
import type { Effort } from '@farebox/crds/prices.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import type { Usage } from '@farebox/crds/usage.ts'
import type { OtherUsage } from './cost.ts'

/** The longest body of a request that is read, unpacked: 32 MiB. */
export const BODY_BYTES_MAX = 32 * 1024 * 1024

/** Wire formats: what a request is written in. */
export const WIRES = [
  'chat',
  'responses',
  'compact',
  'completions',
  'embeddings',
  'images',
  'speech',
  'transcriptions',
  'messages',
  'gemini',
] as const
export type WireName = (typeof WIRES)[number]
/** Calls that are no talk: they cost, but nothing in them is rewritten, no other model takes them over, and no window is theirs. */
export const UNTALKED_WIRES: ReadonlySet<WireName> = new Set(['completions', 'embeddings', 'images', 'speech', 'transcriptions'])

export type Json = null | boolean | number | string | readonly Json[] | JsonObject
export interface JsonObject {
  readonly [key: string]: Json | undefined
}

export const ROLES = ['system', 'developer', 'user', 'assistant', 'tool', 'function'] as const
export type Role = (typeof ROLES)[number]

/** A text that a message holds. */
export interface TextPart {
  readonly text: string
  readonly kind: 'text' | 'refusal'
  /** The name that the app gave this part; null for none. */
  readonly name: string | null
  /** The tool call whose result it is part of; null for all other text. */
  readonly answers: string | null
}

export interface ToolCall {
  readonly id: string
  /** Empty when it gives none. */
  readonly name: string
  /** What the tool is called with: JSON or free text, as the model wrote it. */
  readonly input: string
  /** Where clients draw ids of their own for calls that came without one: what names the call in spite of that. */
  readonly place?: string
}

/** A question whether the provider may call a tool of its own, or what was answered to it. */
export interface Approval {
  /** Of the question. */
  readonly id: string
  /** False: it is the question. */
  readonly isGiven: boolean
}

/** A message with the bytes it is sent as. It reads and rewrites its own texts, whatever its provider's JSON looks like. */
export interface Message {
  /** As the rules see it: what holds results of tool calls is a `tool` message, whatever its provider calls it. */
  readonly role: Role
  readonly bytes: Uint8Array
  /** The same without what apps move about from turn to turn and no model reads (cache marks); `bytes` where there is none. */
  readonly stableBytes: Uint8Array
  /** `bytes`, parsed. */
  readonly json: JsonObject
  /** Lets go of `json` until it is asked for again, so that a call that waits for its answer holds a history only once. */
  forget?(): void
  /** The tool calls that an assistant message makes; each must be answered by tool messages right after it. */
  readonly toolCalls: readonly ToolCall[]
  /** Ids of the calls that a tool message answers. */
  readonly answers: readonly string[]
  /** The same by the places of the calls, where those have one. */
  readonly answeredPlaces?: readonly string[]
  /** Absent or null: it is none. No call that must be answered: where the user says something else, the history goes on without. */
  readonly approval?: Approval | null
  /** The name that the app gave the message. */
  readonly name: string | null
  /** All that it says, in order. */
  readonly texts: readonly TextPart[]
  /** The message with other texts, one for each of `texts`; null leaves its part out. Null when nothing would be left to send. */
  withTexts(texts: readonly (string | null)[]): Message | null
  /**
   * The message as the edit log kept it: `text` is the JSON that `withTexts` gave. Null when it is no message of this role. Its cache marks
   * are those that this message has now, not those of the call that was logged.
   */
  reread(text: string): Message | null
  /** What tells it from another message beside role, texts and calls, each as canonical JSON: media, and parts that nobody here reads. */
  readonly others: readonly string[]
  /** Parts that are not text: their bytes fill no window. Audio and files count as images do. */
  readonly images: readonly ImagePart[]
  /** It is the name of a message whose words the provider alone has; absent: it is not. */
  readonly isOnlyNamed?: boolean
  /** Bytes of embedded media (base64), which are part of `bytes` but are not text. */
  readonly mediaBytes: number
}

export interface ImagePart {
  readonly kind: 'image' | 'audio' | 'file'
  /** From the header of an embedded image; null for a link, or when the header cannot be read. */
  readonly size: { readonly width: number; readonly height: number } | null
  /** `ultraHigh`: more than any of its model's usual ones. */
  readonly detail: 'low' | 'high' | 'auto' | 'ultraHigh'
  /** Size of embedded media, decoded; absent for a link or a reference. */
  readonly embeddedBytes?: number
  /**
   * Of a link in the place of an image: `picture` reaches its model as one to a picture, `other` ends as a document, a film or sound does;
   * absent: it may be followed to anything.
   */
  readonly linkedAs?: 'picture' | 'other'
  /** By its type it holds no sound: a document, a picture; absent: it may. */
  readonly isSilent?: true
}

/** Tools that the provider runs itself, and bills per call. */
export interface HostedTools {
  /** Each call may cost the fees of all of them; what stands there twice has its fee twice. */
  readonly tools: readonly ('webSearch' | 'fileSearch' | 'codeContainer')[]
  /** The request's own bound of their calls, and of a compaction, which is one more; null for none. */
  readonly maxCalls: number | null
  /** What its own bound comes to where it is made to stop at fewer calls than it may make as it is; absent: `maxCalls`. */
  readonly callsOnceBound?: number
  /** The provider may compact the window in this call, which reads it once more, as a call of a tool does. */
  readonly compacts?: true
  /** Whether the provider reads the whole context again after each call, and bills it. */
  readonly rereads: boolean
  /** The fewest calls that the request can be made to stop at; absent: 1. */
  readonly fewestCalls?: number
  /** Calls whose results are billed as input, each once, where nothing is read again; absent: none. */
  readonly resultsRead?: number
  /** The most tokens that the tools add to what is read, whatever they are called; absent: their results, of which only the owner knows how long they are. */
  readonly bringsTokens?: number
}

/** Web searches of a call whose provider reads nothing again, bills each and may not count them: what was held for, one for each answer. */
export function searchesOf({ hosted, choices }: Pick<ModelRequest, 'hosted' | 'choices'>): number {
  return hosted.tools.includes('webSearch') && !hosted.rereads ? choices : 0
}

/**
 * Whether it brings the result of a call, or the answer to a question for approval, that only the provider's copy of the history has. That stays
 * open until the provider gets it: an answer of ours in its place would look like the end of a loop from which the provider lets nothing go on.
 */
export function answersKeptCall({ earlier, messages }: Pick<ModelRequest, 'earlier' | 'messages'>): boolean {
  if (earlier === null) return false
  const brought = new Set(messages.flatMap(({ toolCalls }) => toolCalls.map(({ id }) => id)))
  for (const { approval } of messages) if (approval?.isGiven === false) brought.add(approval.id)
  return messages.some(
    ({ answers, approval }) => answers.some((id) => !brought.has(id)) || (approval?.isGiven === true && !brought.has(approval.id)),
  )
}

export interface ModelRequest {
  readonly wire: WireName
  readonly body: Uint8Array
  readonly model: string
  readonly stream: boolean
  /** The client asked for the usage chunk itself. */
  readonly includeUsage: boolean
  /** Answers asked for (`n`), 1 or more. */
  readonly choices: number
  /** The client's own bound on output, per answer. */
  readonly outputLimit: OutputLimit | null
  /** The field that bounds output where the client names none. */
  readonly outputField: string
  /** The only one that the provider takes beside something else in this request; absent: there is no such thing. */
  readonly onlyOutputField?: string
  /** The provider takes no smaller bound than this; absent: 1. */
  readonly outputFloor?: number
  /** False: nothing is written that a bound of output could bound (embeddings, images, speech). */
  readonly generates: boolean
  /** The most that is used beside tokens: images made, characters spoken, seconds heard. */
  readonly units: Readonly<Partial<Usage>>
  /** History that the provider keeps: it is billed with every call, and cannot be rewritten. */
  readonly earlier: { readonly kind: 'response' | 'conversation'; readonly id: string } | null
  /** Names of what the provider keeps or has sealed of the history: where no id is given, they lead to the conversation. */
  readonly keptNames?: readonly string[]
  /** Of what says how the provider is to read what it keeps, a digest; empty where nothing does; absent: it keeps nothing. */
  readonly keptReading?: string
  /** Parts of it are only named, and the provider alone can read them: it must be asked how long they are. */
  readonly onlyNamed?: boolean
  readonly messages: readonly Message[]
  /** Those of them that hold words of ours which no log tells of, each with what is left of it: null for nothing. Absent: none. */
  readonly ours?: ReadonlyMap<Message, Message | null>
  /**
   * The app has begun the answer to a new question (`begunAnswer`): a user turn begins here all the same. Not so where the model goes on in
   * an answer that was given before. Set once the conversation is known.
   */
  readonly beginsAnswer?: boolean
  readonly tools: 'none' | 'offered' | 'forced'
  /** `tool_choice` is `none` already. */
  readonly toolsRefused: boolean
  /** The answer must be JSON: nothing may be added to it. */
  readonly structured: boolean
  /** How much the model is asked to think, in the app's word; absent: it does not say. */
  readonly effort?: string
  readonly serviceTier: string | null
  /** Carriers of identity in the body. */
  readonly metadata: Readonly<Record<string, string>>
  readonly promptCacheKey: string | null
  readonly safetyIdentifier: string | null
  readonly user: string | null
  /** All of the body but the messages and their media: tools, schemas, the frame. An upper bound of their tokens. */
  readonly fixedBytes: number
  /** Over the parts beside the messages that fill the window (tools, functions, response_format, prediction). */
  readonly fixedDigest: string
  /** Names of the top-level fields that are present. */
  readonly fields: ReadonlySet<string>
  readonly hosted: HostedTools
  /** For how long the request asks the provider to keep its input, at most; absent: providers that write of themselves keep it for a short time. */
  readonly cacheWrites?: 'none' | 'short' | 'long'
  /** A message of ours, as this wire writes it. */
  readonly own: (role: 'system' | 'user' | 'assistant', text: string) => Message
}

/** A bound of the output, per answer, and the field that holds it. */
export interface OutputLimit {
  readonly field: string
  readonly tokens: number
}

/** Calls of hosted tools that are held for where nobody bounds them. */
export const HOSTED_CALLS_MAX = 10

export const NO_HOSTED_TOOLS: HostedTools = { tools: [], maxCalls: null, rereads: false }
/** No tool, but a window that the provider may compact. */
export const COMPACTION: HostedTools = { tools: [], maxCalls: 1, compacts: true, rereads: true, bringsTokens: 0 }

/** What to change in a request. What is absent stays as the client wrote it. */
export interface RequestChange {
  readonly model?: string
  /** The messages to send, each with its bytes; absent: the original ones. */
  readonly messages?: readonly Message[]
  readonly outputLimit?: OutputLimit
  readonly includeUsage?: true
  /** The most calls of hosted tools. */
  readonly hostedCalls?: number
  /** They are, or were, fewer than in other turns: what was thought then may be bound to tools that said something else. */
  readonly hostedCallsCut?: true
  readonly toolChoice?: 'none'
  /** Top-level fields to take out, and to call otherwise: for a model that refuses them. */
  readonly drop?: readonly string[]
  readonly rename?: Readonly<Record<string, string>>
  /** Another effort in the place of the request's own, for a model that does not take that; null: none. */
  readonly effort?: Effort | null
}

/** What an answer says of itself. */
export interface AnswerFacts {
  readonly model: string | null
  readonly serviceTier: string | null
  /** The id under which the provider keeps the answer; null where it keeps none. */
  readonly responseId: string | null
  /** Names under which parts of it may come back: what the provider keeps, or has sealed. */
  readonly keptNames?: readonly string[]
  /** Null when the provider gave none. */
  readonly usage: Usage | null
  /** The provider said nothing of it: worked out here, from above, from what it made. */
  readonly isEstimate?: boolean
  /** Its input is the sum of several readings of the context, between which the provider called tools or compacted. */
  readonly isSum?: boolean
  /** Of such a sum: after how many calls and compactions at most the context was read again. Absent: not known. */
  readonly hostedCalls?: number
  /** The provider bills nothing of it: `usage` is empty, and no count of what was read. */
  readonly isUnbilled?: boolean
  /** What the call used beside that. Absent: nothing. */
  readonly others?: readonly OtherUsage[]
  /** Of its input, the most that may be sound. Absent: sound is not told apart. */
  readonly audioTokens?: number
  /** What the provider says that all of it cost. Absent: it does not. */
  readonly toldCost?: NanoUsd
  readonly finishReason: string | null
  /** Tool calls that the answer makes, by name; for `resolution.toolNames`. */
  readonly toolNames: readonly string[]
  /** UTF-8 bytes of text, tool arguments and refusals seen so far: an upper bound of the output tokens seen, but for hidden reasoning. */
  readonly outputBytes: number
}
