/**
 * What a store that sidecars share costs: CPU per turn above the embedded one, in rounds that take turns; round trips; what
 * two sidecars on one server can do; and what the server keeps in memory.
 */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { storeProgram } from '@farebox/operator/laptop/store-process.ts'
import { openRedisStore } from '@farebox/sidecar/store/redis/redis.ts'
import { reserveStep, settleStep } from '@farebox/sidecar/store/steps.testing.ts'
import { Redis } from 'ioredis'
import { startRedis } from '../support/redis.ts'
import type { TestServer } from '../support/redis.ts'
import { sharedStoreFigures } from './figures.ts'
import type { Figure, ServerMemory, SharedRound } from './figures.ts'
import type { Command, LoadResult, Target } from './loads.ts'
import { cpuMicros } from './process-figures.ts'
import { startBenchSidecar, startRoundTrips } from './processes.ts'
import type { BareRoundTrips, BenchSidecar } from './processes.ts'

const WARM_SECONDS = 4
const OPEN = { perSecond: 200, seconds: 5 }
/** One reads, one holds, one settles. */
const TRIPS_PER_TURN = 3
const REST_MS = 2_000
/** Over one sidecar or two: enough that each always has work. */
const CLOSED = { connections: 64, seconds: 4 }
/** What is small is listed together, by how its id begins: only with many of them do the lists have the size that they have in use. */
const FILL = { turns: 20_000, atOnce: 50, digestsPerTurn: 10 }

const ENGINES = ['embedded', 'shared'] as const
type Engine = (typeof ENGINES)[number]

export interface SharedBench {
  readonly folder: string
  readonly configFile: string
  readonly rounds: number
  readonly load: (command: Command) => Promise<LoadResult>
}

/** None, and a line that says so, where there is no server to start. */
export async function benchSharedStore(bench: SharedBench): Promise<readonly Figure[]> {
  const program = storeProgram(console.log)
  if (program === null) {
    console.log('no Valkey or Redis on this machine (package redis-server or valkey-server): the figures of a shared store are left out')
    return []
  }
  const cleanups: (() => Promise<void>)[] = []
  try {
    const server = await startRedis(program)
    cleanups.push(() => server.stop())
    const start = async (name: string, isShared: boolean): Promise<BenchSidecar> => {
      const store = { url: server.url, namespace: 'bench' }
      const sidecar = await startBenchSidecar(join(bench.folder, name), bench.configFile, isShared ? store : undefined)
      cleanups.push(() => sidecar.stop())
      return sidecar
    }
    const embedded = await start('embedded', false)
    const shared = await start('shared', true)
    const other = await start('other', true)
    const bare = await startRoundTrips(server.url)
    cleanups.push(() => bare.stop())
    console.log(`A shared store: ${bench.rounds} rounds; about ${Math.ceil((25 + bench.rounds * 37) / 60)} minutes ...`)
    for (const sidecar of [embedded, shared, other]) await warmUp(bench, sidecar)
    const rounds: SharedRound[] = []
    for (let round = 1; round <= bench.rounds; round++) {
      const bareCpu = await bareTrips(bare)
      rounds.push({ ...(await measure(bench, { embedded, shared }, other, server, round)), bareCpu })
    }
    return sharedStoreFigures(rounds, await memoryOf(server))
  } finally {
    for (const cleanUp of cleanups.toReversed()) await cleanUp()
  }
}

async function warmUp(bench: SharedBench, sidecar: BenchSidecar): Promise<void> {
  await bench.load({ kind: 'closed', targets: [targetOf(sidecar)], body: 'small', connections: 32, seconds: WARM_SECONDS })
  await bench.load({ kind: 'open', target: targetOf(sidecar), body: 'small', perSecond: OPEN.perSecond, seconds: 1 })
}

/** Each engine at the same rate and at the most, another one first each time; then two sidecars on the server as fast as they can. */
async function measure(
  bench: SharedBench,
  engines: Readonly<Record<Engine, BenchSidecar>>,
  other: BenchSidecar,
  server: TestServer,
  round: number,
): Promise<Omit<SharedRound, 'bareCpu'>> {
  const serverPid = server.process.pid
  if (serverPid === undefined) throw new Error('the server ended')
  const cpu = { embedded: 0, shared: 0, server: 0 }
  const cpuAtMost = { embedded: 0, shared: 0 }
  const latencies: Record<Engine, readonly number[]> = { embedded: [], shared: [] }
  let roundTrips = 0
  const admin = new Redis(server.url)
  for (const engine of round % 2 === 0 ? ENGINES : ENGINES.toReversed()) {
    await sleep(REST_MS)
    const { pid } = engines[engine]
    const before = { own: cpuMicros(pid), server: cpuMicros(serverPid), scripts: await scriptsRun(admin) }
    const result = answered(await bench.load({ kind: 'open', target: targetOf(engines[engine]), body: 'small', ...OPEN }))
    const after = { own: cpuMicros(pid), server: cpuMicros(serverPid), scripts: await scriptsRun(admin) }
    cpu[engine] = (after.own - before.own) / result.requests
    latencies[engine] = result.latenciesUs
    const busy = answered(await bench.load({ kind: 'closed', targets: [targetOf(engines[engine])], body: 'small', ...CLOSED }))
    cpuAtMost[engine] = (cpuMicros(pid) - after.own) / busy.requests
    if (engine === 'embedded') continue
    cpu.server = (after.server - before.server) / result.requests
    roundTrips = (after.scripts - before.scripts) / result.requests
  }
  admin.disconnect()
  const targets = [targetOf(engines.shared), targetOf(other)]
  const most = answered(await bench.load({ kind: 'closed', targets, body: 'small', ...CLOSED }))
  const together = { perSecond: most.requests / CLOSED.seconds, latenciesUs: most.latenciesUs }
  return { cpu, cpuAtMost, latencies, roundTrips, together }
}

