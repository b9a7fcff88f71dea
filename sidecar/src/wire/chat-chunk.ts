/**
 * One streamed chunk of Chat Completions, read in place: where the parts stand that metering and rewriting need. Nothing is
 * decoded and nothing is allocated per chunk: the reader is used again and again.
 */
import { afterSpace, CLOSE_BRACE, CLOSE_BRACKET, COLON, COMMA, OPEN_BRACE, OPEN_BRACKET, QUOTE, stringEnd, valueEnd } from './json-text.ts'

/** A part of the chunk; absent while `start` is -1. */
export interface Part {
  start: number
  end: number
}

export interface ChunkChoice {
  index: number
  /** Inside the quotes of `delta.content`. */
  readonly content: Part
  /** The list itself, where `delta.content` is one: https://docs.mistral.ai/capabilities/reasoning/ */
  readonly contentParts: Part
  readonly refusal: Part
  /** The longest of the strings by which providers show reasoning; some send the same twice. */
  readonly reasoning: Part
  /** The lists or objects themselves. */
  readonly toolCalls: Part
  readonly functionCall: Part
  readonly audio: Part
  /** Inside the quotes of `finish_reason`. */
  readonly finish: Part
}

/** Choices of one chunk; providers send one, rarely as many as there are answers. */
const CHOICES_MAX = 128

export class ChatChunk {
  readonly id: Part = none()
  readonly created: Part = none()
  readonly model: Part = none()
  readonly serviceTier: Part = none()
  readonly usage: Part = none()
  /** What to cut so that `usage` is gone and the rest is JSON. */
  readonly usageCut: Part = none()
  readonly error: Part = none()
  /** There is a `choices` list, and it is empty. */
  choicesEmpty = false
  /** A field that is not part of every chunk holds an object or list: content filters, moderation. */
  carriesMore = false
  choiceCount = 0
  readonly choices: ChunkChoice[] = []

  #bytes: Uint8Array = EMPTY
  #at = 0
  #end = 0
  #keyStart = 0
  #keyEnd = 0
  #ok = true

