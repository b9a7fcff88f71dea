import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { redisProgram, startRedis } from '../../../../test/support/redis.ts'
import type { TestServer } from '../../../../test/support/redis.ts'
import { Link } from './link.ts'
import { runMetMs, sharedBooks, sharedKey } from './shared-key.ts'

const program = redisProgram()

if (program !== null) {
  describe('what all sidecars on one store agree on', () => {
    let server: TestServer
    let link: Link
    before(async () => {
      server = await startRedis(program)
      link = await Link.open({ url: server.url })
    })
    after(async () => {
      await link.close()
      await server.stop()
    })

    it('is the key of the first that asks', async () => {
      assert.deepEqual(await sharedKey(link, 'shop', Buffer.from('first')), Buffer.from('first'))
      assert.deepEqual(await sharedKey(link, 'shop', Buffer.from('second')), Buffer.from('first'))
      assert.deepEqual(await sharedKey(link, 'other', Buffer.from('second')), Buffer.from('second'))
    })

    it('is what the first calls their books, and that they are new to it alone', async () => {
      assert.deepEqual(await sharedBooks(link, 'shop', 'a'), { name: 'a', isNew: true })
      assert.deepEqual(await sharedBooks(link, 'shop', 'b'), { name: 'a', isNew: false })
    })

    it('is when the first met a run of the server; another run is met anew', async () => {
      assert.equal(await runMetMs(link, 'shop', 'one', 100), 100)
      assert.equal(await runMetMs(link, 'shop', 'one', 900), 100)
      assert.equal(await runMetMs(link, 'other', 'one', 900), 900)
      assert.equal(await runMetMs(link, 'shop', 'two', 900), 900)
      assert.equal(await runMetMs(link, 'shop', 'two', 1_000), 900)
    })
  })
}
