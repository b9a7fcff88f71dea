import assert from 'node:assert/strict'
import { test } from 'node:test'
import { calcPrice } from '@pydantic/genai-prices'
import * as fc from 'fast-check'
import { loadCatalogue } from './catalogue.ts'
import { PriceEntrySchema } from './price-entry.ts'
import type { PriceEntry } from './price-entry.ts'
import { createPriceList } from './price-list.ts'
import { costOf, servedAs } from './prices.ts'
import type { PricedModel, Prices } from './prices.ts'
import { formatPricePerMillion, formatUsd } from './usd.ts'
import { inputTokens, METERED_KINDS, usageOf } from './usage.ts'
import type { MeteredKind, Usage } from './usage.ts'

const CATALOGUE = loadCatalogue()
const NOW = Date.parse('2026-11-24T12:00:00Z')
const LIST = createPriceList([], CATALOGUE)

function entry(fields: object): PriceEntry {
  return PriceEntrySchema.parse(fields)
}
function found(model: string, list = LIST, provider = 'openai', atMs = NOW): PricedModel {
  const priced = list.find(provider, model, atMs)
  assert.ok(priced !== null, `${provider}/${model} has a price`)
  return priced
}
function costOn(priced: PricedModel, usage: Usage, tier: string | null = null): string {
  return formatUsd(costOf(usage, priced.pricesFor(inputTokens(usage), tier)))
}

test('prices by hand: cached input at its own rate, rounded up once', () => {
  const usage = usageOf({ uncachedInput: 1_000, cacheReadInput: 3, output: 500 })
  assert.equal(costOn(found('gpt-4o'), usage), '0.00750375')
  assert.equal(costOn(found('gpt-4o'), usageOf({ uncachedInput: 1 })), '0.0000025')
  assert.equal(costOn(found('gpt-4o-mini'), usageOf({ cacheReadInput: 1 })), '0.000000075')
  assert.equal(costOn(found('gpt-5'), usageOf({ webSearchCalls: 2, fileSearchCalls: 1 })), '0.0225')
  assert.equal(costOn(found('gpt-4o'), usageOf({ webSearchCalls: 2, fileSearchCalls: 1 })), '0.0525', 'a search that may be a preview')
})

test('agrees with an independent implementation on every chat model of the catalogue', () => {
  const timestamp = new Date(NOW)
  let compared = 0
  for (const { provider, model, match } of CATALOGUE.models.filter((candidate) =>
    ['openai', 'anthropic', 'mistral', 'google', 'x-ai'].includes(candidate.provider),
  )) {
    const name = match[0]?.equals
    if (name === undefined) continue
    for (const [input, cached, output] of [
      [1_000, 0, 100],
      [50_000, 20_000, 1],
      [300_000, 0, 2_000],
    ] as const) {
      const priced = LIST.find(provider, name, NOW)
      const oracle = calcPrice({ input_tokens: input, cache_read_tokens: cached, output_tokens: output }, name, {
        providerId: provider,
        timestamp,
      })
      if (priced === null || oracle === null || oracle.model.id !== model || hasHoursOfDay(oracle.model.prices) || name.includes('image'))
        continue
      const ours =
        Number(costOf(usageOf({ uncachedInput: input - cached, cacheReadInput: cached, output }), priced.pricesFor(input, null))) / 1e9
      const theirs = oracle.total_price
      assert.ok(
        ours >= theirs - 1e-9 && ours <= Math.max(theirs * 1.0000001, theirs + 2e-9) + extra(priced, cached, oracle),
        `${provider}/${name}: ${ours} against ${theirs}`,
      )
      compared += 1
    }
  }
  assert.ok(compared >= 120, `${compared} were compared`)
})

/** Where the source has no price for cached input it charges nothing for it; we charge it as input, and text as reasoning. */
function extra(priced: PricedModel, cached: number, oracle: NonNullable<ReturnType<typeof calcPrice>>): number {
  const { prices } = oracle.model
  const first = Array.isArray(prices) ? prices.at(-1)?.prices : prices
  const isSilent = first === undefined || !('cache_read_mtok' in first)
  const reasoning = first !== undefined && 'output_reasoning_mtok' in first ? 1 : 0
  return (isSilent ? (cached * Number(priced.pricesFor(1_000_000, null).cacheReadInput)) / 1e12 : 0) + reasoning
}
function hasHoursOfDay(prices: unknown): boolean {
  return JSON.stringify(prices).includes('start_time')
}

