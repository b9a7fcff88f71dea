import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { connect } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { describe, test } from 'node:test'
import type { TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { StreamedAnswer } from './streamed-answer.ts'

const HEAD = ['content-type', 'text/event-stream']
const ENDLESS = 'HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n'
const nothing = (): void => undefined

/** A client whose bytes are looked at one by one. */
interface Client {
  readonly socket: Socket
  /** What has come so far. */
  readonly text: () => string
  readonly closed: Promise<unknown>
}

async function serve(
  t: TestContext,
  listener: (incoming: IncomingMessage, outgoing: ServerResponse) => void,
): Promise<() => Promise<Client>> {
  const server = createServer((incoming, outgoing) => {
    outgoing.sendDate = false
    listener(incoming, outgoing)
  })
  server.keepAliveTimeout = 60_000
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.close()
    server.closeAllConnections()
  })
  return async () => {
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
    let text = ''
    socket.on('data', (bytes) => (text += bytes.toString('latin1')))
    socket.on('error', nothing)
    const closed = new Promise((resolve) => socket.once('close', resolve))
    t.after(() => socket.destroy())
    await once(socket, 'connect')
    return { socket, text: () => text, closed }
  }
}

async function until(holds: () => boolean, what: string): Promise<void> {
  const endMs = performance.now() + 30_000
  while (!holds()) {
    if (performance.now() > endMs) assert.fail(`not in time: ${what}`)
    await sleep(5)
  }
}

function get(path: string, more = ''): string {
  return `GET ${path} HTTP/1.1\r\nhost: x\r\n${more}\r\n`
}

function pieces(...texts: readonly string[]): Buffer[] {
  return texts.map((text) => Buffer.from(text, 'latin1'))
}

/** Head and frames as they stand on the wire, of a connection that goes on. */
function onWire(...frames: readonly string[]): string {
  return `${ENDLESS}Connection: keep-alive\r\nKeep-Alive: timeout=60\r\nTransfer-Encoding: chunked\r\n\r\n${frames.join('')}0\r\n\r\n`
}

describe('chunks', () => {
  test('are framed each as one, byte for byte', async (t) => {
    const client = await (
      await serve(t, (_, outgoing) => {
        outgoing.writeHead(200, HEAD)
        const answer = new StreamedAnswer(outgoing, nothing)
        assert.equal(answer.write(pieces('one')), true)
        assert.equal(answer.write(pieces('t', '', 'wo', '\r\n')), true)
        assert.equal(answer.write(pieces('x'.repeat(9), 'y'.repeat(7))), true)
        assert.equal(answer.write(pieces('\0\xff')), true)
        outgoing.end()
      })
    )()
    client.socket.write(get('/'))
    const expected = onWire('3\r\none\r\n', '5\r\ntwo\r\n\r\n', `10\r\n${'x'.repeat(9)}${'y'.repeat(7)}\r\n`, '2\r\n\0\xff\r\n')
    await until(() => client.text().length >= expected.length, 'the answer')
    assert.equal(client.text(), expected)
  })

  test('are copied: their memory may be used again', async (t) => {
    const big = 'x'.repeat(5_000)
    const client = await (
      await serve(t, (_, outgoing) => {
        outgoing.writeHead(200, HEAD)
        const answer = new StreamedAnswer(outgoing, nothing)
        for (const text of ['one', big, 'two']) {
          const given = pieces(text)
          answer.write(given)
          given[0]?.fill('#')
        }
        outgoing.end()
      })
    )()
    client.socket.write(get('/'))
    const expected = onWire('3\r\none\r\n', `1388\r\n${big}\r\n`, '3\r\ntwo\r\n')
    await until(() => client.text().length >= expected.length, 'the answer')
    assert.equal(client.text(), expected)
  })

  test('of nothing are not written: they would end the answer', async (t) => {
    const client = await (
      await serve(t, (incoming, outgoing) => {
        outgoing.writeHead(200, HEAD)
        const answer = new StreamedAnswer(outgoing, nothing)
        assert.equal(answer.write([]), true)
        assert.equal(answer.write(pieces('', '')), true)
        if (incoming.url === '/some') {
          answer.write(pieces('a'))
          answer.write([])
          answer.write(pieces('b'))
        }
        outgoing.end()
      })
    )()
    client.socket.write(get('/none'))
    await until(() => client.text().length >= onWire().length, 'the empty answer')
    client.socket.write(get('/some'))
    const expected = onWire() + onWire('1\r\na\r\n', '1\r\nb\r\n')
    await until(() => client.text().length >= expected.length, 'the other')
    assert.equal(client.text(), expected)
  })

  test('leave as they are written, the head before them', async (t) => {
    const steps: (() => void)[] = []
    const client = await (
      await serve(t, (_, outgoing) => {
        outgoing.writeHead(200, HEAD)
        const answer = new StreamedAnswer(outgoing, nothing)
        steps.push(
          () => answer.write(pieces('one')),
          () => outgoing.end(),
        )
      })
    )()
    client.socket.write(get('/'))
    const head = onWire().slice(0, -'0\r\n\r\n'.length)
    await until(() => client.text().length >= head.length, 'the head')
    assert.equal(client.text(), head)
    steps[0]?.()
    await until(() => client.text().endsWith('3\r\none\r\n'), 'the chunk')
    steps[1]?.()
    await until(() => client.text() === onWire('3\r\none\r\n'), 'the end')
  })
})

