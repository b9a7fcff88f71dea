/** The arithmetic of the bench: quantiles, medians, and what the kernel says of a process. */

/** Nearest rank: the smallest value that at least `percent` of the values do not exceed. Throws a RangeError on none. */
export function quantile(values: readonly number[], percent: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  const value = sorted[Math.max(1, Math.ceil((sorted.length * percent) / 100)) - 1]
  if (value === undefined) throw new RangeError('a quantile needs at least one value')
  return value
}

export interface Spread {
  readonly median: number
  readonly least: number
  readonly most: number
}

/** Of one value per round. The median of an even count is the mean of the two in the middle. */
export function spreadOf(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length / 2
  const low = sorted[Math.ceil(middle) - 1]
  const high = sorted[Math.floor(middle)]
  const least = sorted[0]
  const most = sorted.at(-1)
  if (low === undefined || high === undefined || least === undefined || most === undefined) {
    throw new RangeError('a spread needs at least one value')
  }
  return { median: (low + high) / 2, least, most }
}

/** CPU time of one thread in microseconds, from its `schedstat`: "run-ns wait-ns slices". */
export function parseSchedstat(text: string): number {
  const runNs = /^(\d+) \d+ \d+\s*$/.exec(text)?.[1]
  if (runNs === undefined) throw new TypeError(`not a schedstat line: ${JSON.stringify(text)}`)
  return Number(runNs) / 1_000
}

/** User and system CPU time of a process in microseconds, from its `stat`; its name may hold spaces and brackets. */
export function parseStat(text: string, ticksPerSecond: number): number {
  const fields = text
    .slice(text.lastIndexOf(')') + 1)
    .trim()
    .split(/\s+/)
  const ticks = Number(fields[11]) + Number(fields[12]) // fields 14 and 15, counted from 1 with the two that were cut
  if (!text.includes(')') || !Number.isFinite(ticks)) throw new TypeError(`not a stat line: ${JSON.stringify(text)}`)
  return (ticks * 1_000_000) / ticksPerSecond
}

/** Resident memory in MB (10^6 bytes), from a process' `status`. */
export function parseResidentMb(text: string): number {
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(text)?.[1]
  if (kib === undefined) throw new TypeError('a status without VmRSS')
  return (Number(kib) * 1_024) / 1_000_000
}
