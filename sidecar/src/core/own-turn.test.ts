import assert from 'node:assert/strict'
import { test } from 'node:test'
import { makeContract } from '../../../test/support/make.ts'
import { newConversation } from './conversation-change.ts'
import type { Conversation, Edit } from './conversation.ts'
import { KEPT_MESSAGES } from './conversation.ts'
import { isOwnTurn, isUnread, isUnsaid, mayResetHere, planBesideLoop } from './own-turn.ts'
import type { Plan } from './plan.ts'
import type { ModelRequest } from './request.ts'
import { questionOf } from './sessions.ts'
import { assistant, chatRequest, system, user } from './requests.testing.ts'

const TITLE = chatRequest([user('Name the chat that begins: where is my parcel?')])
const QUESTION = chatRequest([system('s'), user('Where is my parcel?'), assistant('In Rome.'), user('And now?')])
const FIRST = { messages: 2, messagesDigest: 'd'.repeat(32) }
const CUT: Edit = { kind: 'cut', id: 'e', cause: 'Reset', leading: 0, count: 2, originals: 'o', text: '', savedBytes: 0 }

/** A conversation of which so much is known after the answer to its first question. */
function asked(more: Partial<Conversation> = {}): Conversation {
  const begun = newConversation({ id: 'c', tier: 'pro', contractHash: 'h', user: 'u', nowMs: 0, ladderApplies: true })
  return { ...begun, userTurns: 1, question: questionOf(FIRST), ...more }
}

test('a call beside the chat is not the user’s own; the first question, which looks like it, is', () => {
  assert.equal(isOwnTurn(TITLE, asked()), false)
  assert.equal(isOwnTurn(TITLE, asked({ userTurns: 0 })), true)
  assert.equal(isOwnTurn(QUESTION, asked()), true)
  assert.equal(isOwnTurn(chatRequest([...QUESTION.messages.map(({ json }) => json), assistant('Dear')]), asked()), false)
})

test('a first question that is asked again is said by the user, another call that looks like it is not', () => {
  const again = chatRequest([system('s'), user('Where is my parcel?')])
  assert.equal(isUnsaid(again, asked(), FIRST), false)
  assert.equal(isUnsaid(TITLE, asked(), { ...FIRST, messagesDigest: 'e'.repeat(32) }), true)
  assert.equal(isUnsaid(TITLE, asked(), { ...FIRST, messages: 1 }), true)
  assert.equal(isUnsaid(TITLE, asked({ question: null }), FIRST), true)
  assert.equal(isUnsaid(TITLE, asked({ userTurns: 0, question: null }), FIRST), false)
  assert.equal(isUnsaid(QUESTION, asked(), { ...FIRST, messages: 4 }), false)
})

test('an answer is known to be unread where questions bring more than the call that it is for', () => {
  const later = asked({ userTurns: 2, question: { messages: 4, digest: 'd' } })
  assert.equal(isUnread(TITLE, later), true)
  assert.equal(isUnread(QUESTION, later), false)
  assert.equal(isUnread(TITLE, asked()), true, 'it lacks the instructions of the chat')
  const alike = asked({ question: { messages: 1, digest: 'd' } })
  assert.equal(isUnread(TITLE, alike), false, 'the app may be one that sends no history')
  assert.equal(isUnread(TITLE, { ...alike, edits: [CUT] }), true, 'a history was sent before')
  assert.equal(isUnread(TITLE, asked({ question: null })), false)
  assert.equal(isUnread(TITLE, asked({ question: { messages: KEPT_MESSAGES, digest: 'd' } })), true, 'the provider keeps the rest')
})

test('what rises in a call beside a loop at user turns alone is not the chat’s, which has it with its next question', () => {
  const plan = {
    rungs: ['DropRetrieval', 'DowngradeModel', 'RefuseTools'],
    risen: ['DowngradeModel', 'RefuseTools'],
    risenForUser: ['DowngradeModel'],
    turnRungs: ['DowngradeModel'],
    occasions: ['DropRetrieval', 'DowngradeModel', 'RefuseTools', 'Upgrade'],
  } as const satisfies Partial<Plan>
  const planned = planBesideLoop(plan as unknown as Plan, asked({ rungs: ['DropRetrieval'], turnRungs: ['Summarize'] }))
  assert.deepEqual(planned, {
    rungs: plan.rungs,
    risen: ['RefuseTools'],
    risenForUser: [],
    turnRungs: ['Summarize'],
    occasions: ['DropRetrieval', 'RefuseTools', 'Upgrade'],
  })
})

test('a session whose budget is used up gives way to a question, not to a call beside the chat', () => {
  const may = (request: ModelRequest, conversation: Conversation, more: Partial<Parameters<typeof mayResetHere>[0]> = {}): boolean =>
    mayResetHere({ request, conversation, contract: makeContract(), taskBoundary: false, ...more })
  const later = asked({ userTurns: 2, question: { messages: 4, digest: 'd' } })
  assert.equal(may(QUESTION, later), true)
  assert.equal(may(TITLE, later), false)
  assert.equal(may(TITLE, later, { taskBoundary: true }), true, 'the app itself says that a task begins')
  assert.equal(may(TITLE, asked({ question: { messages: 1, digest: 'd' } })), true, 'the app may be one that sends none')
  assert.equal(may(chatRequest([user('q'), assistant('Dear')]), later), false, 'nothing can be cut here')
  assert.equal(may(QUESTION, later, { contract: makeContract({ sessions: { resetAt: 'TaskBoundary' } }) }), false)
})
