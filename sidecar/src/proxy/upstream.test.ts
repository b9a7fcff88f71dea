import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import dns from 'node:dns'
import { once } from 'node:events'
import { createServer as createHttp } from 'node:http'
import type { IncomingMessage, RequestListener, Server as HttpServer } from 'node:http'
import { createServer as createHttps } from 'node:https'
import { createServer as createTcp, Socket } from 'node:net'
import type { AddressInfo, Server } from 'node:net'
import { describe, test } from 'node:test'
import type { TestContext } from 'node:test'
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises'
import { createServer as createTls, getCACertificates, setDefaultCACertificates } from 'node:tls'
import type { TLSSocket } from 'node:tls'
import { selfSigned } from './certificates.testing.ts'
import { UpstreamPool } from './upstream.ts'
import type { UpstreamCall, UpstreamEvents, UpstreamFailure, UpstreamHandle } from './upstream.ts'

const SCHEMES = ['http', 'https'] as const
type Scheme = (typeof SCHEMES)[number]

const trusted = selfSigned(['localhost', 'two.test'], { byAddress: true })
const misnamed = selfSigned(['elsewhere.test'], { byAddress: false })
const unknown = selfSigned(['localhost'], { byAddress: true })
setDefaultCACertificates([...getCACertificates('default'), trusted.cert, misnamed.cert])

/** All that is heard of a call, and that it is heard in order. */
class Seen implements UpstreamEvents {
  statusCode: number | null = null
  rawHeaders: readonly string[] = []
  readonly chunks: Buffer[] = []
  failure: UpstreamFailure | null = null
  isOver = false
  readonly over: Promise<this>
  #resolve: (seen: this) => void = () => undefined
  /** For what a test does at that moment. */
  onHead: () => void = () => undefined
  onData: (chunk: Buffer) => void = () => undefined
  onEnd: () => void = () => undefined

  constructor() {
    this.over = new Promise((resolve) => (this.#resolve = resolve))
  }
  get body(): Buffer {
    return Buffer.concat(this.chunks)
  }
  get bytes(): number {
    return this.chunks.reduce((sum, chunk) => sum + chunk.length, 0)
  }
  head(statusCode: number, rawHeaders: readonly string[]): void {
    assert.ok(this.statusCode === null && !this.isOver)
    this.statusCode = statusCode
    this.rawHeaders = rawHeaders
    this.onHead()
  }
  data(chunk: Buffer): void {
    assert.ok(this.statusCode !== null && !this.isOver && chunk.length > 0)
    this.chunks.push(Buffer.from(chunk))
    this.onData(chunk)
  }
  end(): void {
    assert.ok(this.statusCode !== null && !this.isOver)
    this.#finish()
    this.onEnd()
  }
  failed(failure: UpstreamFailure): void {
    assert.ok(!this.isOver)
    this.failure = failure
    this.#finish()
  }
  #finish(): void {
    this.isOver = true
    this.#resolve(this)
  }
}

interface Begun {
  readonly seen: Seen
  readonly handle: UpstreamHandle
}

function begin(
  pool: UpstreamPool,
  baseUrl: string,
  more: Partial<UpstreamCall> = {},
  prepare: (seen: Seen, handle: () => UpstreamHandle) => void = () => undefined,
): Begun {
  const seen = new Seen()
  const begun: { handle: UpstreamHandle | null } = { handle: null }
  prepare(seen, () => {
    assert.ok(begun.handle)
    return begun.handle
  })
  const handle = pool.call({ baseUrl, path: '/x', method: 'POST', headers: [], body: Buffer.from('{}'), ...more }, seen)
  begun.handle = handle
  return { seen, handle }
}

async function answered(pool: UpstreamPool, baseUrl: string, more: Partial<UpstreamCall> = {}): Promise<Seen> {
  const seen = await begin(pool, baseUrl, more).seen.over
  assert.equal(seen.failure, null, seen.failure?.cause.message)
  return seen
}

async function failed(pool: UpstreamPool, baseUrl: string, more: Partial<UpstreamCall> = {}): Promise<string> {
  const seen = await begin(pool, baseUrl, more).seen.over
  return seen.failure?.kind ?? `answered with ${seen.statusCode}`
}

interface Running {
  readonly baseUrl: string
  readonly port: number
  /** Of all that ever came, in order. */
  readonly sockets: Socket[]
}

async function listen(t: TestContext, server: Server, scheme: Scheme, host = '127.0.0.1'): Promise<Running> {
  const sockets: Socket[] = []
  server.on(scheme === 'https' ? 'secureConnection' : 'connection', (socket: Socket) => {
    sockets.push(socket)
    socket.on('error', () => undefined)
  })
  const raw = new Set<Socket>()
  server.on('connection', (socket: Socket) => raw.add(socket))
  server.listen(0, host)
  await once(server, 'listening')
  t.after(() => {
    server.close()
    for (const socket of raw) socket.destroy()
  })
  const { port } = server.address() as AddressInfo
  return { baseUrl: `${scheme}://${host.includes(':') ? `[${host}]` : host}:${port}`, port, sockets }
}

/** A server as providers have them. */
function serve(t: TestContext, scheme: Scheme, listener: RequestListener): Promise<Running> {
  const server: HttpServer = scheme === 'https' ? createHttps(trusted, listener) : createHttp(listener)
  return listen(t, server, scheme)
}

/** A server that says what it is told to, to each head that comes. */
function serveRaw(
  t: TestContext,
  onRequest: (socket: Socket, index: number, head: string) => void,
  scheme: Scheme = 'http',
): Promise<Running> {
  let index = 0
  const take = (socket: Socket): void => {
    let head = ''
    socket.on('data', (bytes) => {
      head += bytes.toString('latin1')
      const end = head.indexOf('\r\n\r\n')
      if (end < 0) return
      const one = head.slice(0, end + 4)
      head = ''
      onRequest(socket, index, one)
      index += 1
    })
    socket.on('error', () => undefined)
  }
  return listen(t, scheme === 'https' ? createTls(trusted, take) : createTcp(take), scheme)
}

function poolFor(t: TestContext, options: ConstructorParameters<typeof UpstreamPool>[0] = {}): UpstreamPool {
  const pool = new UpstreamPool(options)
  t.after(() => pool.close())
  return pool
}

async function until(holds: () => boolean, what: string): Promise<void> {
  const endMs = performance.now() + 30_000
  while (!holds()) {
    if (performance.now() > endMs) assert.fail(`not in time: ${what}`)
    await sleep(5)
  }
}

async function whenWhole(incoming: IncomingMessage, answer: (body: Buffer) => unknown): Promise<void> {
  const chunks: Buffer[] = []
  for await (const chunk of incoming) chunks.push(chunk as Buffer)
  await answer(Buffer.concat(chunks))
}

function hash(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/** Bytes that tell their place and whose they are. */
function pattern(seed: number, length: number): Buffer {
  const bytes = Buffer.alloc(length)
  let state = seed + 1
  for (let at = 0; at < length; at += 1) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) | 0
    bytes[at] = state >>> 24
  }
  return bytes
}

