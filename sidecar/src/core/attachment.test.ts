import assert from 'node:assert/strict'
import { test } from 'node:test'
import { messagesWire } from '../wire/anthropic-messages.ts'
import { geminiWire } from '../wire/gemini-request.ts'
import { chatWire } from '../wire/openai-chat.ts'
import { responsesWire } from '../wire/responses-wire.ts'
import type { Wire } from '../wire/wire.ts'
import { attachmentOf, questionPart } from './attachment.ts'

const GEMINI_PATH = '/v1beta/models/gemini-2.5-flash:generateContent'

async function named(wire: Wire, body: object, path: string, nameOf = attachmentOf): Promise<string> {
  const upstream = { provider: 'x', outputLimitField: 'max_tokens' as const, deployments: [] }
  const parsed = await wire.parse(Buffer.from(JSON.stringify(body)), { upstream, path, contentType: 'application/json' })
  assert.ok(parsed.status === 'ok', JSON.stringify(parsed))
  return nameOf(parsed.request)
}

test('an attachment is named as its format names it: the last one that nothing bounds', async () => {
  const file = { type: 'file', file: { file_id: 'file-1' } }
  const messages = [
    { role: 'user', content: [file] },
    { role: 'assistant', content: 'Read.' },
    { role: 'user', content: [{ type: 'text', text: 'And this?' }, file] },
  ]
  assert.equal(await named(chatWire, { model: 'gpt-4o', messages }, '/chat/completions'), 'messages[2].content[1]')
  const input = [{ role: 'user', content: [{ type: 'input_file', file_id: 'file-1' }] }]
  assert.equal(await named(responsesWire, { model: 'gpt-4o', input }, '/responses'), 'input[0].content[0]')
  const contents = [{ role: 'user', parts: [{ text: 'See' }, { fileData: { mimeType: 'video/mp4', fileUri: 'https://x/y' } }] }]
  const systemInstruction = { parts: [{ text: 'Be kind.' }] }
  assert.equal(await named(geminiWire, { contents, systemInstruction }, GEMINI_PATH), 'contents[0].parts[1]')
})

test('what a client calls the first message is the first, whether instructions stand among the messages or beside them', async () => {
  const file = { type: 'file', file: { file_id: 'file-1' } }
  const messages = [
    { role: 'system', content: 'Be kind.' },
    { role: 'user', content: [file] },
  ]
  assert.equal(await named(chatWire, { model: 'gpt-4o', messages }, '/chat/completions'), 'messages[1].content[0]')
  const contents = [{ role: 'user', parts: [{ text: 'See' }] }]
  const systemInstruction = { parts: [{ fileData: { mimeType: 'application/pdf', fileUri: 'https://x/y' } }] }
  assert.equal(await named(geminiWire, { contents, systemInstruction }, GEMINI_PATH), 'contents', 'in the instructions it has no place')
})

test('a document that is sent inline to Gemini is named in either spelling of its fields, and not the picture or the sound after it', async () => {
  const documents: readonly object[] = [
    { inlineData: { mimeType: 'application/pdf', data: 'JVBERi0xLjc=' } },
    { inline_data: { mime_type: 'application/pdf', data: 'JVBERi0xLjc=' } },
  ]
  const bounded = [
    { inlineData: { mimeType: 'image/png', data: 'iVBORw0KGgo=' } },
    { inlineData: { mimeType: 'audio/wav', data: 'UklGRg==' } },
  ]
  for (const document of documents) {
    const contents = [{ role: 'user', parts: [{ text: 'See' }, document, ...bounded] }]
    assert.equal(await named(geminiWire, { contents }, GEMINI_PATH), 'contents[0].parts[1]', JSON.stringify(document))
  }
})

test('one that lies deeper is named by its message, and none by the list', async () => {
  const document = { type: 'document', source: { type: 'url', url: 'https://x/y.pdf' } }
  const result = { type: 'tool_result', tool_use_id: 't', content: [document] }
  const messages = [
    { role: 'user', content: 'Hi' },
    { role: 'assistant', content: [{ type: 'tool_use', id: 't', name: 'look', input: {} }] },
    { role: 'user', content: [result] },
  ]
  const body = { model: 'claude-haiku-4-5', max_tokens: 9, messages }
  assert.equal(await named(messagesWire, body, '/messages'), 'messages[2]')
  assert.equal(await named(messagesWire, { ...body, messages: messages.slice(0, 1) }, '/messages'), 'messages')
  const input = [
    { role: 'user', content: 'Hi' },
    { type: 'function_call', call_id: 'c', name: 'look', arguments: '{}' },
    { type: 'function_call_output', call_id: 'c', output: [{ type: 'input_file', file_id: 'file-1' }] },
  ]
  assert.equal(await named(responsesWire, { model: 'gpt-4o', input }, '/responses'), 'input[2]')
})

test('a question is named by the message that it begins with, the longest of several', async () => {
  const said = [
    { role: 'user', content: 'A question that was answered long ago' },
    { role: 'assistant', content: 'Well.' },
  ]
  const messages = [
    { role: 'system', content: 'Be kind.' },
    ...said,
    { role: 'user', content: 'All of it' },
    { role: 'user', content: '?' },
  ]
  assert.equal(await named(chatWire, { model: 'gpt-4o', messages }, '/chat/completions', questionPart), 'messages[3]')
  assert.equal(await named(responsesWire, { model: 'gpt-4o', input: [...said, messages[3]] }, '/responses', questionPart), 'input[2]')
  const contents = [{ role: 'user', parts: [{ text: 'See' }] }]
  const systemInstruction = { parts: [{ text: 'Be kind.' }] }
  assert.equal(await named(geminiWire, { contents, systemInstruction }, GEMINI_PATH, questionPart), 'contents[0]')
})
