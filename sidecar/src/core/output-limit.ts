/** In which field the bound of an output goes into a request of OpenAI's Chat Completions: many servers read only one of the two. */
import type { ModelRequest, OutputLimit } from './request.ts'

/** OpenAI's own name, and the one that it replaced, which most other servers know alone. */
export const LIMIT_FIELDS = ['max_completion_tokens', 'max_tokens'] as const
export type LimitField = (typeof LIMIT_FIELDS)[number]

/** What decides the field, the first that says something; what the request itself leaves open comes after what was refused. */
export interface LimitFieldInput {
  /** The one that was refused in this very turn. */
  readonly refused: LimitField | null
  /** The one that this server took for this model after it had refused the other. */
  readonly learned: LimitField | null
  /** As its owner, or its provider's name, says. */
  readonly usual: LimitField
}

/** The field that bounds the output of this request at the server that it goes to; of other formats that is the only one that there is. */
export function limitFieldOf(request: Pick<ModelRequest, 'wire' | 'outputField' | 'onlyOutputField'>, input: LimitFieldInput): string {
  if (request.wire !== 'chat') return request.outputField
  if (input.refused !== null) return otherLimitField(input.refused)
  return request.onlyOutputField ?? input.learned ?? input.usual
}

/**
 * The bound to write; null where the request has it already, or writes nothing. A client's own bound in a field that the server may not read
 * goes into the one that it reads.
 */
export function limitToWrite(
  request: Pick<ModelRequest, 'wire' | 'generates' | 'outputLimit'>,
  tokens: number,
  field: string,
): OutputLimit | null {
  const { generates, outputLimit: own } = request
  if (!generates) return null
  if (own === null) return { field, tokens }
  // OpenAI reads the old name, too: a client that writes it knows its model.
  const isRead = own.field === field || request.wire !== 'chat' || own.field === 'max_tokens'
  if (!isRead) return { field, tokens: Math.min(tokens, own.tokens) }
  return own.tokens <= tokens ? null : { field: own.field, tokens }
}

export function otherLimitField(field: LimitField): LimitField {
  return field === 'max_tokens' ? 'max_completion_tokens' : 'max_tokens'
}

export function isLimitField(field: string): field is LimitField {
  return (LIMIT_FIELDS as readonly string[]).includes(field)
}
