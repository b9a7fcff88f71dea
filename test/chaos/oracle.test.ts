/** The oracle itself: quiet where all is well, and not where anything is not. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { doubtsOf, violationsOf } from './oracle.ts'
import type { Call, Evidence, Troubles } from './oracle.ts'

const CAP = 100n
const HOLD_MAX = 40n

function call(id: string, more: Partial<Call> = {}): Call {
  return {
    id,
    conversation: 'talk',
    user: 'ann',
    sidecar: 0,
    startedAtMs: 10_000,
    endedAtMs: 10_500,
    ending: 'answered',
    ...more,
  }
}

/** Calls that were billed and charged what `costs` says, and what a test changes of it. */
function evidence(costs: Readonly<Record<string, bigint>>, more: Partial<Evidence> = {}): Evidence {
  return {
    calls: Object.keys(costs).map((id) => call(id)),
    doubts: new Map(),
    bill: Object.entries(costs).map(([tag, nanoUsd]) => ({ tag, nanoUsd })),
    charged: Object.entries(costs).map(([id, cost]) => ({ operation: `o-${id}`, conversation: 'talk', cost })),
    caps: { perConversation: CAP, perUser: 150n, workload: 200n },
    holdMax: HOLD_MAX,
    spells: [],
    allowancePercent: 10,
    ...more,
  }
}

const ofBoth = [call('a', { sidecar: 1 }), call('b')]
const spell = (sidecar: number, outages = 1) => ({ sidecar, fromMs: 10_400, toMs: 10_600, outages })
const THREE = { a: 40n, b: 30n, c: 30n }
const charge = (operation: string, cost: bigint) => ({ operation, conversation: 'talk', cost })

test('is quiet where the ledger is the bill, up to the cap', () => {
  assert.deepEqual(violationsOf(evidence(THREE)), [])
})

describe('says so when', () => {
  const cases: Readonly<Record<string, { readonly evidence: Evidence; readonly says: readonly RegExp[] }>> = {
    'a conversation was billed more than its cap': {
      evidence: evidence({ ...THREE, d: 1n }),
      says: [/^conversation talk was billed 0.000000101, which is above 0.0000001 /, /^conversation talk was charged/],
    },
    "a user's conversations were billed more than the cap of the user": {
      evidence: evidence(
        { a: 40n, b: 40n, c: 40n, d: 40n },
        {
          calls: ['a', 'b', 'c', 'd'].map((id) => call(id, { conversation: `talk-${id}` })),
          charged: ['a', 'b', 'c', 'd'].map((id) => ({ operation: id, conversation: `talk-${id}`, cost: 40n })),
        },
      ),
      says: [/^user ann was billed 0.00000016/, /^user ann was charged/],
    },
    'the workload was billed more than its limit': {
      evidence: evidence(
        { a: 40n, b: 40n, c: 40n, d: 40n, e: 40n, f: 1n },
        {
          calls: ['a', 'b', 'c', 'd', 'e', 'f'].map((id) => call(id, { conversation: `talk-${id}`, user: `user-${id}` })),
          charged: ['a', 'b', 'c', 'd', 'e'].map((id) => ({ operation: id, conversation: `talk-${id}`, cost: 40n })),
        },
      ),
      says: [/^workload workload was billed 0.000000201/, /^f \(.*\) was billed 0.000000001, and no operation/],
    },
    'a call is not in the ledger': {
      evidence: evidence(THREE, { charged: [charge('a', 40n), charge('b', 30n)] }),
      says: [/^c \(sidecar 0, 00:00:10.000 to 00:00:10.500, answered\) was billed/],
    },
    'a call is in the ledger twice': {
      evidence: evidence({ a: 40n, b: 10n }, { charged: [charge('a', 40n), charge('b', 10n), charge('b-again', 10n)] }),
      says: [/1 operations were charged that nobody billed \(0.00000001\); 0 may be/],
    },
    'an answered call was charged something else than its cost': {
      evidence: evidence({ a: 40n, b: 10n }, { charged: [charge('a', 40n), charge('b', 12n)] }),
      says: [/^b \(.*\) was billed 0.00000001, and no operation was charged that/, /operations were charged that nobody billed/],
    },
    'an operation was charged more than any call holds': {
      evidence: evidence({ a: 41n }),
      says: [/operation o-a was charged 0.000000041, which no call holds/],
    },
    'a broken call was charged less than its bill': {
      evidence: evidence({ a: 20n }, { calls: [call('a', { ending: 'broken' })], charged: [charge('a', 19n)] }),
      says: [
        /^a \(.*\) was billed 0.00000002, and what is left in the ledger does not cover it/,
        /operations were charged that nobody billed/,
      ],
    },
    'a call was billed that nobody made': {
      evidence: evidence(THREE, { calls: [call('a'), call('b')] }),
      says: [/^c was billed, and nobody made that call/, /operations were charged that nobody billed/],
    },
    'a call was billed twice': {
      evidence: evidence(
        { a: 10n },
        {
          bill: [
            { tag: 'a', nanoUsd: 10n },
            { tag: 'a', nanoUsd: 10n },
          ],
        },
      ),
      says: [/^a was billed twice/, /^a \(.*\) was billed 0.00000001, and no operation/],
    },
    'more was spent alone than the allowance of the outages': {
      evidence: evidence({ ...THREE, d: 21n }, { calls: [...ofBoth, call('c'), call('d')], spells: [spell(0), spell(1)] }),
      says: [/^conversation talk was billed 0.000000121, which is above 0.00000012 /, /^conversation talk was charged/],
    },
    'a cap was exceeded by calls of a sidecar that was not alone': {
      evidence: evidence({ ...THREE, d: 10n }, { spells: [spell(1)] }),
      says: [/^conversation talk was billed 0.00000011/, /^conversation talk was charged/],
    },
    'a cap was exceeded by calls of another time': {
      evidence: evidence({ ...THREE, d: 10n }, { spells: [{ ...spell(0), fromMs: 11_000, toMs: 12_000 }] }),
      says: [/^conversation talk was billed 0.00000011/, /^conversation talk was charged/],
    },
  }
  for (const [name, { evidence: given, says }] of Object.entries(cases)) {
    test(name, () => {
      const said = violationsOf(given)
      assert.equal(said.length, says.length, said.join('\n'))
      for (const [index, pattern] of says.entries()) assert.match(said[index] ?? '', pattern)
    })
  }
})

