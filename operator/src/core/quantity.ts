/** Kubernetes quantities, exactly: `100m`, `1.5Gi`, `1e3`. */

const NANO = 9
const DECIMAL: Readonly<Record<string, number>> = { n: -9, u: -6, m: -3, '': 0, k: 3, M: 6, G: 9, T: 12, P: 15, E: 18 }
const BINARY: Readonly<Record<string, bigint>> = { Ki: 10n, Mi: 20n, Gi: 30n, Ti: 40n, Pi: 50n, Ei: 60n }
const QUANTITY = /^\+?(\d{1,30})?(?:\.(\d{0,30}))?(?:([eE][+-]?\d{1,2})|([numkMGTPE]|[KMGTPE]i))?$/

/** In billionths of the unit, which is what the API server counts in; rounded up, as there. Null: not a quantity, or below zero. */
export function parseQuantity(text: string | number): bigint | null {
  const found = QUANTITY.exec(String(text))
  if (found === null) return null
  const [, whole = '', fraction = '', exponent, suffix = ''] = found
  if (whole === '' && fraction === '') return null
  const digits = BigInt(whole + fraction)
  const shift = BINARY[suffix]
  const power = (exponent === undefined ? (DECIMAL[suffix] ?? 0) : Number(exponent.slice(1))) - fraction.length + NANO
  return scale(shift === undefined ? digits : digits << shift, power)
}

function scale(digits: bigint, power: number): bigint {
  if (power >= 0) return digits * 10n ** BigInt(power)
  const divisor = 10n ** BigInt(-power)
  return (digits + divisor - 1n) / divisor
}
