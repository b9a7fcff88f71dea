/** docs/conformance.md names the tests of each case, and each test that names a case. */
import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { test } from 'node:test'

const PAGE = readFileSync(new URL('../docs/conformance.md', import.meta.url), 'utf8')
/** Each case that a name begins with. */
const NAMED = /['`"](T\d+(?:, T\d+)*): /g

function casesIn(file: string): ReadonlySet<string> {
  return new Set([...readFileSync(file, 'utf8').matchAll(NAMED)].flatMap(([, names = '']) => names.split(', ')))
}

function rowsOfPage(): ReadonlyMap<string, ReadonlySet<string>> {
  const rows = PAGE.matchAll(/^\| (T\d+) \| [^|]+ \| ([^|]+) \|$/gm)
  return new Map(
    [...rows].map(([, name = '', files = '']) => [name, new Set([...files.matchAll(/`([^`]+)`/g)].map(([, file = '']) => file))]),
  )
}

test('the page of conformance names the tests of each case, all of them and no others', () => {
  const found = new Map<string, Set<string>>()
  const files = globSync(['{crds,operator,sidecar}/src/**/*.test.ts', 'test/**/*.test.ts'], { exclude: (name) => name === 'node_modules' })
  for (const file of files.toSorted()) for (const name of casesIn(file)) found.set(name, (found.get(name) ?? new Set()).add(file))
  const page = rowsOfPage()
  assert.ok(page.size > 60, `${page.size} cases`)
  assert.deepEqual([...page.keys()].toSorted(), [...found.keys()].toSorted())
  for (const [name, where] of page) assert.deepEqual(where, found.get(name), name)
})
