/** A refusal in Anthropic's shape: `{"type": "error", "error": {type, message, details}, "request_id"}`. https://platform.claude.com/docs/en/api/errors */
import { ApiError } from '../api-error.ts'

const TYPES: Readonly<Record<number, string>> = {
  400: 'invalid_request_error',
  401: 'authentication_error',
  402: 'billing_error',
  403: 'permission_error',
  404: 'not_found_error',
  413: 'request_too_large',
  429: 'rate_limit_error',
  504: 'timeout_error',
  529: 'overloaded_error',
}

/** The body for `error`. */
export function errorJson(error: ApiError, requestId: string): object {
  const type = TYPES[error.status] ?? (error.status >= 500 ? 'api_error' : 'invalid_request_error')
  const details = error.code === null ? null : { error_code: error.code }
  return { type: 'error', error: { details, type, message: error.message }, request_id: requestId }
}

/** A 400 whose message begins with the path of what is wrong. */
export function invalid(path: string, what: string): ApiError {
  return new ApiError(400, path === '' ? what : `${path}: ${what}`, { param: path })
}
