/** Pods that wait: a sidecar starts with a config, and mounts the Secret of the store, so that a pod without them does not start. Pure. */
import type { ConversationBudget } from '@farebox/crds/conversation-budget.ts'

/** Of a budget that is not in force. */
export const WAITS = 'new pods wait until it is'

/** Why a new pod of the budget does not start, as its status has it; null: it does, or nobody has said yet. */
export function whyWaiting({ metadata, status }: Pick<ConversationBudget, 'metadata' | 'status'>): string | null {
  if (status === undefined || status.observedGeneration !== metadata.generation) return null
  const messageOf = (type: string): string => status.conditions?.find((condition) => condition.type === type)?.message ?? ''
  switch (status.conditions?.find(({ type }) => type === 'Programmed')?.reason) {
    case 'NotAccepted':
      return status.config === undefined ? messageOf('Accepted') : null // else with the last good config
    case 'NotWritten':
    case 'WriteRefused':
    case 'TooLarge':
    case 'Contested':
      return status.config === undefined ? messageOf('Programmed') : null
    case 'NoStore':
    case 'NoRuntimeSecret':
    case 'RuntimeSecretRefused':
      return messageOf('Programmed')
    default:
      return null
  }
}
