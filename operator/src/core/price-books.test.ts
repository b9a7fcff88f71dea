/** Which PriceBook counts where two price the same, and which is named for a price. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { formatPricePerMillion } from '@farebox/crds/usd.ts'
import { readManifests } from './manifests.ts'
import { pricesOf } from './price-books.ts'

const NOW_MS = Date.UTC(2026, 10, 1)

test('of two books that price a model alike the one whose name comes last counts, in whatever order they are, and is named', () => {
  const priced = ['a', 'z'].map((name, index) =>
    book(name, `{ provider: openai, model: gpt-4o, input: "${index + 1}.00", output: "9.00" }`),
  )
  for (const books of [priced, priced.toReversed()]) {
    const { list, bookOf } = pricesFrom(books)
    const found = list.find('openai', 'gpt-4o', NOW_MS)
    assert.equal(found === null ? null : formatPricePerMillion(found.pricesFor(1, null).uncachedInput), '2.00')
    assert.equal(bookOf('openai', 'gpt-4o', NOW_MS), 'z')
  }
})

test('names no book for a model that only the catalogue prices, nor for an entry of a day to come', () => {
  const { bookOf } = pricesFrom([book('house', '{ provider: openai, model: gpt-4o, from: "2026-12-01", input: "1.00", output: "9.00" }')])
  assert.equal(bookOf('openai', 'gpt-4o-mini', NOW_MS), null)
  assert.equal(bookOf('openai', 'gpt-4o', NOW_MS), null)
  assert.equal(bookOf('openai', 'gpt-4o', Date.UTC(2026, 11, 1)), 'house')
})

function book(name: string, entry: string): string {
  return `apiVersion: farebox.dev/v1alpha1\nkind: PriceBook\nmetadata: { name: ${name} }\nspec: { entries: [${entry}] }\n`
}

function pricesFrom(books: readonly string[]) {
  const { snapshot, problems } = readManifests([{ path: 'books.yaml', text: books.join('---\n') }])
  assert.deepEqual(problems, [])
  return pricesOf(snapshot, NOW_MS)
}
