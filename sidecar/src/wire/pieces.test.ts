import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { Pieces } from './pieces.ts'

const KIB = 1024

/** So many bytes that say where they stand, in memory of their own. */
function bytesFrom(at: number, length: number): Buffer {
  return Buffer.from(Uint8Array.from({ length }, (_, index) => (at + index) % 251).buffer)
}

test('pieces of any length make the whole in order, and memory follows what was counted', () => {
  const length = fc.oneof(fc.constantFrom(0, 1, 16 * KIB - 1, 16 * KIB, 64 * KIB, 100 * KIB), fc.nat(3_000))
  fc.assert(
    fc.property(fc.array(fc.tuple(length, fc.boolean()), { maxLength: 60 }), fc.nat(200 * KIB), (lengths, cut) => {
      const pieces = new Pieces()
      let at = 0
      for (const [one, isView] of lengths) {
        const piece = bytesFrom(at, one)
        at += one
        if (isView) pieces.addCopy(piece)
        if (isView || !pieces.add(piece)) piece.fill(255) // it is free to be written into
      }
      const whole = bytesFrom(0, at)
      const last = bytesFrom(at, 9)
      assert.equal(pieces.bytes, at)
      assert.ok(Buffer.concat(pieces.parts).equals(whole))
      assert.ok(pieces.whole().equals(whole))
      assert.ok(pieces.whole(last).equals(Buffer.concat([whole, last])))
      const memory = new Set(pieces.parts.map(({ buffer }) => buffer))
      const held = [...memory].reduce((sum, { byteLength }) => sum + byteLength, 0)
      assert.ok(held <= 2 * at + pieces.parts.length * KIB + 64 * KIB, `${held} for ${at}`)
      pieces.cutAfter(cut)
      assert.ok(pieces.bytes >= Math.min(cut, at) && Buffer.concat(pieces.parts).equals(whole.subarray(0, pieces.bytes)))
    }),
  )
})

test('a million bytes, each by itself, are a few blocks', () => {
  const pieces = new Pieces()
  const single = Buffer.from('x')
  for (let index = 0; index < KIB * KIB; index += 1) pieces.add(single)
  assert.ok(pieces.parts.length < 25, `${pieces.parts.length} parts`)
  assert.equal(pieces.whole().toString('latin1'), 'x'.repeat(KIB * KIB))
  pieces.clear()
  assert.deepEqual([pieces.bytes, pieces.parts.length, pieces.whole().length], [0, 0, 0])
})

test('what comes in one piece, or in long ones, is kept as it is', () => {
  const pieces = new Pieces()
  const [short, long] = [bytesFrom(0, 10), bytesFrom(10, 16 * KIB)]
  assert.equal(pieces.add(short), true)
  assert.equal(pieces.whole(), short)
  assert.equal(pieces.add(long), true)
  assert.equal(pieces.parts[1], long)
})
