import assert from 'node:assert/strict'
import { test } from 'node:test'
import { NOTICE_PLACEHOLDER_PATTERN } from '@farebox/crds/notice-text.ts'
import { NOTICE_OCCASIONS } from '@farebox/crds/sidecar-config.ts'
import { inlineNotice, noticeFinder, stripNotices } from './notice-frame.ts'
import { BUILT_IN_LOCALES, BUILT_IN_TEXTS } from './notice-texts.ts'

const ALL = NOTICE_OCCASIONS.flatMap((occasion) =>
  BUILT_IN_LOCALES.map((locale) => ({ occasion, locale, text: BUILT_IN_TEXTS[occasion][locale] })),
)

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

test('each can be shown in an answer and taken out of it again, alone and with others', () => {
  for (const { text } of ALL) {
    assert.equal(stripNotices(`The answer.${inlineNotice(text)}`, noticeFinder([text])), 'The answer.')
  }
  const everything = ALL.map(({ text }) => text)
  assert.equal(stripNotices(`The answer.${inlineNotice(everything.join('\n'))}`, noticeFinder([everything.join('\n')])), 'The answer.')
})
