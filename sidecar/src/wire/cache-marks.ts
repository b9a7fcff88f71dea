/**
 * Marks by which an app asks a provider to keep what stands up to a block. Apps move them from message to message as a conversation grows,
 * and providers take only so many in a request: they belong to the call that they came with, and to no edit that was logged.
 * https://platform.claude.com/docs/en/build-with-claude/prompt-caching, https://developers.openai.com/api/docs/guides/prompt-caching
 */
import { isList, isObject } from '../core/message.ts'
import type { Json, JsonObject } from '../core/request.ts'

/** Anthropic's, which routers take in OpenAI's formats too, and OpenAI's. */
export const CACHE_MARKS = ['cache_control', 'prompt_cache_breakpoint'] as const

/**
 * `content` with the marks that `from` has, and with none of its own. It was made of `from` by leaving out texts and blocks, so blocks are
 * matched from the last one on: that is where apps put a mark. A bare text, which can carry none, becomes a block of `textType`. The same
 * value where neither has any.
 */
export function withMarksOf(content: Json | undefined, from: Json | undefined, textType: 'text' | 'input_text'): Json | undefined {
  const marks = marksIn(from)
  if (typeof content === 'string') {
    const mark = marks.findLast((each) => each !== null) ?? null
    return mark === null || content === '' ? content : [{ type: textType, text: content, ...mark }]
  }
  if (!isList(content) || [...marks, ...marksIn(content)].every((mark) => mark === null)) return content
  const blocks = content.map(withoutMarks)
  for (const [at, mark] of marks.entries()) {
    const place = Math.max(0, blocks.length - (marks.length - at))
    const block = blocks[place]
    if (mark !== null && isObject(block)) blocks[place] = { ...block, ...mark }
  }
  return blocks
}

/** The block without its marks, and without those of the blocks inside it. */
export function withoutMarks(block: Json): Json {
  if (!isObject(block)) return block
  const { cache_control: _, prompt_cache_breakpoint: __, ...rest } = block
  const bare = withoutMarksInside(rest)
  return isObject(bare['source']) ? { ...bare, source: withoutMarksInside(bare['source']) } : bare
}

function withoutMarksInside(value: JsonObject): JsonObject {
  return isList(value['content']) ? { ...value, content: value['content'].map(withoutMarks) } : value
}

/** The fields that mark each block, be they its own or those of the last marked block inside it; null: none. */
function marksIn(content: Json | undefined): readonly (JsonObject | null)[] {
  if (!isList(content)) return []
  return content.map((block) => {
    if (!isObject(block)) return null
    const own = CACHE_MARKS.flatMap((key): [string, Json][] => (isObject(block[key]) ? [[key, block[key]]] : []))
    if (own.length > 0) return Object.fromEntries(own)
    const source = block['source']
    const inside = [...marksIn(isObject(source) ? source['content'] : undefined), ...marksIn(block['content'])]
    return inside.findLast((mark) => mark !== null) ?? null
  })
}
