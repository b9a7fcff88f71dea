/** The bound that no body, however nasty, holds up the other conversations of the pod. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { workedMs } from '../core/work.testing.ts'
import { longestPause, PAUSE_MS_MAX, testPauses } from './nasty-bodies.testing.ts'
import { parseChatRequest, renderChatRequest } from './openai-chat.ts'
import { CHAT_CALL } from './bodies.testing.ts'

test('a pause is seen by the way it is measured here', async () => {
  const pause = await longestPause(async () => {
    await sleep(1)
    const until = workedMs() + 2 * PAUSE_MS_MAX
    while (workedMs() < until);
  })
  assert.ok(pause > PAUSE_MS_MAX)
})

testPauses(
  {
    head: '{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]',
    said: (content) => `{"model":"gpt-4o","messages":[{"role":"user","content":${content}}]}`,
    listed: (elements) => `{"model":"gpt-4o","messages":[${elements}{"role":"user"}]}`,
    message: (more) => `{"role":"user"${more}}`,
    saying: (content) => `{"role":"user","content":${content}}`,
    replying: (content) => `{"role":"assistant","content":${content}}`,
    textPart: '{"type":"text","text":"some characters that say nothing, but are there"}',
    imagePart: '{"type":"image_url","image_url":"data:;base64,AAAA"}',
    image: (base64) => `{"type":"image_url","image_url":"data:image/jpeg;base64,${base64}"}`,
    calling: (count) => `{"role":"assistant","tool_calls":[${'{"id":"call_with_a_long_name_0123456789_01234"},'.repeat(3 * count)}1]}`,
    answering: () => '{"role":"tool","tool_call_id":"call_of_nobody","content":"x"}',
  },
  (body) => parseChatRequest(body, CHAT_CALL),
  (request) => renderChatRequest(request, { outputLimit: { field: 'max_tokens', tokens: 5 } }),
)
