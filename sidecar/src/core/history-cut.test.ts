import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { Edit } from './conversation.ts'
import { replay, shapedOf } from './edit-log.ts'
import { cutEdit, dropOldest, isReadIn, planCut, turnsIn, turnsText } from './history-cut.ts'
import { ownMessage, readOwn } from './message.ts'
import type { ModelRequest, JsonObject, Message } from './request.ts'
import { assistant, call, chatRequest, pairingProblem, result, system, user } from './requests.testing.ts'

const plan = (request: ModelRequest, keepRecentTurns: number, edits: readonly Edit[] = []): ReturnType<typeof planCut> =>
  planCut({ request, edits, keepRecentTurns })
const contents = (messages: readonly Message[]): unknown[] => messages.map(({ json }) => json['content'])
const turns = (count: number): JsonObject[] =>
  Array.from({ length: count }, (_, index) => [
    user(`q${index + 1}`),
    call({ id: `c${index}`, name: 'f' }),
    result(`c${index}`, 'r'),
    assistant(`a${index + 1}`),
  ]).flat()

test('a plan keeps instructions and the last turns, and covers whole exchanges', () => {
  const request = chatRequest([system('s'), ...turns(4), user('q5')])
  const planned = plan(request, 2)
  assert.ok(planned)
  assert.deepEqual([planned.leading, planned.count, planned.turns], [1, 12, 3])
  assert.equal(planned.messages.length, 12)
  assert.deepEqual([planned.answers, planned.notesBytes], [6, 0], 'a call of a tool and the words after its result are two answers')
  assert.equal(planned.tailBytes, planned.keptBytes - (request.messages[0]?.bytes.length ?? 0))
  const shaped = replay(request, [cutEdit(planned, 'Summarize', ownMessage('user', '[sum]'), 'x')])
  assert.deepEqual(contents(shaped.messages), ['s', '[sum]', 'q4', null, 'r', 'a4', 'q5'])
  assert.equal(pairingProblem(shaped.messages), null)
  assert.equal(
    planned.originalBytes + planned.keptBytes,
    request.messages.reduce((sum, { bytes }) => sum + bytes.length, 0),
  )
})

test('there is nothing to cut while no turn is older than those that stay, or the log cuts as much', () => {
  const request = chatRequest([...turns(2), user('q3')])
  assert.equal(plan(request, 3), null)
  assert.equal(plan(chatRequest([user('q')]), 0), null, 'the last turn always stays')
  const first = plan(request, 1)
  assert.ok(first)
  assert.equal(plan(request, 1, [cutEdit(first, 'DropOldest', null, 'x')]), null)
})

test('a plan made after the answer, or within a tool loop, keeps the running turn whole', () => {
  const running = chatRequest([...turns(1), user('q2'), call({ id: 'z', name: 'f' }), result('z', 'r')])
  const planned = plan(running, 1)
  assert.ok(planned)
  assert.equal(planned.count, 4)
  const next = chatRequest([...running.messages.map(({ json }) => json), assistant('a2'), user('q3')])
  assert.deepEqual(contents(replay(next, [cutEdit(planned, 'Summarize', null, 'x')]).messages), ['q2', null, 'r', 'a2', 'q3'])
})

test('a later cut covers the earlier one and is planned on what is sent now', () => {
  const first = plan(chatRequest([...turns(2), user('q3')]), 1)
  assert.ok(first)
  const log: Edit[] = [cutEdit(first, 'Summarize', ownMessage('user', '[first]'), '1')]
  const request = chatRequest([...turns(4), user('q5')])
  const second = plan(request, 1, log)
  assert.ok(second)
  assert.deepEqual(contents(second.messages), ['[first]', 'q3', null, 'r', 'a3', 'q4', null, 'r', 'a4'])
  assert.ok(second.currentBytes < second.originalBytes)
  assert.deepEqual([second.answers, second.notesBytes], [4, second.messages[0]?.bytes.length], 'of what came since, beside the notes')
  const both = [...log, cutEdit(second, 'Summarize', ownMessage('user', '[second]'), '2')]
  assert.deepEqual(contents(replay(request, both).messages), ['[second]', 'q5'])
  assert.deepEqual(contents(replay(request, both.toReversed()).messages), ['[second]', 'q5'], 'in whichever order they were logged')
})

test('instructions in the middle of a history outlive a cut around them', () => {
  const request = chatRequest([system('s'), user('q1'), assistant('a1'), system('now in German'), user('q2'), assistant('a2'), user('q3')])
  const planned = plan(request, 1)
  assert.ok(planned)
  assert.deepEqual(contents(replay(request, [cutEdit(planned, 'Summarize', ownMessage('user', '[sum]'), 'x')]).messages), [
    's',
    '[sum]',
    'now in German',
    'q3',
  ])
})

