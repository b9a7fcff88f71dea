import assert from 'node:assert/strict'
import { test } from 'node:test'
import { call, chatRequest, result, user } from '../core/requests.testing.ts'
import { SideLoops } from './side-loops.ts'

const CHAT = 'chat'
const asked = [{ role: 'system', content: 'You are a researcher.' }, user('Research: market')]
const searched = [...asked, call({ id: 'a', name: 'search' }), result('a', 'Found: 42.')]

function waiting(): SideLoops {
  const loops = new SideLoops()
  loops.chatAnswered(CHAT, true)
  return loops
}

test('a loop that began beside a chat that waits for its tools is known by how it begins', () => {
  const loops = waiting()
  loops.begin(CHAT, chatRequest(asked))
  assert.equal(loops.has(CHAT, chatRequest(searched)), true)
  assert.equal(loops.has(CHAT, chatRequest([...searched, call({ id: 'b', name: 'search' }), result('b', 'Nothing.')])), true)
  assert.equal(loops.has('another', chatRequest(searched)), false)
  assert.equal(loops.has(CHAT, chatRequest([user('Research: market'), ...searched.slice(2)])), false, 'it begins otherwise')
  assert.equal(loops.has(CHAT, chatRequest(searched, { earlier: { kind: 'response', id: 'r' } })), false)
})

test('what is not known to have begun so is the chat’s', () => {
  const loops = waiting()
  assert.equal(loops.has(CHAT, chatRequest(searched)), false, 'its first call was not seen')
  loops.begin(CHAT, chatRequest(asked))
  assert.equal(loops.has(CHAT, chatRequest([...searched, user('And then?')])), false, 'a user may have gone back and asks on')
  loops.chatAnswered(CHAT, false)
  assert.equal(loops.has(CHAT, chatRequest(searched)), false, 'the chat waits no more')
  loops.begin(CHAT, chatRequest(asked))
  assert.equal(loops.has(CHAT, chatRequest(searched)), false, 'it began while the chat did not wait')
})

test('an answer of the chat that calls tools again has its own', () => {
  const loops = waiting()
  loops.begin(CHAT, chatRequest(asked))
  loops.chatAnswered(CHAT, true)
  assert.equal(loops.has(CHAT, chatRequest(searched)), false)
})

test('of very many only the first are kept', () => {
  const loops = waiting()
  for (let agent = 0; agent < 65; agent += 1) loops.begin(CHAT, chatRequest([user(`Agent ${agent}`)]))
  const goesOn = (agent: number): boolean => loops.has(CHAT, chatRequest([user(`Agent ${agent}`), ...searched.slice(2)]))
  assert.deepEqual([goesOn(63), goesOn(64)], [true, false])
})
