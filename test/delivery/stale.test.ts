/** Budgets that say what is to be done when nobody has confirmed their config for too long; and how a sidecar ends. */
import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { after, afterEach, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import type { SidecarStatus } from '@farebox/crds/sidecar-status.ts'
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

const AFTER_MS = 2_000
/** Twenty of them must fail to come. */
const BEAT_MS = 100

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
    const served = await startOperator({ hub: { beatMs: BEAT_MS } })
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
    assert.match(await running.metrics(), /^farebox_delivery_stale_seconds ([2-9]|\d{2,})/m)

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

  const denying = (version: number, more: Parameters<typeof makeConfig>[2] = {}): SidecarConfig =>
    makeConfig(`${provider.url}/v1`, undefined, { version, onStale: { afterMs: AFTER_MS, action: 'Deny' }, ...more })

  test('a sidecar that refused a config is reached all the same: its last one stays in force, and calls go on', async () => {
    const served = await startOperator({ hub: { beatMs: BEAT_MS } })
    operator = served
    const pod = served.addPod('app-1')
    const config = denying(1)
    served.publish(config)
    const running = await startSidecar(config, { environment: served.environment(pod) })
    sidecar = running
    await served.untilReport(pod, ({ staleMs }) => staleMs !== null)
    const later = { ...denying(2), mode: 'OfALaterVersion' }
    const sent = { budget: 'shop/support', version: 2, hash: 'later', schemaVersion: 1, text: JSON.stringify(later) }
    for (const [what, refused] of [
      ['what it cannot read', sent],
      ['what it was not even sent', { ...sent, version: 3, schemaVersion: 99 }],
    ] as const) {
      await served.stop()
      await served.start() // so that nothing that was said before counts
      served.publish(refused)
      await waitFor('the stream', () => served.hub.size === 1, { withinMs: 20_000 })
      await sleep(AFTER_MS + 800)
      const said = await say(running)
      assert.deepEqual([said.status, said.headers.get('x-farebox-policy')], [200, null], what)
      const report = await served.untilReport(pod, () => true)
      assert.equal(report.refused?.version, 2, 'it says that it refused one')
      assert.equal((await ready(running))[0], 200, what)
    }
  })

  test('with the stream cut, each newer config that is mounted confirms itself; one that was there at the start does not', async () => {
    const served = await startOperator()
    operator = served
    const environment = served.environment(served.addPod('app-1'))
    await served.stop()
    const running = await startSidecar(denying(1), { environment })
    sidecar = running
    await waitFor('the end of its time', async () => (await ready(running))[0] === 503, { withinMs: 20_000 })
    running.configure(denying(2, { mode: 'Enforce' }))
    await waitFor('a config that was mounted', async () => (await ready(running))[0] === 200, { withinMs: 20_000 })
    assert.equal((await say(running)).status, 200)
    await waitFor('the end of its time', async () => (await ready(running))[0] === 503, { withinMs: 20_000 })
    running.configure(denying(1)) // older
    await sleep(1_300)
    assert.equal((await ready(running))[0], 503)
  })

  test('a newer config that is mounted and cannot be read is a sign too, once, and the last one stays in force', async () => {
    const served = await startOperator()
    operator = served
    const environment = served.environment(served.addPod('app-1'))
    await served.stop()
    const running = await startSidecar(denying(2), { environment })
    sidecar = running
    const mount = (version: number, more: string): void => running.configure({ ...denying(version), [more]: 'OfALaterVersion' })
    const stale = (): Promise<unknown> =>
      waitFor('the end of its time', async () => (await ready(running))[0] === 503, { withinMs: 20_000 })
    const rejected = (field: string): Promise<unknown> =>
      waitFor('the refusal', () => running.log().includes(`${field}: Invalid`), { withinMs: 20_000 })
    await stale()
    mount(3, 'mode')
    await waitFor('a config that was mounted', async () => (await ready(running))[0] === 200, { withinMs: 20_000 })
    assert.equal((await say(running)).status, 200)
    await stale()
    for (const [version, field] of [
      [3, 'onDisconnect'],
      [2, 'limits'],
    ] as const) {
      mount(version, field)
      await rejected(field)
      assert.equal((await ready(running))[0], 503, field)
    }
  })

  test('says nothing where there is no operator', async () => {
    const config = makeConfig(`${provider.url}/v1`, undefined, { onStale: { afterMs: 1, action: 'Deny' } })
    sidecar = await startSidecar(config)
    await sleep(700)
    assert.equal((await say(sidecar)).status, 200)
  })
})

test('a pod whose budget was renamed has neither config nor authority mounted any more: started again, it still hears of edits', async () => {
  const config = makeConfig(`${provider.url}/v1`)
  const served = await startOperator()
  operator = served
  const pod = served.addPod('app-1')
  served.publish(config)
  served.hub.trust(served.ca)
  const environment = served.environment(pod)
  const running = await startSidecar(config, { environment })
  sidecar = running
  await served.untilReport(pod, ({ staleMs }) => staleMs !== null)
  await running.kill('SIGKILL')
  rmSync(environment['FAREBOX_OPERATOR_CA'] ?? '')
  rmSync(join(running.dataDir, 'config.json'))
  await running.start()
  const edited = makeConfig(`${provider.url}/v1`, undefined, { version: config.version + 1, mode: 'Observe' })
  served.publish(edited)
  await served.untilReport(pod, ({ inForce }) => inForce?.hash === edited.hash)
})

describe('SIGTERM', () => {
  const SOON_MS = 3_000
  /** Other files run beside this one: the soonest of a few ends is judged. */
  const ENDS_MAX = 3

  for (const [what, headers] of [
    ['idle', null],
    ['with a call that never ends', { 'x-fake-delay-ms': '60000', 'x-fake-token-delay-ms': '2000' }],
  ] as const) {
    test(`${what}: ends with 0 soon after FAREBOX_DRAIN=1500 at the latest, the operator told`, async () => {
      let soonestMs = Infinity
      for (let ends = 0; ends < ENDS_MAX && soonestMs >= SOON_MS; ends++) soonestMs = Math.min(soonestMs, await endMs(headers))
      assert.ok(soonestMs < SOON_MS, `${soonestMs} ms`)
    })
  }

  async function endMs(headers: Readonly<Record<string, string>> | null): Promise<number> {
    await sidecar?.close()
    await operator?.close()
    const served = await startOperator()
    operator = served
    const pod = served.addPod('app-1')
    const running = await startSidecar(makeConfig(`${provider.url}/v1`), {
      environment: { ...served.environment(pod), FAREBOX_DRAIN: '1500' },
    })
    sidecar = running
    await served.untilReport(pod, () => true)
    if (headers !== null) {
      void startTalk(running, { 'x-farebox-conversation': 'long', ...headers })
        .say('Hello.')
        .catch(() => undefined)
      const isUnderWay = async (): Promise<boolean> => ((await running.getJson('/farebox/v1/status')) as SidecarStatus).callsInFlight === 1
      await waitFor('the call is under way', isUnderWay)
    }
    const sequence = served.report(pod)?.sequence ?? 0
    const begin = performance.now()
    const code = await running.kill('SIGTERM')
    const tookMs = performance.now() - begin
    assert.equal(code, 0)
    if (headers !== null) assert.ok(tookMs > 1_400, `${tookMs} ms: it waits for calls under way`)
    assert.ok((served.report(pod)?.sequence ?? 0) > sequence, 'one last report')
    return tookMs
  }
})
