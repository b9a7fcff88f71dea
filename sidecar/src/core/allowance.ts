/** What one sidecar may spend by itself while the store that it shares with others is away. Pure. */
import type { NanoUsd } from '@farebox/crds/usd.ts'

/**
 * The most that it may spend on an account until the store is back: `percent` of its cap, and no more than was left of the
 * cap when this sidecar last looked. So n sidecars overspend a cap by at most n times `percent` of it. Never below zero.
 */
export function outageCap(cap: NanoUsd, known: { readonly spent: NanoUsd }, percent: number): NanoUsd {
  const left = cap > known.spent ? cap - known.spent : 0n
  const allowance = (cap * BigInt(percent)) / 100n
  return left < allowance ? left : allowance
}
