/** What a client can do wrong or on purpose: a clear answer, and nothing reaches the provider unmetered. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { after, before, beforeEach, describe, test } from 'node:test'
import { brotliCompressSync, gzipSync, zstdCompressSync } from 'node:zlib'
import { startProvider } from '../provider/server.ts'
import type { Provider, SeenRequest } from '../provider/server.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'

const PATH = '/openai/v1/chat/completions'
const BODY = JSON.stringify({ model: 'gpt-4o', max_tokens: 5, messages: [{ role: 'user', content: 'Hello.' }] })
const MIB = 1024 * 1024
/** Far: what is answered later was not. */
const ANSWERED_MS_MAX = 20_000

let provider: Provider
let sidecar: Sidecar
let seen: SeenRequest[] = []
before(async () => {
  provider = await startProvider({ onRequest: (request) => seen.push(request) })
  sidecar = await startSidecar(
    makeConfig(`${provider.url}/v1`, [makeContract(), makeContract({ tier: 'free' })], { onUnknownModel: 'Refuse' }),
  )
})
after(async () => {
  await sidecar.close()
  await provider.close()
})
beforeEach(() => {
  seen = []
})

interface Answer {
  readonly status: number
  readonly code: string | null
  readonly param: string | null
}

async function post(
  body: string | Uint8Array<ArrayBuffer> | ReadableStream,
  headers: Record<string, string> = {},
  path = PATH,
  method = 'POST',
): Promise<Answer> {
  const answer = await fetch(`${sidecar.url}${path}`, {
    method,
    headers: { 'content-type': 'application/json', authorization: 'Bearer test', ...headers },
    ...(method === 'GET' ? {} : { body }),
    ...(body instanceof ReadableStream ? { duplex: 'half' as const } : {}),
  })
  const text = await answer.text()
  if (answer.ok) return { status: answer.status, code: null, param: null }
  const { error } = JSON.parse(text) as { readonly error: { readonly code: string | null; readonly param: string | null } }
  return { status: answer.status, code: error.code, param: error.param }
}

describe('bodies', () => {
  const malformed: Record<string, string> = {
    'not JSON': '{"model": "gpt-4o", "messages": [',
    'a list': '[]',
    'trailing text': `${BODY} x`,
    'a field twice': BODY.replace('{', '{"model":"gpt-4o-mini",'),
    'a field twice, in another case': BODY.replace('}]}', '}],"Model":"gpt-4o-mini"}'),
    'a bound in another case alone': BODY.replace('max_tokens', 'MAX_TOKENS'),
    'no model': '{"messages":[{"role":"user","content":"x"}]}',
    'half a surrogate pair in the model': BODY.replace('gpt-4o', 'gpt-4o\\ud83d'),
    'no messages': '{"model":"gpt-4o"}',
    'an unknown role': '{"model":"gpt-4o","messages":[{"role":"boss","content":"x"}]}',
    'n of zero': BODY.replace('{', '{"n":0,'),
    'a limit that is no number': BODY.replace('5', '"5"'),
    'nested beyond reason': `{"model":"gpt-4o","messages":${'['.repeat(5_000)}${']'.repeat(5_000)}}`,
  }
  for (const [name, body] of Object.entries(malformed)) {
    test(`${name}: 400`, async () => {
      assert.deepEqual(await post(body).then(({ status, code }) => ({ status, code })), { status: 400, code: 'invalid_request' })
      assert.equal(seen.length, 0)
    })
  }

  test('JSON is sent as JSON, whatever the client calls it', async () => {
    for (const type of [
      'application/x-www-form-urlencoded',
      'multipart/form-data; boundary=b',
      'text/plain',
      'application/json; charset=utf-16',
    ])
      assert.equal((await post(BODY, { 'content-type': type })).status, 200, type)
    assert.equal((await post(BODY, { 'content-type': 'application/json; charset=UTF-8' })).status, 200)
    const sent = [...Array<string>(4).fill('application/json'), 'application/json; charset=UTF-8']
    assert.deepEqual(
      seen.map(({ headers, body }) => [headers['content-type'], body.toString()]),
      sent.map((type) => [type, BODY]),
    )
  })

  test('over 32 MiB, announced or not: 413', async () => {
    const large = new Uint8Array(32 * MIB + 1).fill(0x20)
    const tooLarge = { status: 413, code: 'request_too_large', param: null }
    assert.deepEqual(await post(large), tooLarge)
    assert.deepEqual(await post(new Blob([large]).stream()), tooLarge)
    assert.equal(seen.length, 0)
  })

  test('gzip, br and zstd are read; the provider gets plain JSON', async () => {
    const packed = { gzip: gzipSync(BODY), br: brotliCompressSync(BODY), zstd: zstdCompressSync(BODY) }
    for (const [encoding, bytes] of Object.entries(packed)) {
      seen = []
      assert.equal((await post(new Uint8Array(bytes), { 'content-encoding': encoding })).status, 200, encoding)
      assert.equal(seen[0]?.body.toString(), BODY)
      assert.equal(seen[0]?.headers['content-encoding'], undefined)
    }
  })

  test('an unknown encoding is 415, a bomb 413, rubbish 400', async () => {
    assert.equal((await post(BODY, { 'content-encoding': 'compress' })).code, 'unsupported_encoding')
    assert.equal((await post(new Uint8Array(gzipSync(Buffer.alloc(64 * MIB))), { 'content-encoding': 'gzip' })).code, 'request_too_large')
    assert.equal((await post(BODY, { 'content-encoding': 'gzip' })).code, 'invalid_request')
    assert.equal(seen.length, 0)
  })
})

