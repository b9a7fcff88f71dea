/** OpenAI's Responses API, and its compaction: a call of its own, which reads all that was said and makes one sealed item of it. */
import { isObject, parseObject } from '../core/message.ts'
import type { JsonObject } from '../core/request.ts'
import { countedBody, OUTPUT_FIELD, OUTPUT_TOKENS_MIN, parseResponsesRequest, renderResponsesRequest } from './responses-request.ts'
import { addResponseNotice, readCompaction, readCount, readResponse } from './responses-answer.ts'
import { ResponsesStream } from './responses-stream.ts'
import { syntheticResponse } from './responses-synthetic.ts'
import type { CallContext, InputCounts, Wire } from './wire.ts'
import { leastEffort } from './openai-effort.ts'

const counts: InputCounts = {
  ask: (request, call, change) => ({ path: pathOf(call, '/responses/input_tokens'), body: countedBody(request, change) }),
  read: readCount,
  isUnknown: (status, body) => (status === 400 || status === 404) && isUnknownEarlier(parseObject(body)),
}

export const responsesWire: Wire = {
  name: 'responses',
  asksForUsage: false,
  parse: (body, { upstream }) => parseResponsesRequest(body, 'responses', upstream.provider),
  render: renderResponsesRequest,
  path: ({ path }) => path,
  readAnswer: (body, { cacheWrites }) => readResponse(body, cacheWrites),
  addNotice: addResponseNotice,
  openStream: (options) => new ResponsesStream({ ...options, cacheWrites: options.request.cacheWrites }),
  synthetic: ({ stream, model, earlier }, { text, id, createdS }) =>
    syntheticResponse({ stream, model, text, unique: id, previous: earlier?.kind === 'response' ? earlier.id : null, createdS }),
  objection(status, body) {
    if (status === 400 && PARTED.test(body)) return 'edits'
    return status === 400 || status === 404 ? 'swap' : null
  },
  prompt({ model, served = model, system, user, maxTokens }) {
    const bound = Math.max(OUTPUT_TOKENS_MIN, maxTokens)
    const effort = leastEffort(served)
    const reasoning = effort === null ? {} : { reasoning: { effort } }
    const body = { model, instructions: system, input: user, [OUTPUT_FIELD]: bound, store: false, ...reasoning }
    return { path: '/responses', body: Buffer.from(JSON.stringify(body)) }
  },
  counts,
}

export const compactWire: Wire = {
  ...responsesWire,
  name: 'compact',
  parse: (body, { upstream }) => parseResponsesRequest(body, 'compact', upstream.provider),
  readAnswer: (body) => readCompaction(body),
  addNotice: (body) => ({ body, added: false }),
  synthetic: () => null,
  prompt: () => null,
}

/** What the provider says when items that belong together were parted. */
const PARTED = /required following item|required 'reasoning' item|No tool (?:output|call) found|encrypted content/
const UNKNOWN_EARLIER = /^(?:previous )?(?:response|conversation|item) with id [^ ]{1,300} not found/i

/** By its code, or the begin of its words: further on an error may quote the request. */
function isUnknownEarlier(answer: JsonObject | null): boolean {
  const error = answer?.['error']
  if (!isObject(error)) return false
  const { code, message } = error
  return code === 'previous_response_not_found' || (typeof message === 'string' && UNKNOWN_EARLIER.test(message))
}

/** The path of the call with another operation of the same API: what stands before and after it stays. */
function pathOf({ path }: CallContext, operation: string): string {
  return path.replace(/\/responses(?:\/compact)?(?=\?|$)/, operation)
}
