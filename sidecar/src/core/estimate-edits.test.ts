/** The bound of a history that edits have changed since it was counted, against what the fake provider counts. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { checkRequest } from '../../../test/provider/chat-request.ts'
import { DEFAULT_MODELS } from '../../../test/provider/models.ts'
import { readPrompt } from '../../../test/provider/prompt.ts'
import type { Edit, ExactCount } from './conversation.ts'
import { lastEditOf, messagesOf, replay, replayCounted } from './edit-log.ts'
import { inputBound } from './estimate.ts'
import type { InputBound } from './estimate.ts'
import { cutEdit, leftOutMessage, planCut } from './history-cut.ts'
import { isBoundary } from './ladder.ts'
import { textTokensBound } from './message-tokens.ts'
import type { Message, ModelRequest } from './request.ts'
import { assistant, chatRequest, conversations, RETRIEVAL_TAG, RETRIEVAL_TOOL, requestsOf, user } from './requests.testing.ts'
import { shape } from './rewrite.ts'

const MODELS = DEFAULT_MODELS.filter(({ id }) => ['gpt-4o', 'gpt-4.1', 'o4-mini'].includes(id))
const RULES = { retrieval: { toolNames: [RETRIEVAL_TOOL], tags: [RETRIEVAL_TAG] }, keepRecentTurns: 1 }
/** What is held for each place where messages come to stand side by side that did not before. */
const SEAM_TOKENS = 8

/** What the provider counts, which knows nothing of our bounds. */
function countOf(model: string, messages: readonly Message[]): number {
  const body = { model, messages: messages.map(({ json }) => json) }
  return readPrompt(checkRequest(body, new Map(MODELS.map((known) => [known.id, known])))).tokens
}

function boundOf(request: ModelRequest, messages: readonly Message[], exact: ExactCount | null, log: readonly Edit[]): InputBound {
  const { fixedBytes, fixedDigest, model } = request
  const unedited = (): readonly Message[] => messagesOf(request, replayCounted(request, log, exact ?? {}).entries)
  return inputBound({ messages, fixedBytes, fixedDigest, model, exact, unedited, factor: 1, contextTokens: 128_000 })
}

function counted(request: ModelRequest, log: readonly Edit[]): ExactCount {
  const { messages } = replay(request, log)
  const { model } = request
  const inputTokens = countOf(model, messages)
  const lastEdit = lastEditOf(log)
  return { ...boundOf(request, messages, null, log).sent, model, inputTokens, cachedTokens: 0, outputTokens: 1, atMs: 0, lastEdit }
}

/** What one turn may do to a history: passages left out, the oldest turns cut, or both. */
function editsOf(request: ModelRequest, log: readonly Edit[], what: { readonly drops: boolean; readonly cuts: boolean }): readonly Edit[] {
  let ids = log.length
  const newId = (): string => `edit-${ids++}`
  const dropped = what.drops ? shape({ request, edits: log, rungs: ['DropRetrieval'], rules: RULES, atBoundary: true, newId }).newEdits : []
  const plan = what.cuts ? planCut({ request, edits: [...log, ...dropped], keepRecentTurns: 1 }) : null
  return plan === null ? dropped : [...dropped, cutEdit(plan, 'DropOldest', leftOutMessage(plan), newId())]
}

const edited = fc.record({
  conversation: conversations(),
  model: fc.constantFrom(...MODELS.map(({ id }) => id)),
  first: fc.record({ drops: fc.boolean(), cuts: fc.boolean() }),
  second: fc.record({ drops: fc.boolean(), cuts: fc.boolean() }),
})

test('edits since the last count never put the bound below what the provider counts, nor above the bound without them but for what they wrote', () => {
  fc.assert(
    fc.property(edited, ({ conversation, model, first, second }) => {
      const requests = requestsOf(conversation, { model, fixedBytes: 200 }).filter(isBoundary)
      let log: readonly Edit[] = []
      let exact: ExactCount | null = null
      for (const [turn, request] of requests.entries()) {
        const before = replay(request, log)
        const edits = editsOf(request, log, turn % 2 === 0 ? first : second)
        const after = replay(request, [...log, ...edits])
        const bound = boundOf(request, after.messages, exact, log)
        assert.ok(bound.bytes >= countOf(model, after.messages), `${bound.bytes} for ${countOf(model, after.messages)}`)
        const known = new Set(before.messages)
        const written = after.messages.filter((message) => !known.has(message)).reduce((sum, message) => sum + textTokensBound(message), 0)
        const images = 10_000 * after.messages.filter((message) => !known.has(message)).flatMap((message) => message.images).length
        const most = written + images + SEAM_TOKENS * before.messages.length
        for (const tokensOf of [(one: InputBound) => one.bytes, (one: InputBound) => one.heuristic, (one: InputBound) => one.at(2)])
          assert.ok(tokensOf(bound) <= tokensOf(boundOf(request, before.messages, exact, log)) + most)
        assert.ok(bound.heuristic <= bound.bytes && bound.at(2) <= bound.bytes)
        log = [...log, ...edits]
        exact = counted(request, log)
      }
    }),
    { numRuns: 60 },
  )
})

const PASSAGE = `<${RETRIEVAL_TAG}>${'The lamp is lit at dusk. '.repeat(200)}</${RETRIEVAL_TAG}>`
const ASKED = [user('How far is Bern?'), assistant('120 km. '.repeat(500)), user(`Why? ${PASSAGE}`)]
const HISTORY = [...ASKED, assistant('By the road.')]

test('a count serves after the edits of this turn, and after those of one that came to no answer', () => {
  const exact = counted(chatRequest(ASKED), [])
  const request = chatRequest([...HISTORY, user('And Basel?')])
  const edits = editsOf(request, [], { drops: true, cuts: false })
  const { messages } = replay(request, edits)
  const bound = boundOf(request, messages, exact, [])
  const writtenAndNew = messages.slice(2).reduce((sum, message) => sum + textTokensBound(message), 0)
  assert.equal(bound.bytes, exact.inputTokens + SEAM_TOKENS + writtenAndNew)
  assert.equal(boundOf(request, messages, exact, edits).bytes, bound.bytes, 'the log has them, and the count was before')
  const { lastEdit: _, ...ofOlderVersion } = exact
  assert.equal(boundOf(request, messages, ofOlderVersion, []).bytes, bound.bytes)
  assert.ok(boundOf(request, messages, ofOlderVersion, edits).bytes > bound.bytes, 'nothing says what it is of')
})

test('a count of other messages, another model or other tools serves no edited history either', () => {
  const exact = counted(chatRequest(ASKED), [])
  const request = chatRequest([...HISTORY, user('And Basel?')])
  const { messages } = replay(request, editsOf(request, [], { drops: true, cuts: false }))
  const whole = boundOf(request, messages, null, []).bytes
  assert.ok(boundOf(request, messages, exact, []).bytes < whole)
  for (const unfit of [{ model: 'gpt-4.1' }, { fixedDigest: '1'.repeat(32) }, { messagesDigest: '1'.repeat(32) }, { messages: 9 }])
    assert.equal(boundOf(request, messages, { ...exact, ...unfit }, []).bytes, whole)
})

test('what teaches the factor of a model is the whole of an edited history', () => {
  const exact = counted(chatRequest(ASKED), [])
  const request = chatRequest([...HISTORY, user('And Basel?')])
  const { messages } = replay(request, editsOf(request, [], { drops: true, cuts: false }))
  const bound = boundOf(request, messages, exact, [])
  assert.deepEqual([bound.known, bound.freshHeuristic], [0, boundOf(request, messages, null, []).freshHeuristic])
})
