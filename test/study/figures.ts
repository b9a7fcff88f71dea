/** Shares and spreads for `make study`. */

/** What `cost` saves of `base`, in percent; below zero where it costs more. 0 where nothing was spent. */
export function savedPercent(base: bigint, cost: bigint): number {
  return base === 0n ? 0 : 100 - Number((cost * 100_000n) / base) / 1_000
}

export function sharePercent(part: number, all: number): number {
  return all === 0 ? 0 : (part * 100) / all
}

/** Nearest-rank percentiles; zeros of an empty list. */
export function spread(values: readonly number[]): { readonly p10: number; readonly p50: number; readonly p90: number } {
  const sorted = values.toSorted((one, other) => one - other)
  const at = (percent: number): number => sorted[Math.max(0, Math.ceil((sorted.length * percent) / 100) - 1)] ?? 0
  return { p10: at(10), p50: at(50), p90: at(90) }
}
