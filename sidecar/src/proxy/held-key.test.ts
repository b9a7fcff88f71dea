import assert from 'node:assert/strict'
import { test } from 'node:test'
import { WORTHLESS_KEY } from '@farebox/crds/cluster.ts'
import { bytesWithoutSecrets, withoutSecrets } from './held-key.ts'

test('a held key is taken out wherever it stands, bare or as JSON writes it', () => {
  assert.equal(withoutSecrets('Bearer sk-1, sk-1', ['sk-1']), `Bearer ${WORTHLESS_KEY}, ${WORTHLESS_KEY}`)
  assert.equal(withoutSecrets(JSON.stringify({ key: 'a"b\\c' }), ['a"b\\c']), `{"key":"${WORTHLESS_KEY}"}`)
  assert.equal(withoutSecrets('sk-1-2', ['sk-1', 'sk-1-2']), WORTHLESS_KEY, 'one may begin as another')
  assert.equal(withoutSecrets('sk-1', []), 'sk-1')
})

test('other bytes stay as they are', () => {
  const bytes = Buffer.concat([Buffer.from([0xff, 0x00, 0x80]), Buffer.from('sk-1 ü')])
  assert.deepEqual(bytesWithoutSecrets(bytes, ['sk-2']), bytes)
  assert.deepEqual(bytesWithoutSecrets(bytes, ['sk-1']).subarray(-3), Buffer.from(' ü'))
  assert.equal(bytesWithoutSecrets(bytes, []), bytes)
})
