import assert from 'node:assert/strict'
import { test } from 'node:test'
import { generatedFiles, staleFiles } from './generated-files.ts'

test('each kind has a definition and a page, and a list names the pages', () => {
  const files = generatedFiles()
  assert.deepEqual(
    [...files.keys()],
    [
      'crds/generated/farebox.dev_pricingtiers.yaml',
      'crds/generated/farebox.dev_conversationbudgets.yaml',
      'crds/generated/farebox.dev_pricebooks.yaml',
      'charts/farebox-crds/templates/farebox.dev_pricingtiers.yaml',
      'charts/farebox-crds/templates/farebox.dev_conversationbudgets.yaml',
      'charts/farebox-crds/templates/farebox.dev_pricebooks.yaml',
      'docs/reference/pricing-tier.md',
      'docs/reference/conversation-budget.md',
      'docs/reference/price-book.md',
      'docs/reference/README.md',
    ],
  )
  const index = files.get('docs/reference/README.md') ?? ''
  for (const page of ['pricing-tier.md', 'conversation-budget.md', 'price-book.md']) assert.ok(index.includes(`(${page})`), page)
})

test('a page shows type, default, bounds and meaning of a field, and what its rules say', () => {
  const page = generatedFiles().get('docs/reference/pricing-tier.md') ?? ''
  const row = (field: string): string => page.split('\n').find((line) => line.startsWith(`| \`${field}\` |`)) ?? ''
  assert.equal(
    row('spec.context.keepRecentTurns'),
    '| `spec.context.keepRecentTurns` | number | `3` | 1 to 1000 | The newest user turns, which no summary touches but the recap of a session that ends. Where the window is too small for them they are left out as well, down to the last one. |',
  )
  assert.match(row('spec.displayName'), /\| text \| \*required\* \| 1 to 64 characters \|/)
  assert.match(row('spec.ladder[].end'), /\| choice \| {2}\| `Close`, `Reset`, `Refuse` \|/)
  assert.match(row('spec.alerts'), /\| list of numbers \| `\[70, 90, 100\]` \| at most 16 items, none twice; each 1 to 100 \|/)
  assert.match(
    page,
    /\| `spec.ladder\[\]` \| `end` is for EndConversation only \| `!has\(self.end\) \\\|\\\| self.rung == 'EndConversation'` \|/,
  )
})

test('a page says whose defaults the API server is not told of', () => {
  const page = (name: string): string => generatedFiles().get(`docs/reference/${name}.md`) ?? ''
  const ofLists = 'shows defaults but for those of fields in a list (`[]`)'
  assert.ok(page('pricing-tier').includes(`${ofLists}, which hold all the same`))
  assert.ok(
    page('conversation-budget').includes(`${ofLists}, of \`spec.identity.carriers\` and of \`spec.identity.userCarriers\`, which hold`),
  )
})

test('no table of a page has a line with another number of cells', () => {
  for (const [path, text] of generatedFiles()) {
    let cells = 0
    for (const line of text.split('\n').filter(() => path.endsWith('.md'))) {
      const found = line.startsWith('|') ? line.split(/(?<!\\)\|/).length : 0
      if (found > 0 && cells > 0) assert.equal(found, cells, `${path}: ${line}`)
      cells = found
    }
  }
})

test('files that differ, are missing or are no longer wanted are stale, and each is named', () => {
  const wanted = new Map([
    ['a', '1'],
    ['b', '2'],
    ['c', '3'],
  ])
  assert.deepEqual(staleFiles(wanted, wanted), [])
  assert.deepEqual(
    staleFiles(
      wanted,
      new Map([
        ['z', ''],
        ['b', 'changed'],
        ['c', '3'],
      ]),
    ),
    ['a', 'b', 'z'],
  )
})
