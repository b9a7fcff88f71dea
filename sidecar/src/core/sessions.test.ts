import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import { applyChange, newConversation } from './conversation-change.ts'
import type { Conversation, Edit } from './conversation.ts'
import { replay } from './edit-log.ts'
import { cutEdit, planCut } from './history-cut.ts'
import { ownMessage } from './message.ts'
import { wholeDigest } from './message-digests.ts'
import { inlineNotice } from './notice-frame.ts'
import {
  beginsUserTurn,
  endsWithNextTurn,
  isAskedAgain,
  isBesideChat,
  isUserTurn,
  resetRefusal,
  sentQuestion,
  sessionEnds,
  questionOf,
  withBegunAnswer,
} from './sessions.ts'
import type { SessionInput } from './sessions.ts'
import type { JsonObject } from './request.ts'
import { assistant, call, chatRequest, result, system, user } from './requests.testing.ts'

const HOUR = 3_600_000
type Sessions = Contract['sessions']

function contract(parts: Partial<Sessions> = {}): Pick<Contract, 'sessions'> {
  return { sessions: { resetAt: 'Immediately', recap: 'None', maxResets: 3, memory: { mode: 'None', retentionMs: 0 }, ...parts } }
}
function input(parts: Partial<SessionInput & SessionInput['conversation']> = {}): SessionInput {
  const { userTurns = 3, lastTurnAtMs = 10 * HOUR, atTaskBoundary = false, ...rest } = parts
  return {
    conversation: { userTurns, lastTurnAtMs, atTaskBoundary },
    contract: contract(),
    nowMs: 10 * HOUR,
    atBoundary: true,
    taskBoundary: false,
    ...rest,
  }
}

test('a session without bounds never ends by itself', () => {
  assert.equal(sessionEnds(input({ userTurns: 10_000, nowMs: 1_000 * HOUR })), null)
})

test('the user turn after the last one opens a session, and no call inside a tool loop', () => {
  const bounded = contract({ maxTurns: 3 })
  assert.equal(sessionEnds(input({ contract: bounded, userTurns: 2 })), null)
  assert.equal(sessionEnds(input({ contract: bounded })), 'maxTurns')
  assert.equal(sessionEnds(input({ contract: bounded, userTurns: 4 })), 'maxTurns', 'turns at once may overshoot')
  assert.equal(sessionEnds(input({ contract: bounded, atBoundary: false })), null)
})

test('at task boundaries only, it waits for one: told by the request or before it', () => {
  const waiting = contract({ maxTurns: 3, resetAt: 'TaskBoundary' })
  assert.equal(sessionEnds(input({ contract: waiting })), null)
  assert.equal(sessionEnds(input({ contract: waiting, taskBoundary: true })), 'maxTurns')
  assert.equal(sessionEnds(input({ contract: waiting, atTaskBoundary: true })), 'maxTurns')
  assert.equal(sessionEnds(input({ contract: waiting, taskBoundary: true, userTurns: 2 })), null)
})

test('a pause ends it to the millisecond, whatever the boundary; not while an answer is awaited', () => {
  for (const resetAt of ['Immediately', 'TaskBoundary'] as const) {
    const idle = contract({ idleAfterMs: HOUR, resetAt, maxTurns: 3 })
    assert.equal(sessionEnds(input({ contract: idle, nowMs: 11 * HOUR })), 'idle')
    assert.equal(sessionEnds(input({ contract: contract({ idleAfterMs: HOUR, resetAt }), nowMs: 11 * HOUR - 1 })), null)
    assert.equal(sessionEnds(input({ contract: contract({ idleAfterMs: HOUR, resetAt }), nowMs: 11 * HOUR, isBusy: true })), null)
  }
})

test('the last question of a session that had all its turns is answered again in it; a pause ends it all the same', () => {
  const bounded = contract({ maxTurns: 3, idleAfterMs: HOUR })
  assert.equal(sessionEnds(input({ contract: bounded, isAgain: () => true })), null)
  assert.equal(sessionEnds(input({ contract: bounded, taskBoundary: true, isAgain: () => true })), null)
  assert.equal(sessionEnds(input({ contract: bounded, isAgain: () => false })), 'maxTurns')
  assert.equal(sessionEnds(input({ contract: bounded, nowMs: 11 * HOUR, isAgain: () => true })), 'idle')
})

