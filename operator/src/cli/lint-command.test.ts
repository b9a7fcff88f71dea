import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join, relative } from 'node:path'
import { after, beforeEach, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { formatComplaint } from '../laptop/loaded-manifests.ts'
import { lint } from './lint-command.ts'

const MAIN = fileURLToPath(new URL('main.ts', import.meta.url))
const EXAMPLE = fileURLToPath(new URL('../../../examples/support-desk', import.meta.url))
const TIER = `apiVersion: farebox.dev/v1alpha1
kind: PricingTier
metadata:
  name: pro
spec:
  displayName: Pro
  pricing: { model: FlatPerUser, price: "19.00", period: { unit: Month } }
  unitEconomics:
    targetGrossMarginPercent: 70
    otherCost: "2.70"
    expectedConversationsPerUser: 6
  ladder:
    - { atPercent: 70, rung: DropRetrieval }
    - { atPercent: 90, rung: DowngradeModel }
  models: { downgrades: [{ from: gpt-4o, to: gpt-4o-mini }] }
`
const BUDGET = `apiVersion: farebox.dev/v1alpha1
kind: ConversationBudget
metadata:
  name: desk
  namespace: support
spec:
  selector:
    matchLabels: { app: desk }
  tier:
    default: pro
`

const folder = mkdtempSync(join(tmpdir(), 'farebox-lint-'))
const tierFile = join(folder, 'tier.yaml')
const budgetFile = join(folder, 'budget.yaml')
beforeEach(() => {
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder)
})
after(() => rmSync(folder, { recursive: true, force: true }))

interface Case {
  readonly name: string
  readonly tier?: readonly [from: string, to: string]
  readonly budget?: readonly [from: string, to: string]
  readonly file: string
  readonly line: number
  readonly field: string
  readonly says: RegExp
}

const CASES: readonly Case[] = [
  {
    name: 'an unknown field, with the nearest known one',
    tier: ['otherCost:', 'otherCosts:'],
    file: tierFile,
    line: 10,
    field: 'spec.unitEconomics.otherCosts',
    says: /otherCost\b/,
  },
  {
    name: 'a missing number',
    tier: ['    targetGrossMarginPercent: 70\n', ''],
    file: tierFile,
    line: 8,
    field: 'spec.unitEconomics.targetGrossMarginPercent',
    says: /must|required/,
  },
  {
    name: 'a number that this pricing model needs',
    tier: ['    expectedConversationsPerUser: 6\n', ''],
    file: tierFile,
    line: 8,
    field: 'spec.unitEconomics.expectedConversationsPerUser',
    says: /required for FlatPerUser/,
  },
  {
    name: 'a margin that leaves nothing',
    tier: ['targetGrossMarginPercent: 70', 'targetGrossMarginPercent: 90'],
    file: tierFile,
    line: 9,
    field: 'spec.unitEconomics.targetGrossMarginPercent',
    says: /nothing is left for inference/,
  },
  {
    name: 'rungs out of order',
    tier: ['rung: DropRetrieval', 'rung: RefuseTools'],
    file: tierFile,
    line: 12,
    field: 'spec.ladder',
    says: /in this order/,
  },
  {
    name: 'thresholds that fall',
    tier: ['atPercent: 90', 'atPercent: 60'],
    file: tierFile,
    line: 12,
    field: 'spec.ladder',
    says: /must not fall/,
  },
  {
    name: 'an unknown tier',
    budget: ['default: pro', 'default: por'],
    file: budgetFile,
    line: 10,
    field: 'spec.tier.default',
    says: /no PricingTier "por"/,
  },
  {
    name: 'an upstream at the path of the app API',
    budget: ['    default: pro\n', '    default: pro\n  upstreams:\n    - { name: farebox, baseURL: "https://api.openai.com/v1" }\n'],
    file: budgetFile,
    line: 12,
    field: 'spec.upstreams[0].name',
    says: /must not be farebox/,
  },
  { name: 'a price as a float', tier: ['"19.00"', '19.00'], file: tierFile, line: 7, field: 'spec.pricing.price', says: /quotes/ },
  {
    name: 'a name that YAML 1.1 reads as a boolean',
    budget: ['app: desk', 'app: on'],
    file: budgetFile,
    line: 8,
    field: 'spec.selector.matchLabels.app',
    says: /kubectl reads this as true.*quotes/,
  },
  {
    name: 'a number that YAML 1.1 reads as octal',
    tier: ['expectedConversationsPerUser: 6', 'expectedConversationsPerUser: 010'],
    file: tierFile,
    line: 11,
    field: 'spec.unitEconomics.expectedConversationsPerUser',
    says: /kubectl reads this as 8/,
  },
  {
    name: 'a number with underscores, which is one to kubectl only',
    tier: ['expectedConversationsPerUser: 6', 'expectedConversationsPerUser: 1_000'],
    file: tierFile,
    line: 11,
    field: 'spec.unitEconomics.expectedConversationsPerUser',
    says: /^kubectl reads this as 1000: write it so$/,
  },
  {
    name: 'a time of day, which YAML 1.1 counts in seconds',
    tier: ['displayName: Pro', 'displayName: 12:30:45'],
    file: tierFile,
    line: 6,
    field: 'spec.displayName',
    says: /^YAML 1\.1 reads this as 45045.*quotes$/,
  },
  {
    name: 'a template that was not rendered',
    tier: ['displayName: Pro', 'displayName: {{ .Values.name }}'],
    file: tierFile,
    line: 6,
    field: '',
    says: /not YAML: .*template/,
  },
  {
    name: 'an unknown field of any name',
    tier: ['displayName: Pro', 'displayName: Pro\n  "x[": 1'],
    file: tierFile,
    line: 7,
    field: 'spec.x[',
    says: /not a field here/,
  },
  { name: 'broken YAML', tier: ['spec:', 'spec: ['], file: tierFile, line: 0, field: '', says: /not YAML/ },
]

