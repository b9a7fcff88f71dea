/** OpenAI's calls that are no conversations: embeddings, the old completions, moderations, images, speech and its transcription. */
import { ApiError, badRequest } from '../api-error.ts'
import type { BillEntry, NewCall } from '../bill.ts'
import type { JsonObject } from '../fields.ts'
import { isObject } from '../fields.ts'
import { readerOf } from '../generation.ts'
import { speak, transcribe } from './audio.ts'
import type { UnitCall, UnitRequest } from './call.ts'
import { completeText } from './completions.ts'
import { embed, moderate } from './embeddings.ts'
import { editImages, generateImages, varyImage } from './images.ts'
import { billed, priceOf } from './models.ts'

export interface UnitServices {
  accept(call: NewCall): BillEntry
  nowMs(): number
}

type Handler = (call: UnitCall) => Promise<void> | void

const HANDLERS: Readonly<Record<string, Handler>> = {
  '/embeddings': embed,
  '/moderations': moderate,
  '/completions': completeText,
  '/images/generations': generateImages,
  '/images/edits': editImages,
  '/images/variations': varyImage,
  '/audio/speech': speak,
  '/audio/transcriptions': (call) => transcribe(call, 'transcribe'),
  '/audio/translations': (call) => transcribe(call, 'translate'),
}

/** By their path below the version. */
export const UNIT_PATHS: readonly string[] = Object.keys(HANDLERS)

/** Answers a call below `path`. Throws `ApiError`. */
export type UnitService = (path: string, asked: UnitRequest) => Promise<void>

export function unitService(services: UnitServices): UnitService {
  return async (path, asked) => {
    const handler = HANDLERS[path]
    if (handler === undefined) throw new ApiError(404, `Invalid URL (POST ${path})`)
    const { controls, requestId, response } = asked
    const reader = readerOf(response)
    const { fields, files } = await read(asked)
    if (controls.delayMs > 0) await reader.wait(controls.delayMs)
    if (controls.hang === 'headers') await reader.wait(Number.POSITIVE_INFINITY)
    if (reader.gone) return
    await handler({
      ...asked,
      fields: asked.model === undefined ? fields : { ...fields, model: asked.model },
      files,
      reader,
      open(model, { stream = false, promptTokens = 0 }) {
        const entry = services.accept({
          requestId,
          tag: controls.tag,
          model: billed(model),
          serviceTier: 'default',
          stream,
          promptTokens,
          cachedTokens: 0,
          startedAtMs: services.nowMs(),
        })
        return {
          use: (used, outputTokens = used.output ?? 0) =>
            entry.update({ outputTokens, reasoningTokens: 0, feesNanoUsd: priceOf(model, used) }),
          close: (state) => entry.close(state),
        }
      },
      sendJson(value) {
        this.send('application/json', Buffer.from(JSON.stringify(value)))
      },
      send(type, body) {
        response.writeHead(200, { 'content-type': type, 'content-length': body.length })
        response.end(body)
      },
      startEvents() {
        response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache' })
      },
    })
  }
}

async function read({ request, body }: UnitRequest): Promise<{ fields: JsonObject; files: readonly File[] }> {
  const type = request.headers['content-type'] ?? ''
  if (!type.startsWith('multipart/form-data')) return { fields: parse(body), files: [] }
  let form: FormData
  try {
    form = await new Response(new Uint8Array(body), { headers: { 'content-type': type } }).formData()
  } catch {
    throw badRequest(null, null, 'Could not parse multipart form')
  }
  const fields: Record<string, unknown> = {}
  const files: File[] = []
  for (const [name, value] of form) {
    if (typeof value === 'string') fields[name] = value
    else files.push(value)
  }
  return { fields, files }
}

function parse(body: Buffer): JsonObject {
  let value: unknown
  try {
    value = JSON.parse(body.toString('utf8'))
  } catch {
    value = null
  }
  if (isObject(value)) return value
  throw badRequest(null, null, 'We could not parse the JSON body of your request.')
}
