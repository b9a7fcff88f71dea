/** Nearest rank: the smallest value that at least `percent` of the values do not exceed. Null of none. */
export function quantile(values: readonly bigint[], percent: number): bigint | null {
  const sorted = values.toSorted((a, b) => (a < b ? -1 : a > b ? 1 : 0))
  const rank = Math.max(1, Math.ceil((sorted.length * percent) / 100))
  return sorted[rank - 1] ?? null
}
