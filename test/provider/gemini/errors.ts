/** Refusals in the shape of `google.rpc.Status`: `{"error": {code, message, status, details?}}`. */
import type { ServerResponse } from 'node:http'
import { ApiError } from '../api-error.ts'

/** https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto, by the HTTP status of each. */
const STATUS_NAMES: Readonly<Record<number, string>> = {
  400: 'INVALID_ARGUMENT',
  401: 'UNAUTHENTICATED',
  403: 'PERMISSION_DENIED',
  404: 'NOT_FOUND',
  409: 'ABORTED',
  429: 'RESOURCE_EXHAUSTED',
  499: 'CANCELLED',
  500: 'INTERNAL',
  501: 'UNIMPLEMENTED',
  503: 'UNAVAILABLE',
  504: 'DEADLINE_EXCEEDED',
}

/** A 400 that names the field at fault, if one is. */
export function invalidArgument(message: string, field: string | null = null): ApiError {
  return new ApiError(400, message, { param: field })
}

/** The body of a refusal. */
export function statusJson(error: ApiError): object {
  const details =
    error.param !== null
      ? [{ '@type': 'type.googleapis.com/google.rpc.BadRequest', fieldViolations: [{ field: error.param, description: error.message }] }]
      : error.code !== null
        ? [{ '@type': 'type.googleapis.com/google.rpc.ErrorInfo', reason: error.code, domain: 'googleapis.com' }]
        : []
  const status = STATUS_NAMES[error.status] ?? (error.status >= 500 ? 'INTERNAL' : 'FAILED_PRECONDITION')
  return { error: { code: error.status, message: error.message, status, ...(details.length === 0 ? {} : { details }) } }
}

/** Sends a refusal, or breaks the connection when an answer has begun. A stream without `alt=sse` is a list, and so is its refusal. */
export function refuse(response: ServerResponse, error: unknown, inList: boolean): void {
  if (response.destroyed) return
  if (response.headersSent) {
    response.destroy()
    return
  }
  const refusal = error instanceof ApiError ? error : new ApiError(500, `The fake provider failed: ${String(error)}`)
  for (const [name, value] of Object.entries(refusal.headers)) response.setHeader(name, value)
  sendJson(response, refusal.status, inList ? [statusJson(refusal)] : statusJson(refusal))
}

export function sendJson(response: ServerResponse, status: number, value: unknown): void {
  const body = Buffer.from(JSON.stringify(value, null, 2))
  response.writeHead(status, { 'content-type': 'application/json; charset=UTF-8', 'content-length': body.length })
  response.end(body)
}
