import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkObject } from './check.ts'
import type { TierTraffic } from './traffic-status.ts'

const TRAFFIC: TierTraffic = {
  tier: 'pro',
  conversations: { total: 40, turns: 320, byRung: { None: 38, Summarize: 2 } },
  spend: { spent: '4.20', held: '0.02' },
  cost: { p50: '0.09', p95: '0.31', p99: '0.44', max: '0.50' },
  alerts: { '70': 2 },
  resolutions: {
    started: 40,
    confirmed: 12,
    assumed: 9,
    reversed: 1,
    ratePercent: 50,
    costPer: '0.21',
    targetCostPer: '0.246',
    pricePer: '0.99',
    unresolvedCost: '1.80',
  },
  users: { active: 20, heavy: 2, heavySharePercent: 41, upgradeCandidates: 1, byUse: { '0-24': 15, '25-49': 3, '75-99': 1, '100': 1 } },
  margin: { targetPercent: 60, realisedPercent: 78 },
}

/** The traffic as it is read back; what does not fit its schema is no status of this version, and is left out whole. */
function readBack(traffic: object): unknown {
  const checked = checkObject({
    apiVersion: 'farebox.dev/v1alpha1',
    kind: 'ConversationBudget',
    metadata: { name: 'desk', namespace: 'shop' },
    spec: { selector: { matchLabels: { app: 'desk' } }, tier: { default: 'pro' } },
    status: { tiers: [traffic] },
  })
  return checked.status === 'ok' && checked.value.kind === 'ConversationBudget' ? checked.value.status?.tiers?.[0] : checked
}

test('what resolutions cost and earn and how users spread over their budgets is told by tier', () => {
  assert.deepEqual(readBack(TRAFFIC), TRAFFIC)
})

test('a status from before there were assumed resolutions and users is still read', () => {
  const { users: _users, resolutions, ...rest } = TRAFFIC
  const older = { ...rest, resolutions: { started: resolutions.started, confirmed: 12, reversed: 1 } }
  assert.deepEqual(readBack(older), older)
})

test('users are counted in bands of their budget that are the same everywhere', () => {
  const { users } = TRAFFIC
  assert.equal(readBack({ ...TRAFFIC, users: { ...users, byUse: { '0-30': 1 } } }), undefined)
  assert.equal(readBack({ ...TRAFFIC, users: { ...users, heavySharePercent: 101 } }), undefined)
})
