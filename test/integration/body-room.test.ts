/** Many large calls at once: those that find no room wait before they are read, and what comes back large is not kept. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, before, test } from 'node:test'
import type { ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { connect } from 'node:net'
import { startUpstream } from '../hostile/upstream.ts'
import type { Upstream } from '../hostile/upstream.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { waitFor } from '../support/wait-for.ts'

const MIB = 1024 * 1024
const ROOM_BYTES = 32 * MIB
const PICTURE_BYTES = 15 * MIB
/** What is let in does so at once; it is waited for this long before it counts as waiting. */
const WAITS_MS = 300
const SOON = { withinMs: 20_000, everyMs: 10 }

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
const MIDDLE = JSON.stringify({
  model: 'gpt-4o',
  max_tokens: 5,
  messages: [{ role: 'user', content: randomBytes(1.5 * MIB).toString('hex') }],
})
const SMALL = JSON.stringify({ model: 'gpt-4o', max_tokens: 5, messages: [{ role: 'user', content: 'Hello.' }] })
const SMALL_BYTES = 256 * 1024
const SMALL_BUT_LONG = SMALL.replace('Hello.', 'Hello. '.repeat(30_000))
const ANSWER = JSON.stringify({
  model: 'gpt-4o',
  choices: [{ index: 0, message: { role: 'assistant', content: 'Yes.' }, finish_reason: 'stop' }],
  usage: { prompt_tokens: 100, completion_tokens: 2, total_tokens: 102 },
})

function post(conversation: string | null, body: string, signal?: AbortSignal): Promise<Response> {
  const named = conversation === null ? {} : { 'x-farebox-conversation': conversation }
  const headers = { 'content-type': 'application/json', authorization: 'Bearer test', ...named }
  return fetch(`${sidecar.url}/openai/v1/chat/completions`, { method: 'POST', headers, body, signal: signal ?? null })
}

async function heldBytes(): Promise<number> {
  return Number(/^farebox_body_bytes (\d+)$/m.exec(await sidecar.metrics())?.[1])
}

/** Keeps every answer until it is told to give the oldest. */
function hold(): { readonly waiting: readonly ServerResponse[]; arrived(count: number): Promise<unknown>; answerFirst(): void } {
  const waiting: ServerResponse[] = []
  upstream.answerWith((response) => void waiting.push(response))
  return {
    waiting,
    arrived: (count) => waitFor(`${count} calls that wait`, () => waiting.length === count, SOON),
    answerFirst: () => waiting.shift()?.writeHead(200, { 'content-type': 'application/json' }).end(ANSWER),
  }
}