describe('accepts what is stated, and no more:', () => {
  test('what sidecars spent alone, up to their allowance in each outage', () => {
    const calls = [...ofBoth, call('c'), call('d')]
    assert.deepEqual(violationsOf(evidence({ ...THREE, d: 20n }, { calls, spells: [spell(0), spell(1)] })), [])
    assert.deepEqual(violationsOf(evidence({ ...THREE, d: 20n }, { calls, spells: [spell(0, 2)] })), [])
  })

  test('an unsettled call is charged its hold, billed or not; a settled one beside it is not', () => {
    const calls = [call('a'), call('b'), call('c', { ending: 'refused' })]
    const charged = [charge('a', 10n), charge('b', 40n), charge('c', 40n)]
    const given = evidence({ a: 10n, b: 12n }, { calls, charged })
    assert.equal(violationsOf(given).length, 2)
    const doubts = new Map([
      ['b', 'unsettled' as const],
      ['c', 'unsettled' as const],
    ])
    assert.deepEqual(violationsOf({ ...given, doubts }), [])
    assert.equal(violationsOf({ ...given, doubts, charged: [...charged, charge('d', 1n)] }).length, 1)
  })

  test('an unsettled call that was held alone is charged its hold, as far as the allowance covered it', () => {
    const calls = [...ofBoth, call('c'), call('d')]
    const charged = [charge('a', 40n), charge('b', 30n), charge('c', 30n), charge('d', 10n)]
    const given = evidence({ ...THREE, d: 1n }, { calls, charged, spells: [spell(0)], doubts: new Map([['d', 'unsettled']]) })
    assert.deepEqual(violationsOf({ ...given, calls: calls.map((one) => (one.id === 'd' ? one : { ...one, sidecar: 1 })) }), [])
    assert.equal(violationsOf({ ...given, spells: [] }).length, 2)
  })

  test('a lost call may be missing, and a cap exceeded by what it cost', () => {
    const given = evidence({ ...THREE, d: 20n }, { charged: [charge('a', 40n), charge('b', 30n), charge('c', 30n)] })
    assert.equal(violationsOf(given).length, 2)
    assert.deepEqual(violationsOf({ ...given, doubts: new Map([['d', 'lost']]) }), [])
    assert.equal(violationsOf({ ...given, doubts: new Map([['c', 'lost']]) }).length, 1)
  })
})

describe('a call is in doubt', () => {
  const doubts = (calls: readonly Call[], troubles: Partial<Troubles>) => [
    ...doubtsOf(calls, { deaths: [], losses: [], spells: [], ...troubles }),
  ]
  const death = { sidecar: 0, atMs: 20_000 }

  test('that was under way, or had just ended, when its sidecar died', () => {
    const calls = [
      call('long before', { startedAtMs: 10_000, endedAtMs: 18_000 }),
      call('just before', { startedAtMs: 10_000, endedAtMs: 19_500 }),
      call('under way', { startedAtMs: 19_000, endedAtMs: 20_001 }),
      call('of another', { startedAtMs: 19_000, endedAtMs: 20_001, sidecar: 1 }),
      call('later', { startedAtMs: 20_500, endedAtMs: 21_000 }),
    ]
    assert.deepEqual(doubts(calls, { deaths: [death] }), [
      ['just before', 'unsettled'],
      ['under way', 'unsettled'],
    ])
  })

  test('that was in what the store lost, when its sidecar died before it could tell the store again', () => {
    const calls = [
      call('kept', { startedAtMs: 10_000, endedAtMs: 17_000 }),
      call('lost', { startedAtMs: 18_500, endedAtMs: 18_700 }),
      call('of another', { startedAtMs: 18_500, endedAtMs: 18_700, sidecar: 1 }),
    ]
    const loss = { fromMs: 18_300, atMs: 19_300, backMs: 21_000 }
    assert.deepEqual(doubts(calls, { deaths: [death], losses: [loss] }), [['lost', 'lost']])
    assert.deepEqual(doubts(calls, { losses: [loss] }), [])
    assert.deepEqual(doubts(calls, { deaths: [death], losses: [{ fromMs: 8_000, atMs: 9_000, backMs: 10_000 }] }), [])
  })

  test('that ended without the store, when what the store was told of it afterwards was lost', () => {
    const alone = call('alone', { startedAtMs: 15_000, endedAtMs: 15_500 })
    const spell = { sidecar: 0, fromMs: 15_200, toMs: 18_000, outages: 1 }
    const loss = { fromMs: 18_300, atMs: 19_300, backMs: 21_000 }
    assert.deepEqual(doubts([alone], { deaths: [death], losses: [loss], spells: [spell] }), [['alone', 'lost']])
    assert.deepEqual(doubts([alone], { deaths: [death], losses: [loss], spells: [{ ...spell, toMs: 16_000 }] }), [])
  })
})
