/** Connections that lead nowhere, or to the wrong server, and of which nobody says so: they are left, and others that do well stay. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { after, before, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { Link } from './link.ts'
import { redisProgram, startRedis } from '../../../../test/support/redis.ts'
import type { TestServer } from '../../../../test/support/redis.ts'

const HEALED_MS_MAX = 20_000

const program = redisProgram()

if (program !== null)
  describe('a connection to Redis that nobody closes', () => {
    let servers: readonly [TestServer, TestServer]
    const links: Link[] = []
    const roads: Road[] = []
    before(async () => {
      servers = [await startRedis(program), await startRedis(program)]
    })
    after(async () => {
      await Promise.all(links.map((link) => link.close()))
      await Promise.all(roads.map((road) => road.close()))
      await Promise.all(servers.map((server) => server.stop()))
    })
    const through = async (): Promise<{ readonly link: Link; readonly road: Road }> => {
      const road = await Road.open(servers[0].port)
      const link = await Link.open({ url: `redis://127.0.0.1:${road.port}` })
      roads.push(road)
      links.push(link)
      return { link, road }
    }
    const ping = (link: Link): Promise<string> => link.ask((client) => client.ping())

    it('is left when an answer is missing for long, as where its server lost its power; one that is owed none stays', async () => {
      const [lost, idle] = [await through(), await through()]
      await Promise.all([ping(lost.link), ping(idle.link)])
      lost.road.fallSilent()
      await assert.rejects(ping(lost.link), { name: 'StoreError', code: 'away' })
      await until(() => ping(lost.link))
      assert.ok(lost.link.connections > 1)
      await until(() => ping(idle.link))
      assert.equal(idle.link.connections, 1)
    })

    it('is left when its server became a replica: the name may lead to the new primary by now', async () => {
      const { link, road } = await through()
      const before = await link.run()
      road.leadTo(servers[1].port)
      const former = new Redis(servers[0].url)
      try {
        await former.replicaof('127.0.0.1', '1')
        await assert.rejects(link.run(), { name: 'StoreError', message: /is a replica of 127\.0\.0\.1 that takes no writes/ })
        const now = await until(() => link.run())
        assert.notEqual(now, before)
        assert.equal(await link.ask((client) => client.set('fb:moved:layout', '2 1')), 'OK')
      } finally {
        await former.replicaof('NO', 'ONE')
        former.disconnect()
      }
    })
  })

/** The way to a server. What is connected stays on it, whatever becomes of it; who connects anew is led where it leads by then. */
class Road {
  readonly port: number
  readonly #listening: Server
  readonly #sockets = new Set<Socket>()
  #to: number
  #silenced = 0

  static async open(to: number): Promise<Road> {
    const listening = createServer().listen(0, '127.0.0.1')
    await once(listening, 'listening')
    return new Road(listening, to)
  }

  private constructor(listening: Server, to: number) {
    this.#listening = listening
    this.#to = to
    this.port = (listening.address() as AddressInfo).port
    listening.on('connection', (near) => {
      const far = connect(this.#to, '127.0.0.1')
      const since = this.#silenced
      for (const [socket, other] of [
        [near, far],
        [far, near],
      ] as const) {
        this.#sockets.add(socket)
        socket.on('error', () => socket.destroy())
        socket.on('data', (data) => since === this.#silenced && other.write(data))
        socket.on('close', () => since === this.#silenced && other.destroy())
      }
    })
  }

  /** From now on nothing comes through what is connected, and it stays open. */
  fallSilent(): void {
    this.#silenced += 1
  }
  leadTo(port: number): void {
    this.#to = port
  }
  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await new Promise((resolve) => this.#listening.close(resolve))
  }
}

/** The first answer that comes. */
async function until<Answer>(ask: () => Promise<Answer>): Promise<Answer> {
  const end = performance.now() + HEALED_MS_MAX
  for (;;) {
    try {
      return await ask()
    } catch (error) {
      if (performance.now() > end) throw new Error(`not within ${HEALED_MS_MAX} ms`, { cause: error })
      await sleep(100)
    }
  }
}
