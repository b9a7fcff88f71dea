/** No body in Gemini's shape, however nasty, holds up the other conversations of the pod. */
import { parseGeminiRequest, renderGeminiRequest } from './gemini-request.ts'
import { testPauses } from './nasty-bodies.testing.ts'

const PATH = '/v1beta/models/gemini-2.5-flash:generateContent'

/** A text is a part of its own; a list is taken for the parts. */
const partsOf = (content: string): string => (content.startsWith('[') ? content : `[{"text":${content}}]`)

testPauses(
  {
    head: '{"contents":[{"role":"user","parts":[{"text":"hi"}]}]',
    said: (content) => `{"contents":[{"role":"user","parts":${partsOf(content)}}]}`,
    listed: (elements) => `{"contents":[${elements}{"role":"user","parts":[{"text":"hi"}]}]}`,
    message: (more) => `{"role":"user"${more}}`,
    saying: (content) => `{"role":"user","parts":${partsOf(content)}}`,
    replying: (content) => `{"role":"model","parts":${partsOf(content)}}`,
    textPart: '{"text":"some characters that say nothing, but are there","thought_signature":"c2lnbmVk"}',
    imagePart: '{"inlineData":{"mimeType":"image/png","data":"AAAA"}}',
    image: (base64) => `{"inlineData":{"mimeType":"image/jpeg","data":"${base64}"}}`,
    calling: (count) =>
      `{"role":"model","parts":[${'{"functionCall":{"name":"look_with_a_long_name_0123456789_0123456789_0123456789_0123456789","args":{}}},'.repeat(count)}1]}`,
    answering: (count) =>
      `{"role":"user","parts":[${'{"functionResponse":{"id":"of-nobody","name":"look_with_a_long_name_0123456789_0123456789_0123456789_0123456789","response":{}}},'.repeat(count)}1]}`,
  },
  (body) => parseGeminiRequest(body, { path: PATH }),
  (request) => renderGeminiRequest(request, { outputLimit: { field: 'generationConfig.maxOutputTokens', tokens: 5 } }),
)
