/** Alerts that have fired, newest first and bounded: the app reads them, the log and the metrics have them too. */
import type { BudgetStore } from '../store/store.ts'

const ALERTS_KEPT = 1_000

export interface Alert {
  readonly atMs: number
  readonly conversation: string
  readonly session: number
  readonly tier: string
  readonly percent: number
}

export class AlertFeed {
  readonly #alerts: Alert[] = []

  add(alert: Alert): void {
    this.#alerts.push(alert)
    if (this.#alerts.length > ALERTS_KEPT) this.#alerts.shift()
  }
  /**
   * After a start: what conversations remember of their sessions, at the time of their latest turn. A store that goes away just then is no
   * reason not to start: `onFailed` is told, and they are left out.
   */
  async restore(store: Pick<BudgetStore, 'listConversations'>, nowMs: number, onFailed: (error: unknown) => void): Promise<void> {
    const newestFirst = await store.listConversations({ limit: ALERTS_KEPT, nowMs }).catch((error: unknown) => {
      onFailed(error)
      return []
    })
    // What is here already was told meanwhile.
    const told = this.#alerts.splice(0)
    const isTold = (id: string, session: number, percent: number): boolean =>
      told.some((alert) => alert.conversation === id && alert.session === session && alert.percent === percent)
    for (const { id, session, tier, alerts, lastTurnAtMs } of newestFirst.toReversed())
      for (const percent of alerts)
        if (!isTold(id, session, percent)) this.add({ atMs: lastTurnAtMs, conversation: id, session, tier, percent })
    for (const alert of told) this.add(alert)
  }
  newestFirst(limit: number): readonly Alert[] {
    return this.#alerts.slice(-limit).toReversed()
  }
}
