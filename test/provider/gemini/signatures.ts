/**
 * Thought signatures: what the model signs of a part, and when it wants that back.
 * https://ai.google.dev/gemini-api/docs/thought-signatures
 */
import { createHash } from 'node:crypto'
import type { JsonObject } from '../fields.ts'
import { isObject } from '../fields.ts'
import { invalidArgument } from './errors.ts'
import type { GeminiModel } from './models.ts'
import type { Content } from './request.ts'

/** What apps may send in place of a signature, for calls that this model did not make. */
const ANY_CALL = new Set(['skip_thought_signature_validator', 'context_engineering_is_the_way_to_go'])
const MAGIC = 'fake-thought:'

/** The signature of a call, or of words (`null`): those come in pieces, so that it says nothing of them. */
export function signatureOf(call: { readonly name: string; readonly args: unknown } | null): string {
  const signed =
    call === null
      ? 'text'
      : createHash('sha256')
          .update(`${call.name} ${canonical(call.args)}`)
          .digest('hex')
  return Buffer.from(`${MAGIC}${signed}`).toString('base64')
}

/** Throws a 400 where a signature stands with another part than its own, or is missing from the turn under way. */
export function checkSignatures(contents: readonly Content[], model: GeminiModel): void {
  const begin = contents.findLastIndex(({ role, parts }) => role === 'user' && parts.some((part) => part['functionResponse'] === undefined))
  let called = false
  for (const [position, content] of contents.entries()) {
    // Contents of the model that follow each other are one step: the first call of it is the one that is signed.
    if (content.role === 'user') called = false
    for (const part of content.parts) checkPart(part, content.path)
    const first = content.parts.find((part) => isObject(part['functionCall']))
    if (first === undefined || called) continue
    called = true
    if (!model.needsSignatures || position < begin || typeof first['thoughtSignature'] === 'string') continue
    throw invalidArgument(
      `Function call is missing a thought_signature in functionCall parts. This is required for tools to work correctly, and missing thought_signature may lead to degraded model performance. Additional data, function call \`default_api:${nameOf(first)}\` , position ${position + 1}. Please refer to https://ai.google.dev/gemini-api/docs/thought-signatures for more details.`,
    )
  }
}

function checkPart(part: JsonObject, path: string): void {
  const signature = part['thoughtSignature']
  if (typeof signature !== 'string' || ANY_CALL.has(signature)) return
  const call = part['functionCall']
  const own = isObject(call) ? signatureOf({ name: String(call['name']), args: call['args'] ?? {} }) : signatureOf(null)
  if (signature !== own) throw invalidArgument('Corrupted thought signature.', path)
}

function nameOf(part: JsonObject): string {
  const call = part['functionCall']
  return isObject(call) ? String(call['name']) : ''
}

/** JSON that does not depend on the order of keys. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`
  if (!isObject(value)) return JSON.stringify(value) ?? 'null'
  const members = Object.keys(value).toSorted()
  return `{${members.map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`).join(',')}}`
}
