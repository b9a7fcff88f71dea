/** Amounts for people: in the currency of their tier, from a ledger in US dollars. */
import { formatUsd, parsePricePerMillion } from '@farebox/crds/usd.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'

/** Scale of an exchange rate: six decimals, as prices have. */
const RATE_SCALE = 1_000_000n

/** `usdRate` is US dollars for one unit of the currency; the result is a decimal string in that currency, rounded down. */
export function inCurrency(amount: NanoUsd, usdRate: string): string {
  const rate = parsePricePerMillion(usdRate)
  return formatUsd(rate === RATE_SCALE || rate === 0n ? amount : (amount * RATE_SCALE) / rate)
}
