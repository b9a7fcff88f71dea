/**
 * `make bench`: what the sidecar costs with everything on, beside nginx as a plain proxy, a relay of bytes on Node and a direct call, in
 * rounds that take turns. docs/performance.md says how to read it. `--strict`: exit code 1 when a target is missed.
 * `--rounds N`: how many rounds (5). `--load small|large|stream|shared`: that load alone. Writes bench.json.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir, totalmem } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { bundleSidecar } from '../../sidecar/build.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { freePorts } from '../support/free-ports.ts'
import { LOAD_TITLES, PROXIES, capFigures, figuresOf, memoryFigures, tableOf } from './figures.ts'
import type { Figure, Party, Proxy, RoundFigures, Saturated } from './figures.ts'
import { BODIES } from './loads.ts'
import type { BodyName, Command, LoadResult, Target } from './loads.ts'
import { ensureNginx, startNginx } from './nginx.ts'
import { cpuMicros, residentMb } from './process-figures.ts'
import { startBenchSidecar, startGenerator, startRelay, startUpstream } from './processes.ts'
import type { Listening } from './processes.ts'
import { benchSharedStore } from './shared-store.ts'

const ROUNDS = 5
const WARM_SECONDS = 4
/** CPU and latency are read at this rate, the same for everybody. */
const OPEN = { perSecond: 200, seconds: 5 }
/** Before the measured rate: what a load at the most has left behind (rows to write, garbage) is not the next one's. */
const REST_MS = 2_000
/** V8 gives back what it took for a load when it sees that little is asked for, which it is slow to believe. */
const AT_REST_AFTER_MS = 120_000
/** What each can do at most, for comparison; after all have been measured at the rate. */
const CLOSED = { connections: 32, seconds: 1.5 }
const STREAMS = { streams: 100, chunks: 150 }
const CAP_CALLS = 300
const CAP_USD = '0.05'
/** What each call of the cap run would write if nobody bounded it: all that its hold allows. */
const CAP_OUTPUT = 100_000

const PARTIES: readonly Party[] = ['direct', ...PROXIES]

interface Bench {
  readonly load: (command: Command) => Promise<LoadResult>
  readonly target: (party: Party, body: BodyName) => Target
  readonly pids: Readonly<Record<Proxy, number>>
}

const { values: options } = parseArgs({
  options: { strict: { type: 'boolean', default: false }, rounds: { type: 'string', default: String(ROUNDS) }, load: { type: 'string' } },
})
const rounds = Number(options.rounds)
if (!Number.isInteger(rounds) || rounds < 1 || rounds > 50) throw new RangeError('--rounds must be a whole number from 1 to 50')
const SHARED = 'shared'
const loads = BODIES.filter((body) => options.load === undefined || options.load === body)
const isSharedWanted = options.load === undefined || options.load === SHARED
if (loads.length === 0 && !isSharedWanted) throw new RangeError(`--load must be one of ${[...BODIES, SHARED].join(', ')}`)

main().catch((error: unknown) => {
  console.error(`bench: ${error instanceof Error ? error.message : String(error)}`)
  process.exitCode = 1
})

async function main(): Promise<void> {
  if (process.platform !== 'linux') throw new Error('the bench reads /proc, so it runs on Linux only')
  const startedAt = performance.now()
  const nginx = loads.length === 0 ? null : ensureNginx(console.log)
  const folder = mkdtempSync(join(tmpdir(), 'farebox-bench-'))
  const cleanups: (() => Promise<void> | void)[] = [() => rmSync(folder, { recursive: true, force: true })]
  try {
    const upstream = await startUpstream()
    cleanups.push(() => upstream.stop())
    const generator = startGenerator()
    cleanups.push(() => generator.stop())
    const configFile = join(folder, 'config.json')
    writeFileSync(configFile, JSON.stringify(benchConfig(upstream.port)))
    console.log('Bundling the sidecar as images run it ...')
    await bundleSidecar()
    const setting = { folder, configFile, rounds, load: (command: Command) => generator.load(command) }
    const figures = [
      ...(nginx === null ? [] : await benchBesideNginx(setting, upstream)),
      ...(isSharedWanted ? await benchSharedStore(setting) : []),
    ]
    report(figures, nginx, Math.round((performance.now() - startedAt) / 1_000))
  } finally {
    for (const cleanUp of cleanups.toReversed()) await cleanUp()
  }
}