test('a client of HTTP/1.0 gets no chunks', async (t) => {
  const client = await (
    await serve(t, (_, outgoing) => {
      outgoing.writeHead(200, HEAD)
      const answer = new StreamedAnswer(outgoing, nothing)
      answer.write(pieces('one ', 'and '))
      answer.write([])
      answer.write(pieces('two'))
      outgoing.end()
    })
  )()
  client.socket.write('GET / HTTP/1.0\r\n\r\n')
  await client.closed
  assert.equal(client.text(), `${ENDLESS}Connection: close\r\n\r\none and two`)
})

test('an answer of a known length gets no chunks', async (t) => {
  const client = await (
    await serve(t, (_, outgoing) => {
      outgoing.writeHead(200, [...HEAD, 'content-length', '3'])
      new StreamedAnswer(outgoing, nothing).write(pieces('o', 'ne'))
      outgoing.end()
    })
  )()
  client.socket.write(get('/', 'connection: close\r\n'))
  await client.closed
  assert.equal(client.text(), `${ENDLESS}content-length: 3\r\nConnection: close\r\n\r\none`)
})

test('answers to requests in a row keep their order, and the connection goes on', async (t) => {
  const answers = new Map<string, { readonly outgoing: ServerResponse; readonly answer: StreamedAnswer }>()
  const client = await (
    await serve(t, (incoming, outgoing) => {
      outgoing.writeHead(200, HEAD)
      answers.set(incoming.url ?? '', { outgoing, answer: new StreamedAnswer(outgoing, nothing) })
    })
  )()
  client.socket.write(get('/1') + get('/2') + get('/3'))
  await until(() => answers.size === 3, 'three requests')
  const say = (path: string, text: string): boolean | undefined => answers.get(path)?.answer.write(pieces(text))
  say('/2', 'two ')
  say('/3', 'three ')
  say('/1', 'one ')
  say('/2', 'deux ')
  answers.get('/3')?.outgoing.end()
  await until(() => client.text().endsWith('one \r\n'), 'the first chunk')
  assert.doesNotMatch(client.text(), /two|deux|three/)
  say('/1', 'un')
  answers.get('/1')?.outgoing.end()
  await until(() => client.text().includes('deux'), 'the second answer')
  say('/2', 'zwei')
  assert.doesNotMatch(client.text(), /three/)
  answers.get('/2')?.outgoing.end()
  const expected =
    onWire('4\r\none \r\n', '2\r\nun\r\n') + onWire('4\r\ntwo \r\n', '5\r\ndeux \r\n', '4\r\nzwei\r\n') + onWire('6\r\nthree \r\n')
  await until(() => client.text().length >= expected.length, 'all answers')
  assert.equal(client.text(), expected)
  client.socket.write(get('/4'))
  await until(() => answers.has('/4'), 'another request')
  say('/4', 'four')
  answers.get('/4')?.outgoing.end()
  await until(() => client.text().length > expected.length && client.text().endsWith('0\r\n\r\n'), 'its answer')
  assert.equal(client.text(), expected + onWire('4\r\nfour\r\n'))
})

