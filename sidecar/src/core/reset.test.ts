import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Edit } from './conversation.ts'
import { replay } from './edit-log.ts'
import { cutEdit, leftOutMessage, planCut } from './history-cut.ts'
import { ownMessage } from './message.ts'
import type { ModelRequest } from './request.ts'
import { resetEdits } from './reset.ts'
import { assistant, call, chatRequest, pairingProblem, result, system, user } from './testing.ts'

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

function summaryOf(request: ModelRequest, text: string): Edit {
  const plan = planCut({ request, edits: [], keepRecentTurns: 1 })
  assert.ok(plan)
  return cutEdit(plan, 'Summarize', ownMessage('user', text), `summary ${text}`)
}
function begun(
  recap: 'Summary' | 'None',
  log: { readonly edits?: readonly Edit[]; readonly readyEdits?: readonly Edit[] } = {},
  request = REQUEST,
): unknown[] {
  const conversation = { edits: log.edits ?? [], readyEdits: log.readyEdits ?? [] }
  const edits = resetEdits({ request, conversation, recap, newId: () => 'reset' })
  const { messages } = replay(request, [...conversation.edits, ...edits])
  assert.equal(pairingProblem(messages), null)
  return messages.map(({ json }) => json['content'])
}

test('a session begins with its instructions, a label, and the turn that opened it', () => {
  assert.deepEqual(begun('None'), ['s', '[New session: turns 1-2 of the earlier conversation left out]', 'q3'])
  assert.deepEqual(begun('Summary'), begun('None'), 'without a summary the label stands alone')
})

test('with a recap the newest summary comes along, be it in the log or still waiting', () => {
  const older = summaryOf(chatRequest(HISTORY.slice(0, 6)), '[older]')
  const newer = summaryOf(chatRequest(HISTORY.slice(0, 6)), '[newer]')
  const label = '[New session: turns 1-2 of the earlier conversation left out]'
  assert.deepEqual(begun('Summary', { edits: [older] }), ['s', `${label}\n\n[older]`, 'q3'])
  assert.deepEqual(begun('Summary', { edits: [older], readyEdits: [newer] }), ['s', `${label}\n\n[newer]`, 'q3'])
  assert.deepEqual(begun('None', { edits: [older] }), ['s', label, 'q3'])
})

test('what was merely left out is no recap', () => {
  const plan = planCut({ request: chatRequest(HISTORY.slice(0, 6)), edits: [], keepRecentTurns: 1 })
  assert.ok(plan)
  const cut = cutEdit(plan, 'DropOldest', leftOutMessage(plan), 'x')
  assert.deepEqual(begun('Summary', { edits: [cut] }), begun('None'))
})

test('where nothing stands before the turn, nothing is cut', () => {
  assert.deepEqual(begun('Summary', {}, chatRequest([system('s'), user('q1')])), ['s', 'q1'])
})

test('the next turns of the session keep its beginning', () => {
  const edits = resetEdits({ request: REQUEST, conversation: { edits: [], readyEdits: [] }, recap: 'None', newId: () => 'reset' })
  const next = chatRequest([...HISTORY, assistant('a3'), user('q4')])
  assert.deepEqual(
    replay(next, edits).messages.map(({ json }) => json['content']),
    ['s', '[New session: turns 1-2 of the earlier conversation left out]', 'q3', 'a3', 'q4'],
  )
})