test('a long-context step applies to the whole call, above its threshold and not at it', () => {
  const priced = found('gpt-6-sol')
  assert.equal(formatPricePerMillion(priced.pricesFor(272_000, null).uncachedInput), '2.00')
  assert.equal(formatPricePerMillion(priced.pricesFor(272_001, null).uncachedInput), '4.00')
  assert.equal(formatPricePerMillion(priced.pricesFor(272_001, null).output), '15.00')
})

test('the efforts of a variant are not those of the model that the catalogue lists it under', () => {
  const effortsOf = (model: string) => LIST.find('openai', model, Date.UTC(2026, 10, 1))?.capabilities.efforts
  assert.deepEqual(effortsOf('gpt-5.1'), ['none', 'low', 'medium', 'high'])
  assert.deepEqual([effortsOf('gpt-5.1-codex-max'), effortsOf('gpt-5-codex')], [undefined, undefined])
})

test('a price holds from its first day on', () => {
  assert.equal(
    formatPricePerMillion(found('o3', LIST, 'openai', Date.parse('2025-06-09T23:59:59Z')).pricesFor(1, null).uncachedInput),
    '10.00',
  )
  assert.equal(
    formatPricePerMillion(found('o3', LIST, 'openai', Date.parse('2025-06-10T00:00:00Z')).pricesFor(1, null).uncachedInput),
    '2.00',
  )
})

test('service tiers change tokens by their factor and leave tool fees alone', () => {
  const priced = found('gpt-5')
  const usage = usageOf({ uncachedInput: 1_000, output: 1_000, webSearchCalls: 1 })
  assert.equal(costOn(priced, usage), '0.02125')
  assert.equal(costOn(priced, usage, 'default'), '0.02125')
  assert.equal(costOn(priced, usage, 'flex'), '0.015625')
  assert.equal(costOn(priced, usage, 'priority'), '0.0325')
})

test('of a long-context step and a service tier each length has its own price, whichever was asked for before', () => {
  for (const lengths of [
    [1_000, 500_000, 1_000],
    [500_000, 1_000, 500_000],
  ]) {
    const priced = found('gpt-6-sol', createPriceList([], CATALOGUE))
    for (const tokens of lengths) {
      const [tier, standard] = [priced.pricesFor(tokens, 'priority'), priced.pricesFor(tokens, null)]
      assert.equal(formatPricePerMillion(standard.uncachedInput), tokens > 272_000 ? '4.00' : '2.00')
      assert.equal(tier.uncachedInput, 2n * standard.uncachedInput, `${tokens} of ${lengths.join(', ')}`)
    }
  }
})

test('a PriceBook wins over the catalogue: the exact name, then the longest pattern, then the newest day', () => {
  const list = createPriceList(
    [
      entry({ provider: 'openai', model: 'gpt-4o*', input: '9' }),
      entry({ provider: 'openai', model: 'gpt-4o-mini*', input: '8' }),
      entry({ provider: 'openai', model: 'gpt-4o-mini', input: '7', from: '2026-01-01' }),
      entry({ provider: 'openai', model: 'gpt-4o-mini', input: '6', from: '2026-06-01' }),
      entry({ provider: 'openai', model: 'gpt-4o-mini', input: '5', from: '2027-01-01' }),
    ],
    CATALOGUE,
  )
  const input = (model: string): string => formatPricePerMillion(found(model, list).pricesFor(1, null).uncachedInput)
  assert.equal(input('gpt-4o'), '9.00')
  assert.equal(input('gpt-4o-mini-2024-07-18'), '8.00')
  assert.equal(input('gpt-4o-mini'), '6.00')
  assert.equal(input('gpt-4.1'), '2.00')
  assert.equal(found('gpt-4o', list).origin, 'book')
  const entryOf = (model: string) => list.entryOf('openai', model, NOW)
  assert.deepEqual(
    ['gpt-4o', 'gpt-4o-mini-2024-07-18', 'gpt-4o-mini', 'gpt-4.1'].map((model) => entryOf(model)?.input),
    ['9', '8', '6', undefined],
    'and the entry that won is told',
  )
})

