/** Which of the locales at hand a reader prefers: `Accept-Language`, RFC 9110 12.5.4, looked up as RFC 4647 3.4 does. */

/** A header may ask for more; what comes after is not read. */
const HEADER_LENGTH_MAX = 1_024
const RANGES_MAX = 32
const RANGE_PATTERN = /^[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*$/
const QUALITY_PATTERN = /^(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)$/

/** The languages that a header asks for, best first, in lower case. Those refused (`q=0`), `*` and what is no language are left out. */
export function readerLocales(acceptLanguage: string): string[] {
  const ranges: { readonly tag: string; readonly quality: number }[] = []
  for (const item of acceptLanguage.slice(0, HEADER_LENGTH_MAX).split(',', RANGES_MAX)) {
    const [tag = '', ...parameters] = item.split(';').map((part) => part.trim())
    if (!RANGE_PATTERN.test(tag)) continue
    const weight = parameters.find((parameter) => /^q=/i.test(parameter))?.slice(2) ?? '1'
    const quality = QUALITY_PATTERN.test(weight) ? Number(weight) : 0
    if (quality > 0) ranges.push({ tag: tag.toLowerCase(), quality })
  }
  return ranges.sort((one, other) => other.quality - one.quality).map(({ tag }) => tag)
}

/** The first of `wanted` that is available, as itself, in a wider form (`de-AT` finds `de`) or a narrower one (`de` finds `de-CH`). */
export function lookUpLocale(wanted: readonly string[], available: readonly string[]): string | null {
  for (const tag of wanted) {
    for (let range = tag.toLowerCase(); range !== ''; range = range.slice(0, Math.max(0, range.lastIndexOf('-')))) {
      const found =
        available.find((locale) => locale.toLowerCase() === range) ??
        available.find((locale) => locale.toLowerCase().startsWith(`${range}-`))
      if (found !== undefined) return found
    }
  }
  return null
}
