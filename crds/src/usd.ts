/**
 * Money. Amounts are integer nano-dollars, rates integer pico-dollars per token (1 USD per million tokens is exactly
 * 1,000,000 pico-dollars per token). Outside the process both are decimal strings in USD; nothing here is a float.
 */

/** An amount in nano-dollars (10^-9 USD). */
export type NanoUsd = bigint
/** A rate in pico-dollars (10^-12 USD) per token, or per call for tool fees. */
export type PicoUsd = bigint

export const PICO_PER_NANO = 1_000n
export const NANO_PER_USD = 1_000_000_000n
const NANO_DIGITS = 9
/** Decimal digits of a price per million tokens: one pico-dollar per token. */
const PRICE_DIGITS = 6

/** What a decimal amount looks like: at most 9 digits before the point and 9 after, no sign, no exponent. */
export const USD_PATTERN = /^(0|[1-9][0-9]{0,8})(\.[0-9]{1,9})?$/
/** The same, where it may be below zero. */
export const SIGNED_USD_PATTERN = /^-?(0|[1-9][0-9]{0,8})(\.[0-9]{1,9})?$/
/** What a price per million tokens looks like: at most 6 digits after the point, so that it is a whole pico-dollar per token. */
export const PRICE_PATTERN = /^(0|[1-9][0-9]{0,6})(\.[0-9]{1,6})?$/

/** `"0.50"` -> 500000000n. Throws `RangeError` on anything that is not `USD_PATTERN`. */
export function parseUsd(text: string): NanoUsd {
  if (!USD_PATTERN.test(text)) throw new RangeError(`"${text}" must be a decimal amount such as "0.50"`)
  return parseScaled(text, NANO_DIGITS)
}

/** As `parseUsd`, and with a sign: `"-0.50"` -> -500000000n. */
export function parseSignedUsd(text: string): NanoUsd {
  return text.startsWith('-') ? -parseUsd(text.slice(1)) : parseUsd(text)
}

/** USD per million tokens -> pico-dollars per token: `"2.50"` -> 2500000n. Throws `RangeError` unless `PRICE_PATTERN`. */
export function parsePricePerMillion(text: string): PicoUsd {
  if (!PRICE_PATTERN.test(text)) throw new RangeError(`"${text}" must be a decimal price such as "2.50"`)
  return parseScaled(text, PRICE_DIGITS)
}

/** Exact and shortest, but with at least two decimals: 500000000n -> `"0.50"`, 7500038n -> `"0.007500038"`, -1n -> `"-0.000000001"`. */
export function formatUsd(amount: NanoUsd): string {
  return formatScaled(amount, NANO_DIGITS)
}

/** The reverse of `parsePricePerMillion`. */
export function formatPricePerMillion(rate: PicoUsd): string {
  return formatScaled(rate, PRICE_DIGITS)
}

/** Smallest integer not below `numerator / denominator`; both must be >= 0, the denominator > 0. */
export function divideCeil(numerator: bigint, denominator: bigint): bigint {
  if (numerator < 0n || denominator <= 0n) throw new RangeError('divideCeil takes a numerator >= 0 and a denominator > 0')
  return (numerator + denominator - 1n) / denominator
}

/** `amount` x `percent` / 100, rounded down: a share of a cap is never more than the share. Throws `RangeError` unless `percent` is whole. */
export function percentOf(amount: NanoUsd, percent: number): NanoUsd {
  return (amount * BigInt(percent)) / 100n
}

function parseScaled(text: string, digits: number): bigint {
  const [whole = '0', fraction = ''] = text.split('.')
  return BigInt(whole + fraction.padEnd(digits, '0'))
}

function formatScaled(value: bigint, digits: number): string {
  const sign = value < 0n ? '-' : ''
  const text = (value < 0n ? -value : value).toString().padStart(digits + 1, '0')
  const fraction = text.slice(-digits).replace(/0+$/, '').padEnd(2, '0')
  return `${sign}${text.slice(0, -digits)}.${fraction}`
}
