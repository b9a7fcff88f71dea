/** The rungs, gentlest first. A conversation climbs; it never comes down. */
export const RUNGS = ['DropRetrieval', 'Summarize', 'DowngradeModel', 'RefuseTools', 'EndConversation'] as const
export type Rung = (typeof RUNGS)[number]

/** The rungs that rewrite or swap: they rise only at a user-turn boundary. The others may rise between any two calls. */
export const BOUNDARY_RUNGS = ['DropRetrieval', 'Summarize', 'DowngradeModel'] as const satisfies readonly Rung[]

/** How the last rung ends a conversation. */
export const ENDS = ['Close', 'Reset', 'Refuse'] as const
export type End = (typeof ENDS)[number]

/** From `atPercent` of the budget on, `rung` applies, together with every step before it. */
export interface LadderStep {
  readonly atPercent: number
  readonly rung: Rung
  /** Only with `EndConversation`. */
  readonly end?: End | undefined
}

export const DEFAULT_LADDER: readonly LadderStep[] = [
  { atPercent: 70, rung: 'DropRetrieval' },
  { atPercent: 80, rung: 'Summarize' },
  { atPercent: 90, rung: 'DowngradeModel' },
  { atPercent: 95, rung: 'RefuseTools' },
  { atPercent: 100, rung: 'EndConversation', end: 'Close' },
]
export const DEFAULT_ALERTS: readonly number[] = [70, 90, 100]

/** Why a rung was taken: its threshold was reached, or the call did not fit without it. */
export const RUNG_REASONS = ['threshold', 'fit'] as const
export type RungReason = (typeof RUNG_REASONS)[number]
