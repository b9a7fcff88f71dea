/**
 * Where Claude takes instructions in the middle of a conversation: behind a user's message, or an answer that ends in the result of one of
 * the provider's tools, and right before an answer or at the end. An edit that takes out what stood around them must not leave them elsewhere.
 * https://platform.claude.com/docs/en/build-with-claude/mid-conversation-system-messages
 */
import { isInstruction, isList, isObject, leadingCount } from '../core/message.ts'
import type { Message } from '../core/request.ts'

/**
 * The messages with instructions that stand where the provider would refuse them moved behind the next user's messages, where they say the
 * same: no answer is between. What stands right stays, and so does what nothing can put right.
 */
export function withPlacedInstructions(messages: readonly Message[]): readonly Message[] {
  const leading = leadingCount(messages)
  if (!messages.some((message, index) => index > leading && isInstruction(message))) return messages
  const placed = messages.slice(0, leading)
  /** The last message that is no instruction; those that came after it wait for one that may follow them. */
  let last: Message | null = null
  let waiting: Message[] = []
  for (const message of messages.slice(leading)) {
    if (isInstruction(message)) {
      // One that changes settings alone stands anywhere.
      if (waiting.length === 0 && isDirective(message)) placed.push(message)
      else waiting.push(message)
      continue
    }
    if (message.role !== 'assistant') waiting = waiting.filter((one) => !endsWithNextUser(one))
    else if (last !== null && mayBeFollowed(last)) placed.push(...waiting.splice(0))
    placed.push(message)
    last = message
  }
  return [...placed, ...waiting]
}

function mayBeFollowed(message: Message): boolean {
  if (message.role !== 'assistant') return true
  const { content } = message.json
  const block = isList(content) ? content.at(-1) : undefined
  const type = isObject(block) ? block['type'] : undefined
  return typeof type === 'string' && type.endsWith('_tool_result')
}

function isDirective({ json: { content, output_config: settings } }: Message): boolean {
  return isList(content) && content.length === 0 && isObject(settings)
}

/** Instructions for one turn, which the provider reads no longer once a user has said something after them. */
function endsWithNextUser({ json }: Message): boolean {
  return json['clear_at'] === 'next_user_message'
}
