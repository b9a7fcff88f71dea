/** Amounts as people read them in a terminal. Display only: the books keep every digit. */
import { formatUsd, NANO_PER_USD } from '@farebox/crds/usd.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'

/** Rounded half up to `digits` decimals: 123456789n -> `0.1235`. */
export function roundedUsd(amount: NanoUsd, digits: number = 4): string {
  if (amount < 0n) return `-${roundedUsd(-amount, digits)}`
  const unit = NANO_PER_USD / 10n ** BigInt(digits)
  const rounded = ((amount + unit / 2n) / unit) * unit
  const [whole = '0', fraction = ''] = formatUsd(rounded).split('.')
  return digits === 0 ? whole : `${whole}.${fraction.padEnd(digits, '0').slice(0, digits)}`
}

/** A share as a whole percent, rounded half up; null of nothing. */
export function percentOfWhole(part: bigint, whole: bigint): number | null {
  if (whole === 0n) return null
  const doubled = (part * 200n) / whole
  return Number(doubled >= 0n ? (doubled + 1n) / 2n : (doubled - 1n) / 2n)
}
