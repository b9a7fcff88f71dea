/** The same tests on each store that a sidecar may have: its own, and a real Redis or Valkey. */
import { after, before, describe } from 'node:test'
import { redisProgram, startRedis } from './redis.ts'
import type { TestServer } from './redis.ts'

/** `environment`: what a sidecar is started with to use that store; to be asked for in a hook or a test. */
export function onEachStore(tests: (environment: () => Readonly<Record<string, string>>) => void): void {
  describe('on the embedded store', () => tests(() => ({})))
  const program = redisProgram()
  describe('on Redis', { skip: program === null ? 'there is no redis-server' : false }, () => {
    let redis: TestServer | null = null
    before(async () => {
      redis = await startRedis(program ?? '')
    })
    after(() => redis?.stop())
    tests(() => ({ FAREBOX_STORE: redis?.url ?? '', FAREBOX_NAMESPACE: 'test' }))
  })
}
