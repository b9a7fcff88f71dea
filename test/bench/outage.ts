/**
 * `make outage`: what an outage of the shared store costs, by what the owner allows meanwhile (`onStoreFailure`) and by how
 * long it lasts. Two sidecars on one Redis are asked 200 turns a second; then the server is frozen (SIGSTOP), as by a full
 * disk or a host that hangs: connections stay, nothing is answered. Prints a table in Markdown; docs/store.md has one.
 * `--away 0,5,60`: for how many seconds. `--actions Allowance,Deny,Allow`.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import type { SidecarStatus } from '@farebox/crds/sidecar-status.ts'
import { formatUsd, parseUsd } from '@farebox/crds/usd.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import { storeProgram } from '@farebox/operator/laptop/store-process.ts'
import { openRedisStore } from '@farebox/sidecar/store/redis/redis.ts'
import { bundleSidecar } from '../../sidecar/build.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { spawnProvider } from '../support/provider-process.ts'
import type { BillAnswer, ProviderProcess } from '../support/provider-process.ts'
import { startRedis } from '../support/redis.ts'
import type { TestServer } from '../support/redis.ts'
import { startBenchSidecar } from './processes.ts'
import type { BenchSidecar } from './processes.ts'
import { quantile } from './statistics.ts'

const ACTIONS = ['Allowance', 'Deny', 'Allow'] as const
type Action = (typeof ACTIONS)[number]
/** Of each budget, what each sidecar may spend by itself; in percent. */
const PERCENT: Readonly<Record<Action, number>> = { Allowance: 10, Deny: 0, Allow: 100 }

const TURNS_PER_SECOND = 200
const BEFORE_SECONDS = 5
const AFTER_SECONDS = 15
/** Afterwards, until nothing is held: a hold that nobody settles expires within this. */
const SETTLED_MS_MAX = 120_000
/** About sixty turns: of each conversation that was there before, some part is spent already. */
const BUDGET = '0.10'
const OLD_CONVERSATIONS = 2_000
/** One has spent nothing before, the next a hundredth of its budget, and so on up to this. */
const OLD_SPENT_PERCENT = 90
/** Of a hundred turns, so many are the first of a new conversation, and so many go on with one of those. */
const NEW_PERCENT = 5
const RECENT_PERCENT = 20
const RECENT_KEPT = 200
const OUTPUT_TOKENS = { least: 40, most: 160, asked: 200 }
/** What the provider takes. */
const ANSWER_MS = 100
const NAMESPACE = 'outage'
const BEGUN_AT_ONCE = 20
const BEGIN_TRIES = 20
const LEDGER_PAGE = 10_000
const LEDGER_MS_MAX = 10_000
/** What each turn sends: some 250 tokens. */
const HISTORY = [
  { role: 'system', content: 'You answer customers of a shop for garden tools. Be brief, name the order, never promise a date.' },
  { role: 'user', content: 'Where is my order? It said "Tuesday", and today is Friday. '.repeat(6) },
  { role: 'assistant', content: 'It is on its way: the carrier has it since Monday. '.repeat(6) },
  { role: 'user', content: 'And when will it be here? I am away from Saturday. '.repeat(6) },
]

interface Cell {
  readonly action: Action
  readonly awaySeconds: number
}

/** One turn, as its app saw it. */
interface Turn {
  readonly atMs: number
  readonly tookMs: number
  /** Null: answered. */
  readonly refusal: string | null
  /** A sidecar that was on its own answered. */
  readonly isAlone: boolean
}

interface Outcome {
  readonly cell: Cell
  readonly turns: readonly Turn[]
  readonly goneMs: number
  readonly backMs: number
  readonly billed: NanoUsd
  /** By the ledger, without what was spent before. */
  readonly booked: NanoUsd
  /** By how much the conversation that passed its budget by most did so. */
  readonly overshoot: NanoUsd
  readonly unsent: number
}

main().catch((error: unknown) => {
  console.error(`outage: ${error instanceof Error ? error.message : String(error)}`)
  process.exitCode = 1
})

