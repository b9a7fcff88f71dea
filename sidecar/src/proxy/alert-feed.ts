/** Alerts that have fired, newest first and bounded: the app reads them, the log and the metrics have them too. */
import type { Conversation } from '../core/conversation.ts'

export const ALERTS_KEPT = 1_000

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
  /** After a start: what the conversations (newest first) remember of their sessions, at the time of their latest turn. */
  restore(conversations: readonly Conversation[]): void {
    for (const { id, session, tier, alerts, lastTurnAtMs } of conversations.toReversed())
      for (const percent of alerts) this.add({ atMs: lastTurnAtMs, conversation: id, session, tier, percent })
  }
  newestFirst(limit: number): readonly Alert[] {
    return this.#alerts.slice(-limit).toReversed()
  }
}
