/**
 * A model request as the turn sees it, whatever the provider. `wire/` makes it from bytes, once, and turns changes of it
 * back into bytes: whatever is not changed goes out exactly as the client wrote it.
 */
import type { Usage } from '@farebox/crds/usage.ts'

export type Json = null | boolean | number | string | readonly Json[] | JsonObject
export interface JsonObject {
  readonly [key: string]: Json | undefined
}

export const ROLES = ['system', 'developer', 'user', 'assistant', 'tool', 'function'] as const
export type Role = (typeof ROLES)[number]

/** A message with the bytes it is sent as. */
export interface Message {
  readonly role: Role
  readonly bytes: Uint8Array
  /** Those bytes, parsed. */
  readonly json: JsonObject
  /** Lets go of `json` until it is asked for again, so that a call that waits for its answer holds a history only once. */
  forget?(): void
  /** Ids of the tool calls that an assistant message makes; each must be answered by tool messages right after it. */
  readonly toolCalls: readonly { readonly id: string; readonly name: string }[]
  /** The call that a tool message answers. */
  readonly answers: string | null
  /** Parts that are not text: their bytes fill no window. Audio and files count as images do. */
  readonly images: readonly ImagePart[]
  /** Bytes of embedded media (base64), which are part of `bytes` but are not text. */
  readonly mediaBytes: number
}

export interface ImagePart {
  readonly kind: 'image' | 'audio' | 'file'
  /** From the header of an embedded image; null for a link, or when the header cannot be read. */
  readonly size: { readonly width: number; readonly height: number } | null
  readonly detail: 'low' | 'high' | 'auto'
  /** Size of embedded media, decoded; absent for a link or a reference. */
  readonly embeddedBytes?: number
}

export interface ChatRequest {
  readonly body: Uint8Array
  readonly model: string
  readonly stream: boolean
  /** The client asked for the usage chunk itself. */
  readonly includeUsage: boolean
  /** Answers asked for (`n`), 1 or more. */
  readonly choices: number
  /** The client's own bound on output, per answer. */
  readonly outputLimit: { readonly field: 'max_completion_tokens' | 'max_tokens'; readonly tokens: number } | null
  readonly messages: readonly Message[]
  readonly tools: 'none' | 'offered' | 'forced'
  /** `tool_choice` is `none` already. */
  readonly toolsRefused: boolean
  /** The answer must be JSON: nothing may be added to it. */
  readonly structured: boolean
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
  /** Hosted tools that the request switches on, which the provider bills per call. */
  readonly hostedTools: readonly ('webSearch' | 'fileSearch' | 'codeContainer')[]
}

/** What to change in a request. What is absent stays as the client wrote it. */
export interface RequestChange {
  readonly model?: string
  /** The messages to send, each with its bytes; absent: the original ones. */
  readonly messages?: readonly Message[]
  readonly outputLimit?: { readonly field: 'max_completion_tokens' | 'max_tokens'; readonly tokens: number }
  readonly includeUsage?: true
  readonly toolChoice?: 'none'
  /** Top-level fields to take out, and to call otherwise: for a model that refuses them. */
  readonly drop?: readonly string[]
  readonly rename?: Readonly<Record<string, string>>
}

/** What an answer says of itself. */
export interface AnswerFacts {
  readonly model: string | null
  readonly serviceTier: string | null
  /** Null when the provider gave none. */
  readonly usage: Usage | null
  readonly finishReason: string | null
  /** Tool calls that the answer makes, by name; for `resolution.toolNames`. */
  readonly toolNames: readonly string[]
  /** UTF-8 bytes of text, tool arguments and refusals seen so far: an upper bound of the output tokens seen, but for hidden reasoning. */
  readonly outputBytes: number
}
