/** What a settled call tells the team: metrics, alerts and one log line. */
import type { PricedModel } from '@farebox/crds/prices.ts'
import { METERED_KINDS } from '@farebox/crds/usage.ts'
import type { Usage } from '@farebox/crds/usage.ts'
import { usdFloat } from '../telemetry/metrics.ts'
import type { SettleAnswer } from '../store/store.ts'
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
  reportMoney(turn, plan.priced, settled, end.status === 'settle' ? end.usage : null)
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
      rung: plan.rungs.at(-1) ?? null,
      percent: plan.percent,
      end: end.status,
    },
    'turn settled',
  )
}

/** What any settlement, of a turn or of a summary, adds to the metrics, and the alerts that it fired. */
export function reportMoney(turn: Turn, priced: PricedModel, settled: SettleAnswer, usage: Usage | null): void {
  const { gateway, terms } = turn
  const { metrics } = gateway
  // A name that no price list has is whatever a client wrote: it would be a label of its own each time.
  const model = priced.origin === 'ceiling' || priced.origin === 'free' ? 'other' : priced.model
  const entries = settled.result.status === 'settled' || settled.result.status === 'corrected' ? settled.result.entries : []
  for (const entry of entries) {
    metrics.modelCost.add([model, priced.origin], usdFloat(entry.cost > 0n ? entry.cost : 0n))
    if (entry.kind === 'overrun') {
      metrics.overrun.add([model], usdFloat(entry.cost))
      gateway.log.warn(
        { conversation: turn.conversationId, model: priced.model, usd: usdFloat(entry.cost) },
        'the provider billed more than the hold',
      )
    }
  }
  const drivers = entries[0]?.note.drivers ?? {}
  for (const [driver, cost] of Object.entries(drivers)) metrics.cost.add([terms.contract.tier, driver], usdFloat(cost))
  if (usage !== null) for (const kind of METERED_KINDS) if (usage[kind] > 0) metrics.tokens.add([model, kind], usage[kind])
  reportAlerts(turn, settled.firedAlerts)
}

export function reportAlerts(turn: Pick<Turn, 'gateway' | 'terms' | 'conversationId' | 'conversation'>, percents: readonly number[]): void {
  const { gateway, terms, conversationId, conversation } = turn
  const { session } = conversation
  tellAlerts(gateway, { atMs: gateway.nowMs(), conversation: conversationId, session, tier: terms.contract.tier, percents })
}

/** On the feed, in the log and as a metric. */
export function tellAlerts(
  { alerts, metrics, log }: Pick<Gateway, 'alerts' | 'metrics' | 'log'>,
  { percents, ...reached }: Omit<Alert, 'percent'> & { readonly percents: readonly number[] },
): void {
  const { conversation, session, tier } = reached
  for (const percent of percents) {
    alerts.add({ ...reached, percent })
    metrics.alerts.add([tier, String(percent)])
    log.info({ conversation, session, tier, percent }, 'alert: budget threshold reached')
  }
}
