import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { canonicalJson, chainedDigest, originalDigest } from './digest.ts'
import { inlineNotice, noticeFinder } from './notice-frame.ts'
import type { Json, JsonObject } from './request.ts'
import { assistant, call, conversations, message, user } from './requests.testing.ts'

const digest = (json: JsonObject, notices: readonly string[] = []): string => originalDigest(message(json), noticeFinder(notices))

/** The same value with its keys in another order. */
function reordered(value: Json): Json {
  if (Array.isArray(value)) return value.map(reordered)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .toReversed()
      .map(([key, field]) => [key, reordered(field ?? null)]),
  )
}

test('a digest is stable under re-serialisation: key order, whitespace, escapes, empty fields', () => {
  fc.assert(
    fc.property(conversations(), (messages) => {
      for (const json of messages) {
        const text = JSON.stringify(reordered(json), null, 2)
        // What is escaped already stays as it is.
        const again: JsonObject = JSON.parse(text.replaceAll(/\\u.{4}|\\.|e/g, (found) => (found === 'e' ? '\\u0065' : found)))
        assert.equal(digest({ ...again, refusal: null, annotations: [], audio: {} }), digest(json))
      }
    }),
    { numRuns: 30 },
  )
})

test('a text is the same bare and alone in a list, marked for the cache or not', () => {
  const alone = digest(user([{ type: 'text', text: 'a' }]))
  assert.equal(alone, digest(user('a')))
  assert.equal(alone, digest(user([{ type: 'text', text: 'a', cache_control: { type: 'ephemeral' } }])))
})

test('marks for the cache may move to any place: they name nothing', () => {
  const mark = { cache_control: { type: 'ephemeral' } }
  const parts: readonly JsonObject[] = [
    { type: 'text', text: 'a' },
    { type: 'image_url', image_url: { url: 'https://x/a.png' } },
  ]
  const plain = digest(user(parts))
  for (const marked of parts) assert.equal(digest(user(parts.map((part) => (part === marked ? { ...part, ...mark } : part)))), plain)
  assert.equal(digest({ ...user(parts), prompt_cache_breakpoint: true }), plain)
})

test('a link names its file, by whichever signature', () => {
  const picture = (query: string): string => digest(user([{ type: 'image_url', image_url: { url: `https://x/a.png${query}` } }]))
  assert.equal(picture('?sv=1&se=1&sig=1'), picture('?sv=1&se=2&sig=2'))
  assert.notEqual(picture('?id=1&sv=1&se=1&sig=1'), picture('?id=2&sv=1&se=1&sig=1'))
})

test('a digest tells apart what a model would read differently', () => {
  const picture = (url: string): JsonObject => user([{ type: 'image_url', image_url: { url } }])
  const all = [
    user('a'),
    user('a '),
    assistant('a'),
    user([
      { type: 'text', text: 'a' },
      { type: 'text', text: 'a' },
    ]),
    user([{ type: 'text', text: 'a', name: 'b' }]),
    { role: 'assistant', content: [{ type: 'reasoning_text', text: 'a' }] },
    picture('https://x/a.png'),
    picture('https://x/b.png'),
    call({ id: '1', name: 'a' }),
    call({ id: '2', name: 'a' }),
    call({ id: '1', name: 'b' }),
    { ...user('a'), name: 'b' },
  ]
  assert.equal(new Set(all.map((json) => digest(json))).size, all.length)
  assert.notEqual(chainedDigest(['a', 'b']), chainedDigest(['b', 'a']))
  assert.match(digest(user('a')), /^[0-9a-f]{32}$/)
})

test('a notice in an answer does not change its digest', () => {
  const notice = 'Note: earlier turns were summarised.'
  assert.equal(digest(assistant(`Nine.${inlineNotice(notice)}`), [notice]), digest(assistant('Nine.')))
  assert.notEqual(digest(user(`Nine.${inlineNotice(notice)}`), [notice]), digest(user('Nine.')))
})

test('nesting without end is cut off, not followed', () => {
  for (const around of [(inner: Json): Json => [inner], (inner: Json): Json => ({ inner })]) {
    let deep: Json = 'x'
    for (let depth = 0; depth < 100_000; depth++) deep = around(deep)
    assert.equal(canonicalJson({ deep }).length < 500, true)
  }
})

test('a very long text counts by its ends and its length', () => {
  const long = (middle: string, end = ''): string => digest(user('x'.repeat(1 << 20) + middle + 'x'.repeat(1 << 20) + end))
  assert.equal(canonicalJson({ long: 'x'.repeat(1 << 22) }).length < 1_100_000, true)
  assert.notEqual(long('a'), long('ab'))
  assert.notEqual(long('a', 'y'), long('a', 'z'))
})
