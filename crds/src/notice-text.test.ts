import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkNoticeText } from './notice-text.ts'

test('texts with known placeholders, line breaks and single braces can be shown', () => {
  for (const text of ['', 'Hello', '{{remaining}} of {{ tier }}\n{{percent}} %, {{turns}}', 'a { b } c', 'Grüße 👩‍🚀 あ\tb'])
    assert.equal(checkNoticeText(text), null)
})

test('an unknown placeholder is named, with those that there are', () => {
  assert.equal(checkNoticeText('{{budget}} left'), '{{budget}} must be one of {{remaining}}, {{percent}}, {{tier}}, {{turns}}')
  assert.match(checkNoticeText('{{Remaining}}') ?? '', /must be one of/)
})

test('a placeholder that is not closed, or holds more than a name, is refused', () => {
  for (const text of ['{{remaining', 'remaining}}', '{{remaining | usd}}', '{{}}', '{{{{tier}}'])
    assert.match(checkNoticeText(text) ?? '', /between "\{\{" and "\}\}"/)
})

test('characters that readers cannot see are refused', () => {
  assert.equal(checkNoticeText('safe\u202etxt.exe'), 'must not hold the invisible character U+202E')
  assert.equal(checkNoticeText('bell\u0007'), 'must not hold the invisible character U+0007')
  assert.equal(checkNoticeText('zero\u200bwidth'), 'must not hold the invisible character U+200B')
})
