import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { Rung } from '@farebox/crds/ladder.ts'
import type { Edit } from './conversation.ts'
import { replay } from './edit-log.ts'
import { cutEdit, dropOldest, planCut } from './history-cut.ts'
import { isBoundary } from './ladder.ts'
import { ownMessage } from './message.ts'
import { inlineNotice } from './notice-frame.ts'
import type { ModelRequest, JsonObject } from './request.ts'
import { RETRIEVAL_STUB, retrievalBytes } from './retrieval.ts'
import { shape } from './rewrite.ts'
import type { Shaped, ShapeRules } from './shape.ts'
import {
  assistant,
  call,
  chatRequest,
  conversations,
  pairingProblem,
  recordedConversations,
  requestsOf,
  result,
  RETRIEVAL_TAG,
  RETRIEVAL_TOOL,
  sent,
  system,
  user,
} from './requests.testing.ts'
import { takesLessThan } from './work.testing.ts'

const rules: ShapeRules = { retrieval: { toolNames: [RETRIEVAL_TOOL, 'kb_*'], tags: [RETRIEVAL_TAG] }, keepRecentTurns: 2 }
const passage = 'A passage about fares. '.repeat(20)
const tagged = (text: string): string => `<${RETRIEVAL_TAG} source="a">${text}</${RETRIEVAL_TAG}>`

let ids = 0
const newId = (): string => `edit-${ids++}`
const drop = (request: ModelRequest, edits: readonly Edit[] = []): Shaped =>
  shape({ request, edits, rungs: ['DropRetrieval'], rules, atBoundary: isBoundary(request), newId })
const contents = (shaped: Shaped): unknown[] => shaped.messages.map(({ json }) => json['content'])

test('with no rung and no log the very same messages go out', () => {
  const request = chatRequest([system('s'), user(tagged(passage))])
  const shaped = shape({ request, edits: [], rungs: [], rules, atBoundary: true, newId })
  assert.equal(shaped.messages, request.messages)
  assert.equal(shaped.rewritten, false)
  assert.deepEqual([shaped.newEdits, shaped.savedBytes, shaped.skipped], [[], 0, []])
})

test('results of retrieval tools give way to a stub at the next user turn, other results stay', () => {
  const loop = [
    user('q'),
    call({ id: 'a', name: RETRIEVAL_TOOL }, { id: 'b', name: 'book_seat' }, { id: 'c', name: 'kb_eu' }),
    result('a', passage),
    result('b', passage),
    result('c', passage),
  ]
  assert.equal(drop(chatRequest(loop)).rewritten, false, 'the running tool loop is never touched')
  const shaped = drop(chatRequest([...loop, assistant('answer'), user('next')]))
  assert.deepEqual(contents(shaped), ['q', null, RETRIEVAL_STUB, passage, RETRIEVAL_STUB, 'answer', 'next'])
  assert.equal(shaped.newEdits.length, 2)
  assert.equal(shaped.savedBytes, 2 * (passage.length - RETRIEVAL_STUB.length))
})

test('text between balanced tags gives way, in older turns and in the new one; tags and question stay', () => {
  const shaped = drop(
    chatRequest([
      system(tagged(passage)),
      user(`${tagged(passage)}\nold?`),
      assistant(tagged(passage)),
      user(`Look: ${tagged(passage)} new?`),
    ]),
  )
  assert.deepEqual(contents(shaped), [
    tagged(passage),
    `${tagged(RETRIEVAL_STUB)}\nold?`,
    tagged(passage),
    `Look: ${tagged(RETRIEVAL_STUB)} new?`,
  ])
})

