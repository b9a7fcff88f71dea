import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { KeyedHash } from './keyed-hash.ts'

test('is HMAC-SHA-256, for keys shorter and longer than a block and any parts', () => {
  const bytes = (maxLength: number): fc.Arbitrary<Buffer> => fc.uint8Array({ maxLength }).map((array) => Buffer.from(array))
  fc.assert(
    fc.property(bytes(150), fc.array(bytes(200), { maxLength: 4 }), (key, parts) => {
      const known = createHmac('sha256', key).update(Buffer.concat(parts)).digest('hex')
      assert.equal(new KeyedHash(key).hex(...parts), known)
    }),
  )
})