for (const scheme of SCHEMES) {
  describe(`over ${scheme}`, () => {
    test('answers of a length and in chunks are heard whole, on one connection', async (t) => {
      const { baseUrl, sockets } = await serve(t, scheme, (incoming, outgoing) => {
        void whenWhole(incoming, (body) => {
          if (incoming.url === '/plain') outgoing.writeHead(201, ['X-Case', 'kept', 'content-length', String(body.length)]).end(body)
          else {
            outgoing.writeHead(200, { 'content-type': 'text/event-stream' })
            outgoing.write('one ')
            setTimeout(() => outgoing.write('two '), 5)
            setTimeout(() => outgoing.end(body), 10)
          }
        })
      })
      const pool = poolFor(t)
      for (let round = 0; round < 3; round += 1) {
        const plain = await answered(pool, baseUrl, { path: '/plain', body: Buffer.from('echo') })
        assert.deepEqual([plain.statusCode, plain.body.toString(), plain.rawHeaders.slice(0, 2)], [201, 'echo', ['X-Case', 'kept']])
        const chunked = await answered(pool, baseUrl, { body: Buffer.from('three') })
        assert.deepEqual([chunked.statusCode, chunked.body.toString()], [200, 'one two three'])
      }
      assert.equal(sockets.length, 1)
    })

    test('8 MiB go up and come down as they are', async (t) => {
      const { baseUrl, sockets } = await serve(t, scheme, (incoming, outgoing) => {
        void whenWhole(incoming, (body) => outgoing.writeHead(200, ['x-sum', hash(body)]).end(body))
      })
      const pool = poolFor(t)
      const body = randomBytes(8 << 20)
      for (const length of [8 << 20, 16 * 1024, 16 * 1024 + 1, 1]) {
        const sent = body.subarray(0, length)
        const seen = await answered(pool, baseUrl, { body: sent })
        assert.ok(seen.rawHeaders.includes(hash(sent)))
        assert.ok(seen.body.equals(sent))
      }
      assert.equal(sockets.length, 1)
    })

    test('a hundred streams at a time do not mix', async (t) => {
      const { baseUrl, sockets } = await serve(t, scheme, (incoming, outgoing) => {
        void whenWhole(incoming, async (body) => {
          const id = Number(body.toString())
          const whole = pattern(id, 20_000 + id * 977)
          outgoing.writeHead(200, id % 2 === 0 ? { 'content-length': whole.length } : {})
          for (let at = 0, round = 0; at < whole.length; round += 1) {
            const end = Math.min(whole.length, at + 1 + ((id * 7_919 + round * 104_729) % 9_000))
            outgoing.write(whole.subarray(at, end))
            at = end
            if ((id + round) % 3 === 0) await sleep(1)
          }
          outgoing.end()
        })
      })
      const pool = poolFor(t)
      for (let round = 0; round < 2; round += 1) {
        await Promise.all(
          Array.from({ length: 100 }, async (_, id) => {
            const { seen, handle } = begin(pool, baseUrl, { body: Buffer.from(String(id)) }, (seen, handleNow) => {
              let heard = 0
              const whole = pattern(id, 20_000 + id * 977)
              seen.onData = (chunk) => {
                assert.ok(whole.subarray(heard, heard + chunk.length).equals(chunk), `stream ${id} at ${heard}`)
                heard += chunk.length
                if (id % 5 !== 0) return
                handleNow().pause()
                setTimeout(() => handleNow().resume(), 1)
              }
            })
            await seen.over
            assert.equal(seen.failure, null)
            assert.equal(seen.bytes, 20_000 + id * 977)
            handle.resume()
          }),
        )
      }
      assert.ok(sockets.length <= 100, `${sockets.length} connections`)
    })

    test('who reads slowly stops the provider, and misses nothing', async (t) => {
      const total = 64 << 20
      const piece = pattern(1, 64 << 10)
      let sent = 0
      const { baseUrl } = await serve(t, scheme, (incoming, outgoing) => {
        incoming.resume()
        const more = (): void => {
          while (sent < total) {
            sent += piece.length
            if (!outgoing.write(piece)) {
              outgoing.once('drain', more)
              return
            }
          }
          outgoing.end()
        }
        more()
      })
      const bodyMs = 1_000 // more than a busy machine lets this process wait
      const pool = poolFor(t, { bodyMs })
      const heard = createHash('sha256')
      let bytes = 0
      const { seen, handle } = begin(pool, baseUrl, {}, (seen, handleNow) => {
        seen.onData = (chunk) => {
          seen.chunks.length = 0
          heard.update(chunk)
          const before = bytes
          bytes += chunk.length
          if (before === 0) handleNow().pause()
        }
      })
      await until(() => bytes > 0, 'the first bytes')
      const pausedAtMs = performance.now()
      let before = -1
      // Until nothing more is sent, and beyond the time for silence, which is not the provider's.
      for (let same = 0; same < 3 || performance.now() - pausedAtMs < 1.5 * bodyMs;) {
        await sleep(100)
        same = sent === before ? same + 1 : 0
        before = sent
      }
      assert.ok(bytes <= 192 * 1024, `${bytes} bytes were handed on while paused`)
      assert.ok(sent < total / 2, `${sent} bytes were sent while paused`)
      assert.equal(seen.isOver, false)
      handle.resume()
      await seen.over
      assert.equal(seen.failure, null)
      assert.equal(bytes, total)
      const expected = createHash('sha256')
      for (let at = 0; at < total; at += piece.length) expected.update(piece)
      assert.equal(heard.digest('hex'), expected.digest('hex'))
    })

    test('an answer that nobody takes is given up, also when the provider has left; its connection goes to the next', async (t) => {
      const { baseUrl } = await serve(t, scheme, (incoming, outgoing) => {
        incoming.resume()
        if (incoming.url === '/next') {
          outgoing.end('served')
          return
        }
        outgoing.writeHead(200, { 'content-type': 'text/event-stream' })
        outgoing.write(pattern(1, 1 << 20))
        setTimeout(() => outgoing.destroy(), 50)
      })
      const pool = poolFor(t, { unreadMs: 300, connectionsMax: 1 })
      const startedMs = performance.now()
      const { seen } = begin(pool, baseUrl, {}, (seen, handleNow) => (seen.onData = () => handleNow().pause()))
      const next = begin(pool, baseUrl, { path: '/next' })
      await seen.over
      assert.deepEqual([seen.failure?.kind, seen.statusCode], ['unread', 200])
      assert.ok(performance.now() - startedMs >= 300)
      assert.equal((await next.seen.over).body.toString(), 'served')
    })

    test('a slow reader that takes some of its answer again and again is given all of it', async (t) => {
      const whole = pattern(2, 4 << 20)
      const { baseUrl } = await serve(t, scheme, (incoming, outgoing) => {
        incoming.resume()
        outgoing.end(whole)
      })
      const pauseMs = 150
      const unreadMs = 1_500
      const pool = poolFor(t, { unreadMs })
      let pausedMs = performance.now()
      let pauses = 1
      const { seen } = begin(pool, baseUrl, {}, (seen, handleNow) => {
        seen.onData = () => {
          if (performance.now() - pausedMs < 100 || pauses * pauseMs > 1.5 * unreadMs) return
          pausedMs = performance.now()
          pauses += 1
          handleNow().pause()
          handleNow().pause()
          setTimeout(() => handleNow().resume(), pauseMs)
        }
        setTimeout(() => handleNow().pause(), 0)
        setTimeout(() => handleNow().resume(), pauseMs)
      })
      await seen.over
      assert.equal(seen.failure, null)
      assert.ok(pauses * pauseMs > 1.5 * unreadMs, `${pauses} pauses`)
      assert.ok(seen.body.equals(whole))
    })

    test('paused before anything was sent, an answer waits for its reader', async (t) => {
      const { baseUrl } = await serve(t, scheme, (incoming, outgoing) => {
        incoming.resume()
        outgoing.end('late')
      })
      const pool = poolFor(t)
      const { seen, handle } = begin(pool, baseUrl)
      handle.pause()
      await sleep(100)
      assert.equal(seen.isOver, false)
      handle.resume()
      await seen.over
      assert.equal(seen.body.toString(), 'late')
    })

    test('a cut within an answer, and before it', async (t) => {
      const { baseUrl } = await serveRaw(
        t,
        (socket, index) => {
          if (index === 0) socket.end('HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf')
          else if (index === 1) socket.end('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n')
          else if (index === 2) socket.end('HTTP/1.1 200 OK\r\ntransfer-')
          else if (index === 3) socket.end()
          else socket.destroy()
        },
        scheme,
      )
      const pool = poolFor(t)
      for (const body of ['half', 'half', '', '', '']) {
        const seen = await begin(pool, baseUrl).seen.over
        assert.equal(seen.failure?.kind, 'cut')
        assert.equal(seen.body.toString(), body)
      }
    })

    test('the end of the connection ends an answer without length', async (t) => {
      const { baseUrl, sockets } = await serveRaw(
        t,
        (socket, index) => socket.end(index === 0 ? 'HTTP/1.1 200 OK\r\n\r\nall of it' : 'HTTP/1.0 200 OK\r\n\r\nold'),
        scheme,
      )
      const pool = poolFor(t)
      assert.equal((await answered(pool, baseUrl)).body.toString(), 'all of it')
      assert.equal((await answered(pool, baseUrl)).body.toString(), 'old')
      assert.equal(sockets.length, 2)
    })

    test('an answer that comes before a large body has gone out is heard, and its connection is not used again', async (t) => {
      let closed = 0
      const { baseUrl, sockets } = await serveRaw(
        t,
        (socket) => {
          socket.pause() // the rest of the body is not read
          socket.on('close', () => (closed += 1))
          socket.write('HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig')
        },
        scheme,
      )
      const pool = poolFor(t)
      for (let round = 1; round <= 2; round += 1) {
        const seen = await answered(pool, baseUrl, { body: Buffer.alloc(32 << 20) })
        assert.deepEqual([seen.statusCode, seen.body.toString()], [413, 'big'])
        sockets[round - 1]?.resume()
        await until(() => closed === round, 'the connection closes')
      }
      assert.equal(sockets.length, 2)
    })

    test('a host of two addresses is reached by the one that answers', async (t) => {
      const { port, sockets } = await serve(t, scheme, (incoming, outgoing) => {
        void whenWhole(incoming, (body) => outgoing.end(body))
      })
      t.mock.method(dns, 'lookup', (_host: string, _options: unknown, done: (error: null, addresses: unknown) => void) =>
        done(null, [
          { address: '::1', family: 6 },
          { address: '127.0.0.1', family: 4 },
        ]),
      )
      const pool = poolFor(t)
      const body = randomBytes(200_000)
      for (let round = 0; round < 2; round += 1)
        assert.ok((await answered(pool, `${scheme}://two.test:${port}`, { body })).body.equals(body))
      assert.equal(sockets.length, 1)
    })

    test('a call that is given up closes its connection, and is not heard of again', async (t) => {
      let closed = 0
      const { baseUrl, sockets } = await serve(t, scheme, (incoming, outgoing) => {
        outgoing.on('close', () => (closed += 1))
        incoming.resume()
        if (incoming.url === '/silent') return
        outgoing.write('x'.repeat(100_000))
        outgoing.write('y'.repeat(100_000))
      })
      const pool = poolFor(t)
      const atOnce = begin(pool, baseUrl)
      assert.equal(atOnce.handle.abort(), false, 'nothing was sent')
      const silent = begin(pool, baseUrl, { path: '/silent' })
      await until(() => sockets.length > 0, 'a connection')
      await sleep(20)
      assert.equal(silent.handle.abort(), true)
      const inHead = begin(pool, baseUrl, {}, (seen, handleNow) => (seen.onHead = () => handleNow().abort()))
      const inData = begin(pool, baseUrl, {}, (seen, handleNow) => (seen.onData = () => handleNow().abort()))
      await until(() => closed >= 3, 'the connections close')
      await sleep(20)
      assert.deepEqual(
        [atOnce, silent, inHead, inData].map(({ seen }) => [seen.statusCode, seen.chunks.length, seen.isOver]),
        [
          [null, 0, false],
          [null, 0, false],
          [200, 0, false],
          [200, 1, false],
        ],
      )
      for (const { handle } of [atOnce, silent, inHead, inData]) {
        handle.abort()
        handle.pause()
        handle.resume()
      }
    })
  })
}

