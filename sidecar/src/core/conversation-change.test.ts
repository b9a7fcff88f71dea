import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import * as fc from 'fast-check'
import { applyChange, awaitsResolution, newConversation, toldAt } from './conversation-change.ts'
import type { Conversation, ConversationChange, Edit, ExactCount } from './conversation.ts'

const BEGUN = newConversation({ id: 'A', tier: 'pro', contractHash: 'k1', user: 'ann', nowMs: 100, ladderApplies: true })
const CUT: Edit = { kind: 'cut', id: 'e1', cause: 'Summarize', leading: 1, count: 2, originals: 'd', text: '{}', savedBytes: 3 }
const DROP: Edit = { kind: 'replace', id: 'e2', rung: 'DropRetrieval', original: 'd', text: '{}', savedBytes: 3 }
const NOTICE: Edit = { kind: 'notice', id: 'e3', text: 'short of money' }
/** All that a call may tell of its session, and of no other. */
const OF_ITS_SESSION = {
  addRungs: { rungs: ['Summarize'], reason: 'threshold' },
  turnRungs: ['RefuseTools'],
  addAlerts: [90],
  addNotices: [{ id: 'n', occasion: 'Summarize' }],
  state: { is: 'ended', atMs: 500 },
  atTaskBoundary: { is: true, atMs: 500 },
  addUserTurn: true,
  question: { messages: 3, digest: 'd' },
  exact: exact(500, 3),
  resolution: { kind: 'confirmed', atMs: 500 },
} as const satisfies ConversationChange

function after(...changes: readonly ConversationChange[]): Conversation {
  return changes.reduce<Conversation>((conversation, change) => applyChange(conversation, change).conversation, BEGUN)
}
function exact(atMs: number, messages: number): ExactCount {
  return { model: 'm', fixedDigest: 'f', messages, messagesDigest: 'd', inputTokens: 1, cachedTokens: 0, outputTokens: 1, atMs }
}