test('what a book leaves out follows the catalogue, or its own input and output; zero is zero', () => {
  const list = createPriceList(
    [
      entry({ provider: 'openai', model: 'gpt-4o', output: '11' }),
      entry({ provider: 'openai', model: 'gpt-4.1', input: '3' }),
      entry({ provider: 'home', model: 'llama*', input: '0', output: '0' }),
      entry({
        provider: 'home',
        model: 'big',
        input: '1',
        output: '2',
        cacheRead: '0',
        toolFees: { webSearch: '0.02' },
        steps: [{ inputOver: 100, input: '4' }],
      }),
    ],
    CATALOGUE,
  )
  const kept = found('gpt-4o', list).pricesFor(1, null)
  assert.deepEqual([kept.uncachedInput, kept.cacheReadInput, kept.output], [2_500_000n, 1_250_000n, 11_000_000n])
  assert.equal(found('gpt-4.1', list).pricesFor(1, null).cacheReadInput, 3_000_000n, 'a changed input takes cached input along')
  assert.equal(costOn(found('llama-3', list, 'home'), usageOf({ uncachedInput: 1_000_000, output: 5 })), '0.00')
  const big = found('big', list, 'home')
  assert.deepEqual([big.pricesFor(100, null).uncachedInput, big.pricesFor(101, null).uncachedInput], [1_000_000n, 4_000_000n])
  assert.equal(big.pricesFor(1, null).cacheReadInput, 0n)
  assert.equal(big.pricesFor(1, null).webSearchCalls, 20_000_000_000n)
})

test('what the catalogue lists above a price is never lowered by a book that says nothing of it', () => {
  const prices = (provider: string, model: string, fields: object): Prices =>
    found(model, createPriceList([entry({ provider, model, ...fields })], CATALOGUE), provider).pricesFor(1, null)
  const writes = (fields: object): readonly bigint[] => {
    const { cacheReadInput, cacheWriteInput, cacheWriteLongInput } = prices('anthropic', 'claude-sonnet-4-5', fields)
    return [cacheReadInput, cacheWriteInput, cacheWriteLongInput]
  }
  // The catalogue: input 3.00, read 0.30, written 3.75 and 6.00.
  assert.deepEqual(writes({ input: '3.00', output: '15.00' }), [300_000n, 3_750_000n, 6_000_000n], 'the list price, said once more')
  assert.deepEqual(
    writes({ input: '2.40', output: '12' }),
    [2_400_000n, 3_750_000n, 6_000_000n],
    'a discount is not taken for one on these',
  )
  assert.deepEqual(writes({ input: '3.30' }), [3_300_000n, 4_125_000n, 6_600_000n], 'what is raised is raised alike')
  assert.deepEqual(writes({ input: '0', output: '0' }), [0n, 0n, 0n], 'zero is zero')
  assert.deepEqual(writes({ cacheWriteShort: '0' }), [300_000n, 0n, 6_000_000n], 'and of nothing but what it was said of')
  assert.deepEqual(writes({ cacheWriteShort: '7.00' }), [300_000n, 7_000_000n, 7_000_000n], 'long writes are no cheaper than short ones')
  const audio = prices('openai', 'gpt-audio', { input: '2.00', output: '12' }) // 2.50 and 10, of audio 32 and 64
  assert.deepEqual([audio.audioInput, audio.audioOutput], [32_000_000n, 76_800_000n])
  assert.equal(prices('openai', 'gpt-image-1.5', { output: '9' }).imageOutput, 32_000_000n)
})

test('a book that says no more than the list price changes nothing', () => {
  const price = (units: bigint): string => formatPricePerMillion(units)
  for (const { provider, model, match } of CATALOGUE.models) {
    const name = match[0]?.equals
    if (name === undefined) continue
    const listed = found(name, LIST, provider)
    const { uncachedInput, output } = listed.pricesFor(1, null)
    const list = createPriceList([entry({ provider, model: name, input: price(uncachedInput), output: price(output) })], CATALOGUE)
    for (const tokens of [1, 1_000_000])
      assert.deepEqual(found(name, list, provider).pricesFor(tokens, null), listed.pricesFor(tokens, null), `${provider}/${model}`)
  }
})

