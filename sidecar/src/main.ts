/** The sidecar: builds and connects everything; starts, drains, stops. */
import { randomUUID } from 'node:crypto'
import type { Server } from 'node:http'
import type { Address } from '@farebox/crds/address.ts'
import { loadCatalogue } from '@farebox/crds/catalogue.ts'
import type { StoreNews } from '@farebox/crds/sidecar-status.ts'
import { LRUCache } from 'lru-cache'
import { ConfigInForce } from './config/in-force.ts'
import { LastGood } from './config/last-good.ts'
import { ConfigFile } from './config/watch.ts'
import { BODY_BYTES_MAX } from './core/request.ts'
import { FactorTable } from './core/token-factor.ts'
import { Delivery, NO_DELIVERY } from './delivery/delivery.ts'
import { RunFile } from './delivery/run-file.ts'
import { NEVER_STALE } from './delivery/staleness.ts'
import { messageOf } from './error-text.ts'
import { createAdmin } from './proxy/admin.ts'
import { AlertFeed } from './proxy/alert-feed.ts'
import { BodyRoom, memoryOfProcess, roomIn } from './proxy/body-room.ts'
import { Claims } from './proxy/claims.ts'
import { Credentials } from './proxy/credentials.ts'
import { ContractShelf } from './proxy/gateway.ts'
import type { Gateway, Tally } from './proxy/gateway.ts'
import { Hashing } from './proxy/hashing.ts'
import { HOLD_LIFE_MS, HoldKeeper, tellExpired } from './proxy/hold-keeper.ts'
import { MoneyQueue, SHARED_TRY_EVERY_MS } from './proxy/money-queue.ts'
import { Offers } from './proxy/offers.ts'
import { OutcomeWatch } from './proxy/outcome-watch.ts'
import { PolicyInForce } from './proxy/policy-in-force.ts'
import { QuietSweep } from './proxy/quiet-sweep.ts'
import { tellAlerts } from './proxy/report.ts'
import { reportFacts } from './proxy/report-facts.ts'
import { createDataPlane } from './proxy/server.ts'
import { ShownTotals } from './proxy/shown-totals.ts'
import { ServedTiers } from './proxy/served-tiers.ts'
import { SideLoops } from './proxy/side-loops.ts'
import { bookTotals, NOT_TOLD, shownLimits, shownTiers } from './proxy/status.ts'
import { Summariser } from './proxy/summariser.ts'
import { UnderWay } from './proxy/under-way.ts'
import { UpstreamPool } from './proxy/upstream.ts'
import { UsageRefusals } from './proxy/usage-refusals.ts'
import { UserBook } from './proxy/user-book.ts'
import { readSettings } from './settings.ts'
import { shutdown } from './shutdown.ts'
import { openStore } from './store/open-store.ts'
import { DroppedStep } from './store/outage/replayer.ts'
import { allowancePercentOf } from './store/outage/allowance-percent.ts'
import { createLog } from './telemetry/log.ts'
import { Metrics } from './telemetry/metrics.ts'
import { StoreLog } from './telemetry/store-log.ts'

const EXHAUSTED_USERS_KEPT = 10_000
/** In each list of conversations of which the store is not told. */
const CONVERSATIONS_KEPT = 10_000
const UNPRICED_KEPT = 1_000
const LIMIT_FIELDS_KEPT = 1_000
const SIGNALS = ['SIGTERM', 'SIGINT'] as const

