/**
 * A shared store that is there and will not do: what apps are answered, what whoever runs the sidecar reads in its status and
 * its log, and that the sidecar goes on by itself once the store is put right, whether it was running or started meanwhile.
 */
import assert from 'node:assert/strict'
import { mkdirSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { SidecarStatus } from '@farebox/crds/sidecar-status.ts'
import { formatUsd } from '@farebox/crds/usd.ts'
import { Redis } from 'ioredis'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { MODEL } from '../support/burst.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { redisProgram, startRedis } from '../support/redis.ts'
import type { TestServer } from '../support/redis.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { waitFor } from '../support/wait-for.ts'

const NAMESPACE = 'trouble'
/** A store is looked for every second. */
const SEEN_MS_MAX = 10_000
const FLUSHED_CALLS = 60

const program = redisProgram()

describe('a shared store that will not do', { skip: program === null ? 'there is no redis-server' : false }, () => {
  let provider: Provider
  let server: TestServer
  let admin: Redis
  let door: Door
  let sidecar: Sidecar
  before(async () => {
    provider = await startProvider()
    server = await startRedis(program ?? '')
    admin = new Redis(server.url)
    await admin.acl('SETUSER', 'sidecar', 'on', '>right', '~*', '&*', '+@all')
    door = await Door.open(server.port)
    sidecar = await startSidecar(makeConfig(`${provider.url}/v1`, [makeContract()]), {
      environment: { FAREBOX_STORE: `redis://sidecar:right@127.0.0.1:${door.port}`, FAREBOX_NAMESPACE: NAMESPACE },
    })
  })
  after(async () => {
    await sidecar.close()
    await door.close()
    admin.disconnect()
    await server.stop()
    await provider.close()
  })

  interface Trouble {
    readonly name: string
    /** What the reason must say. */
    readonly reason: RegExp
    readonly begin: () => unknown
    readonly end: () => unknown
  }

  /** Seen by the next step of a sidecar that runs. */
  const TROUBLES: readonly Trouble[] = [
    {
      name: 'the user has lost its rights',
      reason: /NOPERM/,
      begin: () => admin.acl('SETUSER', 'sidecar', '-@scripting'),
      end: () => admin.acl('SETUSER', 'sidecar', '+@all'),
    },
    {
      name: 'the password is another',
      reason: /WRONGPASS/,
      async begin() {
        await admin.acl('SETUSER', 'sidecar', 'resetpass', '>changed')
        door.hangUp()
      },
      end: () => admin.acl('SETUSER', 'sidecar', 'resetpass', '>right'),
    },
    {
      name: 'it is full, and may evict nothing',
      reason: /OOM command not allowed/,
      begin: () => admin.config('SET', 'maxmemory', '1'),
      end: () => admin.config('SET', 'maxmemory', '0'),
    },
    {
      name: 'it evicts keys when it is full',
      reason: /evicts keys when it is full \(allkeys-lru\); set maxmemory-policy to noeviction/,
      async begin() {
        await admin.config('SET', 'maxmemory', '100mb', 'maxmemory-policy', 'allkeys-lru')
        door.hangUp()
      },
      end: () => admin.config('SET', 'maxmemory', '0', 'maxmemory-policy', 'noeviction'),
    },
    {
      name: 'it is a replica',
      reason: /READONLY|is a replica of 127\.0\.0\.1 that takes no writes; name the primary/,
      begin: () => admin.replicaof('127.0.0.1', '1'),
      end: () => admin.replicaof('NO', 'ONE'),
    },
    {
      name: 'too few replicas follow it',
      reason: /NOREPLICAS/,
      begin: () => admin.config('SET', 'min-replicas-to-write', '1'),
      end: () => admin.config('SET', 'min-replicas-to-write', '0'),
    },
    {
      name: 'it cannot write its snapshot to disk',
      reason: /MISCONF/,
      async begin() {
        await admin.config('SET', 'save', '3600 1')
        rmSync(await snapshotFile(), { force: true })
        mkdirSync(await snapshotFile()) // which a snapshot cannot replace
        await snapshotTaken('err')
      },
      async end() {
        rmSync(await snapshotFile(), { recursive: true })
        await snapshotTaken('ok')
        await admin.config('SET', 'save', '')
      },
    },
    {
      name: 'it is too old',
      reason: /is Redis 6\.0\.0; Redis 7 or later, or Valkey, is needed/,
      begin: () => door.answer((command) => (command === 'info' ? OLD_INFO : '+OK\r\n')),
      end: () => door.through(),
    },
    {
      name: 'it is still loading',
      reason: /LOADING|is still loading/,
      begin: () => door.answer((command) => loading[command] ?? '-LOADING Redis is loading the dataset in memory\r\n'),
      end: () => door.through(),
    },
    {
      name: 'it is no Redis',
      reason: /cannot be used/,
      begin: () => door.answer(() => 'HTTP/1.1 400 Bad Request\r\n\r\n'),
      end: () => door.through(),
    },
    {
      name: 'it says nothing',
      reason: /timed out/,
      begin: () => door.answer(() => ''),
      end: () => door.through(),
    },
    {
      name: 'it hangs up',
      reason: /closed|ECONNRESET|EPIPE/,
      begin: () => door.answer(() => null),
      end: () => door.through(),
    },
  ]

  describe('is seen by a sidecar that runs, which goes on once it is put right', () => {
    for (const { name, reason, begin, end } of TROUBLES)
      test(name, async () => {
        await answered()
        const before = sidecar.log().length
        await begin()
        try {
          await refused(named(reason), before)
        } finally {
          await end()
        }
        await answered()
      })
  })

  describe('is seen by a sidecar that starts, which goes on once it is put right', () => {
    for (const { name, reason, begin, end } of TROUBLES)
      test(name, async () => {
        await sidecar.kill('SIGKILL')
        const before = sidecar.log().length
        await begin()
        const ready = sidecar.start()
        try {
          await refused(named(reason), before)
        } finally {
          await end()
        }
        await ready
        await answered()
      })

    test('keys of the namespace are not ours', async () => {
      await sidecar.kill('SIGKILL')
      const before = sidecar.log().length
      const layout = await admin.getset(`fb:${NAMESPACE}:layout`, 'sessions')
      const ready = sidecar.start()
      try {
        await refused(/namespace trouble has layout sessions; this version reads layout \d/, before)
      } finally {
        await admin.set(`fb:${NAMESPACE}:layout`, layout ?? '')
      }
      await ready
      await answered()
    })
  })

  test('when its scripts are flushed again and again no call is lost', async () => {
    await answered()
    const over = new AbortController()
    const flushing = (async () => {
      while (!over.signal.aborted) {
        await admin.script('FLUSH')
        await sleep(2)
      }
    })()
    const answers = await Promise.all(Array.from({ length: FLUSHED_CALLS }, (_, call) => ask(`flushed-${call % 7}`)))
    over.abort()
    await flushing
    assert.deepEqual(
      answers.filter(({ status }) => status !== 200),
      [],
    )
  })

  test('and afterwards the books are the bill', async () => {
    await answered()
    await sidecar.idle()
    await provider.settled()
    await until('the books are the bill', async () => {
      const { tiers, store } = await status()
      assert.equal(store.unsent, 0)
      assert.equal(tiers['pro']?.held, '0.00')
      assert.equal(tiers['pro'].spent, formatUsd(provider.bill.totalNanoUsd()))
    })
  })

  /** By the place where the sidecar looks for it. */
  const named = (reason: RegExp): RegExp => new RegExp(`127\\.0\\.0\\.1:${door.port} .*(?:${reason.source})`)

  /** Apps are told to try again, and the status and the log say why; the log after so many characters, that were said before. */
  async function refused(reason: RegExp, saidBefore: number): Promise<void> {
    await until('it is refused, and told', async () => {
      const { status: code, text, retryAfter } = await ask('newcomer')
      assert.equal(code, 503, text)
      assert.match(text, /budget_store_unavailable/)
      assert.equal(retryAfter, '2')
      const { store } = await status()
      assert.equal(store.state, 'Away')
      assert.match(store.reason ?? '', reason)
      assert.match(sidecar.log().slice(saidBefore), reason)
    })
  }

  async function answered(): Promise<void> {
    await until('it is answered', async () => {
      const { status: code, text } = await ask('regular')
      assert.equal(code, 200, text)
      const { store } = await status()
      assert.deepEqual([store.state, store.reason], ['Ready', null])
    })
  }

  async function status(): Promise<SidecarStatus> {
    return (await sidecar.getJson('/farebox/v1/status')) as SidecarStatus
  }

  async function ask(conversation: string): Promise<{ status: number; text: string; retryAfter: string | null }> {
    const answer = await fetch(`${sidecar.url}/openai/v1/chat/completions`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        authorization: 'Bearer test',
        'x-farebox-conversation': conversation,
        'x-fake-output-tokens': '5',
      },
      body: JSON.stringify({ model: MODEL, max_tokens: 10, messages: [{ role: 'user', content: 'Hello.' }] }),
    })
    return { status: answer.status, text: await answer.text(), retryAfter: answer.headers.get('retry-after') }
  }

  async function snapshotFile(): Promise<string> {
    const get = async (name: string): Promise<string> => String((await admin.config('GET', name))[1])
    return join(await get('dir'), await get('dbfilename'))
  }
  async function snapshotTaken(outcome: 'ok' | 'err'): Promise<void> {
    await admin.bgsave()
    await until('the snapshot', async () => {
      const info = await admin.info('persistence')
      assert.ok(info.includes('rdb_bgsave_in_progress:0') && info.includes(`rdb_last_bgsave_status:${outcome}`))
    })
  }
})

