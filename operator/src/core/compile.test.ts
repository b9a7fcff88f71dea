/**
 * Golden cases: `testdata/NAME.in.yaml` is what an author wrote, `NAME.out.yaml` all that follows from it: the problems of
 * the files, or else the findings, the configs and the statuses. `UPDATE_GOLDENS=1` writes the second anew: read the diff.
 *
 * The first document of an input may be `golden:`, with `now` (an instant), `before` (manifests, as one text, whose
 * configs were in force a minute earlier) and `notUnderstood` (what an API server has besides).
 */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { checkObject } from '@farebox/crds/check.ts'
import { SidecarConfigSchema } from '@farebox/crds/sidecar-config.ts'
import { parseUsd } from '@farebox/crds/usd.ts'
import { dump, load, loadAll } from 'js-yaml'
import * as z from 'zod'
import { canonicalJson, contentHash } from './canonical.ts'
import { compile } from './compile.ts'
import type { Compiled } from './compile.ts'
import { readManifests } from './manifests.ts'
import type { Manifests } from './manifests.ts'

const TESTDATA = fileURLToPath(new URL('testdata/', import.meta.url))
const UPDATES = process.env['UPDATE_GOLDENS'] === '1'
const CASES_MIN = 32
const MINUTE_MS = 60_000

const NOW = '2026-11-24T12:00:00Z'
const NotUnderstood = z.array(
  z.strictObject({ name: z.string(), problems: z.array(z.strictObject({ field: z.string(), message: z.string() })) }),
)
const Golden = z.strictObject({
  golden: z.strictObject({
    now: z.iso.datetime().default(NOW),
    before: z.string().optional(),
    notUnderstood: z
      .strictObject({ tiers: NotUnderstood.default([]), budgets: NotUnderstood.default([]), priceBooks: NotUnderstood.default([]) })
      .optional(),
  }),
})

const names = readdirSync(TESTDATA)
  .filter((file) => file.endsWith('.in.yaml'))
  .map((file) => file.slice(0, -'.in.yaml'.length))

for (const name of names) {
  test(`golden: ${name}`, () => {
    const input = readFileSync(`${TESTDATA}${name}.in.yaml`, 'utf8')
    const { manifests, compiled } = outcomeOf(input)
    const output = dump(describe(manifests, compiled), { noRefs: true, sortKeys: true, lineWidth: 140, flowLevel: 5 })
    const path = `${TESTDATA}${name}.out.yaml`
    if (UPDATES) writeFileSync(path, output)
    assert.deepEqual(load(output), load(readFileSync(path, 'utf8')))
    assert.equal(output, readFileSync(path, 'utf8'))

    for (const config of compiled?.configs.values() ?? []) {
      assert.deepEqual(SidecarConfigSchema.parse(JSON.parse(JSON.stringify(config))), config, 'a sidecar reads what compile writes')
    }
    for (const object of objectsOf(manifests)) {
      const status = compiled?.statuses.get(objectName(object))
      if (status !== undefined) assert.equal(checkObject({ ...object, status }).status, 'ok', 'a status fits its schema')
    }
  })
}

test('there are enough golden cases, and no output without an input', () => {
  assert.ok(names.length >= CASES_MIN, `${names.length} cases`)
  const outputs = readdirSync(TESTDATA).filter((file) => file.endsWith('.out.yaml'))
  assert.deepEqual(outputs.toSorted(), names.map((name) => `${name}.out.yaml`).toSorted())
})

test('every reason that compile can give is in a golden case', () => {
  const sources = [
    'compile.ts',
    'compile-tier.ts',
    'compile-budget.ts',
    'judged-budgets.ts',
    'price-book-findings.ts',
    'upgrades.ts',
    'unlikely-models.ts',
    'unlikely-upstreams.ts',
    'conditions.ts',
  ].map((file) => readFileSync(new URL(file, import.meta.url), 'utf8'))
  const reasons = new Set([...sources.join('\n').matchAll(/reason: '([A-Z][A-Za-z]+)'/g)].map(([, reason]) => reason))
  assert.ok(reasons.size >= 14, [...reasons].join(', '))
  const outputs = names.map((name) => readFileSync(`${TESTDATA}${name}.out.yaml`, 'utf8')).join('\n')
  for (const reason of reasons) assert.match(outputs, new RegExp(`reason: ${reason}\\b`))
})

test('what is compiled does not depend on the order of objects and keys', () => {
  for (const name of names) {
    const { manifests } = outcomeOf(readFileSync(`${TESTDATA}${name}.in.yaml`, 'utf8'))
    const { tiers, budgets, priceBooks } = manifests.snapshot
    const context = { nowMs: Date.UTC(2026, 10, 24), previous: new Map() }
    const straight = compile({ tiers, budgets, priceBooks }, context)
    const turned = compile(
      {
        tiers: tiers.toReversed().map(keysReversed),
        budgets: budgets.toReversed().map(keysReversed),
        priceBooks: priceBooks.toReversed().map(keysReversed),
      },
      context,
    )
    assert.equal(canonicalJson(Object.fromEntries(turned.configs)), canonicalJson(Object.fromEntries(straight.configs)), name)
    assert.equal(canonicalJson(Object.fromEntries(turned.statuses)), canonicalJson(Object.fromEntries(straight.statuses)), name)
  }
})

