import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseRecords, readRecords } from '@farebox/operator/laptop/records.ts'
import type { RecordedConversation, RecordedMessage } from '@farebox/operator/laptop/records.ts'
import { EXAMPLE_CONVERSATIONS, recordedFile } from '../support/recorded-data.ts'
import { checkRequest } from './chat-request.ts'
import { modelTable } from './models.ts'
import type { RecordedAnswer } from './recordings.ts'
import { recordings } from './recordings.ts'

const TOOLS_FILE = recordedFile('conversations-tools.ndjson.gz') ?? EXAMPLE_CONVERSATIONS
const RETRIEVAL_FILE = recordedFile('conversations-retrieval.ndjson.gz')
const models = modelTable()
const examples = await readRecords(EXAMPLE_CONVERSATIONS, { shape: 'tools' })
const answers = recordings(examples)
const anyTool = (): boolean => true

test('every recorded tool conversation passes the strict checks unmodified, call by call', async () => {
  let calls = 0
  for (const conversation of await readRecords(TOOLS_FILE, { shape: 'tools' })) {
    for (const [at, message] of conversation.messages.entries()) {
      if (message.role !== 'assistant') continue
      calls += 1
      assert.doesNotThrow(() => checked(conversation, conversation.messages.slice(0, at)), `${conversation.id} message ${at}`)
    }
  }
  assert.ok(calls >= 40, `only ${calls} calls`)
})

test('our own conversations pass the strict checks and are answered as recorded', () => {
  assert.equal(examples.length, 8)
  assert.deepEqual(wrongAnswers(examples, answers), [])
})

test('recorded tool conversations are answered as recorded, but for trials with one and the same history', async () => {
  const conversations = await readRecords(TOOLS_FILE, { shape: 'tools' })
  const wrong = wrongAnswers(conversations, recordings(conversations))
  assert.ok(wrong.length <= 2, wrong.join('\n'))
})

test('retrieval records are answered in both shapes, whichever was recorded', { skip: RETRIEVAL_FILE === null }, async () => {
  if (RETRIEVAL_FILE === null) return
  const toolShaped = await readRecords(RETRIEVAL_FILE, { shape: 'tools', limit: 40 })
  const tagged = await readRecords(RETRIEVAL_FILE, { shape: 'tagged', limit: 40 })
  const recorded = recordings(toolShaped)
  assert.deepEqual(wrongAnswers(toolShaped, recorded), [])
  for (const conversation of tagged) {
    for (const [at, message] of conversation.messages.entries()) {
      if (message.role !== 'assistant') continue
      const answer = recorded.find(checked(conversation, conversation.messages.slice(0, at)).messages, () => false, null)
      assert.equal(answer?.text, message.content, `${conversation.id} message ${at}`)
    }
  }
})

const [broken, late] = ['support-broken-carafe', 'support-late-return'].map((id) => {
  const found = examples.find((conversation) => conversation.id === id)
  assert.ok(found, id)
  return found
})
assert.ok(broken !== undefined && late !== undefined)

test('an answer is found though the history before it was cut, summarised or labelled', () => {
  const at = broken.messages.findIndex((message) => message.role === 'user' && message.content.startsWith('Yes, go ahead'))
  const [system] = broken.messages
  const question = broken.messages[at]
  assert.ok(system !== undefined && question !== undefined)
  const expected = broken.messages[at + 1]
  const histories: readonly RecordedMessage[][] = [
    [system, question],
    [question],
    [system, { role: 'user', content: '[Earlier conversation summarised]\nA carafe broke.' }, question],
    [
      ...broken.messages
        .slice(0, at)
        .map((message): RecordedMessage =>
          message.role === 'assistant' && message.content !== null ? { ...message, content: `${message.content}\n\n(Notice.)` } : message,
        ),
      question,
    ],
    [...broken.messages.slice(0, at + 1), { role: 'system', content: 'Be short.' }],
  ]
  for (const history of histories) assert.ok(isAnswer(answers.find(checked(broken, history).messages, anyTool, null), expected))
})

test('an answer to tool results is found by their ids though the passages were dropped', () => {
  const at = late.messages.findIndex((message) => message.role === 'tool' && message.content.includes('kb-102'))
  const history = late.messages
    .slice(0, at + 1)
    .map((message): RecordedMessage => (message.role === 'tool' ? { ...message, content: '[omitted]' } : message))
  assert.ok(isAnswer(answers.find(checked(late, history).messages, anyTool, null), late.messages[at + 1]))
})