  /** Reads the JSON object from `start` to `end`. False when it is not understood; then the parts mean nothing. */
  read(bytes: Uint8Array, start: number, end: number): boolean {
    this.#bytes = bytes
    this.#end = end
    this.#at = start
    this.#ok = true
    this.choicesEmpty = this.carriesMore = false
    this.choiceCount = 0
    for (const part of [this.id, this.created, this.model, this.serviceTier, this.usage, this.usageCut, this.error]) clear(part)
    this.#space()
    let previousEnd = -1
    let usageWasFirst = false
    for (let more = this.#open(); more; more = this.#next()) {
      const keyStart = this.#at
      if (!this.#key()) return false
      if (usageWasFirst) {
        this.usageCut.end = keyStart
        usageWasFirst = false
      }
      const part = this.#topPart()
      if (this.#keyIs(CHOICES) && bytes[this.#at] === OPEN_BRACKET) this.#readChoices()
      else {
        const valueStart = this.#at
        this.#skip()
        if (part !== null) set(part, valueStart, this.#at)
        else if (!this.#keyIs(X_GROQ) && isContainer(bytes[valueStart]) && this.#at - valueStart > 2) this.carriesMore = true
        if (part === this.usage) {
          usageWasFirst = previousEnd < 0
          set(this.usageCut, usageWasFirst ? keyStart : previousEnd, this.#at)
        }
      }
      previousEnd = this.#at
      if (!this.#ok) return false
    }
    if (!this.#ok || this.#at > end) return false
    this.#space()
    return this.#at === end
  }

  /** Whether a part is an object (`{`), not null. */
  isObject(part: Part): boolean {
    return part.start >= 0 && this.#bytes[part.start] === OPEN_BRACE
  }

  #topPart(): Part | null {
    switch (this.#keyEnd - this.#keyStart) {
      case 2:
        return this.#keyIs(ID) ? this.id : null
      case 5:
        return this.#keyIs(MODEL) ? this.model : this.#keyIs(USAGE) ? this.usage : this.#keyIs(ERROR) ? this.error : null
      case 7:
        return this.#keyIs(CREATED) ? this.created : null
      case 12:
        return this.#keyIs(SERVICE_TIER) ? this.serviceTier : null
      default:
        return null
    }
  }

  #readChoices(): void {
    let more = this.#open()
    this.choicesEmpty = !more && this.#ok
    for (; more; more = this.#next()) {
      if (this.choiceCount >= CHOICES_MAX || this.#bytes[this.#at] !== OPEN_BRACE) {
        this.#ok = false
        return
      }
      const choice = (this.choices[this.choiceCount] ??= newChoice())
      this.choiceCount += 1
      resetChoice(choice)
      this.#readChoice(choice)
    }
  }

  #readChoice(choice: ChunkChoice): void {
    for (let more = this.#open(); more; more = this.#next()) {
      if (!this.#key()) return
      const start = this.#at
      if (this.#keyIs(DELTA) && this.#bytes[start] === OPEN_BRACE) {
        this.#readDelta(choice)
        continue
      }
      const isIndex = this.#keyIs(INDEX)
      const isFinish = this.#keyIs(FINISH_REASON)
      const isText = this.#keyIs(TEXT) // of the old completions, which have no delta
      this.#skip()
      if (isIndex) choice.index = this.#integer(start, this.#at)
      else if (isFinish && this.#bytes[start] === QUOTE) set(choice.finish, start + 1, this.#at - 1)
      else if (isText && this.#bytes[start] === QUOTE) set(choice.content, start + 1, this.#at - 1)
    }
  }

  #readDelta(choice: ChunkChoice): void {
    for (let more = this.#open(); more; more = this.#next()) {
      if (!this.#key()) return
      const part = this.#deltaPart(choice)
      const start = this.#at
      this.#skip()
      if (part === null) continue
      const first = this.#bytes[start]
      if (first === QUOTE) {
        if (part === choice.reasoning && part.end - part.start >= this.#at - 2 - start) continue
        if (part !== choice.toolCalls && part !== choice.functionCall && part !== choice.audio) set(part, start + 1, this.#at - 1)
      } else if (isContainer(first) && part !== choice.reasoning && !this.#isEmptyAt(start))
        set(part === choice.content ? choice.contentParts : part, start, this.#at)
    }
  }

  #deltaPart(choice: ChunkChoice): Part | null {
    if (this.#keyIs(CONTENT)) return choice.content
    if (this.#keyIs(TOOL_CALLS)) return choice.toolCalls
    if (this.#keyIs(REASONING_CONTENT) || this.#keyIs(REASONING)) return choice.reasoning
    if (this.#keyIs(REFUSAL)) return choice.refusal
    if (this.#keyIs(FUNCTION_CALL)) return choice.functionCall
    return this.#keyIs(AUDIO) ? choice.audio : null
  }

  /** Whether the object or list there has nothing in it. */
  #isEmptyAt(start: number): boolean {
    const at = afterSpace(this.#bytes, start + 1)
    return this.#bytes[at] === CLOSE_BRACE || this.#bytes[at] === CLOSE_BRACKET
  }

  /** Steps into an object or list; false when it is empty or is none. */
  #open(): boolean {
    if (!isContainer(this.#bytes[this.#at])) {
      this.#ok = false
      return false
    }
    this.#at += 1
    this.#space()
    const byte = this.#bytes[this.#at]
    if (byte !== CLOSE_BRACE && byte !== CLOSE_BRACKET) return true
    this.#at += 1
    return false
  }

  /** Steps over a comma to the next member; false at the end of the object or list, which is stepped over. */
  #next(): boolean {
    if (!this.#ok) return false
    this.#space()
    const byte = this.#bytes[this.#at]
    this.#at += 1
    if (byte === COMMA) {
      this.#space()
      return true
    }
    if (byte !== CLOSE_BRACE && byte !== CLOSE_BRACKET) this.#ok = false
    return false
  }

  /** Reads `"key":` and stops at the value. */
  #key(): boolean {
    const end = this.#bytes[this.#at] === QUOTE ? stringEnd(this.#bytes, this.#at + 1) : -1
    if (end < 0 || end > this.#end) return (this.#ok = false)
    this.#keyStart = this.#at + 1
    this.#keyEnd = end - 1
    this.#at = end
    this.#space()
    if (this.#bytes[this.#at] !== COLON) return (this.#ok = false)
    this.#at += 1
    this.#space()
    return true
  }

  #keyIs(name: Uint8Array): boolean {
    if (this.#keyEnd - this.#keyStart !== name.length) return false
    for (let index = 0; index < name.length; index += 1) if (this.#bytes[this.#keyStart + index] !== name[index]) return false
    return true
  }

  /** Steps over a value of any kind. */
  #skip(): void {
    const end = valueEnd(this.#bytes, this.#at, this.#end)
    if (end < 0) this.#ok = false
    else this.#at = end
  }

  #integer(start: number, end: number): number {
    let value = 0
    for (let at = start; at < end && at < start + 6; at += 1) value = value * 10 + ((this.#bytes[at] ?? 0x30) - 0x30)
    return value
  }

  #space(): void {
    this.#at = afterSpace(this.#bytes, this.#at, this.#end)
  }
}

const EMPTY = new Uint8Array(0)

const ID = Buffer.from('id')
const MODEL = Buffer.from('model')
const USAGE = Buffer.from('usage')
const ERROR = Buffer.from('error')
const CREATED = Buffer.from('created')
const SERVICE_TIER = Buffer.from('service_tier')
const CHOICES = Buffer.from('choices')
/** Carries a second copy of the usage. */
const X_GROQ = Buffer.from('x_groq')
const INDEX = Buffer.from('index')
const DELTA = Buffer.from('delta')
const FINISH_REASON = Buffer.from('finish_reason')
const TEXT = Buffer.from('text')
const CONTENT = Buffer.from('content')
const REFUSAL = Buffer.from('refusal')
const REASONING = Buffer.from('reasoning')
const REASONING_CONTENT = Buffer.from('reasoning_content')
const TOOL_CALLS = Buffer.from('tool_calls')
const FUNCTION_CALL = Buffer.from('function_call')
const AUDIO = Buffer.from('audio')

function none(): Part {
  return { start: -1, end: -1 }
}
function set(part: Part, start: number, end: number): void {
  part.start = start
  part.end = end
}
function clear(part: Part): void {
  part.start = part.end = -1
}
function newChoice(): ChunkChoice {
  return {
    index: 0,
    content: none(),
    contentParts: none(),
    refusal: none(),
    reasoning: none(),
    toolCalls: none(),
    functionCall: none(),
    audio: none(),
    finish: none(),
  }
}
function resetChoice(choice: ChunkChoice): void {
  choice.index = 0
  clear(choice.content)
  clear(choice.contentParts)
  clear(choice.refusal)
  clear(choice.reasoning)
  clear(choice.toolCalls)
  clear(choice.functionCall)
  clear(choice.audio)
  clear(choice.finish)
}
function isContainer(byte: number | undefined): boolean {
  return byte === OPEN_BRACE || byte === OPEN_BRACKET
}
