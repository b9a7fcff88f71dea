/** Servers that will not do, and servers that stop doing: what whoever runs the sidecar reads, and that nothing need be started again. */
import assert from 'node:assert/strict'
import { mkdirSync, rmdirSync } from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo, Server } from 'node:net'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { StoreError } from '../store.ts'
import type { BudgetStore } from '../store.ts'
import { reserveStep, settleStep, START_MS } from '../steps.testing.ts'
import { openRedisStore } from './redis.ts'
import { redisProgram, startRedis } from '../../../../test/support/redis.ts'
import type { TestServer } from '../../../../test/support/redis.ts'

const HEALED_MS_MAX = 5_000

const program = redisProgram()

if (program !== null)
  describe('a store in Redis that cannot be used', () => {
    let server: TestServer
    let admin: Redis
    /** Connected before a script of `admin` keeps the server busy: then nobody new is let in. */
    let killer: Redis
    before(async () => {
      server = await startRedis(program, ['--busy-reply-threshold', '50'])
      admin = new Redis(server.url)
      killer = new Redis(server.url)
      await killer.ping()
      await admin.acl('SETUSER', 'sidecar', 'on', '>right', '~*', '&*', '+@all')
    })
    after(async () => {
      // What a failed test left open would keep this process alive.
      await Promise.all(opened.map((store) => store.close()))
      for (const fake of fakes) fake.close()
      admin.disconnect()
      killer.disconnect()
      await server.stop()
    })
    const opened: BudgetStore[] = []
    const fakes: Server[] = []

    describe('says at the start why, by the name of the server', () => {
      const place = (): string => `127\\.0\\.0\\.1:${server.port}`

      it('nobody listens', () => refused('redis://127.0.0.1:1', 'away', /127\.0\.0\.1:1 .*ECONNREFUSED/))
      it('the host is not known', () => refused('redis://nowhere.invalid:6379', 'away', /nowhere\.invalid:6379 .*getaddrinfo/))
      it('the password is wrong', () => refused(as('sidecar', 'wrong'), 'away', new RegExp(`${place()} .*WRONGPASS`)))
      it('a password is needed', async () => {
        await admin.acl('SETUSER', 'default', 'resetpass', '>needed')
        await refused(server.url, 'away', new RegExp(`${place()} .*NOAUTH`))
        await admin.acl('SETUSER', 'default', 'nopass')
      })
      it('the user may not run what is needed', async () => {
        await admin.acl('SETUSER', 'scriptless', 'on', '>right', '~*', '+@all', '-@scripting')
        await refused(as('scriptless', 'right'), 'away', new RegExp(`${place()} .*NOPERM .*'eval' command`))
        await admin.acl('SETUSER', 'ledgerless', 'on', '>right', '~*', '+@all', '-xadd')
        await refused(as('ledgerless', 'right'), 'away', /may not run XADD/)
      })
      it('the user may not touch our keys', async () => {
        await admin.acl('SETUSER', 'elsewhere', 'on', '>right', '~other:*', '+@all')
        await refused(as('elsewhere', 'right'), 'away', new RegExp(`${place()} .*NOPERM .*access .*key`))
      })
      it('keys of the namespace are not ours', async () => {
        await admin.rpush('fb:listed:layout', 'x')
        await refused(server.url, 'corrupt', new RegExp(`${place()} .*WRONGTYPE`), 'listed')
        await admin.set('fb:stranger:layout', 'sessions')
        await refused(server.url, 'corrupt', /namespace stranger has layout sessions; this version reads layout 2/, 'stranger')
        await admin.set('fb:clockless:{0}:meta', 'x')
        await refused(server.url, 'corrupt', new RegExp(`${place()} .*WRONGTYPE`), 'clockless')
      })
      it('it has no such database', () => refused(`${server.url}/99`, 'away', new RegExp(`${place()} .*DB index is out of range`)))
      it('it is too old', async () => {
        const url = await fake((command) => (command === 'info' ? infoText({ redis_version: '6.0.0' }) : OK))
        await refused(url, 'away', /127\.0\.0\.1:\d+ is Redis 6\.0\.0; Redis 7 or later, or Valkey, is needed/)
      })
      it('it is still loading', { timeout: 20_000 }, async () => {
        const refusal = '-LOADING Redis is loading the dataset in memory\r\n'
        await refused(await fake(() => refusal), 'away', /127\.0\.0\.1:\d+ .*LOADING/)
        // All but a few commands are refused; those tell who asks that it must wait.
        const info = infoText({ loading: '1', loading_eta_seconds: '600' })
        const url = await fake((command) => (command === 'info' ? info : ['hello', 'client'].includes(command) ? OK : refusal))
        await refused(url, 'away', /127\.0\.0\.1:\d+ .*loading/)
      })
      it('it is no Redis', async () => {
        await refused(await fake(() => 'HTTP/1.1 400 Bad Request\r\n\r\n'), 'away', /127\.0\.0\.1:\d+ cannot be used/)
        await refused(await fake(() => '\0\x01\x02\r\n'), 'away', /127\.0\.0\.1:\d+ cannot be used/)
        await refused(await fake(() => ''), 'away', /127\.0\.0\.1:\d+ .*timed out/)
        await refused(await fake(() => null), 'away', /127\.0\.0\.1:\d+ .*closed/)
      })
      it('it does not speak TLS', () => refused(server.url.replace('redis:', 'rediss:'), 'away', new RegExp(`${place()} cannot be used`)))
    })

    /** Each goes wrong under a store that is open, says so, and is put right. */
    const TROUBLES: readonly {
      readonly name: string
      readonly message: RegExp
      readonly begin: (store: BudgetStore) => Promise<unknown>
      readonly end: () => Promise<unknown>
      /** Of the refusal of a store that is opened meanwhile. */
      readonly atStart: RegExp
    }[] = [
      {
        name: 'the user lost its rights',
        message: /NOPERM/,
        begin: () => admin.acl('SETUSER', 'sidecar', '-@scripting'),
        end: () => admin.acl('SETUSER', 'sidecar', '+@all'),
        atStart: /NOPERM/,
      },
      {
        name: 'the password is another',
        message: /WRONGPASS/,
        async begin(store) {
          await admin.acl('SETUSER', 'sidecar', 'resetpass', '>changed')
          await killer.client('KILL', 'USER', 'sidecar')
          // Until it is refused, the connection was closed, and no more is known.
          await until(() =>
            store.reserve(step('during')).then(
              () => false,
              (error: unknown) => /WRONGPASS/.test(String(error)),
            ),
          )
        },
        end: () => admin.acl('SETUSER', 'sidecar', 'resetpass', '>right'),
        atStart: /WRONGPASS/,
      },
      {
        name: 'it is full, and may evict nothing',
        message: /OOM command not allowed/,
        begin: () => admin.config('SET', 'maxmemory', '1'),
        end: () => admin.config('SET', 'maxmemory', '0'),
        atStart: /OOM command not allowed/,
      },
      {
        name: 'too few replicas follow it',
        message: /NOREPLICAS/,
        begin: () => admin.config('SET', 'min-replicas-to-write', '1'),
        end: () => admin.config('SET', 'min-replicas-to-write', '0'),
        atStart: /NOREPLICAS/,
      },
      {
        name: 'it became a replica',
        message: /READONLY/,
        begin: () => admin.replicaof('127.0.0.1', '1'),
        end: () => admin.replicaof('NO', 'ONE'),
        atStart: /is a replica of 127\.0\.0\.1 that takes no writes; name the primary/,
      },
      {
        name: 'it cannot write its snapshot to disk',
        message: /MISCONF/,
        async begin() {
          await admin.config('SET', 'save', '3600 1')
          mkdirSync(await snapshotFile()) // which a snapshot cannot replace
          await snapshotTaken('err')
        },
        async end() {
          rmdirSync(await snapshotFile())
          await snapshotTaken('ok')
          await admin.config('SET', 'save', '')
        },
        atStart: /MISCONF/,
      },
      {
        name: 'it takes no writes for a while',
        message: /timed out/,
        begin: () => admin.call('CLIENT', 'PAUSE', '60000', 'WRITE'),
        end: () => admin.call('CLIENT', 'UNPAUSE'),
        atStart: /timed out/,
      },
      {
        name: "another's script keeps it busy",
        message: /BUSY/,
        begin: async () => {
          void admin.eval('while true do end', 0).catch(() => 'killed')
          while ((await killer.ping().catch(() => 'BUSY')) !== 'BUSY') await sleep(10)
        },
        end: () => killer.call('SCRIPT', 'KILL'),
        atStart: /BUSY/,
      },
    ]
    describe('says while it is open why, and is used again once it is put right', () => {
      for (const [index, { name, message, begin, end, atStart }] of TROUBLES.entries())
        it(name, async () => {
          const namespace = `open-${index}`
          const store = await open(as('sidecar', 'right'), namespace)
          await store.reserve(step('before'))
          await begin(store)
          try {
            await assert.rejects(
              store.reserve(step('during')),
              isError('away', new RegExp(`127\\.0\\.0\\.1:${server.port} .*${message.source}`)),
            )
            await refused(as('sidecar', 'right'), 'away', atStart, `new-${index}`)
          } finally {
            await end()
          }
          await until(async () => (await store.reserve(step('during'))).status === 'held')
          assert.equal((await store.settle(settleStep('before', START_MS, 1n))).result.status, 'settled')
        })
    })

    it('reads on while it is full: nothing is written for that', async () => {
      const store = await open(as('sidecar', 'right'), 'full')
      await store.reserve(step('o1'))
      await admin.config('SET', 'maxmemory', '1')
      const { accounts } = await store.read({ conversation: 'A', accounts: ['c:A:1'], nowMs: START_MS })
      await admin.config('SET', 'maxmemory', '0')
      assert.equal(accounts.get('c:A:1')?.held, 1n)
    })

    it('loses no step when its scripts are flushed again and again', async () => {
      const store = await open(as('sidecar', 'right'), 'flushed')
      const over = new AbortController()
      const flushing = (async () => {
        while (!over.signal.aborted) await admin.script('FLUSH')
      })()
      const turns = await Promise.all(
        Array.from({ length: 50 }, async (_, index) => {
          const { status } = await store.reserve(reserveStep(`o${index}`, START_MS, { atLeast: 1n, atMost: 1n }))
          return [status, (await store.settle(settleStep(`o${index}`, START_MS, 1n))).result.status]
        }),
      )
      over.abort()
      await flushing
      assert.deepEqual(new Set(turns.map(String)), new Set(['held,settled']))
      assert.equal((await store.read({ conversation: 'A', accounts: ['c:A:1'], nowMs: START_MS })).accounts.get('c:A:1')?.spent, 50n)
    })

    /** It may have happened although its answer was lost: asked for again it is the same. */
    const step = (id: string) => ({ ...reserveStep(id, START_MS, { atLeast: 1n, atMost: 1n }), isFirst: true })

    const as = (user: string, password: string): string => server.url.replace('//', `//${user}:${password}@`)

    async function open(url: string, namespace: string): Promise<BudgetStore> {
      const store = await openRedisStore({ url, namespace, nowMs: () => START_MS })
      opened.push(store)
      return store
    }

    async function refused(url: string, code: StoreError['code'], message: RegExp, namespace = 'refused'): Promise<void> {
      await assert.rejects(open(url, namespace), isError(code, message))
    }

    async function snapshotFile(): Promise<string> {
      const get = async (name: string): Promise<string> => String((await admin.config('GET', name))[1])
      return join(await get('dir'), await get('dbfilename'))
    }
    async function snapshotTaken(outcome: 'ok' | 'err'): Promise<void> {
      await admin.bgsave()
      await until(async () => {
        const info = await admin.info('persistence')
        return info.includes('rdb_bgsave_in_progress:0') && info.includes(`rdb_last_bgsave_status:${outcome}`)
      })
    }

    /** A server that answers each command with this; null: hangs up. */
    async function fake(answer: (command: string) => string | null): Promise<string> {
      const listening = createServer((socket) => {
        socket.on('error', () => socket.destroy())
        socket.on('data', (data) => {
          for (const [, command = ''] of data.toString().matchAll(/\*\d+\r\n\$\d+\r\n(\w+)/g)) {
            const reply = answer(command.toLowerCase())
            if (reply === null) socket.destroy()
            else socket.write(reply)
          }
        })
      })
      fakes.push(listening)
      await new Promise<void>((resolve) => listening.listen(0, '127.0.0.1', resolve))
      return `redis://127.0.0.1:${(listening.address() as AddressInfo).port}`
    }
  })

const OK = '+OK\r\n'

function infoText(fields: Readonly<Record<string, string>>): string {
  const text = Object.entries({ redis_version: '7.0.0', maxmemory: '0', maxmemory_policy: 'noeviction', ...fields })
    .map(([name, value]) => `${name}:${value}\r\n`)
    .join('')
  return `$${Buffer.byteLength(text)}\r\n${text}\r\n`
}

function isError(code: StoreError['code'], message: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof StoreError, String(error))
    assert.equal(error.code, code, error.message)
    assert.match(error.message, message)
    return true
  }
}

/** Until it holds; what it throws before that is not the end. */
async function until(holds: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + HEALED_MS_MAX
  for (;;) {
    const [outcome] = await Promise.allSettled([holds()])
    if (outcome.status === 'fulfilled' && outcome.value) return
    if (performance.now() > end) throw new Error(`not within ${HEALED_MS_MAX} ms`, { cause: outcome })
    await sleep(20)
  }
}
