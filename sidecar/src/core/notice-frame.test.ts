import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { beforeFrame, inlineNotice, noticeFinder, stripNotices, withoutNotices } from './notice-frame.ts'
import { atOnce } from './slices.ts'
import { assistant, message } from './requests.testing.ts'

const strip = (text: string, notices: readonly string[]): string => stripNotices(text, noticeFinder(notices))
const notice = 'Note: this (conversation) has become long; $details may be missing...'

test('whatever the model wrote is had back exactly, also when the app trims the end', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: 'grapheme' }),
      fc.constantFrom(notice, 'Kurz.', 'あ'.repeat(30), 'two\nlines of a notice that\n\nis long'),
      (written, text) => {
        fc.pre(!written.includes('---') && !written.includes(text))
        assert.equal(strip(written + inlineNotice(text), [text]), written)
        assert.equal(strip(`${written}${inlineNotice(text)}\n \n`, [text]), written)
      },
    ),
  )
})

test('two notices, and a footer of the app after them', () => {
  const other = 'Note: a smaller model answers from here on.'
  assert.equal(strip(`Nine.${inlineNotice(`${notice}\n${other}`)}`, [`${notice}\n${other}`]), 'Nine.')
  assert.equal(strip(`Nine.${inlineNotice(notice)}\n\nSent from a phone`, [other, notice]), 'Nine.\n\nSent from a phone')
  assert.equal(strip(`Nine.${inlineNotice(notice)}${inlineNotice(other)}`, [notice, other]), 'Nine.')
})

test('a notice that was told alone, too, is taken out with those that were told after it', () => {
  const other = 'Note: a smaller model answers from here on.'
  for (const log of [
    [notice, `${notice}\n${other}`],
    [`${notice}\n${other}`, notice],
    [notice, `${other}\n${notice}`],
    [notice, `${notice}\nSmall.`],
  ])
    for (const text of log) assert.equal(strip(`Nine.${inlineNotice(text)}`, log), 'Nine.')
})

test('short words are taken out only with the frame, or alone', () => {
  assert.equal(strip('All is OK here', ['OK']), 'All is OK here')
  assert.equal(strip(`All is OK${inlineNotice('OK')}`, ['OK']), 'All is OK')
  assert.equal(strip(' OK ', ['OK']), '')
  assert.equal(strip('text', ['', '  ']), 'text')
})

test('many notices are taken out as they would be one after the other', () => {
  const long = 'a notice of ours that is long'
  const oneByOne = (text: string, pattern: RegExp): string => {
    let rest = ''
    let from = 0
    for (const match of text.matchAll(pattern)) {
      const before = rest + text.slice(from, match.index)
      rest = before.endsWith('\n\n') ? before.slice(0, -2) : before.trimEnd()
      from = match.index + match[0].length
    }
    if (from === 0) return text
    const after = text.slice(from)
    if (after.trim() === '') return rest
    return rest === '' ? after.trimStart() : rest + after
  }
  const pieces = fc.constantFrom(long, inlineNotice(long), '\n', '\n\n', ' ', '\u2003', '---', 'x', 'Nine.')
  fc.assert(
    fc.property(fc.array(pieces, { maxLength: 12 }), (list) => {
      const text = list.join('')
      const [pattern] = noticeFinder([long])
      assert.ok(pattern !== undefined)
      assert.equal(strip(text, [long]), oneByOne(text, pattern))
    }),
    { numRuns: 2_000 },
  )
})

test('a message of 4 MiB that is full of notices holds up nothing', () => {
  const text = 'Note: it has become long.'
  const worked = ['', '\n', '\n\n'].map((between) => {
    const full = 'y'.repeat(1024 * 1024).padEnd(4 * 1024 * 1024, `${text}${between}`)
    let best = Infinity
    for (let attempt = 0; attempt < 4; attempt += 1) {
      const before = process.threadCpuUsage()
      strip(full, [text])
      const { user, system } = process.threadCpuUsage(before)
      best = Math.min(best, (user + system) / 1_000)
    }
    return best
  })
  assert.ok(Math.max(...worked) <= 50, `${worked.map((ms) => ms.toFixed(0)).join(', ')} ms`)
})

test('parts of a content lose their notices, and only those parts', () => {
  const json = {
    role: 'assistant',
    content: [
      { type: 'text', text: 'Nine.' },
      { type: 'text', text: inlineNotice(notice) },
    ],
  }
  assert.deepEqual(withoutNotices(message(json), noticeFinder([notice]))?.json['content'], [{ type: 'text', text: 'Nine.' }])
  assert.equal(withoutNotices(message({ role: 'assistant', content: [{ type: 'text', text: notice }] }), noticeFinder([notice])), null)
  const plain = message(assistant('Nine.'))
  assert.equal(withoutNotices(plain, noticeFinder([notice])), plain)
})

test('the text before the last frame names an answer, with or without a notice', () => {
  assert.equal(atOnce(beforeFrame(`Nine.${inlineNotice(notice)}`)).trim(), 'Nine.')
  assert.equal(atOnce(beforeFrame('a --- b --- c')), 'a --- b ')
  assert.equal(atOnce(beforeFrame('a---b ----')), 'a---b ----')
  assert.equal(atOnce(beforeFrame('---')), '')
})
