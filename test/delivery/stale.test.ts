/** Budgets that say what is to be done when nobody has confirmed their config for too long; and how a sidecar ends. */
import assert from 'node:assert/strict'
import { after, afterEach, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { waitFor } from '../support/wait-for.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { makeConfig } from '../support/make.ts'
import { startOperator } from '../support/operator-delivery.ts'
import type { TestOperator } from '../support/operator-delivery.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { startTalk } from '../support/talk.ts'
import type { Said } from '../support/talk.ts'

const AFTER_MS = 1_500

let provider: Provider
let operator: TestOperator | null = null
let sidecar: Sidecar | null = null
before(async () => {
  provider = await startProvider()
})
after(() => provider.close())
afterEach(async () => {
  await sidecar?.close()
  await operator?.close()
  sidecar = null
  operator = null
})

const say = async (running: Sidecar): Promise<Said> => await startTalk(running, { 'x-farebox-conversation': 'stale' }).say('Hello.')
const ready = async (running: Sidecar): Promise<readonly [number, string]> => {
  const answer = await fetch(`${running.adminUrl}/readyz`)
  return [answer.status, await answer.text()]
}

describe('onStale', () => {
  async function cut(
    action: 'Continue' | 'Deny',
    more: Parameters<typeof makeConfig>[2] = {},
  ): Promise<readonly [Sidecar, TestOperator, SidecarConfig]> {
    const config = makeConfig(`${provider.url}/v1`, undefined, { onStale: { afterMs: AFTER_MS, action }, ...more })
    const served = await startOperator({ hub: { beatMs: 500 } })
    operator = served
    const pod = served.addPod('app-1')
    served.publish(config)
    const running = await startSidecar(config, { environment: served.environment(pod) })
    sidecar = running
    await served.untilReport(pod, ({ staleMs }) => staleMs !== null)
    await sleep(AFTER_MS + 600)
    const said = await say(running)
    assert.deepEqual([said.status, said.headers.get('x-farebox-policy')], [200, null], 'beats confirm it')
    await served.stop()
    await sleep(AFTER_MS + 800)
    return [running, served, config]
  }

  test('Deny: new calls are refused, also after a restart, until a replica confirms what is in force', async () => {
    const [running, served] = await cut('Deny')
    const refused = await say(running)
    assert.deepEqual([refused.status, refused.code, refused.headers.get('x-farebox-policy')], [503, 'policy_unavailable', 'stale'])
    const [status, text] = await ready(running)
    assert.equal(status, 503)
    assert.match(text, /has not been confirmed for \d+ s/)
    assert.equal((await fetch(`${running.adminUrl}/startz`)).status, 200)
    assert.match(await running.metrics(), /farebox_delivery_stale_seconds [2-9]/)

    await running.kill('SIGKILL')
    const again = running.start() // is never ready: it is stale from the start
    await waitFor('the listener', async () => (await fetch(`${running.adminUrl}/startz`)).ok)
    assert.equal((await say(running)).code, 'policy_unavailable')
    await served.start()
    await again
    assert.equal((await say(running)).status, 200)
  })

  test('Continue: calls go on, and say so', async () => {
    const [running] = await cut('Continue')
    const said = await say(running)
    assert.deepEqual([said.status, said.headers.get('x-farebox-policy')], [200, 'stale'])
    const [status, text] = await ready(running)
    assert.deepEqual([status, text.startsWith('ok, but the config has not been confirmed')], [200, true])
  })

  test('Deny in Observe refuses nothing', async () => {
    const [running] = await cut('Deny', { mode: 'Observe' })
    assert.equal((await say(running)).status, 200)
  })

  test('says nothing where there is no operator', async () => {
    const config = makeConfig(`${provider.url}/v1`, undefined, { onStale: { afterMs: 1, action: 'Deny' } })
    sidecar = await startSidecar(config)
    await sleep(700)
    assert.equal((await say(sidecar)).status, 200)
  })
})

describe('SIGTERM', () => {
  for (const [what, headers] of [
    ['idle', null],
    ['with a call that never ends', { 'x-fake-delay-ms': '60000', 'x-fake-token-delay-ms': '2000' }],
  ] as const) {
    test(`${what}: ends with 0 soon after FAREBOX_DRAIN=1500 at the latest, the operator told`, async () => {
      const served = await startOperator()
      operator = served
      const pod = served.addPod('app-1')
      const running = await startSidecar(makeConfig(`${provider.url}/v1`), {
        environment: { ...served.environment(pod), FAREBOX_DRAIN: '1500' },
      })
      sidecar = running
      await served.untilReport(pod, () => true)
      const sequence = served.report(pod)?.sequence ?? 0
      if (headers !== null) {
        void startTalk(running, { 'x-farebox-conversation': 'long', ...headers })
          .say('Hello.')
          .catch(() => undefined)
        await sleep(500)
      }
      const begin = performance.now()
      const code = await running.kill('SIGTERM')
      const tookMs = performance.now() - begin
      assert.equal(code, 0)
      assert.ok(tookMs < 3_000, `${tookMs} ms`)
      if (headers !== null) assert.ok(tookMs > 1_400, `${tookMs} ms: it waits for calls under way`)
      assert.ok((served.report(pod)?.sequence ?? 0) > sequence, 'one last report')
    })
  }
})
