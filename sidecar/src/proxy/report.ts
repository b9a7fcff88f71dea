/** What a settled call tells the team: metrics, alerts and one log line. */
import { METERED_KINDS } from '@farebox/crds/usage.ts'
import { usdFloat } from '../telemetry/metrics.ts'
import type { SettleAnswer } from '../store/store.ts'
import type { Admitted } from './admit.ts'
import type { Turn } from './exchange.ts'
import type { CallEnd } from './forward.ts'

export function reportCost(admitted: Admitted, end: CallEnd, settled: SettleAnswer): void {
  const { turn, plan } = admitted
  const { gateway, terms } = turn
  const { metrics } = gateway
  const tier = terms.contract.tier
  const entries = settled.result.status === 'settled' || settled.result.status === 'corrected' ? settled.result.entries : []
  for (const entry of entries) {
    metrics.modelCost.add([plan.priced.model, plan.priced.origin], usdFloat(entry.cost > 0n ? entry.cost : 0n))
    if (entry.kind === 'overrun') {
      metrics.overrun.add([plan.priced.model], usdFloat(entry.cost))
      gateway.log.warn(
        { conversation: turn.conversationId, model: plan.model, usd: usdFloat(entry.cost) },
        'the provider billed more than the hold',
      )
    }
  }
  const drivers = entries[0]?.note.drivers ?? {}
  for (const [driver, cost] of Object.entries(drivers)) metrics.cost.add([tier, driver], usdFloat(cost))
  if (end.status === 'settle') {
    for (const kind of METERED_KINDS) if (end.usage[kind] > 0) metrics.tokens.add([plan.priced.model, kind], end.usage[kind])
    if (end.source !== 'exact') metrics.partial.add([end.source])
  } else metrics.partial.add(['estimated'])
  metrics.turns.add([tier, end.status])
  metrics.turnSeconds.observe([tier], (gateway.nowMs() - turn.startedAtMs) / 1000)
  reportAlerts(turn, settled.firedAlerts)
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

/** On the feed, in the log and as a metric. */
export function reportAlerts(turn: Pick<Turn, 'gateway' | 'terms' | 'conversationId' | 'conversation'>, percents: readonly number[]): void {
  const { gateway, terms, conversationId, conversation } = turn
  const tier = terms.contract.tier
  for (const percent of percents) {
    gateway.alerts.add({ atMs: gateway.nowMs(), conversation: conversationId, session: conversation.session, tier, percent })
    gateway.metrics.alerts.add([tier, String(percent)])
    gateway.log.info({ conversation: conversationId, session: conversation.session, tier, percent }, 'alert: budget threshold reached')
  }
}