test('nested tags count as one, a tag without its partner marks nothing, short text stays', () => {
  const only = (text: string): unknown => contents(drop(chatRequest([user(text)])))[0]
  assert.equal(only(tagged(`${passage}${tagged(passage)}${passage}`)), tagged(RETRIEVAL_STUB))
  assert.equal(only(`<${RETRIEVAL_TAG}>${passage} and my question`), `<${RETRIEVAL_TAG}>${passage} and my question`)
  assert.equal(only(`${passage}</${RETRIEVAL_TAG}> mine`), `${passage}</${RETRIEVAL_TAG}> mine`)
  assert.equal(only(`<${RETRIEVAL_TAG}>mine ${tagged(passage)}`), `<${RETRIEVAL_TAG}>mine ${tagged(RETRIEVAL_STUB)}`)
  assert.equal(only(tagged('short')), tagged('short'))
  assert.equal(only(`<${RETRIEVAL_TAG}s>${passage}</${RETRIEVAL_TAG}s>`), `<${RETRIEVAL_TAG}s>${passage}</${RETRIEVAL_TAG}s>`)
})

test('an app marks messages by name, by part, or by index; the last question stays whatever marks it', () => {
  const byName = drop(chatRequest([user('q'), { ...user(passage), name: 'retrieval' }]))
  assert.deepEqual(contents(byName), ['q', RETRIEVAL_STUB])
  const byPart = drop(
    chatRequest([
      user([
        { type: 'text', text: passage, name: 'retrieval' },
        { type: 'text', text: passage },
      ]),
    ]),
  )
  assert.deepEqual(contents(byPart), [
    [
      { type: 'text', text: RETRIEVAL_STUB, name: 'retrieval' },
      { type: 'text', text: passage },
    ],
  ])
  const byIndex = drop(
    chatRequest([system(passage), user(passage), assistant(passage), user('q')], { metadata: { farebox_retrieval: '1, 2,99,x' } }),
  )
  assert.deepEqual(contents(byIndex), [passage, RETRIEVAL_STUB, passage, 'q'])
  const onlyQuestion = drop(chatRequest([user(passage)], { metadata: { farebox_retrieval: '0' } }))
  assert.equal(onlyQuestion.rewritten, false)
})

test('a message that the log replaced stays as logged, also when the owner names further tags later', () => {
  const request = chatRequest([user(`${tagged(passage)}<docs>${passage}</docs> q`)])
  const first = drop(request)
  const wider: ShapeRules = { ...rules, retrieval: { toolNames: [], tags: [RETRIEVAL_TAG, 'docs'] } }
  const again = shape({ request, edits: first.newEdits, rungs: ['DropRetrieval'], rules: wider, atBoundary: true, newId })
  assert.deepEqual([sent(again.messages), again.newEdits], [sent(first.messages), []])
})

test('retrieved bytes are counted for each message', () => {
  const request = chatRequest([system('s'), user(`${tagged(passage)} q`), call({ id: 'a', name: 'kb_1' }), result('a', passage)])
  const [none, marked, calls, whole] = retrievalBytes(request, rules)
  assert.deepEqual([none, calls], [0, 0])
  assert.deepEqual([marked, whole], [passage.length - RETRIEVAL_STUB.length, passage.length - RETRIEVAL_STUB.length])
})

test('what the provider alone can read is summed up by nobody, and that is said', () => {
  const known = chatRequest([user('q'), assistant('a'), user('q')])
  const named = { ...known, messages: known.messages.map((each) => (each.role === 'assistant' ? { ...each, isOnlyNamed: true } : each)) }
  const skippedIn = (request: ModelRequest): unknown =>
    shape({ request, edits: [], rungs: ['Summarize'], rules, atBoundary: true, newId }).skipped
  assert.deepEqual(skippedIn(known), [{ rung: 'Summarize', reason: 'noSummary' }])
  assert.deepEqual(skippedIn(named), [{ rung: 'Summarize', reason: 'serverHistory' }])
})

test('a rung that finds nothing to do says so', () => {
  assert.deepEqual(drop(chatRequest([user('q')])).skipped, [{ rung: 'DropRetrieval', reason: 'noMarker' }])
  const rungs: Rung[] = ['Summarize', 'RefuseTools']
  assert.deepEqual(shape({ request: chatRequest([user('q')]), edits: [], rungs, rules, atBoundary: true, newId }).skipped, [
    { rung: 'Summarize', reason: 'noSummary' },
    { rung: 'RefuseTools', reason: 'noTools' },
  ])
})

