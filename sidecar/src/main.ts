/** The sidecar: builds and connects everything; starts, drains, stops. */
import { randomUUID } from 'node:crypto'
import { mkdirSync } from 'node:fs'
import type { Server } from 'node:http'
import type { Address } from '@farebox/crds/address.ts'
import { loadCatalogue } from '@farebox/crds/catalogue.ts'
import type { StoreNews, SidecarStatus } from '@farebox/crds/sidecar-status.ts'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { createPriceList } from '@farebox/crds/price-list.ts'
import { LRUCache } from 'lru-cache'
import { ConfigInForce } from './config/in-force.ts'
import type { ConfigSource } from './config/in-force.ts'
import { LastGood } from './config/last-good.ts'
import { ConfigFile } from './config/watch.ts'
import { FactorTable } from './core/token-factor.ts'
import { Delivery, NO_DELIVERY } from './delivery/delivery.ts'
import type { DeliveryOptions } from './delivery/delivery.ts'
import { RunFile } from './delivery/run-file.ts'
import { NEVER_STALE } from './delivery/staleness.ts'
import { createAdmin } from './proxy/admin.ts'
import { AlertFeed } from './proxy/alert-feed.ts'
import { BODY_BYTES_MAX } from './core/request.ts'
import { BodyRoom, memoryOfProcess, roomIn } from './proxy/body-room.ts'
import { Claims } from './proxy/claims.ts'
import { Credentials } from './proxy/credentials.ts'
import { ContractShelf, policyOf } from './proxy/gateway.ts'
import type { Gateway, Policy, Tally } from './proxy/gateway.ts'
import { shownTiers, statusWith, tiersOf } from './proxy/status.ts'
import { Hashing } from './proxy/hashing.ts'
import { HOLD_LIFE_MS, HoldKeeper } from './proxy/hold-keeper.ts'
import { MoneyQueue, SHARED_TRY_EVERY_MS } from './proxy/money-queue.ts'
import { Offers } from './proxy/offers.ts'
import { OutcomeWatch } from './proxy/outcome-watch.ts'
import { QuietSweep } from './proxy/quiet-sweep.ts'
import { tellAlerts } from './proxy/report.ts'
import { createDataPlane } from './proxy/server.ts'
import { ShownTotals } from './proxy/shown-totals.ts'
import { Summariser } from './proxy/summariser.ts'
import { UnderWay } from './proxy/under-way.ts'
import { UpstreamPool } from './proxy/upstream.ts'
import { UsageRefusals } from './proxy/usage-refusals.ts'
import { UserBook } from './proxy/user-book.ts'
import { readSettings } from './settings.ts'
import { openStore } from './store/open-store.ts'
import { allowancePercentOf } from './store/outage/allowance-percent.ts'
import { StoreError } from './store/store.ts'
import { logStanding, logTrouble } from './telemetry/store-news.ts'
import { createLog } from './telemetry/log.ts'
import { Metrics } from './telemetry/metrics.ts'

/** What did not end in time is cut off, and has this share of that time, at most so long, to enter what it came to. */
const GIVE_UP_SHARE = 0.15
const GIVE_UP_MS_MAX = 2_000
/** Then the books are closed. What they have is kept by then: a process that hangs in closing them is ended. */
const CLOSE_SHARE = 0.1
const CLOSE_MS_MAX = 2_500
/** Totals, which cost the store most, are worked out anew for a report when they are older than this, or turns have ended since. */
const TOTALS_MS = 14_000
const TOTALS_AFTER_TURNS_MS = 2_000
const FAILED_SWAPS_KEPT = 10_000
const UNPRICED_KEPT = 1_000
const LIMIT_FIELDS_KEPT = 1_000
const LOG_OPENS_MS = 100
const SIGNALS = ['SIGTERM', 'SIGINT'] as const

