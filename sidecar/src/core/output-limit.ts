/** In which field the bound of an output goes into a request of OpenAI's Chat Completions: some servers read only one of the two. */
import type { ModelRequest, OutputLimit } from './request.ts'

/** OpenAI's own name, and the one that it replaced, which most other servers know alone. */
const NEW = 'max_completion_tokens'
const OLD = 'max_tokens'

/**
 * The bound to write; null where the request has it already, or writes nothing. A client's own bound in a field that the upstream may not
 * read goes into the one that it reads. `isOther`: the upstream refused the field that it is said to read.
 */
export function limitToWrite(
  request: Pick<ModelRequest, 'wire' | 'generates' | 'outputLimit' | 'outputField'>,
  tokens: number,
  isOther: boolean,
): OutputLimit | null {
  const { generates, outputLimit: own } = request
  if (!generates) return null
  const read = request.wire === 'chat' && isOther ? otherField(request.outputField) : request.outputField
  const field = own === null || (read === OLD && own.field === NEW) ? read : own.field
  if (own !== null && own.tokens <= tokens && field === own.field) return null
  return { field, tokens: own === null ? tokens : Math.min(tokens, own.tokens) }
}

function otherField(field: string): string {
  return field === OLD ? NEW : OLD
}