describe('a change of a conversation', () => {
  it('does nothing when it is repeated, but for what it counts', () => {
    fc.assert(
      fc.property(fc.array(keyed(), { maxLength: 6 }), keyed(), (before, change) => {
        const first = applyChange(after(...before), change)
        const second = applyChange(first.conversation, change)
        assert.deepEqual(second.conversation, first.conversation)
        assert.deepEqual(second.firedAlerts, [])
      }),
    )
  })

  it('comes to the same in either order, where it only adds', () => {
    fc.assert(
      fc.property(adding(), adding(), (one, other) => {
        assert.deepEqual(inAnyOrder(after(one, other)), inAnyOrder(after(other, one)))
      }),
    )
  })

  it('counts turns and adds costs by what drove them, each time', () => {
    const twice = after({ turnAtMs: 300, addDrivers: { history: 5n } }, { turnAtMs: 200, addDrivers: { history: 2n, other: 1n } })
    assert.equal(twice.turns, 2)
    assert.equal(twice.lastTurnAtMs, 300)
    assert.deepEqual([twice.drivers.history, twice.drivers.other, twice.drivers.output], [7n, 1n, 0n])
  })

  it('never takes a rung or an alert back within a session', () => {
    fc.assert(
      fc.property(fc.array(adding(), { maxLength: 8 }), adding(), (before, change) => {
        const known = after(...before)
        const next = applyChange(known, change).conversation
        assert.ok(known.rungs.every((rung) => next.rungs.includes(rung)))
        assert.ok(known.alerts.every((percent) => next.alerts.includes(percent)))
      }),
    )
  })

  it('keeps rungs in their order, and the reason of the newest that was new', () => {
    const risen = after(
      { addRungs: { rungs: ['RefuseTools'], reason: 'fit' } },
      { addRungs: { rungs: ['DropRetrieval'], reason: 'threshold' } },
      { addRungs: { rungs: ['RefuseTools'], reason: 'fit' } },
    )
    assert.deepEqual(risen.rungs, ['DropRetrieval', 'RefuseTools'])
    assert.equal(risen.reason, 'threshold')
  })

  it('keeps which alerts its own budget reached in any session before, each once', () => {
    const opened = (...sessions: readonly (readonly number[])[]) =>
      after(...sessions.flatMap((addAlerts, index) => [{ addAlerts }, { openSession: index + 2 }]))
    assert.deepEqual(opened([70]).earlierAlerts, [70])
    const { alerts, earlierAlerts } = opened([90], [], [70, 90], [100])
    assert.deepEqual([alerts, earlierAlerts], [[], [70, 90, 100]])
  })

  it('opens the next session, and no other, with what belongs to a session cleared and the edits kept', () => {
    const change: ConversationChange = {
      addRungs: { rungs: ['Summarize'], reason: 'threshold' },
      addAlerts: [70],
      addNotices: [{ id: 'n', occasion: 'Summarize' }],
      addEdits: [CUT],
      state: { is: 'ended', atMs: 3 },
      atTaskBoundary: { is: true, atMs: 3 },
      exact: exact(1, 1),
      resolution: { kind: 'confirmed', atMs: 3 },
      resolutionRound: 1,
    }
    const reset = after(change, { openSession: 2, addDrivers: { output: 1n } })
    assert.deepEqual(
      [reset.session, reset.rungs, reset.reason, reset.alerts, reset.notices, reset.state, reset.atTaskBoundary],
      [2, [], null, [], [], 'open', false],
    )
    assert.deepEqual(reset.edits, [CUT])
    assert.deepEqual([reset.resolution, reset.resolvedAtMs, reset.resolutionRound], ['none', null, 1], 'it was of the session before')
    assert.deepEqual([reset.stateAtMs, reset.boundaryAtMs], [null, null])
    assert.deepEqual(applyChange(reset, { openSession: 2 }).conversation, reset)
    assert.equal(applyChange(reset, { openSession: 9 }).conversation.session, 2)
  })

  it('has the ladder apply or not from the session on that it opens, and to none that is open', () => {
    const opened = after({ openSession: 2, ladderApplies: !BEGUN.ladderApplies })
    assert.deepEqual([BEGUN.ladderApplies, opened.ladderApplies], [true, false])
    assert.equal(after({ openSession: 2 }).ladderApplies, true, 'as before where nothing is said')
    for (const change of [{ ladderApplies: true }, { openSession: 2, ladderApplies: true }, { openSession: 9, ladderApplies: true }])
      assert.deepEqual(applyChange(opened, change).conversation, opened)
  })

  it('that was decided in a session before leaves out what belongs to that session', () => {
    const late = applyChange(after({ openSession: 2 }), {
      ofSession: 1,
      addRungs: { rungs: ['Summarize'], reason: 'threshold' },
      addAlerts: [90],
      state: { is: 'ended', atMs: 500 },
      atTaskBoundary: { is: true, atMs: 500 },
      turnAtMs: 500,
      addDrivers: { output: 4n },
      addEdits: [CUT],
    })
    const { rungs, alerts, state, atTaskBoundary, turns, drivers, edits } = late.conversation
    assert.deepEqual([rungs, alerts, state, atTaskBoundary, turns, drivers.output, edits], [[], [], 'open', false, 1, 4n, [CUT]])
    assert.deepEqual(late.firedAlerts, [])
  })

  it('opens a session that begins as empty as a conversation', () => {
    const opened = after(OF_ITS_SESSION, { openSession: 2 })
    assert.deepEqual(opened, { ...BEGUN, session: 2, earlierAlerts: OF_ITS_SESSION.addAlerts })
  })

  it('that was decided in a session before tells nothing of the one that is open', () => {
    const open = after({ openSession: 2 })
    for (const [part, told] of Object.entries(OF_ITS_SESSION)) {
      const changedBy = (ofSession: number): Conversation => applyChange(open, { ofSession, [part]: told }).conversation
      assert.deepEqual(changedBy(1), open, part)
      assert.notDeepEqual(changedBy(2), open, part)
    }
  })

  it('that opens it again takes its end back, and no other rung', () => {
    const ended = after({ state: { is: 'ended', atMs: 3 }, addRungs: { rungs: ['RefuseTools', 'EndConversation'], reason: 'threshold' } })
    const opened = applyChange(ended, { state: { is: 'open', atMs: 4 } }).conversation
    assert.deepEqual([opened.state, opened.rungs], ['open', ['RefuseTools']])
  })

  it('keeps the latest of an end and an opening, whatever is told late or again', () => {
    const end: ConversationChange = {
      state: { is: 'ended', atMs: 10 },
      addRungs: { rungs: ['Summarize', 'EndConversation'], reason: 'fit' },
    }
    const open: ConversationChange = { state: { is: 'open', atMs: 20 } }
    for (const order of [
      [end, open, end],
      [open, end],
      [end, end, open],
    ]) {
      const { state, stateAtMs, rungs } = after(...order)
      assert.deepEqual([state, stateAtMs, rungs], ['open', 20, ['Summarize']])
    }
    const { state, rungs } = after(end, open, { ...end, state: { is: 'ended', atMs: 20 } }, { state: { is: 'open', atMs: 19 } })
    assert.deepEqual([state, rungs], ['ended', ['Summarize', 'EndConversation']], 'it was ended again')
  })

  it('keeps the latest word on a new task, whatever is told late or again', () => {
    const told: ConversationChange = { atTaskBoundary: { is: true, atMs: 10 } }
    const answered: ConversationChange = { atTaskBoundary: { is: false, atMs: 20 } }
    for (const order of [
      [told, answered, told],
      [answered, told],
    ])
      assert.deepEqual([after(...order).atTaskBoundary, after(...order).boundaryAtMs], [false, 20])
    assert.equal(after(told, answered, { atTaskBoundary: { is: true, atMs: 20 } }).atTaskBoundary, true, 'of the same time the last')
    assert.deepEqual([toldAt(5, null), toldAt(5, 4), toldAt(5, 9)], [5, 5, 9], 'another clock may be ahead')
  })

  it('tells which alerts are new', () => {
    const { conversation, firedAlerts } = applyChange(after({ addAlerts: [90] }), { addAlerts: [100, 90, 70] })
    assert.deepEqual(firedAlerts, [100, 70])
    assert.deepEqual(conversation.alerts, [70, 90, 100])
  })

  it('tells which alerts of the user’s budget are new in its period, whatever session is open', () => {
    const day = (of: number, ...percents: number[]): ConversationChange => ({ addUserAlerts: { period: `Day1:2026-11-${of}`, percents } })
    const first = applyChange(after({ addAlerts: [70] }), day(24, 90, 70))
    assert.deepEqual([first.firedAlerts, first.firedUserAlerts, first.conversation.alerts], [[], [90, 70], [70]])
    assert.deepEqual(first.conversation.userAlerts, { period: 'Day1:2026-11-24', percents: [70, 90] })
    const reset = applyChange(first.conversation, { openSession: 2, ofSession: 1, ...day(24, 100, 90) })
    assert.deepEqual([reset.firedUserAlerts, reset.conversation.userAlerts?.percents], [[100], [70, 90, 100]])
    const next = applyChange(reset.conversation, day(25, 70))
    assert.deepEqual([next.firedUserAlerts, next.conversation.userAlerts], [[70], { period: 'Day1:2026-11-25', percents: [70] }])
    for (const late of [day(24, 100), day(25, 70), day(26)]) {
      const { firedUserAlerts, conversation } = applyChange(next.conversation, late)
      assert.deepEqual([firedUserAlerts, conversation.userAlerts], [[], next.conversation.userAlerts])
    }
  })

  it('keeps each edit once, and takes one that joins the log off the waiting list', () => {
    const waiting = after({ addReadyEdits: [CUT, DROP] }, { addReadyEdits: [CUT] })
    assert.deepEqual(waiting.readyEdits, [CUT, DROP])
    const joined = applyChange(waiting, { addEdits: [NOTICE, CUT] }).conversation
    assert.deepEqual([joined.edits, joined.readyEdits], [[NOTICE, CUT], [DROP]])
    assert.deepEqual(applyChange(joined, { addReadyEdits: [CUT] }).conversation.readyEdits, [DROP])
  })

  it('counts the questions of a user in this session', () => {
    const twice = after(
      { addUserTurn: true, turnAtMs: 1 },
      { turnAtMs: 2 },
      { addUserTurn: true, ofSession: 1 },
      { addUserTurn: true, ofSession: 2 },
    )
    assert.deepEqual([twice.turns, twice.userTurns], [2, 2])
    const opened = applyChange(twice, { openSession: 2, addUserTurn: true }).conversation
    assert.deepEqual([opened.turns, opened.userTurns], [2, 1], 'that of the new session')
  })

  it('keeps the latest resolution, whatever is told late or again', () => {
    const assumed = { resolution: { kind: 'assumed', atMs: 10 } } as const
    const confirmed = { resolution: { kind: 'confirmed', atMs: 20 } } as const
    const reversed = { resolution: { kind: 'reversed', atMs: 30 } } as const
    for (const order of [
      [assumed, confirmed, reversed],
      [reversed, assumed, confirmed],
      [confirmed, reversed, confirmed, assumed],
    ]) {
      const { resolution, resolvedAtMs } = after(...order)
      assert.deepEqual([resolution, resolvedAtMs], ['reversed', 30])
    }
    assert.equal(after({ openSession: 2 }, { ...confirmed, ofSession: 1 }).resolution, 'none', 'it was of the session before')
  })

  it('leaves a conversation without a resolution while nobody says otherwise, or when it goes on after that was taken back', () => {
    const turn = (atMs: number): ConversationChange => ({ turnAtMs: atMs })
    const told = (kind: 'assumed' | 'confirmed' | 'reversed', atMs: number): ConversationChange => ({ resolution: { kind, atMs } })
    assert.equal(awaitsResolution(after()), false, 'nothing was said yet')
    assert.equal(awaitsResolution(after(turn(200))), true)
    assert.equal(awaitsResolution(after(turn(200), { state: { is: 'ended', atMs: 200 } })), false)
    assert.equal(awaitsResolution(after(turn(200), told('assumed', 300))), false)
    assert.equal(awaitsResolution(after(turn(200), told('confirmed', 300), turn(400))), false)
    assert.equal(awaitsResolution(after(turn(200), told('reversed', 300))), false)
    assert.equal(awaitsResolution(after(turn(200), told('reversed', 300), turn(301))), true)
    assert.equal(awaitsResolution({ ...after(turn(200)), id: 'call-1' }), false, 'nobody said anything in it')
    assert.equal(awaitsResolution({ ...after(turn(200)), resolution: 'reversed', resolvedAtMs: null }), false, 'of an earlier version')
  })

  it("begins the rungs of the user's budget anew in a later period, and ignores an earlier one", () => {
    const july = after(
      { addUserRungs: { period: '2026-06', rungs: ['Summarize'] } },
      { addUserRungs: { period: '2026-07', rungs: ['DropRetrieval'] } },
      { addUserRungs: { period: '2026-06', rungs: ['RefuseTools'] } },
      { addUserRungs: { period: '2026-07', rungs: ['Summarize'] } },
    )
    assert.deepEqual(july.userRungs, { period: '2026-07', rungs: ['DropRetrieval', 'Summarize'] })
    const daily = after(
      { addUserRungs: { period: 'Day1:2026-07-26', rungs: ['Summarize'] } },
      { addUserRungs: { period: 'Month1:2026-07-01', rungs: ['RefuseTools'] } },
    )
    assert.deepEqual(daily.userRungs, { period: 'Month1:2026-07-01', rungs: ['RefuseTools'] }, 'of other terms')
    const back = applyChange(daily, { addUserRungs: { period: 'Day1:2026-07-26', rungs: ['Summarize'] } }).conversation
    assert.deepEqual(back.userRungs, { period: 'Day1:2026-07-26', rungs: ['Summarize'] }, 'in either direction')
  })

  it('keeps the latest exact count; of two of the same time the one over more messages', () => {
    const counts = [exact(5, 3), exact(9, 1), exact(9, 2), exact(7, 9)]
    for (const order of [counts, counts.toReversed()])
      assert.deepEqual(after(...order.map((count) => ({ exact: count }))).exact, exact(9, 2))
  })
})