async function main(): Promise<void> {
  const settings = readSettings(process.env)
  const log = createLog(settings)
  // Until it serves there is nothing to bring to an end. As the first process of a container it would not even hear of a signal.
  const leaveAtOnce = (): void => process.exit(0)
  for (const signal of SIGNALS) process.once(signal, leaveAtOnce)
  const metrics = new Metrics()
  const newId = (): string => randomUUID().replaceAll('-', '') // random bits are drawn many at a time
  mkdirSync(settings.dataDir, { recursive: true })
  let policy: Policy | null = null
  let rejected: { readonly reason: string; readonly at: string } | null = null
  let delivery: Delivery | null = null
  const alerts = new AlertFeed()
  const opened = await openStore(settings, {
    allowancePercent: () => (policy === null ? 0 : allowancePercentOf(policy.config)),
    holdLifeMs: HOLD_LIFE_MS,
    onChange: (standing) => {
      const { state, reason } = standing
      const news: StoreNews = { store: { state, reason } }
      if (process.connected) process.send?.(news)
      logStanding(log, standing)
      delivery?.changed()
    },
    onAlerts: (fired) => tellAlerts({ alerts, metrics, log }, fired),
    onOtherKey: () =>
      log.warn({}, 'the store has another identity key than FAREBOX_IDENTITY_KEY_FILE; ids are hashed by that of the store'),
    onTrouble: (error) => logTrouble(log, error),
  })
  const { store, isShared, nowMs } = opened
  const hashing = new Hashing(opened.identitySecret)
  metrics.watchStore(opened.standing)
  const catalogue = loadCatalogue()
  metrics.catalogue.set({ version: catalogue.version, date: catalogue.date }, 1)

  const upstreams = new UpstreamPool()
  const bodies = new BodyRoom(settings.bodyRoomBytes ?? roomIn(memoryOfProcess(), BODY_BYTES_MAX))
  metrics.watchBodies(bodies)
  const holds = new HoldKeeper(store, log, nowMs)
  const credentials = new Credentials(settings.credentialsDir, log, () => delivery?.changed())
  const run = settings.operator === null ? null : new RunFile(settings.dataDir, Date.now())
  const claims = new Claims(settings.claimKeysDir, log, { nowMs, kept: run })
  const tally: Tally = { count: 0, lastMs: null, withoutUser: 0 }
  const gateway: Gateway = {
    policy: () => policy,
    rejectedConfig: () => rejected,
    store,
    storeIsShared: isShared,
    storeStanding: opened.standing,
    upstreams,
    bodies,
    canHashIds: () => hashing.isPossible,
    get hasher() {
      return hashing.hasher
    },
    get chainKey() {
      return hashing.chainKey
    },
    get staleness() {
      return delivery?.staleness ?? NEVER_STALE
    },
    credentials,
    claims,
    tally,
    contracts: new ContractShelf(store),
    queue: new MoneyQueue(isShared ? SHARED_TRY_EVERY_MS : null),
    holds,
    factors: new FactorTable(),
    outcomes: new OutcomeWatch(store),
    users: new UserBook(store),
    offers: new Offers(),
    summariser: new Summariser(() => gateway),
    underWay: new UnderWay(),
    alerts,
    metrics,
    log,
    nowMs,
    newId,
    usageRefusals: new UsageRefusals(),
    limitFields: new LRUCache({ max: LIMIT_FIELDS_KEPT }),
    drains: { count: 0 },
    failedSwaps: new LRUCache({ max: FAILED_SWAPS_KEPT }),
    uneditable: new LRUCache({ max: FAILED_SWAPS_KEPT }),
    boundsCut: new LRUCache({ max: FAILED_SWAPS_KEPT }),
    unpriced: new LRUCache({ max: UNPRICED_KEPT }),
  }
  const quietSweep = new QuietSweep(gateway)
  const shownTotals = new ShownTotals(async () => (policy === null ? {} : await tiersOf(gateway, policy)))
  metrics.watchTiers(() => (policy === null ? [] : shownTiers(shownTotals.lastKnown(), policy.config.contracts)))
  const lastGood = new LastGood(settings.dataDir)
  const accepted = (config: SidecarConfig, source: ConfigSource): void => {
    policy = policyOf(config, createPriceList(config.prices, catalogue))
    rejected = null
    metrics.config.reset()
    metrics.config.set({ budget: `${config.namespace}/${config.budget}`, hash: config.hash }, 1)
    metrics.configs.add(['accepted'])
    log.info({ budget: `${config.namespace}/${config.budget}`, version: config.version, hash: config.hash, source }, 'config in force')
    metrics.configSource.reset()
    metrics.configSource.set({ source }, 1)
    claims.follow(config)
    gateway.usageRefusals.follow(config.upstreams)
    delivery?.follow(config)
    quietSweep.follow()
    if (source === 'lastGood') return
    try {
      lastGood.write(config)
    } catch (error) {
      log.error({ err: String(error) }, 'the config in force cannot be kept for the next start')
    }
  }
  const config = new ConfigInForce(
    {
      accepted,
      rejected({ version, hash, reason }) {
        rejected = { reason, at: new Date(nowMs()).toISOString() }
        metrics.configs.add(['rejected'])
        log.error({ version, hash, reason }, 'config refused; the last good one stays in force')
        delivery?.changed()
      },
    },
    { hasOperator: settings.operator !== null },
  )
  const configFile = new ConfigFile(settings.configFile, {
    accepted: (mounted) => void config.offer(mounted, 'mount'),
    rejected: (refused) => config.refuse(refused),
    unwatched: (reason) => log.warn({ err: reason }, 'the config file cannot be watched; it is looked at every second'),
  })
  metrics.watchDelivery(() => delivery?.state ?? NO_DELIVERY)
  if (settings.operator !== null && run !== null) {
    delivery = new Delivery({
      operator: settings.operator,
      run,
      config,
      upstreams: {
        baseUrls: () => policy?.config.upstreams.map(({ baseUrl }) => baseUrl) ?? [],
        remotes: () => upstreams.remotes(),
      },
      facts: reportFacts(gateway, shownTotals, () => opened.books() ?? run.books),
      onReport: (outcome) => metrics.reports.add([outcome]),
      log,
    })
  }
  if (opened.standing().state === 'Ready')
    await gateway.alerts.restore(store, nowMs(), (error) => log.warn({ err: String(error) }, 'alerts of an earlier run cannot be read'))
  // First what an earlier run had: a mounted one that is older, or invalid, must not take its place.
  const kept = lastGood.read()
  if (kept !== null) config.offer(kept, 'lastGood')
  await configFile.start()
  const dataPlane = createDataPlane(gateway)
  const admin = createAdmin(gateway)
  await listen(dataPlane, settings.listen)
  await listen(admin, settings.admin)
  holds.start()
  credentials.start()
  claims.start()
  delivery?.start()
  log.info({ listen: settings.listen, admin: settings.admin, bodyRoomBytes: bodies.bytesMax }, 'sidecar ready')

  let stopping = false
  const stop = async (signal: string): Promise<void> => {
    if (stopping) return
    stopping = true
    log.info({ signal, inFlight: holds.count }, 'sidecar stops: no new calls, those under way may end')
    configFile.stop()
    quietSweep.stop()
    dataPlane.close()
    dataPlane.closeIdleConnections()
    const { underWay } = gateway
    const { drainMs } = settings
    if (!(await underWay.ended(drainMs))) log.warn({ inFlight: underWay.count }, 'what is still under way is cut off')
    dataPlane.closeAllConnections()
    admin.close()
    admin.closeAllConnections()
    upstreams.close()
    const giveUpMs = Math.min(GIVE_UP_MS_MAX, drainMs * GIVE_UP_SHARE)
    await Promise.allSettled([underWay.ended(giveUpMs), delivery?.stop(giveUpMs)])
    holds.stop()
    credentials.stop()
    claims.stop()
    setTimeout(() => process.exit(0), Math.min(CLOSE_MS_MAX, drainMs * CLOSE_SHARE))
    await opened.close().catch((error: unknown) => log.error({ err: String(error) }, 'the books could not be closed'))
    process.exit(0)
  }
  for (const signal of SIGNALS) process.off(signal, leaveAtOnce).once(signal, () => void stop(signal))
  // A parent that gave us a channel is gone when it breaks, even by SIGKILL: there is none without such a parent.
  process.once('disconnect', () => void stop('disconnect'))
  if ('connected' in process && !process.connected) await stop('disconnect')
}

