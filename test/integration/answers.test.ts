/** Answers and streams that the sidecar makes or changes, read by the real `openai` client. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { ChatStream } from '@farebox/sidecar/wire/event-stream.ts'
import { addNotice, syntheticAnswer } from '@farebox/sidecar/wire/openai-answer.ts'
import OpenAI from 'openai'

const MESSAGES: OpenAI.ChatCompletionMessageParam[] = [{ role: 'user', content: 'Where is order 17?' }]
const ASKED = { model: 'gpt-4o', messages: MESSAGES }
const MADE = { model: 'gpt-4o', text: 'This conversation is over. "Thank you" é.', id: 'chatcmpl-farebox-1', createdS: 1_700_000_000 }
const NOTICE = '\n\n---\nNote: a smaller model answers from here.'

/** A client to whom every request is answered with `body`. */
function client(answer: { readonly contentType: string; readonly body: Buffer }): OpenAI {
  return new OpenAI({
    apiKey: 'test',
    maxRetries: 0,
    fetch: () => Promise.resolve(new Response(new Uint8Array(answer.body), { headers: { 'content-type': answer.contentType } })),
  })
}

describe('an answer that no model made', () => {
  test('plain', async () => {
    const answer = await client(syntheticAnswer({ ...MADE, stream: false, includeUsage: false })).chat.completions.create(ASKED)
    assert.deepEqual(
      [answer.choices[0]?.message.content, answer.choices[0]?.finish_reason, answer.usage?.total_tokens],
      [MADE.text, 'stop', 0],
    )
  })

  for (const includeUsage of [false, true]) {
    test(`streamed ${includeUsage ? 'with' : 'without'} usage`, async () => {
      const answer = syntheticAnswer({ ...MADE, stream: true, includeUsage })
      const options = includeUsage ? { stream_options: { include_usage: true } } : {}
      const stream = client(answer).chat.completions.stream({ ...ASKED, stream: true, ...options })
      const { choices, usage } = await stream.finalChatCompletion()
      assert.deepEqual([choices[0]?.message.content, choices[0]?.finish_reason], [MADE.text, 'stop'])
      assert.equal(usage?.total_tokens, includeUsage ? 0 : undefined)
      // The usual loop takes it too: each chunk has a choice, unless the client asked for usage.
      const chunks = await client(answer).chat.completions.create({ ...ASKED, stream: true })
      let text = ''
      for await (const { choices } of chunks) {
        assert.ok(includeUsage || choices.length === 1)
        text += choices[0]?.delta.content ?? ''
      }
      assert.equal(text, MADE.text)
    })
  }
})

describe('an answer with a notice', () => {
  test('plain', async () => {
    const { body } = addNotice(syntheticAnswer({ ...MADE, stream: false, includeUsage: false }).body, NOTICE)
    const answer = await client({ contentType: 'application/json', body }).chat.completions.create(ASKED)
    assert.equal(answer.choices[0]?.message.content, MADE.text + NOTICE)
  })

  test('streamed, with the usage taken out', async () => {
    const original = syntheticAnswer({ ...MADE, stream: true, includeUsage: true })
    const stream = new ChatStream({ stripUsage: true, notice: NOTICE, collect: true })
    const body = Buffer.concat([...stream.push(original.body), ...stream.end()])
    const { choices, usage } = await client({ ...original, body })
      .chat.completions.stream({ ...ASKED, stream: true })
      .finalChatCompletion()
    assert.deepEqual([choices[0]?.message.content, choices[0]?.finish_reason, usage], [MADE.text + NOTICE, 'stop', undefined])
    assert.deepEqual(stream.message?.json, { role: 'assistant', content: MADE.text })
  })
})
