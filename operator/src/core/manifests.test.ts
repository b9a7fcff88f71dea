import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readManifests } from './manifests.ts'

const TIER = `apiVersion: farebox.dev/v1alpha1
kind: PricingTier
metadata:
  name: pro
spec:
  displayName: Pro
  pricing: { model: PerConversation, price: "1.00" }
  unitEconomics:
    targetGrossMarginPercent: 50
`

function problemsOf(text: string, path = 'tiers.yaml'): string[] {
  return readManifests([{ path, text }]).problems.map(({ file, line, field, message }) => `${file}:${line}: ${field}: ${message}`)
}

test('a byte order mark at the head of a later document is none of its text, as where files of Windows were put together', () => {
  const mark = '\uFEFF'
  const book = (name: string): string =>
    `apiVersion: farebox.dev/v1alpha1\r\nkind: PriceBook\r\nmetadata: { name: ${name} }\r\nspec: {}\r\n`
  const text = `${mark}${book('a')}---\r\n${mark}${book('b')}--- # c\n${mark}${book('c')}`
  const { snapshot, problems, locate } = readManifests([{ path: 'all.yaml', text }])
  assert.deepEqual(problems, [])
  assert.deepEqual(
    snapshot.priceBooks.map(({ metadata }) => metadata.name),
    ['a', 'b', 'c'],
  )
  assert.deepEqual(locate('PriceBook/c', 'metadata.name'), { file: 'all.yaml', line: 13 })
})

test('a good file gives its objects, defaults filled in, and where each field stands', () => {
  const { snapshot, problems, locate } = readManifests([{ path: 'tiers.yaml', text: `# a comment\n---\n${TIER}` }])
  assert.deepEqual(problems, [])
  assert.equal(snapshot.tiers[0]?.spec.currency, 'USD')
  assert.equal(snapshot.tiers[0]?.spec.ladder.length, 5)
  assert.deepEqual(locate('PricingTier/pro', 'spec.unitEconomics.targetGrossMarginPercent'), { file: 'tiers.yaml', line: 11 })
  assert.deepEqual(locate('PricingTier/pro', 'spec.currency'), { file: 'tiers.yaml', line: 7 }, 'of an absent field, the nearest above it')
  assert.equal(locate('PricingTier/other', 'spec'), null)
})

test('each fault is one line with file, line, field and what must be', () => {
  const cases: Record<string, readonly [string, string]> = {
    'an unknown field': [
      TIER.replace('displayName', 'displayname'),
      'tiers.yaml:6: spec.displayname: is not a field here (did you mean displayName?)',
    ],
    'a missing number': [
      TIER.replace('    targetGrossMarginPercent: 50\n', '    otherCost: "0"\n'),
      'tiers.yaml:8: spec.unitEconomics.targetGrossMarginPercent: is required',
    ],
    'a price as a number': [
      TIER.replace('"1.00"', '1.50'),
      'tiers.yaml:7: spec.pricing.price: must be a decimal in quotes, such as "0.50"; found the number 1.5',
    ],
    'a list for a mapping': [
      TIER.replace('{ model: PerConversation, price: "1.00" }', '[]'),
      'tiers.yaml:7: spec.pricing: must be a mapping; found a list',
    ],
    'another choice': [
      TIER.replace('PerConversation', 'PerWord'),
      'tiers.yaml:7: spec.pricing.model: must be one of FlatPerUser, PerConversation, PerResolution',
    ],
    'a rule of the schema': [
      `${TIER}  ladder: [{ atPercent: 80, rung: Summarize }, { atPercent: 70, rung: DropRetrieval }]\n`,
      'tiers.yaml:10: spec.ladder: rungs must come in this order',
    ],
    'a namespace on a tier': [
      TIER.replace('name: pro', 'name: pro\n  namespace: shop'),
      'tiers.yaml:5: metadata.namespace: must be absent',
    ],
    'an unknown kind': [
      TIER.replace('PricingTier', 'PriceTier'),
      'tiers.yaml:2: kind: must be one of PricingTier, ConversationBudget, PriceBook',
    ],
    'another version': [TIER.replace('v1alpha1', 'v1'), 'tiers.yaml:1: apiVersion: must be farebox.dev/v1alpha1'],
    'what is not YAML': ['a: [1\nb: 2', 'tiers.yaml:2: : not YAML: '],
    'a key twice': [
      TIER.replace('  displayName: Pro', '  displayName: Pro\n  displayName: Pro'),
      'tiers.yaml:7: : not YAML: duplicated mapping key',
    ],
  }
  for (const [name, [text, expected]] of Object.entries(cases)) {
    const problems = problemsOf(text)
    assert.ok(
      problems.some((problem) => problem.includes(expected)),
      `${name}: ${problems.join('\n')}`,
    )
  }
})

test('what kubectl would read otherwise is said: names and values of YAML 1.1', () => {
  const text = `${TIER}  notices:\n    texts:\n      - occasion: End\n        text: { no: "Slutt" }\n`
  assert.deepEqual(problemsOf(text), [
    'tiers.yaml:13: spec.notices.texts[0].text.no: kubectl reads the name "no" as a boolean: put it in quotes',
  ])
  assert.deepEqual(problemsOf(TIER.replace('displayName: Pro', 'displayName: yes')), [
    'tiers.yaml:6: spec.displayName: kubectl reads this as true, not "yes": put it in quotes',
  ])
  assert.deepEqual(problemsOf(text.replace('no:', '"no":')), [])
})

test('an object declared twice names the first place', () => {
  const problems = readManifests([
    { path: 'a.yaml', text: TIER },
    { path: 'b.yaml', text: TIER },
  ]).problems
  assert.deepEqual(problems, [
    { file: 'b.yaml', line: 4, field: 'metadata.name', message: 'PricingTier/pro is declared twice: first in a.yaml:4' },
  ])
})