test('nor does one that repeats the long-context steps of the list, with or without what else it lists', () => {
  const price = (units: bigint): string => formatPricePerMillion(units)
  let stepped = 0
  for (const { provider, model, match, dated } of CATALOGUE.models) {
    const name = match[0]?.equals
    const overs = dated.at(-1)?.steps.map(({ inputOver }) => inputOver) ?? []
    if (name === undefined || overs.length === 0) continue
    stepped += 1
    const listed = found(name, LIST, provider)
    const priced = (tokens: number) => {
      const { uncachedInput, output } = listed.pricesFor(tokens, null)
      return { input: price(uncachedInput), output: price(output) }
    }
    const steps = overs.map((inputOver) => ({ inputOver, ...priced(inputOver + 1) }))
    const cacheRead = price(listed.pricesFor(1, null).cacheReadInput)
    for (const more of [{}, { cacheRead }]) {
      const list = createPriceList([entry({ provider, model: name, ...priced(1), ...more, steps })], CATALOGUE)
      for (const tokens of [1, ...overs.map((inputOver) => inputOver + 1)])
        assert.deepEqual(found(name, list, provider).pricesFor(tokens, null), listed.pricesFor(tokens, null), `${provider}/${model}`)
    }
  }
  assert.ok(stepped > 5)
})

test("over the catalogue's step, what a book says nothing of is the dearer of the catalogue's price and one's own raised alike", () => {
  const above = (fields: object): Prices =>
    found('gpt-6-sol', createPriceList([entry({ provider: 'openai', model: 'gpt-6-sol', ...fields })], CATALOGUE)).pricesFor(272_001, null)
  // The catalogue: input 2.00, above the step 4.00; cached 0.20 and 0.40; output 10.00 and 15.00; a web search 0.01.
  const discount = above({ input: '1.50' })
  assert.deepEqual([discount.uncachedInput, discount.output], [4_000_000n, 15_000_000n], 'a discount is not taken for one above the step')
  assert.equal(discount.cacheReadInput, 3_000_000n, 'cached input follows the input of 1.50, and is raised like it')
  const uplift = above({ input: '2.20', cacheRead: '0.22', output: '11' })
  assert.deepEqual([uplift.uncachedInput, uplift.cacheReadInput, uplift.output], [4_400_000n, 440_000n, 16_500_000n])
  const free = above({ input: '0', output: '0' })
  assert.deepEqual([free.uncachedInput, free.cacheReadInput, free.output, free.audioInput], [0n, 0n, 0n, 0n], 'zero is zero')
  const cached = above({ cacheRead: '0.50' })
  assert.deepEqual([cached.uncachedInput, cached.cacheReadInput], [4_000_000n, 1_000_000n])
  assert.equal(above({ toolFees: { webSearch: '0.005' } }).webSearchCalls, 5_000_000_000n, 'a fee has no step')
  const own = above({ input: '1.50', steps: [{ inputOver: 200_000, input: '2.50' }] })
  assert.equal(own.uncachedInput, 2_500_000n, 'its own steps are all that hold')
})

test("what an entry says holds in a step at the catalogue's as well: only what neither says follows the step's input", () => {
  const prices = (inputOver: number, fields: object): Prices => {
    const own = { input: '1.50', cacheRead: '0.15', output: '7.50', steps: [{ inputOver, input: '3.00', output: '11.25' }], ...fields }
    return found('gpt-6-sol', createPriceList([entry({ provider: 'openai', model: 'gpt-6-sol', ...own })], CATALOGUE)).pricesFor(
      300_000,
      null,
    )
  }
  // The catalogue: input 2.00 and 4.00, cached 0.20 and 0.40, written 2.50 and 5.00.
  const same = prices(272_000, {})
  assert.deepEqual([same.uncachedInput, same.cacheReadInput, same.output], [3_000_000n, 400_000n, 11_250_000n])
  assert.equal(same.cacheReadAudioInput, 400_000n, 'it takes its relatives along')
  assert.equal(prices(272_000, { cacheRead: '0.25' }).cacheReadInput, 500_000n, 'raised as the catalogue raises its own')
  assert.equal(prices(272_000, { cacheRead: undefined }).cacheReadInput, 3_000_000n)
  assert.equal(prices(272_000, { steps: [{ inputOver: 272_000, input: '3.00', cacheRead: '0.30' }] }).cacheReadInput, 300_000n)
  assert.equal(prices(272_000, { cacheWriteShort: '1.875', steps: [{ inputOver: 272_000, input: '8.00' }] }).cacheWriteInput, 5_000_000n)
  assert.equal(prices(271_999, {}).cacheReadInput, 150_000n, 'where the catalogue has no step it is as it was entered')
})

