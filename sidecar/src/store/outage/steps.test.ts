/** Steps as files keep them. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { conversationFor, START_MS } from '../steps.testing.ts'
import { said } from './stage.testing.ts'
import { decodeStep, encodeStep } from './steps.ts'
import type { OutageStep } from './steps.ts'

test('steps that an earlier version kept are read: outcomes by their day, resolutions without a time', () => {
  const update = { conversation: 'A', change: { resolution: 'confirmed', resolutionRound: 1 }, nowMs: 7 }
  assert.deepEqual(decodeStep(JSON.stringify({ kind: 'update', step: update })), {
    kind: 'update',
    step: { ...update, change: { resolution: { kind: 'confirmed', atMs: 7 }, resolutionRound: 1 } },
  })
  const initial = conversationFor('A', START_MS)
  const { stateAtMs: _state, boundaryAtMs: _boundary, ...earlier } = initial
  const kept = {
    kind: 'update',
    step: { conversation: 'A', initial: earlier, change: { state: 'ended', atTaskBoundary: true }, nowMs: 7 },
  }
  assert.deepEqual(decodeStep(encodeStep(kept as unknown as OutageStep)), {
    kind: 'update',
    step: {
      conversation: 'A',
      initial,
      change: { state: { is: 'ended', atMs: 7 }, atTaskBoundary: { is: true, atMs: 7 } },
      nowMs: 7,
    },
  })
  const outcome = { key: 'A/1/started', tier: 'pro', kind: 'started' }
  assert.deepEqual(decodeStep(JSON.stringify({ kind: 'outcome', step: { ...outcome, day: '2026-11-24' } })), {
    kind: 'outcome',
    step: { ...outcome, atMs: Date.UTC(2026, 10, 24), note: {} },
  })
  const now = { kind: 'remember', step: said('m1') } as const
  assert.deepEqual(decodeStep(encodeStep(now)), now)
})
