/**
 * Server-sent events from chunks that end anywhere (https://html.spec.whatwg.org/multipage/server-sent-events.html). Finds
 * where events end by looking for line feeds only; a stream with lone carriage returns would be one endless event.
 */

const LF = 0x0a
const CR = 0x0d

/** Finds the empty lines that end events, across chunks. */
export class EventBoundaries {
  /** The line so far has something in it. */
  #inLine = false

  /** Where the event that `from` is in ends: after its empty line; -1 when it goes on beyond this chunk. */
  next(chunk: Uint8Array, from: number): number {
    const { length } = chunk
    let at = from
    for (;;) {
      const lf = chunk.indexOf(LF, at)
      if (lf < 0) {
        if (length > at && !(length - at === 1 && chunk[at] === CR)) this.#inLine = true
        return -1
      }
      const isEmpty = !this.#inLine && (lf === at || (lf === at + 1 && chunk[at] === CR))
      this.#inLine = false
      if (isEmpty) return lf + 1
      at = lf + 1
      if (chunk[at] === LF) return at + 1
    }
  }
}

/** The `data` of one event: where it stands when it is one line, or put together when it is several. */
export interface EventData {
  readonly bytes: Buffer
  readonly start: number
  readonly end: number
  /** Several lines, or other fields beside them: to change it, the event must be written anew. */
  readonly isPlain: boolean
}

/** Null when the event has no data: comments, ids, heartbeats. */
export function dataOf(bytes: Buffer, start: number, end: number): EventData | null {
  const firstEnd = lineEnd(bytes, start, end)
  const after = firstEnd + (bytes[firstEnd] === CR ? 2 : 1)
  const isOnly = after >= end || bytes[after] === LF || bytes[after] === CR
  if (isOnly) {
    const from = dataStart(bytes, start, firstEnd)
    return from < 0 ? null : { bytes, start: from, end: firstEnd, isPlain: true }
  }
  const lines: Buffer[] = []
  for (let at = start; at < end;) {
    const stop = lineEnd(bytes, at, end)
    const from = dataStart(bytes, at, stop)
    if (from >= 0) lines.push(lines.length > 0 ? Buffer.concat([NEWLINE, bytes.subarray(from, stop)]) : bytes.subarray(from, stop))
    at = stop + (bytes[stop] === CR ? 2 : 1)
  }
  if (lines.length === 0) return null
  const data = Buffer.concat(lines)
  return { bytes: data, start: 0, end: data.length, isPlain: false }
}

/** The event with other data: its other lines stay, the data comes after them. */
export function withData(bytes: Buffer, start: number, end: number, data: Buffer): Buffer {
  const out: Buffer[] = []
  for (let at = start; at < end;) {
    const stop = lineEnd(bytes, at, end)
    const next = Math.min(end, stop + (bytes[stop] === CR ? 2 : 1))
    if (stop > at && dataStart(bytes, at, stop) < 0) out.push(bytes.subarray(at, next))
    at = next
  }
  for (let at = 0; at <= data.length;) {
    const lf = data.indexOf(LF, at)
    const stop = lf < 0 ? data.length : lf
    out.push(PREFIX, data.subarray(at, stop), NEWLINE)
    at = stop + 1
  }
  out.push(NEWLINE)
  return Buffer.concat(out)
}

const NEWLINE = Buffer.from('\n')
const PREFIX = Buffer.from('data: ')
const DATA = Buffer.from('data')
const COLON = 0x3a
const SPACE = 0x20

/** Where a line's text ends: before its line feed and the carriage return in front of it. */
function lineEnd(bytes: Buffer, start: number, end: number): number {
  const lf = bytes.indexOf(LF, start)
  const stop = lf < 0 || lf >= end ? end : lf
  return stop > start && bytes[stop - 1] === CR ? stop - 1 : stop
}

/** Where the value of a `data:` line begins; -1 for any other line. */
function dataStart(bytes: Buffer, start: number, end: number): number {
  if (end - start < DATA.length) return -1
  for (let index = 0; index < DATA.length; index += 1) if (bytes[start + index] !== DATA[index]) return -1
  const colon = start + DATA.length
  if (colon === end) return end // a line that is only `data`: an empty value
  if (bytes[colon] !== COLON) return -1
  return bytes[colon + 1] === SPACE && colon + 1 < end ? colon + 2 : colon + 1
}
