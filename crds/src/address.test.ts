/** Addresses as they are written, and read back. Which are refused is tested by the settings of both programs. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { addressSchema, formatAddress } from './address.ts'

test('an address is written so that it stands in a URL', () => {
  assert.equal(formatAddress({ host: '10.0.0.7', port: 9_444 }), '10.0.0.7:9444')
  assert.equal(formatAddress({ host: 'fd00::7', port: 9_444 }), '[fd00::7]:9444')
  assert.equal(new URL(`https://${formatAddress({ host: 'fd00::7', port: 9_444 })}/v1`).port, '9444')
})

test('an address is read back as it was written', () => {
  const schema = addressSchema(4_180)
  for (const text of ['127.0.0.1:4180', '[::1]:4180', 'localhost:0', ':4180']) assert.equal(formatAddress(schema.parse(text)), text)
})