test('hostile text is scanned in linear time', () => {
  const text = [
    `<${RETRIEVAL_TAG} `.repeat(30_000),
    `<${RETRIEVAL_TAG}>`.repeat(30_000),
    `</${RETRIEVAL_TAG}>`.repeat(30_000),
    '<a '.repeat(100_000),
    '-'.repeat(300_000),
  ]
  takesLessThan(2_000, () => {
    for (const content of text) drop(chatRequest([user(content)]))
  })
})

test('a notice that the app sends back is taken out, whatever the app did to whitespace', () => {
  const notice = 'Note: earlier turns were summarised. Please repeat what matters.'
  const edits: Edit[] = [{ kind: 'notice', id: 'n', text: notice }]
  const answer = `It leaves at nine.${inlineNotice(notice)}`
  for (const resent of [
    answer,
    `${answer}\n`,
    answer.replaceAll('\n', '\r\n'),
    answer.replaceAll(/\s+/g, ' '),
    `It leaves at nine.\n\n${notice}`,
  ]) {
    assert.equal(contents(replay(chatRequest([user('q'), assistant(resent), user('r')]), edits))[1], 'It leaves at nine.')
  }
  const quoted = chatRequest([user(answer), assistant('It leaves at nine.'), user('r')])
  assert.equal(replay(quoted, edits).messages, quoted.messages, 'what users write is theirs')
})

test('an answer that was nothing but our notice is left out of the history', () => {
  const edits: Edit[] = [{ kind: 'notice', id: 'n', text: 'This conversation ends here; start a new one.' }]
  const shaped = replay(chatRequest([user('q'), assistant('This conversation ends here; start a new one.'), user('r')]), edits)
  assert.deepEqual(contents(shaped), ['q', 'r'])
  const withCalls = { ...call({ id: 'a', name: 'f' }), content: 'This conversation ends here; start a new one.' }
  assert.deepEqual(contents(replay(chatRequest([user('q'), withCalls, result('a', 'r')]), edits)), ['q', null, 'r'])
})

test('an edit whose originals the app has changed is left out, and is back with them', () => {
  const history = [user('one'), assistant('1'), user(`${tagged(passage)} two`), assistant('2'), user('three')]
  const request = chatRequest(history)
  const dropped = drop(request)
  const plan = planCut({ request, edits: dropped.newEdits, keepRecentTurns: 1 })
  assert.ok(plan)
  const log = [...dropped.newEdits, cutEdit(plan, 'Summarize', ownMessage('user', '[summary]'), 'cut')]
  assert.deepEqual(contents(replay(request, log)), ['[summary]', 'three'])
  const regenerated = chatRequest([user('one'), assistant('1, differently'), ...history.slice(2)])
  assert.deepEqual(contents(replay(regenerated, log)), ['one', '1, differently', `${tagged(RETRIEVAL_STUB)} two`, '2', 'three'])
  const shortened = chatRequest(history.slice(0, 3))
  assert.deepEqual(contents(replay(shortened, log)), ['one', '1', `${tagged(RETRIEVAL_STUB)} two`])
  assert.deepEqual(contents(replay(chatRequest(history.slice(0, 4)), log)).length, 4, 'a cut never leaves a request without a question')
  assert.deepEqual(contents(replay(chatRequest([...history, assistant('3'), user('four')]), log)), ['[summary]', 'three', '3', 'four'])
})

test('a log with text that is no message changes nothing', () => {
  const request = chatRequest([user('one'), assistant('1'), user(tagged(passage))])
  const [edit] = drop(request).newEdits
  assert.ok(edit?.kind === 'replace')
  for (const text of ['', 'null', '[]', '{"role":"assistant","content":"x"}', '{"role":'])
    assert.equal(replay(request, [{ ...edit, text }]).messages, request.messages)
})