const compaction = (content: string | null): JsonObject => ({
  role: 'assistant',
  content: [
    { type: 'compaction', content },
    { type: 'text', text: 'a' },
  ],
})

test('what the provider compacted is not cut, nor summarised; what takes the place of later turns comes after it', () => {
  const begun = chatRequest([compaction('before'), ...turns(3), user('q4')])
  const planned = plan(begun, 1)
  assert.ok(planned)
  assert.deepEqual([planned.turns, planned.messages.length], [3, 12])
  const after = replay(begun, [cutEdit(planned, 'Summarize', ownMessage('user', '[sum]'), 'x')])
  assert.deepEqual(contents(after.messages), [compaction('before')['content'], '[sum]', 'q4'])
  const dropped = dropOldest({ request: begun, edits: [], fits: (messages) => messages.length <= 3, newId: () => 'd' })
  assert.equal(dropped.status, 'cut')
  assert.deepEqual(contents(dropped.messages), [compaction('before')['content'], '[Earlier conversation left out: turns 1-3]', 'q4'])
  assert.equal(plan(chatRequest([user('q1'), compaction('before'), user('q2')]), 1), null, 'nothing stands after it')
})

test('of a history that still has what was compacted, that goes and the compaction stays, with the rest of its turn', () => {
  const later = [user('q2'), compaction('older'), user('q3'), compaction('of all'), call({ id: 'z', name: 'f' }), result('z', 'r')]
  const request = chatRequest([system('s'), ...turns(1), ...later, user('q4'), assistant('a4'), user('q5')])
  const planned = plan(request, 1)
  assert.ok(planned)
  assert.deepEqual(contents(planned.messages), ['q4', 'a4'])
  const edit = cutEdit(planned, 'Summarize', ownMessage('user', '[sum]'), 'x')
  const stands = [compaction('of all')['content'], null, 'r']
  assert.deepEqual(contents(replay(request, [edit]).messages), ['s', ...stands, '[sum]', 'q5'])
  const before = plan(chatRequest([system('s'), ...turns(1), user('q2')]), 1)
  assert.ok(before)
  const early = cutEdit(before, 'Summarize', ownMessage('user', '[early]'), 'y')
  const messages = contents(replay(request, [early]).messages)
  assert.deepEqual(messages.slice(0, 3), ['s', '[early]', 'q2'], 'a cut from before the compaction stays where it was')
  assert.deepEqual(contents(replay(request, [early, edit]).messages), ['s', ...stands, '[sum]', 'q5'])
})

test('a compaction that failed stands for nothing', () => {
  const request = chatRequest([compaction(null), ...turns(1), user('q2')])
  const planned = plan(request, 1)
  assert.ok(planned)
  assert.deepEqual(contents(replay(request, [cutEdit(planned, 'DropOldest', null, 'x')]).messages), ['q2'])
})

test('consecutive user messages are one turn, and a history that is broken already is not cut', () => {
  assert.equal(plan(chatRequest([user('context'), user('q1'), assistant('a1'), user('more'), user('q2')]), 1)?.count, 3)
  assert.equal(plan(chatRequest([user('q1'), call({ id: 'a', name: 'f' }), user('q2')]), 1), null)
})

test('the oldest turns are left out until the rest fits, no more than that, with a label that says so', () => {
  const request = chatRequest([system('s'), ...turns(6), user('q7')])
  const fitting = (count: number): ReturnType<typeof dropOldest> =>
    dropOldest({ request, edits: [], fits: (messages) => messages.length <= count, newId: () => 'd' })
  const dropped = fitting(12)
  assert.equal(dropped.status, 'cut')
  assert.deepEqual(contents(dropped.messages), [
    's',
    '[Earlier conversation left out: turns 1-4]',
    'q5',
    null,
    'r',
    'a5',
    'q6',
    null,
    'r',
    'a6',
    'q7',
  ])
  assert.deepEqual(contents(replay(request, [dropped.edit]).messages), contents(dropped.messages))
  assert.equal(fitting(26).status, 'fits')
  assert.equal(fitting(25).status, 'cut')
  assert.equal(fitting(2).status, 'exceeds')
})

test('leaving out goes on from where the log has cut', () => {
  const request = chatRequest([...turns(6), user('q7')])
  const first = dropOldest({ request, edits: [], fits: (messages) => messages.length <= 18, newId: () => '1' })
  assert.equal(first.status, 'cut')
  assert.equal(dropOldest({ request, edits: [first.edit], fits: (messages) => messages.length <= 18, newId: () => '2' }).status, 'fits')
  const second = dropOldest({ request, edits: [first.edit], fits: (messages) => messages.length <= 9, newId: () => '2' })
  assert.equal(second.status, 'cut')
  assert.ok(second.edit.count > first.edit.count)
})

