import assert from 'node:assert/strict'
import { test } from 'node:test'
import { originalDigest } from '../core/digest.ts'
import { messagesDigest } from '../core/message-digests.ts'
import type { JsonObject, Message } from '../core/request.ts'
import { readAnthropicMessage } from './anthropic-message.ts'
import { readContents } from './gemini-message.ts'
import { readMessage } from './openai-message.ts'
import { readItems } from './responses-item.ts'

type Reading = (json: JsonObject) => Message | null | undefined
const bytesOf = (json: JsonObject): Buffer => Buffer.from(JSON.stringify(json))
const chat: Reading = (json) => readMessage(json, bytesOf(json))
const anthropic: Reading = (json) => readAnthropicMessage(json, bytesOf(json))
const responses: Reading = (json) => {
  const body = bytesOf(json)
  const read = readItems([{ json, start: 0, end: body.length }], body)
  return read.status === 'ok' ? read.messages[0] : null
}
const gemini: Reading = (json) => {
  const body = bytesOf(json)
  const read = readContents(body, [{ json, start: 0, end: body.length }])
  return 'unknownRole' in read ? null : read[0]
}
const user = (part: JsonObject): JsonObject => ({ role: 'user', content: [part] })

const links: Record<string, readonly [Reading, (url: string) => JsonObject]> = {
  'Chat: a picture': [chat, (url) => user({ type: 'image_url', image_url: { url } })],
  'Chat: a file': [chat, (url) => user({ type: 'document_url', document_url: url })],
  'Responses: a picture': [responses, (image_url) => user({ type: 'input_image', image_url })],
  'Responses: a file': [responses, (file_url) => user({ type: 'input_file', file_url })],
  'Messages: a picture': [anthropic, (url) => user({ type: 'image', source: { type: 'url', url } })],
  'Messages: a picture in a result': [
    anthropic,
    (url) => user({ type: 'tool_result', tool_use_id: 't', content: [{ type: 'image', source: { type: 'url', url } }] }),
  ],
  'Gemini: a file': [gemini, (fileUri) => ({ role: 'user', parts: [{ fileData: { fileUri, mimeType: 'image/png' } }] })],
}
for (const [what, [read, written]] of Object.entries(links))
  test(`what signs a link is in no name of a message, and goes out as it came (${what})`, () => {
    const counted: string[] = []
    const namesOf = (url: string): readonly unknown[] => {
      const message = read(written(url))
      assert.ok(message?.bytes !== undefined && Buffer.from(message.bytes).includes(url))
      counted.push(messagesDigest([message], 1))
      return [message.others, originalDigest(message)]
    }
    const names = namesOf('https://b.s3.amazonaws.com/a.png?id=7&X-Amz-Signature=1')
    assert.deepEqual(namesOf('https://b.s3.amazonaws.com/a.png?id=7&X-Amz-Signature=2'), names)
    assert.notEqual(counted[1], counted[0], 'a count is of the very bytes')
    const other = namesOf('https://b.s3.amazonaws.com/a.png?id=8&X-Amz-Signature=1')
    for (const [index, name] of names.entries()) assert.notDeepEqual(other[index], name)
  })
