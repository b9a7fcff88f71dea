import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { replayEntries } from './edit-log.ts'
import type { ModelRequest, Json, JsonObject } from './request.ts'
import { dropRetrieval, retrievalBytes, RETRIEVAL_METADATA, RETRIEVAL_STUB } from './retrieval.ts'
import { assistant, call, chatRequest, conversations, pairingProblem, result, sent, system, user } from './requests.testing.ts'

const RULES = { retrieval: { toolNames: ['search_docs', 'kb_*'], tags: ['docs', 'k-b'] } }
const PASSAGE = 'A passage about fares. '.repeat(20)

function dropped(request: ModelRequest): { readonly contents: readonly (Json | undefined)[]; readonly edits: number } {
  const { entries, digestAt } = replayEntries(request, [])
  let ids = 0
  const after = dropRetrieval({ request, entries, rules: RULES, digestAt, newId: () => `edit-${ids++}` })
  assert.equal(pairingProblem(after.entries.map(({ message }) => message)), null)
  return { contents: after.entries.map(({ message }) => message.json['content']), edits: after.edits.length }
}
const contentsOf = (messages: readonly JsonObject[], more: Partial<ModelRequest> = {}): readonly unknown[] =>
  dropped(chatRequest(messages, more)).contents

test('instructions and what assistants said are never touched, whatever marks them', () => {
  const named = { ...system(PASSAGE), name: 'retrieval' }
  const said: JsonObject = { ...assistant(`<docs>${PASSAGE}</docs>`), name: 'retrieval' }
  const history = [system(`<docs>${PASSAGE}</docs>`), user('q'), said, user('r')]
  assert.deepEqual(contentsOf(history), [`<docs>${PASSAGE}</docs>`, 'q', said['content'], 'r'])
  assert.deepEqual(contentsOf([named, user('q')])[1], 'q')
})

test('a result of a tool that nobody named as retrieval stays, though text in it looks like a tag', () => {
  const content = `<docs>${PASSAGE}</docs>`
  const history = [user('q'), call({ id: 'a', name: 'book_seat' }), result('a', content), assistant('x'), user('r')]
  assert.equal(contentsOf(history)[2], content)
  const searched = [user('q'), call({ id: 'a', name: 'kb_fares' }), result('a', content), assistant('x'), user('r')]
  assert.equal(contentsOf(searched)[2], RETRIEVAL_STUB)
})

test('results of the old function role are found by the name that they repeat', () => {
  const called = { role: 'assistant', content: null, function_call: { name: 'search_docs', arguments: '{}' } }
  const answered = { role: 'function', name: 'search_docs', content: PASSAGE }
  const request = chatRequest([user('q'), called, answered, assistant('x'), user('r')])
  const { entries, digestAt } = replayEntries(request, [])
  const after = dropRetrieval({ request, entries, rules: RULES, digestAt, newId: () => 'e' })
  assert.equal(after.entries[2]?.message.json['content'], RETRIEVAL_STUB)
})

test('parts that are not text stay beside the stub', () => {
  const image = { type: 'image_url', image_url: { url: 'https://example.com/a.png' } }
  const history = [{ ...user([{ type: 'text', text: PASSAGE }, image]), name: 'retrieval' }, user('q')]
  assert.deepEqual(contentsOf(history)[0], [{ type: 'text', text: RETRIEVAL_STUB }, image])
})

test('several regions of one message are cut each, in order, and tags with a dash or attributes count', () => {
  const text = `a <docs id="1">${PASSAGE}</docs> b <k-b\nlang='de'>${PASSAGE}</k-b> c <docs>short</docs> d`
  assert.deepEqual(contentsOf([user(text)]), [
    `a <docs id="1">${RETRIEVAL_STUB}</docs> b <k-b\nlang='de'>${RETRIEVAL_STUB}</k-b> c <docs>short</docs> d`,
  ])
})

test('where all user messages of the last turn are marked, its last stays: the turn must ask something', () => {
  const marked = { ...user(PASSAGE), name: 'retrieval' }
  assert.deepEqual(contentsOf([user('q'), assistant('a'), marked, marked]), ['q', 'a', RETRIEVAL_STUB, PASSAGE])
  assert.deepEqual(contentsOf([marked, user('q')]), [RETRIEVAL_STUB, 'q'])
})

test('indexes that name no message, or nothing at all, mark nothing', () => {
  const history = [user(PASSAGE), assistant('a'), user('q')]
  for (const list of ['', '-1', '0.5', '7', 'a', '0x0', '9999999999', ','])
    assert.deepEqual(contentsOf(history, { metadata: { [RETRIEVAL_METADATA]: list } })[0], PASSAGE, list)
  assert.equal(contentsOf(history, { metadata: { [RETRIEVAL_METADATA]: ' 0 ' } })[0], RETRIEVAL_STUB)
})

test('a message that stays long without its retrieved part is left alone: the log would keep it whole', () => {
  const text = `<docs>${PASSAGE}</docs>${'x'.repeat(70_000)}`
  assert.deepEqual(dropped(chatRequest([user(text)])), { contents: [text], edits: 0 })
})

test('what is counted as retrieved is what dropping it saves', () => {
  fc.assert(
    fc.property(conversations(), (messages) => {
      const request = chatRequest(messages)
      const rules = { retrieval: { toolNames: ['search_docs'], tags: ['retrieved_context'] } }
      const { entries, digestAt } = replayEntries(request, [])
      const after = dropRetrieval({ request, entries, rules, digestAt, newId: () => 'e' })
      const size = (texts: readonly string[]): number => texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0)
      const saved = size(sent(request.messages)) - size(sent(after.entries.map(({ message }) => message)))
      assert.equal(
        retrievalBytes(request, rules).reduce((sum, bytes) => sum + bytes, 0),
        saved,
      )
      assert.equal(
        after.edits.reduce((sum, edit) => sum + (edit.kind === 'replace' ? edit.savedBytes : 0), 0),
        saved,
      )
    }),
    { numRuns: 60 },
  )
})
