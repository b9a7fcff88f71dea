import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ConversationBudgetStatus } from '@farebox/crds/conversation-budget.ts'
import type { Hindrance } from './cluster-status.ts'
import { compile } from './compile.ts'
import { readManifests } from './manifests.ts'
import { makeBudget } from '../../../test/support/pods.ts'
import { whyWaiting } from './waiting.ts'

/** Each must be here: one that is forgotten leaves pods that hang without a word. */
const STARTS_WITH_CONFIG_OF_BEFORE = {
  NotWritten: true,
  WriteRefused: true,
  TooLarge: true,
  Contested: true,
  NoStore: false,
  NoRuntimeSecret: false,
  RuntimeSecretRefused: false,
} as const satisfies Record<Hindrance['reason'], boolean>

const CONFIG = { version: 1, hash: '1'.repeat(16) }

function whyOf(reason: string, more: ConversationBudgetStatus = {}): string | null {
  const said = { status: 'False', reason, lastTransitionTime: '2026-11-24T12:00:00Z' } as const
  const conditions = [
    { ...said, type: 'Accepted', message: 'there is no PricingTier "gold"' },
    { ...said, type: 'Programmed', message: 'why it is not in force' },
  ]
  return whyWaiting({ ...makeBudget(), status: { conditions, ...more } })
}

test('pods wait for a budget that was never accepted, and for whatever keeps its config or its store from them', () => {
  assert.equal(whyOf('NotAccepted'), 'there is no PricingTier "gold"')
  for (const reason of Object.keys(STARTS_WITH_CONFIG_OF_BEFORE)) assert.equal(whyOf(reason), 'why it is not in force', reason)
})

test('they do not wait where a config is in force and the store is there, nor is it said before the newest spec was judged', () => {
  assert.equal(whyOf('NotAccepted', { config: CONFIG }), null)
  for (const [reason, starts] of Object.entries(STARTS_WITH_CONFIG_OF_BEFORE))
    assert.equal(whyOf(reason, { config: CONFIG }), starts ? null : 'why it is not in force', reason)
  for (const reason of ['Programmed', 'Refused', 'PartiallyProgrammed']) assert.equal(whyOf(reason), null)
  assert.equal(whyOf('NotAccepted', { observedGeneration: 1 }), null)
  assert.equal(whyWaiting(makeBudget()), null)
})

test('what compile says of a budget that it refuses is understood', () => {
  const text = `apiVersion: farebox.dev/v1alpha1
kind: ConversationBudget
metadata: { name: desk, namespace: support, generation: 3 }
spec: { selector: { matchLabels: { app: desk } }, tier: { default: gold } }
`
  const { snapshot } = readManifests([{ path: 'all.yaml', text }])
  const [budget] = snapshot.budgets
  assert.ok(budget !== undefined)
  const status = compile(snapshot, { nowMs: 0, previous: new Map() }).statuses.get('ConversationBudget/support/desk')
  assert.equal(whyWaiting({ ...budget, status }), 'there is no PricingTier "gold"')
})
