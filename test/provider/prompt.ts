/** What a request fills the window with: its input tokens, and the blocks of its prefix that the prompt cache knows it by. */
import { createHash } from 'node:crypto'
import type { ChatRequest } from './chat-request.ts'
import { imageTokens } from './images.ts'
import type { ChatMessage } from './message-checks.ts'
import type { Model } from './models.ts'
import { countTokens, eachPiece, scaled } from './tokens.ts'

export const CACHE_BLOCK_TOKENS = 128
/** The shortest prefix that is cached. */
export const CACHE_MIN_TOKENS = 1_024

export interface Prompt {
  readonly tokens: number
  /** Digests of the prefixes of 1024, 1152, 1280 ... tokens, in this order. */
  readonly blocks: readonly number[]
}

const TOKENS_PER_MESSAGE = 4
const TOKENS_PER_CALL = 4
const TOKENS_PER_TOOL = 8
/** What primes the answer. */
const PRIMING_TOKENS = 3
const TEXT_TOKENS_PER_PAGE = 500
/** Where in a page's picture its tokens are taken from: letter size at 100 dots per inch. */
const PAGE_SIZE = { width: 850, height: 1_100 }

export function readPrompt(request: ChatRequest): Prompt {
  const { model } = request
  const prefix = new PrefixDigest(model.tokenPercent)
  let tokens = PRIMING_TOKENS
  const addText = (text: string): void => {
    tokens += textTokens(text, model)
    eachPiece(text, (ids) => prefix.add(ids))
  }
  const addMark = (mark: string, count: number): void => {
    tokens += count
    prefix.add(marks(mark, Math.ceil((count * 100) / model.tokenPercent)))
  }
  if (request.preamble !== '') {
    addText(request.preamble)
    tokens += request.tools.length * TOKENS_PER_TOOL
  }
  for (const message of request.messages) addMessage(message, model, addText, addMark)
  return { tokens, blocks: prefix.blocks }
}

/** Tokens of `text` as `model` counts them. */
export function textTokens(text: string, model: Model): number {
  const raw = countTokens(text)
  const count = Math.ceil((raw * model.tokenPercent) / 100)
  // UTF-8 bytes are at least the UTF-16 units: they need counting only where the text is short for its tokens.
  return count <= text.length ? count : scaled(raw, model.tokenPercent, Buffer.byteLength(text))
}

function addMessage(
  message: ChatMessage,
  model: Model,
  addText: (text: string) => void,
  addMark: (mark: string, count: number) => void,
): void {
  addMark(message.role, TOKENS_PER_MESSAGE)
  if (message.name !== null) {
    addMark('name', 1)
    addText(message.name)
  }
  addText(message.text)
  for (const call of message.toolCalls) {
    addMark('call', TOKENS_PER_CALL)
    addText(call.name)
    addText(call.input)
  }
  for (const image of message.images) addMark(image.url, imageTokens(model.images, image.size, image.detail))
  if (message.pages > 0) addMark('page', message.pages * (imageTokens(model.images, PAGE_SIZE, 'high') + TEXT_TOKENS_PER_PAGE))
}

/** A rolling digest over token ids, noted at every block border of the model's own tokens. */
class PrefixDigest {
  readonly blocks: number[] = []
  readonly #percent: number
  #low = 0x811c9dc5
  #high = 0x9747b28c
  #seen = 0
  #border: number

  constructor(percent: number) {
    this.#percent = percent
    this.#border = this.#borderAfter(0)
  }

  add(ids: Uint32Array): void {
    let low = this.#low
    let high = this.#high
    for (let index = 0; index < ids.length; index += 1) {
      const id = ids[index] ?? 0
      low = Math.imul(low ^ id, 0x01000193)
      high = Math.imul((high ^ (id + 0x7f4a7c15)) >>> 0, 0x85ebca6b) ^ (low >>> 15)
      this.#seen += 1
      if (this.#seen < this.#border) continue
      this.blocks.push((high >>> 11) * 0x100000000 + (low >>> 0))
      this.#border = this.#borderAfter(this.blocks.length)
    }
    this.#low = low
    this.#high = high
  }

  /** Ids of o200k after which the block number `index` of the model's tokens is full. */
  #borderAfter(index: number): number {
    return Math.ceil(((CACHE_MIN_TOKENS + index * CACHE_BLOCK_TOKENS) * 100) / this.#percent)
  }
}

const knownMarks = new Map<string, number>()

/** Ids that stand for what is not text: framing and images. Outside the range of real ids. */
function marks(mark: string, count: number): Uint32Array {
  let id = knownMarks.get(mark)
  if (id === undefined) {
    id = createHash('sha1').update(mark).digest().readUInt32BE(0) | 0x80000000
    if (mark.length < 16) knownMarks.set(mark, id)
  }
  return new Uint32Array(count).fill(id >>> 0)
}
