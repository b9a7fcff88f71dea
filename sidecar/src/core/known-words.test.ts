import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import { makeContract } from '../../../test/support/make.ts'
import type { Edit } from './conversation.ts'
import { replay, replayEntries } from './edit-log.ts'
import { knownWordsOf, messagesWithWords } from './known-words.ts'
import type { KnownWords } from './known-words.ts'
import { inlineNotice } from './notice-frame.ts'
import { BUILT_IN_LOCALES, BUILT_IN_TEXTS, END_TEXTS } from './notice-texts.ts'
import type { JsonObject, ModelRequest } from './request.ts'
import { assistant, call, chatRequest, message, result, user } from './requests.testing.ts'
import { atOnce } from './slices.ts'

const SMALL = 'A smaller model answers from here on.'
const LEFT = 'You have {{remaining}} left of {{tier}} for this month.'
const TEXTS = {
  DowngradeModel: { en: SMALL, de: 'Kurz.' },
  Summarize: { en: LEFT },
  RefuseTools: { en: '{{percent}} %' },
  End: { en: 'Your chat is over after {{turns}} turns, see you soon.', de: 'Schluss.' },
}
const CONTRACT = makeContract({ notices: { mode: 'Inline', texts: TEXTS, defaultLocale: 'en' } })
const WORDS: KnownWords = knownWordsOf({ pro: CONTRACT, max: makeContract({ tier: 'max' }) })

/** The words of a tier of which these are the texts. */
function wordsOf(texts: Contract['notices']['texts']): KnownWords {
  return knownWordsOf({ pro: makeContract({ notices: { mode: 'Inline', texts, defaultLocale: 'en' } }) })
}

/** What the model reads of an answer; null where it reads nothing of it. */
function read(answer: JsonObject, words = WORDS): unknown {
  const said = message(answer)
  const found = atOnce(messagesWithWords([said], words))
  return found.has(said) ? (found.get(said)?.json['content'] ?? null) : answer['content']
}

test('notices behind the frame are found in every language, whatever was filled in, also several of one answer', () => {
  const told = [
    ...BUILT_IN_LOCALES.flatMap((locale) => [BUILT_IN_TEXTS.Reset[locale], BUILT_IN_TEXTS.Summarize[locale]]),
    ...BUILT_IN_LOCALES.map((locale) => BUILT_IN_TEXTS.Upgrade[locale].replace('{{tier}}', 'Team & more')),
    SMALL,
    'You have 0,11\u00a0€ left of Plus for this month.',
    `${SMALL}\nYou have $1.20 left of Plus for this month.\n${BUILT_IN_TEXTS.DropOldest.en}`,
  ]
  for (const text of told) {
    assert.equal(read(assistant(`Nine.${inlineNotice(text)}`)), 'Nine.', text)
    assert.equal(read(assistant(`Nine.\r\n\r\n---\r\n${text.replaceAll('\n', '\r\n')}\r\n`)), 'Nine.', text)
    assert.equal(read(assistant(inlineNotice(text))), null, text)
  }
  assert.equal(read(assistant(`Nine.${inlineNotice(SMALL)}${inlineNotice(BUILT_IN_TEXTS.Reset.en)}`)), 'Nine.')
})

test('closing words are found as a whole answer', () => {
  const closings = BUILT_IN_LOCALES.flatMap((locale) => [BUILT_IN_TEXTS.End[locale], END_TEXTS.user[locale], END_TEXTS.workload[locale]])
  for (const text of [...closings, 'Your chat is over after 12 turns, see you soon.']) {
    assert.equal(read(assistant(text)), null, text)
    assert.equal(read(assistant(` ${text}\n`)), null, text)
  }
})

test('a notice may hold a rule of its own', () => {
  const words = wordsOf({
    DowngradeModel: { en: 'Your budget is nearly used up.\n---\nAnswers are shorter from here.' },
    Summarize: { en: SMALL },
  })
  const told = 'Your budget is nearly used up.\n---\nAnswers are shorter from here.'
  for (const text of [told, `${told}\n${SMALL}`, `${SMALL}\n${told}`]) {
    assert.equal(read(assistant(`Nine.${inlineNotice(text)}`), words), 'Nine.', text)
    assert.equal(read(assistant(`One.${inlineNotice('Two.')}${inlineNotice(text)}`), words), `One.${inlineNotice('Two.')}`, text)
  }
  const own = `Nine.${inlineNotice('Answers are shorter from here.')}`
  assert.equal(read(assistant(own), words), own)
})

test('what was filled in goes over no end of a sentence or of a line', () => {
  const words = wordsOf({ Summarize: { en: 'Your plan for this month is: {{tier}}' }, DowngradeModel: { en: SMALL } })
  for (const text of ['Your plan for this month is: Team 2.5 & more', `Your plan for this month is: Gold\n${SMALL}`])
    assert.equal(read(assistant(`Nine.${inlineNotice(text)}`), words), 'Nine.', text)
  for (const text of ['Gold. Also the report says: see chapter 4', 'Gold\nAnd more', 'Gold!']) {
    const answer = `Nine.${inlineNotice(`Your plan for this month is: ${text}`)}`
    assert.equal(read(assistant(answer), words), answer, text)
  }
})