describe('a slow client', () => {
  for (const version of ['1.1', '1.0']) {
    test(`of HTTP/${version} holds the writer up, until it has read`, async (t) => {
      const piece = Buffer.alloc(64 << 10, 'z')
      const total = 32 << 20
      const state = { written: 0, drains: 0, waits: 0, isEnded: false }
      const client = await (
        await serve(t, (_, outgoing) => {
          outgoing.writeHead(200, HEAD)
          const answer: StreamedAnswer = new StreamedAnswer(outgoing, () => {
            state.drains += 1
            more()
          })
          const more = (): void => {
            while (state.written < total) {
              state.written += piece.length
              if (answer.write([piece])) continue
              state.waits += 1
              answer.write(pieces('!')) // what was under way already is written all the same
              return
            }
            if (state.isEnded) return
            state.isEnded = true
            outgoing.end()
          }
          more()
        })
      )()
      client.socket.pause()
      client.socket.write(`GET / HTTP/${version}\r\nhost: x\r\n\r\n`)
      await until(() => state.waits > 0, 'the client is slow')
      await sleep(100)
      const held = state.written
      await sleep(50)
      assert.equal(state.written, held)
      assert.ok(held < total / 2, `${held} bytes were written to who does not read`)
      client.socket.resume()
      await until(() => state.isEnded && (version === '1.0' ? client.socket.destroyed : client.text().endsWith('0\r\n\r\n')), 'all of it')
      assert.equal(state.drains, state.waits, 'each wait is ended once')
      const heard = client.text()
      assert.equal((heard.match(/z/g) ?? []).length, total)
      assert.equal((heard.match(/!/g) ?? []).length, state.waits)
    })
  }
})

describe('a client that is gone', () => {
  test('takes what is written without an error, and nobody waits for it to drain', async (t) => {
    const state: { answer: StreamedAnswer | null; outgoing: ServerResponse | null; drains: number; closed: boolean } = {
      answer: null,
      outgoing: null,
      drains: 0,
      closed: false,
    }
    const client = await (
      await serve(t, (_, outgoing) => {
        outgoing.writeHead(200, HEAD)
        outgoing.on('close', () => (state.closed = true))
        state.outgoing = outgoing
        state.answer = new StreamedAnswer(outgoing, () => (state.drains += 1))
        state.answer.write(pieces('one'))
      })
    )()
    client.socket.write(get('/'))
    await until(() => client.text().endsWith('one\r\n'), 'the first chunk')
    client.socket.resetAndDestroy()
    for (let round = 0; round < 20; round += 1) {
      state.answer?.write(pieces('more'))
      await sleep(2)
    }
    await until(() => state.closed, 'the server notices')
    assert.equal(state.answer?.write(pieces('more')), false)
    state.outgoing?.end()
    await sleep(10)
    assert.equal(state.drains, 0)
  })

  test('before its answer began', async (t) => {
    const gone = Promise.withResolvers<ServerResponse>()
    const client = await (
      await serve(t, (_, outgoing) => {
        outgoing.on('close', () => gone.resolve(outgoing))
      })
    )()
    client.socket.write(get('/'))
    await sleep(20)
    client.socket.destroy()
    const outgoing = await gone.promise
    outgoing.writeHead(200, HEAD)
    const answer = new StreamedAnswer(outgoing, () => assert.fail('nobody drains'))
    answer.write(pieces('one'))
    answer.write(pieces('two'))
    outgoing.end()
    await sleep(10)
  })
})
