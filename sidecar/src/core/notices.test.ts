import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { checkNoticeText } from '@farebox/crds/notice-text.ts'
import { NOTICE_OCCASIONS } from '@farebox/crds/sidecar-config.ts'
import type { NoticeOccasion } from '@farebox/crds/sidecar-config.ts'
import { newConversation } from './conversation-change.ts'
import { lookUpLocale, readerLocales } from './locale.ts'
import { noticeFinder, stripNotices } from './notice-frame.ts'
import { BUILT_IN_LOCALES, BUILT_IN_TEXTS, END_TEXTS } from './notice-texts.ts'
import {
  chooseLocale,
  closingEdit,
  deliveredNotices,
  endWords,
  formatMoney,
  isTakenApart,
  noticeEdit,
  noticesFor,
  noticeText,
} from './notices.ts'
import type { NoticeTerms } from './notices.ts'
import { assistant, chatRequest, user } from './requests.testing.ts'

type Texts = NoticeTerms['notices']['texts']
const contractWith = (texts: Texts, more: Partial<NoticeTerms> = {}): NoticeTerms => ({
  displayName: 'Plus',
  currency: 'USD',
  usdRate: '1.00',
  notices: { mode: 'Inline', texts, defaultLocale: 'en' },
  ...more,
})
const say = (contract: NoticeTerms, occasion: (typeof NOTICE_OCCASIONS)[number], acceptLanguage?: string): string | null =>
  noticeText({
    contract,
    tiers: { team: { displayName: 'Team' } },
    occasion,
    locale: chooseLocale(contract, acceptLanguage),
    remaining: 123_456_789n,
    percent: 91,
    turns: 12,
  })