const price = fc.integer({ min: 1, max: 50_000_000 }).map((micro) => formatPricePerMillion(BigInt(micro)))

test('whatever input and output a book says: what is listed above them costs no less than it is listed at, and no less than they', () => {
  const named = CATALOGUE.models.filter(({ match }) => match[0]?.equals !== undefined)
  fc.assert(
    fc.property(fc.constantFrom(...named), price, price, ({ provider, match }, input, output) => {
      const model = match[0]?.equals ?? ''
      const own = found(model, createPriceList([entry({ provider, model, input, output })], CATALOGUE), provider).pricesFor(1, null)
      const listed = found(model, LIST, provider).pricesFor(1, null)
      const relatives: readonly (readonly [MeteredKind, readonly MeteredKind[]])[] = [
        ['uncachedInput', ['cacheReadInput', 'cacheWriteInput', 'cacheWriteLongInput', 'audioInput', 'imageInput']],
        ['output', ['audioOutput', 'imageOutput']],
        ['cacheReadInput', ['cacheReadAudioInput']],
      ]
      for (const [base, kinds] of relatives)
        for (const kind of kinds.filter((each) => listed[each] > listed[base]))
          assert.ok(own[kind] >= listed[kind] && own[kind] >= own[base], kind)
    }),
  )
})

test('a long call never costs less than by the catalogue or by the price of a short one, unless it is free', () => {
  const stepped = CATALOGUE.models.filter(({ provider, dated }) => provider === 'openai' && (dated.at(-1)?.steps.length ?? 0) > 0)
  assert.ok(stepped.length > 0)
  fc.assert(
    fc.property(fc.constantFrom(...stepped), price, fc.option(price), ({ model }, input, output) => {
      const fields = { provider: 'openai', model, input, ...(output === null ? {} : { output }) }
      const list = createPriceList([entry(fields)], CATALOGUE)
      const [long, short] = [1_000_000, 1].map((tokens) => found(model, list).pricesFor(tokens, null))
      const listed = found(model).pricesFor(1_000_000, null)
      const ceiling = list.ceiling('openai', 'mystery-9', NOW)?.pricesFor(1, null)
      assert.ok(long !== undefined && short !== undefined && ceiling !== undefined)
      for (const kind of METERED_KINDS)
        assert.ok(long[kind] >= listed[kind] && long[kind] >= short[kind] && long[kind] <= ceiling[kind], kind)
    }),
  )
})

test('an entry for a model holds for every name by which the catalogue knows it, after entries for that name', () => {
  const book = [
    entry({ provider: 'openai', model: 'gpt-4o', input: '9' }),
    entry({ provider: 'openai', model: 'gpt-4o-2024-11*', input: '8' }),
  ]
  const list = createPriceList(book, CATALOGUE)
  const input = (model: string): bigint => found(model, list).pricesFor(1, null).uncachedInput
  assert.equal(input('gpt-4o'), 9_000_000n)
  assert.equal(input('gpt-4o-2024-08-06'), 9_000_000n, 'what answers is the model that was asked for')
  assert.equal(input('gpt-4o-2024-11-20'), 8_000_000n)
  assert.equal(input('gpt-4o-mini'), 150_000n)
})

test('a service tier that nobody priced for a model counts as the dearest of its name', () => {
  const output = (model: string, tier: string): bigint => found(model).pricesFor(1, tier).output
  assert.equal(output('gpt-4o', 'priority'), 17_000_000n)
  assert.equal(output('gpt-4o', 'fast'), 17_000_000n, 'another word for priority')
  assert.equal(output('gpt-4.5-preview', 'fast') / output('gpt-4.5-preview', 'standard'), 6n)
  assert.equal(output('gpt-4o', 'ultrafast'), 60_000_000n)
  assert.equal(output('gpt-4o', 'flex'), 10_000_000n, 'never below the standard price')
  assert.equal(output('o4-mini', 'flex'), 2_200_000n)
})

