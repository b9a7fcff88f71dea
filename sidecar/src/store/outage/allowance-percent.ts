import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'

/** Of each cap, what a sidecar may spend by itself while the store is away. All of it where the owner only watches: no cap binds there. */
export function allowancePercentOf({ mode, onStoreFailure }: Pick<SidecarConfig, 'mode' | 'onStoreFailure'>): number {
  return mode === 'Observe' ? 100 : onStoreFailure.allowancePercent
}