async function main(): Promise<void> {
  const cells = cellsOf()
  const program = storeProgram(console.log)
  if (program === null) throw new Error('no Valkey or Redis on this machine: install the package redis-server or valkey-server')
  await bundleSidecar()
  console.log(`Two sidecars, ${TURNS_PER_SECOND} turns/s; a line for each outage as it is over.`)
  for (const [index, cell] of cells.entries()) {
    const row = rowOf(await measure(cell, program))
    if (index === 0) console.log(`${lineOf(Object.keys(row))}\n${lineOf(Object.keys(row).map(() => '---'))}`)
    console.log(lineOf(Object.values(row)))
  }
}

function cellsOf(): readonly Cell[] {
  const { values } = parseArgs({
    options: { away: { type: 'string', default: '0,5,60' }, actions: { type: 'string', default: ACTIONS.join(',') } },
  })
  const seconds = values.away.split(',').map(Number)
  if (seconds.some((one) => !(one >= 0 && one <= 600))) throw new RangeError('--away must be seconds from 0 to 600, with commas between')
  const actions = ACTIONS.filter((action) => values.actions.split(',').includes(action))
  if (actions.length === 0) throw new RangeError(`--actions must be of ${ACTIONS.join(', ')}`)
  return actions.flatMap((action) => seconds.map((awaySeconds) => ({ action, awaySeconds })))
}

/** With a server, a provider and sidecars of its own. */
async function measure(cell: Cell, program: string): Promise<Outcome> {
  const folder = mkdtempSync(join(tmpdir(), 'farebox-outage-'))
  const cleanups: (() => Promise<void> | void)[] = [() => rmSync(folder, { recursive: true, force: true })]
  try {
    const provider = await spawnProvider()
    cleanups.push(() => provider.stop())
    const server = await startRedis(program)
    cleanups.push(() => server.stop())
    const configFile = join(folder, 'config.json')
    writeFileSync(configFile, JSON.stringify(configOf(cell.action, provider.url)))
    const sidecars: BenchSidecar[] = []
    for (const name of ['a', 'b']) {
      const sidecar = await startBenchSidecar(join(folder, name), configFile, { url: server.url, namespace: NAMESPACE })
      cleanups.push(() => sidecar.stop())
      sidecars.push(sidecar)
    }
    return await run(cell, { provider, server, sidecars })
  } finally {
    for (const cleanUp of cleanups.toReversed()) await cleanUp()
  }
}

function configOf(action: Action, providerUrl: string): ReturnType<typeof makeConfig> {
  const contract = makeContract({
    caps: { perConversation: BUDGET, perUser: { amount: '1000.00', period: { unit: 'Month', timeZone: 'UTC', anchorDay: 1 } } },
  })
  return makeConfig(`${providerUrl}/v1`, [contract], { onStoreFailure: { action, allowancePercent: PERCENT[action] } })
}

interface World {
  readonly provider: ProviderProcess
  readonly server: TestServer
  readonly sidecars: readonly BenchSidecar[]
}

async function run(cell: Cell, { provider, server, sidecars }: World): Promise<Outcome> {
  const spent = await beginOld(sidecars)
  await settled(sidecars)
  addBilled(spent, await provider.bill())
  await provider.clearBill()
  const bookedBefore = await ledgerTotal(server.url)
  const conversationOf = chooser([...spent.keys()])
  const turns: Promise<Turn>[] = []
  const startMs = performance.now()
  const goneMs = startMs + BEFORE_SECONDS * 1_000
  const backMs = goneMs + cell.awaySeconds * 1_000
  const frozen = freeze(server, goneMs, backMs)
  const total = (BEFORE_SECONDS + cell.awaySeconds + AFTER_SECONDS) * TURNS_PER_SECOND
  for (let index = 0; index < total; index++) {
    const waitMs = startMs + (index * 1_000) / TURNS_PER_SECOND - performance.now()
    if (waitMs > 0) await sleep(waitMs)
    turns.push(ask(sidecars, conversationOf()))
  }
  const seen = await Promise.all(turns)
  await frozen
  const unsent = await settled(sidecars)
  const bill = await provider.bill()
  addBilled(spent, bill)
  const most = [...spent.values()].reduce((most, cost) => (cost > most ? cost : most), 0n)
  return {
    cell,
    turns: seen,
    goneMs,
    backMs,
    billed: bill.totalNanoUsd,
    booked: (await ledgerTotal(server.url)) - bookedBefore,
    overshoot: most > parseUsd(BUDGET) ? most - parseUsd(BUDGET) : 0n,
    unsent,
  }
}

