/** Where in a request an attachment or a question stands, in the words of its format. */
import { isList, isObject, turnStarts } from './message.ts'
import { isUnbounded } from './media-tokens.ts'
import type { Json, Message, ModelRequest } from './request.ts'

/** The last part whose size nothing bounds: `messages[2].content[1]`. The list of messages where it cannot be told. */
export function attachmentOf(request: ModelRequest): string {
  const { wire, messages, model } = request
  const message = messages.findLast(({ images }) => images.some((part) => isUnbounded(part, model)))
  const place = message === undefined ? null : placeOf(request, message)
  if (message === undefined || place === null) return listOf(request)
  const name = wire === 'gemini' ? 'parts' : 'content'
  const part = fileIn(message, name)
  return `${place}${part === null ? '' : `.${name}[${part}]`}`
}

/** The message with which the last turn begins, or the longest of those where it begins with several: `messages[2]`. */
export function questionPart(request: ModelRequest): string {
  const { messages } = request
  const asked = messages.slice(turnStarts(messages).at(-1) ?? 0).filter(({ role }) => role === 'user')
  const [longest] = asked.toSorted((one, other) => other.bytes.length - one.bytes.length)
  return (longest === undefined ? null : placeOf(request, longest)) ?? listOf(request)
}

/** Null for instructions that stand beside the list. */
function placeOf(request: ModelRequest, message: Message): string | null {
  const { wire, messages } = request
  // Gemini's stand beside its contents.
  const before = wire === 'gemini' && messages[0]?.role === 'system' ? 1 : 0
  const index = messages.indexOf(message)
  return index < before ? null : `${listOf(request)}[${index - before}]`
}

function listOf({ wire }: ModelRequest): string {
  return wire === 'gemini' ? 'contents' : wire === 'responses' || wire === 'compact' ? 'input' : 'messages'
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
