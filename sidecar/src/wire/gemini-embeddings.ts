/** Gemini's embeddings, of one text or of many: input tokens in, vectors out. https://ai.google.dev/api/embeddings */
import { isList, isObject } from '../core/message.ts'
import type { Json, JsonObject } from '../core/request.ts'
import { readVectors } from './embeddings.ts'
import { objectsIn } from './gemini-json.ts'
import { checkParameters, geminiCall } from './gemini-request.ts'
import { readGeminiUsage } from './gemini-usage.ts'
import { checkedModel, InvalidField, UngovernedUse } from './request-reading.ts'
import { parseUnitCall, UNIT_WIRE, UnitStream } from './unit-call.ts'
import type { UnitFields } from './unit-call.ts'
import type { Wire } from './wire.ts'

const SPLIT: ReadonlySet<string> = new Set(['requests'])
const USAGE = 'usageMetadata'
/** What a provider may add to each text. */
const FRAMING_TOKENS = 4
/** Members whose texts are names, which no model reads. */
const NAMES: ReadonlySet<string> = new Set(['model', 'role', 'taskType', 'task_type'])

export const geminiEmbeddingsWire: Wire = {
  ...UNIT_WIRE,
  name: 'embeddings',
  parse: (body, call) =>
    parseUnitCall(body, call, SPLIT, (fields) => {
      checkParameters(call.path)
      const asked = geminiCall(call.path)
      const requests = asked?.method === 'batchEmbedContents' ? requestsOf(fields.value('requests')) : [wholeOf(fields)]
      for (const request of requests) checkContent(request['content'])
      const textBytes = requests.reduce((sum, request) => sum + textBytesIn(request) + FRAMING_TOKENS, 0)
      return { wire: 'embeddings', model: checkedModel(asked?.model), textBytes }
    }),
  readAnswer: (body) => readVectors(body, USAGE, readGeminiUsage),
  openStream: () => new UnitStream((event) => (event[USAGE] === undefined ? null : readGeminiUsage(event))),
}

function requestsOf(requests: Json | undefined): readonly JsonObject[] {
  const all = objectsIn(requests)
  if (all.length > 0 && (!isList(requests) || requests.length === all.length)) return all
  throw new InvalidField('requests', 'must be a list with at least one request')
}

function wholeOf(fields: UnitFields): JsonObject {
  return Object.fromEntries(Array.from(fields.names, (name) => [name, fields.value(name) ?? null]))
}

/** Text is bounded by its bytes. What a picture, a film or a page comes to is not, and has prices of its own. */
function checkContent(content: Json | undefined): void {
  const told = isObject(content) ? content['parts'] : undefined
  const parts = isObject(told) ? [told] : told
  if (!isList(parts) || parts.length === 0) throw new InvalidField('content', 'must have a list of parts')
  if (!parts.every(isTextAlone)) throw new UngovernedUse('An embedding of something other than text')
}

/** Whether it is a thought changes nothing, and what is null is not there. */
function isTextAlone(part: Json): boolean {
  if (!isObject(part) || typeof part['text'] !== 'string') return false
  return Object.entries(part).every(([name, value]) => name === 'text' || name === 'thought' || value === null)
}

/** Of all texts, be it the content or a title. */
function textBytesIn(value: Json | undefined): number {
  if (typeof value === 'string') return Buffer.byteLength(value)
  if (isList(value)) return value.reduce((sum: number, one) => sum + textBytesIn(one), 0)
  if (!isObject(value)) return 0
  return Object.entries(value).reduce((sum, [name, one]) => (NAMES.has(name) ? sum : sum + textBytesIn(one)), 0)
}
