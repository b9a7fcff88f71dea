import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
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
    trust: new Trust(join(folder, 'ca.crt')),
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
