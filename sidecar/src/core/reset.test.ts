import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { Edit } from './conversation.ts'
import { replay } from './edit-log.ts'
import { cutEdit, leftOutMessage, planCut } from './history-cut.ts'
import { ownMessage, readOwn } from './message.ts'
import type { ModelRequest } from './request.ts'
import { awaitedSummary, awaitingReset, joinedToReset, resetEdits, standingAlone, withSummary } from './reset.ts'
import type { ResetInput } from './reset.ts'
import { summaryMessage } from './summary.ts'
import { assistant, call, chatRequest, conversations, pairingProblem, requestsOf, result, system, user } from './requests.testing.ts'

const HISTORY = [
  system('s'),
  user('q1'),
  call({ id: 'a', name: 'f' }),
  result('a', 'r'),
  assistant('a1'),
  user('q2'),
  assistant('a2'),
  user('q3'),
]
const REQUEST = chatRequest(HISTORY)
const LABEL = '[New session (the last one had used up its budget): turns 1-2 of the earlier conversation left out]'
const RESET = { why: 'budget', recap: 'Summary', isSearchable: false, passages: null, session: 2 } as const

function summaryText(text: string, of: { readonly turns: number } = { turns: 2 }): string {
  const plan = planCut({ request: REQUEST, edits: [], keepRecentTurns: 1 })
  assert.ok(plan)
  const message = summaryMessage({ text, plan: { ...plan, turns: of.turns }, maxTokens: 100, tokensBefore: 10, tokensAfter: 5 })
  return readOwn(JSON.stringify(message))?.text ?? ''
}
function summaryOf(request: ModelRequest, text: string): Edit {
  const plan = planCut({ request, edits: [], keepRecentTurns: 1 })
  assert.ok(plan)
  return cutEdit(plan, 'Summarize', ownMessage('user', summaryText(text, plan)), `summary ${text}`)
}
function begun(
  more: Partial<ResetInput>,
  log: { readonly edits?: readonly Edit[]; readonly readyEdits?: readonly Edit[] } = {},
  request = REQUEST,
): unknown[] {
  const conversation = { edits: log.edits ?? [], readyEdits: log.readyEdits ?? [] }
  const edits = resetEdits({ ...RESET, request, conversation, ...more })
  const { messages } = replay(request, [...conversation.edits, ...edits])
  assert.equal(pairingProblem(messages), null)
  return messages.map(({ json }) => json['content'])
}

test('a session begins with its instructions, a label that says why, and the turn that opened it', () => {
  assert.deepEqual(begun({ recap: 'None' }), ['s', LABEL, 'q3'])
  assert.deepEqual(begun({}), ['s', LABEL, 'q3'], 'without a summary the label stands alone')
  assert.equal(
    begun({ why: 'maxTurns' })[1],
    '[New session (the last one had all its turns): turns 1-2 of the earlier conversation left out]',
  )
  assert.equal(begun({ why: 'idle' })[1], '[New session (after a pause): turns 1-2 of the earlier conversation left out]')
})

test('with a recap the newest summary comes along, be it in the log or still waiting', () => {
  const older = summaryOf(chatRequest(HISTORY.slice(0, 6)), 'older')
  const newer = summaryOf(chatRequest(HISTORY.slice(0, 6)), 'newer')
  assert.deepEqual(begun({}, { edits: [older] }), ['s', `${LABEL}\n\n${summaryText('older', { turns: 1 })}`, 'q3'])
  assert.deepEqual(begun({}, { edits: [older], readyEdits: [newer] }), ['s', `${LABEL}\n\n${summaryText('newer', { turns: 1 })}`, 'q3'])
  assert.deepEqual(begun({ recap: 'None' }, { edits: [older] }), ['s', LABEL, 'q3'])
})

test('a recap cites passages after the summary, and the label says that more can be searched', () => {
  const searched = LABEL.replace('left out', 'left out; earlier sessions can be searched')
  const passages = '<earlier-passages>\nuser: x\n</earlier-passages>'
  const older = summaryOf(chatRequest(HISTORY.slice(0, 6)), 'older')
  const all = begun({ isSearchable: true, passages }, { edits: [older] })
  assert.deepEqual(all, ['s', `${searched}\n\n${summaryText('older', { turns: 1 })}\n\n${passages}`, 'q3'])
  assert.deepEqual(begun({ isSearchable: true, passages, recap: 'None' }), ['s', searched, 'q3'])
})

test('what was merely left out is no recap', () => {
  const plan = planCut({ request: chatRequest(HISTORY.slice(0, 6)), edits: [], keepRecentTurns: 1 })
  assert.ok(plan)
  const cut = cutEdit(plan, 'DropOldest', leftOutMessage(plan), 'x')
  assert.deepEqual(begun({}, { edits: [cut] }), ['s', LABEL, 'q3'])
})

test('where nothing stands before the turn, nothing is cut', () => {
  assert.deepEqual(begun({}, {}, chatRequest([system('s'), user('q1')])), ['s', 'q1'])
})

