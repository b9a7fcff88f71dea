/**
 * Every error that a client can see, in one table; docs/errors.md lists the same codes, and a test compares the two. A
 * refusal is 402, 400 or 403 because no SDK retries those; what may succeed a moment later is 503 with `retry-after`.
 */

export interface ErrorEntry {
  readonly status: number
  /** OpenAI's `error.type`. */
  readonly type: 'insufficient_quota' | 'invalid_request_error' | 'permission_error' | 'server_error'
  /** For people: says which limit, names no amount, and avoids "try again in", which some clients parse as a wait. */
  readonly message: string
  /** Seconds after which the same request may succeed; absent: it will not, and `x-should-retry: false` says so. */
  readonly retryAfterSeconds?: number
}

export const ERRORS = {
  conversation_budget_exhausted: {
    status: 402,
    type: 'insufficient_quota',
    message: 'This conversation has used the budget of its plan. Start a new conversation to go on.',
  },
  tool_calls_refused: {
    status: 402,
    type: 'insufficient_quota',
    message: 'This conversation is near the end of its budget: new tool calls are refused, and this request forces one.',
  },
  context_window_exceeded: {
    status: 400,
    type: 'invalid_request_error',
    message: 'The conversation is longer than the context window of its plan.',
  },
  model_not_allowed: { status: 403, type: 'permission_error', message: 'The plan of this conversation does not include this model.' },
  model_unpriced: { status: 403, type: 'permission_error', message: 'This model has no price, and unpriced models are refused here.' },
  conversation_id_required: {
    status: 400,
    type: 'invalid_request_error',
    message: 'A conversation id is required in x-farebox-conversation.',
  },
  identity_rejected: { status: 403, type: 'permission_error', message: 'The identity or tier that this request claims is not accepted.' },
  endpoint_not_governed: {
    status: 403,
    type: 'permission_error',
    message: 'This endpoint is not metered here, and unmetered endpoints are refused.',
  },
  /** Anthropic's own code, by which its SDKs go on without a thread. */
  thread_unsupported_request: {
    status: 400,
    type: 'invalid_request_error',
    message: 'A thread, whose history is kept by the provider, is not metered here.',
  },
  invalid_request: { status: 400, type: 'invalid_request_error', message: 'The request cannot be read.' },
  request_too_large: { status: 413, type: 'invalid_request_error', message: 'The request body is larger than 32 MiB.' },
  unsupported_encoding: { status: 415, type: 'invalid_request_error', message: 'The content-encoding must be gzip, br, zstd or identity.' },
  budget_busy: {
    status: 503,
    type: 'server_error',
    message: 'Other calls of this conversation hold the rest of its budget for the moment.',
    retryAfterSeconds: 1,
  },
  sidecar_busy: {
    status: 503,
    type: 'server_error',
    message: 'The calls under way leave no room for the body of this one for the moment.',
    retryAfterSeconds: 1,
  },
  budget_store_unavailable: { status: 503, type: 'server_error', message: 'The budget store is away.', retryAfterSeconds: 2 },
  policy_unavailable: { status: 503, type: 'server_error', message: 'No valid configuration has been received yet.', retryAfterSeconds: 2 },
  internal_error: { status: 500, type: 'server_error', message: 'The request could not be handled. The log of the sidecar says why.' },
  credential_unavailable: {
    status: 503,
    type: 'server_error',
    message: 'The key for the model provider is held here and cannot be read.',
    retryAfterSeconds: 2,
  },
  upstream_unreachable: { status: 502, type: 'server_error', message: 'The model provider could not be reached.', retryAfterSeconds: 1 },
  upstream_timeout: { status: 504, type: 'server_error', message: 'The model provider did not answer in time.' },
} as const satisfies Record<string, ErrorEntry>

export type ErrorCode = keyof typeof ERRORS

/** A refusal: a code of the table, and what a particular case adds to it. */
export interface Refusal {
  readonly code: ErrorCode
  /** Replaces the table's message: the owner's words, or which field is wrong. */
  readonly message?: string
  /** The request field or header at fault. */
  readonly param?: string
  /** The model that is not let in, for the log. */
  readonly model?: string
}

/** Characters of a model's name that a refusal repeats: no name in use is as long. */
const MODEL_SHOWN_MAX = 128

/** Names the model, for people: a slip there, or in the plan, shows at once. */
export function modelNotAllowed(asked: string): Refusal {
  const model = asked.length > MODEL_SHOWN_MAX ? `${asked.slice(0, MODEL_SHOWN_MAX).toWellFormed()}...` : asked
  return {
    code: 'model_not_allowed',
    message: `The plan of this conversation does not include the model "${model}".`,
    param: 'model',
    model,
  }
}

/** Whose clients read the answer: each provider has its own shape of errors. */
export type ErrorShape = 'openai' | 'azure' | 'anthropic' | 'google'

/** The header by which a provider names a request. */
export function requestIdHeader(shape: ErrorShape): string {
  return shape === 'anthropic' ? 'request-id' : 'x-request-id'
}

/** The refusal as an answer in the provider's shape. `headers` is a raw list: name, value, name, value. */
export function errorAnswer(
  refusal: Refusal,
  requestId: string,
  shape: ErrorShape,
): { readonly status: number; readonly headers: string[]; readonly body: Buffer } {
  const entry: ErrorEntry = ERRORS[refusal.code]
  const body = Buffer.from(JSON.stringify(errorBody(refusal, entry, requestId, shape)))
  const headers = ['content-type', 'application/json', 'cache-control', 'no-store', requestIdHeader(shape), requestId]
  if (entry.retryAfterSeconds === undefined) headers.push('x-should-retry', 'false')
  else headers.push('x-should-retry', 'true', 'retry-after', String(entry.retryAfterSeconds))
  headers.push('content-length', String(body.length))
  return { status: entry.status, headers, body }
}

function errorBody({ code, message, param }: Refusal, entry: ErrorEntry, requestId: string, shape: ErrorShape): object {
  const words = message ?? entry.message
  switch (shape) {
    case 'openai':
    case 'azure':
      return { error: { message: words, type: entry.type, param: param ?? null, code } }
    // https://platform.claude.com/docs/en/api/errors
    case 'anthropic': {
      const details = { error_code: code, ...(param === undefined ? {} : { param }) }
      return { type: 'error', error: { type: ANTHROPIC_TYPES[entry.type], message: words, details }, request_id: requestId }
    }
    // google.rpc.Status, https://cloud.google.com/apis/design/errors
    case 'google': {
      const info = {
        '@type': 'type.googleapis.com/google.rpc.ErrorInfo',
        reason: code.toUpperCase(),
        domain: 'farebox.dev',
        ...(param === undefined ? {} : { metadata: { param } }),
      }
      return { error: { code: entry.status, message: words, status: GOOGLE_STATUS[entry.type], details: [info] } }
    }
  }
}

const ANTHROPIC_TYPES = {
  insufficient_quota: 'billing_error',
  invalid_request_error: 'invalid_request_error',
  permission_error: 'permission_error',
  server_error: 'api_error',
} as const satisfies Record<ErrorEntry['type'], string>

const GOOGLE_STATUS = {
  insufficient_quota: 'RESOURCE_EXHAUSTED',
  invalid_request_error: 'INVALID_ARGUMENT',
  permission_error: 'PERMISSION_DENIED',
  server_error: 'UNAVAILABLE',
} as const satisfies Record<ErrorEntry['type'], string>