test('several things that a provider says of how it served change the price one after the other, and are rounded up once', () => {
  const output = (model: string, tier: string | null): bigint => found(model, LIST, 'anthropic').pricesFor(1, tier).output
  assert.equal(output('claude-opus-5-5', 'standard'), 20_000_000n)
  assert.equal(output('claude-opus-5-5', 'standard+us'), 22_000_000n)
  assert.equal(output('claude-opus-5-5', servedAs(['standard', 'fast', 'us'])), 44_000_000n)
  assert.equal(output('claude-opus-5-5', 'priority+not_available'), 20_000_000n)
  assert.equal(output('claude-opus-5-5', 'batch'), 10_000_000n)
  assert.equal(output('claude-opus-5-5', servedAs([])), 20_000_000n)
  const odd = [entry({ provider: 'home', model: 'm', input: '0.000003', output: '0.000003', serviceTierPercent: { fast: 150, us: 110 } })]
  const prices = found('m', createPriceList(odd, CATALOGUE), 'home').pricesFor(1, 'us+fast')
  assert.equal(prices.output, 5n, '3 x 1.5 x 1.1 is 4.95')
})

test('a book may say what a call is held at that names no tier; what is no tier changes nothing', () => {
  const book = [entry({ provider: 'openai', model: 'gpt-4o', serviceTierPercent: { auto: 170 } })]
  const output = (list: typeof LIST, tier: string): bigint => found('gpt-4o', list).pricesFor(1, tier).output
  assert.deepEqual(
    ['auto', 'default'].map((tier) => output(createPriceList(book, CATALOGUE), tier)),
    [17_000_000n, 10_000_000n],
  )
  for (const word of ['auto', 'constructor', '__proto__', 'toString']) assert.equal(output(LIST, word), 10_000_000n)
})

test("Azure's models cost what OpenAI's do where the catalogue says nothing of Azure's, and a book for one is not for the other", () => {
  const of = (provider: string, model: string, list = LIST): Prices => found(model, list, provider).pricesFor(1, null)
  assert.equal(LIST.find('azure', 'gpt-4o-2024-08-06', NOW)?.origin, 'catalogue')
  assert.deepEqual(of('azure', 'gpt-4o-2024-08-06'), of('openai', 'gpt-4o'))
  assert.deepEqual(of('azure', 'gpt-35-turbo'), of('openai', 'gpt-3.5-turbo'))
  assert.equal(found('gpt-4o', LIST, 'azure').provider, 'azure')
  const book = [entry({ provider: 'openai', model: 'gpt-4o', input: '1' }), entry({ provider: 'azure', model: 'gpt-4.1', input: '9' })]
  const list = createPriceList(book, CATALOGUE)
  assert.equal(of('azure', 'gpt-4o', list).uncachedInput, 2_500_000n)
  assert.equal(of('azure', 'gpt-4.1', list).uncachedInput, 9_000_000n)
  assert.equal(of('azure', 'gpt-4.1', list).output, 8_000_000n)
  const ceiling = LIST.ceiling('azure', 'mystery-9', NOW)?.pricesFor(1, null)
  assert.equal(ceiling?.output, LIST.ceiling('openai', 'mystery-9', NOW)?.pricesFor(1, null).output)
  assert.equal(LIST.find('openai', 'phi-4', NOW), null, 'what only Azure has is not of OpenAI')
})

test('models that nobody has published to us are priced at the ceiling, not at that of a sibling', () => {
  for (const [provider, model] of [
    ['openai', 'gpt-6.1-sol'],
    ['openai', 'gpt-6.1-terra'],
    ['anthropic', 'claude-fable-5-2'],
    ['anthropic', 'claude-haiku-5-5'],
    ['anthropic', 'claude-mythos-5-2'],
    ['google', 'gemini-3-flash'],
  ] as const) {
    assert.equal(LIST.find(provider, model, NOW), null, model)
    assert.equal(LIST.ceiling(provider, model, NOW)?.origin, 'ceiling')
  }
})

test('capabilities can be declared; what nobody described is not assumed', () => {
  const list = createPriceList(
    [entry({ provider: 'home', model: 'llama', input: '1', output: '1', capabilities: { tools: 'Supported', contextTokens: 8_000 } })],
    CATALOGUE,
  )
  const { capabilities } = found('llama', list, 'home')
  assert.deepEqual([capabilities.tools, capabilities.contextTokens, capabilities.structuredOutput], [true, 8_000, false])
  assert.deepEqual(found('o4-mini').capabilities.rename, { max_tokens: 'max_completion_tokens' })
  assert.equal(found('gpt-4o-2024-08-06').capabilities.maxOutputTokens, 16_384)
})

