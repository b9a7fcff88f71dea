import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as z from 'zod'
import { hasAtMost, listOf, mapOf } from './stranger-data.ts'

const Named = z.looseObject({ name: z.string(), sizes: mapOf(z.int(), 3).nullish() })
const issuesOf = (schema: z.ZodType, data: unknown): readonly string[] =>
  (schema.safeParse(data).error?.issues ?? []).map(({ path, message }) => `${path.join('.')}: ${message}`)

test('what is right is read as zod reads it', () => {
  const data = [
    { name: 'a', other: 1 },
    { name: 'b', sizes: { x: 1, y: 2 } },
  ]
  assert.deepEqual(listOf(Named).parse(data), data)
  assert.deepEqual(mapOf(z.string(), 2).parse(JSON.parse('{"__proto__":"a","b":"c"}')), JSON.parse('{"__proto__":"a","b":"c"}'))
})

test('what is wrong is told of the first element alone, with its place', () => {
  assert.deepEqual(issuesOf(listOf(Named), [{ name: 'a' }, { name: 'b', sizes: { x: 1, y: 'z' } }, 3, 4]), [
    '1.sizes.y: Invalid input: expected number, received string',
  ])
  assert.deepEqual(issuesOf(mapOf(Named, 9), { a: { name: 'a' }, b: 1, c: 2 }), ['b: Invalid input: expected object, received number'])
  assert.deepEqual(issuesOf(mapOf(z.int(), 3), { a: 1, b: 'x', c: 3, d: 4 }), [': must have at most 3 keys'])
  for (const wrong of [undefined, null, 3, 'text', {}]) assert.deepEqual(issuesOf(listOf(Named), wrong), [': must be a list'])
  for (const wrong of [undefined, null, 3, 'text', []]) assert.deepEqual(issuesOf(mapOf(z.int(), 3), wrong), [': must be a map'])
})

test('values are counted at all depths', () => {
  const data = { a: [1, null, [2]], b: { c: 'd' } } // itself, two, three and one in the list, one in the map
  assert.equal(hasAtMost(8, data), true)
  assert.equal(hasAtMost(7, data), false)
  for (const single of [undefined, null, 0, 'text']) assert.equal(hasAtMost(1, single), true)
  assert.equal(hasAtMost(1, [undefined]), false)
})
