/** Where in a request an attachment stands, in the words of its format. */
import { isList, isObject } from './message.ts'
import { isUnbounded } from './media-tokens.ts'
import type { Json, Message, ModelRequest } from './request.ts'

/** The last part whose size nothing bounds: `messages[2].content[1]`. The list of messages where it cannot be told. */
export function attachmentOf({ wire, messages, model }: ModelRequest): string {
  const list = wire === 'gemini' ? 'contents' : wire === 'responses' || wire === 'compact' ? 'input' : 'messages'
  // Gemini's instructions stand beside its contents.
  const before = wire === 'gemini' && messages[0]?.role === 'system' ? 1 : 0
  const index = messages.findLastIndex((message) => message.images.some((part) => isUnbounded(part, model)))
  const message = messages[index]
  if (message === undefined || index < before) return list
  const name = wire === 'gemini' ? 'parts' : 'content'
  const part = fileIn(message, name)
  return `${list}[${index - before}]${part === null ? '' : `.${name}[${part}]`}`
}

function fileIn({ json }: Message, name: string): number | null {
  const parts = json[name]
  if (!isList(parts)) return null
  const at = parts.findLastIndex(isFile)
  return at < 0 ? null : at
}

const FILE_TYPES: ReadonlySet<Json | undefined> = new Set(['file', 'input_file', 'document', 'container_upload'])

function isFile(part: Json): boolean {
  if (!isObject(part)) return false
  if (FILE_TYPES.has(part['type'])) return true
  if (isObject(part['fileData'] ?? part['file_data'])) return true
  const blob = part['inlineData'] ?? part['inline_data']
  if (!isObject(blob)) return false
  const type = blob['mimeType'] ?? blob['mime_type']
  // Their own bytes bound these.
  return !(typeof type === 'string' && /^(?:image|audio)\//.test(type))
}
