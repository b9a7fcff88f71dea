import assert from 'node:assert/strict'
import { test } from 'node:test'
import { WORTHLESS_KEY } from '@farebox/crds/cluster.ts'
import { bytesWithoutKey, withoutKey } from './held-key.ts'

test('a held key is taken out wherever it stands, bare or as JSON writes it', () => {
  assert.equal(withoutKey('Bearer sk-1, sk-1', 'sk-1'), `Bearer ${WORTHLESS_KEY}, ${WORTHLESS_KEY}`)
  assert.equal(withoutKey(JSON.stringify({ key: 'a"b\\c' }), 'a"b\\c'), `{"key":"${WORTHLESS_KEY}"}`)
  assert.equal(withoutKey('sk-1', null), 'sk-1')
})

test('other bytes stay as they are', () => {
  const bytes = Buffer.concat([Buffer.from([0xff, 0x00, 0x80]), Buffer.from('sk-1 ü')])
  assert.deepEqual(bytesWithoutKey(bytes, 'sk-2'), bytes)
  assert.deepEqual(bytesWithoutKey(bytes, 'sk-1').subarray(-3), Buffer.from(' ü'))
  assert.equal(bytesWithoutKey(bytes, null), bytes)
})
