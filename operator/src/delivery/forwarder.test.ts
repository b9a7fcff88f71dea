import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import type { ReceivedReport } from '@farebox/crds/delivery.ts'
import { createAuthority, sign } from '../../../test/cluster/certificates.ts'
import { Forwarder } from './forwarder.ts'

test('reports reach a leader whose authority is itself signed by another', async (context) => {
  const authority = await createAuthority('middle', await createAuthority('root'))
  const { certificate, key } = await sign(authority, { name: 'operator', hosts: ['operator.test'] })
  const came = Promise.withResolvers<string>()
  const leader = createServer({ cert: certificate, key }, (asked, answer) => {
    void text(asked).then(came.resolve)
    answer.writeHead(202).end()
  }).listen(0, '127.0.0.1')
  await once(leader, 'listening')
  const forwarder = new Forwarder({
    leader: () => `127.0.0.1:${(leader.address() as AddressInfo).port}`,
    ca: () => authority.certificate,
    serverName: 'operator.test',
    token: () => 'token',
    nowMs: Date.now,
    batchMs: 0,
    events: { count: () => undefined, log: (_level, message, fields) => came.reject(new Error(JSON.stringify({ message, ...fields }))) },
  })
  context.after(() => {
    forwarder.close()
    leader.close()
  })
  forwarder.add({ pod: { namespace: 'shop', name: 'desk', uid: 'one' }, receivedAtMs: 1 } as ReceivedReport)
  assert.match(await came.promise, /"uid":"one"/)
})
