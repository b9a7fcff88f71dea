import assert from 'node:assert/strict'
import { test } from 'node:test'
import type * as z from 'zod'
import { Amount, boundedMap, Duration, HeaderName, IsoDate, ModelPattern, ObjectName, Percent, text, Tokens } from './fields.ts'

function messageOf(schema: z.ZodType, value: unknown): string | null {
  const parsed = schema.safeParse(value)
  return parsed.success ? null : (parsed.error.issues[0]?.message ?? '')
}
const takes = (schema: z.ZodType, values: readonly unknown[]): void => {
  for (const value of values) assert.equal(messageOf(schema, value), null, JSON.stringify(value))
}
const refuses = (schema: z.ZodType, values: readonly unknown[]): void => {
  for (const value of values) assert.notEqual(messageOf(schema, value), null, JSON.stringify(value))
}

test('text is measured in characters, as the API server measures it', () => {
  takes(text(1, 3), ['a', '👩🚀é', '日本語'])
  refuses(text(1, 3), ['', 'abcd', '👩🚀é!', 3, null])
  takes(text(0, 3), [''])
})

test('money is a decimal in quotes; what YAML read as a number is refused with that word', () => {
  takes(Amount, ['0', '0.50', '19.00', '999999999.999999999'])
  refuses(Amount, ['', '.5', '1e3', '-1', '1.', '01', '0.0000000001'])
  assert.equal(messageOf(Amount, 0.5), 'must be a decimal in quotes, such as "0.50"')
  for (const text of ['01', '1e3', '-1', '1.', '1,5'])
    assert.equal(messageOf(Amount, text), 'must be a decimal in quotes, such as "0.50"', text)
})

test('money that is a decimal, and out of bounds, is told the bounds', () => {
  for (const text of ['9999999999', '0.0000000025', `0.${'1'.repeat(40)}`])
    assert.equal(messageOf(Amount, text), 'must be below one billion, with at most 9 digits after the point', text)
})

test('percents are whole, from 0 to 100; tokens are at least 1', () => {
  takes(Percent, [0, 70, 100])
  refuses(Percent, [-1, 101, 70.5, '70'])
  takes(Tokens, [1, 100_000_000])
  refuses(Tokens, [0, 100_000_001])
})

test('durations and dates are those that exist', () => {
  takes(Duration, ['20m', '0s', '1h30m'])
  refuses(Duration, ['', 'h', '1d', 20])
  takes(IsoDate, ['2026-11-24', '2028-02-29'])
  refuses(IsoDate, ['2026-02-29', '2026-13-01', '24.11.2026', '2026-11-24T00:00:00Z', new Date()])
})

test('names are those that Kubernetes and HTTP take', () => {
  takes(ObjectName, ['pro', 'a', 'pro-2.eu'])
  refuses(ObjectName, ['', 'Pro', '-pro', 'pro-', 'pro_2', 'a'.repeat(254), 'pro\n'])
  takes(HeaderName, ['x-farebox-tier', 'X-Tier2'])
  refuses(HeaderName, ['', 'x tier', 'x_tier', 'x:', 'é'])
})

test('a model pattern may end in a star, and has no other', () => {
  takes(ModelPattern, ['gpt-4o', 'gpt-4o*', '*'])
  refuses(ModelPattern, ['', 'gpt-*-mini', '**', '*o'])
})

test('a map holds as many entries as it says', () => {
  const map = boundedMap(text(0, 4), 2, { pattern: /^[a-z]$/, message: 'keys must be letters' })
  takes(map, [{}, { a: '1', b: '2' }])
  assert.equal(messageOf(map, { a: '1', b: '2', c: '3' }), 'must be at most 2 entries')
  refuses(map, [{ a: 1 }, { a: '12345' }, []])
})
