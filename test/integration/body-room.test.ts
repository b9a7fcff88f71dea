/** Many large calls at once: those that find no room wait before they are read, and what comes back large is not kept. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { startUpstream } from '../hostile/upstream.ts'
import type { Upstream } from '../hostile/upstream.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'

const MIB = 1024 * 1024
const ROOM_BYTES = 32 * MIB
const PICTURE_BYTES = 15 * MIB
/** What is let in does so at once; it is waited for this long before it counts as waiting. */
const WAITS_MS = 300

let upstream: Upstream
let sidecar: Sidecar
before(async () => {
  upstream = await startUpstream()
  const contract = makeContract({ caps: { perConversation: '50.00' } })
  sidecar = await startSidecar(makeConfig(`${upstream.url}/v1`, [contract]), {
    environment: { FAREBOX_BODY_ROOM: String(ROOM_BYTES) },
  })
})
after(async () => {
  await sidecar.close()
  await upstream.close()
})

const picture = { type: 'image_url', image_url: { url: `data:image/png;base64,${'A'.repeat(PICTURE_BYTES)}` } }
const LARGE = JSON.stringify({ model: 'gpt-4o', max_tokens: 5, messages: [{ role: 'user', content: [picture] }] })
const SMALL = JSON.stringify({ model: 'gpt-4o', max_tokens: 5, messages: [{ role: 'user', content: 'x'.repeat(3 * MIB) }] })
const ANSWER = JSON.stringify({
  model: 'gpt-4o',
  choices: [{ index: 0, message: { role: 'assistant', content: 'Yes.' }, finish_reason: 'stop' }],
  usage: { prompt_tokens: 100, completion_tokens: 2, total_tokens: 102 },
})

function post(conversation: string, body: string): Promise<Response> {
  const headers = { 'content-type': 'application/json', authorization: 'Bearer test', 'x-farebox-conversation': conversation }
  return fetch(`${sidecar.url}/openai/v1/chat/completions`, { method: 'POST', headers, body })
}

async function heldBytes(): Promise<number> {
  return Number(/^farebox_body_bytes (\d+)$/m.exec(await sidecar.metrics())?.[1])
}

/** Keeps every answer until it is told to give the oldest. */
function hold(): { readonly waiting: readonly ServerResponse[]; answerFirst(): void } {
  const waiting: ServerResponse[] = []
  upstream.answerWith((response) => void waiting.push(response))
  return {
    waiting,
    answerFirst: () => waiting.shift()?.writeHead(200, { 'content-type': 'application/json' }).end(ANSWER),
  }
}

async function until(isSo: () => boolean): Promise<void> {
  const endMs = performance.now() + 20_000
  while (!isSo()) {
    assert.ok(performance.now() < endMs, 'it takes too long')
    await sleep(10)
  }
}

test('a call that finds no room is read when another has its answer, and all room comes back', async () => {
  const provider = hold()
  const large = [post('large-1', LARGE), post('large-2', LARGE)]
  await until(() => provider.waiting.length === 2)
  assert.equal(await heldBytes(), 2 * LARGE.length)
  const third = post('third', SMALL)
  await sleep(WAITS_MS)
  assert.equal(provider.waiting.length, 2, 'it went out although there was no room for it')
  provider.answerFirst()
  await until(() => provider.waiting.length === 2)
  provider.answerFirst()
  provider.answerFirst()
  const answers = await Promise.all([...large, third])
  assert.deepEqual(
    answers.map(({ status }) => status),
    [200, 200, 200],
  )
  await sidecar.idle()
  assert.equal(await heldBytes(), 0)
})

test('a body that does not say how long it is gets 503 when there is no room for it', async () => {
  const provider = hold()
  const large = [post('large-3', LARGE), post('large-4', LARGE)]
  await until(() => provider.waiting.length === 2)
  const stream = new Blob([SMALL]).stream()
  const answer = await fetch(`${sidecar.url}/openai/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: 'Bearer test' },
    body: stream,
    duplex: 'half',
  })
  assert.equal(answer.status, 503)
  assert.equal(answer.headers.get('retry-after'), '1')
  assert.equal(((await answer.json()) as { readonly error: { readonly code: string } }).error.code, 'sidecar_busy')
  assert.equal(provider.waiting.length, 2)
  provider.answerFirst()
  provider.answerFirst()
  await Promise.all(large)
  await sidecar.idle()
  assert.equal(await heldBytes(), 0)
})

test('a long answer for which there is no room passes whole, and is settled by the usage in it', async () => {
  const provider = hold()
  const large = [post('large-5', LARGE), post('large-6', LARGE)]
  await until(() => provider.waiting.length === 2)
  const asked = JSON.stringify({ model: 'gpt-4o', max_tokens: 5, messages: [{ role: 'user', content: 'Hello.' }] })
  const long = post('long-answer', asked)
  await until(() => provider.waiting.length === 3)
  const [, , response] = provider.waiting
  const content = 'y'.repeat(3 * MIB)
  const body = ANSWER.replace('Yes.', content)
  response?.writeHead(200, { 'content-type': 'application/json', 'content-length': body.length }).end(body)
  const answer = await long
  assert.equal(await answer.text(), body)
  assert.equal(await heldBytes(), 2 * LARGE.length)
  provider.answerFirst()
  provider.answerFirst()
  await Promise.all(large)
  await sidecar.idle()
  assert.equal((await sidecar.standing('long-answer')).spent, '0.00027')
})