test('a model that nobody prices is unknown, and the ceiling is above every model of its provider', () => {
  assert.equal(LIST.find('openai', 'mystery-9', NOW), null)
  assert.equal(LIST.find('nobody', 'gpt-4o', NOW), null)
  assert.equal(LIST.ceiling('nobody', 'x', NOW), null)
  assert.equal(LIST.free('openai', 'x').pricesFor(1, null).output, 0n)
  const ceiling = LIST.ceiling('openai', 'mystery-9', NOW)
  assert.equal(ceiling?.origin, 'ceiling')
  fc.assert(
    fc.property(
      fc.constantFrom(...CATALOGUE.models.filter((model) => model.provider === 'openai')),
      fc.record(Object.fromEntries(METERED_KINDS.map((kind) => [kind, fc.nat(400_000)]))),
      (model, parts) => {
        const usage = usageOf(parts)
        const name = model.match[0]?.equals
        const priced = name === undefined ? null : LIST.find('openai', name, NOW)
        if (priced === null || ceiling === null) return
        const tokens = inputTokens(usage)
        assert.ok(costOf(usage, ceiling.pricesFor(tokens, null)) >= costOf(usage, priced.pricesFor(tokens, null)))
      },
    ),
  )
})

test('half a price of a model that nobody else prices is none', () => {
  const list = createPriceList(
    [
      entry({ provider: 'openai', model: 'mystery-1', input: '2.00' }),
      entry({ provider: 'openai', model: 'mystery-2', capabilities: { contextTokens: 1000 } }),
      entry({ provider: 'openai', model: 'mystery-3', input: '2.00', output: '0' }),
      entry({ provider: 'ours', model: '*', output: '2.00' }),
    ],
    CATALOGUE,
  )
  assert.equal(list.find('openai', 'mystery-1', NOW), null)
  assert.equal(list.find('openai', 'mystery-2', NOW), null)
  assert.equal(list.find('openai', 'mystery-3', NOW)?.pricesFor(1, null).output, 0n)
  assert.equal(list.find('ours', 'any', NOW), null)
  assert.equal(list.ceiling('ours', 'any', NOW), null)
})

test('what writes and has no price for it costs what it reads: on Azure, completions are not free', () => {
  const usage = usageOf({ uncachedInput: 1_000, output: 1_000_000 })
  assert.equal(costOn(found('davinci-002', LIST, 'azure'), usage), '2.002')
  assert.equal(costOn(found('babbage-002', LIST, 'azure'), usage), '0.4004')
  const book = [entry({ provider: 'azure', model: 'davinci-002', input: '3' })]
  assert.equal(
    costOn(found('davinci-002', createPriceList(book, CATALOGUE), 'azure'), usage),
    '2.003',
    'half an entry leaves the other half',
  )
  assert.equal(found('text-embedding-3-small').pricesFor(1, null).output, 0n, 'vectors are not written')
})

test('audio has a price of its own, for whoever sells the model', () => {
  const usage = usageOf({ audioInput: 1_000, audioOutput: 1_000 })
  for (const provider of ['openai', 'azure']) {
    assert.equal(costOn(found('gpt-4o-audio-preview', LIST, provider), usage), '0.12')
    assert.equal(costOn(found('gpt-4o-mini-audio-preview-2024-12-17', LIST, provider), usage), '0.03')
  }
})