test('where tools may not be called, the next answer in words of the same user turn is given', () => {
  const history = late.messages.slice(0, 2)
  const answer = answers.find(checked(late, history).messages, () => false, null)
  assert.deepEqual(answer, { conversation: late.id, text: late.messages[4]?.content, calls: [] })
})

test('of records with the same question the one with the same history is taken, or the one that was asked for', () => {
  const make = (id: string, opening: string, answer: string): RecordedConversation => ({
    id,
    solved: null,
    model: null,
    tools: [],
    messages: [
      { role: 'user', content: opening },
      { role: 'assistant', content: 'Shall I?', calls: [] },
      { role: 'user', content: 'Yes.' },
      { role: 'assistant', content: answer, calls: [] },
    ],
  })
  const [first, second] = [make('first', 'Cancel it', 'Cancelled.'), make('second', 'Book it', 'Booked.')]
  const recorded = recordings([first, second])
  const ask = (conversation: RecordedConversation, prefer: string | null): string | null | undefined =>
    recorded.find(checked(conversation, conversation.messages.slice(0, 3)).messages, anyTool, prefer)?.text
  assert.equal(ask(first, null), 'Cancelled.')
  assert.equal(ask(second, null), 'Booked.')
  assert.equal(ask(second, 'first'), 'Cancelled.')
})

test('what nobody recorded has no answer', () => {
  assert.equal(answers.find(checked(late, [{ role: 'user', content: 'What is the weather?' }]).messages, anyTool, null), null)
  const ended: RecordedMessage[] = [...late.messages.slice(0, 2), { role: 'assistant', content: 'Done.', calls: [] }]
  assert.equal(answers.find(checked(late, ended).messages, anyTool, null), null)
})

test('passages come in a tool message or in a tag before the question', () => {
  const turns = [{ user: 'Why?', passages: [{ id: 'p', text: 'Because.' }], assistant: 'Because.' }]
  const line = JSON.stringify({ id: 'r1', system: 'Be grounded.', turns })
  const [asTools] = parseRecords(line, { shape: 'tools', name: 'test' })
  assert.deepEqual(
    asTools?.messages.map((message) => message.role),
    ['system', 'user', 'assistant', 'tool', 'assistant'],
  )
  const [tagged] = parseRecords(line, { shape: 'tagged', name: 'test' })
  assert.equal(tagged?.messages[1]?.content, '<retrieved_context>\n{"id":"p","text":"Because."}\n</retrieved_context>\n\nWhy?')
})

function checked(conversation: RecordedConversation, messages: readonly RecordedMessage[]): ReturnType<typeof checkRequest> {
  return checkRequest(
    { model: 'gpt-4o', messages: messages.map(chatMessage), ...(conversation.tools.length > 0 ? { tools: conversation.tools } : {}) },
    models,
  )
}

function wrongAnswers(conversations: readonly RecordedConversation[], recorded: ReturnType<typeof recordings>): readonly string[] {
  const wrong: string[] = []
  for (const conversation of conversations) {
    for (const [at, message] of conversation.messages.entries()) {
      if (message.role !== 'assistant') continue
      const { messages } = checked(conversation, conversation.messages.slice(0, at))
      if (!isAnswer(recorded.find(messages, anyTool, null), message)) wrong.push(`${conversation.id} message ${at}`)
    }
  }
  return wrong
}

function isAnswer(answer: RecordedAnswer | null, message: RecordedMessage | undefined): boolean {
  if (answer === null || message?.role !== 'assistant') return false
  const calls = message.calls.map((call) => `${call.function.name} ${call.function.arguments}`)
  return answer.text === message.content && answer.calls.map((call) => `${call.name} ${call.input}`).join() === calls.join()
}

function chatMessage(message: RecordedMessage): object {
  switch (message.role) {
    case 'assistant':
      return { role: 'assistant', content: message.content, ...(message.calls.length > 0 ? { tool_calls: message.calls } : {}) }
    case 'tool':
      return { role: 'tool', content: message.content, tool_call_id: message.callId }
    default:
      return message
  }
}