test('the items of a List are objects of the file, those of a List within it too, and their faults have lines', () => {
  const text = `apiVersion: v1
kind: List
items:
  - apiVersion: farebox.dev/v1alpha1
    kind: PriceBook
    metadata: { name: rates }
    spec: {}
  - { apiVersion: v1, kind: ConfigMap, metadata: { name: other } }
  - apiVersion: farebox.dev/v1alpha1
    kind: ConversationBudgetList
    items:
      - apiVersion: farebox.dev/v1alpha1
        kind: ConversationBudget
        metadata: { name: desk, namespace: support }
        spec:
          selector: { matchLabels: { app: desk } }
          tier: { default: pro }
`
  const { snapshot, problems, locate } = readManifests([{ path: 'all.yaml', text }])
  assert.deepEqual(problems, [])
  assert.deepEqual(
    [snapshot.tiers, snapshot.budgets, snapshot.priceBooks].map((objects) => objects.map(({ metadata }) => metadata.name)),
    [[], ['desk'], ['rates']],
  )
  assert.deepEqual(locate('ConversationBudget/support/desk', 'spec.tier.default'), { file: 'all.yaml', line: 17 })
  const changed = text.replace('spec: {}', 'spec: { entrys: [] }').replace('default: pro', 'defaults: pro')
  assert.deepEqual(problemsOf(changed), [
    'tiers.yaml:7: spec.entrys: is not a field here (did you mean entries?)',
    'tiers.yaml:17: spec.tier.defaults: is not a field here (did you mean default?)',
  ])
})

test('objects of ours that stand where kubectl reads none are told, and not left out; those of others may stand as they like', () => {
  const book = 'apiVersion: farebox.dev/v1alpha1, kind: PriceBook, metadata: { name: ours }, spec: {}'
  const inList = 'put "---" between objects, or make them the items of a List'
  const cases: readonly (readonly [text: string, ...problems: readonly string[]])[] = [
    [`- { ${book} }`, `1: : must be a mapping; found a list: ${inList}`],
    [`---\n# all prices\n- { kind: ConfigMap }\n- { ${book} }`, `3: : must be a mapping; found a list: ${inList}`],
    [`kind: List\nitems: { ${book} }`, '2: items: must be a list; found a mapping'],
    [`kind: List\nitems:\n  ours: { ${book} }`, '2: items: must be a list; found a mapping'],
    ['apiVersion: farebox.dev/v1alpha1\nkind: PriceBookList\nitems:', '3: items: must be a list; found nothing'],
    [
      `kind: List\nitems:\n  - { ${book} }\n  -\n  - text\n  - [{ ${book} }]`,
      '2: items[1]: must be a mapping; found nothing',
      '5: items[2]: must be a mapping; found a text',
      '6: items[3]: must be a mapping; found a list',
    ],
    [`kind: List\nitems:\n  - kind: List\n    items: [{ ${book} }, 2]`, '4: items[0].items[1]: must be a mapping; found the number 2'],
    [`kind: List\nitems: [[{ ${book} }]]`, '2: items[0]: must be a mapping; found a list'],
  ]
  for (const [text, ...problems] of cases) {
    const told = readManifests([
      { path: 'prices.yaml', text },
      { path: 'tiers.yaml', text: TIER },
    ]).problems.map(({ file, line, field, message }) => `${file}:${line}: ${field}: ${message}`)
    assert.deepEqual(
      told,
      problems.map((problem) => `prices.yaml:${problem}`),
      text,
    )
  }
  for (const other of [
    '- { kind: ConfigMap }',
    '- op: replace\n  path: /spec',
    'kind: List\nitems: [null, text, { kind: ConfigMap }, [2]]',
  ])
    assert.deepEqual(problemsOf(`${other}\n---\n${TIER}`), [], other)
})

test('problems come in the order of the file, whatever found them', () => {
  const text = `${TIER.replace('displayName: Pro', 'displayName: yes')}  colour: red\n`
  assert.deepEqual(
    problemsOf(text).map((problem) => problem.split(': ').slice(0, 2)),
    [
      ['tiers.yaml:6', 'spec.displayName'],
      ['tiers.yaml:10', 'spec.colour'],
    ],
  )
})

test('a template that was not rendered is told with its line, the first one too; another fault before it with its own', () => {
  const template = 'not YAML: "{{" begins a template, which must be rendered first'
  assert.deepEqual(problemsOf(`{{ include "labels" . }}:\n${TIER}`), [`tiers.yaml:1: : ${template}`])
  assert.deepEqual(problemsOf(TIER.replace('name: pro', 'name: {{ .Values.name }}')), [`tiers.yaml:4: : ${template}`])
  const twice = TIER.replace('  displayName: Pro', '  displayName: Pro\n  displayName: Pro')
  assert.deepEqual(problemsOf(`${twice}  upgrade: {{ .Values.upgrade }}\n`), ['tiers.yaml:7: : not YAML: duplicated mapping key'])
})

test('objects of others are left alone, and a folder without ours is said to be empty', () => {
  const deployment = 'apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: app }\n'
  for (const other of [deployment, 'replicas: 2\n', 'kind: 2\n', 'plain words\n', '# nothing\n', 'kind: NodeList\nitems: none\n'])
    assert.deepEqual(problemsOf(`${other}---\n${TIER}`), [], other)
  assert.deepEqual(problemsOf(deployment), ['tiers.yaml:1: : no PricingTier, ConversationBudget or PriceBook is here'])
  assert.equal(readManifests([]).problems.length, 1)
})
