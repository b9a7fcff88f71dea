import assert from 'node:assert/strict'
import { test } from 'node:test'
import { configMapName } from './config-map-name.ts'

test('a name is that of the budget, with a prefix', () => {
  assert.equal(configMapName('support'), 'farebox-config-support')
})

test('names too long are cut to what Kubernetes takes, and stay apart', () => {
  const [one, other] = [`${'a'.repeat(252)}1`, `${'a'.repeat(252)}2`].map(configMapName)
  assert.equal(one?.length, 253)
  assert.notEqual(one, other)
  assert.match(
    configMapName(`${'a'.repeat(226)}${'.'.repeat(20)}${'a'.repeat(7)}`),
    /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/,
  )
})
