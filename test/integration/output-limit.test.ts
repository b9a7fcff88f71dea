/** Servers that know less than OpenAI's: in which field an output is bounded, and whether a stream is asked for its usage. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { json } from 'node:stream/consumers'
import { after, before, beforeEach, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { makeConfig, makeContract, makeUpstream } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'

const OLD = 'max_tokens'
const NEW = 'max_completion_tokens'
/** What a server answers to the other field, and to a bound above its own. */
const UNKNOWN = `Unrecognized request argument supplied: ${NEW}`
const TOO_LARGE = 'Invalid max_tokens value, the valid range of max_tokens is [1, 8192]'
const SLOW_MS = 150

type Body = Readonly<Record<string, unknown>>
type Seen = Readonly<{ field: string; bound: unknown; status: number; asksUsage: boolean }>

/**
 * Reads the old field alone. It refuses the new one, and ignores it below `/ignoring`, where it refuses large bounds, and to be asked for the
 * usage of a stream.
 */
const server = createServer((request, response) => void answer(request, response))
async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const body = (await json(request)) as Body
  const isIgnoring = request.url?.startsWith('/ignoring') === true
  const objection = isIgnoring ? ignoringObjection(body) : NEW in body ? UNKNOWN : null
  const asksUsage = 'stream_options' in body
  seen.push({ field: OLD in body ? OLD : NEW, bound: body[OLD] ?? body[NEW], status: objection === null ? 200 : 400, asksUsage })
  if (!isIgnoring && body['stream'] !== true) await sleep(SLOW_MS)
  if (objection !== null) {
    response.writeHead(400, { 'content-type': 'application/json' })
    return void response.end(JSON.stringify({ error: { message: objection, type: 'invalid_request_error' } }))
  }
  const output = body[OLD] === undefined ? 20_000 : 5
  const usage = { prompt_tokens: 10, completion_tokens: output, total_tokens: 10 + output }
  const head = { id: 'x', created: 1, model: body['model'] }
  if (body['stream'] !== true) {
    const choices = [{ index: 0, message: { role: 'assistant', content: 'Hello.' }, finish_reason: 'stop' }]
    response.writeHead(200, { 'content-type': 'application/json' })
    return void response.end(JSON.stringify({ ...head, object: 'chat.completion', choices, usage }))
  }
  const chunks = [
    { choices: [{ index: 0, delta: { role: 'assistant', content: 'Hello.' }, finish_reason: null }] },
    { choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] },
    ...(asksUsage ? [{ choices: [], usage }] : []),
  ]
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  for (const chunk of chunks) response.write(`data: ${JSON.stringify({ ...head, object: 'chat.completion.chunk', ...chunk })}\n\n`)
  response.end('data: [DONE]\n\n')
}
function ignoringObjection(body: Body): string | null {
  if ('stream_options' in body) return 'unknown field stream_options'
  return Number(body[OLD]) > 8_192 ? TOO_LARGE : null
}
const keys = mkdtempSync(join(tmpdir(), 'farebox-keys-'))
let sidecar: Sidecar
let seen: Seen[] = []
before(async () => {
  writeFileSync(join(keys, 'house'), 'secret')
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const moved = makeContract({
    tier: 'moved',
    models: { allow: [], downgrades: [{ from: 'gpt-4o', to: 'gpt-4o-mini', upstream: 'house' }], maxOutputTokens: 4_000 },
    ladder: [
      { atPercent: 0, rung: 'DowngradeModel' },
      { atPercent: 100, rung: 'EndConversation', end: 'Refuse' },
    ],
  })
  const config = makeConfig(`${url}/v1`, [makeContract({ caps: { perConversation: '5.00' } }), moved], {
    upstreams: [
      makeUpstream({ name: 'openai', provider: 'openai', baseUrl: `${url}/v1` }),
      makeUpstream({ name: 'house', provider: 'openai', baseUrl: `${url}/ignoring/v1`, outputLimitField: OLD, credential: 'Held' }),
    ],
  })
  sidecar = await startSidecar(config, { environment: { FAREBOX_CREDENTIALS: keys } })
})
after(async () => {
  await sidecar.close()
  server.closeAllConnections()
  server.close()
  rmSync(keys, { recursive: true })
})
beforeEach(() => {
  seen = []
})

async function ask(conversation: string, { upstream = 'openai', tier = 'pro', more = {} } = {}): Promise<number> {
  const answer = await fetch(`${sidecar.url}/${upstream}/v1/chat/completions`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      authorization: 'Bearer test',
      'x-farebox-conversation': conversation,
      'x-farebox-tier': tier,
    },
    body: JSON.stringify({ model: 'gpt-4o', messages: [{ role: 'user', content: `Hello, ${conversation}.` }], ...more }),
  })
  await answer.arrayBuffer()
  return answer.status
}

test('calls that are under way together all learn which field it is, and nobody hears of it', async () => {
  const first = ask('first')
  await sleep(SLOW_MS * 1.5)
  assert.deepEqual(await Promise.all([first, ask('second')]), [200, 200])
  seen = []
  assert.deepEqual(await Promise.all([ask('third'), ask('fourth')]), [200, 200])
  assert.deepEqual(
    seen.map(({ field, status }) => [field, status]),
    [
      [OLD, 200],
      [OLD, 200],
    ],
  )
})

test('a bound that is too large is the value’s fault: the field stays', async () => {
  for (const id of ['large', 'larger']) assert.equal(await ask(id, { upstream: 'house' }), 400)
  assert.deepEqual(
    seen.map(({ field }) => field),
    [OLD, OLD],
  )
  assert.equal((await sidecar.standing('large')).spent, '0.00')
})

test('a call that moves to another upstream is spoken to as that one is, and teaches nothing of the one that was asked', async () => {
  const stream = { more: { stream: true } }
  assert.equal(await ask('before', stream), 200)
  assert.equal(seen.at(-1)?.asksUsage, true)
  seen = []
  assert.equal(await ask('moves', { tier: 'moved', ...stream }), 200)
  assert.deepEqual(seen, [
    { field: OLD, bound: 4_000, status: 400, asksUsage: true },
    { field: OLD, bound: 4_000, status: 200, asksUsage: false },
  ])
  seen = []
  assert.equal(await ask('moves', { tier: 'moved', ...stream }), 200)
  assert.deepEqual(
    seen.map(({ asksUsage }) => asksUsage),
    [false],
    'which is remembered',
  )
  assert.equal(await ask('after', stream), 200)
  assert.equal(seen.at(-1)?.asksUsage, true)
  assert.equal((await sidecar.standing('after')).spent, (await sidecar.standing('before')).spent)
})

test('a prediction that is null is none', async () => {
  seen = []
  assert.equal(await ask('predicted', { more: { prediction: null, max_tokens: null } }), 200)
  assert.deepEqual(
    seen.map(({ field }) => field),
    [OLD],
    'as it was learned',
  )
})
