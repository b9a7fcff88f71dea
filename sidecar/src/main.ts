/** The sidecar: builds and connects everything; starts, drains, stops. */
import { randomUUID } from 'node:crypto'
import { mkdirSync } from 'node:fs'
import type { Server } from 'node:http'
import { loadCatalogue } from '@farebox/crds/catalogue.ts'
import type { StoreNews } from '@farebox/crds/sidecar-status.ts'
import { createPriceList } from '@farebox/crds/price-list.ts'
import { LRUCache } from 'lru-cache'
import { ConfigFile } from './config/watch.ts'
import { FactorTable } from './core/token-factor.ts'
import { createAdmin } from './proxy/admin.ts'
import { AlertFeed, ALERTS_KEPT } from './proxy/alert-feed.ts'
import { ContractShelf, policyOf } from './proxy/gateway.ts'
import type { Gateway, Policy } from './proxy/gateway.ts'
import { Hashing } from './proxy/hashing.ts'
import { HOLD_LIFE_MS, HoldKeeper } from './proxy/hold-keeper.ts'
import { MoneyQueue, SHARED_TRY_EVERY_MS } from './proxy/money-queue.ts'
import { OutcomeWatch } from './proxy/outcome-watch.ts'
import { createDataPlane } from './proxy/server.ts'
import { Summariser } from './proxy/summariser.ts'
import { UnderWay } from './proxy/under-way.ts'
import { UpstreamPool } from './proxy/upstream.ts'
import { readSettings } from './settings.ts'
import { openStore } from './store/open-store.ts'
import { createLog } from './telemetry/log.ts'
import { Metrics } from './telemetry/metrics.ts'

/** Calls under way, and what follows them, have this long to end after a signal. */
const DRAIN_MS = 25_000
/** What did not end is cut off, and has this long to enter what it came to. */
const GIVE_UP_MS = 2_000
const FAILED_SWAPS_KEPT = 10_000
const LOG_OPENS_MS = 100

async function main(): Promise<void> {
  const settings = readSettings(process.env)
  const log = createLog(settings)
  const metrics = new Metrics()
  const newId = (): string => randomUUID().replaceAll('-', '') // random bits are drawn many at a time
  mkdirSync(settings.dataDir, { recursive: true })
  let policy: Policy | null = null
  let rejected: { readonly reason: string; readonly at: string } | null = null
  const opened = await openStore(settings, {
    allowancePercent: () => policy?.config.onStoreFailure.allowancePercent ?? 0,
    holdLifeMs: HOLD_LIFE_MS,
    onChange: ({ state, reason, unsent }) => {
      const news: StoreNews = { store: { state, reason } }
      if (process.connected) process.send?.(news)
      if (state === 'Ready') log.info({ unsent }, 'the store is there')
      else log.warn({ state, reason, unsent }, 'the store is away; it is looked for until it is back')
    },
    onTrouble: (error) => log.error({ err: error.message }, 'the store has trouble that no call was told of; it is tried again'),
  })
  const { store, isShared, nowMs } = opened
  const hashing = new Hashing(opened.identitySecret)
  metrics.watchStore(opened.standing)
  const catalogue = loadCatalogue()
  metrics.catalogue.set({ version: catalogue.version, date: catalogue.date }, 1)

  const upstreams = new UpstreamPool()
  const holds = new HoldKeeper(store, log, nowMs)
  const gateway: Gateway = {
    policy: () => policy,
    rejectedConfig: () => rejected,
    store,
    storeIsShared: isShared,
    storeStanding: opened.standing,
    upstreams,
    canHashIds: () => hashing.isPossible,
    get hasher() {
      return hashing.hasher
    },
    get chainKey() {
      return hashing.chainKey
    },
    contracts: new ContractShelf(store),
    queue: new MoneyQueue(isShared ? SHARED_TRY_EVERY_MS : null),
    holds,
    factors: new FactorTable(),
    outcomes: new OutcomeWatch(store),
    summariser: new Summariser(() => gateway),
    underWay: new UnderWay(),
    alerts: new AlertFeed(),
    metrics,
    log,
    nowMs,
    newId,
    plainUpstreams: new Set(),
    drains: { count: 0 },
    failedSwaps: new LRUCache({ max: FAILED_SWAPS_KEPT }),
  }
  const configFile = new ConfigFile(settings.configFile, {
    accepted(config) {
      policy = policyOf(config, createPriceList(config.prices, catalogue))
      rejected = null
      metrics.config.reset()
      metrics.config.set({ budget: `${config.namespace}/${config.budget}`, hash: config.hash }, 1)
      metrics.configs.add(['accepted'])
      log.info({ budget: `${config.namespace}/${config.budget}`, version: config.version, hash: config.hash }, 'config in force')
    },
    rejected(reason) {
      rejected = { reason, at: new Date(nowMs()).toISOString() }
      metrics.configs.add(['rejected'])
      log.error({ reason }, 'config refused; the last good one stays in force')
    },
  })
  if (opened.standing().state === 'Ready') gateway.alerts.restore(await store.listConversations({ limit: ALERTS_KEPT, nowMs: nowMs() }))
  await configFile.start()
  const dataPlane = createDataPlane(gateway)
  const admin = createAdmin(gateway)
  await listen(dataPlane, settings.listen)
  await listen(admin, settings.admin)
  holds.start()
  log.info({ listen: settings.listen, admin: settings.admin }, 'sidecar ready')

  let stopping = false
  const stop = async (signal: string): Promise<void> => {
    if (stopping) return
    stopping = true
    log.info({ signal, inFlight: holds.count }, 'sidecar stops: no new calls, those under way may end')
    configFile.stop()
    dataPlane.close()
    dataPlane.closeIdleConnections()
    const { underWay } = gateway
    if (!(await underWay.ended(DRAIN_MS))) log.warn({ inFlight: underWay.count }, 'what is still under way is cut off')
    dataPlane.closeAllConnections()
    admin.close()
    admin.closeAllConnections()
    upstreams.close()
    await underWay.ended(GIVE_UP_MS)
    holds.stop()
    await opened.close()
    process.exit(0)
  }
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => void stop(signal))
  // A parent that gave us a channel is gone when it breaks, even by SIGKILL: there is none without such a parent.
  process.once('disconnect', () => void stop('disconnect'))
  if ('connected' in process && !process.connected) await stop('disconnect')
}

function listen(server: Server, address: { readonly host: string; readonly port: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(address.port, address.host, () => {
      server.off('error', reject)
      resolve()
    })
  })
}

main().catch((error: unknown) => {
  process.stderr.write(`farebox sidecar: ${error instanceof Error ? error.message : String(error)}\n`)
  // The log opens its file meanwhile, and complains when it is closed before that.
  setTimeout(() => process.exit(1), LOG_OPENS_MS)
})
