import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:https'
import { connect } from 'node:net'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { setTimeout as sleep } from 'node:timers/promises'
import { createAuthority, sign } from '../../../test/cluster/certificates.ts'
import { OperatorClient } from './operator-client.ts'
import type { StreamEnd } from './reconnect.ts'
import { Trust } from './trust.ts'

test('an operator whose authority is itself signed by another is trusted, for the stream and for reports', async (context) => {
  const authority = await createAuthority('middle', await createAuthority('root'))
  const { certificate, key } = await sign(authority, { name: 'operator', hosts: ['localhost'] })
  const operator = createServer({ cert: certificate, key }, ({ method }, answer) => {
    if (method === 'POST') answer.end('{}')
    else answer.writeHead(200, { 'content-type': 'text/event-stream' }).write('event: beat\ndata: {"nowMs":7}\n\n')
  }).listen(0, 'localhost')
  await once(operator, 'listening')
  const folder = mkdtempSync(join(tmpdir(), 'farebox-client-'))
  writeFileSync(join(folder, 'ca.crt'), authority.certificate)
  writeFileSync(join(folder, 'token'), 'token')
  const beat = Promise.withResolvers<number>()
  const ignore = (): void => undefined
  const client = new OperatorClient({
    url: `https://localhost:${(operator.address() as AddressInfo).port}`,
    trust: new Trust(join(folder, 'ca.crt'), { toldTrust: null, keepToldTrust: () => undefined }),
    tokenFile: join(folder, 'token'),
    have: () => null,
    listener: {
      config: ignore,
      current: ignore,
      released: ignore,
      connected: ignore,
      beat: beat.resolve,
      ended: (end: StreamEnd) => beat.reject(new Error(JSON.stringify(end))),
    },
  })
  context.after(() => {
    client.close()
    operator.closeAllConnections()
    operator.close()
    rmSync(folder, { recursive: true })
  })
  client.start()
  assert.equal(await beat.promise, 7)
  assert.equal((await client.report('{}')).status, 200)
})

/** Listens, and takes no connection from its short queue: the next ones are not answered by the kernel. */
const DEAF = `
const { createServer } = require('node:net')
const { parentPort } = require('node:worker_threads')
const server = createServer().listen({ host: '127.0.0.1', port: 0, backlog: 1 }, () => {
  parentPort.postMessage(server.address().port)
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
})`

test('a machine that answers nothing at all is given up in time, not when TCP gives it up', async (context) => {
  const deaf = new Worker(DEAF, { eval: true })
  const [port] = (await once(deaf, 'message')) as [number]
  const queued = Array.from({ length: 4 }, () => connect(port, '127.0.0.1').on('error', () => undefined))
  await Promise.race(queued.map((socket) => once(socket, 'connect')))
  await sleep(50)
  const folder = mkdtempSync(join(tmpdir(), 'farebox-client-'))
  writeFileSync(join(folder, 'ca.crt'), (await createAuthority('any')).certificate)
  writeFileSync(join(folder, 'token'), 'token')
  const ended = Promise.withResolvers<StreamEnd>()
  const ignore = (): void => undefined
  const client = new OperatorClient({
    url: `https://127.0.0.1:${port}`,
    trust: new Trust(join(folder, 'ca.crt'), { toldTrust: null, keepToldTrust: () => undefined }),
    tokenFile: join(folder, 'token'),
    have: () => null,
    listener: { config: ignore, current: ignore, released: ignore, connected: ignore, beat: ignore, ended: ended.resolve },
    connectMsMax: 200,
  })
  context.after(async () => {
    client.close()
    for (const socket of queued) socket.destroy()
    await deaf.terminate()
    rmSync(folder, { recursive: true })
  })
  client.start()
  const end = await Promise.race([ended.promise, sleep(10_000, null, { ref: false })])
  assert.deepEqual(end, { kind: 'refused', reason: 'the operator did not answer in time', waitMs: null })
})