interface Setting {
  readonly folder: string
  readonly configFile: string
  readonly load: (command: Command) => Promise<LoadResult>
}

async function benchBesideNginx({ folder, configFile, load }: Setting, upstream: Listening): Promise<readonly Figure[]> {
  const [plain = 0, stream = 0] = await freePorts(2)
  const nginx = await startNginx(folder, { plain, stream, upstream: upstream.port })
  const relay = await startRelay(folder, upstream.port)
  const sidecar = await startBenchSidecar(folder, configFile)
  try {
    const path = '/v1/chat/completions'
    const bench: Bench = {
      load,
      target: (party, body) =>
        ({
          direct: { port: upstream.port, path },
          nginx: { port: body === 'stream' ? stream : plain, path },
          relay: { port: relay.port, path },
          sidecar: { port: sidecar.port, path: `/openai${path}` },
        })[party],
      pids: { nginx: nginx.pid, relay: relay.pid, sidecar: sidecar.pid },
    }
    console.log(`Beside nginx: warming up, then ${rounds} rounds; about ${Math.ceil((160 + rounds * 80) / 60)} minutes ...`)
    const idle = residentMb(sidecar.pid)
    await warmUp(bench)
    const seen: Record<BodyName, RoundFigures[]> = { small: [], large: [], stream: [] }
    let warm = 0
    for (let round = 1; round <= rounds; round++) {
      for (const body of loads) seen[body].push(await measure(bench, body, round))
      if (round === 1) warm = residentMb(sidecar.pid)
      console.log(`round ${round} of ${rounds}: ${loads.map((body) => `${LOAD_TITLES[body]} ${ratio(seen[body].at(-1))}`).join(', ')}`)
    }
    const resident = (): Readonly<Record<'sidecar' | 'relay', number>> => ({
      sidecar: residentMb(sidecar.pid),
      relay: residentMb(relay.pid),
    })
    const end = resident()
    console.log('two minutes of rest ...')
    await sleep(AT_REST_AFTER_MS)
    return [
      ...loads.flatMap((body) => figuresOf(body, seen[body])),
      ...memoryFigures({ idle, warm, end, atRest: resident() }),
      ...(await capRun(bench, upstream.port, 'small')),
      ...(await capRun(bench, upstream.port, 'stream')),
    ]
  } finally {
    await sidecar.stop()
    await relay.stop()
    await nginx.stop()
  }
}

/** Roomy budgets for the load, and a tier with a tight one for the cap run; ids, users, alerts, metrics and the ledger are all in use. */
function benchConfig(upstreamPort: number): ReturnType<typeof makeConfig> {
  const roomy = makeContract({
    tier: 'roomy',
    caps: { perConversation: '1000.00', perUser: { amount: '100000.00', period: { unit: 'Month', timeZone: 'UTC', anchorDay: 1 } } },
  })
  const tight = makeContract({ tier: 'tight', caps: { perConversation: CAP_USD } })
  return makeConfig(`http://127.0.0.1:${upstreamPort}/v1`, [roomy, tight])
}

async function warmUp(bench: Bench): Promise<void> {
  for (const party of PARTIES) {
    for (const body of loads) {
      if (body === 'stream') continue
      const target = bench.target(party, body)
      await bench.load({ kind: 'closed', targets: [target], body, connections: CLOSED.connections, seconds: WARM_SECONDS })
      await bench.load({ kind: 'open', target, body, perSecond: OPEN.perSecond, seconds: 1 })
    }
    if (loads.includes('stream'))
      await bench.load({ kind: 'streams', target: bench.target(party, 'stream'), streams: STREAMS.streams, chunks: 20 })
  }
}

