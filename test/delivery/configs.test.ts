/** Configs on their way to a real sidecar: by stream, by mount, and from what it kept; the newest valid one is in force. */
import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { readFileSync, rmSync } from 'node:fs'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { after, before, beforeEach, afterEach, describe, test } from 'node:test'
import type { TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import type { SidecarStatus } from '@farebox/crds/sidecar-status.ts'
import { selfSigned } from '@farebox/sidecar/proxy/certificates.testing.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { mountFile, startOperator } from '../support/operator-delivery.ts'
import type { TestOperator, TestPod } from '../support/operator-delivery.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { waitFor } from '../support/wait-for.ts'

let provider: Provider
let operator: TestOperator
let pod: TestPod
let sidecar: Sidecar
let first: SidecarConfig
before(async () => {
  provider = await startProvider()
})
after(() => provider.close())
beforeEach(async () => {
  operator = await startOperator()
  pod = operator.addPod('app-1')
  first = capped('0.50', 1)
  sidecar = await startSidecar(first, { environment: operator.environment(pod) })
})
afterEach(async () => {
  await sidecar.close()
  await operator.close()
})

/** A config must be acknowledged within this. Other files run beside this one: the best of a few configs is judged. */
const ACKNOWLEDGED_MS = 2_000
/** So often a mounted file is looked at, and a bit. */
const LOOKED_AT_MS = 1_200
const start = Date.now()
/** Configs that differ in their cap, and so in their hash. */
function capped(cap: string, version: number): SidecarConfig {
  return makeConfig(`${provider.url}/v1`, [makeContract({ caps: { perConversation: cap } })], { version: start + version })
}

async function inForce(): Promise<SidecarStatus['config']> {
  return ((await sidecar.getJson('/farebox/v1/status')) as SidecarStatus).config
}

/** When it does not come to be, the error says what the sidecar said. */
async function until(what: string, isSo: () => boolean | Promise<boolean>, withinMs = 30_000): Promise<void> {
  const look = async (): Promise<true> => {
    if (await isSo()) return true
    throw new Error(sidecar.log().slice(-5_000))
  }
  await waitFor(what, look, { withinMs, everyMs: 10 })
}
const untilInForce = (config: SidecarConfig): Promise<void> =>
  until(`config ${config.version}`, async () => (await inForce()).hash === config.hash)
const logged = (message: string): readonly { readonly version?: number }[] =>
  sidecar
    .log()
    .split('\n')
    .flatMap((line) => (line.includes(message) ? [JSON.parse(line) as { readonly version?: number }] : []))
/** Of all that were in force, one after the other. */
const versionsInForce = (): readonly number[] => logged('config in force').map(({ version = 0 }) => version - start)

describe('a config', () => {
  test('comes by stream, and is acknowledged within 2 seconds', async () => {
    await until('the stream', () => operator.hub.size === 1)
    const tookMs: number[] = []
    for (const [index, cap] of ['0.60', '0.70', '0.80'].entries()) {
      const next = capped(cap, 2 + index)
      operator.publish(next)
      const begin = performance.now()
      const report = await operator.untilReport(pod, ({ inForce: told }) => told?.hash === next.hash)
      tookMs.push(performance.now() - begin)
      assert.deepEqual(report.inForce, { budget: 'shop/support', version: next.version, hash: next.hash })
      assert.ok(report.staleMs !== null && report.staleMs < 5_000)
      assert.equal(report.status?.config.hash, next.hash)
    }
    assert.ok(Math.min(...tookMs) < ACKNOWLEDGED_MS, `took ${tookMs.join(', ')} ms`)
    assert.match(await sidecar.metrics(), /farebox_delivery_config_source_info\{source="stream"\} 1/)
    assert.match(await sidecar.metrics(), /farebox_delivery_connected 1/)
  })

  test('that a sidecar has already is not sent again, but confirmed', async () => {
    operator.publish(first)
    await operator.untilReport(pod, ({ staleMs, inForce: told }) => staleMs !== null && told?.hash === first.hash)
    assert.deepEqual([operator.count('configPushed'), operator.count('currentSent')], [0, 1])
  })

  test('T61: with the stream cut, the mounted file takes over; when it is back nothing goes back to an older version', async () => {
    const [second, third, fourth] = [capped('0.60', 2), capped('0.70', 3), capped('0.80', 4)]
    operator.publish(second)
    await untilInForce(second)
    await operator.stop('cut')
    sidecar.configure(third)
    await untilInForce(third)

    await operator.start() // whose cache is behind
    await until('the stream', () => operator.hub.size === 1, 60_000)
    assert.equal(operator.count('configPushed'), 2, 'the older one once more')
    operator.publish(fourth)
    await untilInForce(fourth)
    sidecar.configure(capped('0.75', 3))
    await sleep(LOOKED_AT_MS)
    const fifth = capped('0.90', 5)
    sidecar.configure(fifth)
    await untilInForce(fifth)
    await until('the log', () => versionsInForce().includes(5))
    assert.deepEqual(
      versionsInForce(),
      [1, 2, 3, 4, 5],
      'neither the older one that the operator sent changed anything, nor the mounted one',
    )
  })

  test('T64: a corrupt one by stream is refused, told once, and the last good one stays in force', async () => {
    const broken = { ...capped('0.60', 2), upstreams: [] }
    const bad = { budget: 'shop/support', version: broken.version, hash: broken.hash, schemaVersion: 1, text: JSON.stringify(broken) }
    await until('the stream', () => operator.hub.size === 1)
    operator.publish(bad)
    const report = await operator.untilReport(pod, ({ refused }) => refused !== null)
    assert.equal(report.refused?.version, broken.version)
    assert.equal(report.refused?.hash, broken.hash)
    assert.match(report.refused?.reason ?? '', /^upstreams: /)
    assert.equal(report.inForce?.hash, first.hash)
    const told = (): number => operator.count('configPushed') + operator.count('currentSent')
    const before = told()
    operator.publish({ ...bad })
    operator.publish({ ...bad, version: bad.version + 1 }) // the same text again
    await until('the same text again', () => told() > before)
    operator.publish({ ...bad, version: bad.version + 2, hash: 'x', text: '{"half' })
    await operator.untilReport(pod, ({ refused }) => refused?.reason.startsWith('not JSON') === true)
    await until('the log', () => logged('config refused').length >= 2)
    assert.equal(logged('config refused').length, 2, 'each told once')
    assert.equal((await inForce()).hash, first.hash)

    const unknown = JSON.stringify({ ...capped('0.60', 3), mode: 'ModeOfLater', fieldOfLater: 'red' })
    operator.publish({ ...bad, version: bad.version + 3, hash: 'y', text: unknown })
    const named = await operator.untilReport(pod, ({ refused }) => refused?.reason.startsWith('mode: ') === true)
    assert.equal(named.inForce?.hash, first.hash, 'T67: a feature that it does not know is refused by name')

    const good = { ...capped('0.60', 9), fieldOfLater: 'red' }
    operator.publish(good)
    const healed = await operator.untilReport(pod, ({ inForce: told }) => told?.hash === good.hash)
    assert.equal(healed.refused, null)
  })

  test('T63: is the last one kept where a sidecar starts again without mount and without operator', async () => {
    const second = capped('0.60', 2)
    operator.publish(second)
    await untilInForce(second)
    await operator.stop()
    await sidecar.kill('SIGKILL')
    rmSync(join(sidecar.dataDir, 'config.json'))
    await sidecar.start()
    assert.equal((await inForce()).version, second.version)
    assert.match(await sidecar.metrics(), /farebox_delivery_config_source_info\{source="lastGood"\} 1/)
    assert.equal((await fetch(`${sidecar.adminUrl}/startz`)).status, 200)
    // A mounted one that is older, or cannot be read, does not take its place.
    sidecar.configure(first)
    await sleep(LOOKED_AT_MS)
    sidecar.mount('{')
    await until('the log', () => logged('config refused').length === 1)
    const third = capped('0.70', 3)
    sidecar.configure(third)
    await untilInForce(third)
    await until('the log', () => versionsInForce().includes(3))
    assert.deepEqual(versionsInForce(), [1, 2, 2, 3], 'of the first run two, of the second the kept one and the next')
    const kept = JSON.parse(readFileSync(join(sidecar.dataDir, 'config', 'last.json'), 'utf8')) as SidecarConfig
    assert.equal(kept.version, third.version)
  })

  test('of another budget governs the pod when the stream says so, whatever its version, and after a restart', async () => {
    const other = makeConfig(`${provider.url}/v1`, undefined, { budget: 'elder', version: 7 })
    operator.publish(other)
    await until('the other budget', async () => (await inForce()).budget === 'shop/elder')
    await operator.stop()
    await sidecar.crash()
    assert.equal((await inForce()).budget, 'shop/elder')
  })

  test('stays when no budget governs the pod any more', async () => {
    operator.publish(first)
    await until('the stream', () => operator.count('currentSent') === 1)
    operator.publish(null)
    await until('the release', () => operator.count('releasedSent') === 1)
    await until('word of it', () => logged('no budget governs this pod any more').length === 1)
    assert.equal((await inForce()).hash, first.hash)
    const answer = await sidecar
      .client({ 'x-farebox-conversation': 'released' })
      .chat.completions.create({ ...QUESTION, messages: [...QUESTION.messages] })
    assert.equal(answer.object, 'chat.completion')
  })
})

const QUESTION = { model: 'gpt-4o', max_tokens: 40, messages: [{ role: 'user', content: 'Hello.' }] } as const

test('T62: with the operator away enforcement goes on, and what was used arrives afterwards, once', async () => {
  const tight = capped('0.0012', 2)
  operator.publish(tight)
  await untilInForce(tight)
  await operator.stop('cut')
  const client = sidecar.client({ 'x-farebox-conversation': 'alone', 'x-fake-output-tokens': '40' })
  let answered = 0
  let refused = 0
  for (let turn = 0; turn < 6; turn++) {
    try {
      await client.chat.completions.create({ ...QUESTION, messages: [...QUESTION.messages] })
      answered += 1
    } catch (error) {
      assert.equal((error as { status?: number }).status, 402)
      refused += 1
    }
  }
  assert.ok(answered > 0 && refused > 0, `${answered} answered, ${refused} refused`)
  await sidecar.idle()
  await operator.start()
  const report = await operator.untilReport(pod, ({ turns, status }) => turns.count > 0 && status?.tiers['pro']?.turns === answered)
  assert.equal(report.turns.count, answered)
  assert.equal(report.status?.tiers['pro']?.turns, answered)
  assert.equal(report.status.tiers['pro'].spent, (await sidecar.standing('alone')).spent)
  assert.equal(operator.book.size, 1)
})

test('a sidecar starts before there is a token or an operator, and never ends for want of them', async () => {
  await operator.stop()
  await sidecar.kill('SIGKILL')
  const tokenFile = operator.environment(pod)['FAREBOX_TOKEN'] ?? ''
  rmSync(tokenFile)
  await sidecar.start()
  await operator.start()
  operator.publish(first)
  await sleep(2_500)
  mountFile(tokenFile, operator.token(pod, { exp: 1 }))
  await until('a refusal', () => operator.count('tokenRefused') > 0)
  mountFile(tokenFile, operator.token(pod))
  await operator.untilReport(pod, ({ staleMs }) => staleMs !== null)
})

test('whom a sidecar trusts follows the mounted file and what the operator told; a stranger is told nothing', async (context) => {
  const next = selfSigned(['localhost'], { byAddress: true })
  await until('the stream', () => operator.hub.size === 1)
  operator.hub.trust(`${operator.ca}\n${next.cert}`)
  const second = capped('0.60', 2)
  operator.publish(second)
  await untilInForce(second) // and what the stream said before is taken in
  operator.server.setCertificate(next)
  operator.hub.podGone(pod.uid)
  await until('the stream again', () => operator.hub.size === 1, 60_000)

  // A new run knows what is mounted alone, which is older than the rotation.
  const isAway = 'the stream of the operator is not there'
  const isUntold = 'the operator did not take a report'
  const [away, untold] = [logged(isAway).length, logged(isUntold).length]
  await sidecar.crash()
  const told = operator.count('reportTaken') // the run before may have told one in its last moment
  await until('word of both', () => logged(isAway).length > away && logged(isUntold).length > untold)
  assert.equal(operator.hub.size, 0)
  const caFile = operator.environment(pod)['FAREBOX_OPERATOR_CA'] ?? ''
  mountFile(caFile, selfSigned(['localhost'], { byAddress: true }).cert)
  const calls = countConnections(context, Number(new URL(operator.url).port))
  await until('calls by what is mounted now', () => calls() > 2)
  assert.equal(operator.hub.size, 0)
  assert.equal(operator.count('reportTaken'), told)
  mountFile(caFile, next.cert)
  await until('the stream after the file was brought up to date', () => operator.hub.size === 1, 60_000)
})

/** How many connections a server of this process was asked for at this port since, whatever became of them. */
function countConnections(context: TestContext, port: number): () => number {
  let count = 0
  const onSocket = (message: unknown): void => {
    if ((message as { readonly socket: Socket }).socket.localPort === port) count += 1
  }
  subscribe('net.server.socket', onSocket)
  context.after(() => unsubscribe('net.server.socket', onSocket))
  return () => count
}