test('a question is known again by what went out of it: notices that were told, and turns that were cut', () => {
  const told: Edit = { kind: 'notice', id: 'n', text: 'Note: this is told to the user, not to the model.' }
  const asked = chatRequest([user('q1'), assistant(`a1${inlineNotice(told.text)}`), user('q2'), assistant('a2'), user('q3')])
  const cut = planCut({ request: asked, edits: [told], keepRecentTurns: 2 })
  assert.ok(cut)
  const edits = [told, cutEdit(cut, 'DropOldest', ownMessage('user', '[left out]'), 'c')]
  for (const log of [[], [told], edits]) {
    const { messages } = replay(asked, log)
    const question = questionOf({ messages: messages.length, messagesDigest: wholeDigest(messages) })
    const conversation = { userTurns: 3, question, edits: log }
    assert.ok(isAskedAgain(asked, conversation))
    assert.ok(!isAskedAgain(asked, { ...conversation, question: null }))
    assert.ok(!isAskedAgain(asked, { ...conversation, userTurns: 0 }), 'of a session before')
    assert.ok(!isAskedAgain(chatRequest([...asked.messages.slice(0, -1).map(({ json }) => json), user('q3 again')]), conversation))
    assert.ok(!isAskedAgain(chatRequest([...asked.messages.map(({ json }) => json), assistant('a3'), user('q3')]), conversation))
    assert.ok(!isAskedAgain({ ...asked, earlier: { kind: 'response', id: 'r' } }, conversation))
  }
})

const inputs = fc
  .record({
    userTurns: fc.nat({ max: 6 }),
    lastTurnAtMs: fc.nat({ max: 10 }),
    nowMs: fc.nat({ max: 20 }),
    atTaskBoundary: fc.boolean(),
    taskBoundary: fc.boolean(),
    atBoundary: fc.boolean(),
    isBusy: fc.boolean(),
    sessions: fc.record(
      {
        maxTurns: fc.integer({ min: 1, max: 6 }),
        idleAfterMs: fc.integer({ min: 1, max: 10 }),
        resetAt: fc.constantFrom('Immediately' as const, 'TaskBoundary' as const),
      },
      { requiredKeys: ['resetAt'] },
    ),
  })
  .map(({ sessions, ...rest }) => input({ ...rest, contract: contract(sessions) }))

test('a session that is opened is not over before somebody asks in it', () => {
  fc.assert(
    fc.property(inputs, (asked) => {
      const before: Conversation = { ...conversation(), ...asked.conversation }
      const { conversation: opened } = applyChange(before, { openSession: before.session + 1 })
      assert.equal(sessionEnds({ ...asked, conversation: opened }), null)
    }),
  )
})

test('more turns, a longer pause or another boundary never keep a session open that was over', () => {
  fc.assert(
    fc.property(inputs, fc.nat({ max: 5 }), fc.nat({ max: 5 }), (asked, turns, ms) => {
      if (sessionEnds(asked) === null) return
      const { conversation: known } = asked
      const more = { ...known, userTurns: known.userTurns + turns, atTaskBoundary: true }
      assert.notEqual(sessionEnds({ ...asked, conversation: more, nowMs: asked.nowMs + ms, taskBoundary: true, isBusy: false }), null)
    }),
  )
})

test('what was foreseen after an answer comes true with the next user turn', () => {
  fc.assert(
    fc.property(inputs, (asked) => {
      if (asked.conversation.userTurns === 0 || !endsWithNextTurn(asked.conversation, asked.contract)) return
      assert.notEqual(sessionEnds({ ...asked, atBoundary: true }), null)
    }),
  )
})

test('no session follows without a user budget, after the last reset, or where the history cannot be cut', () => {
  const turn = { conversation: { session: 1 }, contract: contract({ maxResets: 1 }), hasUserBudget: true, canCut: true }
  assert.equal(resetRefusal(turn), null)
  assert.equal(resetRefusal({ ...turn, hasUserBudget: false }), 'noUserBudget')
  assert.equal(resetRefusal({ ...turn, conversation: { session: 2 } }), 'noResetsLeft')
  assert.equal(resetRefusal({ ...turn, canCut: false }), 'historyKept')
})

