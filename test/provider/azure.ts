/**
 * Azure OpenAI: OpenAI's calls below a deployment, whose name need not be that of its model, or below `/openai/v1`, where the
 * deployment stands in the body. https://learn.microsoft.com/azure/ai-services/openai/reference
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { ApiError } from './api-error.ts'
import type { Controls } from './controls.ts'
import { readControls } from './controls.ts'
import { isObject } from './fields.ts'

export interface Deployment {
  readonly name: string
  readonly model: string
}

/** What is deployed when nothing else is asked for. */
export const DEFAULT_DEPLOYMENTS: readonly Deployment[] = [
  { name: 'desk-large', model: 'gpt-4o' },
  { name: 'desk-small', model: 'gpt-4o-mini' },
  { name: 'desk-thinking', model: 'gpt-5-mini' },
  { name: 'desk-vectors', model: 'text-embedding-3-small' },
  { name: 'desk-ears', model: 'whisper-1' },
  { name: 'desk-voice', model: 'tts-1' },
  { name: 'desk-brush', model: 'gpt-image-1' },
]

export interface AzureServices {
  readonly deployments: readonly Deployment[]
  readonly apiKeys: readonly string[] | undefined
  /** The operations that there are, by their path below the deployment; `model` is that of the deployment, and in the body too. */
  readonly operations: Readonly<Record<string, AzureOperation>>
  /** Throws the failure that a test asked for. */
  fail(controls: Controls): void
}

export type AzureOperation = (call: {
  /** The body, with the model in place of the deployment where it is JSON. */
  readonly body: Buffer
  readonly request: IncomingMessage
  readonly model: string
  readonly controls: Controls
  readonly requestId: string
  readonly response: ServerResponse
}) => Promise<void>

/** Answers one request below `/openai/`. Throws `ApiError`. */
export type AzureService = (request: IncomingMessage, url: URL, body: Buffer, requestId: string, response: ServerResponse) => Promise<void>

const API_VERSION = /^(\d{4}-\d{2}-\d{2}(-preview)?|preview|latest|v1)$/

export function azureService(services: AzureServices): AzureService {
  const models = new Map(services.deployments.map(({ name, model }) => [name, model]))
  return async (request, url, body, requestId, response) => {
    checkKey(request, services.apiKeys)
    const below = /^\/openai\/deployments\/([^/]+)(\/.+)$/.exec(url.pathname)
    const path = below?.[2] ?? /^\/openai\/v1(\/.+)$/.exec(url.pathname)?.[1]
    const version = url.searchParams.get('api-version')
    if (path === undefined || (version === null ? below !== null : !API_VERSION.test(version))) throw notFound()
    const operation = Object.hasOwn(services.operations, path) ? services.operations[path] : undefined
    if (operation === undefined || request.method !== 'POST') throw notFound()
    const json = isJson(request) ? parse(body) : null
    const deployment = below === null ? deploymentIn(json ?? body) : decodeURIComponent(below[1] ?? '')
    const model = models.get(deployment)
    if (model === undefined)
      throw new ApiError(
        404,
        'The API deployment for this resource does not exist. If you created the deployment within the last 5 minutes, please wait a moment and try again.',
        { code: 'DeploymentNotFound' },
      )
    const controls = readControls(request.headers)
    services.fail(controls)
    response.setHeader('apim-request-id', requestId)
    response.setHeader('x-ms-region', 'West Europe')
    const asked = json === null ? body : Buffer.from(JSON.stringify({ ...json, model }))
    await operation({ body: asked, request, model, controls, requestId, response })
  }
}

/** What its content filter says of one prompt or answer in which it found nothing. */
const NOTHING_FOUND = Object.fromEntries(
  ['hate', 'self_harm', 'sexual', 'violence'].map((category) => [category, { filtered: false, severity: 'safe' }]),
)
export const PROMPT_FILTER_RESULTS = [{ prompt_index: 0, content_filter_results: NOTHING_FOUND }]
export const CONTENT_FILTER_RESULTS = NOTHING_FOUND

/** The chunk before all others: it names neither the model nor the answer. */
export const OPENING_EVENT = `data: ${JSON.stringify({ choices: [], created: 0, id: '', model: '', object: '', prompt_filter_results: PROMPT_FILTER_RESULTS })}\n\n`

function checkKey(request: IncomingMessage, keys: readonly string[] | undefined): void {
  const header = request.headers['api-key']
  const bearer = /^Bearer\s+(\S+)$/i.exec(request.headers.authorization ?? '')?.[1]
  const key = typeof header === 'string' && header !== '' ? header : bearer
  if (key !== undefined && (keys === undefined || keys.includes(key))) return
  throw new ApiError(
    401,
    'Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an active subscription and use a correct regional API endpoint for your resource.',
    { code: '401' },
  )
}

function isJson(request: IncomingMessage): boolean {
  return request.headers['content-type']?.includes('application/json') === true
}

function parse(body: Buffer): Readonly<Record<string, unknown>> {
  let value: unknown
  try {
    value = JSON.parse(body.toString('utf8'))
  } catch {
    value = null
  }
  if (isObject(value)) return value
  throw new ApiError(400, 'Your request contains invalid JSON.', { code: 'BadRequest' })
}

/** The deployment that a body names in place of a model, be it JSON or a form. */
function deploymentIn(body: Readonly<Record<string, unknown>> | Buffer): string {
  const name = Buffer.isBuffer(body) ? /name="?model"?\r\n\r\n([^\r\n]+)\r\n/.exec(body.toString('latin1'))?.[1] : body['model']
  if (typeof name === 'string') return name
  throw new ApiError(400, "Missing required parameter: 'model'.", { code: 'missing_required_parameter', param: 'model' })
}

function notFound(): ApiError {
  return new ApiError(404, 'Resource not found', { code: '404' })
}
