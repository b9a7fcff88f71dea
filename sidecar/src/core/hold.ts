/** How much money a call has to hold: its input, what is made of it by tools that the provider runs, and the output that it is bounded to. */
import type { PricedModel } from '@farebox/crds/prices.ts'
import { divideCeil, PICO_PER_NANO } from '@farebox/crds/usd.ts'
import type { NanoUsd, PicoUsd } from '@farebox/crds/usd.ts'
import { METERED_KINDS } from '@farebox/crds/usage.ts'
import type { MeteredKind } from '@farebox/crds/usage.ts'
import { LIKELY_BYTES_PER_TOKEN } from './estimate.ts'
import type { InputBound, MediaTokens } from './estimate.ts'
import type { DecideInput, Plan } from './plan.ts'
import { isWarm } from './provider-cache.ts'
import type { Readings } from './readings.ts'
import { COMPACTION, HOSTED_CALLS_MAX, NO_HOSTED_TOOLS } from './request.ts'
import type { ModelRequest } from './request.ts'
import { possibleTiers } from './service-tier.ts'
import { firstShort, tightestOf } from './terms.ts'
import type { Balance } from './terms.ts'
import { assumedFactor } from './token-factor.ts'

/** Output below which a clamped answer is not worth giving, unless the tier says otherwise. */
const USEFUL_OUTPUT_TOKENS = 256
/** Reasoning models spend the first tokens on thinking: a small bound leaves no text at all. */
const USEFUL_OUTPUT_TOKENS_REASONING = 2_048
/** What a search brings where the provider bills its results as input and the owner bounds none: ten of them, each a passage. */
const SEARCH_RESULT_TOKENS = 4_000

export type HoldTerms = Pick<
  Plan,
  | 'inputTokens'
  | 'inputCost'
  | 'likelyInputCost'
  | 'atLeast'
  | 'atMost'
  | 'outputRate'
  | 'choices'
  | 'outputTokensMax'
  | 'hostedCalls'
  | 'hostedCallsCut'
  | 'readings'
  | 'serviceTiers'
>

/** A call to one model, with its input as long as it is in the tokens of that. */
export interface MeasuredCall {
  readonly model: string
  /** Where it goes; null: the one that was asked. */
  readonly upstream: string | null
  readonly priced: PricedModel
  readonly bound: InputBound
}

/** The hard bound of the input first; where that leaves no useful answer, the heuristic one. */
export function fitMoney(
  input: DecideInput,
  call: MeasuredCall,
): { readonly status: 'fits'; readonly hold: HoldTerms } | { readonly status: 'short'; readonly short: Balance } {
  const { model, bound } = call
  let tightest: Balance | null = null
  for (const within of hostedBounds(input)) {
    const hostedCallsCut = within !== input
    const hard = holdTerms(within, call, bound.bytes)
    if (firstShort(within.balances, hard.atLeast) === null) return { status: 'fits', hold: { ...hard, hostedCallsCut } }
    const factor = Math.max(within.factorOf(model), assumedFactor(model))
    const hold = holdTerms(within, call, bound.at(factor))
    const short = firstShort(within.balances, hold.atLeast)
    if (short === null) return { status: 'fits', hold: { ...hold, hostedCallsCut } }
    tightest ??= short
  }
  return { status: 'short', short: tightest ?? tightestOf(input.balances) }
}

/** The call as it is; then, where the provider runs tools in it, with fewer and fewer calls of them: less is better than none. */
function* hostedBounds(input: DecideInput): Generator<DecideInput> {
  yield input
  const { request } = input
  if (!request.hosted.rereads) return
  const least = (request.hosted.fewestCalls ?? 1) + compactions(request)
  let calls = hostedCallsMost(input)
  while (calls > least) {
    calls = Math.max(least, Math.min(Math.floor(calls / 2), request.hosted.callsOnceBound ?? calls))
    yield { ...input, request: { ...request, hosted: { ...request.hosted, maxCalls: calls } } }
  }
}

