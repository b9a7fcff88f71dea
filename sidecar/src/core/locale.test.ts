import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { lookUpLocale, readerLocales } from './locale.ts'

test('a header as browsers send it gives its languages, best first', () => {
  assert.deepEqual(readerLocales('de-CH,de;q=0.9,en-US;q=0.8,en;q=0.7'), ['de-ch', 'de', 'en-us', 'en'])
  assert.deepEqual(readerLocales('en;q=0.2, fr'), ['fr', 'en'])
})

test('languages of the same quality keep their order', () => {
  assert.deepEqual(readerLocales('b, a, c;q=0.5, d;q=0.5'), ['b', 'a', 'c', 'd'])
})

test('what is refused, any language, and what is no language are left out', () => {
  assert.deepEqual(readerLocales('de;q=0, *, en;q=1.1, fr;q=0.1234, it;q=.5, é, es;q=0.001'), ['es'])
})

test('whatever the header holds, at most 32 languages are read, from its first kilobyte', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 3_000 }), (header) => {
      const locales = readerLocales(header)
      assert.ok(locales.length <= 32 && locales.every((tag) => /^[a-z]{1,8}(-[a-z0-9]{1,8})*$/.test(tag)))
    }),
  )
  assert.deepEqual(readerLocales(`${' '.repeat(1_024)}de`), [])
})

test('the first language that is at hand wins: as itself, wider, then narrower', () => {
  assert.equal(lookUpLocale(['pt-br', 'de'], ['de', 'pt-BR']), 'pt-BR')
  assert.equal(lookUpLocale(['pt-br', 'de'], ['de', 'pt']), 'pt')
  assert.equal(lookUpLocale(['pt', 'de'], ['de', 'pt-BR']), 'pt-BR')
  assert.equal(lookUpLocale(['de-CH'], ['de-AT', 'de-CH', 'de']), 'de-CH')
  assert.equal(lookUpLocale(['d'], ['de']), null)
  assert.equal(lookUpLocale([], ['de']), null)
})