describe('what is sent', () => {
  test('the head as it was asked for, and nothing else', async (t) => {
    const heads: string[] = []
    const { baseUrl, port } = await serveRaw(t, (socket, _, head) => {
      heads.push(head)
      socket.write('HTTP/1.1 204 None\r\n\r\n')
    })
    const pool = poolFor(t)
    const headers = ['X-Case', 'a', 'x-case', 'b', 'x-empty', '', 'x-latin', '\xe9']
    await answered(pool, `${baseUrl}/v1/`, { path: '/chat/completions?a=%20', headers, body: null })
    await answered(pool, `${baseUrl}/v1`, { path: '/models', method: 'GET', body: null })
    await answered(pool, baseUrl, { path: '/\xe9', method: 'DELETE', body: null })
    await answered(pool, `${baseUrl}/`, { path: '/x', method: 'PUT', body: Buffer.alloc(0) })
    const common = `host: 127.0.0.1:${port}\r\nconnection: keep-alive\r\n`
    assert.deepEqual(heads, [
      `POST /v1/chat/completions?a=%20 HTTP/1.1\r\n${common}X-Case: a\r\nx-case: b\r\nx-empty: \r\nx-latin: \xe9\r\ncontent-length: 0\r\n\r\n`,
      `GET /v1/models HTTP/1.1\r\n${common}\r\n`,
      `DELETE /\xe9 HTTP/1.1\r\n${common}content-length: 0\r\n\r\n`,
      `PUT /x HTTP/1.1\r\n${common}content-length: 0\r\n\r\n`,
    ])
  })

  test('nothing that the other end would read as something else', async (t) => {
    const { baseUrl, sockets } = await serveRaw(t, (socket) => socket.end('HTTP/1.1 204 None\r\n\r\n'))
    const pool = poolFor(t)
    const calls: Record<string, Partial<UpstreamCall>> = {
      'a line break in a value': { headers: ['x', 'a\r\ny: b'] },
      'a line feed in a value': { headers: ['x', 'a\nb'] },
      'a carriage return in a value': { headers: ['x', 'a\rb'] },
      'a null in a value': { headers: ['x', 'a\0b'] },
      'what becomes a line feed in latin1': { headers: ['x', 'a\u010ay: b'] },
      'a line break in a name': { headers: ['a', 'b', 'x\r\ny', 'a'] },
      'a space in a name': { headers: ['x y', 'a'] },
      'a colon in a name': { headers: ['x:', 'a'] },
      'no name': { headers: ['', 'a'] },
      'a space in the path': { path: '/x HTTP/1.1' },
      'a line break in the path': { path: '/x\r\n' },
      'a DEL in the path': { path: '/\x7f' },
      'what becomes a line break in a path in latin1': { path: '/x\u0120HTTP/1.1\u010d\u010ahost:\u0120x' },
      'a space in the method': { method: 'GET /' },
      'no method': { method: '' },
    }
    for (const [name, more] of Object.entries(calls)) assert.equal(await failed(pool, baseUrl, more), 'connect', name)
    const given = begin(pool, baseUrl, { path: '/a b' })
    assert.equal(given.seen.isOver, false, 'a failure is not heard of before the call is made')
    given.handle.abort()
    await sleep(20)
    assert.equal(given.seen.isOver, false)
    assert.equal(sockets.length, 0)
  })

  test('nothing to a base URL that is none', (t) => {
    const pool = poolFor(t)
    for (const baseUrl of ['', 'nonsense', '//host', 'ftp://host', 'file:///x']) assert.throws(() => begin(pool, baseUrl), TypeError)
  })

  test('an address of version 6 is reached, and named in brackets', async (t) => {
    const hosts: (string | undefined)[] = []
    for (const scheme of SCHEMES) {
      const listener: RequestListener = (incoming, outgoing) => {
        hosts.push(incoming.headers.host)
        outgoing.end()
      }
      const { baseUrl, port } = await listen(t, scheme === 'https' ? createHttps(trusted, listener) : createHttp(listener), scheme, '::1')
      await answered(poolFor(t), baseUrl)
      assert.equal(hosts.pop(), `[::1]:${port}`)
    }
  })
})

