import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { afterEach, beforeEach, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { startStoreProxy } from './store-proxy.ts'
import type { Lane, StoreProxy } from './store-proxy.ts'

/** Long enough for bytes to be there on a machine that does other things too; what must not come has this long to come. */
const SOON_MS = 150

let server: EchoServer
let proxy: StoreProxy
let lane: Lane
beforeEach(async () => {
  server = await startEcho('one')
  proxy = await startStoreProxy(2, server.port)
  lane = firstOf(proxy.lanes)
})
afterEach(async () => {
  await proxy.close()
  server.close()
})

test('carries bytes, late when it is told so', async () => {
  const client = await dial(lane)
  assert.equal(await client.ask('a'), 'one:a')
  lane.delay(SOON_MS)
  const askedAt = performance.now()
  assert.equal(await client.ask('b'), 'one:b')
  assert.ok(performance.now() - askedAt >= 2 * SOON_MS - 10)
})

test('stalled: bytes wait, and arrive in their order when it is over, even those of one who has left', async () => {
  const client = await dial(lane)
  await lane.turn('stalled')
  client.socket.write('a')
  client.socket.write('b')
  client.socket.end()
  await sleep(SOON_MS)
  assert.equal(server.heard(), '')
  await lane.turn('open')
  await sleep(SOON_MS)
  assert.equal(server.heard(), 'ab')
})

test('deaf: what is sent arrives, no answer comes, and the connection is broken when it is over', async () => {
  const client = await dial(lane)
  await lane.turn('deaf')
  client.socket.write('a')
  await sleep(SOON_MS)
  assert.deepEqual([server.heard(), client.heard()], ['a', ''])
  await lane.turn('open')
  await client.broken
})

test('silent: nothing arrives, a new connection is not answered, and the other lane goes on', async () => {
  const other = await dial(proxy.lanes[1] ?? lane)
  const client = await dial(lane)
  await lane.turn('silent')
  const late = await dial(lane)
  client.socket.write('a')
  late.socket.write('b')
  await sleep(SOON_MS)
  assert.deepEqual([server.heard(), client.heard(), late.heard()], ['', '', ''])
  assert.equal(await other.ask('c'), 'one:c')
  await lane.turn('open')
  await Promise.all([client.broken, late.broken])
  assert.equal(await (await dial(lane)).ask('d'), 'one:d')
})

test('refused: breaks what is connected and lets nobody in, until it is over', async () => {
  const client = await dial(lane)
  await lane.turn('refused')
  await client.broken
  await assert.rejects(dial(lane), /ECONNREFUSED/)
  await lane.turn('open')
  assert.equal(await (await dial(lane)).ask('a'), 'one:a')
})

test('pointed at another server: what was connected is broken, and new connections are there', async () => {
  const second = await startEcho('two')
  try {
    const client = await dial(lane)
    proxy.pointAt(second.port)
    await client.broken
    assert.equal(await (await dial(lane)).ask('a'), 'two:a')
  } finally {
    second.close()
  }
})

interface EchoServer {
  readonly port: number
  /** All that came, of any connection. */
  heard(): string
  close(): void
}

async function startEcho(name: string): Promise<EchoServer> {
  const sockets = new Set<Socket>()
  let heard = ''
  const server: Server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined)
    socket.on('data', (bytes) => {
      heard += bytes.toString()
      socket.write(`${name}:${bytes.toString()}`)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    heard: () => heard,
    close() {
      for (const socket of sockets) socket.destroy()
      server.close()
    },
  }
}

interface Client {
  readonly socket: Socket
  readonly broken: Promise<unknown>
  heard(): string
  ask(text: string): Promise<string>
}

async function dial({ port }: Lane): Promise<Client> {
  const socket = connect(port, '127.0.0.1')
  await once(socket, 'connect')
  let heard = ''
  socket.on('data', (bytes: Buffer) => {
    heard += bytes.toString()
  })
  socket.on('error', () => undefined)
  return {
    socket,
    broken: new Promise((resolve) => socket.once('close', resolve)),
    heard: () => heard,
    async ask(text) {
      const answered = once(socket, 'data')
      socket.write(text)
      return String((await answered)[0])
    },
  }
}

function firstOf<Item>([first]: readonly Item[]): Item {
  assert.ok(first !== undefined)
  return first
}
