import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { text } from 'node:stream/consumers'
import { after, test } from 'node:test'
import type { AddressInfo } from 'node:net'
import { parseRecords } from './records.ts'
import { replay } from './replay.ts'
import type { ReplayOptions, ReplayReport } from './replay.ts'

/** An endpoint of a test's own, and the bodies that it got. */
interface Asked {
  readonly request: IncomingMessage
  readonly body: {
    readonly stream?: boolean
    readonly model: string
    readonly messages: readonly { readonly role: string; readonly content: unknown }[]
  }
  readonly response: ServerResponse
  /** How many came before. */
  readonly index: number
}

const servers: { close(): void; closeAllConnections(): void }[] = []
after(() => {
  for (const server of servers) {
    server.close()
    server.closeAllConnections()
  }
})

async function played(
  answer: (asked: Asked) => void,
  options: Partial<ReplayOptions> & { readonly records?: readonly object[] } = {},
): Promise<{ readonly reports: readonly ReplayReport[]; readonly asked: readonly Asked[] }> {
  const asked: Asked[] = []
  const take = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const body = JSON.parse(await text(request)) as Asked['body']
    const entry: Asked = { request, response, body, index: asked.length }
    asked.push(entry)
    answer(entry)
  }
  const server = createServer((request, response) => void take(request, response)).listen(0, '127.0.0.1')
  servers.push(server)
  await once(server, 'listening')
  const { records = [RECORD], ...rest } = options
  const conversations = parseRecords(records.map((record) => JSON.stringify(record)).join('\n'), { shape: 'tools', name: 'test' })
  const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`
  return { reports: await replay(conversations, { baseUrls: [baseUrl], apiKey: 'test', concurrency: 2, ...rest }), asked }
}

const RECORD = {
  id: 'one',
  model: 'gpt-4o-mini',
  messages: [
    { role: 'system', content: 'rules' },
    { role: 'user', content: 'q1' },
    { role: 'assistant', content: 'recorded 1' },
    { role: 'user', content: 'q2' },
    { role: 'assistant', content: 'recorded 2' },
  ],
}

function say({ response, index }: Asked, headers: Record<string, string> = {}): void {
  const message = { role: 'assistant', content: `answer ${index + 1}` }
  response.writeHead(200, { 'content-type': 'application/json', ...headers })
  response.end(JSON.stringify({ id: 'x', object: 'chat.completion', choices: [{ index: 0, message, finish_reason: 'stop' }] }))
}

function fail({ response }: Asked, status: number, headers: Record<string, string> = {}): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers })
  response.end(JSON.stringify({ error: { message: `it is ${status}` } }))
}

test('an app resends what it was answered, not what was recorded, under one conversation and user', async () => {
  const { reports, asked } = await played(say)
  assert.partialDeepStrictEqual(reports, [{ id: 'one', outcome: 'finished', calls: 2, callsRecorded: 2, error: null, standing: null }])
  assert.deepEqual(
    asked[1]?.body.messages.map(({ content }) => content),
    ['rules', 'q1', 'answer 1', 'q2'],
  )
  assert.deepEqual(new Set(asked.map(({ request }) => request.headers['x-farebox-conversation'])), new Set(['one']))
  assert.deepEqual(new Set(asked.map(({ request }) => request.headers['x-farebox-user'])), new Set(['user of one']))
  assert.equal(asked[0]?.body.model, 'gpt-4o-mini')
})

const AT_END = { 'x-farebox-conversation': 'hash', 'x-farebox-rung': 'EndConversation', 'x-farebox-percent': '97' }

test('closing words end a conversation, and their headers are what is reported', async () => {
  const { reports, asked } = await played((ask) => say(ask, { ...AT_END, 'x-farebox-synthetic': 'true' }))
  assert.equal(asked.length, 1)
  assert.partialDeepStrictEqual(reports, [
    { outcome: 'ended', calls: 1, standing: { conversation: 'hash', rung: 'EndConversation', percent: 97 } },
  ])
})

test('a budget that only observes tells the last rung and ends nothing: the conversation is played on', async () => {
  const { reports, asked } = await played((ask) => say(ask, AT_END))
  assert.equal(asked.length, 2)
  assert.partialDeepStrictEqual(reports, [{ outcome: 'finished', calls: 2, standing: { rung: 'EndConversation' } }])
})

test('402 is a refusal and is asked once; a busy budget is asked again', async () => {
  const refused = await played((ask) => fail(ask, 402, { 'x-should-retry': 'false' }))
  assert.equal(refused.asked.length, 1)
  assert.partialDeepStrictEqual(refused.reports, [{ outcome: 'refused', calls: 0, error: null }])
  const busy = await played((ask) => (ask.index === 0 ? fail(ask, 503, { 'retry-after-ms': '1' }) : say(ask)))
  assert.equal(busy.asked.length, 3)
  assert.partialDeepStrictEqual(busy.reports, [{ outcome: 'finished', calls: 2 }])
})

test('one that fails does not stop the others, which come in the order given; a stream without its end is a failure', async () => {
  const { reports, asked } = await played(
    (ask) => {
      if (ask.body.stream !== true) return ask.request.headers['x-farebox-conversation'] === 'one' ? fail(ask, 400) : say(ask)
      ask.response.writeHead(200, { 'content-type': 'text/event-stream' })
      ask.response.end('data: {"choices":[{"index":0,"delta":{"content":"half"},"finish_reason":null}]}\n\ndata: [DONE]\n\n')
    },
    { records: ['one', 'two', 'three'].map((id) => ({ ...RECORD, id })) },
  )
  assert.ok(asked.some(({ body }) => body.stream === true))
  assert.deepEqual(
    reports.map(({ id, outcome }) => [id, outcome]),
    [
      ['one', 'failed'],
      ['two', 'failed'],
      ['three', 'finished'],
    ],
  )
  assert.match(reports[0]?.error ?? '', /it is 400/)
  assert.match(reports[1]?.error ?? '', /the stream ended before the answer was finished/)
})

test('a replay that is stopped says so of what was under way', async () => {
  const stopping = new AbortController()
  const { reports } = await played(() => stopping.abort(), { signal: stopping.signal })
  assert.partialDeepStrictEqual(reports, [{ outcome: 'stopped', calls: 0, error: null }])
})
