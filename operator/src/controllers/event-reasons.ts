/** Reasons of the events that the operator records. */
export const EVENT_REASONS = {
  /** Somebody changed a config map of ours, and it was put right. */
  reverted: 'ConfigReverted',
  injected: 'FareboxInjected',
  skipped: 'FareboxSkipped',
  /** A pod without the sidecar that its budget requires was evicted, to come again with one. */
  evicted: 'FareboxEvicted',
} as const
export type EventReason = (typeof EVENT_REASONS)[keyof typeof EVENT_REASONS]
