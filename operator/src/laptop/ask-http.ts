/** One question by HTTP, of a sidecar at any port: `fetch` refuses those that browsers keep to other protocols (6000, 10080, ...). */
import * as http from 'node:http'
import * as https from 'node:https'

/** The longest answers are pages of the ledger. */
const ANSWER_CHARS_MAX = 64 * 1024 * 1024

export interface Question {
  readonly method?: 'GET' | 'POST'
  /** Sent as JSON. */
  readonly body?: object
  /** Of the whole: the answer is read to its end within it. */
  readonly signal: AbortSignal
}

export interface HttpAnswer {
  readonly status: number
  /** Of an answer that is too long, its beginning. */
  readonly text: string
  /** Where a redirect leads, which is not followed. */
  readonly location: URL | null
}

/** Over a connection of its own. Rejects when nobody answers in HTTP, or the answer breaks off. */
export function askHttp(url: string, { method = 'GET', body, signal }: Question): Promise<HttpAnswer> {
  const client = url.startsWith('https:') ? https : http
  const headers = body === undefined ? {} : { 'content-type': 'application/json' }
  return new Promise((resolve, reject) => {
    const request = client.request(url, { method, headers, signal, agent: false }, (response) => {
      const status = response.statusCode ?? 0
      textOf(response).then((text) => resolve({ status, text, location: locationOf(url, response) }), reject)
    })
    request.on('error', reject)
    request.end(body === undefined ? undefined : JSON.stringify(body))
  })
}

function locationOf(asked: string, { statusCode = 0, headers }: http.IncomingMessage): URL | null {
  return statusCode < 300 || statusCode > 399 || headers.location === undefined ? null : URL.parse(headers.location, asked)
}

async function textOf(response: http.IncomingMessage): Promise<string> {
  let text = ''
  for await (const piece of response.setEncoding('utf8')) {
    text += String(piece)
    if (text.length > ANSWER_CHARS_MAX) break
  }
  return text
}
