/** Alerts that have fired in this process, newest first and bounded: the app reads them, the log and the metrics have them too. */
import type { BudgetStore } from '../store/store.ts'

const ALERTS_KEPT = 1_000

export interface Alert {
  readonly atMs: number
  readonly conversation: string
  readonly session: number
  readonly tier: string
  readonly percent: number
  /** Whose threshold it is: the conversation's, once in a session, or its user's, once in a period. */
  readonly budget: 'conversation' | 'user'
}

export class AlertFeed {
  readonly #alerts: Alert[] = []

  add(alert: Alert): void {
    this.#alerts.push(alert)
    if (this.#alerts.length > ALERTS_KEPT) this.#alerts.shift()
  }
  /**
   * After a start: what conversations remember of their sessions, and of the last period of their users, at the time of their latest
   * turn. A store that goes away just then is no reason not to start: `onFailed` is told, and they are left out.
   */
  async restore(store: Pick<BudgetStore, 'listConversations'>, nowMs: number, onFailed: (error: unknown) => void): Promise<void> {
    // A lone call may have been the one by which a user's budget reached a threshold.
    const lists = [
      store.listConversations({ limit: ALERTS_KEPT, nowMs }),
      store.listConversations({ limit: ALERTS_KEPT, nowMs, areLone: true }),
    ]
    const listed = await Promise.all(lists).catch((error: unknown) => {
      onFailed(error)
      return []
    })
    const oldestFirst = listed.flat().toSorted((a, b) => a.lastTurnAtMs - b.lastTurnAtMs)
    // What is here already was told meanwhile.
    const told = this.#alerts.splice(0)
    const isTold = ({ conversation, session, percent, budget }: Alert): boolean =>
      told.some((one) => one.conversation === conversation && one.session === session && one.percent === percent && one.budget === budget)
    for (const { id, session, tier, alerts, userAlerts, lastTurnAtMs } of oldestFirst) {
      const fired = { conversation: alerts, user: userAlerts?.percents ?? [] }
      for (const budget of ['conversation', 'user'] as const)
        for (const percent of fired[budget]) {
          const alert = { atMs: lastTurnAtMs, conversation: id, session, tier, percent, budget }
          if (!isTold(alert)) this.add(alert)
        }
    }
    for (const alert of told) this.add(alert)
  }
  newestFirst(limit: number): readonly Alert[] {
    return this.#alerts.slice(-limit).toReversed()
  }
}
