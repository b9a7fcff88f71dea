/** What users are told when something changes for them: which occasions speak, in whose words, in which language. */
import { NOTICE_PLACEHOLDER_PATTERN } from '@farebox/crds/notice-text.ts'
import type { NoticePlaceholder } from '@farebox/crds/notice-text.ts'
import type { Contract, NoticeOccasion } from '@farebox/crds/sidecar-config.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import type { Conversation, Edit, PendingNotice } from './conversation.ts'
import { inCurrency } from './currency.ts'
import { lookUpLocale, readerLocales } from './locale.ts'
import { BUILT_IN_LOCALES, BUILT_IN_TEXTS } from './notice-texts.ts'

/** Occasions that speak with built-in words unless the owner asks for silence; the others speak only in the owner's. */
const TOLD_BY_DEFAULT: ReadonlySet<NoticeOccasion> = new Set(['Summarize', 'DropOldest', 'Reset', 'End'])
const LAST_RESORT_LOCALE = 'en'

/** Of a contract, what notices are made from. */
export type NoticeTerms = Pick<Contract, 'displayName' | 'currency' | 'usdRate' | 'notices' | 'upgrade'>

/** Languages to speak in, best first. */
export type Locales = readonly string[]

/** The reader's languages (the request's `accept-language`), then the tier's own. */
export function chooseLocale(contract: Pick<Contract, 'notices'>, acceptLanguage: string | undefined): Locales {
  return [...readerLocales(acceptLanguage ?? ''), contract.notices.defaultLocale, LAST_RESORT_LOCALE]
}

/** What the id of an edit begins with that takes delivered notices out again; their own ids follow. */
const NOTICE_EDIT = 'notice/'
const BETWEEN_IDS = '+'

/**
 * The notices that these occasions leave waiting for an answer in prose. Not among them: what no answer would ever say,
 * and what waits already or was told.
 */
export function noticesFor(turn: {
  readonly contract: Pick<Contract, 'tier' | 'notices'>
  readonly conversation: Pick<Conversation, 'session' | 'turns' | 'notices' | 'edits'>
  /** Of the user's budget. */
  readonly period: string | null
  readonly occasions: readonly NoticeOccasion[]
}): readonly PendingNotice[] {
  const { contract, conversation, period, occasions } = turn
  const { session, turns, notices, edits } = conversation
  return occasions
    .filter((occasion) => isTold(contract, occasion))
    .map((occasion) => ({
      // A user is told of the next tier once in a period; of everything else, whenever it happens.
      id: occasion === 'Upgrade' ? `Upgrade/${contract.tier}/${period}` : `${session}/${occasion}/${turns}`,
      occasion,
    }))
    .filter(({ id }) => !notices.some((notice) => notice.id === id) && !edits.some((edit) => wasDelivered(edit, id)))
}

/** The edit that takes delivered notices out again when the app resends the answer; it also says which those were. */
export function noticeEdit(notice: { readonly text: string; readonly ids: readonly string[] }): Edit {
  return { kind: 'notice', id: `${NOTICE_EDIT}${notice.ids.join(BETWEEN_IDS)}`, text: notice.text }
}

function wasDelivered(edit: Edit, id: string): boolean {
  return edit.kind === 'notice' && edit.id.slice(NOTICE_EDIT.length).split(BETWEEN_IDS).includes(id)
}

/** Whether answers carry notices, and the occasion has words in any language. */
function isTold({ notices }: Pick<Contract, 'notices'>, occasion: NoticeOccasion): boolean {
  if (notices.mode !== 'Inline') return false
  const own = Object.values(notices.texts[occasion] ?? {})
  return own.length === 0 ? TOLD_BY_DEFAULT.has(occasion) : own.some((text) => text.trim() !== '')
}

/**
 * What to tell users on an occasion: the owner's words, in the best language that the owner wrote; built-in ones where the
 * owner wrote none. Null where nothing is to be said: the owner left the text empty, or wrote none for an occasion that
 * speaks only in the owner's words. Placeholders are filled in; `remaining` is not shown unless the text asks for it.
 */
export function noticeText(input: {
  readonly contract: NoticeTerms
  /** The newest terms of the tiers at hand: an upgrade is told by its display name. */
  readonly tiers: Readonly<Record<string, Pick<Contract, 'displayName'>>>
  readonly occasion: NoticeOccasion
  readonly locale: Locales
  readonly remaining: NanoUsd
  readonly percent: number
  /** Turns of the conversation so far. */
  readonly turns: number
}): string | null {
  const { contract, tiers, occasion, locale, remaining, percent, turns } = input
  const words = wordsFor(contract.notices.texts[occasion] ?? {}, occasion, locale)
  if (words === null || words.text.trim() === '') return null
  const nameOf = (tier: string): string => tiers[tier]?.displayName ?? tier
  const values: Readonly<Record<NoticePlaceholder, () => string>> = {
    remaining: () => formatMoney(remaining, contract, words.locale),
    percent: () => String(percent),
    tier: () => (occasion === 'Upgrade' && contract.upgrade !== undefined ? nameOf(contract.upgrade.tier) : contract.displayName),
    turns: () => String(turns),
  }
  return words.text.trim().replaceAll(NOTICE_PLACEHOLDER_PATTERN, (whole, name: string) => {
    const known = Object.entries(values).find(([placeholder]) => placeholder === name)
    return known === undefined ? whole : known[1]()
  })
}

/** Money in the tier's currency as its readers write it, rounded down to the currency's own digits: never more than there is. */
export function formatMoney(amount: NanoUsd, { currency, usdRate }: Pick<Contract, 'currency' | 'usdRate'>, locale: string): string {
  // Intl reads a decimal string exactly; its type cannot see that this is one.
  return moneyFormat(currency, locale).format(inCurrency(amount > 0n ? amount : 0n, usdRate) as `${number}`)
}

function wordsFor(
  own: Readonly<Record<string, string>>,
  occasion: NoticeOccasion,
  wanted: Locales,
): { readonly text: string; readonly locale: string } | null {
  const ownLocales = Object.keys(own)
  const ownLocale = lookUpLocale(wanted, ownLocales) ?? ownLocales[0]
  if (ownLocale !== undefined) return { text: own[ownLocale] ?? '', locale: ownLocale }
  if (!TOLD_BY_DEFAULT.has(occasion)) return null
  const found = lookUpLocale(wanted, BUILT_IN_LOCALES)
  const locale = BUILT_IN_LOCALES.find((known) => known === found) ?? LAST_RESORT_LOCALE
  return { text: BUILT_IN_TEXTS[occasion][locale], locale }
}

function moneyFormat(currency: string, locale: string): Intl.NumberFormat {
  const options = { style: 'currency', currency, roundingMode: 'trunc' } as const
  try {
    return new Intl.NumberFormat(locale, options)
  } catch {
    return new Intl.NumberFormat(LAST_RESORT_LOCALE, options) // the owner's key is no locale that Intl knows
  }
}
