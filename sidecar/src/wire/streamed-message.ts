/** An assistant message put together from its deltas: content and refusal as raw JSON text, tool calls by their index. */
import { isList, isObject } from '../core/message.ts'
import type { Json, JsonObject } from '../core/request.ts'
import { MESSAGE_BYTES_MAX } from './answer-reading.ts'
import type { Part } from './chat-chunk.ts'

const TOOL_CALLS_MAX = 512

interface ToolCall {
  id: string
  type: string
  name: string
  input: string
}

export class StreamedMessage {
  readonly #content = new JsonText()
  readonly #refusal = new JsonText()
  readonly #calls = new Map<number, ToolCall>()
  #function: ToolCall | null = null
  #bytes = 0
  readonly #bytesMax: number

  /** `bytesMax`: of all that it is made from; an answer that has more is not kept. */
  constructor(bytesMax = MESSAGE_BYTES_MAX) {
    this.#bytesMax = bytesMax
  }

  addContent(bytes: Buffer, part: Part): void {
    if (this.#fits(part.end - part.start)) this.#content.add(bytes, part)
  }

  /** Content that came as a text of its own, not inside a string. */
  addText(text: string): void {
    const bytes = Buffer.from(JSON.stringify(text))
    this.addContent(bytes, { start: 1, end: bytes.length - 1 })
  }

  addRefusal(bytes: Buffer, part: Part): void {
    if (this.#fits(part.end - part.start)) this.#refusal.add(bytes, part)
  }

  /** `size`: the bytes that the deltas came in. */
  addToolCalls(deltas: Json, size: number): void {
    if (!isList(deltas) || !this.#fits(size)) return
    deltas.forEach((delta, position) => {
      if (!isObject(delta)) return
      const index = typeof delta['index'] === 'number' ? delta['index'] : position
      let call = this.#calls.get(index)
      if (call === undefined) {
        if (this.#calls.size >= TOOL_CALLS_MAX) return
        call = { id: '', type: 'function', name: '', input: '' }
        this.#calls.set(index, call)
      }
      extend(call, delta)
    })
  }

  addFunctionCall(delta: Json, size: number): void {
    if (!isObject(delta) || !this.#fits(size)) return
    this.#function ??= { id: '', type: 'function', name: '', input: '' }
    extend(this.#function, { function: delta })
  }

  /** The message as an app sends it back; null when nothing was said, or too much to keep. */
  json(): JsonObject | null {
    if (this.#bytes > this.#bytesMax) return null
    const content = this.#content.text()
    const refusal = this.#refusal.text()
    if (content === null && refusal === null && this.#calls.size === 0 && this.#function === null) return null
    const calls = [...this.#calls].sort(([one], [other]) => one - other).map(([, call]) => toolCallJson(call))
    return {
      role: 'assistant',
      content,
      ...(refusal === null ? {} : { refusal }),
      ...(calls.length === 0 ? {} : { tool_calls: calls }),
      ...(this.#function === null ? {} : { function_call: { name: this.#function.name, arguments: this.#function.input } }),
    }
  }

  #fits(size: number): boolean {
    this.#bytes += size
    return this.#bytes <= this.#bytesMax
  }
}

function extend(call: ToolCall, delta: JsonObject): void {
  const { id, type } = delta
  if (typeof id === 'string' && id !== '') call.id = id
  if (typeof type === 'string' && type !== '') call.type = type
  const called = delta['function'] ?? delta['custom']
  if (!isObject(called)) return
  const { name } = called
  const input = called['arguments'] ?? called['input']
  if (typeof name === 'string' && name !== '') call.name = name
  if (typeof input === 'string') call.input += input
}

function toolCallJson(call: ToolCall): JsonObject {
  const { id, type, name, input } = call
  return type === 'custom' ? { id, type, custom: { name, input } } : { id, type, function: { name, arguments: input } }
}

/** Text that comes as the insides of JSON strings; parsed once, at the end, so that an escape may be split anywhere. */
class JsonText {
  #bytes = Buffer.alloc(0)
  #length = 0
  #any = false

  add(bytes: Buffer, { start, end }: Part): void {
    this.#any = true
    const needed = this.#length + end - start
    if (needed > this.#bytes.length) {
      const larger = Buffer.allocUnsafe(Math.max(needed, this.#bytes.length * 2, 1_024))
      this.#bytes.copy(larger, 0, 0, this.#length)
      this.#bytes = larger
    }
    bytes.copy(this.#bytes, this.#length, start, end)
    this.#length = needed
  }

  text(): string | null {
    if (!this.#any) return null
    const text: unknown = parseOrNull(`"${this.#bytes.toString('utf8', 0, this.#length)}"`)
    return typeof text === 'string' ? text : null
  }
}

function parseOrNull(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null // a control character or a broken escape: no client could have read it
  }
}