/** What a report says of the books and the turns. */
function reportFacts(gateway: Gateway, shownTotals: ShownTotals, books: () => string): DeliveryOptions['facts'] {
  let totals: { readonly tiers: SidecarStatus['tiers']; readonly atMs: number; readonly turns: number } | null = null
  return async (withTotals) => {
    const policy = gateway.policy()
    const { count: turns } = gateway.tally
    const ageMs = performance.now() - (totals?.atMs ?? Number.NEGATIVE_INFINITY)
    if (withTotals && policy !== null && (ageMs > TOTALS_MS || (ageMs > TOTALS_AFTER_TURNS_MS && turns !== totals?.turns))) {
      const told = await shownTotals.now().catch((error: unknown) => {
        if (error instanceof StoreError && error.code === 'away') return null
        throw error
      })
      // Null: the store is there, and took too long for them. What it told before is told again.
      // Without any, the store is away: they are asked for as soon as it is back.
      if (told !== null) totals = Object.keys(told).length === 0 ? null : { tiers: { ...told }, atMs: performance.now(), turns }
    }
    const { count, lastMs, withoutUser } = gateway.tally
    return {
      books: books(),
      status: policy === null ? null : statusWith(gateway, policy, (withTotals ? totals?.tiers : null) ?? {}),
      turns: { count, lastMs, withoutUser },
      heldKeys: policy === null ? [] : [...gateway.credentials.heldFor(policy.config.upstreams)],
    }
  }
}

function listen(server: Server, address: Address): Promise<void> {
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
