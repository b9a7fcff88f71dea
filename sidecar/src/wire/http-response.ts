/**
 * HTTP/1.1 responses from bytes that come in any pieces (RFC 9112), as strict as Node's own parser: what that one refuses is
 * refused here (`http-response.fuzz.test.ts` holds them against each other). Bodies are handed on as they come, uncopied.
 */

/** Status line and all headers of one response, trailers apart. */
export const HEAD_BYTES_MAX = 64 * 1024
/** A chunk's size line with its extensions, and one line of trailers. */
const LINE_BYTES_MAX = 4 * 1024
const TRAILER_BYTES_MAX = 16 * 1024
const INTERIM_MAX = 16

export interface ResponseEvents {
  /** Once per response; `rawHeaders` is name, value, name, value. Interim answers (1xx) are left out. */
  head(statusCode: number, rawHeaders: readonly string[]): void
  /** A piece of the body: a view of the bytes given to `push`, good for the time of the call. */
  data(chunk: Buffer): void
  end(): void
}

/** The bytes are no response. The message never quotes them. */
export class MalformedResponse extends Error {}

type State =
  | 'idle'
  | 'head'
  /** A body of known length, or one that the end of the connection ends. */
  | 'length'
  | 'untilClose'
  | 'chunkSize'
  | 'chunkData'
  | 'chunkEnd'
  | 'trailers'
  /** Whole, and not said yet. */
  | 'whole'

/** Reads one response after another from a connection that never has more than one request out. */
export class ResponseReader {
  readonly #events: ResponseEvents
  #state: State = 'idle'
  /** What has come of a head, of a line or of a line end. */
  #pending: Buffer = EMPTY
  /** Bytes of the body, or of the chunk, still to come. */
  #left = 0
  #trailerBytes = 0
  #interim = 0
  #keepsAlive = false
  #isToHead = false

  constructor(events: ResponseEvents) {
    this.#events = events
  }

