/** What gets to a provider without a hold: nothing that it may bill, nothing that a page in a browser sends, and nothing leads on from there. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { startUpstream } from '../hostile/upstream.ts'
import type { Upstream } from '../hostile/upstream.ts'
import { makeConfig } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'

let upstream: Upstream
let sidecar: Sidecar
let keys: string
before(async () => {
  upstream = await startUpstream()
  keys = mkdtempSync(join(tmpdir(), 'farebox-keys-'))
  writeFileSync(join(keys, 'held'), 'sk-real')
  sidecar = await startSidecar(configOf(), { environment: { FAREBOX_CREDENTIALS: keys } })
})
after(async () => {
  await sidecar.close()
  await upstream.close()
  rmSync(keys, { recursive: true })
})

function configOf(parts: Pick<Partial<SidecarConfig>, 'mode' | 'ungoverned'> = {}): SidecarConfig {
  const config = makeConfig(`${upstream.url}/v1`, undefined, parts)
  const [openai] = config.upstreams
  assert.ok(openai !== undefined)
  const others = [
    { ...openai, name: 'mistral', provider: 'mistral' },
    { ...openai, name: 'held', credential: 'Held' as const },
  ]
  return { ...config, upstreams: [openai, ...others] }
}

interface Reply {
  readonly status: number
  readonly text: string
  readonly location: string | undefined
}

/** As `fetch` would not: with any host, and the target as it is written. */
function send(method: string, path: string, body = '', headers: Readonly<Record<string, string>> = {}): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(sidecar.url)
    const options = { hostname, port, path, method, headers: { 'content-type': 'application/json', ...headers } }
    const call = request(options, (response) => {
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

const CALLS = [
  ['POST', '/v1/chat/completions', CHAT],
  ['GET', '/v1/models', ''],
  ['POST', '/v1/batches', '{}'],
] as const

test('no header leads a key that is held to another host, provider or model: in no mode, and by no kind of call', async () => {
  upstream.answerWith((response) => void response.writeHead(200, { 'content-type': 'application/json' }).end('{}'))
  for (const parts of [{}, { ungoverned: 'Pass' }, { mode: 'Observe' }] as const) {
    await sidecar.adopt(configOf(parts))
    for (const [method, path, body] of CALLS)
      for (const header of ['X-Portkey-Custom-Host', 'x-portkey-provider', 'x-portkey-config', 'Helicone-Target-Url']) {
        const { status, text } = await send(method, `/held${path}`, body, { [header]: 'https://evil.example' })
        const { error } = JSON.parse(text) as { readonly error: { readonly code: string; readonly param: string } }
        assert.deepEqual([status, error.code, error.param], [403, 'endpoint_not_governed', header.toLowerCase()], path)
      }
  }
  assert.equal(upstream.seen.length, 0)
  await sidecar.adopt(configOf())
  assert.equal((await send('GET', '/held/v1/models', '', { 'x-portkey-api-key': 'a', 'helicone-auth': 'b' })).status, 200)
})

test('a header or a query that may name another model is refused with any key, as the same in a body is; one that names a provider is the app’s', async () => {
  upstream.answerWith((response) => void response.writeHead(200, { 'content-type': 'application/json' }).end('{}'))
  const config = { 'x-portkey-config': '{"override_params":{"model":"o1-pro"}}' }
  const asked = '/openai/v1/chat/completions'
  for (const [path, headers, param] of [
    [asked, config, 'x-portkey-config'],
    [`${asked}?model=o1-pro`, {}, 'model'],
  ] as const) {
    const { status, text } = await send('POST', path, CHAT, headers)
    const { error } = JSON.parse(text) as { readonly error: { readonly code: string; readonly param: string } }
    assert.deepEqual([status, error.code, error.param], [403, 'endpoint_not_governed', param])
  }
  assert.equal(upstream.seen.length, 0)
  assert.equal((await send('GET', '/openai/v1/models', '', config)).status, 200, 'a list asks no model')
  for (const headers of [{ 'x-portkey-provider': 'openai' }, { 'helicone-target-url': 'https://api.openai.com' }])
    assert.equal((await send('POST', '/openai/v1/chat/completions', CHAT, headers)).status, 200)
  for (const parts of [{ ungoverned: 'Pass' }, { mode: 'Observe' }] as const) {
    await sidecar.adopt(configOf(parts))
    assert.equal((await send('POST', '/openai/v1/chat/completions', CHAT, config)).status, 200)
  }
  await sidecar.adopt(configOf())
})

test('a target with a fragment is none, whatever stands behind it', async () => {
  upstream.answerWith((response) => void response.writeHead(200, { 'content-type': 'application/json' }).end('{}'))
  for (const target of ['/openai/v1/responses/#/cancel', '/held/v1/responses/#/cancel', '/openai/v1/chat/completions#a']) {
    const { status, text } = await send('POST', target, CHAT)
    assert.deepEqual([status, /endpoint_not_governed/.test(text)], [403, true], target)
  }
  assert.equal(upstream.seen.length, 0)
})