async function main(): Promise<void> {
  const settings = readSettings(process.env)
  const log = createLog(settings, complain)
  process.on('uncaughtExceptionMonitor', (error: unknown) =>
    log.error({ err: error instanceof Error ? error.stack : String(error) }, 'the sidecar ends by a fault of its own'),
  )
  // Until it serves there is nothing to bring to an end. As the first process of a container it would not even hear of a signal.
  const leaveAtOnce = (): void => process.exit(0)
  for (const signal of SIGNALS) process.once(signal, leaveAtOnce)
  const metrics = new Metrics()
  const newId = (): string => randomUUID().replaceAll('-', '') // random bits are drawn many at a time
  let delivery: Delivery | null = null
  const catalogue = loadCatalogue()
  metrics.catalogue.set({ version: catalogue.version, date: catalogue.date }, 1)
  const inForce = new PolicyInForce({ catalogue, metrics, log })
  const alerts = new AlertFeed()
  const storeLog = new StoreLog(log)
  const opened = await openStore(settings, {
    allowancePercent: () => (inForce.policy === null ? 0 : allowancePercentOf(inForce.policy.config)),
    holdLifeMs: HOLD_LIFE_MS,
    onChange: (standing) => {
      const { state, reason } = standing
      const news: StoreNews = { store: { state, reason } }
      if (process.connected) process.send?.(news)
      storeLog.standing(standing)
      delivery?.changed()
    },
    onAlerts: ({ percents, ofUser, ...at }) =>
      tellAlerts({ alerts, metrics, log }, at, { firedAlerts: percents, firedUserAlerts: ofUser?.percents ?? [] }),
    onOtherKey: () =>
      log.warn({}, 'the store has another identity key than FAREBOX_IDENTITY_KEY_FILE; ids are hashed by that of the store'),
    onTrouble: (error) => {
      if (error instanceof DroppedStep) metrics.droppedSteps.add([])
      storeLog.trouble(error)
    },
    onExpired: (expired) => tellExpired({ log, metrics }, expired),
  })
  const { store, isShared, nowMs } = opened
  const hashing = new Hashing(opened.identitySecret)
  metrics.watchStore(opened.standing)

  const upstreams = new UpstreamPool()
  const bodies = new BodyRoom(settings.bodyRoomBytes ?? roomIn(memoryOfProcess(), BODY_BYTES_MAX))
  metrics.watchBodies(bodies)
  const holds = new HoldKeeper(store, { log, metrics }, nowMs)
  const credentials = new Credentials(settings.credentialsDir, log, () => delivery?.changed())
  const run =
    settings.operator === null
      ? null
      : new RunFile(settings.dataDir, Date.now(), (error) =>
          log.error(
            { err: error.message },
            'the folder of FAREBOX_DATA takes no files: the next run of this pod does not learn what this one knew',
          ),
        )
  const claims = new Claims(settings.claimKeysDir, log, { nowMs, kept: run })
  const tally: Tally = { count: 0, lastMs: null, withoutUser: 0 }
  const gateway: Gateway = {
    policy: () => inForce.policy,
    rejectedConfig: () => inForce.rejected,
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
    contracts: new ContractShelf(store, log),
    queue: new MoneyQueue(isShared ? SHARED_TRY_EVERY_MS : null),
    holds,
    factors: new FactorTable(),
    outcomes: new OutcomeWatch(store),
    users: new UserBook(store),
    offers: new Offers(),
    sideLoops: new SideLoops(),
    summariser: new Summariser(() => gateway),
    underWay: new UnderWay(),
    alerts,
    metrics,
    log,
    nowMs,
    newId,
    usageRefusals: new UsageRefusals(),
    limitFields: new LRUCache({ max: LIMIT_FIELDS_KEPT }),
    servedTiers: new ServedTiers(),
    drains: { count: 0 },
    failedSwaps: new LRUCache({ max: CONVERSATIONS_KEPT }),
    uneditable: new LRUCache({ max: CONVERSATIONS_KEPT }),
    faultyUnedited: new LRUCache({ max: CONVERSATIONS_KEPT }),
    boundsCut: new LRUCache({ max: CONVERSATIONS_KEPT }),
    exhaustedUsers: new LRUCache({ max: EXHAUSTED_USERS_KEPT }),
    observed: new WeakSet(),
    unpriced: new LRUCache({ max: UNPRICED_KEPT }),
  }
  const quietSweep = new QuietSweep(gateway)
  const shownTotals = new ShownTotals(async () => (inForce.policy === null ? NOT_TOLD : await bookTotals(gateway, inForce.policy)), {
    onSight: settings.operator === null || !isShared,
  })
  metrics.watchTiers(() => (inForce.policy === null ? [] : shownTiers(shownTotals.lastKnown().tiers, inForce.policy.config.contracts)))
  metrics.watchLimits(() => {
    const { policy } = inForce
    return policy === null ? [] : shownLimits(policy.budgetKey, shownTotals.lastKnown().limits)
  })
  const lastGood = new LastGood(settings.dataDir)
  const config = new ConfigInForce(
    {
      accepted(read, source) {
        const { config: accepted } = read
        inForce.accept(read, source)
        claims.follow(accepted)
        gateway.usageRefusals.follow(accepted.upstreams)
        delivery?.follow(accepted)
        quietSweep.follow()
        if (source === 'lastGood') return
        try {
          lastGood.write(accepted)
        } catch (error) {
          log.error({ err: String(error) }, 'the config in force cannot be kept for the next start')
        }
      },
      rejected(refused) {
        inForce.refuse(refused, nowMs())
        delivery?.changed()
      },
    },
    { hasOperator: settings.operator !== null },
  )
  let isFollowed = false
  // What was there when this run began may have come long ago.
  const reached = (): void => {
    if (isFollowed) delivery?.staleness.confirmed()
  }
  let newestRefused = 0
  /** A newer one than that is a sign that we are reached, once. */
  const refusedMount = (version: number | null): void => {
    if (version === null || version <= Math.max(newestRefused, config.inForce?.version ?? 0)) return
    newestRefused = version
    reached()
  }
  const configFile = new ConfigFile(settings.configFile, {
    accepted: (mounted) => {
      const offered = config.offer(mounted, 'mount')
      if (offered === 'taken') reached()
      else if (offered === 'unusable') refusedMount(mounted.config.version)
    },
    rejected: (refused) => {
      config.refuse(refused)
      refusedMount(refused.version)
    },
    unwatched: (reason) => log.warn({ err: reason }, 'the config file cannot be watched; it is looked at every second'),
  })
  metrics.watchDelivery(() => delivery?.state ?? NO_DELIVERY)
  if (settings.operator !== null && run !== null) {
    delivery = new Delivery({
      operator: settings.operator,
      run,
      config,
      upstreams: {
        baseUrls: () => inForce.policy?.config.upstreams.map(({ baseUrl }) => baseUrl) ?? [],
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
  isFollowed = true
  const dataPlane = createDataPlane(gateway)
  let stopping = false
  const admin = createAdmin(gateway, () => stopping)
  await listen(dataPlane, settings.listen)
  await listen(admin, settings.admin)
  holds.start()
  credentials.start()
  claims.start()
  delivery?.start()
  log.info({ listen: settings.listen, admin: settings.admin, bodyRoomBytes: bodies.bytesMax }, 'sidecar ready')

  const stop = async (signal: string): Promise<void> => {
    if (stopping) return
    stopping = true
    log.info({ signal, inFlight: holds.count }, 'sidecar stops: no new calls, those under way may end')
    const beginners = [configFile, quietSweep]
    const keepers = [holds, credentials, claims]
    await shutdown({ gateway, dataPlane, admin, beginners, keepers, delivery, store: opened }, settings.drainMs)
  }
  for (const signal of SIGNALS) process.off(signal, leaveAtOnce).once(signal, () => void stop(signal))
  // A parent that gave us a channel is gone when it breaks, even by SIGKILL: there is none without such a parent.
  process.once('disconnect', () => void stop('disconnect'))
  if ('connected' in process && !process.connected) await stop('disconnect')
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

/** To whoever started it. */
function complain(line: string): void {
  process.stderr.write(`farebox sidecar: ${line}\n`)
}

main().catch((error: unknown) => {
  complain(messageOf(error))
  process.exit(1)
})
