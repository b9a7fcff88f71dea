import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'

const MAIN = fileURLToPath(new URL('main.ts', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'farebox-explain-'))
after(() => rmSync(folder, { recursive: true, force: true }))

const HEAD = 'apiVersion: farebox.dev/v1alpha1\nkind'
const TIER = `${HEAD}: PricingTier\nmetadata: { name: pro }\nspec:\n  displayName: Pro\n  pricing: { model: PerConversation, price: "1.00" }\n  unitEconomics: { targetGrossMarginPercent: 70 }\n`
const BUDGET = `${HEAD}: ConversationBudget\nmetadata: { name: desk }\nspec:\n  selector: { matchLabels: { app: desk } }\n  tier: { default: pro }\n`
const HALF = `${HEAD}: PriceBook\nmetadata: { name: house }\nspec: { entries: [{ provider: openai, model: house-large, input: "1.00" }] }\n`

function explained(...documents: readonly string[]): { readonly code: number | null; readonly last: string | undefined } {
  const { code, lines } = explainedWhole(...documents)
  return { code, last: lines.at(-1) }
}

function explainedWhole(...documents: readonly string[]): { readonly code: number | null; readonly lines: readonly string[] } {
  const file = join(folder, 'all.yaml')
  writeFileSync(file, documents.join('---\n'))
  const { status, stdout } = spawnSync(process.execPath, [MAIN, 'explain', 'budget', 'desk', '-f', file], { encoding: 'utf8' })
  return { code: status, lines: stdout.trimEnd().split('\n') }
}

test('explain budget ends with 1 for a budget that is not in force, and says why by its field', () => {
  const good = explained(TIER, BUDGET)
  assert.equal(good.code, 0)
  assert.match(good.last ?? '', /^catalogue /)
  const without = explained(TIER, BUDGET.replace('default: pro', 'default: por'))
  assert.deepEqual(without, { code: 1, last: 'refused: spec.tier.default: there is no PricingTier "por"' })
  const half = explained(TIER, BUDGET, HALF)
  assert.equal(half.code, 1)
  assert.match(half.last ?? '', /^refused: spec: PriceBook "house" is not accepted: the output of "house-large" must have a price/)
})

test('explain reads each folder and file that -f names, and standard input', () => {
  const [tier, budget] = [join(folder, 'tier.yaml'), join(folder, 'budget.yaml')]
  writeFileSync(tier, TIER)
  writeFileSync(budget, BUDGET)
  const told = (args: readonly string[], input = ''): readonly [number | null, string] => {
    const { status, stderr } = spawnSync(process.execPath, [MAIN, 'explain', 'budget', 'desk', ...args], { encoding: 'utf8', input })
    return [status, stderr]
  }
  assert.deepEqual(told(['-f', tier, '-f', budget, '--file', tier]), [0, ''])
  assert.deepEqual(told(['-f', '-'], `${TIER}---\n${BUDGET}`), [0, ''])
  assert.deepEqual(told(['-f', '-', '-f', budget], TIER), [0, ''])
  assert.match(told(['-f', '-'], TIER)[1], /there is no ConversationBudget "desk" in -; there is none/)
})

test('run takes one folder: of several all but the last would be left out', () => {
  const { status, stderr } = spawnSync(process.execPath, [MAIN, 'run', '-f', folder, '-f', folder], { encoding: 'utf8' })
  assert.equal(status, 1)
  assert.match(stderr, /'-f, --file <dir>' .*It may be given once: one folder that holds them all\./)
})

test('explain budget says of one whose pods another governs that it holds for them but in part, and that is no error', () => {
  const first = BUDGET.replace('name: desk', 'name: a')
  assert.deepEqual(explained(TIER, BUDGET, first), {
    code: 0,
    last: 'warning: spec.selector: ConversationBudget "a" comes first by name (in a cluster the older one does) and selects the same pods: of this one only the limits are in force',
  })
  const wide = first.replace('{ app: desk }', '{ team: support }')
  assert.notEqual(wide, first)
  const narrow = BUDGET.replace('{ app: desk }', '{ app: desk, team: support }')
  assert.match(
    explained(TIER, narrow, wide).last ?? '',
    /^warning: spec\.selector: ConversationBudget "a" comes first by name \(in a cluster the older one does\) and selects some of/,
  )
  assert.match(explained(TIER, BUDGET, first.replace('name: a', 'name: z')).last ?? '', /^catalogue /, 'nothing of the one that governs')
})

test('explain budget shows what models cost where an upstream keeps calls in a region, beside what they cost elsewhere', () => {
  const tier = `${TIER.trimEnd()}\n  models: { allow: [gpt-4o, gpt-5.5] }\n`
  const at = (name: string, host: string): string => `{ name: ${name}, provider: openai, baseURL: "https://${host}/v1" }`
  const upstreams = [at('near', 'eu.api.openai.com'), at('also-near', 'us.api.openai.com'), at('anywhere', 'api.openai.com')]
  const { code, lines } = explainedWhole(tier, `${BUDGET.trimEnd()}\n  upstreams: [${upstreams.join(', ')}]\n`)
  assert.equal(code, 0)
  const prices = lines.flatMap((line) => (line.trim().startsWith('openai/') ? [line.trim().split(/\s+/).join(' ')] : []))
  assert.deepEqual(prices, [
    'openai/gpt-4o 2.50 1.25 10.00 catalogue, regional',
    'openai/gpt-5.5 5.50 0.55 33.00 catalogue, regional',
    'openai/gpt-5.5 11.00 1.10 49.50 catalogue, regional, calls over 271,999 tokens of input',
    'openai/gpt-4o 2.50 1.25 10.00 catalogue',
    'openai/gpt-5.5 5.00 0.50 30.00 catalogue',
    'openai/gpt-5.5 10.00 1.00 45.00 catalogue, calls over 271,999 tokens of input',
  ])
})