test('a call that finds no room is read when another has its answer, and all room comes back', async () => {
  const provider = hold()
  const large = [post('large-1', LARGE), post('large-2', LARGE)]
  await provider.arrived(2)
  assert.equal(await heldBytes(), 2 * LARGE.length)
  const third = post('third', MIDDLE)
  await sleep(WAITS_MS)
  assert.equal(provider.waiting.length, 2, 'it went out although there was no room for it')
  provider.answerFirst()
  await provider.arrived(2)
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

test('a body that does not say how long it is waits as it comes, and one that is packed as it is unpacked', async () => {
  const provider = hold()
  const large = [post('large-3', LARGE), post('large-4', LARGE)]
  await provider.arrived(2)
  const headers = { 'content-type': 'application/json', authorization: 'Bearer test' }
  const url = `${sidecar.url}/openai/v1/chat/completions`
  const unannounced = fetch(url, { method: 'POST', headers, body: new Blob([MIDDLE]).stream(), duplex: 'half' })
  const packed = fetch(url, { method: 'POST', headers: { ...headers, 'content-encoding': 'gzip' }, body: gzipSync(MIDDLE) })
  await sleep(WAITS_MS)
  assert.equal(provider.waiting.length, 2, 'they went out although there was no room for them')
  assert.ok((await heldBytes()) <= ROOM_BYTES + 2 * SMALL_BYTES)
  for (let answered = 0; answered < 4; answered++) {
    await waitFor('a call that waits', () => provider.waiting.length > 0, SOON)
    provider.answerFirst()
  }
  const answers = await Promise.all([...large, unannounced, packed])
  assert.deepEqual(
    answers.map(({ status }) => status),
    [200, 200, 200, 200],
  )
  await sidecar.idle()
  assert.equal(await heldBytes(), 0)
})

test('talk goes on beside large calls that wait, and who leaves while it waits leaves nothing behind', async () => {
  const provider = hold()
  const large = [post('large-5', LARGE), post('large-6', LARGE)]
  await provider.arrived(2)
  const leaving = new AbortController()
  const left = post('leaves', MIDDLE, leaving.signal)
  await sleep(WAITS_MS)
  const talk = post('talk', SMALL)
  await provider.arrived(3)
  leaving.abort()
  await assert.rejects(left)
  for (let answered = 0; answered < 3; answered++) provider.answerFirst()
  const answers = await Promise.all([...large, talk])
  assert.deepEqual(
    answers.map(({ status }) => status),
    [200, 200, 200],
  )
  await sidecar.idle()
  assert.equal(await heldBytes(), 0)
  assert.match(await sidecar.metrics(), /^farebox_body_waits 0$/m)
})

test('what the head of a request decides is said without waiting', async () => {
  const provider = hold()
  const large = [post('large-7', LARGE), post('large-8', LARGE)]
  await provider.arrived(2)
  const headers = { 'content-type': 'application/json', authorization: 'Bearer test' }
  const startedMs = performance.now()
  const packed = await fetch(`${sidecar.url}/openai/v1/chat/completions`, {
    method: 'POST',
    headers: { ...headers, 'content-encoding': 'compress' },
    body: MIDDLE,
  })
  const ungoverned = await fetch(`${sidecar.url}/openai/v1/fine_tuning/jobs`, { method: 'POST', headers, body: MIDDLE })
  assert.deepEqual([packed.status, ungoverned.status], [415, 403])
  assert.ok(performance.now() - startedMs < 8_000)
  for (let answered = 0; answered < 2; answered++) provider.answerFirst()
  await Promise.all(large)
})

test('an upload that does not come yields to a call that waits for its room', async () => {
  const provider = hold()
  const { hostname, port } = new URL(sidecar.url)
  const stalled = connect(Number(port), hostname)
  let heard = ''
  stalled.on('data', (bytes) => (heard += bytes.toString('latin1')))
  const head = ['POST /openai/v1/chat/completions HTTP/1.1', `Host: ${hostname}`, 'Content-Type: application/json']
  stalled.write(`${head.join('\r\n')}\r\nContent-Length: ${ROOM_BYTES}\r\n\r\n{"model"`)
  await waitFor('an upload that has all the room', async () => (await heldBytes()) >= ROOM_BYTES, SOON)
  const waiting = post('waits-for-upload', MIDDLE)
  await provider.arrived(1)
  provider.answerFirst()
  assert.equal((await waiting).status, 200)
  assert.match(heard, /^HTTP\/1\.1 503 [\s\S]*sidecar_busy/)
  stalled.destroy()
  await sidecar.idle()
  assert.equal(await heldBytes(), 0)
})

test('small uploads that do not come yield to talk that waits for their room', async () => {
  const provider = hold()
  const { hostname, port } = new URL(sidecar.url)
  const head = ['POST /openai/v1/chat/completions HTTP/1.1', `Host: ${hostname}`, 'Content-Type: application/json']
  const announced = SMALL_BYTES - 1
  const stalled = Array.from({ length: Math.ceil(ROOM_BYTES / announced) }, () => {
    const socket = connect(Number(port), hostname)
    socket.on('error', () => undefined).write(`${head.join('\r\n')}\r\nContent-Length: ${announced}\r\n\r\n{`)
    return socket.resume()
  })
  while ((await heldBytes()) < ROOM_BYTES - announced) await sleep(10)
  const talk = post('waits-for-small-uploads', SMALL_BUT_LONG)
  await provider.arrived(1)
  provider.answerFirst()
  assert.equal((await talk).status, 200)
  for (const socket of stalled) socket.destroy()
  await sidecar.idle()
  assert.equal(await heldBytes(), 0)
})

for (const { what, conversation, isKept } of [
  { what: 'passes whole, and is settled by the usage in it', conversation: 'long-answer', isKept: false },
  { what: 'is kept where the conversation is found by its history', conversation: null, isKept: true },
]) {
  test(`a long answer for which there is no room ${what}`, async () => {
    const provider = hold()
    const large = [post('large-9', LARGE), post('large-10', LARGE)]
    await provider.arrived(2)
    const question = { role: 'user', content: `Hello, ${what}.` }
    const asked = { model: 'gpt-4o', max_tokens: 5, messages: [question] }
    const long = post(conversation, JSON.stringify(asked))
    await provider.arrived(3)
    const [, , response] = provider.waiting
    const content = 'y'.repeat(3 * MIB)
    const body = ANSWER.replace('Yes.', content)
    response?.writeHead(200, { 'content-type': 'application/json', 'content-length': body.length }).end(body)
    const answer = await long
    assert.equal(await answer.text(), body)
    provider.answerFirst()
    provider.answerFirst()
    await Promise.all(large)
    await sidecar.idle()
    assert.equal(await heldBytes(), 0)
    upstream.answerWith((later) => void later.writeHead(200, { 'content-type': 'application/json' }).end(ANSWER))
    const messages = [question, { role: 'assistant', content }, { role: 'user', content: 'And now?' }]
    const next = await post(conversation, JSON.stringify({ ...asked, messages }))
    assert.equal(next.status, 200)
    const [first, second] = [answer, next].map(({ headers }) => headers.get('x-farebox-conversation'))
    assert.equal(second, first)
    if (!isKept) assert.equal((await sidecar.standing('long-answer')).spent, '0.00054')
  })
}
