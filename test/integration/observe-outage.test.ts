/** A shared store that goes away where the owner lets nothing be spent meanwhile: what goes on all the same. */
import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, describe, test } from 'node:test'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import type { SidecarStatus } from '@farebox/crds/sidecar-status.ts'
import { waitFor } from '../support/wait-for.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { redisProgram, startRedis } from '../support/redis.ts'
import type { TestServer } from '../support/redis.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { startTalk, talking } from '../support/talk.ts'

const BACK_MS_MAX = 20_000

const program = redisProgram()

describe('a shared store that is away, with Deny', { skip: program === null ? 'there is no redis-server' : false }, () => {
  let provider: Provider
  /** When it was asked, and has not answered. */
  let onAsked: () => void
  before(async () => {
    provider = await startProvider({ onRequest: () => onAsked() })
  })
  after(() => provider.close())

  let server: TestServer
  let sidecar: Sidecar | null
  beforeEach(async () => {
    server = await startRedis(program ?? '')
    sidecar = null
    onAsked = () => undefined
  })
  afterEach(async () => {
    server.process.kill('SIGCONT')
    await sidecar?.close()
    await server.stop()
  })
  const start = async (more: Parameters<typeof makeConfig>[2]): Promise<Sidecar> => {
    const contract = makeContract({
      tier: 'resolved',
      pricing: { model: 'PerResolution', price: '0.99', targetCostPerResolution: '0.10' },
      caps: { perConversation: '1.00' },
    })
    const config: SidecarConfig = makeConfig(`${provider.url}/v1`, [contract], {
      onStoreFailure: { action: 'Deny', allowancePercent: 0 },
      ...more,
    })
    sidecar = await startSidecar(config, { environment: { FAREBOX_STORE: server.url } })
    return sidecar
  }
  const statusOf = async (of: Sidecar): Promise<SidecarStatus> => (await of.getJson('/farebox/v1/status')) as SidecarStatus
  const back = (of: Sidecar): Promise<unknown> =>
    waitFor('the store', async () => (await statusOf(of)).store.state === 'Ready', { withinMs: BACK_MS_MAX })

  test('an owner who only watches refuses nobody, and the books are whole afterwards', async () => {
    const watched = await start({ mode: 'Observe' })
    const known = startTalk(watched, talking('known', 'resolved'))
    assert.equal((await known.say('Hello.')).status, 200)
    server.process.kill('SIGSTOP')
    for (const talk of [known, known, startTalk(watched, talking('newcomer', 'resolved'))]) {
      const { status, code, headers } = await talk.say('And now?')
      assert.deepEqual([status, code, headers.get('x-farebox-store')], [200, null, 'away'])
    }
    assert.equal((await fetch(`${watched.adminUrl}/readyz`)).status, 200)
    server.process.kill('SIGCONT')
    await back(watched)
    await watched.idle()
    assert.equal((await watched.standing('known')).turns, 3)
    assert.equal((await watched.standing('newcomer')).turns, 1)
  })

  test('a call that is under way resolves its conversation by the tool that it calls', async () => {
    const denied = await start({ resolution: { toolNames: ['close_*'] } })
    const headers = talking('solved', 'resolved', { 'x-fake-tool-call': 'close_ticket', 'x-fake-delay-ms': '800' })
    const talk = startTalk(denied, headers, { tools: [{ type: 'function', function: { name: 'close_ticket' } }] })
    onAsked = () => void server.process.kill('SIGSTOP')
    assert.equal((await talk.say('Thank you, that was it.')).status, 200)
    await denied.idle()
    assert.doesNotMatch(denied.log(), /a turn failed/)
    assert.equal((await talk.say('And now?')).code, 'budget_store_unavailable')
    server.process.kill('SIGCONT')
    await back(denied)
    assert.equal((await denied.standing('solved')).resolution, 'confirmed')
  })
})