function adding(): fc.Arbitrary<ConversationChange> {
  return fc.record(
    {
      addRungs: fc.constantFrom(
        { rungs: ['DropRetrieval', 'Summarize'], reason: 'threshold' } as const,
        { rungs: ['RefuseTools'], reason: 'threshold' } as const,
      ),
      addEdits: fc.subarray([CUT, DROP, NOTICE]),
      addAlerts: fc.subarray([70, 90, 100]),
      addNotices: fc.subarray([
        { id: 'n1', occasion: 'Summarize' as const },
        { id: 'n2', occasion: 'Summarize' as const },
      ]),
      addUserRungs: fc.record({ period: fc.constantFrom('2026-06', '2026-07'), rungs: fc.subarray(['Summarize', 'RefuseTools'] as const) }),
      addDrivers: fc.record({ history: fc.bigInt({ min: 0n, max: 9n }), tools: fc.bigInt({ min: 0n, max: 9n }) }),
      turnAtMs: fc.nat(500),
      addUserTurn: fc.constant(true as const),
      exact: fc.tuple(fc.nat(3), fc.nat(3)).map(([atMs, messages]) => exact(atMs, messages)),
    },
    { requiredKeys: [] },
  )
}

/** Without what counts: turns and costs. */
function keyed(): fc.Arbitrary<ConversationChange> {
  return fc
    .tuple(
      adding(),
      fc.record(
        {
          addReadyEdits: fc.subarray([CUT, DROP]),
          removeNotices: fc.subarray(['n1', 'n2']),
          state: fc.record({ is: fc.constantFrom('open' as const, 'ended' as const), atMs: fc.nat(9) }),
          atTaskBoundary: fc.record({ is: fc.boolean(), atMs: fc.nat(9) }),
          contract: fc.record({ hash: fc.constantFrom('k1', 'k2'), pinnedAtMs: fc.nat(9) }),
          ofSession: fc.constantFrom(1, 2),
          resolution: fc.record({ kind: fc.constantFrom('assumed' as const, 'reversed' as const), atMs: fc.nat(9) }),
        },
        { requiredKeys: [] },
      ),
    )
    .map(([{ turnAtMs: _turn, addUserTurn: _userTurn, addDrivers: _drivers, ...rest }, more]) => ({ ...rest, ...more }))
}

/** The lists that keep the order of arrival, sorted. */
function inAnyOrder(conversation: Conversation): Conversation {
  const byId = (a: { readonly id: string }, b: { readonly id: string }): number => (a.id < b.id ? -1 : 1)
  return { ...conversation, edits: conversation.edits.toSorted(byId), notices: conversation.notices.toSorted(byId) }
}
