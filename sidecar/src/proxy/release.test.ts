import assert from 'node:assert/strict'
import { test } from 'node:test'
import { release, releaseParsed } from './release.ts'

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

test('what was parsed of large bodies is collected when there is much of it, once a second at most; of small ones it is left to V8', () => {
  const gc = globalThis.gc
  let collections = 0
  globalThis.gc = (() => void (collections += 1)) as NonNullable<typeof gc>
  try {
    for (let body = 0; body < 1_000; body++) releaseParsed(Buffer.alloc(100 * 1024))
    assert.equal(collections, 0)
    for (let body = 0; body < 16; body++) releaseParsed(Buffer.alloc(2 * 1024 * 1024))
    assert.equal(collections, 1)
  } finally {
    globalThis.gc = gc
  }
})