test('every occasion has built-in words in every built-in language, none with an amount', () => {
  for (const occasion of NOTICE_OCCASIONS) {
    const texts = BUILT_IN_LOCALES.map((locale) => BUILT_IN_TEXTS[occasion][locale])
    assert.equal(new Set(texts).size, BUILT_IN_LOCALES.length)
    for (const text of texts) {
      assert.equal(checkNoticeText(text), null)
      assert.doesNotMatch(text, /\{\{remaining|[0-9$€]/)
      assert.ok(text.length > 40)
    }
  }
})

test('summaries, cuts, resets and the end are told by default, other occasions only in the owner’s words', () => {
  const told = NOTICE_OCCASIONS.filter((occasion) => say(contractWith({}), occasion) !== null)
  assert.deepEqual(told, ['Summarize', 'DropOldest', 'Reset', 'End'])
  assert.equal(say(contractWith({ DowngradeModel: { en: 'A smaller model answers.' } }), 'DowngradeModel'), 'A smaller model answers.')
  assert.equal(say(contractWith({ Summarize: { en: ' ' } }), 'Summarize'), null, 'an empty text asks for silence')
})

test('built-in words come in the language that the reader prefers', () => {
  const contract = contractWith({})
  assert.equal(say(contract, 'End', 'de-AT,de;q=0.9,en;q=0.8'), BUILT_IN_TEXTS.End.de)
  assert.equal(say(contract, 'End', 'pt, fr;q=0.2, ja;q=0.7'), BUILT_IN_TEXTS.End.ja)
  assert.equal(say(contract, 'End', 'pt'), BUILT_IN_TEXTS.End.en)
  assert.equal(say({ ...contract, notices: { ...contract.notices, defaultLocale: 'es' } }, 'End'), BUILT_IN_TEXTS.End.es)
})

test('the owner’s words replace the built-in ones in every language', () => {
  const contract = contractWith({ End: { de: 'Schluss.', 'fr-CH': 'Terminé.' } })
  assert.equal(say(contract, 'End', 'fr'), 'Terminé.')
  assert.equal(say(contract, 'End', 'es, de;q=0.5'), 'Schluss.')
  assert.equal(say(contract, 'End', 'ja'), 'Schluss.', 'not the built-in Japanese')
  assert.equal(say(contract, 'Reset', 'ja'), BUILT_IN_TEXTS.Reset.ja)
})

test('placeholders are filled in, money in the tier’s currency and the reader’s notation', () => {
  const texts = {
    End: { en: '{{ remaining }} left of {{tier}} after {{turns}} turns ({{percent}} %). {{unknown}}', de: 'Noch {{remaining}}' },
  }
  assert.equal(say(contractWith(texts), 'End'), '$0.12 left of Plus after 12 turns (91 %). {{unknown}}')
  assert.equal(say(contractWith(texts, { currency: 'EUR', usdRate: '1.10' }), 'End', 'de'), 'Noch 0,11\u00a0€')
  const upgradeTo = (tier: string): NoticeTerms =>
    contractWith({ Upgrade: { en: 'Try {{tier}}.' } }, { upgrade: { tier, whenUserExceedsPercent: 80 } })
  assert.equal(say(upgradeTo('team'), 'Upgrade'), 'Try Team.')
  assert.equal(say(upgradeTo('elsewhere'), 'Upgrade'), 'Try elsewhere.', 'a tier of which nothing is known here')
})

describe('closing words', () => {
  const words = (texts: Texts, short: Parameters<typeof endWords>[1], acceptLanguage?: string): ReturnType<typeof endWords> => {
    const contract = contractWith(texts)
    const locale = chooseLocale(contract, acceptLanguage)
    return endWords({ contract, tiers: {}, locale, remaining: 0n, percent: 34, turns: 3 }, short)
  }
  const both = (text: string): ReturnType<typeof endWords> => ({ answer: text, refusal: text })

  test('say what is short, in every built-in language', () => {
    for (const locale of BUILT_IN_LOCALES) {
      assert.deepEqual(words({}, 'conversation', locale), both(BUILT_IN_TEXTS.End[locale]))
      assert.deepEqual(words({}, 'user', locale), both(END_TEXTS.user[locale]))
      assert.deepEqual(words({}, 'workload', locale), both(END_TEXTS.workload[locale]))
    }
  })

  test('are the owner’s where the money of the user is short, and not where a limit of the service is', () => {
    const texts = { End: { en: 'Over at {{percent}} %.' } }
    assert.deepEqual(words(texts, 'conversation'), both('Over at 34 %.'))
    assert.deepEqual(words(texts, 'user', 'de'), both('Over at 34 %.'))
    assert.deepEqual(words(texts, 'workload', 'de'), both(END_TEXTS.workload.de))
  })

  test('are none where the owner asked for silence; a refusal still says nothing that is wrong', () => {
    const silence = { End: { en: ' ' } }
    assert.deepEqual(words(silence, 'conversation'), { answer: null, refusal: null })
    assert.deepEqual(words(silence, 'user', 'fr'), { answer: null, refusal: END_TEXTS.user.fr })
  })

  test('are taken out of a history by one edit, however often they were said', () => {
    const [edit, again, other] = [closingEdit('Over at 34 %.'), closingEdit('Over at 34 %.'), closingEdit('Over at 35 %.')]
    assert.deepEqual(edit, again)
    assert.notEqual(edit.id, other.id)
    assert.ok(edit.kind === 'notice')
    assert.equal(stripNotices('Over at 34 %.', noticeFinder([edit.text])), '')
    const conversation = newConversation({ id: 'c', tier: 'pro', contractHash: 'h', user: 'u', nowMs: 0, ladderApplies: true })
    const contract = { tier: 'pro', notices: contractWith({}).notices }
    const waiting = noticesFor({ contract, conversation: { ...conversation, edits: [edit] }, period: null, occasions: ['Reset'] })
    assert.equal(waiting.length, 1, 'it is no notice that was told')
  })
})

describe('what waits for an answer in prose', () => {
  const conversation = newConversation({ id: 'c', tier: 'pro', contractHash: 'h', user: 'u', nowMs: 0, ladderApplies: true })
  const waiting = (texts: Texts, occasion: NoticeOccasion, more: Partial<Parameters<typeof noticesFor>[0]> = {}): readonly string[] =>
    noticesFor({
      contract: { tier: 'pro', notices: contractWith(texts).notices },
      conversation,
      period: '2026-11-01',
      occasions: [occasion],
      ...more,
    }).map(({ id }) => id)

  test('is what happened in a turn of a session', () => {
    assert.deepEqual(waiting({}, 'Summarize'), ['1/Summarize/0'])
    assert.deepEqual(waiting({}, 'Summarize', { conversation: { ...conversation, session: 2, turns: 7 } }), ['2/Summarize/7'])
  })

  test('is nothing that no answer would ever say', () => {
    assert.deepEqual(waiting({}, 'RefuseTools'), [], 'the owner wrote no words')
    assert.deepEqual(waiting({ Summarize: { en: ' ', de: '' } }, 'Summarize'), [], 'the owner asked for silence')
    assert.deepEqual(waiting({ Summarize: { en: '', de: 'Kurz.' } }, 'Summarize'), ['1/Summarize/0'], 'others have words for it')
    const silent = { tier: 'pro', notices: { ...contractWith({}).notices, mode: 'HeadersOnly' } } as const
    assert.deepEqual(waiting({}, 'Summarize', { contract: silent }), [], 'headers say it')
  })

  test('is an upgrade once in a period of the user, whatever the turn and the session, told or not', () => {
    const texts = { Upgrade: { en: 'Try {{tier}}.' } }
    const [id = ''] = waiting(texts, 'Upgrade')
    assert.equal(id, 'Upgrade/pro/2026-11-01')
    const later = { ...conversation, session: 2, turns: 9 }
    assert.deepEqual(waiting(texts, 'Upgrade', { conversation: later }), [id])
    assert.deepEqual(waiting(texts, 'Upgrade', { conversation: { ...later, notices: [{ id, occasion: 'Upgrade' }] } }), [])
    const told = { ...later, edits: [noticeEdit({ text: 'Try Team.', ids: ['1/Summarize/0', id] })] }
    assert.deepEqual(waiting(texts, 'Upgrade', { conversation: told }), [])
    assert.deepEqual(waiting(texts, 'Upgrade', { conversation: told, period: '2026-12-01' }), ['Upgrade/pro/2026-12-01'])
    const zoned = { conversation: later, period: 'Day1/Etc/GMT+5:2026-11-01' }
    const ids = waiting(texts, 'Upgrade', zoned)
    const toldThere = { ...later, edits: [noticeEdit({ text: 'Try Team.', ids })] }
    assert.deepEqual(waiting(texts, 'Upgrade', { ...zoned, conversation: toldThere }), [], 'a zone by the name of its offset')
  })
})

test('what an answer told is known, also where it waits again', () => {
  const [told, waiting, other] = [
    { id: '2/Reset/4', occasion: 'Reset' },
    { id: '2/Summarize/5', occasion: 'Summarize' },
    { id: '2/DropOldest/5', occasion: 'DropOldest' },
  ] as const
  const edits = [noticeEdit({ text: 'Both.', ids: ['1/Reset/1', told.id] }), noticeEdit({ text: 'One.', ids: [other.id] })]
  assert.deepEqual(deliveredNotices({ notices: [told, waiting, other], edits }), [told, other])
  assert.deepEqual(deliveredNotices({ notices: [told, waiting], edits: [] }), [])
})

test('a tier’s name cannot smuggle in a placeholder', () => {
  assert.equal(say(contractWith({ End: { en: '{{tier}}' } }, { displayName: '{{remaining}}' }), 'End'), '{{remaining}}')
})

test('money is rounded down to the currency’s digits and is never below zero', () => {
  assert.equal(formatMoney(1_999_999_999n, { currency: 'USD', usdRate: '1.00' }, 'en'), '$1.99')
  assert.equal(formatMoney(999_999_999n, { currency: 'EUR', usdRate: '1.083333' }, 'en'), '€0.92')
  assert.equal(formatMoney(10_833_329n, { currency: 'EUR', usdRate: '1.083333' }, 'en'), '€0.00', 'a hair below a cent is none')
  assert.equal(formatMoney(-5n, { currency: 'USD', usdRate: '1.00' }, 'en'), '$0.00')
  assert.equal(formatMoney(1_000_000_000n, { currency: 'JPY', usdRate: '0.0067' }, 'ja'), '￥149')
  assert.equal(formatMoney(1_000_000_000n, { currency: 'USD', usdRate: '1.00' }, 'no_locale'), '$1.00')
})

test('Accept-Language is read by quality, in order where equal; nonsense is passed over', () => {
  assert.deepEqual(readerLocales('da, en-GB;q=0.8, en;q=0.7'), ['da', 'en-gb', 'en'])
  assert.deepEqual(readerLocales('en;q=0.1, fr;q=1.0, de;Q=0.5, *;q=0.3, es;q=0, it;q=2, ;;, <x>'), ['fr', 'de', 'en'])
  assert.deepEqual(readerLocales(''), [])
  assert.equal(readerLocales(Array.from({ length: 100 }, () => 'en').join()).length, 32)
})

test('a locale is found as itself, wider or narrower', () => {
  assert.equal(lookUpLocale(['zh-hant-tw'], ['zh', 'en']), 'zh')
  assert.equal(lookUpLocale(['de'], ['en', 'de-CH']), 'de-CH')
  assert.equal(lookUpLocale(['pt', 'EN-us'], ['en-GB', 'en']), 'en')
  assert.equal(lookUpLocale(['x'], ['en']), null)
})

test('an answer is taken apart where it must be JSON, is one of several, or is begun by the app', () => {
  const asked = [user('q')]
  assert.equal(isTakenApart(chatRequest(asked)), false)
  assert.equal(isTakenApart(chatRequest(asked, { structured: true })), true)
  assert.equal(isTakenApart(chatRequest(asked, { choices: 2 })), true)
  assert.equal(isTakenApart(chatRequest([...asked, assistant('{')])), true)
})
