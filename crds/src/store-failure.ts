/** What new calls may spend while the store that replicas share is away. */

/**
 * `Allowance`: each sidecar goes on by itself, within a part of each budget. `Deny`: no new calls. `Allow`: each sidecar goes
 * on as if it were alone, within the whole of what it last knew to be left.
 */
export const STORE_FAILURE_ACTIONS = ['Allowance', 'Deny', 'Allow'] as const
export type StoreFailureAction = (typeof STORE_FAILURE_ACTIONS)[number]

/** Of a budget, where its owner names none. */
export const ALLOWANCE_PERCENT = 10

/** The part of each budget that one sidecar may spend while the store is away, in percent. */
export function allowancePercent({
  action,
  percent = ALLOWANCE_PERCENT,
}: {
  readonly action: StoreFailureAction
  readonly percent?: number | undefined
}): number {
  switch (action) {
    case 'Allowance':
      return percent
    case 'Deny':
      return 0
    case 'Allow':
      return 100
  }
}
