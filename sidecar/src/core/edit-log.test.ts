import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { Edit } from './conversation.ts'
import { cutDigest, isAnyReady, replay, replayEntries } from './edit-log.ts'
import { cutEdit, dropOldest, leftOutMessage, planCut } from './history-cut.ts'
import { isBoundary } from './ladder.ts'
import { ownMessage } from './message.ts'
import { inlineNotice } from './notice-frame.ts'
import type { JsonObject } from './request.ts'
import { shape } from './rewrite.ts'
import {
  assistant,
  chatRequest,
  conversations,
  pairingProblem,
  requestsOf,
  RETRIEVAL_TAG,
  RETRIEVAL_TOOL,
  sent,
  system,
  user,
} from './requests.testing.ts'

const RULES = { retrieval: { toolNames: [RETRIEVAL_TOOL], tags: [RETRIEVAL_TAG] }, keepRecentTurns: 2 }
const NOTICE = 'Note: this conversation has become long, so its earlier part is passed on as a summary.'

type Step = 'none' | 'dropRetrieval' | 'summarize' | 'summarizeAll' | 'dropOldest' | 'notice'
const steps = fc.array(fc.constantFrom<Step>('none', 'dropRetrieval', 'summarize', 'summarizeAll', 'dropOldest', 'notice'), {
  minLength: 1,
  maxLength: 12,
})

interface Turned {
  readonly messages: readonly JsonObject[]
  readonly log: readonly Edit[]
}

/** A conversation turn by turn, with a step after each call: the log as it was for each request. */
function lived(messages: readonly JsonObject[], plan: readonly Step[]): Turned[] {
  let ids = 0
  const newId = (): string => `edit-${ids++}`
  let log: readonly Edit[] = []
  return requestsOf(messages).map((request, index) => {
    const step = plan[index % plan.length]
    const atBoundary = isBoundary(request)
    if (atBoundary && step === 'dropRetrieval')
      log = [...log, ...shape({ request, edits: log, rungs: ['DropRetrieval'], rules: RULES, atBoundary, newId }).newEdits]
    if (atBoundary && step === 'dropOldest') {
      const size = replay(request, log).messages.length
      const dropped = dropOldest({ request, edits: log, fits: (kept) => kept.length <= Math.max(2, size / 2), newId })
      if (dropped.status === 'cut') log = [...log, dropped.edit]
    }
    const turned = { messages: request.messages.map(({ json }) => json), log }
    if (step === 'summarize' || step === 'summarizeAll') {
      const cut = planCut({ request, edits: log, keepRecentTurns: step === 'summarize' ? 2 : 1 })
      if (cut !== null) log = [...log, cutEdit(cut, 'Summarize', ownMessage('user', `[summary of ${cut.turns}]`), newId())]
    }
    if (step === 'notice') log = [...log, { kind: 'notice', id: newId(), text: NOTICE }]
    return turned
  })
}

/** What an app may do to its own history and still be valid: forget turns, answer anew, add an instruction, carry a notice. */
function handled(messages: readonly JsonObject[], how: number): readonly JsonObject[] {
  const starts = messages.flatMap(({ role }, index) => (role === 'user' ? [index] : []))
  switch (how) {
    case 0:
      return [system('It is Tuesday.'), ...messages]
    case 1:
      return starts.length < 2 ? messages : messages.filter((_, index) => index < (starts[0] ?? 0) || index >= (starts[1] ?? 0))
    case 2:
      return messages.map((json) =>
        typeof json['content'] === 'string' && json['role'] === 'assistant' ? assistant('Something else.') : json,
      )
    case 3:
      return messages.map((json) =>
        typeof json['content'] === 'string' && json['role'] === 'assistant' ? assistant(json['content'] + inlineNotice(NOTICE)) : json,
      )
    default:
      return messages
  }
}

test('the same log on the same history gives the same bytes, and on a longer one the same beginning', () => {
  fc.assert(
    fc.property(conversations(), steps, (messages, plan) => {
      let before: readonly string[] | null = null
      let logBefore: readonly Edit[] = []
      for (const { messages: history, log } of lived(messages, plan)) {
        const once = sent(replay(chatRequest(history), log).messages)
        assert.deepEqual(sent(replay(chatRequest(history), log).messages), once)
        if (before !== null && log.length === logBefore.length) assert.deepEqual(once.slice(0, before.length), before)
        before = once
        logBefore = log
      }
    }),
    { numRuns: 80 },
  )
})

