/** docs/conditions.md lists every reason that a condition can have, and no other. */
import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { SKIP_REASONS } from '@farebox/crds/cluster.ts'

/** The page says which of the chart's alerts go by conditions; `test/charts/alerts.test.ts` looks at these. */
const ALERTS = readFileSync(new URL('../charts/farebox/alerts.yaml', import.meta.url), 'utf8')
const PAGE = readFileSync(new URL('../docs/conditions.md', import.meta.url), 'utf8')
const SOURCES = globSync('operator/src/{core,controllers}/*.ts').filter((file) => !file.endsWith('.test.ts'))
const NAMED = [/said\('(?:True|False|Unknown)', '(\w+)'/g, /reason: '([A-Z]\w+)'/g, /refused\(\s*'([A-Z]\w+)'/g]
/** Of events, of pods without a sidecar (docs/injection.md), of the API server, and the summary. */
const OTHERS = new Set<string>([...SKIP_REASONS, 'FareboxInjected', 'FareboxSkipped', 'Forbidden', 'Ready'])

test('the page of conditions lists each reason', () => {
  const said = new Set<string>()
  for (const file of SOURCES)
    for (const pattern of NAMED)
      for (const [, reason = ''] of readFileSync(file, 'utf8').matchAll(pattern)) if (!OTHERS.has(reason)) said.add(reason)
  const listed = new Set(
    [...PAGE.matchAll(/^\| [^|]*/gm)].flatMap(([cell]) => [...cell.matchAll(/`(\w+)`/g)].map(([, reason = '']) => reason)),
  )
  assert.deepEqual(
    [...said].filter((reason) => !listed.has(reason)),
    [],
    'not listed',
  )
  const known = SOURCES.map((file) => readFileSync(file, 'utf8')).join('')
  assert.deepEqual(
    [...listed].filter((reason) => !known.includes(`'${reason}'`) && !ALERTS.includes(`- alert: ${reason}\n`)),
    [],
    'said by nobody',
  )
})
