import assert from 'node:assert/strict'
import { test } from 'node:test'
import { makeConfig, makeContract, makePeriod } from '../../test/support/make.ts'
import { isRecord } from './schema-walk.ts'
import { readContract, readDelivered } from './sidecar-config.ts'

const MONTH = makePeriod('Month')
const CONTRACT = makeContract({ caps: { perConversation: '0.50', perUser: { amount: '5.00', period: MONTH } } })
const CONFIG = makeConfig('http://127.0.0.1:1/v1', [CONTRACT], {
  tiers: { default: 'pro', allowed: ['pro'], claim: { header: 'x-farebox-tier', token: { format: 'HMAC' } } },
  limits: [{ amount: '0', period: MONTH }],
  prices: [{ provider: 'openai', model: 'gpt-4o', input: '1', output: '2', steps: [], serviceTierPercent: {}, toolFees: {} }],
})
/** Of these any key may be there: what they hold is no field. */
const MAPS = ['contracts', 'serviceTierPercent']

/** The value with one more field in each object of it, at each depth. */
function grown(value: unknown, key = ''): unknown {
  if (Array.isArray(value)) return value.map((one) => grown(one))
  if (!isRecord(value)) return value
  const fields = Object.fromEntries(Object.entries(value).map(([name, field]) => [name, grown(field, name)]))
  return MAPS.includes(key) ? fields : { ...fields, fieldOfLater: { deep: [1] } }
}

/** The value without them. */
function shrunk(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(shrunk)
  if (!isRecord(value)) return value
  return Object.fromEntries(Object.entries(value).flatMap(([name, field]) => (name === 'fieldOfLater' ? [] : [[name, shrunk(field)]])))
}

test('a config of a later version with a field more at each level is read, and keeps what its hashes are over', () => {
  const later = grown(JSON.parse(JSON.stringify(CONFIG)))
  assert.ok(JSON.stringify(later).split('fieldOfLater').length > 20)
  const before = structuredClone(later)
  const { data, error } = readDelivered(later).result
  assert.equal(error, undefined)
  assert.deepEqual(data, later)
  assert.deepEqual(shrunk(data), CONFIG)
  assert.deepEqual(later, before, 'what was delivered is left as it is')
})

test('a contract as it was kept from such a config is read, without the field', () => {
  const kept: unknown = JSON.parse(JSON.stringify(readDelivered(grown(CONFIG)).result.data?.contracts['pro']))
  assert.match(JSON.stringify(kept), /fieldOfLater/)
  assert.deepEqual(readContract(kept).data, CONTRACT)
})

test('the fields of a later version are named, and only those', () => {
  const later = {
    ...CONFIG,
    fieldOfLater: { deep: [1] },
    contracts: { pro: { ...CONTRACT, caps: { ...CONTRACT.caps, perTask: '1' } } },
    limits: [{ amount: '0', period: MONTH, label: 'x' }],
  }
  assert.deepEqual([...readDelivered(later).later].toSorted(), ['contracts.pro.caps.perTask', 'fieldOfLater', 'limits[0].label'])
  assert.deepEqual(readDelivered(CONFIG).later, [])
})

test('a value that is not known is refused, whatever came beside it', () => {
  const wrong: readonly (readonly [config: object, field: string])[] = [
    [{ ...CONFIG, mode: 'ModeOfLater' }, 'mode'],
    [{ ...CONFIG, schemaVersion: 2 }, 'schemaVersion'],
    [{ ...CONFIG, contracts: { pro: { ...CONTRACT, ladder: [{ atPercent: 50, rung: 'RungOfLater' }] } } }, 'contracts.pro.ladder.0.rung'],
    [{ ...CONFIG, limits: [{ amount: '0', period: { ...MONTH, unit: 'UnitOfLater' } }] }, 'limits.0.period.unit'],
  ]
  for (const [config, field] of wrong)
    for (const delivered of [config, grown(config)])
      assert.deepEqual(
        readDelivered(delivered).result.error?.issues.map(({ path }) => path.join('.')),
        [field],
      )
})