test('a summary that waits joins the log before the reset, also where that leaves nothing out', () => {
  const waiting = summaryOf(chatRequest(HISTORY.slice(0, 6)), 'waiting')
  const idsOf = (request: ModelRequest): readonly string[] =>
    resetEdits({ ...RESET, request, conversation: { edits: [], readyEdits: [waiting] } }).map(({ id }) => id)
  const [first, second = '', ...more] = idsOf(REQUEST)
  assert.deepEqual([first, second.startsWith('reset/2/'), more], [waiting.id, true, []])
  assert.deepEqual(idsOf(chatRequest([system('s'), user('q1')])), [waiting.id])
})

test('calls that come together begin it by one edit; another history has one of its own', () => {
  const idOf = (request: ModelRequest, session: number): string | undefined =>
    resetEdits({ ...RESET, session, request, conversation: { edits: [], readyEdits: [] } })[0]?.id
  const id = idOf(REQUEST, 2)
  assert.equal(idOf(chatRequest([...HISTORY.slice(0, -1), user('meanwhile')]), 2), id)
  assert.notEqual(idOf(REQUEST, 3), id)
  assert.notEqual(idOf(chatRequest([...HISTORY, assistant('a3'), user('q4')]), 2), id)
})

test('the next turns of the session keep its beginning', () => {
  const edits = resetEdits({ ...RESET, request: REQUEST, conversation: { edits: [], readyEdits: [] } })
  const next = chatRequest([...HISTORY, assistant('a3'), user('q4')])
  assert.deepEqual(
    replay(next, edits).messages.map(({ json }) => json['content']),
    ['s', LABEL, 'q3', 'a3', 'q4'],
  )
})

test('a reset that had no summary awaits one, over all that it left out; it joins the message before its passages, and the next reset takes it along', () => {
  const passages = '<earlier-passages>\nuser: x\n</earlier-passages>'
  const edits = resetEdits({ ...RESET, request: REQUEST, conversation: { edits: [], readyEdits: [] }, passages })
  const next = chatRequest([...HISTORY, assistant('a3'), user('q4')])
  const awaited = awaitedSummary(next, edits)
  assert.ok(awaited !== null)
  assert.deepEqual(
    awaited.plan.messages.map(({ json }) => json['content']),
    ['q1', null, 'r', 'a1', 'q2', 'a2'],
  )
  const log = [...edits, withSummary(awaited.reset, summaryText('late'), 'late')]
  const sent = replay(next, log).messages.map(({ json }) => json['content'])
  assert.deepEqual(sent, ['s', `${LABEL}\n\n${summaryText('late')}\n\n${passages}`, 'q3', 'a3', 'q4'])
  assert.equal(awaitedSummary(next, log), null, 'once')
  const again = begun({ why: 'idle' }, { edits: log }, chatRequest([...HISTORY, assistant('a3'), user('q4')]))
  assert.deepEqual(again[1], `[New session (after a pause): turns 1-3 of the earlier conversation left out]\n\n${summaryText('late')}`)
})

test('the summary of an earlier session stands in for the one of this that is awaited, which takes its place and is made of it and of what came after', () => {
  const passages = '<earlier-passages>\nuser: x\n</earlier-passages>'
  const first = resetEdits({ ...RESET, request: REQUEST, conversation: { edits: [], readyEdits: [] } })
  const awaited = awaitedSummary(REQUEST, first)
  assert.ok(awaited !== null)
  let log = [...first, withSummary(awaited.reset, summaryText('of session 1'), 'late 2')]

  const next = chatRequest([...HISTORY, assistant('a3'), user('q4'), assistant('a4'), user('q5')])
  const second = resetEdits({ ...RESET, why: 'idle', request: next, conversation: { edits: log, readyEdits: [] }, passages, session: 3 })
  log = [...log, ...second]
  const label = '[New session (after a pause): turns 1-4 of the earlier conversation left out]'
  const sent = (): unknown[] => replay(next, log).messages.map(({ json }) => json['content'])
  assert.deepEqual(sent(), ['s', `${label}\n\n${summaryText('of session 1')}\n\n${passages}`, 'q5'])
  const anew = awaitedSummary(next, log)
  assert.equal(anew?.reset, second[0])
  assert.deepEqual(
    anew?.plan.messages.map(({ json }) => json['content']),
    [`${LABEL}\n\n${summaryText('of session 1')}`, 'q3', 'a3', 'q4', 'a4'],
  )
  const summary = summaryText('of both', { turns: 4 })
  log = [...log, withSummary(anew.reset, summary, 'late 3')]
  assert.deepEqual(sent(), ['s', `${label}\n\n${summary}\n\n${passages}`, 'q5'])
  assert.equal(awaitedSummary(next, log), null, 'once')
})

