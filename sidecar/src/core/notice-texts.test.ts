import assert from 'node:assert/strict'
import { test } from 'node:test'
import { NOTICE_PLACEHOLDER_PATTERN } from '@farebox/crds/notice-text.ts'
import { NOTICE_OCCASIONS } from '@farebox/crds/sidecar-config.ts'
import { inlineNotice, noticeFinder, stripNotices } from './notice-frame.ts'
import { BUILT_IN_LOCALES, BUILT_IN_TEXTS, END_TEXTS } from './notice-texts.ts'

const SETS = [
  ...NOTICE_OCCASIONS.map((occasion) => ({ occasion, texts: BUILT_IN_TEXTS[occasion] })),
  ...(['user', 'workload'] as const).map((short) => ({ occasion: `End, ${short}`, texts: END_TEXTS[short] })),
]
const ALL = SETS.flatMap(({ occasion, texts }) => BUILT_IN_LOCALES.map((locale) => ({ occasion, locale, text: texts[locale] })))

test('no text says the same as another, and each is a language that Intl knows', () => {
  assert.equal(new Set(ALL.map(({ text }) => text)).size, ALL.length)
  assert.deepEqual(Intl.getCanonicalLocales([...BUILT_IN_LOCALES]), [...BUILT_IN_LOCALES])
})

test('only the offer of another plan names one, and in every language', () => {
  for (const { occasion, locale, text } of ALL) {
    const names = [...text.matchAll(NOTICE_PLACEHOLDER_PATTERN)].map(([, name]) => name)
    assert.deepEqual(names, occasion === 'Upgrade' ? ['tier'] : [], `${occasion}.${locale}`)
  }
})

test('none names an amount, and none sends the user away from a conversation that goes on', () => {
  const elsewhere = /new conversation|neue Unterhaltung|nouvelle conversation|conversación nueva|新しい会話/
  for (const { occasion, locale, text } of ALL) {
    assert.doesNotMatch(text, /[0-9$€]/, `${occasion}.${locale}`)
    assert.ok(text.length > 40, `${occasion}.${locale}`)
    if (occasion.startsWith('End')) assert.equal(elsewhere.test(text), occasion === 'End', `${occasion}.${locale}`)
  }
})

test('each can be shown in an answer and taken out of it again, alone and with others', () => {
  for (const { text } of ALL) {
    assert.equal(stripNotices(`The answer.${inlineNotice(text)}`, noticeFinder([text])), 'The answer.')
  }
  const everything = ALL.map(({ text }) => text)
  assert.equal(stripNotices(`The answer.${inlineNotice(everything.join('\n'))}`, noticeFinder([everything.join('\n')])), 'The answer.')
})
