/** What a request fills the window with, and what of it the prompt cache knows. https://platform.claude.com/docs/en/build-with-claude/prompt-caching */
import type { ImageSize } from '../images.ts'
import { countTokens, scaled } from '../tokens.ts'
import type { Block, CacheTtl } from './content.ts'
import { canonical } from './content.ts'
import type { ClaudeModel } from './models.ts'
import type { ClaudeRequest } from './request.ts'
import { Prefix } from './thinking.ts'

/** The input in disjoint parts. */
export interface InputTokens {
  readonly uncached: number
  readonly cacheRead: number
  readonly cacheWrite5m: number
  readonly cacheWrite1h: number
}

export interface Prompt {
  readonly tokens: number
  /** What the prefix up to each block is known by, and its tokens, in order. */
  readonly steps: readonly { readonly digest: string; readonly tokens: number; readonly cacheTtl: CacheTtl | null }[]
  /** What stands before the answer, for the thinking that begins it. */
  readonly prefix: Prefix
}

const TOKENS_PER_TURN = 4
const TOKENS_PER_CALL = 4
const TOKENS_PER_TOOL = 8
/** What primes the answer. */
const PRIMING_TOKENS = 3
/** The system prompt that tells a model how to use tools. */
const TOOL_PROMPT_TOKENS = 346
const TEXT_TOKENS_PER_PAGE = 500
const PIXELS_PER_TOKEN = 750
const IMAGE_TOKENS_MAX = 1_600
const PAGE_SIZE: ImageSize = { width: 850, height: 1_100 }

export function readPrompt(request: ClaudeRequest): Prompt {
  const { model, system, tools, turns } = request
  const steps: Prompt['steps'][number][] = []
  let tokens = PRIMING_TOKENS + (tools.length > 0 ? TOOL_PROMPT_TOKENS : 0)
  const head = new Prefix({ model: model.id })
  for (const tool of tools) {
    tokens += textTokens(JSON.stringify(tool.definition), model) + TOKENS_PER_TOOL
    head.add('tool', canonical(tool.definition))
    steps.push({ digest: head.digest, tokens, cacheTtl: tool.cacheTtl })
  }
  for (const block of system) {
    tokens += textTokens(block.text, model)
    head.add('system', block.digest)
    steps.push({ digest: head.digest, tokens, cacheTtl: block.cacheTtl })
  }
  if (request.format !== null) tokens += textTokens(JSON.stringify(request.format), model)
  // Messages are cached apart for each choice among tools and each way to think; what thinking is bound to knows neither.
  const cached = new Prefix([head.digest, request.toolChoice, request.thinking.type, request.format])
  const prefix = new Prefix(request.fixed)
  const all = turns.flatMap((turn) => turn.blocks)
  for (const turn of turns) {
    tokens += TOKENS_PER_TURN
    for (const block of turn.blocks) {
      tokens += blockTokens(block, request)
      cached.add(turn.role, block.digest)
      prefix.add(turn.role, block.digest)
      const cacheTtl = block.cacheTtl ?? (block === all.at(-1) ? request.cacheTtl : null)
      steps.push({ digest: cached.digest, tokens, cacheTtl })
    }
  }
  return { tokens, steps, prefix }
}

/** Tokens of `text` as `model` counts them. */
export function textTokens(text: string, model: ClaudeModel): number {
  return text === '' ? 0 : scaled(countTokens(text), model.tokenPercent, Buffer.byteLength(text))
}

function blockTokens(block: Block, request: ClaudeRequest): number {
  const { model } = request
  if (block.signature !== null) return request.thinkingTokens.get(block.path) ?? 0
  const images = block.images.reduce((sum, size) => sum + imageTokens(size), 0)
  const pages = block.pages * (imageTokens(PAGE_SIZE) + TEXT_TOKENS_PER_PAGE)
  const framing = block.call !== null || block.answers !== null ? TOKENS_PER_CALL : 0
  return textTokens(block.text, model) + images + pages + framing
}

function imageTokens({ width, height }: ImageSize): number {
  return Math.min(IMAGE_TOKENS_MAX, Math.ceil((width * height) / PIXELS_PER_TOKEN))
}
