/** Who works out what metrics tell of a tier: where many share a store, not each that is looked at. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { redisProgram, startRedis } from '../support/redis.ts'
import type { TestServer } from '../support/redis.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { waitFor } from '../support/wait-for.ts'

const program = redisProgram()
/** Longer than totals of a few conversations take. */
const WORKED_OUT_MS = 1_000

describe('a look at the metrics of a sidecar', { skip: program === null ? 'there is no redis-server' : false }, () => {
  let provider: Provider
  let server: TestServer
  let mounts: string
  let sidecar: Sidecar | null = null
  before(async () => {
    provider = await startProvider()
    server = await startRedis(program ?? '')
    mounts = mkdtempSync(join(tmpdir(), 'farebox-mounts-'))
    for (const name of ['token', 'ca.crt']) writeFileSync(join(mounts, name), 'x')
  })
  after(async () => {
    await sidecar?.close()
    await server.stop()
    await provider.close()
    rmSync(mounts, { recursive: true })
  })

  const operator = (): Readonly<Record<string, string>> => ({
    FAREBOX_OPERATOR: 'https://127.0.0.1:1',
    FAREBOX_OPERATOR_CA: join(mounts, 'ca.crt'),
    FAREBOX_TOKEN: join(mounts, 'token'),
  })
  const shared = (): Readonly<Record<string, string>> => ({ FAREBOX_STORE: server.url })
  const begin = async (environment: Readonly<Record<string, string>>): Promise<Sidecar> => {
    await sidecar?.close()
    sidecar = await startSidecar(makeConfig(`${provider.url}/v1`, [makeContract()]), { environment })
    const client = sidecar.client({ 'x-farebox-conversation': 'A' })
    await client.chat.completions.create({ model: 'gpt-4o', messages: [{ role: 'user', content: 'hi' }] })
    return sidecar
  }
  const tellsTiers = async (looked: Sidecar): Promise<boolean> => /^farebox_resolutions\{/m.test(await looked.metrics())

  test('with an operator and a shared store works out no totals: the operator asks one of them', async () => {
    const looked = await begin({ ...shared(), ...operator() })
    for (let look = 0; look < 3; look++) {
      assert.equal(await tellsTiers(looked), false)
      await sleep(WORKED_OUT_MS)
    }
  })

  test('has them worked out where there is no operator, and where the store is its own', async () => {
    for (const environment of [shared(), operator()]) {
      const looked = await begin(environment)
      await waitFor('totals', () => tellsTiers(looked))
    }
  })
})