test('a question is a user turn; a step of a tool loop, an embedding and a compaction are not', () => {
  const asked = [system('s'), user('q')]
  assert.equal(isUserTurn(chatRequest(asked)), true)
  assert.equal(isUserTurn(chatRequest([...asked, call({ id: 'a', name: 'f' }), result('a', 'r')])), false)
  assert.equal(isUserTurn(chatRequest(asked, { generates: false })), false)
  for (const wire of ['compact', 'completions', 'images'] as const) assert.equal(isUserTurn(chatRequest(asked, { wire })), false)
})

test('a question that is asked again as it was counts once, but for one whose history the provider keeps', () => {
  const request = chatRequest([user('q'), assistant('a'), user('r')])
  const sent = { messages: 3, messagesDigest: 'd' }
  const question = questionOf(sent)
  assert.equal(beginsUserTurn(request, { userTurns: 1, question: null }, sent), true)
  assert.equal(beginsUserTurn(request, { userTurns: 2, question }, sent), false)
  assert.equal(beginsUserTurn(request, { userTurns: 2, question: { ...question, digest: 'e' } }, sent), true)
  assert.equal(beginsUserTurn(request, { userTurns: 0, question }, sent), true, 'the first of its session')
  const kept = chatRequest([user('go on')], { earlier: { kind: 'response', id: 'resp_1' } })
  assert.equal(beginsUserTurn(kept, { userTurns: 2, question }, sent), true)
})

test('a call beside the chat, such as for its title, is no turn of the user, and opens no session', () => {
  const title = chatRequest([system('Name this chat in five words.'), user('How do I book a seat?')])
  assert.equal(isBesideChat(title, { userTurns: 1 }), true)
  assert.equal(isBesideChat(title, { userTurns: 0 }), false, 'the first question looks just like it')
  assert.equal(isBesideChat(chatRequest([user('q'), assistant('a'), user('r')]), { userTurns: 1 }), false)
  assert.equal(isBesideChat(chatRequest([user('go on')], { earlier: { kind: 'response', id: 'resp_1' } }), { userTurns: 1 }), false)
  assert.equal(beginsUserTurn(title, { userTurns: 1, question: null }, { messages: 2, messagesDigest: 'd' }), false)
  const full = { ...input({ userTurns: 3 }), contract: contract({ maxTurns: 3 }) }
  assert.equal(sessionEnds(full), 'maxTurns')
  assert.equal(sessionEnds({ ...full, isBeside: true }), null)
})

function conversation(): Conversation {
  return newConversation({ id: 'c', tier: 'pro', contractHash: 'h', user: 'u', nowMs: 0, ladderApplies: true })
}

test('an answer that the app begins is one to a new question, unless that was asked before', () => {
  const question = (messages: readonly JsonObject[]): Conversation['question'] => {
    const { messages: sent } = chatRequest(messages)
    return questionOf({ messages: sent.length, messagesDigest: wholeDigest(sent) })
  }
  const first = [user('Order 17 as JSON.')]
  const known = { userTurns: 1, question: question(first), edits: [] }
  const begins = (messages: readonly JsonObject[], conversation: Parameters<typeof withBegunAnswer>[1] = known): boolean | undefined =>
    withBegunAnswer(chatRequest(messages), conversation).beginsAnswer
  assert.equal(begins([...first, assistant('{')], { userTurns: 0, question: null, edits: [] }), true)
  assert.equal(begins([...first, assistant('{"order": ')]), false, 'it was cut, and is gone on with')
  assert.equal(begins([...first, assistant('{"order": '), system('The user is silent.')]), false, 'with a word to the model behind it')
  assert.equal(begins([...first, assistant('{"order": "17"}'), user('And 18.'), assistant('{')]), true)
  assert.equal(begins(first), undefined)
  const compacted = withBegunAnswer(chatRequest([...first, assistant('{')], { wire: 'compact' }), { ...known, question: null })
  assert.equal(compacted.beginsAnswer, undefined, 'nobody says anything there')
})

test('a question is known by what went out without the beginning of its answer, also beside the chat', () => {
  const request = chatRequest([user('Order 17 as JSON.'), assistant('{')])
  const bare = chatRequest([user('Order 17 as JSON.')])
  const sent = { messages: 2, messagesDigest: wholeDigest(request.messages) }
  assert.deepEqual(sentQuestion({ shaped: request, bound: { sent } }), { messages: 1, messagesDigest: wholeDigest(bare.messages) })
  assert.equal(sentQuestion({ shaped: bare, bound: { sent } }), sent)
  assert.equal(isBesideChat(request, { userTurns: 2 }), true, 'a title as JSON is no turn of the user')
})
