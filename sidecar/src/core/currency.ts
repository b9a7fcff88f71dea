/** Amounts for people: in the currency of their tier, from a ledger in US dollars. */
import { formatUsd, parsePricePerMillion } from '@farebox/crds/usd.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'

/** Scale of an exchange rate: six decimals, as prices have. */
const RATE_SCALE = 1_000_000n

/**
 * `usdRate` is US dollars for one unit of the currency; the result is a decimal string in that currency. Rounded up, it gives a budget back to
 * the digit that its tier says, for that was rounded down on its way into dollars. Rounded down, it is never more than there is.
 */
export function inCurrency(amount: NanoUsd, usdRate: string, rounding: 'up' | 'down' = 'up'): string {
  return formatUsd(converted(amount, usdRate, rounding))
}

/**
 * For amounts that stand below each other, called for each of them in turn: what is shown adds up to their sum as `inCurrency` shows it. For
 * that the sums are rounded, not the amounts.
 */
export function columnInCurrency(usdRate: string): (amount: NanoUsd) => string {
  let sum = 0n
  let shown = 0n
  return (amount) => {
    sum += amount
    const before = shown
    shown = converted(sum, usdRate, 'up')
    return formatUsd(shown - before)
  }
}

/** In billionths of the currency. */
function converted(amount: NanoUsd, usdRate: string, rounding: 'up' | 'down'): bigint {
  const rate = parsePricePerMillion(usdRate)
  if (rate === RATE_SCALE || rate === 0n) return amount
  const step = stepOf(rate)
  const [dividend, divisor] = [amount * RATE_SCALE, rate * step]
  const quotient = dividend / divisor // towards zero
  const rest = dividend % divisor
  if (rest > 0n && rounding === 'up') return (quotient + 1n) * step
  return (rest < 0n && rounding === 'down' ? quotient - 1n : quotient) * step
}

/** Billionths of the currency that are worth a nano-dollar or more, as a power of ten: digits below it would be made up. One, where a unit is worth a dollar. */
function stepOf(rate: bigint): bigint {
  let step = 1n
  while (step * rate < RATE_SCALE) step *= 10n
  return step
}
