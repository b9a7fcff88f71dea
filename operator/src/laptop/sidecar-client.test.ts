import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, test } from 'node:test'
import { SidecarClient } from './sidecar-client.ts'

const servers: { close(): void; closeAllConnections(): void }[] = []
after(() => {
  for (const server of servers) {
    server.close()
    server.closeAllConnections()
  }
})

async function originOf(listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, '127.0.0.1')
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

test('a list may take longer', async () => {
  const slow = await originOf((_, response) => void setTimeout(() => response.end('{"conversations":[]}'), 150))
  assert.deepEqual(await new SidecarClient(slow, { timeoutMs: 50 }).conversations(), [])
  await assert.rejects(new SidecarClient(slow, { listTimeoutMs: 50 }).conversations(), LATE)
})
