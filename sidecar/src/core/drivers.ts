/** What drove the cost of a call: the history, what was retrieved, tools, the answer. */
import type { PricedModel } from '@farebox/crds/prices.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import { INPUT_KINDS, inputTokens, OUTPUT_KINDS } from '@farebox/crds/usage.ts'
import type { MeteredKind, Usage } from '@farebox/crds/usage.ts'
import type { Driver } from './conversation.ts'
import { mediaTokensUsual } from './media-tokens.ts'
import type { Message, ModelRequest } from './request.ts'
import { retrievalBytes } from './retrieval.ts'
import type { ShapeRules } from './shape.ts'

/**
 * Who drove a call's cost, in proportion to bytes: `retrieval` is what the app marked, `tools` are schemas, results and fees
 * of hosted tools, `history` is all other input. Sums to `cost` exactly.
 */
export function splitByDriver(call: {
  readonly bytes: DriverBytes
  readonly usage: Usage
  /** As `Spent` has it. */
  readonly readAtOnce?: number
  readonly priced: Pick<PricedModel, 'pricesFor'>
  readonly cost: NanoUsd
}): Readonly<Record<Extract<Driver, 'history' | 'retrieval' | 'tools' | 'output'>, NanoUsd>> {
  const { bytes, usage, cost } = call
  const prices = call.priced.pricesFor(call.readAtOnce ?? inputTokens(usage), null)
  const picoUsd = (kinds: readonly MeteredKind[]): bigint => kinds.reduce((sum, kind) => sum + BigInt(usage[kind]) * prices[kind], 0n)
  const input = picoUsd(INPUT_KINDS)
  const fees = picoUsd(FEE_KINDS)
  const all = input + fees + picoUsd(ANSWER_KINDS)
  if (all === 0n) return { history: 0n, retrieval: 0n, tools: 0n, output: cost }
  const inputCost = (cost * input) / all
  const feeCost = (cost * fees) / all
  const share = (part: number): NanoUsd => (bytes.all === 0 ? 0n : (inputCost * BigInt(part)) / BigInt(bytes.all))
  const retrieval = share(bytes.retrieval)
  const tools = share(bytes.tools)
  return { history: inputCost - retrieval - tools, retrieval, tools: tools + feeCost, output: cost - inputCost - feeCost }
}

const FEE_KINDS = ['webSearchCalls', 'fileSearchCalls', 'codeContainers'] as const satisfies readonly MeteredKind[]
/** What an answer is made of; audio heard by the second makes no history either. */
const ANSWER_KINDS = [...OUTPUT_KINDS, 'seconds', 'characters', 'images'] as const satisfies readonly MeteredKind[]
/** Bytes of text that cost about as much as one token of an image. */
const BYTES_PER_MEDIA_TOKEN = 4

export interface DriverBytes {
  readonly all: number
  readonly retrieval: number
  readonly tools: number
}

/** What drives the cost of a request's input, in bytes of text or what media come to. `messages`: as they are sent. */
export function driverBytes(request: ModelRequest, messages: readonly Message[], rules: ShapeRules['retrieval']): DriverBytes {
  const marked = retrievalBytes(request, { retrieval: rules }, messages)
  let all = request.fixedBytes
  let retrieval = 0
  let tools = request.tools === 'none' ? 0 : request.fixedBytes
  messages.forEach((message, index) => {
    let size = message.bytes.length - message.mediaBytes
    const retrieved = Math.min(size, marked[index] ?? 0)
    for (const part of message.images) size += mediaTokensUsual(part, request.model) * BYTES_PER_MEDIA_TOKEN
    all += size
    retrieval += retrieved
    if (message.role === 'tool' || message.role === 'function') tools += size - retrieved
  })
  return { all, retrieval, tools }
}