test('closing words that are open at both ends are never taken for an answer', () => {
  const words = wordsOf({
    End: { en: '{{tier}}: your budget for it is used up {{turns}}', de: 'Ihr Budget ist verbraucht, und zwar: {{tier}}' },
  })
  const own = 'What it says: your budget for it is used up by the trip'
  assert.equal(read(assistant(own), words), own)
  assert.equal(read(assistant('Ihr Budget ist verbraucht, und zwar: Gold'), words), null)
})

test('words are found however their JSON is written, and whatever stands behind them', () => {
  const note = BUILT_IN_TEXTS.Reset.fr
  for (const [text, left] of [
    [BUILT_IN_TEXTS.End.ja, null],
    [`Nine.${inlineNotice(note)}`, 'Nine.'],
  ] as const) {
    const said = message(assistant(text))
    const ascii = JSON.stringify(said.json).replaceAll(/[^\x20-\x7e]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
    const cited = JSON.stringify({ ...said.json, annotations: Array.from({ length: 100 }, () => 'x') })
    for (const written of [ascii, cited]) {
      const found = atOnce(messagesWithWords([{ ...said, bytes: Buffer.from(written) }], WORDS))
      assert.equal(found.size, 1)
      assert.equal(found.values().next().value?.json['content'] ?? null, left)
    }
  }
})

test('an answer that ends in other words is not read', () => {
  for (const text of ['| a | b |\n|---|---|\n| 1 | 2 |\n', 'This conversation is short.', 'One.\n\n---\nTwo.']) {
    const unread = Object.defineProperty({ ...message(assistant(text)) }, 'texts', { get: () => assert.fail('read') })
    assert.equal(atOnce(messagesWithWords([unread], WORDS)).size, 0)
  }
})

test('what stands elsewhere, or could be anybody’s own words, stays', () => {
  const end = BUILT_IN_TEXTS.End.en
  for (const text of [
    SMALL,
    `It says: ${SMALL}`,
    `${SMALL}${inlineNotice('Well.')}`,
    `Nine.${inlineNotice(`${SMALL} And more.`)}`,
    `Nine.${inlineNotice(`Well. ${SMALL}`)}`,
    `Nine.${inlineNotice(`${SMALL}${SMALL}`)}`,
    `Nine.${inlineNotice('Kurz.')}`,
    `Nine.${inlineNotice('12 %')}`,
    `Nine.${inlineNotice(end)}`,
    `Nine.${inlineNotice(`You have ${'x'.repeat(200)} left of Plus for this month.`)}`,
    `Nine.${inlineNotice('')}`,
    'Nine.---\n',
    'Schluss.',
    `${end} Not yet.`,
    `He said: ${end}`,
    '',
    ' \n',
  ])
    assert.equal(read(assistant(text)), text, text)
  for (const text of [end, `Nine.${inlineNotice(SMALL)}`]) assert.equal(read(user(text)), text)
  const calling = { ...call({ id: 'c1', name: 'f' }), content: end }
  assert.equal(read(calling), end)
})

const HISTORY = [user('q1'), assistant(`a1${inlineNotice(SMALL)}`), user('q2'), assistant(BUILT_IN_TEXTS.End.en), user('q3')]

function holding(messages: readonly JsonObject[]): ModelRequest {
  const request = chatRequest(messages)
  return { ...request, ours: atOnce(messagesWithWords(request.messages, WORDS)) }
}
const contents = (request: ModelRequest, edits: readonly Edit[] = []): unknown[] =>
  replay(request, edits).messages.map(({ json }) => json['content'])

test('a replay leaves them out, with a log and without one, and has one list for the same', () => {
  const request = holding(HISTORY)
  assert.deepEqual(contents(request), ['q1', 'a1', 'q2', 'q3'])
  const log: Edit[] = [{ kind: 'notice', id: 'n', text: 'This was told in the same chat.' }]
  const more = holding([...HISTORY, assistant(`a3${inlineNotice('This was told in the same chat.')}`), user('q4')])
  assert.deepEqual(contents(more, log), ['q1', 'a1', 'q2', 'q3', 'a3', 'q4'])
  assert.equal(replay(more, log).messages, replay(more, log).messages)
  const none: readonly Edit[] = []
  assert.equal(replay(request, none).messages, replay(request, none).messages)
})

test('messages keep the names by which a log knows them, whatever the config knows', () => {
  const request = chatRequest(HISTORY)
  const [plain, known] = [request, holding(HISTORY)].map((one) => replayEntries(one, []).digestAt)
  for (const index of HISTORY.keys()) assert.equal(known?.(index), plain?.(index))
})

test('of a request that is nothing but our words, all is sent', () => {
  assert.deepEqual(contents(holding([assistant(BUILT_IN_TEXTS.End.en)])), [BUILT_IN_TEXTS.End.en])
})

test('a long history is read in slices', () => {
  const answers = Array.from({ length: 200 }, (_, index) => assistant(`${index} ${'--- word '.repeat(4_000)}${SMALL}`))
  const history = [...answers, result('c1', inlineNotice(SMALL))].map(message)
  let slices = 0
  for (const work = messagesWithWords(history, WORDS); work.next().done !== true;) slices += 1
  assert.ok(slices > 50, `${slices}`)
})
