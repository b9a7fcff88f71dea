/** What users are told when something changes for them: which occasions speak, in whose words, in which language. */
import { NOTICE_PLACEHOLDER_PATTERN } from '@farebox/crds/notice-text.ts'
import type { NoticePlaceholder } from '@farebox/crds/notice-text.ts'
import type { Contract, NoticeOccasion } from '@farebox/crds/sidecar-config.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import type { Conversation, Edit, PendingNotice } from './conversation.ts'
import { inCurrency } from './currency.ts'
import { digestOf } from './digest.ts'
import { lookUpLocale, readerLocales } from './locale.ts'
import { begunAnswer } from './message.ts'
import { BUILT_IN_LOCALES, BUILT_IN_TEXTS, END_TEXTS } from './notice-texts.ts'
import type { BuiltInLocale } from './notice-texts.ts'
import type { ModelRequest } from './request.ts'
import type { CapKind } from './terms.ts'

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

/** Whether the app takes the answer apart, as far as its request shows it: no words of ours may stand in it. */
export function isTakenApart({ structured, choices, messages }: Pick<ModelRequest, 'structured' | 'choices' | 'messages'>): boolean {
  return structured || choices > 1 || begunAnswer(messages) !== null
}

/** The edit that takes delivered notices out again when the app resends the answer; it also says which those were. */
export function noticeEdit(notice: { readonly text: string; readonly ids: readonly string[] }): Edit {
  return { kind: 'notice', id: `${NOTICE_EDIT}${notice.ids.map(escaped).join(BETWEEN_IDS)}`, text: notice.text }
}

/** The edit that takes closing words out of the history that comes back, where the conversation goes on after all. The same words make the same. */
export function closingEdit(text: string): Edit {
  return { kind: 'notice', id: `${NOTICE_EDIT}End/${digestOf(text)}`, text }
}

/**
 * Those of a conversation that an answer has told. A store that comes back as it was some seconds ago is told of them again, but not that they
 * were taken out.
 */
export function deliveredNotices({ notices, edits }: Pick<Conversation, 'notices' | 'edits'>): readonly PendingNotice[] {
  return notices.filter(({ id }) => edits.some((edit) => wasDelivered(edit, id)))
}

function wasDelivered(edit: Edit, id: string): boolean {
  return edit.kind === 'notice' && edit.id.slice(NOTICE_EDIT.length).split(BETWEEN_IDS).includes(escaped(id))
}

/** Names of time zones (`Etc/GMT+5`) are in the ids of what is told once in a period. */
function escaped(id: string): string {
  return id.replaceAll(BETWEEN_IDS, '%2B')
}

/** Whether answers carry notices, and the occasion has words in any language. */
function isTold({ notices }: Pick<Contract, 'notices'>, occasion: NoticeOccasion): boolean {
  if (notices.mode !== 'Inline') return false
  const own = Object.values(notices.texts[occasion] ?? {})
  return own.length === 0 ? TOLD_BY_DEFAULT.has(occasion) : own.some((text) => text.trim() !== '')
}

/** What a text is made from. */
interface NoticeInput {
  readonly contract: NoticeTerms
  /** The newest terms of the tiers at hand: an upgrade is told by its display name. */
  readonly tiers: Readonly<Record<string, Pick<Contract, 'displayName'>>>
  readonly occasion: NoticeOccasion
  readonly locale: Locales
  readonly remaining: NanoUsd
  readonly percent: number
  /** Turns of the conversation so far. */
  readonly turns: number
}

/**
 * What to tell users on an occasion: the owner's words, in the best language that the owner wrote; built-in ones where the
 * owner wrote none. Null where nothing is to be said: the owner left the text empty, or wrote none for an occasion that
 * speaks only in the owner's words. What stands in `{{ }}` is filled in; `remaining` is not shown unless the text asks for it.
 */
export function noticeText(input: NoticeInput): string | null {
  const { contract, occasion, locale } = input
  const own = ownWords(contract, occasion, locale)
  if (own !== null) return filledIn(own, input)
  return TOLD_BY_DEFAULT.has(occasion) ? filledIn(builtIn(BUILT_IN_TEXTS[occasion], locale), input) : null
}

/** What to say where no call can be paid any more. */
interface EndWords {
  /** In an answer; null: the call is refused instead. */
  readonly answer: string | null
  /** In a refusal; null: what the table of errors says. */
  readonly refusal: string | null
}

/**
 * The owner's words for `End` are said to users whose own money is short, the conversation's or theirs for the period. Where the owner
 * wrote none they are told which of the two it is, for what they can do is another thing. A limit of the workload is none of
 * theirs: the owner's words, which tell of the user's plan, would be wrong there.
 */
export function endWords(input: Omit<NoticeInput, 'occasion'>, short: CapKind): EndWords {
  const asEnd = { ...input, occasion: 'End' } as const
  if (short === 'conversation') {
    const text = noticeText(asEnd)
    return { answer: text, refusal: text }
  }
  const { text } = builtIn(END_TEXTS[short], input.locale)
  const own = short === 'workload' ? null : ownWords(input.contract, 'End', input.locale)
  const answer = own === null ? text : filledIn(own, asEnd)
  // A refusal is never silent, and what the table of errors says is of the conversation's budget.
  return { answer, refusal: answer ?? text }
}

interface Words {
  readonly text: string
  readonly locale: string
}

/** Null where nothing is left to say. */
function filledIn(words: Words, { contract, tiers, occasion, remaining, percent, turns }: NoticeInput): string | null {
  if (words.text.trim() === '') return null
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
  return moneyFormat(currency, locale).format(inCurrency(amount > 0n ? amount : 0n, usdRate, 'down') as `${number}`)
}

/** Null where the owner wrote none. */
function ownWords({ notices }: Pick<Contract, 'notices'>, occasion: NoticeOccasion, wanted: Locales): Words | null {
  const own = notices.texts[occasion] ?? {}
  const locales = Object.keys(own)
  const locale = lookUpLocale(wanted, locales) ?? locales[0]
  return locale === undefined ? null : { text: own[locale] ?? '', locale }
}

function builtIn(texts: Readonly<Record<BuiltInLocale, string>>, wanted: Locales): Words {
  const found = lookUpLocale(wanted, BUILT_IN_LOCALES)
  const locale = BUILT_IN_LOCALES.find((known) => known === found) ?? LAST_RESORT_LOCALE
  return { text: texts[locale], locale }
}

function moneyFormat(currency: string, locale: string): Intl.NumberFormat {
  const options = { style: 'currency', currency, roundingMode: 'trunc' } as const
  try {
    return new Intl.NumberFormat(locale, options)
  } catch {
    return new Intl.NumberFormat(LAST_RESORT_LOCALE, options) // the owner's key is no locale that Intl knows
  }
}
