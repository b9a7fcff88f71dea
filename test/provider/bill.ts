/** The bill: what the provider charges for each call it accepted, priced from its own list. The oracle of every test about money. */
import type { ListPrice, Model } from './models.ts'

export interface BillLine {
  /** `x-request-id` of the answer. */
  readonly requestId: string
  /** `x-fake-tag` of the request. */
  readonly tag: string | null
  readonly model: string
  readonly serviceTier: 'default' | 'flex' | 'priority'
  readonly stream: boolean
  /** `open` while the answer is generated; `aborted` by the client, `cut` by the provider. */
  readonly state: 'open' | 'complete' | 'aborted' | 'cut'
  readonly promptTokens: number
  /** Of the prompt tokens. */
  readonly cachedTokens: number
  /** Of the prompt tokens: written to the short-lived and to the long-lived cache. */
  readonly cacheWriteTokens: number
  readonly cacheWriteLongTokens: number
  /** Fees for tools that the provider ran itself; part of `nanoUsd`. */
  readonly feesNanoUsd: bigint
  /** All output of all choices: words, calls, hidden reasoning, predictions that were not used. */
  readonly outputTokens: number
  /** Of the output tokens. */
  readonly reasoningTokens: number
  /** Rounded up once. */
  readonly nanoUsd: bigint
  readonly startedAtMs: number
}

/** A call as the bill follows it. Each update replaces the one before; after `close` nothing changes any more. */
export interface BillEntry {
  update(counts: Pick<BillLine, 'outputTokens' | 'reasoningTokens'> & Partial<GrowingCounts>): void
  close(state: 'complete' | 'aborted' | 'cut'): void
}

/** Input that grows while an answer is made, when the provider calls its own tools and reads the context again. */
type GrowingCounts = Pick<BillLine, 'promptTokens' | 'cachedTokens' | 'cacheWriteTokens' | 'cacheWriteLongTokens' | 'feesNanoUsd'>

export interface Bill {
  /** Every line since the last `clear`, in the order in which the calls were accepted; or only those with this tag. */
  lines(tag?: string): readonly BillLine[]
  totalNanoUsd(tag?: string): bigint
  /** Calls whose answer is still being generated. */
  open(): number
  clear(): void
}

export type NewCall = Pick<BillLine, 'requestId' | 'tag' | 'serviceTier' | 'stream' | 'promptTokens' | 'cachedTokens' | 'startedAtMs'> &
  Partial<GrowingCounts> & { readonly model: Model }

/** An empty bill. `onClosed` hears of each line once, when it is final. */
export function newBill(onClosed: (line: BillLine) => void): { readonly bill: Bill; readonly accept: (call: NewCall) => BillEntry } {
  let lines: { line: BillLine }[] = []
  let open = 0
  const select = (tag: string | undefined): readonly BillLine[] =>
    lines.map((slot) => slot.line).filter((line) => tag === undefined || line.tag === tag)
  return {
    bill: {
      lines: select,
      totalNanoUsd: (tag) => select(tag).reduce((sum, line) => sum + line.nanoUsd, 0n),
      open: () => open,
      clear() {
        lines = []
      },
    },
    accept({ model, ...call }) {
      const price = call.serviceTier === 'default' ? model.price : (model.tiers[call.serviceTier] ?? model.price)
      const rates = ratesOf(price)
      const priced = (line: BillLine): BillLine => ({ ...line, nanoUsd: cost(line, rates) })
      const slot = { line: priced({ ...NOTHING_YET, ...call, model: model.id, state: 'open' }) }
      lines.push(slot)
      open += 1
      return {
        update(counts) {
          if (slot.line.state === 'open') slot.line = priced({ ...slot.line, ...counts })
        },
        close(state) {
          if (slot.line.state !== 'open') return
          slot.line = { ...slot.line, state }
          open -= 1
          onClosed(slot.line)
        },
      }
    },
  }
}

/** A line as JSON: money as a decimal string of nano-dollars, and in USD for people. */
export function billLineJson(line: BillLine): Record<string, unknown> {
  return { ...line, feesNanoUsd: line.feesNanoUsd.toString(), nanoUsd: line.nanoUsd.toString(), usd: usd(line.nanoUsd) }
}

/** Nano-dollars as dollars with nine decimals. */
export function usd(nanoUsd: bigint): string {
  const digits = nanoUsd.toString().padStart(10, '0')
  return `${digits.slice(0, -9)}.${digits.slice(-9)}`
}

/** USD per million tokens is pico-dollars per token, times a million. */
export function picoPerToken(price: string): bigint {
  const match = /^(\d+)(?:\.(\d{1,6}))?$/.exec(price)
  if (match === null) throw new RangeError(`a price must be a decimal with at most 6 digits after the point, not "${price}"`)
  return BigInt(`${match[1]}${(match[2] ?? '').padEnd(6, '0')}`)
}

const NOTHING_YET = {
  cacheWriteTokens: 0,
  cacheWriteLongTokens: 0,
  feesNanoUsd: 0n,
  outputTokens: 0,
  reasoningTokens: 0,
  nanoUsd: 0n,
}

interface Rates {
  readonly input: bigint
  readonly cachedInput: bigint
  readonly cacheWriteInput: bigint
  readonly cacheWriteLongInput: bigint
  readonly output: bigint
}

const known = new WeakMap<ListPrice, Rates>()

function ratesOf(price: ListPrice): Rates {
  let rates = known.get(price)
  if (rates === undefined) {
    rates = {
      input: picoPerToken(price.input),
      cachedInput: picoPerToken(price.cachedInput),
      cacheWriteInput: picoPerToken(price.cacheWriteInput ?? price.input),
      cacheWriteLongInput: picoPerToken(price.cacheWriteLongInput ?? price.cacheWriteInput ?? price.input),
      output: picoPerToken(price.output),
    }
    known.set(price, rates)
  }
  return rates
}

function cost(line: BillLine, rates: Rates): bigint {
  const uncached = line.promptTokens - line.cachedTokens - line.cacheWriteTokens - line.cacheWriteLongTokens
  const pico =
    BigInt(uncached) * rates.input +
    BigInt(line.cachedTokens) * rates.cachedInput +
    BigInt(line.cacheWriteTokens) * rates.cacheWriteInput +
    BigInt(line.cacheWriteLongTokens) * rates.cacheWriteLongInput +
    BigInt(line.outputTokens) * rates.output
  return (pico + 999n) / 1000n + line.feesNanoUsd
}
