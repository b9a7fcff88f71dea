/** Two hundred sidecars on one replica: a change of the budget reaches them all, and idleness costs nothing but a beat. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Agent } from 'node:https'
import { setTimeout as sleep } from 'node:timers/promises'
import { startFakeSidecar } from '../support/fake-sidecar.ts'
import type { Stream } from '../support/fake-sidecar.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { startOperator } from '../support/operator-delivery.ts'
import type { TestOperator } from '../support/operator-delivery.ts'

const SIDECARS = 200
const OPENED_AT_ONCE = 20
const CHANGES = 5
const ACKNOWLEDGED_MS_MAX = 2_000

let operator: TestOperator
/** When each change was acknowledged, by its hash. */
const acknowledged = new Map<string, number[]>()
const agent = new Agent({ keepAlive: true, maxSockets: 64 })
const streams: Stream[] = []
before(async () => {
  operator = await startOperator({ server: { takeReport: ({ report }) => seen(report.inForce?.hash ?? '') } })
})
after(async () => {
  for (const stream of streams) stream.close()
  agent.destroy()
  await operator.close()
})

function seen(hash: string): void {
  acknowledged.set(hash, [...(acknowledged.get(hash) ?? []), performance.now()])
}

test('T60: a change is acknowledged by 200 sidecars, 99 of 100 within 2 seconds', async () => {
  while (streams.length < SIDECARS) {
    const some = Array.from({ length: OPENED_AT_ONCE }, (_, index) => {
      const token = operator.token(operator.addPod(`app-${streams.length + index}`))
      return startFakeSidecar({ listener: operator, token, agent, onAcknowledged: () => undefined })
    })
    streams.push(...(await Promise.all(some)))
  }
  assert.equal(operator.hub.size, SIDECARS)
  const took: number[] = []
  for (let change = 1; change <= CHANGES; change++) {
    const config = makeConfig('http://provider/v1', [makeContract({ caps: { perConversation: `0.${change}0` } })])
    const begin = performance.now()
    operator.publish(config)
    while ((acknowledged.get(config.hash)?.length ?? 0) < SIDECARS) {
      assert.ok(performance.now() - begin < 20_000, `${acknowledged.get(config.hash)?.length} acknowledged`)
      await sleep(10)
    }
    took.push(...(acknowledged.get(config.hash) ?? []).map((atMs) => atMs - begin))
  }
  took.sort((a, b) => a - b)
  const at = (percent: number): number => Math.round(took[Math.ceil((took.length * percent) / 100) - 1] ?? 0)
  console.log(`${SIDECARS} sidecars, ${CHANGES} changes: acknowledged after p50 ${at(50)} ms, p99 ${at(99)} ms, at most ${at(100)} ms`)
  assert.ok(at(99) < ACKNOWLEDGED_MS_MAX)
  const pushed = operator.count('configPushed')
  await sleep(500)
  assert.equal(operator.count('configPushed'), pushed, 'nothing changes, nothing is sent')
  assert.equal(pushed, SIDECARS * CHANGES)
})
