/** A refusal in the provider's own shape: `{"error": {message, type, param, code}}` with its HTTP status. Thrown by the checks, caught once per call. */
export class ApiError extends Error {
  readonly status: number
  readonly type: string
  readonly param: string | null
  readonly code: string | null
  readonly headers: Readonly<Record<string, string>>

  constructor(
    status: number,
    message: string,
    more: {
      readonly type?: string
      readonly param?: string | null
      readonly code?: string | null
      readonly headers?: Readonly<Record<string, string>>
    } = {},
  ) {
    super(message)
    this.status = status
    this.type = more.type ?? (status === 429 ? 'requests' : status >= 500 ? 'server_error' : 'invalid_request_error')
    this.param = more.param ?? null
    this.code = more.code ?? null
    this.headers = more.headers ?? {}
  }

  /** The body to send. */
  toJson(): { error: { message: string; type: string; param: string | null; code: string | null } } {
    return { error: { message: this.message, type: this.type, param: this.param, code: this.code } }
  }
}

/** A 400 that names the field at fault. */
export function badRequest(param: string | null, code: string | null, message: string): ApiError {
  return new ApiError(400, message, { param, code })
}