/** `inputTokens`: of the bound, by one of its measures. */
export function holdTerms(input: DecideInput, call: MeasuredCall, inputTokens: number): HoldTerms {
  const { request, terms } = input
  const { model, upstream, priced, bound } = call
  const { models } = terms.contract
  const outputTokensMax = !request.generates
    ? 0
    : Math.min(
        request.outputLimit?.tokens ?? Number.POSITIVE_INFINITY,
        // A bound that the provider does not take would be sent as one that it does.
        Math.max(models.maxOutputTokens ?? Number.POSITIVE_INFINITY, request.outputFloor ?? 1),
        priced.capabilities.maxOutputTokens,
      )
  const hosted = hostedTerms(input, priced, inputTokens, outputTokensMax)
  const serviceTiers = possibleTiers(request.serviceTier, input.accountTierOf(model, upstream))
  const standard = priced.pricesFor(hosted.longest, null)
  const possible = serviceTiers.map((tier) => priced.pricesFor(hosted.longest, tier))
  const rate = (kind: MeteredKind): PicoUsd => dearest(possible.map((prices) => prices[kind]))
  const textRate = dearest([rate('uncachedInput'), ...writeKinds(request).map(rate)])
  const readings = hosted.calls === null ? 1 : hosted.calls + 1
  const calls = hosted.calls ?? request.hosted.maxCalls ?? 1
  let fees = 0n
  // All code of an answer runs in one container.
  for (const tool of request.hosted.tools) fees += standard[HOSTED_FEES[tool]] * BigInt(tool === 'codeContainer' ? 1 : calls)
  for (const [kind, count] of unitsOf(request)) fees += rate(kind) * BigInt(count)
  const feesHeld = fees * BigInt(request.choices)
  const inputRates = { text: textRate, audio: dearest([textRate, rate('audioInput')]), image: dearest([textRate, rate('imageInput')]) }
  const inputPico = inputPrice(hosted.inputTokens, readings, bound.media, inputRates)
  const inputCost = divideCeil(inputPico + feesHeld, PICO_PER_NANO)

  const useful = models.usefulOutputTokens ?? (priced.capabilities.reasoning ? USEFUL_OUTPUT_TOKENS_REASONING : USEFUL_OUTPUT_TOKENS)
  const outputRate = dearest([rate('output'), rate('imageOutput'), ...(request.fields.has('audio') ? [rate('audioOutput')] : [])])
  const hold = (tokens: number): NanoUsd => inputCost + divideCeil(BigInt(tokens) * BigInt(request.choices) * outputRate, PICO_PER_NANO)
  return {
    inputTokens: hosted.inputTokens,
    inputCost,
    likelyInputCost: likelyInputCost(input, call, {
      inputTokens: hosted.inputTokens,
      textRate,
      readRate: rate('cacheReadInput'),
      fees: feesHeld,
    }),
    atLeast: hold(Math.min(Math.max(useful, request.outputFloor ?? 1), outputTokensMax)),
    atMost: hold(outputTokensMax),
    outputRate,
    choices: request.choices,
    outputTokensMax,
    hostedCalls: hosted.calls,
    hostedCallsCut: false,
    readings: hosted.calls === null ? null : readingsOf(input, call, { inputTokens, calls: hosted.calls }),
    serviceTiers,
  }
}

/** What is not called is not paid for; a window that the provider compacts is read once more all the same. */
export function withoutTools(input: DecideInput): DecideInput {
  const { request } = input
  if (!request.hosted.rereads) return input
  return { ...input, request: { ...request, hosted: request.hosted.compacts === true ? COMPACTION : NO_HOSTED_TOOLS } }
}

/**
 * What tools that the provider runs make of the input: it reads everything again after each call, with the result in it. What the
 * owner does not bound may fill the context each time. `longest`: the most that is read at once, which long-context steps go by.
 */
function hostedTerms(
  { request, config }: DecideInput,
  priced: PricedModel,
  inputTokens: number,
  outputTokens: number,
): { readonly inputTokens: number; readonly longest: number; readonly calls: number | null } {
  const { rereads, resultsRead = 0, bringsTokens } = request.hosted
  const { maxResultTokens } = config.hostedTools
  if (!rereads) {
    const withResults = inputTokens + resultsRead * (maxResultTokens ?? SEARCH_RESULT_TOKENS)
    return { inputTokens: withResults, longest: withResults, calls: null }
  }
  const calls = hostedCallsMost({ request, config })
  const { contextTokens } = priced.capabilities
  const longest =
    bringsTokens === undefined && maxResultTokens === undefined
      ? contextTokens
      : Math.min(contextTokens, inputTokens + outputTokens + (bringsTokens ?? calls * (maxResultTokens ?? 0)))
  return { inputTokens: (calls + 1) * Math.max(longest, inputTokens), longest: Math.max(longest, inputTokens), calls }
}

