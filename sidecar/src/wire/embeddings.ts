/** Embeddings: input tokens in, vectors out. https://developers.openai.com/api/docs/api-reference/embeddings */
import type { JsonObject } from '../core/request.ts'
import { NO_FACTS, usageFacts } from './answer-reading.ts'
import { objectAt } from './json-values.ts'
import { readUsage } from './openai-usage.ts'
import { InvalidField } from './request-reading.ts'
import { answerWith, lengthOf, modelOf, parseUnitCall, UNIT_WIRE, UnitStream } from './unit-call.ts'
import { ABSENT } from './usage-reading.ts'
import type { UsageReading } from './usage-reading.ts'
import type { ReadAnswer, Wire } from './wire.ts'

/** A longer answer is all vectors: what it says of itself stands at its ends. */
const WHOLE_BYTES_MAX = 512 * 1024
const END_BYTES = 4 * 1024
const SPLIT: ReadonlySet<string> = new Set(['input'])

export const embeddingsWire: Wire = {
  ...UNIT_WIRE,
  name: 'embeddings',
  parse: (body, call) =>
    parseUnitCall(body, call, SPLIT, (fields) => {
      if (lengthOf(fields.value('input')) === 0) throw new InvalidField('input', 'must be a text, or a list of texts or tokens')
      return { wire: 'embeddings', model: modelOf(fields, call) }
    }),
  readAnswer: (body) => readVectors(body, 'usage', ({ usage }) => readUsage(usage)),
  openStream: () => new UnitStream(({ usage }) => (usage === undefined ? null : readUsage(usage))),
}

/** `usage`: the member of an answer that says what was used, and `read`, what it comes to. */
export function readVectors(body: Buffer, usage: string, read: (answer: JsonObject) => UsageReading): ReadAnswer {
  if (body.length <= WHOLE_BYTES_MAX) {
    const answer = objectAt(body)
    return answerWith(answer, answer === null ? ABSENT : read(answer))
  }
  // Parsing a million numbers would hold up everybody else.
  const ends = `${body.toString('latin1', 0, END_BYTES)}\n${body.toString('latin1', body.length - END_BYTES)}`
  const told = objectAt(Buffer.from(new RegExp(`"${usage}"\\s*:\\s*(\\{[^{}]*(?:\\{[^{}]*\\}[^{}]*)*\\})`).exec(ends)?.[1] ?? ''))
  const model = /"model"\s*:\s*"([^"\\]{1,256})"/.exec(ends)?.[1] ?? null
  const reading = told === null ? ABSENT : read({ [usage]: told })
  return {
    facts: {
      ...NO_FACTS,
      model,
      ...usageFacts(reading),
    },
    message: null,
    readable: true,
  }
}
