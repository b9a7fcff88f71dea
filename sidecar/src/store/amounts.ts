/** Amounts by name in JSON, which has no integers beyond 2^53: as decimal strings. */
import type { NanoUsd } from '@farebox/crds/usd.ts'

export function amountsText(amounts: Readonly<Record<string, NanoUsd | undefined>>): Record<string, string> {
  const texts: Record<string, string> = {}
  for (const name in amounts) if (amounts[name] !== undefined) texts[name] = String(amounts[name])
  return texts
}
export function amountsOf(texts: Readonly<Record<string, string>>): Record<string, NanoUsd> {
  const amounts: Record<string, NanoUsd> = {}
  for (const name in texts) amounts[name] = BigInt(texts[name] ?? '0')
  return amounts
}
