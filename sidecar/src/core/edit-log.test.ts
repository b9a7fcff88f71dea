import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { Edit } from './conversation.ts'
import { chainedDigest, chainedDigests, originalDigest } from './digest.ts'
import { compacted, coveringCuts, cutDigest, entriesUnder, isAnyReady, replay, replayEntries } from './edit-log.ts'
import type { Cut } from './edit-log.ts'
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
  const edit = cutEdit(plan, 'DropOldest', leftOutMessage(plan), 'x')
  const { entries, cut, digestAt } = replayEntries(request, [edit])
  assert.deepEqual(
    entries.map(({ index, edit }) => [index, edit?.id ?? null]),
    [
      [0, null],
      [null, 'x'],
      [5, null],
    ],
  )
  assert.equal(cut?.originals, cutDigest(1, 4, digestAt))
  assert.equal(replay(request, [edit]).cut, edit, 'whose words are sent')
  assert.equal(replay(request, [cutEdit(plan, 'DropOldest', null, 'x')]).cut, null, 'nothing takes their place')
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
      text: JSON.stringify(ownMessage('user', '[summary]')),
      savedBytes: 0,
    }
    assert.equal(replay(request, [edit]).messages, request.messages, `${count}`)
  }
})

test('of two replacements of a message the first counts, which was sent already; of two cuts of the same turns the later', () => {
  const request = chatRequest([user('q1'), assistant('a1'), user('q2')])
  const [first] = request.messages
  const plan = planCut({ request, edits: [], keepRecentTurns: 1 })
  assert.ok(first && plan)
  const replaced = (content: string): Edit => {
    const text = JSON.stringify(user(content))
    return { kind: 'replace', id: content, rung: 'DropRetrieval', original: originalDigest(first), text, savedBytes: 0 }
  }
  const summary = (content: string): Edit => cutEdit(plan, 'Summarize', ownMessage('user', content), content)
  const contents = (edits: readonly Edit[]) => replay(request, edits).messages.map(({ json }) => json['content'])
  assert.deepEqual(contents([replaced('one'), replaced('two')]), ['one', 'a1', 'q2'])
  assert.deepEqual(contents([summary('one'), summary('two')]), ['two', 'q2'])
  assert.deepEqual(contents([replaced('one'), summary('two'), replaced('three')]), ['two', 'q2'])
})

test('a replacement goes out with the link that the app signed now', () => {
  const asked = (signature: number, passage: string): JsonObject =>
    user([
      { type: 'text', text: passage },
      { type: 'image_url', image_url: { url: `https://x/a.png?X-Amz-Signature=${signature}` } },
    ])
  const [first] = chatRequest([asked(1, 'long')]).messages
  assert.ok(first)
  const edit: Edit = {
    kind: 'replace',
    id: 'r',
    rung: 'DropRetrieval',
    original: originalDigest(first),
    text: JSON.stringify(asked(1, 'short')),
    savedBytes: 0,
  }
  assert.deepEqual(replay(chatRequest([asked(2, 'long')]), [edit]).messages[0]?.json, asked(2, 'short'))
  assert.equal(
    replay(chatRequest([asked(1, 'long')]), [edit]).messages[0]?.bytes.toString(),
    edit.text,
    'the same bytes where it is the same',
  )
})

