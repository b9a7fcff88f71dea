/** What tells a pod whose sidecar would be another one if it started today. */
import type { ConversationBudget } from '@farebox/crds/conversation-budget.ts'
import { contentHash } from './canonical.ts'
import { sidecarContainer, sidecarVolumes } from './injection.ts'
import type { InjectionSettings } from './injection.ts'
import { appVariables } from './sdk-variables.ts'

export const INJECTION_HASH_PATTERN = /^[0-9a-f]{16}$/

/**
 * Over everything that does not depend on the pod: 16 hex digits. Made from what is written, not from a list of inputs, so that none
 * can be forgotten. What reaches running sidecars (prices, terms, limits) is not in it.
 */
export function injectionHash(budget: ConversationBudget, settings: InjectionSettings): string {
  return contentHash({
    container: sidecarContainer(budget, settings, {}, null),
    volumes: sidecarVolumes(budget),
    variables: appVariables(budget),
    excluded: budget.spec.injection.excludeContainers.toSorted(),
    resources: settings.resources,
    pullSecrets: settings.pullSecrets.toSorted(),
  })
}
