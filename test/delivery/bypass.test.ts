/** Connections of a pod to its provider that do not go through the sidecar. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { networkInterfaces } from 'node:os'
import { test } from 'node:test'
import { makeConfig } from '../support/make.ts'
import { startOperator } from '../support/operator-delivery.ts'
import { startSidecar } from '../support/sidecar.ts'

const address = Object.values(networkInterfaces())
  .flat()
  .find((one) => one !== undefined && one.family === 'IPv4' && !one.internal)?.address

test(
  'T72: a connection of the pod to the provider past the sidecar is found; its own are not',
  { skip: address === undefined },
  async () => {
    const near = createServer((socket) => socket.on('error', () => undefined))
    near.listen(0, address)
    await once(near, 'listening')
    const { port } = near.address() as AddressInfo
    const operator = await startOperator()
    const pod = operator.addPod('app-1')
    const sidecar = await startSidecar(makeConfig(`http://${address}:${port}/v1`), { environment: operator.environment(pod) })
    try {
      // One of the sidecar's own, which that server never answers.
      void fetch(`${sidecar.url}/openai/v1/chat/completions`, {
        method: 'POST',
        body: JSON.stringify({ model: 'gpt-4o', messages: [{ role: 'user', content: 'Hello.' }] }),
      }).catch(() => undefined)
      const honest = await operator.untilReport(pod, ({ bypass }) => bypass.looks >= 1)
      assert.deepEqual([honest.bypass.found, honest.bypass.lastSeen], [0, null])
      const around = connect(port, address)
      around.on('error', () => undefined)
      const found = await operator.untilReport(pod, ({ bypass }) => bypass.found > 0)
      assert.equal(found.bypass.lastSeen, `${address} (${address}):${port}`)
      assert.ok(found.bypass.found <= found.bypass.looks)
      around.destroy()
    } finally {
      await sidecar.close()
      near.close()
      await operator.close()
    }
  },
)