test('a search costs the most that the model can be asked for it by; a book for a model is not one for what always searches', () => {
  const fee = (model: string, list = LIST): bigint => found(model, list).pricesFor(1, null).webSearchCalls
  for (const model of ['gpt-4o', 'gpt-4o-mini', 'gpt-4.1-mini', 'gpt-4o-search-preview', 'gpt-4o-mini-search-preview-2025-03-11'])
    assert.equal(fee(model), 25_000_000_000n, model)
  for (const model of ['gpt-5', 'o4-mini', 'gpt-6-sol']) assert.equal(fee(model), 10_000_000_000n, model)
  const { webSearchCalls, fileSearchCalls, codeContainers } = found('grok-4.6', LIST, 'x-ai').pricesFor(1, null)
  assert.deepEqual([webSearchCalls, fileSearchCalls, codeContainers], [5_000_000_000n, 2_500_000_000n, 5_000_000_000n])
  const list = createPriceList([entry({ provider: 'openai', model: 'gpt-4o-mini', toolFees: { webSearch: '0.01' } })], CATALOGUE)
  assert.deepEqual([fee('gpt-4o-mini', list), fee('gpt-4o-mini-search-preview', list)], [10_000_000_000n, 25_000_000_000n])
  assert.equal(found('gpt-4o-mini-search-preview').pricesFor(1, null).output, 600_000n, 'tokens are those of gpt-4o-mini')
})

test('what is not counted in tokens has its own price, which no service tier changes', () => {
  assert.equal(costOn(found('whisper-1'), usageOf({ seconds: 61 })), '0.0061', '0.36 an hour')
  assert.equal(costOn(found('whisper-large-v3', LIST, 'groq'), usageOf({ seconds: 3_600 })), '0.111000003', '0.111 an hour, by the second')
  assert.equal(costOn(found('tts-1'), usageOf({ characters: 4_096 })), '0.06144')
  assert.equal(costOn(found('dall-e-3'), usageOf({ images: 2 })), '0.24')
  const image = usageOf({ uncachedInput: 10, imageInput: 100, imageOutput: 1_000 })
  assert.equal(costOn(found('gpt-image-1.5'), image), '0.03285')
  const book = [entry({ provider: 'openai', model: 'tts-1', perMillionCharacters: '10', perSecond: '0.001', perImage: '0.5' })]
  const own = found('tts-1', createPriceList(book, CATALOGUE))
  const all = usageOf({ characters: 1_000, seconds: 2, images: 1 })
  assert.equal(costOn(own, all), '0.512')
  assert.equal(costOn(own, all, 'priority'), '0.512')
})

test('a price of output takes images made along, one of cached or of audio input takes cached audio along, never down', () => {
  const prices = (fields: object): Prices =>
    found(
      'gemini-2.5-flash',
      createPriceList([entry({ provider: 'google', model: 'gemini-2.5-flash', ...fields })], CATALOGUE),
      'google',
    ).pricesFor(1, null)
  assert.equal(prices({ output: '3' }).imageOutput, 3_000_000n)
  assert.equal(prices({ imageOutput: '30' }).imageOutput, 30_000_000n)
  assert.equal(prices({}).cacheReadAudioInput, 100_000n, 'dearer than other cached input')
  assert.equal(prices({ cacheRead: '0.02' }).cacheReadAudioInput, 100_000n)
  assert.equal(prices({ cacheRead: '0.06' }).cacheReadAudioInput, 200_000n)
  assert.equal(prices({ audioInput: '2.00' }).cacheReadAudioInput, 2_000_000n, "the discount was the catalogue's")
  assert.equal(prices({ cacheReadAudio: '0.09' }).cacheReadAudioInput, 90_000n)
})

test('a model without a price is never free where its provider prices nothing of the kind', () => {
  const ceiling = LIST.ceiling('groq', 'mystery-voice', NOW)?.pricesFor(1, null)
  assert.ok(ceiling !== undefined)
  assert.equal(ceiling.characters, 30_000_000n, 'the dearest of the catalogue')
  assert.equal(ceiling.images, 120_000_000_000n)
  assert.ok(ceiling.output < found('o1-pro').pricesFor(1, null).output, 'tokens have a price with the provider')
})

test('more of anything never costs less', () => {
  const models = ['gpt-4o', 'gpt-6-sol', 'o4-mini'].map((model) => found(model))
  fc.assert(
    fc.property(
      fc.constantFrom(...models),
      fc.record(Object.fromEntries(METERED_KINDS.map((kind) => [kind, fc.nat(300_000)]))),
      fc.constantFrom(...METERED_KINDS),
      fc.nat(10_000),
      (priced, parts, kind, more) => {
        const usage = usageOf(parts)
        const larger = { ...usage, [kind]: usage[kind] + more }
        assert.ok(costOf(larger, priced.pricesFor(inputTokens(larger), null)) >= costOf(usage, priced.pricesFor(inputTokens(usage), null)))
      },
    ),
  )
})