test('no tool call loses its result and no result its call, whatever was cut and whatever the app does to its history', () => {
  fc.assert(
    fc.property(conversations(), steps, fc.nat(4), (messages, plan, how) => {
      for (const { messages: history, log } of lived(messages, plan)) {
        const request = chatRequest(handled(history, how))
        if (pairingProblem(request.messages) !== null) continue // the app itself left nothing to send
        const { messages: replayed } = replay(request, log)
        assert.equal(pairingProblem(replayed), null)
        assert.equal(replayed.at(-1)?.role, request.messages.at(-1)?.role, 'what was asked last is asked still')
      }
    }),
    { numRuns: 120 },
  )
})

test('the order of the log does not matter to what is sent', () => {
  fc.assert(
    fc.property(conversations(), steps, (messages, plan) => {
      const { messages: history, log } = lived(messages, plan).at(-1) ?? { messages, log: [] }
      const cuts = log.filter((edit) => edit.kind === 'cut').map((edit) => edit.count)
      if (new Set(cuts).size !== cuts.length) return // of equal cuts the later counts
      assert.deepEqual(sent(replay(chatRequest(history), log.toReversed()).messages), sent(replay(chatRequest(history), log).messages))
    }),
    { numRuns: 60 },
  )
})

test('a log of another conversation changes nothing', () => {
  fc.assert(
    fc.property(conversations(), steps, (messages, plan) => {
      const { log } = lived(messages, plan).at(-1) ?? { log: [] }
      const other = chatRequest([
        system('Other.'),
        user('A question nobody asked there.'),
        assistant('An answer nobody gave.'),
        user('Thanks.'),
      ])
      const replayed = replay(other, log)
      assert.equal(replayed.messages, other.messages)
      assert.deepEqual([replayed.rewritten, replayed.savedBytes], [false, 0])
    }),
    { numRuns: 40 },
  )
})

test('each message that is sent tells where it comes from', () => {
  const history = [system('s'), user('q1'), assistant('a1'), user('q2'), assistant('a2'), user('q3')]
  const request = chatRequest(history)
  const plan = planCut({ request, edits: [], keepRecentTurns: 1 })
  assert.ok(plan)
  const { entries, cut, digestAt } = replayEntries(request, [cutEdit(plan, 'DropOldest', leftOutMessage(plan), 'x')])
  assert.deepEqual(
    entries.map(({ index, edit }) => [index, edit?.id ?? null]),
    [
      [0, null],
      [null, 'x'],
      [5, null],
    ],
  )
  assert.equal(cut?.originals, cutDigest(1, 4, digestAt))
})

test('a cut that would leave nothing to ask is not applied, nor one that covers nothing', () => {
  const request = chatRequest([user('q1'), assistant('a1')])
  const { digestAt } = replayEntries(request, [])
  for (const count of [0, 2, 3, -1]) {
    const edit: Edit = {
      kind: 'cut',
      id: 'x',
      cause: 'Reset',
      leading: 0,
      count,
      originals: cutDigest(0, Math.min(2, Math.max(0, count)), digestAt),
      text: '',
      savedBytes: 0,
    }
    assert.equal(replay(request, [edit]).messages, request.messages, `${count}`)
  }
})

test('a request that is nothing but our own words goes out as it came', () => {
  const request = chatRequest([assistant(NOTICE)])
  assert.equal(replay(request, [{ kind: 'notice', id: 'n', text: NOTICE }]).messages, request.messages)
})

test('an edit is ready for a history that it comes into force in, and not where more is cut already', () => {
  const turns = [user('q1'), assistant('a1'), user('q2'), assistant('a2')]
  const request = chatRequest([...turns, user('q3')])
  const [one, two] = [2, 1].map((keepRecentTurns) => {
    const cut = planCut({ request, edits: [], keepRecentTurns })
    assert.ok(cut)
    return cutEdit(cut, 'Summarize', ownMessage('user', `[summary of ${cut.turns}]`), `s${cut.turns}`)
  })
  assert.ok(one !== undefined && two !== undefined)
  assert.ok(isAnyReady(request, { edits: [], readyEdits: [one] }))
  assert.ok(isAnyReady(request, { edits: [one], readyEdits: [two] }))
  assert.ok(!isAnyReady(request, { edits: [two], readyEdits: [one] }))
  assert.ok(!isAnyReady(request, { edits: [two], readyEdits: [] }))
  assert.ok(!isAnyReady(chatRequest([user('q1 once more'), ...turns.slice(1), user('q3')]), { edits: [], readyEdits: [one, two] }))
})
