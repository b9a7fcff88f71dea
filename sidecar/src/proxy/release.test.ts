import assert from 'node:assert/strict'
import { test } from 'node:test'
import { release } from './release.ts'

test('bytes that are alone in their memory are freed at once', () => {
  const bytes = Buffer.allocUnsafeSlow(100_000)
  const before = process.memoryUsage().arrayBuffers
  release(bytes)
  assert.equal(bytes.length, 0)
  assert.ok(before - process.memoryUsage().arrayBuffers >= 100_000)
})

test('a view of something larger stays as it is, and so does what is around it', () => {
  const whole = Buffer.alloc(100_000, 'a')
  release(whole.subarray(10, 50_000))
  assert.equal(whole.toString('latin1'), 'a'.repeat(100_000))
})

test('small bytes, which share the memory of others, stay as they are', () => {
  const bytes = Buffer.from('some words')
  release(bytes)
  assert.equal(bytes.toString(), 'some words')
})
