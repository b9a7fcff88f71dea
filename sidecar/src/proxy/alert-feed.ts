/** Alerts that have fired, newest first and bounded: the app reads them, the log and the metrics have them too. */
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
  newestFirst(limit: number): readonly Alert[] {
    return this.#alerts.slice(-limit).toReversed()
  }
}