describe('paths and identities', () => {
  test('what is not metered is refused: unknown paths, methods, upstreams', async () => {
    for (const [path, method] of [
      ['/openai/v1/batches', 'POST'],
      ['/openai/v1/chat/completions', 'GET'],
      ['/openai/v1/files', 'GET'],
      ['/other/v1/chat/completions', 'POST'],
      ['/openai/v1/chat%2Fcompletions', 'POST'],
      ['/openai//v1/chat/completions', 'POST'],
      ['/', 'POST'],
    ] as const) {
      const answer = await post(BODY, {}, path, method)
      assert.deepEqual([answer.status, answer.code], [403, 'endpoint_not_governed'], `${method} ${path}`)
    }
    assert.equal(seen.length, 0)
  })

  test('an upstream that is not there is named, and so are those that are', async () => {
    const message = async (path: string): Promise<string> => {
      const answer = await fetch(`${sidecar.url}${path}`, { method: 'POST', body: BODY })
      return ((await answer.json()) as { readonly error: { readonly message: string } }).error.message
    }
    assert.match(await message('/renamed/v1/chat/completions'), /no upstream "renamed"\. .*: openai\b/)
    assert.match(await message(`/${'a'.repeat(5_000)}/v1`), /no upstream "a{64}\.\.\."/)
  })

  test('what is not metered is named with its method and path, without the query', async () => {
    const message = async (method: string, path: string): Promise<string> => {
      const answer = await fetch(`${sidecar.url}${path}`, { method })
      return ((await answer.json()) as { readonly error: { readonly message: string } }).error.message
    }
    const slash = await message('POST', '/openai/v1/chat/completions/?key=secret')
    assert.match(slash, /^"chat" is not metered here \(POST \/chat\/completions\/\), and/)
    assert.match(await message('OPTIONS', '/openai/v1/chat/completions'), /\(OPTIONS \/chat\/completions\)/)
    assert.match(await message('GET', `/openai/v1/files/${'a'.repeat(5_000)}`), /\(GET \/files\/a{117}\.\.\.\)/)
  })

  test('claims, users and ids that are not accepted', async () => {
    assert.equal((await post(BODY, { 'x-farebox-tier': 'gold' })).code, 'identity_rejected')
    assert.equal((await post(BODY, { 'x-farebox-boundary': 'chapter' })).code, 'identity_rejected')
    assert.equal((await post(BODY, { 'x-farebox-conversation': 'a'.repeat(300) })).code, 'identity_rejected')
    assert.equal(seen.length, 0)
    assert.equal((await post(BODY, { 'x-farebox-conversation': 'mine', 'x-farebox-user': 'ann' })).status, 200)
    assert.equal(
      (await post(BODY, { 'x-farebox-conversation': 'mine', 'x-farebox-user': 'bob' })).code,
      'identity_rejected',
      "another user's conversation",
    )
    assert.equal((await post(BODY, { 'x-farebox-conversation': 'mine' })).status, 200, 'an absent user inherits')
    assert.equal(
      (await post(BODY, { 'x-farebox-conversation': 'mine', 'x-farebox-user': 'bob', 'x-farebox-tier': 'free' })).status,
      200,
      'another tier is another conversation',
    )
  })

  test('an unpriced model is refused where the owner says so', async () => {
    assert.deepEqual(await post(BODY.replace('gpt-4o', 'mystery-9')), { status: 403, code: 'model_unpriced', param: 'model' })
  })

  test('our headers and ids of people never reach the provider', async () => {
    await post(BODY, { 'x-farebox-conversation': 'c', 'x-farebox-user': 'ann', 'x-farebox-boundary': 'task', baggage: 'session.id=c' })
    assert.equal(seen.length, 1)
    for (const name of Object.keys(seen[0]?.headers ?? {})) assert.ok(!name.startsWith('x-farebox-') && name !== 'baggage', name)
  })
})

