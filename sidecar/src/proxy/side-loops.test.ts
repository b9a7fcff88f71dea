import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Conversation, ExactCount } from '../core/conversation.ts'
import { assistant, call, chatRequest, result, user } from '../core/requests.testing.ts'
import { questionOf } from '../core/sessions.ts'
import { wholeDigest } from '../core/message-digests.ts'
import { conversationFor, START_MS } from '../store/steps.testing.ts'
import { SideLoops } from './side-loops.ts'
import type { Beside, Outcome, SideLoop } from './side-loops.ts'

const asked = [{ role: 'system', content: 'You are a researcher.' }, user('Research: market')]
const searched = [...asked, call({ id: 'a', name: 'search' }), result('a', 'Found: 42.')]
/** In the voice of the agent that works for it, unless a test says otherwise. */
const CHATTED = [...asked.slice(0, 1), user('What sells?')]
const CHAT = chat({ messages: 4, digest: 'd' })
const AGENT = { isUnheard: true, rungs: [] } as const
const EXACT: ExactCount = {
  model: 'gpt-4o',
  fixedDigest: 'f',
  messages: 1,
  messagesDigest: 'd',
  inputTokens: 40,
  cachedTokens: 0,
  outputTokens: 2,
  atMs: START_MS,
}

/** A chat whose last question was this one. */
function chat(question: Conversation['question']): Conversation {
  return conversationFor('chat', START_MS, { userTurns: 2, question })
}

function waiting(waitMs?: number): SideLoops {
  const loops = new SideLoops(waitMs === undefined ? {} : { waitMs })
  loops.ended(CHAT.id, chatRequest(CHATTED), null, 'calledTools')
  return loops
}

function loopOf(loops: SideLoops, messages: Parameters<typeof chatRequest>[0], conversation = CHAT): SideLoop | null {
  return loops.find(chatRequest(messages), conversation)?.loop ?? null
}

type Messages = Parameters<typeof chatRequest>[0]

/** A call beside the chat is made. */
function begun(loops: SideLoops, messages: Messages, conversation = CHAT): void {
  const beside = besideOf(loops, messages, conversation)
  if (beside.loop === null) loops.begin(conversation.id, chatRequest(messages), { ...AGENT, isUnheard: beside.isUnheard })
}

/** A call beside the chat that was made is answered. */
function ended(loops: SideLoops, messages: Messages, outcome: Outcome, conversation = CHAT): void {
  loops.ended(conversation.id, chatRequest(messages), besideOf(loops, messages, conversation), outcome)
}

function besideOf(loops: SideLoops, messages: Messages, conversation: Conversation): Beside {
  const beside = loops.find(chatRequest(messages), conversation)
  assert.ok(beside !== null)
  return beside
}

test('a loop that began beside a chat that waits for its tools is known by how it begins', () => {
  const loops = waiting()
  const begun = loops.begin(CHAT.id, chatRequest(asked), { isUnheard: true, rungs: ['DowngradeModel'] })
  assert.ok(begun !== null)
  assert.deepEqual(loops.find(chatRequest(searched), CHAT), { isUnheard: true, isInLoop: true, loop: begun, exact: null })
  assert.equal(loopOf(loops, [...searched, call({ id: 'b', name: 'search' }), result('b', 'Nothing.')]), begun)
  assert.equal(loopOf(loops, searched, { ...CHAT, id: 'another' }), null)
  assert.equal(loopOf(loops, [user('Research: market'), ...searched.slice(2)]), null, 'it begins otherwise')
  assert.equal(loops.find(chatRequest(searched, { earlier: { kind: 'response', id: 'r' } }), CHAT), null)
})

test('what is not known to have begun so is the chat’s', () => {
  const loops = waiting()
  assert.equal(loops.find(chatRequest(searched), CHAT), null, 'its first call was not seen')
  loops.begin(CHAT.id, chatRequest(asked), AGENT)
  assert.equal(loops.find(chatRequest([...searched, user('And then?')]), CHAT), null, 'a user may have gone back and asks on')
  loops.ended(CHAT.id, chatRequest(CHATTED), null, 'answered')
  assert.equal(loops.find(chatRequest(searched), CHAT), null, 'the chat waits no more')
  assert.equal(loops.begin(CHAT.id, chatRequest(asked), AGENT), null)
  assert.equal(loops.find(chatRequest(searched), CHAT), null, 'it began while the chat did not wait')
})

test('an answer of the chat that calls tools again has its own', () => {
  const loops = waiting()
  loops.begin(CHAT.id, chatRequest(asked), AGENT)
  loops.ended(CHAT.id, chatRequest(CHATTED), null, 'calledTools')
  assert.equal(loops.find(chatRequest(searched), CHAT), null)
})

test('a call beside the chat is in its loop while that waits, whoever may read the answer; one that repeats the question is the chat’s', () => {
  const request = chatRequest(asked)
  const first = chat(questionOf({ messages: asked.length, messagesDigest: wholeDigest(request.messages) }))
  const other = chat({ messages: asked.length, digest: 'd' })
  const loops = waiting()
  assert.equal(loops.find(request, first), null)
  assert.deepEqual(loops.find(request, other), { isUnheard: false, isInLoop: true, loop: null, exact: null })
  assert.deepEqual(loops.find(request, CHAT), { isUnheard: true, isInLoop: true, loop: null, exact: null })
  assert.equal(loops.find(chatRequest([user('Hello'), assistant('Hi'), user('And now?')]), other), null)
  loops.ended(CHAT.id, chatRequest(CHATTED), null, 'answered')
  assert.equal(loops.find(request, other)?.isInLoop, false)
})