test('a summary of the beginning does for the question that opens the session, and no longer', () => {
  const early = summaryOf(chatRequest(HISTORY.slice(0, 6)), 'early')
  const [reset] = resetEdits({ ...RESET, request: REQUEST, conversation: { edits: [early], readyEdits: [] } })
  assert.ok(reset?.kind === 'cut')
  assert.equal(readOwn(reset.text)?.text, `${LABEL}\n\n${summaryText('early', { turns: 1 })}`)
  assert.equal(awaitedSummary(REQUEST, [early, reset])?.reset, reset)
})

test('what was summed up of a branch that the user left is no recap of the one that goes on', () => {
  const left = summaryOf(chatRequest([system('s'), user('q1 once more'), assistant('a1'), user('q2')]), 'left')
  const older = summaryOf(chatRequest(HISTORY.slice(0, 6)), 'older')
  assert.deepEqual(begun({}, { edits: [left] }), ['s', LABEL, 'q3'])
  assert.deepEqual(begun({}, { edits: [older, left] })[1], `${LABEL}\n\n${summaryText('older', { turns: 1 })}`)
})

test('no summary is awaited by a reset that has one of all that it leaves out, nor where its history is not what the app sends', () => {
  const whole = [
    { ...summaryOf(chatRequest(HISTORY.slice(0, 6)), 'older'), text: JSON.stringify(ownMessage('user', summaryText('older'))) },
  ]
  const withRecap = resetEdits({ ...RESET, request: REQUEST, conversation: { edits: whole, readyEdits: [] } })
  assert.equal(awaitedSummary(REQUEST, [...whole, ...withRecap]), null)
  assert.equal(awaitingReset([...whole, ...withRecap]), null)
  const without = resetEdits({ ...RESET, request: REQUEST, conversation: { edits: [], readyEdits: [] } })
  assert.equal(awaitingReset(without), without[0])
  assert.equal(awaitedSummary(chatRequest([system('s'), user('another'), assistant('a'), user('b')]), without), null)
  assert.equal(awaitedSummary(REQUEST, [...without, summaryOf(REQUEST, 'newer')]), null)
})

test('a summary that comes after the reset joins its message; where the reset has one, or covers less, it does not', () => {
  const plan = planCut({ request: chatRequest(HISTORY.slice(0, 6)), edits: [], keepRecentTurns: 1 })
  assert.ok(plan)
  const late = { plan, summary: summaryText('late'), id: 'late' }
  const edits = resetEdits({ ...RESET, request: REQUEST, conversation: { edits: [], readyEdits: [] } })
  const joined = joinedToReset(edits, late)
  assert.ok(joined !== null)
  assert.deepEqual(
    replay(REQUEST, [...edits, joined]).messages.map(({ json }) => json['content']),
    ['s', `${LABEL}\n\n${summaryText('late')}`, 'q3'],
  )
  assert.equal(joinedToReset([...edits, joined], late), null)
  const early = withSummary(joined, summaryText('early', { turns: 1 }), 'early')
  assert.equal(joinedToReset([...edits, early], { ...late, summary: summaryText('no later', { turns: 1 }) }), null)
  assert.deepEqual(joinedToReset([...edits, early], late)?.text, joined.text, 'it takes the place of one that tells of less')
  assert.equal(joinedToReset([], late), null)
  assert.equal(joinedToReset(edits, { ...late, plan: { ...plan, count: plan.count + 100 } }), null)
})

test('a request stands alone without the stored response that it goes on from, unless it answers a call in there', () => {
  const earlier = { kind: 'response', id: 'resp_1' } as const
  assert.equal(standingAlone(REQUEST), REQUEST)
  assert.equal(standingAlone(chatRequest([user('q')], { earlier }))?.earlier, null)
  assert.equal(standingAlone(chatRequest([result('a', 'r'), user('q')], { earlier })), null)
  assert.equal(standingAlone(chatRequest([user('q')], { earlier: { kind: 'conversation', id: 'conv_1' } })), null)
})

test('any history may be reset at any user turn, twice, with any words in its passages: pairs stay, and the last turn is what it was', () => {
  const words = fc.string({ maxLength: 40, unit: 'grapheme' })
  fc.assert(
    fc.property(conversations(), fc.option(words), (messages, passages) => {
      let edits: readonly Edit[] = []
      for (const [index, request] of requestsOf(messages).entries()) {
        if (request.messages.findLast(({ role }) => role !== 'system' && role !== 'developer')?.role !== 'user') continue
        const log = { edits, readyEdits: [] }
        edits = [...edits, ...resetEdits({ ...RESET, request, conversation: log, passages, session: index + 2 })]
        const sent = replay(request, edits).messages
        assert.equal(pairingProblem(sent), null)
        assert.deepEqual(sent.at(-1), request.messages.at(-1))
        const awaited = awaitedSummary(request, edits)
        if (awaited === null) continue
        const late = withSummary(awaited.reset, summaryText('late', awaited.plan), `late ${index}`)
        assert.equal(replay(request, [...edits, late]).messages.length, sent.length)
        assert.equal(awaitedSummary(request, [...edits, late]), null)
      }
    }),
  )
})
