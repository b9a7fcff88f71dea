/** No body in the shape of OpenAI's Responses API, however nasty, holds up the other conversations of the pod. */
import { testPauses } from './nasty-bodies.testing.ts'
import { parseResponsesRequest, renderResponsesRequest } from './responses-request.ts'

testPauses(
  {
    head: '{"model":"gpt-5","input":"hi"',
    said: (content) => `{"model":"gpt-5","input":[{"role":"user","content":${content}}]}`,
    listed: (elements) => `{"model":"gpt-5","input":[${elements}{"role":"user","content":"hi"}]}`,
    message: (more) => `{"role":"user"${more}}`,
    saying: (content) => `{"role":"user","content":${content}}`,
    replying: (content) => `{"role":"assistant","content":${content}}`,
    textPart: '{"type":"input_text","text":"some characters that say nothing, but are there","prompt_cache_breakpoint":{"ttl":"12h"}}',
    imagePart: '{"type":"input_image","image_url":"data:;base64,AAAA"}',
    image: (base64) => `{"type":"input_image","image_url":"data:image/jpeg;base64,${base64}"}`,
    calling: (count) =>
      `{"type":"function_call","call_id":"call_1","name":"x","arguments":"{}","x":[${'{"type":"summary_text"},'.repeat(2 * count)}1]}`,
    answering: () => '{"type":"function_call_output","call_id":"call_2","output":"x"}',
  },
  (body) => parseResponsesRequest(body),
  (request) => renderResponsesRequest(request, { outputLimit: { field: 'max_output_tokens', tokens: 50 } }),
)
