/**
 * Thinking blocks and what binds them. A signature carries the model, how many tokens the thinking had, what it said, and a digest of all
 * that stood before the block: `tools`, `system`, every earlier block. https://platform.claude.com/docs/en/build-with-claude/preserved-thinking
 */
import { createHash, createHmac } from 'node:crypto'
import { isObject } from '../fields.ts'
import type { Block, Turn } from './content.ts'
import { canonical } from './content.ts'
import { invalid } from './error.ts'
import type { ClaudeModel } from './models.ts'

/** What stands before a block, as a digest that grows block by block. Messages of one role in a row are one turn. */
export class Prefix {
  #state: string
  #role = ''

  constructor(fixed: unknown) {
    this.#state = canonical(fixed)
  }

  get digest(): string {
    return this.#state
  }

  add(role: string, blockDigest: string): void {
    const mark = role === this.#role ? '' : role
    this.#role = role
    this.#state = createHash('sha256').update(`${this.#state}\n${mark}\n${blockDigest}`).digest('base64url')
  }
}

/** The signature of a thinking block of `tokens` tokens that says `text`, made after `prefix`. As long as encrypted thinking is. */
export function sign(model: ClaudeModel, prefix: string, tokens: number, text: string): string {
  const bound = JSON.stringify({ model: model.id, prefix, tokens, text: textDigest(text) })
  const body = Buffer.from(bound.padEnd(bound.length + tokens * BYTES_PER_TOKEN)).toString('base64url')
  return `${body}.${seal(body)}`
}

/**
 * Checks the thinking blocks among `turns`, and gives the tokens of each by its path; those of other models are left out, as the provider
 * leaves them out. Throws the provider's 400 for a block that was changed, or whose conversation was.
 */
export function checkThinking(model: ClaudeModel, fixed: unknown, turns: readonly Turn[]): ReadonlyMap<string, number> {
  const tokens = new Map<string, number>()
  const prefix = new Prefix(fixed)
  for (const turn of turns) {
    for (const block of turn.blocks) {
      if (block.signature !== null) {
        const bound = readSignature(block)
        if (bound.model === model.id) {
          if (model.preservedThinking && bound.prefix !== prefix.digest) throw otherConversation(block)
          tokens.set(block.path, bound.tokens)
        }
      }
      prefix.add(turn.role, block.digest)
    }
  }
  return tokens
}

/** As much as a token of encrypted thinking takes at least. */
const BYTES_PER_TOKEN = 3
const SECRET = 'fake thinking'

interface Bound {
  readonly model: string
  readonly prefix: string
  readonly tokens: number
  readonly text: string
}

function readSignature(block: Block): Bound {
  const [body = '', mark = ''] = (block.signature ?? '').split('.')
  const bound: unknown = mark === seal(body) ? JSON.parse(Buffer.from(body, 'base64url').toString()) : null
  if (!isBound(bound) || (block.type === 'thinking' && bound.text !== textDigest(block.text)))
    throw invalid(
      block.path,
      block.type === 'thinking' ? 'Invalid `signature` in `thinking` block' : 'Invalid `data` in `redacted_thinking` block',
    )
  return bound
}

function isBound(value: unknown): value is Bound {
  return isObject(value) && typeof value['model'] === 'string' && typeof value['prefix'] === 'string' && typeof value['tokens'] === 'number'
}

function otherConversation(block: Block): Error {
  const what = block.type === 'thinking' ? 'Invalid `signature` in `thinking` block' : 'Invalid `data` in `redacted_thinking` block'
  return invalid(
    block.path,
    `${what}. The block is bound to a different conversation. Remove the block, or set \`thinking.block_binding.prefix_mismatch_behavior\` to "drop_block".`,
  )
}

function textDigest(text: string): string {
  return createHash('sha256').update(text).digest('base64url')
}

function seal(body: string): string {
  return createHmac('sha256', SECRET).update(body).digest('base64url').slice(0, 22)
}