test('images that are left out are counted in the label', () => {
  const image = { type: 'image_url', image_url: { url: 'https://example.com/a.png' } }
  const request = chatRequest([user([{ type: 'text', text: 'see' }, image, image]), assistant('nice'), user('q2')])
  const dropped = dropOldest({ request, edits: [], fits: (messages) => messages.length <= 2, newId: () => 'd' })
  assert.equal(dropped.status, 'cut')
  assert.equal(contents(dropped.messages)[0], '[Earlier conversation left out: turn 1, with 2 images or files]')
  assert.deepEqual(dropped.messages[0]?.images, [])
  assert.deepEqual([turnsText(1), turnsText(3)], ['turn 1', 'turns 1-3'])
  assert.deepEqual([turnsIn(`turns: ${turnsText(1)}`), turnsIn(`[${turnsText(12)}, 900 -> 40 tokens]`), turnsIn('3 turns')], [1, 12, 0])
})

describe('what the cut in force says of turns', () => {
  const begun = plan(chatRequest([...turns(2), user('q3')]), 1)
  assert.ok(begun)
  const summary = cutEdit(begun, 'Summarize', ownMessage('user', '[Summarised: turns 1-2]\n\nThe cat is called Ada.'), 's')
  const recap = cutEdit(begun, 'Reset', ownMessage('user', '[New session: turns 1-2 left out]\n\nThe cat is called Ada.'), 'r')
  const bare = cutEdit(begun, 'Reset', ownMessage('user', '[New session: turns 1-2 left out]'), 'b')
  const request = chatRequest([...turns(6), user('q7')])
  const cutTo = (count: number, edits: readonly Edit[]): Extract<ReturnType<typeof dropOldest>, { status: 'cut' }> => {
    const dropped = dropOldest({ request, edits, fits: (messages) => messages.length <= count, newId: () => `d${edits.length}` })
    assert.equal(dropped.status, 'cut')
    return dropped
  }
  const own = (edit: Edit): string => readOwn(edit.text)?.text ?? ''

  test('stays while the oldest turns after it are left out, however often', () => {
    for (const edit of [summary, recap]) {
      const first = cutTo(10, [edit])
      assert.equal(own(first.edit), `[Earlier conversation left out: turns 1-4]\n\n${own(edit)}`)
      const second = cutTo(6, [edit, first.edit])
      assert.equal(own(second.edit), `[Earlier conversation left out: turns 1-5]\n\n${own(edit)}`)
      for (const later of [edit, first.edit, second.edit]) assert.ok(isReadIn(later, edit))
    }
    assert.equal(own(cutTo(10, [bare]).edit), '[Earlier conversation left out: turns 1-4]', 'it says no more than that')
  })

  test('goes where the last turn fits without it alone', () => {
    const fits = (messages: readonly Message[]): boolean => messages.length === 2 && !JSON.stringify(contents(messages)).includes('Ada')
    const dropped = dropOldest({ request, edits: [summary], fits, newId: () => 'd' })
    assert.equal(dropped.status, 'cut')
    assert.deepEqual(contents(dropped.messages), ['[Earlier conversation left out: turns 1-6]', 'q7'])
    assert.ok(!isReadIn(dropped.edit, summary))
    assert.ok(!isReadIn(null, summary))
  })
})

test('of a long history the oldest turns are found by reading the log once, and are what the log then cuts', () => {
  const notice: Edit = { kind: 'notice', id: 'n', text: 'Note: this conversation has used most of what it may cost.' }
  const { messages, ...rest } = chatRequest([system('s'), ...turns(200), user('last')])
  let reads = 0
  const request = { ...rest, messages: messages.map((message) => onTextsRead(message, () => (reads += 1))) }
  const first = plan(request, 199)
  assert.ok(first)
  const edits = [notice, cutEdit(first, 'Summarize', ownMessage('user', '[Summarised: turn 1]\n\nAda.'), 's')]
  reads = 0
  const dropped = dropOldest({ request, edits, fits: (kept) => kept.length <= 42, newId: () => 'd' })
  assert.equal(dropped.status, 'cut')
  assert.ok(reads <= 2 * request.messages.length, `${reads} times the texts of ${request.messages.length} messages`)
  const replayed = replay(request, [...edits, dropped.edit])
  const shaped = shapedOf(request, dropped.entries, { newEdits: [], skipped: [] })
  assert.deepEqual(contents(dropped.messages), contents(replayed.messages))
  assert.deepEqual(
    [shaped.cut, shaped.savedBytes, contents(shaped.messages)],
    [dropped.edit, replayed.savedBytes, contents(replayed.messages)],
  )
})

function onTextsRead(message: Message, told: () => void): Message {
  return new Proxy(message, {
    get(target, name, receiver) {
      if (name === 'texts') told()
      return Reflect.get(target, name, receiver)
    },
  })
}