describe('raw requests', () => {
  /** Sends bytes as they are, and gives what is answered until the sidecar ends the connection, or all is there that this waits for. */
  async function whole(text: string, isAll: (answer: string) => boolean = () => false): Promise<string> {
    const socket = connect(Number(new URL(sidecar.url).port), '127.0.0.1')
    const over = Promise.withResolvers<void>()
    const tooLate = setTimeout(
      () => over.reject(new Error(`after ${ANSWERED_MS_MAX} ms there is no more than: ${answer}`)),
      ANSWERED_MS_MAX,
    )
    let answer = ''
    socket.on('error', () => undefined)
    socket.on('close', () => over.resolve())
    socket.on('data', (chunk: Buffer) => {
      answer += chunk.toString('latin1')
      if (isAll(answer)) over.resolve()
    })
    socket.write(text)
    try {
      await over.promise
    } finally {
      clearTimeout(tooLate)
      socket.destroy()
    }
    return answer
  }
  /** The status line. */
  const statusOf = (answer: string): string => answer.split('\r\n')[0] ?? ''
  const open = `POST ${PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n`
  /** Whose answer is over when the connection is. */
  const head = `${open}connection: close\r\n`
  const smuggling: Record<string, string> = {
    'length and chunked': `${head}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`,
    'two lengths': `${head}content-length: 5\r\ncontent-length: 6\r\n\r\nhello`,
    'the same length twice': `${head}content-length: 5\r\ncontent-length: 5\r\n\r\nhello`,
    'a length that is no number': `${head}content-length: 5x\r\n\r\nhello`,
    'an absolute target': `POST http://evil.example${PATH} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: ${BODY.length}\r\n\r\n${BODY}`,
    'an upgrade': `GET /openai/v1/realtime HTTP/1.1\r\nhost: x\r\nconnection: upgrade, close\r\nupgrade: websocket\r\n\r\n`,
    'a tunnel': 'CONNECT evil.example:443 HTTP/1.1\r\nhost: x\r\n\r\n',
    'dot segments': `POST /openai/v1/../v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: ${BODY.length}\r\n\r\n${BODY}`,
    'a call of a page of another site': `${head}sec-fetch-site: cross-site\r\ncontent-length: ${BODY.length}\r\n\r\n${BODY}`,
    'a cost reported by a page of another site': `POST /farebox/v1/conversations/c/costs HTTP/1.1\r\nhost: x\r\nconnection: close\r\nsec-fetch-site: cross-site\r\ncontent-length: 2\r\n\r\n{}`,
    'a folded header': `${head}x-a: b\r\n c\r\ncontent-length: 5\r\n\r\nhello`,
  }
  test('headers that are too long are told as such', async () => {
    assert.match(statusOf(await whole(`${head}x-a: ${'a'.repeat(20_000)}\r\n\r\n`)), /^HTTP\/1[.]1 431 /)
  })

  test('a client that asks for a tunnel and leaves at once ends nothing but its own connection', async () => {
    for (let tries = 0; tries < 60; tries++) {
      const socket = connect(Number(new URL(sidecar.url).port), '127.0.0.1')
      socket.on('error', () => undefined)
      await once(socket, 'connect')
      socket.write('CONNECT evil.example:443 HTTP/1.1\r\nhost: x\r\n\r\n')
      if (tries % 2 === 0) setImmediate(() => socket.resetAndDestroy())
      else socket.resetAndDestroy()
    }
    assert.equal((await post(BODY)).status, 200)
  })

  test('a socket is refused in the words of its provider, and counted', async () => {
    const refusals = async (): Promise<number> =>
      Number(/farebox_refusals_total\{code="endpoint_not_governed"\} (\d+)/.exec(await sidecar.metrics())?.[1] ?? 0)
    const before = await refusals()
    const answer = await whole(`GET /openai/v1/realtime HTTP/1.1\r\nhost: x\r\nconnection: upgrade, close\r\nupgrade: websocket\r\n\r\n`)
    assert.match(answer, /^HTTP\/1[.]1 403 /)
    assert.match(answer, /"code":"endpoint_not_governed"/)
    assert.equal(await refusals(), before + 1)
  })

  test('an upgrade to HTTP/2, which plain Java clients ask for, is answered in HTTP/1.1', async () => {
    const asked = 'connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n'
    const text = `${open}authorization: Bearer test\r\n${asked}content-length: ${BODY.length}\r\n\r\n${BODY}`
    assert.match(statusOf(await whole(text, (answer) => answer.includes('"usage":'))), /^HTTP\/1\.1 200 /)
    const [sent] = seen
    assert.ok(sent !== undefined && !['upgrade', 'http2-settings'].some((name) => name in sent.headers))
  })
  for (const [name, text] of Object.entries(smuggling)) {
    test(`${name} is refused`, async () => {
      assert.match(statusOf(await whole(text)), /^HTTP\/1\.1 (400|403) /)
      // Something of it that was sent on after all would be there before what is asked next.
      assert.equal((await post(BODY)).status, 200)
      assert.equal(seen.length, 1)
    })
  }
})

test('a bad config keeps the last good one in force, and status says so', async () => {
  const good = (await sidecar.getJson('/farebox/v1/status')) as { readonly config: { readonly hash: string } }
  sidecar.configure({ ...makeConfig(`${provider.url}/v1`), upstreams: [] })
  for (let tries = 0; tries < 100; tries++) {
    const status = (await sidecar.getJson('/farebox/v1/status')) as {
      readonly config: { readonly hash: string }
      readonly rejected: { readonly reason: string } | null
    }
    assert.equal(status.config.hash, good.config.hash)
    if (status.rejected !== null) {
      assert.match(status.rejected.reason, /^upstreams: /)
      assert.equal((await post(BODY)).status, 200)
      return
    }
    await new Promise((resolve) => setTimeout(resolve, 25))
  }
  assert.fail('the rejection is not shown')
})