/** What a Redis that loads its data answers all the same. */
const loading: Readonly<Record<string, string>> = {
  hello: '+OK\r\n',
  auth: '+OK\r\n',
  client: '+OK\r\n',
  info: bulk('redis_version:7.0.0\r\nloading:1\r\nloading_eta_seconds:600\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n'),
}
/** A Redis of a version that we do not take. */
const OLD_INFO = bulk('redis_version:6.0.0\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n')

function bulk(text: string): string {
  return `$${Buffer.byteLength(text)}\r\n${text}\r\n`
}

/** Until `holds` throws nothing more. */
async function until(what: string, holds: () => Promise<void>): Promise<void> {
  const look = async (): Promise<true> => {
    await holds()
    return true
  }
  await waitFor(what, look, { withinMs: SEEN_MS_MAX })
}

/** Where the sidecar finds its store: behind it is the real one, or somebody else. */
class Door {
  readonly port: number
  readonly #server: ReturnType<typeof createServer>
  readonly #sockets = new Set<Socket>()
  readonly #realPort: number
  #answer: ((command: string) => string | null) | null = null

  static async open(realPort: number): Promise<Door> {
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    return new Door(server, realPort)
  }

  private constructor(server: ReturnType<typeof createServer>, realPort: number) {
    this.#server = server
    this.#realPort = realPort
    this.port = (server.address() as AddressInfo).port
    server.on('connection', (socket) => this.#enter(socket))
  }

  /** Somebody who answers each command with this; null: hangs up. */
  answer(answer: (command: string) => string | null): void {
    this.#answer = answer
    this.hangUp()
  }

  through(): void {
    this.#answer = null
    this.hangUp()
  }

  hangUp(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  async close(): Promise<void> {
    this.hangUp()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  #enter(socket: Socket): void {
    const answer = this.#answer
    this.#keep(socket)
    if (answer === null) {
      const real = this.#keep(connect({ port: this.#realPort, host: '127.0.0.1' }))
      socket.pipe(real).pipe(socket)
      socket.on('close', () => real.destroy())
      real.on('close', () => socket.destroy())
      return
    }
    socket.on('data', (data) => {
      for (const [, command = ''] of data.toString().matchAll(/\*\d+\r\n\$\d+\r\n(\w+)/g)) {
        const reply = answer(command.toLowerCase())
        if (reply === null) socket.destroy()
        else socket.write(reply)
      }
    })
  }

  #keep(socket: Socket): Socket {
    this.#sockets.add(socket)
    socket.on('error', () => socket.destroy())
    socket.on('close', () => this.#sockets.delete(socket))
    return socket
  }
}
