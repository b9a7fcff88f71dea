/** What gets to a provider without a hold: nothing that it may bill, nothing that a page in a browser sends, and nothing leads on from there. */
import assert from 'node:assert/strict'
import { request } from 'node:http'
import { after, before, test } from 'node:test'
import { startUpstream } from '../hostile/upstream.ts'
import type { Upstream } from '../hostile/upstream.ts'
import { makeConfig } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'

let upstream: Upstream
let sidecar: Sidecar
before(async () => {
  upstream = await startUpstream()
  const config = makeConfig(`${upstream.url}/v1`)
  const [openai] = config.upstreams
  assert.ok(openai !== undefined)
  sidecar = await startSidecar({ ...config, upstreams: [openai, { ...openai, name: 'mistral', provider: 'mistral' }] })
})
after(async () => {
  await sidecar.close()
  await upstream.close()
})

interface Reply {
  readonly status: number
  readonly text: string
  readonly location: string | undefined
}

/** As `fetch` would not: with any host. */
function send(method: string, path: string, body = '', headers: Readonly<Record<string, string>> = {}): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const call = request(`${sidecar.url}${path}`, { method, headers: { 'content-type': 'application/json', ...headers } }, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text, location: response.headers.location }))
    })
    call.on('error', reject).end(body)
  })
}

const CHAT = JSON.stringify({ model: 'gpt-4o', max_tokens: 5, messages: [{ role: 'user', content: 'Hello.' }] })

test('what one provider gives away is refused of another that may bill it', async () => {
  upstream.answerWith((response) => void response.writeHead(200, { 'content-type': 'application/json' }).end('{}'))
  for (const path of ['/conversations', '/conversations/conv_1', '/moderations']) {
    const { status, text } = await send('POST', `/mistral/v1${path}`, CHAT)
    assert.deepEqual([status, /endpoint_not_governed/.test(text)], [403, true], path)
  }
  assert.equal(upstream.seen.length, 0)
  assert.equal((await send('POST', '/openai/v1/moderations', '{}')).status, 200)
  assert.equal((await send('GET', '/mistral/v1/models')).status, 200)
})

test('a redirect is passed on by no kind of call, and what is not modified is', async () => {
  const leadsTo = (status: number) =>
    upstream.answerWith((response) => void response.writeHead(status, { location: 'http://169.254.169.254/' }).end())
  for (const status of [301, 302, 303, 307, 308]) {
    leadsTo(status)
    for (const [method, path, body] of [
      ['GET', '/openai/v1/models', ''],
      ['POST', '/openai/v1/moderations', '{}'],
      ['POST', '/openai/v1/chat/completions', CHAT],
    ] as const) {
      const reply = await send(method, path, body)
      assert.deepEqual([reply.status, reply.location, /redirect/.test(reply.text)], [502, undefined, true], `${status} ${path}`)
    }
  }
  upstream.answerWith((response) => void response.writeHead(304).end())
  assert.equal((await send('GET', '/openai/v1/models', '', { 'if-none-match': '"a"' })).status, 304)
})

test('a page whose own domain leads to this machine makes no calls; an app by any other name does', async () => {
  upstream.answerWith((response) => void response.writeHead(200, { 'content-type': 'application/json' }).end('{}'))
  for (const [method, path, body] of [
    ['POST', '/openai/v1/chat/completions', CHAT],
    ['GET', '/openai/v1/models', ''],
  ] as const) {
    const { status, text } = await send(method, path, body, { host: 'evil.example:4180' })
    assert.deepEqual([status, /endpoint_not_governed/.test(text)], [403, true], path)
  }
  assert.equal(upstream.seen.length, 0)
  for (const host of ['localhost:4180', '127.0.0.1:4180', 'sidecar', 'host.docker.internal:4180'])
    assert.equal((await send('GET', '/openai/v1/models', '', { host })).status, 200, host)
})