test('versions grow when the config map is gone and the clock was set back: status knows the last one', () => {
  const { manifests } = outcomeOf(readFileSync(`${TESTDATA}minimal.in.yaml`, 'utf8'))
  const { snapshot } = manifests
  const context = { nowMs: Date.parse(NOW), previous: new Map() }
  const hash = compile(snapshot, context).configs.get('default/desk')?.hash ?? ''
  const versionAfter = (config: { readonly version: number; readonly hash: string }): number | undefined => {
    const budgets = snapshot.budgets.map((budget) => ({ ...budget, status: { config } }))
    return compile({ ...snapshot, budgets }, context).configs.get('default/desk')?.version
  }
  const later = context.nowMs + 3_600_000
  assert.equal(versionAfter({ version: later, hash: '0'.repeat(16) }), later + 1)
  assert.equal(versionAfter({ version: later, hash }), later)
  assert.equal(versionAfter({ version: 1, hash: '0'.repeat(16) }), context.nowMs)
})

test('a hash is over everything but the version and itself, and changes with any of it', () => {
  const { compiled } = outcomeOf(readFileSync(`${TESTDATA}minimal.in.yaml`, 'utf8'))
  const config = compiled?.configs.get('default/desk')
  assert.ok(config !== undefined)
  const { hash, version: _version, ...content } = config
  assert.equal(contentHash(content), hash)
  assert.notEqual(contentHash({ ...content, mode: 'Observe' }), hash)
  for (const { hash: own, ...terms } of Object.values(config.contracts)) assert.equal(contentHash(terms), own)
})

test('no cap of an accepted tier is above what its margin leaves, unless its owner says so', () => {
  for (const name of names) {
    const { manifests, compiled } = outcomeOf(readFileSync(`${TESTDATA}${name}.in.yaml`, 'utf8'))
    for (const { metadata, spec } of manifests.snapshot.tiers) {
      const tier = compiled?.tiers.get(metadata.name)
      if (tier?.status !== 'accepted' || spec.budget.allowBelowMargin === 'Acknowledged') continue
      const price = parseUsd(spec.pricing.price)
      const kept = (price * BigInt(100 - spec.unitEconomics.targetGrossMarginPercent)) / 100n - parseUsd(spec.unitEconomics.otherCost)
      const most = spec.pricing.model === 'PerResolution' ? price - parseUsd(spec.unitEconomics.otherCost) : kept
      assert.ok(parseUsd(tier.derived.perConversation) <= most, name)
      assert.ok(parseUsd(tier.derived.targetPerConversation) <= kept, name)
    }
  }
})

function outcomeOf(input: string): { readonly manifests: Manifests; readonly compiled: Compiled | null } {
  const { now, before, notUnderstood } = Golden.parse(/^golden:/m.test(input) ? loadAll(input)[0] : { golden: {} }).golden
  const nowMs = Date.parse(now)
  const manifests = readManifests([{ path: 'in.yaml', text: input }])
  if (manifests.problems.length > 0) return { manifests, compiled: null }
  const earlier = before === undefined ? null : readManifests([{ path: 'before.yaml', text: before }])
  assert.deepEqual(earlier?.problems ?? [], [], 'what was in force was good')
  const previous = earlier === null ? new Map() : compile(earlier.snapshot, { nowMs: nowMs - MINUTE_MS, previous: new Map() }).configs
  const snapshot = { ...manifests.snapshot, ...(notUnderstood === undefined ? {} : { notUnderstood }) }
  return { manifests, compiled: compile(snapshot, { nowMs, previous }) }
}

function describe(manifests: Manifests, compiled: Compiled | null): object {
  if (compiled === null) {
    return { problems: manifests.problems.map(({ line, field, message }) => `${line}: ${field === '' ? '' : `${field} `}${message}`) }
  }
  return {
    findings: compiled.findings.map(({ object, field, reason, message }) => ({
      object,
      line: manifests.locate(object, field)?.line ?? null,
      field,
      reason,
      message,
    })),
    lines: Object.fromEntries(
      [...compiled.tiers].map(([name, { lines }]) => [name, lines.map(({ text, amount }) => `${text}: ${amount}`)]),
    ),
    configs: Object.fromEntries(compiled.configs),
    statuses: Object.fromEntries(compiled.statuses),
  }
}

type AnyObject =
  | Manifests['snapshot']['tiers'][number]
  | Manifests['snapshot']['budgets'][number]
  | Manifests['snapshot']['priceBooks'][number]

function objectsOf({ snapshot }: Manifests): readonly AnyObject[] {
  return [...snapshot.tiers, ...snapshot.budgets, ...snapshot.priceBooks]
}

function objectName({ kind, metadata }: AnyObject): string {
  return kind === 'ConversationBudget' ? `${kind}/${metadata.namespace ?? 'default'}/${metadata.name}` : `${kind}/${metadata.name}`
}

/** The same value with the keys of its mappings the other way round, all the way down. */
function keysReversed<T>(value: T): T {
  return JSON.parse(JSON.stringify(value), (_key, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part) ? Object.fromEntries(Object.entries(part).toReversed()) : part,
  ) as T
}