describe('lint says one line with file, line and field for', () => {
  for (const { name, tier, budget, file, line, field, says } of CASES) {
    test(name, async () => {
      write(tierFile, TIER, tier)
      write(budgetFile, BUDGET, budget)
      const complaints = await lint([folder])
      const own = complaints.filter((complaint) => complaint.file === file && complaint.field === field)
      assert.equal(own.length, 1, complaints.map(formatComplaint).join('\n'))
      const [complaint] = own
      assert.ok(complaint)
      assert.match(complaint.message, says)
      assert.equal(complaint.severity, 'error')
      if (line > 0) assert.equal(complaint.line, line)
      assert.doesNotMatch(formatComplaint(complaint), /\n/)
      assert.ok(complaints.length === 1, complaints.map(formatComplaint).join('\n'))
    })
  }

  test('a name that is there twice, with the place of the first', async () => {
    write(tierFile, TIER)
    write(budgetFile, BUDGET)
    writeFileSync(join(folder, 'zz-again.yaml'), TIER)
    const [complaint, ...others] = await lint([folder])
    assert.deepEqual(others, [])
    assert.ok(complaint)
    assert.equal(complaint.field, 'metadata.name')
    assert.match(complaint.message, /declared twice.*tier\.yaml:4/)
  })

  test('a budget whose pods an older one governs, as a warning', async () => {
    write(tierFile, TIER)
    write(budgetFile, BUDGET)
    writeFileSync(join(folder, 'second.yaml'), BUDGET.replace('name: desk', 'name: desk-two'))
    const complaints = await lint([folder])
    assert.deepEqual(
      complaints.map(({ severity, field }) => [severity, field]),
      [['warning', 'spec.selector']],
    )
    assert.match(
      complaints[0]?.message ?? '',
      /^ConversationBudget "desk" comes first by name \(in a cluster the older one does\) and selects the same pods: /,
    )
    const born = (name: string, year: number): string =>
      BUDGET.replace('name: desk', `name: ${name}\n  creationTimestamp: "${year}-01-01T00:00:00Z"`)
    write(budgetFile, born('desk', 2026))
    writeFileSync(join(folder, 'second.yaml'), born('desk-two', 2025))
    assert.match((await lint([folder]))[0]?.message ?? '', /^ConversationBudget "desk-two" is older and selects the same pods: /)
  })

  test('an exchange rate, a price and an upgrade that are not as their author may think, as warnings', async () => {
    write(tierFile, TIER, ['  ladder:', '  upgrade: { tier: lite, whenUserExceedsPercent: 80 }\n  ladder:'])
    writeFileSync(join(folder, 'lite.yaml'), TIER.replace('name: pro', 'name: lite').replace('"19.00"', '"12.00"'))
    const book = (name: string, spec: string): void =>
      writeFileSync(
        join(folder, `${name}.yaml`),
        `apiVersion: farebox.dev/v1alpha1\nkind: PriceBook\nmetadata: { name: ${name} }\nspec: { ${spec} }\n`,
      )
    book('rates', 'exchangeRates: { JPY: "150" }')
    book('thousand', 'entries: [{ provider: openai, model: gpt-4o, input: "0.0025" }]')
    const complaints = await lint([folder])
    assert.deepEqual(
      complaints.map(({ severity, file, field }) => [severity, basename(file), field]),
      [
        ['warning', 'rates.yaml', 'spec.exchangeRates.JPY'],
        ['warning', 'thousand.yaml', 'spec.entries[0].input'],
        ['warning', 'tier.yaml', 'spec.upgrade.tier'],
      ],
    )
  })

  test('a budget whose pods are all, or in part, those of an older one by the labels alone, as a warning', async () => {
    write(tierFile, TIER)
    write(budgetFile, BUDGET)
    const selector = /matchLabels: \{ ?(.*?) ?\}/
    assert.match(BUDGET, selector)
    writeFileSync(
      join(folder, 'second.yaml'),
      BUDGET.replace('name: desk', 'name: desk-two').replace(selector, 'matchLabels: { $1, tier: web }'),
    )
    const complaints = await lint([folder])
    assert.deepEqual(
      complaints.map(({ severity, file, field }) => [severity, file, field]),
      [['warning', join(folder, 'second.yaml'), 'spec.selector']],
    )
    assert.match(
      complaints[0]?.message ?? '',
      /^ConversationBudget "desk" comes first by name \(in a cluster the older one does\) and selects some of the same pods, which it governs/,
    )
  })

  test('what comes by a pipe, whatever names it', () => {
    write(budgetFile, BUDGET)
    const linted = (command: string, input: string): readonly [number | null, string] => {
      const { status, stdout } = spawnSync('bash', ['-c', command, 'bash', process.execPath, MAIN, budgetFile], { encoding: 'utf8', input })
      return [status, stdout]
    }
    const wrong = TIER.replace('displayName: Pro', 'displayNme: Pro')
    assert.notEqual(wrong, TIER)
    assert.deepEqual(linted('"$1" "$2" lint - "$3"', TIER), [0, ''])
    assert.deepEqual(linted('"$1" "$2" lint "$3" <(cat)', TIER), [0, ''])
    const [code, said] = linted('"$1" "$2" lint -', wrong)
    assert.equal(code, 1)
    assert.match(said, /^standard input:6: spec\.displayNme: is not a field here/m)
    assert.match(linted('cat | "$1" "$2" lint /dev/stdin', wrong)[1], /^\/dev\/stdin:6: spec\.displayNme: /m)
    assert.match(linted('printf "\\377" | "$1" "$2" lint -', '')[1], /^standard input: must be UTF-8/)
  })

  test('a folder without manifests', async () => {
    assert.deepEqual((await lint([folder])).map(formatComplaint), [`${folder}: must hold at least one .yaml, .yml or .json file`])
  })

  test('a folder whose files hold nothing of ours', async () => {
    writeFileSync(join(folder, 'service.yaml'), 'apiVersion: v1\nkind: Service\nmetadata: { name: x }\n')
    const [complaint, ...others] = await lint([folder])
    assert.deepEqual(others, [])
    assert.match(complaint?.message ?? '', /no PricingTier, ConversationBudget or PriceBook/)
  })

  test('an alias that stands for more than anybody wrote', async () => {
    const lists = ['b', 'c', 'd', 'e', 'f', 'g'].map((name, index) => {
      const before = 'abcdefg'[index] ?? ''
      return `${name}: &${name} [${Array.from({ length: 20 }, () => `*${before}`).join(', ')}]`
    })
    writeFileSync(tierFile, `${TIER}a: &a [x]\n${lists.join('\n')}\n`)
    const startedAt = performance.now()
    assert.match((await lint([folder])).map(formatComplaint).join('\n'), /^\S+tier\.yaml:1: must have fewer than 100000 parts[^\n]*$/)
    writeFileSync(tierFile, 'kind: List\nitems: &a [{ kind: List, items: *a }]\n')
    assert.match((await lint([folder])).map(formatComplaint).join('\n'), /^\S+tier\.yaml:1: must have fewer than 100000 parts[^\n]*$/)
    assert.ok(performance.now() - startedAt < 2_000)
  })

  test('each file that cannot be read, and what is wrong with the others', async () => {
    symlinkSync('nowhere', join(folder, 'a.yaml'))
    writeFileSync(join(folder, 'latin1.yaml'), Uint8Array.of(0x61, 0x3a, 0x20, 0xf6))
    write(tierFile, TIER, ['price: "19.00"', 'price: 19.5'])
    const told = (await lint([folder])).map(formatComplaint).map((line) => line.slice(folder.length + 1))
    assert.deepEqual(told, [
      'a.yaml: no such file or folder',
      'latin1.yaml: must be UTF-8',
      'tier.yaml:7: spec.pricing.price: must be a decimal in quotes, such as "0.50"; found the number 19.5',
    ])
  })

  test('a path that is not there', async () => {
    const path = join(folder, 'nowhere')
    assert.deepEqual((await lint([path])).map(formatComplaint), [`${path}: no such file or folder`])
  })
})

test('lint says nothing of manifests that are well', async () => {
  assert.deepEqual(await lint([EXAMPLE]), [])
})

test('lint reads a file once that is named twice, however it is named', async () => {
  write(tierFile, TIER)
  assert.deepEqual(await lint([folder, tierFile]), [])
  assert.deepEqual(await lint([folder, relative(process.cwd(), tierFile), `${folder}/../${basename(folder)}/tier.yaml`]), [])
})

function write(path: string, text: string, change?: readonly [from: string, to: string]): void {
  const changed = change === undefined ? text : text.replace(change[0], change[1])
  assert.ok(change === undefined || changed !== text, 'the case changes something')
  writeFileSync(path, changed)
}