/** CPU of a turn's round trips in microseconds, less that of a clock which wakes the process and makes none. */
async function bareTrips(bare: BareRoundTrips): Promise<number> {
  const costOf = async (perTurn: number): Promise<number> => {
    const before = cpuMicros(bare.pid)
    const turns = await bare.run({ perTurn, ...OPEN })
    return (cpuMicros(bare.pid) - before) / turns
  }
  const clock = await costOf(0)
  return (await costOf(TRIPS_PER_TURN)) - clock
}

function targetOf({ port }: BenchSidecar): Target {
  return { port, path: '/openai/v1/chat/completions' }
}

/** Each step is one script, and each script one round trip. */
async function scriptsRun(admin: Redis): Promise<number> {
  const info = await admin.info('commandstats')
  return [...info.matchAll(/^cmdstat_eval(?:sha)?:calls=(\d+)/gm)].reduce((sum, [, calls]) => sum + Number(calls), 0)
}

/** Of what the rounds have left there, kind by kind, and of turns beside that. */
async function memoryOf(server: TestServer): Promise<ServerMemory> {
  const admin = new Redis(server.url)
  try {
    const record = await freedBy(admin, '*:k:*')
    const beside = [await freedBy(admin, '*:a:c:*'), await freedBy(admin, '*:talks')]
    await fill(server.url)
    const operations = await freedBy(admin, '*:y:*')
    const chains = await freedBy(admin, '*:h:*')
    return {
      conversationBytes: beside.reduce((sum, { bytes }) => sum + bytes, record.bytes) / record.keys,
      operationBytes: operations.bytes / operations.fields,
      digestBytes: chains.bytes / chains.fields,
    }
  } finally {
    admin.disconnect()
  }
}

/** In one script, so that nothing else allocates or frees meanwhile. */
const FREE = `
local function used() return tonumber(string.match(redis.call('INFO', 'memory'), 'used_memory:(%d+)')) end
local before, keys, fields, cursor = used(), 0, 0, '0'
repeat
  local page = redis.call('SCAN', cursor, 'MATCH', ARGV[1], 'COUNT', 1000)
  cursor = page[1]
  for _, key in ipairs(page[2]) do
    if redis.call('TYPE', key).ok == 'hash' then fields = fields + redis.call('HLEN', key) end
    keys = keys + redis.call('DEL', key)
  end
until cursor == '0'
return { keys, fields, before - used() }`

interface Freed {
  readonly keys: number
  /** Of those that are lists of fields. */
  readonly fields: number
  readonly bytes: number
}

/** Deletes the keys that match: what the server needed for them, with all that goes with a key. */
async function freedBy(admin: Redis, pattern: string): Promise<Freed> {
  const [keys = 0, fields = 0, bytes = 0] = (await admin.eval(FREE, 0, pattern)) as number[]
  if (keys === 0) throw new Error(`the server has no key ${pattern}`)
  return { keys, fields, bytes }
}

/** Turns of conversations that are found by their history. */
async function fill(url: string): Promise<void> {
  const store = await openRedisStore({ url, namespace: 'fill', nowMs: () => Date.now() })
  const turn = async (): Promise<void> => {
    const conversation = hexId()
    const id = hexId()
    await store.reserve(reserveStep(id, Date.now(), { atLeast: 1n, atMost: 1n, cap: null }, { conversation, isFirst: true }))
    await store.settle(settleStep(id, Date.now(), 1n, { conversation, chain: Array.from({ length: FILL.digestsPerTurn }, hexId) }))
  }
  for (let turns = 0; turns < FILL.turns; turns += FILL.atOnce) await Promise.all(Array.from({ length: FILL.atOnce }, turn))
  await store.close()
}

/** As conversations, operations and digests are named. */
function hexId(): string {
  return randomBytes(16).toString('hex')
}

function answered(result: LoadResult): LoadResult {
  const failed = Object.entries(result.statuses).filter(([status]) => status !== '200')
  if (failed.length > 0) throw new Error(`a sidecar on a shared store did not answer with 200: ${JSON.stringify(result.statuses)}`)
  return result
}
