/**
 * The content type of a body that goes on. Servers differ in how far they go by it: LiteLLM takes for a form whatever is named one, and a text
 * in JSON may hold `&model=`. So a body that was read here is sent as what it was read as, whatever the client calls it.
 * https://github.com/BerriAI/litellm/blob/main/litellm/proxy/common_utils/http_parsing_utils.py
 */
import { isForm } from '../wire/form.ts'
import type { CallContext, Wire } from '../wire/wire.ts'
import { eachHeader } from './headers.ts'

const JSON_TYPE = 'application/json'
const SAYS_JSON = /^application\/json\s*(?:;\s*charset="?utf-8"?\s*)?$/i

/** As what a wire reads the body of a call. */
export function typeRead({ readsForms = false }: Pick<Wire, 'readsForms'>, { contentType }: Pick<CallContext, 'contentType'>): string {
  return readsForms && isForm(contentType) ? contentType : JSON_TYPE
}

/** The headers with this type, once; as they are where they say it. A raw list. */
export function withBodyType(headers: string[], type: string): string[] {
  const given: string[] = []
  const others: string[] = []
  eachHeader(headers, (name, value) => {
    if (name.toLowerCase() === 'content-type') given.push(value)
    else others.push(name, value)
  })
  const [only = ''] = given
  const isSaid = given.length === 1 && (type === JSON_TYPE ? SAYS_JSON.test(only) : only === type)
  return isSaid ? headers : [...others, 'content-type', type]
}