/** Runs a conversation through all rewriting as a sidecar would; `check` sees each request with what was sent. */
function walk(
  messages: readonly JsonObject[],
  check: (turn: {
    readonly request: ModelRequest
    readonly shaped: Shaped
    readonly log: readonly Edit[]
    readonly before: readonly Edit[]
  }) => void,
): void {
  let log: readonly Edit[] = []
  for (const [index, request] of requestsOf(messages).entries()) {
    const atBoundary = isBoundary(request)
    const before = log
    const shaped = shape({ request, edits: before, rungs: ['DropRetrieval'], rules, atBoundary, newId })
    log = [...before, ...shaped.newEdits]
    check({ request, shaped, log, before })
    if (index % 5 === 4) {
      const plan = planCut({ request, edits: log, keepRecentTurns: rules.keepRecentTurns })
      if (plan !== null) log = [...log, cutEdit(plan, 'Summarize', ownMessage('user', `[summary of ${plan.turns}]`), newId())]
    }
    if (index % 7 === 6) {
      const size = shaped.messages.reduce((sum, { bytes }) => sum + bytes.length, 0)
      const dropped = dropOldest({
        request,
        edits: log,
        fits: (kept) => kept.reduce((sum, { bytes }) => sum + bytes.length, 0) < size / 2,
        newId,
      })
      if (dropped.status === 'cut') log = [...log, dropped.edit]
    }
  }
}

/** What holds of every conversation, whatever was done to it. */
function holdsThroughout(messages: readonly JsonObject[]): void {
  let previous: { readonly request: ModelRequest; readonly log: readonly Edit[] } | null = null
  walk(messages, ({ request, shaped, log, before }) => {
    assert.equal(pairingProblem(shaped.messages), null)
    assert.equal(shaped.messages.at(-1)?.role, request.messages.at(-1)?.role)
    // Instructions are never touched, nor what assistants said; a result loses text, never its place.
    const kept = (role: string): string[] => sent(shaped.messages.filter((message) => message.role === role))
    assert.deepEqual(kept('system'), sent(request.messages.filter((message) => message.role === 'system')))
    assert.ok(kept('assistant').every((bytes) => sent(request.messages).includes(bytes)))
    // The same log on the same request, and on one that has grown, gives the same bytes from the start.
    assert.deepEqual(sent(replay(request, log).messages), sent(shaped.messages))
    if (previous !== null) {
      const shorter = sent(replay(previous.request, before).messages)
      assert.deepEqual(sent(replay(request, before).messages).slice(0, shorter.length), shorter)
    }
    // Shaping twice is shaping once, on the client's messages and on what was sent.
    const again = shape({ request, edits: log, rungs: ['DropRetrieval'], rules, atBoundary: isBoundary(request), newId })
    assert.deepEqual([sent(again.messages), again.newEdits], [sent(shaped.messages), []])
    const onResult = shape({
      request: { ...request, messages: shaped.messages },
      edits: log,
      rungs: ['DropRetrieval'],
      rules,
      atBoundary: isBoundary(request),
      newId,
    })
    assert.deepEqual([sent(onResult.messages), onResult.newEdits], [sent(shaped.messages), []])
    previous = { request, log }
  })
}

test('generated conversations stay valid, stable and idempotent through all rewriting', () => {
  fc.assert(fc.property(conversations(), holdsThroughout), { numRuns: 60 })
})

test('outside marked text nothing changes', () => {
  fc.assert(
    fc.property(conversations(), (messages) => {
      for (const request of requestsOf(messages)) {
        const shaped = drop(request)
        assert.equal(shaped.messages.length, request.messages.length)
        for (const [index, message] of request.messages.entries()) {
          const before = JSON.stringify(message.json).replaceAll(/(<retrieved_context k=\\"1\\">).*?(<\/retrieved_context>)/g, '$1$2')
          const after = JSON.stringify(shaped.messages[index]?.json).replaceAll(
            /(<retrieved_context k=\\"1\\">).*?(<\/retrieved_context>)/g,
            '$1$2',
          )
          if (message.role !== 'tool') assert.equal(after, before)
          else assert.deepEqual({ ...shaped.messages[index]?.json, content: '' }, { ...message.json, content: '' })
        }
      }
    }),
    { numRuns: 40 },
  )
})

for (const { id, messages } of recordedConversations(6)) {
  test(`recorded conversation ${id} stays valid, stable and idempotent through all rewriting`, () => holdsThroughout(messages))
}
