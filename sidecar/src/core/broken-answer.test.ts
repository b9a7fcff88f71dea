import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { usageOf } from '@farebox/crds/usage.ts'
import type { Usage } from '@farebox/crds/usage.ts'
import { brokenUsage } from './broken-answer.ts'
import type { BrokenAnswer } from './broken-answer.ts'
import { NO_HOSTED_TOOLS } from './request.ts'

/** Prices of a model that speaks and draws, in pico-dollars. */
const PRICES = { output: 10n, audioOutput: 64n, imageOutput: 30n }

/** A stream of a model that thinks aloud, cut a second after the call was sent: 100 tokens had come. Its hold was for text. */
function broken(
  more: Partial<BrokenAnswer> = {},
  { reasoning = false, choices = 1, outputRate = PRICES.output } = {},
): ReturnType<typeof brokenUsage> {
  return brokenUsage({
    plan: {
      priced: { capabilities: { reasoning }, pricesFor: () => PRICES } as unknown as BrokenAnswer['plan']['priced'],
      choices,
      inputTokens: 900,
      bound: { at: (factor: number) => 500 * factor } as BrokenAnswer['plan']['bound'],
      outputRate,
    },
    request: { hosted: NO_HOSTED_TOOLS, units: {} },
    outputTokens: 1_000,
    seenTokens: 100,
    textTokens: 100,
    isUnread: false,
    seconds: 1,
    factor: 1,
    counted: null,
    ...more,
  })
}

describe('an answer that broke off is taken for', () => {
  test('what came, what the model made at its rate until it noticed, and some tokens more', () => {
    assert.deepEqual(broken(), { usage: usageOf({ uncachedInput: 500, output: 100 + 2 + 32 }), isUnseen: false })
  })

  test('what a fast model makes in the time, where nothing came or thinking is not shown', () => {
    assert.equal(broken({ seenTokens: 0, seconds: 0.48 }).usage.output, 500 + 32)
    assert.equal(broken({ seconds: 0.48 }, { reasoning: true }).usage.output, 100 + 500 + 32)
    assert.equal(broken({ seenTokens: 0, seconds: 0.48 }, { choices: 2 }).usage.output, 2 * (500 + 32))
  })

  test('no more than the bound of its output, and of its input', () => {
    assert.equal(broken({ seenTokens: 0, seconds: 60 }).usage.output, 1_000)
    assert.equal(broken({ factor: 3 }).usage.uncachedInput, 900)
  })

  test('the input that the provider counted at its beginning, and its output where that is more', () => {
    const counted = usageOf({ uncachedInput: 40, cacheReadInput: 400, output: 1 })
    assert.deepEqual(broken({ counted }).usage, { ...counted, output: 134 })
    assert.equal(broken({ counted: { ...counted, output: 700 } }).usage.output, 700)
  })

  test('text as far as text came; the rest, and what was on its way, is the dearest that was held for', () => {
    const kinds = (more: Partial<BrokenAnswer>, outputRate: bigint): number[] => {
      const { usage } = broken(more, { outputRate })
      return [usage.output, usage.audioOutput, usage.imageOutput]
    }
    assert.deepEqual(kinds({ textTokens: 20 }, PRICES.audioOutput), [20, 114, 0])
    assert.deepEqual(kinds({ textTokens: 20 }, 2n * PRICES.audioOutput), [20, 114, 0], 'at a service tier that is dearer')
    assert.deepEqual(kinds({ textTokens: 20 }, PRICES.imageOutput), [20, 0, 114], 'no sound was asked for')
    assert.deepEqual(kinds({ textTokens: 500 }, PRICES.imageOutput), [134, 0, 0])
    assert.deepEqual(kinds({ textTokens: 0 }, PRICES.output), [134, 0, 0])
    assert.deepEqual(kinds({ seenTokens: 0, textTokens: 0, seconds: 0.48 }, PRICES.imageOutput), [0, 0, 532])
  })

  test('sound and pictures as the provider counted them, and no token twice', () => {
    const usage = (counted: Partial<Usage>): number[] => {
      const found = broken({ textTokens: 10, counted: usageOf(counted) }, { outputRate: PRICES.audioOutput }).usage
      return [found.output, found.audioOutput]
    }
    assert.deepEqual(usage({ output: 10, audioOutput: 90 }), [10, 90 + 34])
    assert.deepEqual(usage({ output: 100 }), [10, 124], 'a count that does not say of what')
    assert.deepEqual(usage({ output: 10, audioOutput: 700 }), [10, 700])
  })

  test('all that was held, where what came cannot be measured', () => {
    assert.equal(broken({ isUnread: true }).isUnseen, true)
    assert.equal(broken({ isUnread: true, counted: usageOf({ output: 3 }) }).isUnseen, true)
  })

  test('all that was held, where it cannot be seen how much was read or made', () => {
    const units = { seconds: 30 }
    assert.deepEqual(broken({ request: { hosted: NO_HOSTED_TOOLS, units } }), {
      usage: usageOf({ seconds: 30, uncachedInput: 900, output: 134 }),
      isUnseen: true,
    })
    const counted = usageOf({ uncachedInput: 40, output: 1 })
    const searched = broken({ request: { hosted: { ...NO_HOSTED_TOOLS, rereads: true }, units: {} }, counted })
    assert.deepEqual([searched.isUnseen, searched.usage.uncachedInput], [true, 900], 'what was counted is one reading of several')
  })
})