test('what the provider compacted is known by a block that holds it, in the clear or encrypted, and by no word', () => {
  const cases: readonly (readonly [name: string, block: JsonObject, start: number])[] = [
    ['in the clear', { type: 'compaction', content: 'What was said.' }, 2],
    ['encrypted', { type: 'compaction', content: null, encrypted_content: 'x' }, 2],
    ['one that failed', { type: 'compaction', content: null }, 1],
    ['the word', { type: 'text', text: 'compaction' }, 1],
    ['a result that is the word', { type: 'tool_result', tool_use_id: 't', content: 'compaction' }, 1],
  ]
  for (const [name, block, start] of cases) {
    const answer: JsonObject = { role: 'assistant', content: [block, { type: 'text', text: 'a' }] }
    const { messages } = chatRequest([system('s'), user('q1'), answer, user('q2'), assistant('a2')])
    assert.deepEqual(compacted(messages), { start, end: start === 2 ? 3 : 1 }, name)
    const open = chatRequest([system('s'), user('q1'), answer])
    assert.deepEqual(compacted(open.messages), { start, end: start === 2 ? 3 : 1 }, `${name}, at the end`)
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

/** A long conversation in a narrow window: most of its turns were cut once, and each cut stays in the log. */
function aged(cuts: number): { readonly turns: readonly JsonObject[]; readonly log: readonly Cut[] } {
  const turns = Array.from({ length: 2_000 }, (_, index) => [user(`q${index}`), assistant(`a${index}`)]).flat()
  const request = chatRequest([...turns, user('last')])
  const log = Array.from({ length: cuts }, (_, index) => {
    const plan = planCut({ request, edits: [], keepRecentTurns: 2_000 - Math.floor((1_900 * (index + 1)) / cuts) })
    assert.ok(plan)
    return cutEdit(plan, 'DropOldest', leftOutMessage(plan), `c${index}`)
  })
  return { turns, log }
}

test('what a replay costs does not grow with the cuts that a log has gathered, whether they are there or not', () => {
  const { turns, log } = aged(400)
  const replayMs = (edits: readonly Edit[], first: string): number => {
    let best = Infinity
    for (let attempt = 0; attempt < 5; attempt += 1) {
      const request = chatRequest([user(first), ...turns.slice(1), user('last')])
      const before = process.cpuUsage()
      assert.equal(replay(request, [...edits]).cut, first === 'q0' ? edits.at(-1) : null)
      const { user: userUs, system: systemUs } = process.cpuUsage(before)
      best = Math.min(best, (userUs + systemUs) / 1_000)
    }
    return best
  }
  for (const first of ['q0', 'another question']) {
    const alone = replayMs(log.slice(-1), first)
    const all = replayMs(log, first)
    assert.ok(all < 3 * alone + 5, `${all} ms with 400 cuts, ${alone} ms with one`)
  }
})

test('a cut that comes on top of a replay leaves what the log with it would', () => {
  fc.assert(
    fc.property(conversations(), steps, fc.integer({ min: 1, max: 3 }), (messages, plan, keepRecentTurns) => {
      for (const { log } of lived(messages, plan)) {
        const request = requestsOf(messages).at(-1)
        const cut = request === undefined ? null : planCut({ request, edits: log, keepRecentTurns })
        if (request === undefined || cut === null) continue
        const edit = cutEdit(cut, 'DropOldest', leftOutMessage(cut), 'd')
        const replayed = replayEntries(request, [...log, edit])
        assert.equal(replayed.cut, edit)
        const origins = (entries: typeof replayed.entries) => entries.map(({ index, edit }) => [index, edit?.id])
        const under = entriesUnder(request, replayEntries(request, log), edit)
        assert.deepEqual(origins(under), origins(replayed.entries))
        assert.deepEqual(sent(under.map((entry) => entry.message)), sent(replayed.entries.map((entry) => entry.message)))
      }
    }),
    { numRuns: 40 },
  )
})

test('digests of many prefixes are those of each, and a rewound history has the cuts that fit it', () => {
  const digests = Array.from({ length: 50 }, (_, index) => String(index))
  const counts = [0, 1, 2, 2, 17, 50]
  assert.deepEqual(
    chainedDigests((index) => digests[index] ?? '', counts),
    counts.map((count) => chainedDigest(digests.slice(0, count))),
  )
  const { turns, log } = aged(20)
  const request = chatRequest([...turns.slice(0, 1_000), user('anew'), ...turns.slice(1_001), user('last')])
  const there = coveringCuts(request.messages, log, replayEntries(request, log).digestAt)
  assert.deepEqual(
    there,
    log.filter(({ count }) => count <= 1_000),
  )
  assert.equal(replay(request, log).cut, there.at(-1))
  assert.ok(there.length > 0)
})

test('the same log asked for again gives what is known, and a log that has grown what is new', () => {
  const request = chatRequest([user('q1'), assistant('a1'), user('q2')])
  const plan = planCut({ request, edits: [], keepRecentTurns: 1 })
  assert.ok(plan)
  const log: Edit[] = [{ kind: 'notice', id: 'n', text: 'This was told before.' }]
  assert.equal(replayEntries(request, log), replayEntries(request, log))
  const more = [...log, cutEdit(plan, 'Summarize', ownMessage('user', '[sum]'), 's')]
  assert.equal(replayEntries(request, more).cut, more[1])
})