/** One round of one load: each party in turn, another one first each time. */
async function measure(bench: Bench, body: BodyName, round: number): Promise<RoundFigures> {
  const cpu = { nginx: 0, relay: 0, sidecar: 0 }
  const none: Saturated = { cpu: 0, perSecond: 0 }
  const saturated = { nginx: none, relay: none, sidecar: none }
  const latencies: Record<Party, readonly number[]> = { direct: [], nginx: [], relay: [], sidecar: [] }
  const order = PARTIES.map((_, index) => PARTIES[(index + round) % PARTIES.length] ?? 'direct')
  await sleep(REST_MS)
  for (const party of order) {
    const target = bench.target(party, body)
    const at = await observed(
      bench,
      party,
      body === 'stream' ? { kind: 'streams', target, ...STREAMS } : { kind: 'open', target, body, ...OPEN },
    )
    latencies[party] = at.result.latenciesUs
    if (party === 'direct') continue
    cpu[party] = at.cpuUs / (body === 'stream' ? at.result.chunks : at.result.requests)
  }
  if (body === 'stream') return { cpu, saturated: null, latencies }
  for (const party of order) {
    if (party === 'direct') continue
    const most = await observed(bench, party, { kind: 'closed', targets: [bench.target(party, body)], body, ...CLOSED })
    saturated[party] = { cpu: most.cpuUs / most.result.requests, perSecond: most.result.requests / CLOSED.seconds }
  }
  return { cpu, saturated, latencies }
}

/** A load, and the CPU time that the party took for it. */
async function observed(bench: Bench, party: Party, command: Command): Promise<{ readonly result: LoadResult; readonly cpuUs: number }> {
  const used = (): number => (party === 'direct' ? 0 : cpuMicros(bench.pids[party]))
  const before = used()
  const result = answered(await bench.load(command), party)
  return { result, cpuUs: used() - before }
}

/** Many more calls at once, on one conversation, than its budget affords; the provider's own bill is the judge. */
async function capRun(bench: Bench, upstreamPort: number, body: BodyName): Promise<readonly Figure[]> {
  const bill = `http://127.0.0.1:${upstreamPort}/bill`
  await (await fetch(bill, { method: 'DELETE' })).text()
  await bench.load({
    kind: 'burst',
    target: bench.target('sidecar', body),
    body,
    calls: CAP_CALLS,
    output: CAP_OUTPUT,
    conversation: `cap-${body}`,
    tier: 'tight',
  })
  const { nanoUsd } = (await (await fetch(bill)).json()) as { readonly nanoUsd: string }
  if (nanoUsd === '0') throw new Error('the cap run reached the provider with no call at all')
  return capFigures({
    name: `${CAP_CALLS} ${body === 'stream' ? 'streams' : 'calls'} at once on ${CAP_USD} USD`,
    budgetUsd: Number(CAP_USD),
    billedUsd: Number(nanoUsd) / 1e9,
  })
}

function report(figures: readonly Figure[], nginx: string | null, seconds: number): void {
  const machine = {
    cores: cpus().length,
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    memoryMb: Math.round(totalmem() / 1e6),
    node: process.versions.node,
    nginx,
  }
  writeFileSync('bench.json', `${JSON.stringify({ at: new Date().toISOString(), seconds, rounds, machine, figures }, null, 2)}\n`)
  console.log(`\n${tableOf(figures)}\n`)
  console.log(
    `${machine.cores} cores (${machine.cpu}), Node ${machine.node}${nginx === null ? '' : `, nginx ${nginx}`}; ${rounds} rounds, ${seconds} s; also in bench.json`,
  )
  const missed = figures.filter(({ met }) => met === false)
  console.log(missed.length === 0 ? 'Every target is met.' : `Missed: ${missed.map(({ name }) => name).join('; ')}`)
  if (options.strict && missed.length > 0) process.exitCode = 1
}

/** A figure of answers that failed would be a figure of nothing. */
function answered(result: LoadResult, party: Party): LoadResult {
  const failed = Object.entries(result.statuses).filter(([status]) => status !== '200')
  if (failed.length > 0 || result.latenciesUs.length === 0) {
    throw new Error(`${party} did not answer every request with 200: ${JSON.stringify(result.statuses)}`)
  }
  return result
}

function ratio(round: RoundFigures | undefined): string {
  return round === undefined ? '' : `${(round.cpu.sidecar / round.cpu.nginx).toFixed(1)} x nginx`
}
