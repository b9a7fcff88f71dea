/** What a settled call tells the team: metrics, alerts and one log line. */
import type { PricedModel } from '@farebox/crds/prices.ts'
import { METERED_KINDS } from '@farebox/crds/usage.ts'
import type { Usage } from '@farebox/crds/usage.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import { rungTold } from '../core/ladder.ts'
import { usdFloat } from '../telemetry/metrics.ts'
import type { FiredPercents, SettleAnswer } from '../store/store.ts'
import type { Admitted } from './admit.ts'
import type { Alert } from './alert-feed.ts'
import type { Turn } from './exchange.ts'
import type { CallEnd } from './forward.ts'
import type { Gateway } from './gateway.ts'

export function reportCost(admitted: Admitted, end: CallEnd, settled: SettleAnswer): void {
  const { turn, plan } = admitted
  const { gateway, terms } = turn
  const { metrics } = gateway
  const tier = terms.contract.tier
  const billed = end.status === 'settle' ? end : { cost: admitted.granted, usage: null }
  reportMoney(turn, plan.priced, settled, billed)
  if (end.status === 'settle') {
    if (end.source !== 'exact') metrics.partial.add([end.source])
    if (end.facts?.usageInvalid === true) metrics.doubts.add(['invalid'])
    else if (end.facts?.usageClamped === true) metrics.doubts.add(['clamped'])
  } else metrics.partial.add(['estimated'])
  metrics.turns.add([tier, end.status])
  metrics.turnSeconds.observe([tier], (performance.now() - turn.startedUptimeMs) / 1000)
  gateway.log.debug(
    {
      requestId: turn.requestId,
      conversation: turn.conversationId,
      tier,
      model: plan.model,
      rung: rungTold(plan),
      percent: plan.percent,
      end: end.status,
    },
    'turn settled',
  )
}

/** What a call was billed; `cost` in nano-dollars. */
interface Billed {
  readonly cost: NanoUsd
  /** Null: nobody knows, and it was charged what it held. */
  readonly usage: Usage | null
}

/**
 * What any settlement, of a turn or of a summary, adds to the metrics, and the alerts that it fired. One that comes after its hold expired
 * counts whole as well: what was charged then is counted apart.
 */
export function reportMoney(turn: Turn, priced: PricedModel, settled: SettleAnswer, { cost, usage }: Billed): void {
  const { gateway, terms } = turn
  const { metrics } = gateway
  // A name that no price list has is whatever a client wrote: it would be a label of its own each time.
  const model = priced.origin === 'ceiling' || priced.origin === 'free' ? 'other' : priced.model
  if (usage !== null) for (const kind of METERED_KINDS) if (usage[kind] > 0) metrics.tokens.add([model, kind], usage[kind])
  reportAlerts(turn, settled)
  if (settled.result.status !== 'settled' && settled.result.status !== 'corrected') return
  const { entries } = settled.result
  metrics.modelCost.add([model, priced.origin], usdFloat(cost))
  // No entry is there where the store that has the hold is told later; the first may take back what an expiry had charged.
  const drivers = entries.find(({ kind }) => kind === 'settlement')?.note.drivers ?? { other: cost }
  for (const [driver, part] of Object.entries(drivers)) metrics.cost.add([terms.contract.tier, driver], usdFloat(part))
  for (const entry of entries) {
    if (entry.kind !== 'overrun') continue
    metrics.overruns.add([])
    metrics.overrun.add([model], usdFloat(entry.cost))
    gateway.log.warn(
      { conversation: turn.conversationId, model: priced.model, usd: usdFloat(entry.cost) },
      'the provider billed more than the hold',
    )
  }
}

export function reportAlerts(turn: Pick<Turn, 'gateway' | 'terms' | 'conversationId' | 'conversation'>, fired: FiredPercents): void {
  const { gateway, terms, conversationId, conversation } = turn
  const at = { atMs: gateway.nowMs(), conversation: conversationId, session: conversation.session, tier: terms.contract.tier }
  tellAlerts(gateway, at, fired)
}

/** On the feed, in the log and as a metric. */
export function tellAlerts(
  { alerts, metrics, log }: Pick<Gateway, 'alerts' | 'metrics' | 'log'>,
  at: Omit<Alert, 'percent' | 'budget'>,
  { firedAlerts, firedUserAlerts }: FiredPercents,
): void {
  const { conversation, session, tier } = at
  const fired = { conversation: firedAlerts, user: firedUserAlerts }
  for (const budget of ['conversation', 'user'] as const)
    for (const percent of fired[budget]) {
      alerts.add({ ...at, percent, budget })
      metrics.alerts.add([tier, String(percent)])
      log.info({ conversation, session, tier, budget, percent }, 'alert: budget threshold reached')
    }
}
