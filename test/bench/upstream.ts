/**
 * The provider of the bench: as small and fast as `node:http` allows, so that it is not what is measured. It answers in
 * the shape of OpenAI Chat Completions with usage, streams as many chunks as it is asked to, one every few milliseconds,
 * each with the time it was sent, and keeps a bill of its own. Prints `listening PORT`.
 */
import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { INPUT_PICO_USD, OUTPUT_PICO_USD, SENT_AT } from './loads.ts'

const PICO_PER_NANO = 1_000n
/** Roughly what English text has; never more tokens than bytes. */
const BYTES_PER_TOKEN = 4
const PLAIN_OUTPUT_TOKENS = 120
/** Each stream at its own pace and in its own phase, so that chunks come one by one as they do from a provider. */
const CHUNK_MS_LEAST = 25
const CHUNK_MS_SPREAD = 20
const STREAM_CHUNKS_MAX = 200
const ANSWER_TEXT = 'The order left our warehouse on Monday and should reach you by Thursday. '.repeat(8)

interface Asked {
  readonly model: string
  readonly stream?: boolean
  readonly max_completion_tokens?: number
  readonly max_tokens?: number
  readonly n?: number
  readonly stream_options?: { readonly include_usage?: boolean }
}

const bill = { calls: 0, nanoUsd: 0n }

const server = createServer((incoming, outgoing) => {
  if (incoming.method === 'GET' || incoming.method === 'DELETE') return answerBill(incoming, outgoing)
  const parts: Buffer[] = []
  incoming.on('data', (part: Buffer) => parts.push(part))
  incoming.on('end', () => {
    const body = Buffer.concat(parts)
    const asked = JSON.parse(body.toString()) as Asked
    const most = asked.max_completion_tokens ?? asked.max_tokens ?? Number.POSITIVE_INFINITY
    const wanted = Number(incoming.headers['x-bench-output'] ?? PLAIN_OUTPUT_TOKENS)
    const usage = { input: Math.ceil(body.length / BYTES_PER_TOKEN), output: Math.min(most, wanted) }
    charge(usage.input, usage.output)
    if (asked.stream === true) streamAnswer(outgoing, asked, usage)
    else answer(outgoing, asked, usage)
  })
})
server.keepAliveTimeout = 120_000
server.listen(0, '127.0.0.1', () => console.log(`listening ${(server.address() as AddressInfo).port}`))

function charge(input: number, output: number): void {
  const picoUsd = BigInt(input) * INPUT_PICO_USD + BigInt(output) * OUTPUT_PICO_USD
  bill.calls += 1
  bill.nanoUsd += (picoUsd + PICO_PER_NANO - 1n) / PICO_PER_NANO
}

function answerBill(incoming: IncomingMessage, outgoing: ServerResponse): void {
  if (incoming.method === 'DELETE') {
    bill.calls = 0
    bill.nanoUsd = 0n
  }
  outgoing.end(JSON.stringify({ calls: bill.calls, nanoUsd: bill.nanoUsd.toString() }))
}

function usageJson({ input, output }: { readonly input: number; readonly output: number }): object {
  return {
    prompt_tokens: input,
    completion_tokens: output,
    total_tokens: input + output,
    prompt_tokens_details: { cached_tokens: 0, audio_tokens: 0 },
    completion_tokens_details: { reasoning_tokens: 0, audio_tokens: 0, accepted_prediction_tokens: 0, rejected_prediction_tokens: 0 },
  }
}

function answer(outgoing: ServerResponse, asked: Asked, usage: { readonly input: number; readonly output: number }): void {
  const body = JSON.stringify({
    id: 'chatcmpl-bench',
    object: 'chat.completion',
    created: 1_767_225_600,
    model: asked.model,
    choices: [{ index: 0, message: { role: 'assistant', content: ANSWER_TEXT, refusal: null }, logprobs: null, finish_reason: 'stop' }],
    usage: usageJson(usage),
    service_tier: 'default',
  })
  outgoing.writeHead(200, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
    'x-request-id': 'req_bench',
    'openai-processing-ms': '1',
  })
  outgoing.end(body)
}

/** A token a chunk, more where the answer is long. */
function streamAnswer(outgoing: ServerResponse, asked: Asked, usage: { readonly input: number; readonly output: number }): void {
  const withUsage = asked.stream_options?.include_usage === true
  const chunk = (choices: readonly object[], more: object): string =>
    `data: ${JSON.stringify({ id: 'chatcmpl-bench', object: 'chat.completion.chunk', created: 1_767_225_600, model: asked.model, choices, ...(withUsage ? { usage: null } : {}), ...more })}\n\n`
  outgoing.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8', 'x-request-id': 'req_bench' })
  outgoing.write(chunk([{ index: 0, delta: { role: 'assistant', content: '', refusal: null }, finish_reason: null }], {}))
  const chunks = Math.min(usage.output, STREAM_CHUNKS_MAX)
  let sent = 0
  let timer: NodeJS.Timeout
  const next = (): void => {
    timer = setTimeout(tick, CHUNK_MS_LEAST + Math.random() * CHUNK_MS_SPREAD)
  }
  const tick = (): void => {
    if (outgoing.destroyed) return
    if (sent < chunks) {
      sent += 1
      next()
      const content = ` ${SENT_AT}${process.hrtime.bigint() / 1_000n} `
      outgoing.write(chunk([{ index: 0, delta: { content }, finish_reason: null }], {}))
      return
    }
    outgoing.write(chunk([{ index: 0, delta: {}, finish_reason: usage.output < PLAIN_OUTPUT_TOKENS ? 'length' : 'stop' }], {}))
    if (withUsage) outgoing.write(chunk([], { usage: usageJson(usage) }))
    outgoing.end('data: [DONE]\n\n')
  }
  next()
  outgoing.on('close', () => clearTimeout(timer))
}