  /** A request is out: a response is expected. One to HEAD has no body, whatever its headers say. */
  expect({ isToHead }: { readonly isToHead: boolean } = { isToHead: false }): void {
    if (this.#state !== 'idle') throw new TypeError('a connection has one request out at a time')
    this.#state = 'head'
    this.#pending = EMPTY
    this.#interim = 0
    this.#keepsAlive = false
    this.#isToHead = isToHead
  }

  /** No response is expected: the last one has ended. */
  get isIdle(): boolean {
    return this.#state === 'idle'
  }

  /** Whether the connection can carry another request after this response. */
  get keepsAlive(): boolean {
    return this.#keepsAlive
  }

  /** Takes the next bytes. Throws `MalformedResponse`; bytes that nobody asked for are one. */
  push(bytes: Buffer): void {
    const end = this.#take(bytes)
    const isMore = end < bytes.length
    if (this.#state === 'whole') {
      // Whoever hears of the end may send the next request at once: what is left here must not be taken for its answer.
      if (isMore) this.#keepsAlive = false
      this.#end()
    }
    if (isMore) throw new MalformedResponse('bytes came that no request asked for')
  }

  /** Takes what belongs to the response that is expected, and says where that ends. */
  #take(bytes: Buffer): number {
    let at = 0
    while (at < bytes.length) {
      switch (this.#state) {
        case 'idle':
        case 'whole':
          return at
        case 'head':
          at = this.#readHead(bytes, at)
          break
        case 'length':
        case 'chunkData': {
          const end = Math.min(bytes.length, at + this.#left)
          this.#left -= end - at
          this.#events.data(at === 0 && end === bytes.length ? bytes : bytes.subarray(at, end))
          at = end
          if (this.#left > 0) return at
          this.#state = this.#state === 'chunkData' ? 'chunkEnd' : 'whole'
          break
        }
        case 'untilClose':
          this.#events.data(at === 0 ? bytes : bytes.subarray(at))
          return bytes.length
        case 'chunkSize': {
          const plain = this.#pending.length === 0 ? plainSizeEnd(bytes, at) : -1
          if (plain >= 0) {
            this.#left = sizeIn(bytes, at, plain)
            at = plain + LINE_END_BYTES
            this.#trailerBytes = 0
            this.#state = this.#left > 0 ? 'chunkData' : 'trailers'
            break
          }
          const line = this.#line(bytes, at, LINE_BYTES_MAX)
          if (line === null) return bytes.length
          at = line.next
          this.#left = chunkSize(line.text)
          this.#trailerBytes = 0
          this.#state = this.#left > 0 ? 'chunkData' : 'trailers'
          break
        }
        case 'chunkEnd': {
          if (this.#pending.length === 0 && bytes[at] === CR && bytes[at + 1] === LF) {
            at += LINE_END_BYTES
            this.#state = 'chunkSize'
            break
          }
          const line = this.#line(bytes, at, LINE_END_BYTES)
          if (line === null) return bytes.length
          at = line.next
          if (line.text !== '') throw new MalformedResponse('a chunk is longer than it says')
          this.#state = 'chunkSize'
          break
        }
        case 'trailers': {
          const line = this.#line(bytes, at, LINE_BYTES_MAX)
          if (line === null) return bytes.length
          at = line.next
          if (line.text === '') {
            this.#state = 'whole'
            break
          }
          this.#trailerBytes += line.text.length
          if (this.#trailerBytes > TRAILER_BYTES_MAX) throw new MalformedResponse('the trailers are too long')
          if (FRAMING.test(line.text.slice(0, headerOf(line.text)))) throw new MalformedResponse('a trailer says how long the body was')
        }
      }
    }
    return at
  }

  /** The connection has ended: true when that is how the response ends, or when none was expected. */
  endOfConnection(): boolean {
    this.#keepsAlive = false
    if (this.#state === 'untilClose') this.#end()
    return this.#state === 'idle'
  }

  #end(): void {
    this.#state = 'idle'
    this.#events.end()
  }

  #readHead(bytes: Buffer, from: number): number {
    let head = bytes
    let start = from
    let offset = 0
    if (this.#pending.length > 0) {
      offset = this.#pending.length - from
      head = Buffer.concat([this.#pending, from === 0 ? bytes : bytes.subarray(from)])
      start = 0
    }
    const end = head.indexOf(HEAD_END, start)
    if ((end < 0 ? head.length - HEAD_END.length + 1 : end) - start > HEAD_BYTES_MAX)
      throw new MalformedResponse('the head of the response is too long')
    if (end < 0) {
      this.#pending = offset === 0 && start === from ? Buffer.from(head.subarray(start)) : head
      return bytes.length
    }
    this.#pending = EMPTY
    this.#takeHead(head.toString('latin1', start, end))
    return end + HEAD_END.length - offset
  }

  #takeHead(text: string): void {
    const lines = text.split('\r\n')
    const status = STATUS_LINE.exec(lines[0] ?? '')
    if (status === null) throw new MalformedResponse('the status line is malformed')
    const statusCode = Number(status[2])
    const rawHeaders: string[] = []
    let length: number | null = null
    let isChunked = false
    let closes = status[1] === '0'
    for (let index = 1; index < lines.length; index += 1) {
      const colon = headerOf(lines[index] ?? '')
      const name = (lines[index] ?? '').slice(0, colon)
      const value = trimmed(lines[index] ?? '', colon + 1)
      rawHeaders.push(name, value)
      // By its length first: few of the headers are of interest.
      if (name.length === LENGTH.length && name.toLowerCase() === LENGTH) {
        if (length !== null || !DIGITS.test(value)) throw new MalformedResponse('the content-length is malformed, or given twice')
        length = Number(value)
      } else if (name.length === ENCODING.length && name.toLowerCase() === ENCODING) {
        // Anything but one `chunked` has been seen as a way to make two readers disagree.
        if (isChunked || value.toLowerCase() !== 'chunked') throw new MalformedResponse('the transfer-encoding is not "chunked"')
        isChunked = true
      } else if (name.length === CONNECTION.length && name.toLowerCase() === CONNECTION) closes ||= CLOSE.test(value)
    }
    if (statusCode < 200) {
      this.#interim += 1
      if (statusCode === SWITCHING || closes || this.#interim > INTERIM_MAX)
        throw new MalformedResponse('interim answers do not end, close the connection or switch protocols')
      return // the answer itself is still to come
    }
    if (isChunked && length !== null) throw new MalformedResponse('a response has one content-length or one transfer-encoding, not both')
    const isBodiless = statusCode === NO_CONTENT || statusCode === NOT_MODIFIED
    // Who answers HEAD without a word on the body may go on to close, as if there had been one.
    this.#keepsAlive = !closes && (isBodiless || isChunked || length !== null)
    if (isBodiless || this.#isToHead || length === 0) this.#state = 'whole'
    else if (isChunked) this.#state = 'chunkSize'
    else if (length !== null) {
      this.#left = length
      this.#state = 'length'
    } else this.#state = 'untilClose'
    this.#events.head(statusCode, rawHeaders)
  }

  /** The text up to the next CRLF; null when it has not all come. */
  #line(bytes: Buffer, from: number, max: number): { readonly text: string; readonly next: number } | null {
    const lf = bytes.indexOf(LF, from)
    const end = lf < 0 ? bytes.length : lf + 1
    if (this.#pending.length + end - from > max) throw new MalformedResponse('a line between the chunks is too long')
    if (lf < 0) {
      this.#pending = Buffer.concat([this.#pending, bytes.subarray(from)])
      return null
    }
    let text = bytes.toString('latin1', from, end)
    if (this.#pending.length > 0) {
      text = this.#pending.toString('latin1') + text
      this.#pending = EMPTY
    }
    if (!text.endsWith('\r\n')) throw new MalformedResponse('a line does not end with CR LF')
    return { text: text.slice(0, -2), next: end }
  }
}

const EMPTY = Buffer.alloc(0)
const HEAD_END = Buffer.from('\r\n\r\n')
const LF = 0x0a
const CR = 0x0d
const PLAIN_DIGITS_MAX = 8
const LINE_END_BYTES = 2
const SWITCHING = 101
const NO_CONTENT = 204
const NOT_MODIFIED = 304
const LENGTH = 'content-length'
const ENCODING = 'transfer-encoding'
const CONNECTION = 'connection'

const STATUS_LINE = /^HTTP\/1\.([01]) ([1-9]\d\d)(?: [\t -~\x80-\xff]*)?$/
const DIGITS = /^\d{1,15}$/
const CLOSE = /(?:^|,)[ \t]*close[ \t]*(?:,|$)/i
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
/** Horizontal tabs may be in a value, other controls may not. */
const CONTROL = /[^\t -~\x80-\xff]/
/** Extensions are a token each, with nothing or a token or a quoted text as the value. */
const CHUNK_SIZE =
  /^([0-9A-Fa-f]{1,13})(?:;[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?:=(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+|"(?:[\t !#-[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"))?)*$/
const FRAMING = /^(?:content-length|transfer-encoding)$/i

/** Where the colon of a header line is. Throws `MalformedResponse`; folded lines (a leading space) are no names. */
function headerOf(line: string): number {
  const colon = line.indexOf(':')
  if (colon < 1 || !TOKEN.test(line.slice(0, colon))) throw new MalformedResponse('the name of a header is malformed')
  if (CONTROL.test(line)) throw new MalformedResponse('the value of a header is malformed')
  return colon
}

/** From `from` to the end of the line without spaces and tabs around it. */
function trimmed(line: string, from: number): string {
  let start = from
  let end = line.length
  while (start < end && isSpace(line.charCodeAt(start))) start += 1
  while (end > start && isSpace(line.charCodeAt(end - 1))) end -= 1
  return line.slice(start, end)
}

function isSpace(code: number): boolean {
  return code === 0x20 || code === 0x09
}

/** Where a chunk size of a few digits, with nothing after it, ends; -1 for any other line, and one that has not all come. */
function plainSizeEnd(bytes: Uint8Array, from: number): number {
  let at = from
  while (hexValue(bytes[at]) >= 0) at += 1
  return at > from && at - from <= PLAIN_DIGITS_MAX && bytes[at] === CR && bytes[at + 1] === LF ? at : -1
}

function sizeIn(bytes: Uint8Array, start: number, end: number): number {
  let size = 0
  for (let at = start; at < end; at += 1) size = size * 16 + hexValue(bytes[at])
  return size
}

function hexValue(code = 0): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30
  const letter = code | 0x20
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1
}

function chunkSize(line: string): number {
  const size = CHUNK_SIZE.exec(line)?.[1]
  if (size === undefined) throw new MalformedResponse('the size of a chunk is malformed')
  return Number.parseInt(size, 16)
}
