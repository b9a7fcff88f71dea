/**
 * The fake provider as a program. It speaks the APIs of OpenAI, Azure, Anthropic and Google as documented, refuses what they refuse, and
 * keeps its own bill.
 *
 *   node test/provider/main.ts [--port 4190] [--data DIR-or-FILE...] [--bill FILE]
 *
 * The first line it prints is `listening http://127.0.0.1:PORT`; give an app `OPENAI_BASE_URL=http://127.0.0.1:PORT/v1` and any key.
 * `--data` names folders with `conversations*.ndjson[.gz]`: requests that continue one of them get the recorded answer, all others made-up
 * text. `--bill` appends each call to a file as it is closed. It ends on SIGTERM or SIGINT, and with a parent that gave it a channel.
 *
 * `GET /bill` gives `{lines, open, totalNanoUsd, totalUsd}`, `GET /bill?tag=T` only the calls with the header `x-fake-tag: T`; `DELETE /bill`
 * starts a new one.
 *
 * Headers by which a test tells it what to do to one request (unknown ones are refused):
 *   x-fake-tag TEXT                 noted on the bill
 *   x-fake-output-tokens N          an answer of N billed tokens (bounds of the request still hold)
 *   x-fake-reasoning-tokens N       hidden tokens before it
 *   x-fake-content TEXT             this very answer, percent-encoded
 *   x-fake-tool-call NAMES|JSON     `a,b` or `[{"name": "a", "arguments": {...}}]`; not under `tool_choice: none`
 *   x-fake-hosted-calls TYPES       `web_search,file_search`: tools of the provider that the model calls first (Responses); empty: none
 *   x-fake-hosted-result-tokens N   what each of them brings into the window
 *   x-fake-recording ID             the conversation to answer from, where several fit
 *   x-fake-delay-ms N               before the headers
 *   x-fake-token-delay-ms N         per token (fractions are fine), hidden ones too
 *   x-fake-cut-after-tokens headers|N   cuts the connection; `x-fake-cut-mid-chunk: true` leaves half an event behind
 *   x-fake-hang headers|N           says nothing more, from the start or after N tokens
 *   x-fake-error-after-tokens N     an error event in the stream (500 where it is not streamed)
 *   x-fake-status CODE              this status; with `x-fake-retry-after S`; `x-fake-status-times N` for the first N calls of a tag
 *   x-fake-refusal CATEGORY         Claude declines before any output: `cyber`, ..., or `null` for no category
 *   x-fake-malformed true           broken JSON: half a body, or one broken event in the stream
 *   x-fake-usage omit|cumulative|zeros  no usage, usage on every chunk, or (images) one of zeros
 *   x-fake-picture-bytes N          base64 of each picture; Gemini's image models draw one when asked so
 *   x-fake-reject-stream-options 400|422
 *   x-fake-alternate-roles MODELS   these refuse two users, or two answers, in a row (Chat Completions)
 */
import { parseArgs } from 'node:util'
import { startProvider } from './server.ts'

const { values, positionals } = parseArgs({
  allowPositionals: true, // `--data A B` names two
  options: { port: { type: 'string', default: '0' }, data: { type: 'string', multiple: true, default: [] }, bill: { type: 'string' } },
})
const port = Number(values.port)
if (!Number.isInteger(port) || port < 0 || port > 65_535) {
  console.error(`--port must be a number from 0 to 65535, not "${values.port}"`)
  process.exit(2)
}

const data = [...values.data, ...positionals]
const provider = await startProvider({ port, data, ...(values.bill === undefined ? {} : { billFile: values.bill }) })
console.log(`listening ${provider.url}`)

let closing: Promise<void> | null = null
const close = (): void => void (closing ??= provider.close())
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, close)
process.once('disconnect', close)
process.channel?.unref() // which would keep this alive after it has closed
if ('connected' in process && !process.connected) close()
