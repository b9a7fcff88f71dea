import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Condition } from '@farebox/crds/fields.ts'
import { conditionsOf, findingsOf, withSummary } from './conditions.ts'
import type { Finding } from './conditions.ts'

const NOON = Date.UTC(2026, 10, 24, 12)
const said = (type: Finding['type'], status: Finding['status'], reason: string = type): Finding => ({
  type,
  status,
  reason,
  message: `${reason} it is`,
})
const IN_FORCE = [said('Accepted', 'True'), said('Programmed', 'True')]

/** What sums up: `Ready False StoreAway`. */
function summaryOf(...findings: readonly Finding[]): readonly string[] {
  return withSummary(findings)
    .filter(({ type }) => type === 'Ready' || type === 'Reconciling' || type === 'Stalled')
    .map(({ type, status, reason }) => `${type} ${status} ${reason}`)
}

test('an object in force is ready, whatever is not known of it yet', () => {
  assert.deepEqual(summaryOf(...IN_FORCE), ['Ready True Ready'])
  const unknown = [said('Injected', 'Unknown', 'NoPods'), said('Enforced', 'Unknown', 'NoTraffic'), said('Coordinated', 'Unknown')]
  assert.deepEqual(summaryOf(...IN_FORCE, ...unknown), ['Ready True Ready'])
  assert.deepEqual(
    summaryOf(...IN_FORCE, said('UsageFresh', 'False', 'ReportsMissing')),
    ['Ready True Ready'],
    'old numbers change nothing of it',
  )
  assert.deepEqual(
    summaryOf(...IN_FORCE, said('Coordinated', 'False', 'EphemeralStore')),
    ['Ready True Ready'],
    'nor do books that end with a pod, as their owner chose',
  )
})

test('what is known to be wrong stands in the way, the first of it in front', () => {
  for (const type of ['Injected', 'Enforced', 'Coordinated'] as const)
    assert.deepEqual(summaryOf(...IN_FORCE, said(type, 'False', 'Why')), ['Ready False Why'])
  assert.deepEqual(summaryOf(...IN_FORCE, said('Enforced', 'False', 'Bypassed'), said('Coordinated', 'False', 'StoreAway')), [
    'Ready False Bypassed',
  ])
})

test('what waits for something else is reconciling, what needs an author is stalled', () => {
  const refused = (reason: string) => summaryOf(said('Accepted', 'False', reason), said('Programmed', 'False', 'NotAccepted'))
  assert.deepEqual(refused('TierNotFound'), ['Ready False TierNotFound', 'Reconciling True TierNotFound'])
  assert.deepEqual(refused('MarginLeavesNothing'), ['Ready False MarginLeavesNothing', 'Stalled True MarginLeavesNothing'])
  const programmed = (status: Finding['status'], reason: string) => summaryOf(said('Accepted', 'True'), said('Programmed', status, reason))
  assert.deepEqual(programmed('False', 'Refused'), ['Ready False Refused', 'Stalled True Refused'], 'by sidecars')
  assert.deepEqual(programmed('False', 'WriteRefused'), ['Ready False WriteRefused', 'Stalled True WriteRefused'], 'by the API server')
  assert.deepEqual(programmed('False', 'RuntimeSecretRefused'), ['Ready False RuntimeSecretRefused', 'Stalled True RuntimeSecretRefused'])
  assert.deepEqual(programmed('False', 'NotWritten'), ['Ready False NotWritten', 'Reconciling True NotWritten'])
  assert.deepEqual(programmed('Unknown', 'Pending'), ['Ready False Pending', 'Reconciling True Pending'])
  assert.deepEqual(programmed('False', 'PartiallyProgrammed'), ['Ready False PartiallyProgrammed', 'Stalled True PartiallyProgrammed'])
})

test('conditions can be read back, added to and summed up again, and keep the time at which each turned', () => {
  const first = conditionsOf(withSummary(IN_FORCE), [], 1, NOON)
  const later = conditionsOf(withSummary([...findingsOf(first), said('Coordinated', 'False', 'StoreAway')]), first, 2, NOON + 60_000)
  assert.deepEqual(
    later.map(({ type, status, observedGeneration, lastTransitionTime }) =>
      [type, status, observedGeneration, lastTransitionTime].join(' '),
    ),
    [
      'Accepted True 2 2026-11-24T12:00:00Z',
      'Programmed True 2 2026-11-24T12:00:00Z',
      'Coordinated False 2 2026-11-24T12:01:00Z',
      'Ready False 2 2026-11-24T12:01:00Z',
    ],
  )
  const again = conditionsOf(withSummary(findingsOf(later)), later, 2, NOON + 120_000)
  assert.deepEqual(again, later)
})

test('what is too long to be told, as the words of an API server may be, is told as far as there is room', () => {
  const long = { ...said('Programmed', 'False', 'WriteRefused'), message: 'x'.repeat(1_025) }
  const conditions = conditionsOf(withSummary([said('Accepted', 'True'), long]), [], 1, NOON)
  for (const condition of conditions) assert.deepEqual(Condition.parse(condition), condition)
  assert.equal(conditions.find(({ type }) => type === 'Programmed')?.message, 'x'.repeat(1_024))
})
