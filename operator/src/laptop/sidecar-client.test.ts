import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, test } from 'node:test'
import { portThatFetchBlocks } from '../../../test/support/blocked-port.ts'
import { SidecarClient } from './sidecar-client.ts'

const servers: { close(): void; closeAllConnections(): void }[] = []
after(() => {
  for (const server of servers) {
    server.close()
    server.closeAllConnections()
  }
})

async function originOf(listener: RequestListener, port = 0): Promise<string> {
  const server = createServer(listener).listen(port, '127.0.0.1')
  servers.push(server)
  await once(server, 'listening')
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

const LATE = { message: /^http:\/\/127\.0\.0\.1:\d+ did not answer within 0\.05 s$/ }

test('a sidecar that is too slow is told apart from none', async () => {
  const silent = await originOf(() => undefined)
  await assert.rejects(new SidecarClient(silent, { timeoutMs: 50 }).status(), LATE)
  await assert.rejects(new SidecarClient('http://127.0.0.1:1').status(), { message: 'no sidecar answers at http://127.0.0.1:1' })
})

test('so is one that does not get to the end of its answer', async () => {
  const halting = await originOf((_, response) => void response.writeHead(200, { 'content-type': 'application/json' }).write('{"con'))
  await assert.rejects(new SidecarClient(halting, { timeoutMs: 50 }).status(), LATE)
})

test('so is one that leaves in the middle of it', async () => {
  const leaving = await originOf((_, response) => {
    response.writeHead(200, { 'content-type': 'application/json' }).write('{"con')
    setTimeout(() => response.destroy(), 20)
  })
  await assert.rejects(new SidecarClient(leaving).status(), { message: `no sidecar answers at ${leaving}` })
})

test('whatever answers and is no sidecar is told in one line', async () => {
  const page = await originOf((_, response) => response.end('<html>hello</html>'))
  const other = await originOf((_, response) => response.end('{"config":{},"conversations":7}'))
  const strange = (origin: string) => ({ message: `${origin} is not a sidecar, or one of another version` })
  for (const origin of [page, other]) {
    const client = new SidecarClient(`${origin}/`)
    await assert.rejects(client.status(), strange(origin))
    await assert.rejects(client.conversations(), strange(origin))
    await assert.rejects(client.conversation('mine'), strange(origin))
    await assert.rejects(client.users({ limit: 1 }), strange(origin))
    await assert.rejects(client.ledger().next(), strange(origin))
    await assert.rejects(client.balances([]), strange(origin))
  }
  const missing = await originOf((_, response) => response.writeHead(404).end('no such page'))
  await assert.rejects(new SidecarClient(missing).status(), { message: `${missing}/farebox/v1/status answered 404` })
})

test('a redirect is not followed, and where it leads is told', async () => {
  let location = ''
  const origin = await originOf((_, response) => response.writeHead(308, { location }).end('moved'))
  const told = (rest: string) => ({ message: `${origin}/farebox/v1/status answered 308${rest}` })
  for (const [to, rest] of [
    ['https://sidecar.example/farebox/v1/status', ': use --url https://sidecar.example'],
    ['/behind/farebox/v1/status', `: use --url ${origin}/behind`],
    ['https://login.example/?next=1', ': it leads to https://login.example/?next=1'],
    ['https://:::', ''],
  ] as const) {
    location = to
    await assert.rejects(new SidecarClient(origin).status(), told(rest))
  }
})

test('what a sidecar is asked with is JSON, and its no is told in its own words', async () => {
  const asked: string[] = []
  const origin = await originOf((request, response) => {
    request.setEncoding('utf8').on('data', (text: string) => asked.push(`${request.method} ${request.headers['content-type']} ${text}`))
    request.on('end', () => response.writeHead(409).end('{"error":{"message":"not now"}}'))
  })
  await assert.rejects(new SidecarClient(origin).confirmResolution('mine'), { message: 'not now' })
  assert.deepEqual(asked, ['POST application/json {"outcome":"confirmed"}'])
})

test('a sidecar may be at a port that browsers do not go to', async () => {
  const origin = await originOf((_, response) => response.end('{"conversations":[]}'), await portThatFetchBlocks())
  assert.deepEqual(await new SidecarClient(origin).conversations(), [])
})

test('a list may take longer', async () => {
  const slow = await originOf((_, response) => void setTimeout(() => response.end('{"conversations":[]}'), 150))
  assert.deepEqual(await new SidecarClient(slow, { timeoutMs: 50 }).conversations(), [])
  await assert.rejects(new SidecarClient(slow, { listTimeoutMs: 50 }).conversations(), LATE)
})

test('a sidecar that does not know its accounts to be asked for is an older one; any other no is told', async () => {
  let status = 404
  const origin = await originOf((_, response) => response.writeHead(status).end('{"error":{"message":"no such resource"}}'))
  assert.equal(await new SidecarClient(origin).accounts(null), null)
  status = 503
  await assert.rejects(new SidecarClient(origin).accounts('next'), { message: 'no such resource' })
})

test('balances below zero are read: somebody has changed them', async () => {
  const changed = { balances: { a: { spent: '-1.00', held: '-0.50' } } }
  const origin = await originOf((_, response) => response.end(JSON.stringify(changed)))
  assert.deepEqual(await new SidecarClient(origin).balances(['a']), changed.balances)
})