function addBilled(spent: Map<string, NanoUsd>, { lines }: BillAnswer): void {
  for (const { tag, nanoUsd } of lines) if (tag !== null) spent.set(tag, (spent.get(tag) ?? 0n) + nanoUsd)
}

/** Connections stay; whatever is asked meanwhile is answered when it goes on. */
async function freeze(server: TestServer, goneMs: number, backMs: number): Promise<void> {
  if (goneMs === backMs) return
  await sleep(goneMs - performance.now())
  server.process.kill('SIGSTOP')
  await sleep(backMs - performance.now())
  server.process.kill('SIGCONT')
}

/** The conversations that are there before, and what each was told to have spent beside its first turn. */
async function beginOld(sidecars: readonly BenchSidecar[]): Promise<Map<string, NanoUsd>> {
  const spent = new Map<string, NanoUsd>()
  const budget = parseUsd(BUDGET)
  const begin = async (index: number): Promise<void> => {
    const id = `old-${index}`
    const costs = `http://127.0.0.1:${anyOf(sidecars).port}/farebox/v1/conversations/${id}/costs`
    const cost = (budget * BigInt(index % OLD_SPENT_PERCENT)) / 100n
    await patiently(async () => (await ask(sidecars, id)).refusal === null)
    await patiently(async () => {
      const body = JSON.stringify({ cost: formatUsd(cost), label: 'before', operationId: id })
      const told = await fetch(costs, { method: 'POST', body })
      await told.arrayBuffer()
      return told.ok
    })
    spent.set(id, cost)
  }
  for (let from = 0; from < OLD_CONVERSATIONS; from += BEGUN_AT_ONCE)
    await Promise.all(Array.from({ length: BEGUN_AT_ONCE }, (_, index) => begin(from + index)))
  return spent
}

/** What comes before is not what is measured: where the machine is busy, it is asked for again. */
async function patiently(step: () => Promise<boolean>): Promise<void> {
  for (let tries = 1; !(await step()); tries++) {
    if (tries === BEGIN_TRIES) throw new Error('the conversations that are there before could not begin')
    await sleep(tries * 100)
  }
}

/** Whose turn is next: mostly of the old, some of those that began of late, some of a new one. */
function chooser(old: readonly string[]): () => string {
  const recent: string[] = []
  let begun = 0
  return () => {
    const percent = Math.random() * 100
    if (percent < NEW_PERCENT || (percent < NEW_PERCENT + RECENT_PERCENT && recent.length === 0)) {
      begun += 1
      recent.push(`new-${begun}`)
      if (recent.length > RECENT_KEPT) recent.shift()
      return `new-${begun}`
    }
    return anyOf(percent < NEW_PERCENT + RECENT_PERCENT ? recent : old)
  }
}

async function ask(sidecars: readonly BenchSidecar[], conversation: string): Promise<Turn> {
  const atMs = performance.now()
  const { least, most, asked } = OUTPUT_TOKENS
  const turn = (refusal: string | null, isAlone: boolean): Turn => ({ atMs, tookMs: performance.now() - atMs, refusal, isAlone })
  try {
    const answer = await fetch(`http://127.0.0.1:${anyOf(sidecars).port}/openai/v1/chat/completions`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        authorization: 'Bearer outage',
        'x-farebox-conversation': conversation,
        'x-farebox-user': `user-of-${conversation}`,
        'x-fake-tag': conversation,
        'x-fake-delay-ms': String(ANSWER_MS),
        'x-fake-output-tokens': String(Math.round(least + Math.random() * (most - least))),
      },
      body: JSON.stringify({ model: 'gpt-4o', max_tokens: asked, messages: HISTORY }),
    })
    const isAlone = answer.headers.get('x-farebox-store') === 'away'
    const body = (await answer.json()) as { readonly error?: { readonly code?: string } }
    return turn(answer.ok ? null : (body.error?.code ?? String(answer.status)), isAlone)
  } catch {
    return turn('connection_lost', false)
  }
}