test('a loop goes on from the count of its last call, another call beside the chat from that of the last such one', () => {
  const loops = waiting()
  const begun = loops.begin(CHAT.id, chatRequest(asked), AGENT)
  loops.counted(CHAT.id, begun, { ...EXACT, inputTokens: 50 })
  assert.equal(loops.find(chatRequest(searched), CHAT)?.exact?.inputTokens, 50)
  assert.equal(loops.find(chatRequest([user('A title?')]), CHAT)?.exact, null)
  loops.counted(CHAT.id, null, EXACT)
  assert.equal(loops.find(chatRequest([user('A title?')]), CHAT)?.exact, EXACT)
  assert.equal(loops.find(chatRequest(searched), CHAT)?.exact?.inputTokens, 50)
  assert.equal(loops.find(chatRequest([user('A title?')]), { ...CHAT, id: 'another' })?.exact, null)
})

test('what begins as a loop that is under way is of that one, which goes on as it began; of one that is over it is another', () => {
  const loops = waiting()
  const begun = loops.begin(CHAT.id, chatRequest(asked), AGENT)
  assert.equal(loopOf(loops, asked), begun)
  assert.equal(loops.begin(CHAT.id, chatRequest(asked), { isUnheard: true, rungs: ['DowngradeModel'] }), begun)
  ended(loops, searched, 'calledTools')
  assert.equal(loopOf(loops, asked), begun)
  ended(loops, searched, 'answered')
  assert.equal(loopOf(loops, asked), null)
  const next = loops.begin(CHAT.id, chatRequest(asked), { isUnheard: true, rungs: ['DowngradeModel'] })
  assert.deepEqual(next?.rungs, ['DowngradeModel'])
})

test('only a question begins a loop: what a history was cut down to is the chat’s', () => {
  for (const first of [[], [{ role: 'system', content: 'You are a researcher.' }]]) {
    const loops = waiting()
    assert.equal(loops.begin(CHAT.id, chatRequest(first), AGENT), null)
    assert.equal(loops.find(chatRequest([...first, ...searched.slice(2)]), CHAT), null)
  }
})

test('pictures that a tool of a loop took are no question in it', () => {
  const loops = waiting()
  const begun = loops.begin(CHAT.id, chatRequest(asked), AGENT)
  const picture = { role: 'user', content: [{ type: 'image_url', image_url: { url: 'data:image/png;base64,AAAA' } }] }
  assert.equal(loopOf(loops, [...searched, picture]), begun)
})

test('words for a user that answer a call beside the chat show that nobody waits, unless a loop is under way', () => {
  const heard = chat({ messages: 1, digest: 'd' })
  const other = [user('Research: prices')]
  const waits = (loops: SideLoops): boolean => loops.find(chatRequest([user('Hello')]), heard)?.isInLoop === true
  const one = waiting()
  begun(one, asked, heard)
  ended(one, asked, 'answered', heard)
  assert.equal(waits(one), false)

  for (const outcome of ['calledTools', null] as const) {
    const two = waiting()
    begun(two, other, heard)
    if (outcome !== null) ended(two, other, outcome, heard)
    begun(two, asked, heard)
    ended(two, asked, 'answered', heard)
    assert.equal(waits(two), true, 'the other one works on')
  }
  const failed = waiting()
  begun(failed, other, heard)
  ended(failed, other, 'failed', heard)
  begun(failed, asked, heard)
  ended(failed, asked, 'answered', heard)
  assert.equal(waits(failed), false)

  const unheard = waiting()
  begun(unheard, asked)
  ended(unheard, asked, 'answered')
  assert.equal(waits(unheard), true, 'a report that the chat waits for')
  const loop = waiting()
  begun(loop, asked, heard)
  ended(loop, asked, 'calledTools', heard)
  assert.equal(waits(loop), true)
  ended(loop, searched, 'answered', heard)
  assert.equal(waits(loop), false, 'a question that was answered by way of tools')
})

test('words of another voice than the chat’s show nothing: an agent or a title has instructions or tools of its own', () => {
  const heard = chat({ messages: 2, digest: 'd' })
  const waits = (loops: SideLoops): boolean => loops.find(chatRequest(asked), heard)?.isInLoop === true
  const title = [{ role: 'system', content: 'You write titles.' }, user('What sells?')]
  const loops = waiting()
  begun(loops, title, heard)
  ended(loops, title, 'answered', heard)
  assert.equal(waits(loops), true)
  begun(loops, asked, heard)
  ended(loops, asked, 'answered', heard)
  assert.equal(waits(loops), false)
})

test('a chat that is not heard of for long waits no more', async () => {
  const loops = waiting(20)
  loops.begin(CHAT.id, chatRequest(asked), AGENT)
  await sleep(60)
  assert.equal(loops.find(chatRequest(searched), CHAT), null)
})

test('of very many only the first are kept', () => {
  const loops = waiting()
  for (let agent = 0; agent < 65; agent += 1) loops.begin(CHAT.id, chatRequest([user(`Agent ${agent}`)]), AGENT)
  const goesOn = (agent: number): boolean => loopOf(loops, [user(`Agent ${agent}`), ...searched.slice(2)]) !== null
  assert.deepEqual([goesOn(63), goesOn(64)], [true, false])
})