/** Measured as money is held where there is little of it: nearer to the truth than a bound by bytes, which may be several times as long. Null where no price hangs on it. */
function readingsOf(
  { request, config, factorOf }: DecideInput,
  { model, priced, bound }: MeasuredCall,
  { inputTokens, calls }: { readonly inputTokens: number; readonly calls: number },
): Readings | null {
  if (priced.steps.length === 0) return null
  const { contextTokens } = priced.capabilities
  const brought = request.hosted.bringsTokens ?? calls * (config.hostedTools.maxResultTokens ?? contextTokens)
  const factor = Math.max(factorOf(model), assumedFactor(model))
  return { most: calls + 1, longest: Math.min(inputTokens, bound.at(factor)) + brought, contextTokens }
}

function hostedCallsMost({ request, config }: Pick<DecideInput, 'request' | 'config'>): number {
  const asked = request.hosted.maxCalls ?? HOSTED_CALLS_MAX + compactions(request)
  const owned = config.hostedTools.maxCalls
  if (owned === undefined) return asked
  // What nobody can be told to stop at is held for, whatever the owner would have.
  const told = Math.max(owned, request.hosted.fewestCalls ?? 1) + compactions(request)
  return told < asked ? Math.min(told, request.hosted.callsOnceBound ?? told) : asked
}

/** The calls of a request that are none of a tool. */
function compactions({ hosted }: ModelRequest): number {
  return hosted.compacts === true ? 1 : 0
}

function unitsOf({ units }: ModelRequest): readonly (readonly [MeteredKind, number])[] {
  return METERED_KINDS.flatMap((kind) => {
    const count = units[kind] ?? 0
    return count > 0 ? [[kind, count] as const] : []
  })
}

/** As what input may be written to the provider's cache: the dearest rate is the bound. Most providers decide that themselves. */
function writeKinds({ cacheWrites }: ModelRequest): MeteredKind[] {
  if (cacheWrites === 'none') return []
  return cacheWrites === 'long' ? ['cacheWriteInput', 'cacheWriteLongInput'] : ['cacheWriteInput']
}

export function dearest(rates: readonly PicoUsd[]): PicoUsd {
  return rates.reduce((most, rate) => (rate > most ? rate : most), 0n)
}

const HOSTED_FEES = { webSearch: 'webSearchCalls', fileSearch: 'fileSearchCalls', codeContainer: 'codeContainers' } as const

/** Pico-dollars for an input that is read so many times: what may be sound or images at its own rate, the dearest first, and the rest as text. */
function inputPrice(
  tokens: number,
  readings: number,
  media: MediaTokens,
  { text, ...rates }: Readonly<Record<keyof MediaTokens | 'text', PicoUsd>>,
): bigint {
  let left = tokens
  let price = 0n
  for (const kind of MEDIA_KINDS.toSorted((one, other) => (rates[one] > rates[other] ? -1 : 1))) {
    const most = Math.min(left, media[kind] * readings)
    price += BigInt(most) * rates[kind]
    left -= most
  }
  return price + BigInt(left) * text
}

const MEDIA_KINDS = ['audio', 'image'] as const satisfies readonly (keyof MediaTokens)[]

/**
 * What of the input is nearly certain to be billed. Its bound is by its bytes: at two of them a token, what is new is seldom less than this. A
 * warm cache is read for as much as the last call left in it of what this one begins with. All of it at the price of text, which sound is never below.
 */
function likelyInputCost(
  { request, conversation: { exact }, nowMs }: DecideInput,
  { priced, bound }: MeasuredCall,
  hold: { readonly inputTokens: number; readonly textRate: PicoUsd; readonly readRate: PicoUsd; readonly fees: bigint },
): NanoUsd {
  const { bytes, known, unbounded } = bound
  const likely = Math.min(hold.inputTokens, known + Math.ceil((bytes - unbounded - known) / LIKELY_BYTES_PER_TOKEN))
  const left = exact !== null && isWarm(request, exact, priced, nowMs) ? exact.cachedTokens + (exact.cacheWrittenTokens ?? 0) : 0
  const cached = left > 0 ? Math.min(left, bound.shared, likely) : 0
  const fees = hold.inputTokens === 0 ? hold.fees : (hold.fees * BigInt(likely)) / BigInt(hold.inputTokens)
  return (BigInt(cached) * hold.readRate + BigInt(likely - cached) * hold.textRate + fees) / PICO_PER_NANO
}

/** The price of a model, or what `onUnknownModel` has stand in for one; null where that is a refusal. */
export function priceOf(input: DecideInput, model: string): PricedModel | null {
  const { prices, provider, nowMs } = input
  const found = prices.find(provider, model, nowMs)
  if (found !== null) return found
  switch (input.config.onUnknownModel) {
    case 'Ceiling':
      return prices.ceiling(provider, model, nowMs)
    case 'Free':
      return prices.free(provider, model)
    case 'Refuse':
      return null
  }
}
