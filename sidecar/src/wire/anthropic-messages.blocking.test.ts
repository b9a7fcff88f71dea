/** No body in Anthropic's shape, however nasty, holds up the other conversations of the pod. */
import { parseMessagesRequest, renderMessagesRequest } from './anthropic-messages.ts'
import { testPauses } from './nasty-bodies.testing.ts'

const HEAD = '{"model":"claude-sonnet-4-5","max_tokens":100,"messages":['

testPauses(
  {
    head: `${HEAD}{"role":"user","content":"hi"}]`,
    said: (content) => `${HEAD}{"role":"user","content":${content}}]}`,
    listed: (elements) => `${HEAD}${elements}{"role":"user","content":"hi"}]}`,
    message: (more) => `{"role":"user"${more}}`,
    saying: (content) => `{"role":"user","content":${content}}`,
    replying: (content) => `{"role":"assistant","content":${content}}`,
    textPart: '{"type":"text","text":"some characters that say nothing, but are there","cache_control":{"type":"ephemeral"}}',
    imagePart: '{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}}',
    image: (base64) => `{"type":"image","source":{"type":"base64","media_type":"image/jpeg","data":"${base64}"}}`,
    calling: (count) =>
      `{"role":"assistant","content":[${'{"type":"tool_use","id":"toolu_with_a_long_name_0123456789_0123456789_0123456789_0123456789","name":"x","input":{}},'.repeat(count)}1]}`,
    answering: (count) =>
      `{"role":"user","content":[${'{"type":"tool_result","tool_use_id":"other_with_a_long_name_0123456789_0123456789_0123456789_0123456789","content":"x"},'.repeat(count)}1]}`,
  },
  (body) => parseMessagesRequest(body),
  (request) => renderMessagesRequest(request, { outputLimit: { field: 'max_tokens', tokens: 5 } }),
)