/** Until every sidecar has told the store all that it did, and nothing is held; how many steps were left when the time was over. */
async function settled(sidecars: readonly BenchSidecar[]): Promise<number> {
  const endMs = performance.now() + SETTLED_MS_MAX
  let unsent = 0
  while (performance.now() < endMs) {
    const statuses = await Promise.all(sidecars.map(statusOf))
    unsent = statuses.reduce((sum, status) => sum + (status?.store.unsent ?? 0), 0)
    if (unsent === 0 && statuses.every(isAtRest)) return 0
    await sleep(500)
  }
  return unsent
}

function isAtRest(status: SidecarStatus | null): boolean {
  if (status === null || status.store.state !== 'Ready' || status.callsInFlight > 0) return false
  return Object.values(status.tiers).every(({ held }) => parseUsd(held) === 0n)
}

/** Null while it cannot say. */
async function statusOf({ port }: BenchSidecar): Promise<SidecarStatus | null> {
  const answer = await fetch(`http://127.0.0.1:${port}/farebox/v1/status`)
  const body = await answer.json()
  return answer.ok ? (body as SidecarStatus) : null
}

/** All that the books say was spent. */
async function ledgerTotal(url: string): Promise<NanoUsd> {
  const store = await openRedisStore({ url, namespace: NAMESPACE, nowMs: () => Date.now(), answerMsMax: LEDGER_MS_MAX })
  try {
    let total = 0n
    for (let afterSequence = 0; ;) {
      const entries = await store.readLedger({ afterSequence, limit: LEDGER_PAGE })
      const last = entries.at(-1)
      if (last === undefined) return total
      for (const { cost } of entries) total += cost
      afterSequence = last.sequence
    }
  } finally {
    await store.close()
  }
}

function lineOf(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`
}

function rowOf({ cell, turns, goneMs, backMs, billed, booked, overshoot, unsent }: Outcome): Readonly<Record<string, string>> {
  const answered = turns.filter(({ refusal }) => refusal === null)
  const during = turns.filter(({ atMs }) => atMs >= goneMs && atMs < backMs)
  const after = turns.filter(({ atMs }) => atMs >= backMs)
  // Those of a sidecar that has not seen yet that the store is back are no grants of the store.
  const granted = after.filter(({ refusal, isAlone }) => refusal === null && !isAlone).map(({ atMs, tookMs }) => atMs + tookMs - ANSWER_MS)
  const difference = booked - billed
  return {
    'on failure': cell.action === 'Allowance' ? `Allowance, ${PERCENT.Allowance} %` : cell.action,
    away: `${cell.awaySeconds} s`,
    turns: String(turns.length),
    answered: String(answered.length),
    'of them alone': String(answered.filter(({ isAlone }) => isAlone).length),
    refused: refusalsOf(turns),
    'p50, p99 away': latenciesOf(during),
    'p50, p99 after': latenciesOf(after),
    'first grant':
      cell.awaySeconds === 0 ? '' : granted.length === 0 ? 'none' : `${((Math.min(...granted) - backMs) / 1_000).toFixed(1)} s`,
    bill: dollars(billed),
    'books above bill': difference === 0n ? '0' : formatUsd(difference),
    'most over a budget':
      overshoot === 0n ? '0' : `${dollars(overshoot)} (${(Number((overshoot * 1_000n) / parseUsd(BUDGET)) / 10).toFixed(0)} %)`,
    unsent: String(unsent),
  }
}

function refusalsOf(turns: readonly Turn[]): string {
  const byCode = Map.groupBy(
    turns.filter(({ refusal }) => refusal !== null),
    ({ refusal }) => refusal,
  )
  return [...byCode].map(([code, refused]) => `${refused.length} \`${code}\``).join(', ') || '0'
}

function latenciesOf(turns: readonly Turn[]): string {
  if (turns.length === 0) return ''
  const took = turns.map(({ tookMs }) => tookMs)
  return `${quantile(took, 50).toFixed(0)}, ${quantile(took, 99).toFixed(0)} ms`
}

/** To the tenth of a cent. */
function dollars(amount: NanoUsd): string {
  return (Number(amount) / 1e9).toFixed(3)
}

function anyOf<Item>(items: readonly Item[]): Item {
  const item = items[Math.floor(Math.random() * items.length)]
  if (item === undefined) throw new RangeError('there is none to choose from')
  return item
}