describe('connections', () => {
  test('an answer to HEAD has no body, and the connection carries the next request', async (t) => {
    const { baseUrl, sockets } = await serve(t, 'http', (_, outgoing) =>
      outgoing.writeHead(200, { 'content-length': 1_000 }).end('x'.repeat(1_000)),
    )
    const pool = poolFor(t)
    for (const [method, bytes] of [
      ['HEAD', 0],
      ['GET', 1_000],
      ['HEAD', 0],
      ['POST', 1_000],
    ] as const)
      assert.equal((await answered(pool, baseUrl, { method, body: null })).bytes, bytes)
    assert.equal(sockets.length, 1)
  })

  test('those of HTTP/1.0 and those that close are not used again', async (t) => {
    const heads = ['HTTP/1.0 200 OK', 'HTTP/1.1 200 OK\r\nconnection: close', 'HTTP/1.1 200 OK']
    const { baseUrl, sockets } = await serveRaw(t, (socket, index) =>
      socket.write(`${heads[index] ?? 'HTTP/1.1 200 OK'}\r\ncontent-length: 2\r\n\r\nok`),
    )
    const pool = poolFor(t)
    const counts: number[] = []
    for (let round = 0; round < 4; round += 1) {
      assert.equal((await answered(pool, baseUrl)).body.toString(), 'ok')
      counts.push(sockets.length)
    }
    assert.deepEqual(counts, [1, 2, 3, 3])
  })

  test('no more than the limit; who waits is served in turn, whatever became of those in front', async (t) => {
    let open = 0
    let most = 0
    const order: string[] = []
    const { baseUrl } = await serve(t, 'http', (incoming, outgoing) => {
      open += 1
      most = Math.max(most, open)
      order.push(incoming.url ?? '')
      outgoing.on('close', () => (open -= 1))
      setTimeout(() => {
        if (incoming.url === '/2') outgoing.destroy()
        else if (incoming.url === '/5') outgoing.writeHead(200, { connection: 'close' }).end()
        else outgoing.end(incoming.url)
      }, 10)
    })
    const pool = poolFor(t, { connectionsMax: 2 })
    const begun = Array.from({ length: 12 }, (_, index) => begin(pool, baseUrl, { path: `/${index}` }))
    begun[7]?.handle.abort()
    const ends = await Promise.all(begun.filter((_, index) => index !== 7).map(({ seen }) => seen.over))
    assert.deepEqual(
      ends.map(({ failure, body }) => failure?.kind ?? body.toString()),
      ['/0', '/1', 'cut', '/3', '/4', '', '/6', '/8', '/9', '/10', '/11'],
    )
    // Two are out at a time, on two connections: one of them may overtake the other on its way, above all where that had to connect.
    const begunAs = ['/0', '/1', '/2', '/3', '/4', '/5', '/6', '/8', '/9', '/10', '/11']
    assert.deepEqual(order.toSorted(), begunAs.toSorted())
    for (const [place, path] of order.entries()) assert.ok(Math.abs(place - begunAs.indexOf(path)) <= 1, `${path} came as number ${place}`)
    assert.equal(most, 2)
    assert.equal(begun[7]?.seen.isOver, false)
  })

  test('who waits gets another connection when all of the limit are given up', async (t) => {
    const { baseUrl } = await serve(t, 'http', (incoming, outgoing) => {
      if (incoming.url === '/last') outgoing.end('served')
    })
    const pool = poolFor(t, { connectionsMax: 2 })
    const stuck = [begin(pool, baseUrl), begin(pool, baseUrl)]
    const last = [begin(pool, baseUrl, { path: '/last' }), begin(pool, baseUrl, { path: '/last' }), begin(pool, baseUrl, { path: '/last' })]
    await sleep(20)
    for (const { handle } of stuck) handle.abort()
    for (const { seen } of last) assert.equal((await seen.over).body.toString(), 'served')
  })

  test('who waits for one of the limit in vain is told so in the time for a connection', async (t) => {
    const { baseUrl, sockets } = await serve(t, 'http', (incoming, outgoing) => {
      if (incoming.url === '/last') outgoing.end('served')
    })
    const pool = poolFor(t, { connectionsMax: 1, connectMs: 200 })
    const stuck = begin(pool, baseUrl)
    await until(() => sockets.length === 1, 'the first is out')
    const startedMs = performance.now()
    const { failure } = await begin(pool, baseUrl).seen.over
    assert.deepEqual([failure?.kind, failure?.cause.message], ['connect', 'all 1 connections to the provider are in use'])
    assert.ok(performance.now() - startedMs >= 200)
    const last = begin(pool, baseUrl, { path: '/last' })
    stuck.handle.abort()
    assert.equal((await last.seen.over).body.toString(), 'served')
    assert.equal(stuck.seen.isOver, false)
  })

  test('what stands behind an answer is not taken for that of the next in line', async (t) => {
    const { baseUrl, sockets } = await serveRaw(t, (socket, index) => {
      const one = `HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n${index}`
      socket.write(index === 0 ? `${one}HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nsmuggled` : one)
    })
    const waiting = poolFor(t, { connectionsMax: 1 })
    const [first, second] = [begin(waiting, baseUrl), begin(waiting, baseUrl)]
    assert.equal((await first.seen.over).body.toString(), '0')
    assert.equal((await second.seen.over).body.toString(), '1')
    assert.equal(sockets.length, 2)
  })

  test('nor for that of a call which is made as soon as it ended', async (t) => {
    const { baseUrl } = await serveRaw(t, (socket, index) => {
      const one = `HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n${index}\r\n0\r\n\r\n`
      socket.write(index === 0 ? `${one}HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nsmuggled` : one)
    })
    const pool = poolFor(t)
    const next = Promise.withResolvers<Seen>()
    begin(pool, baseUrl, {}, (seen) => (seen.onEnd = () => void answered(pool, baseUrl).then(next.resolve, next.reject)))
    assert.equal((await next.promise).body.toString(), '1')
  })

  test('whose call is over does nothing to the connection, which may be that of another', async (t) => {
    const { baseUrl, sockets } = await serve(t, 'http', (incoming, outgoing) => {
      incoming.resume()
      setTimeout(() => outgoing.end('x'.repeat(1_000)), 10)
    })
    for (const act of ['pause', 'abort', 'resume'] as const) {
      const pool = poolFor(t, { connectionsMax: 1 })
      const first = begin(pool, baseUrl, {}, (seen, handleNow) => (seen.onEnd = () => handleNow()[act]()))
      const second = begin(pool, baseUrl)
      await first.seen.over
      await second.seen.over
      assert.equal(second.seen.failure, null, act)
      assert.equal(second.seen.bytes, 1_000, act)
      const before = sockets.length
      assert.equal((await answered(pool, baseUrl)).bytes, 1_000)
      assert.equal(sockets.length, before)
    }
    assert.equal(sockets.length, 3)
  })

  test('paused within its last piece, a connection goes on for the next', async (t) => {
    const { baseUrl, sockets } = await serve(t, 'http', (incoming, outgoing) => {
      incoming.resume()
      outgoing.end('whole')
    })
    const pool = poolFor(t)
    for (let round = 0; round < 3; round += 1) {
      const { seen } = begin(pool, baseUrl, {}, (seen, handleNow) => (seen.onData = () => handleNow().pause()))
      await seen.over
      assert.equal(seen.body.toString(), 'whole')
    }
    assert.equal(sockets.length, 1)
  })

  test('one that the provider closed while it was free is not used again', async (t) => {
    const { baseUrl, sockets } = await serveRaw(t, (socket, index) => {
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok')
      if (index === 0) setTimeout(() => socket.end(), 10)
      if (index === 1) setTimeout(() => socket.end('HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n'), 10)
      if (index === 2) setTimeout(() => socket.resetAndDestroy(), 10)
    })
    const pool = poolFor(t)
    for (let round = 0; round < 4; round += 1) {
      assert.equal((await answered(pool, baseUrl)).body.toString(), 'ok')
      if (round === 3) break
      await until(() => sockets[round]?.destroyed === true, 'the provider closes')
      // Sockets are read between two turns: the pool has heard of it by then.
      await turn()
      await turn()
    }
    assert.equal(sockets.length, 4)
  })

  test('nor at the very moment at which that is heard of', async (t) => {
    const { baseUrl, sockets } = await serveRaw(t, (socket, index) => {
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok')
      if (index === 0) setTimeout(() => socket.end(), 10)
    })
    const pool = poolFor(t)
    await answered(pool, baseUrl)
    const destroy: unknown = Reflect.get(Socket.prototype, 'destroy')
    assert.ok(typeof destroy === 'function')
    const next = Promise.withResolvers<Begun>()
    const mocked = t.mock.method(Socket.prototype, 'destroy', function (this: Socket, error?: Error) {
      Reflect.apply(destroy, this, [error])
      if (!sockets.includes(this)) {
        mocked.mock.restore()
        next.resolve(begin(pool, baseUrl))
      }
      return this
    })
    const { seen } = await next.promise
    assert.equal((await seen.over).body.toString(), 'ok')
    assert.equal(sockets.length, 2)
  })

  test('free ones are closed after their time, used ones are not', async (t) => {
    const { baseUrl, sockets } = await serve(t, 'http', (incoming, outgoing) => {
      if (incoming.url === '/long') setTimeout(() => outgoing.end('long'), 400)
      else outgoing.end('short')
    })
    const pool = poolFor(t, { freeMs: 100 })
    const long = begin(pool, baseUrl, { path: '/long' })
    await Promise.all([answered(pool, baseUrl), answered(pool, baseUrl)])
    assert.equal(sockets.length, 3)
    await until(() => sockets.filter((socket) => socket.destroyed).length === 2, 'free connections close')
    assert.equal((await long.seen.over).body.toString(), 'long')
    await until(() => sockets.every((socket) => socket.destroyed), 'the last closes')
    await answered(pool, baseUrl)
    assert.equal(sockets.length, 4)
  })

  test('a free one keeps no process up', async (t) => {
    const { baseUrl, sockets } = await serveRaw(t, (socket) => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok'))
    const code = `const { UpstreamPool } = await import(${JSON.stringify(new URL('upstream.ts', import.meta.url).href)})
      const call = { baseUrl: ${JSON.stringify(baseUrl)}, path: '/', method: 'GET', headers: [], body: null }
      const events = { head() {}, data() {}, failed({ cause }) { throw cause } }
      const pool = new UpstreamPool({ freeMs: 60_000 })
      pool.call(call, { ...events, end: () => setTimeout(() => pool.call(call, { ...events, end: () => console.log('twice') }), 20) })`
    const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', '--input-type=module', '--eval', code], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let output = ''
    child.stdout.on('data', (text: Buffer) => (output += text.toString()))
    const timer = setTimeout(() => child.kill(), 10_000)
    const [exitCode] = (await once(child, 'close')) as [number | null]
    clearTimeout(timer)
    assert.deepEqual([exitCode, output], [0, 'twice\n'])
    assert.equal(sockets.length, 1)
  })
})

describe('failures', () => {
  test('nobody listens', async (t) => {
    const pool = poolFor(t)
    const server = createTcp()
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    server.close()
    await once(server, 'close')
    for (const scheme of SCHEMES) assert.equal(await failed(pool, `${scheme}://127.0.0.1:${port}`), 'connect')
  })

  test('a host that has no address', async (t) => {
    t.mock.method(dns, 'lookup', (_host: string, _options: unknown, done: (error: Error) => void) => done(new Error('ENOTFOUND')))
    assert.equal(await failed(poolFor(t), 'http://nowhere.test'), 'connect')
  })

  test('a connection that does not come to stand in time', async (t) => {
    const silent = createTcp()
    const { port } = await listen(t, silent, 'http')
    const pool = poolFor(t, { connectMs: 80 })
    const startMs = performance.now()
    assert.equal(await failed(pool, `https://127.0.0.1:${port}`), 'connect')
    assert.ok(performance.now() - startMs >= 80)
  })

  test('a connection that breaks before it stands', async (t) => {
    const { port } = await listen(
      t,
      createTcp((socket) => socket.destroy()),
      'http',
    )
    assert.equal(await failed(poolFor(t), `https://127.0.0.1:${port}`), 'connect')
  })

  test('no head in time', async (t) => {
    let closed = 0
    const { baseUrl } = await serve(t, 'http', (incoming) => {
      incoming.resume()
      incoming.socket.on('close', () => (closed += 1))
    })
    const pool = poolFor(t, { headersMs: 80, bodyMs: 10_000 })
    const startMs = performance.now()
    const { seen } = begin(pool, baseUrl)
    await seen.over
    assert.deepEqual([seen.failure?.kind, seen.statusCode], ['timeout', null])
    assert.ok(performance.now() - startMs >= 80)
    await until(() => closed === 1, 'the connection closes')
  })

  test('an interim answer is no head', async (t) => {
    const { baseUrl } = await serveRaw(t, (socket) => socket.write('HTTP/1.1 102 Processing\r\n\r\n'))
    assert.equal(await failed(poolFor(t, { headersMs: 80, bodyMs: 10_000 }), baseUrl), 'timeout')
  })

  test('silence within an answer; one that goes on slowly is no silence', async (t) => {
    let closed = 0
    const { baseUrl } = await serve(t, 'http', (incoming, outgoing) => {
      incoming.socket.on('close', () => (closed += 1))
      outgoing.write('first')
      if (incoming.url === '/silent') return
      let left = 10
      const timer = setInterval(() => {
        left -= 1
        outgoing.write('more')
        if (left > 0) return
        clearInterval(timer)
        outgoing.end()
      }, 30)
    })
    const pool = poolFor(t, { headersMs: 10_000, bodyMs: 120 })
    const [silent, slow] = [begin(pool, baseUrl, { path: '/silent' }), begin(pool, baseUrl)]
    await silent.seen.over
    assert.deepEqual([silent.seen.failure?.kind, silent.seen.body.toString()], ['timeout', 'first'])
    await until(() => closed === 1, 'the connection closes')
    await slow.seen.over
    assert.deepEqual([slow.seen.failure, slow.seen.bytes], [null, 45])
  })

  test('what is no answer', async (t) => {
    const wrong = [
      'SSH-2.0-OpenSSH\r\n\r\n',
      'HTTP/1.1 200 OK\r\nbad header\r\n\r\n',
      'HTTP/1.1 101 Switching\r\n\r\n',
      `HTTP/1.1 200 OK\r\nx: ${'y'.repeat(70_000)}`,
    ]
    const { baseUrl, sockets } = await serveRaw(t, (socket, index) =>
      socket.write(wrong[index] ?? 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\nz\r\n'),
    )
    const pool = poolFor(t)
    for (const _ of wrong) {
      const { seen } = begin(pool, baseUrl)
      await seen.over
      assert.deepEqual([seen.failure?.kind, seen.statusCode], ['cut', null])
    }
    const { seen } = begin(pool, baseUrl)
    await seen.over
    assert.deepEqual([seen.failure?.kind, seen.statusCode, seen.body.toString()], ['cut', 200, 'x'])
    await until(() => sockets.every((socket) => socket.destroyed), 'all connections close')
  })

  test('the end of the pool: each call hears what became of it, and nothing is left', async (t) => {
    const { baseUrl, sockets } = await serve(t, 'http', (incoming, outgoing) => {
      incoming.resume()
      if (incoming.url === '/whole') outgoing.end()
      else outgoing.write('begun')
    })
    const silent = await listen(
      t,
      createTcp((socket) => socket.resume()),
      'http',
    )
    const pool = new UpstreamPool({ connectionsMax: 2 })
    await answered(pool, baseUrl, { path: '/whole' })
    const out = begin(pool, baseUrl)
    await until(() => out.seen.bytes > 0, 'an answer begins')
    const connecting = begin(pool, `https://127.0.0.1:${silent.port}`)
    const given = begin(pool, baseUrl)
    given.handle.abort()
    const others = [begin(pool, baseUrl), begin(pool, baseUrl)]
    await sleep(20)
    pool.close()
    assert.deepEqual(
      [out, connecting, ...others].map(({ seen }) => seen.failure?.kind),
      ['cut', 'connect', 'cut', 'connect'],
    )
    assert.equal(given.seen.isOver, false)
    assert.equal(await failed(pool, baseUrl), 'connect')
    await until(() => [...sockets, ...silent.sockets].every((socket) => socket.destroyed), 'all connections close')
    pool.close()
  })
})

describe('TLS', () => {
  test('a certificate that is not trusted, or that is for another name, however often it is shown', async (t) => {
    for (const certificate of [unknown, misnamed]) {
      for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
        let requests = 0
        const server = createHttps({ ...certificate, maxVersion }, (_, outgoing) => {
          requests += 1
          outgoing.end()
        })
        const { port } = await listen(t, server, 'https')
        const pool = poolFor(t)
        for (let round = 0; round < 3; round += 1) {
          assert.equal(await failed(pool, `https://localhost:${port}`), 'connect')
          assert.equal(await failed(pool, `https://127.0.0.1:${port}`), 'connect')
        }
        assert.equal(requests, 0)
      }
    }
  })

  test('the name is asked for, an address is not; HTTP/1.1 is chosen', async (t) => {
    const asked: unknown[] = []
    const server = createHttps({ ...trusted, ALPNProtocols: ['h2', 'http/1.1'] }, ({ socket }, outgoing) => {
      const { servername, alpnProtocol } = socket as TLSSocket & { servername?: string | false }
      asked.push([servername, alpnProtocol])
      outgoing.end()
    })
    const { port } = await listen(t, server, 'https')
    const pool = poolFor(t)
    await answered(pool, `https://localhost:${port}`)
    await answered(pool, `https://127.0.0.1:${port}`)
    assert.deepEqual(asked, [
      ['localhost', 'http/1.1'],
      [false, 'http/1.1'],
    ])
  })

  test('a server that speaks no HTTP/1.1', async (t) => {
    const { port } = await listen(t, createTls({ ...trusted, ALPNProtocols: ['h2'] }), 'https')
    assert.equal(await failed(poolFor(t), `https://127.0.0.1:${port}`), 'connect')
  })

  test('a session is taken up again by the next connection, also after one that failed', async (t) => {
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
      const reused: boolean[] = []
      const server = createHttps({ ...trusted, maxVersion }, ({ socket }, outgoing) => {
        reused.push((socket as TLSSocket).isSessionReused())
        outgoing.writeHead(200, { connection: 'close' }).end('ok')
      })
      const { baseUrl } = await listen(t, server, 'https')
      const pool = poolFor(t)
      for (let round = 0; round < 3; round += 1) assert.equal((await answered(pool, baseUrl)).body.toString(), 'ok')
      assert.deepEqual(reused, [false, true, true])
      server.setTicketKeys(randomBytes(48)) // as after a restart: sessions of before are not known any more
      for (let round = 0; round < 2; round += 1) assert.equal((await answered(pool, baseUrl)).body.toString(), 'ok')
      assert.deepEqual(reused.slice(3), [false, true])
    }
  })
})
