/**
 * `ResponseReader` held against the parser of Node's own client (llhttp), over sockets in memory. Whatever is accepted here,
 * Node accepts and reads the same: status, headers, body, end. Whatever Node refuses is refused here.
 *
 * Refused here, although Node takes it:
 * - empty lines in front of the status line, controls in the reason, RTSP and ICE, versions other than 1.0 and 1.1
 * - a switch of protocols (101), more than 16 interim answers, and any by HTTP/1.0
 * - a transfer-encoding other than one `chunked`, in whichever answer, and one named among the trailers
 * - lengths of more than 15 digits, and chunk sizes of more than 13
 * - a chunk extension with an empty value, and a line between chunks beyond 4 KiB
 */
import assert from 'node:assert/strict'
import { request } from 'node:http'
import { Duplex } from 'node:stream'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { HEAD_BYTES_MAX, MalformedResponse, ResponseReader } from './http-response.ts'

interface Reading {
  /** Read to its end, with nothing behind it. */
  readonly accepted: boolean
  readonly statusCode: number | null
  readonly rawHeaders: readonly string[]
  readonly body: string
  readonly keepsAlive: boolean
  readonly why: string
}

function ours(pieces: readonly Buffer[], method: string): Reading {
  let statusCode: number | null = null
  let rawHeaders: readonly string[] = []
  let body = ''
  let ended = false
  let why = ''
  const reader = new ResponseReader({
    head: (status, headers) => {
      assert.equal(statusCode, null, 'one head')
      statusCode = status
      rawHeaders = headers
    },
    data: (chunk) => {
      assert.ok(statusCode !== null && !ended)
      body += chunk.toString('latin1')
    },
    end: () => {
      assert.ok(statusCode !== null && !ended)
      ended = true
    },
  })
  reader.expect({ isToHead: method === 'HEAD' })
  let accepted = true
  let keepsAlive = false
  try {
    for (const piece of pieces) {
      const copy = Buffer.from(piece)
      reader.push(copy)
      copy.fill('#')
    }
    keepsAlive = reader.keepsAlive
    accepted = reader.endOfConnection()
    assert.equal(accepted, ended)
  } catch (error) {
    if (!(error instanceof MalformedResponse)) throw error
    accepted = false
    why = error.message
  }
  return { accepted, statusCode, rawHeaders, body, keepsAlive, why }
}

/** The socket of a connection to nobody. */
class Wire extends Duplex {
  override _read(): void {}
  override _write(_chunk: unknown, _encoding: string, done: () => void): void {
    done()
  }
}

function nodes(pieces: readonly Buffer[], method: string): Promise<Reading> {
  return new Promise((resolve) => {
    const wire = new Wire()
    let statusCode: number | null = null
    let rawHeaders: readonly string[] = []
    let body = ''
    let why = ''
    let isComplete = false
    const outgoing = request({
      createConnection: () => wire,
      method,
      headers: { connection: 'keep-alive' },
      maxHeaderSize: 2 * HEAD_BYTES_MAX,
    })
    let keepsAlive = false
    outgoing.on('response', (incoming) => {
      statusCode = incoming.statusCode ?? 0
      rawHeaders = incoming.rawHeaders
      keepsAlive = outgoing.shouldKeepAlive
      incoming.on('data', (chunk: Buffer) => (body += chunk.toString('latin1')))
      open += 1
      incoming.on('close', closed)
      incoming.on('end', () => (isComplete = incoming.complete))
      incoming.on('error', (error) => (why ||= String(error)))
    })
    outgoing.on('upgrade', () => (why ||= 'a switch of protocols'))
    outgoing.on('error', (error) => (why ||= `${error.message} ${'reason' in error ? String(error.reason) : ''}`))
    let open = 1
    const closed = (): void => {
      open -= 1
      if (open === 0) resolve({ accepted: isComplete && why === '', statusCode, rawHeaders, body, keepsAlive, why })
    }
    outgoing.on('close', closed)
    outgoing.end()
    process.nextTick(() => {
      for (const piece of pieces) wire.push(piece)
      wire.push(null)
    })
  })
}

const token = fc.constantFrom('x', 'X-Long-Name', 'a1', '!#$', 'content-type', 'Date', 'connection-x', 'content-lengthy')
const value = fc.oneof(
  fc.constantFrom(
    '',
    'a',
    'a b',
    ' padded ',
    '\ttabbed\t',
    'close',
    'keep-alive',
    'text/event-stream; charset=utf-8',
    '\xe9\x80\xff',
    '"q"',
    'a:b',
    ',',
  ),
  fc.string({ maxLength: 8 }).map((text) => text.replace(/[^\t\x20-\x7e]/g, '')),
)
const header = fc.oneof(
  { weight: 4, arbitrary: fc.tuple(token, fc.constantFrom(': ', ':', ':\t ', ':  '), value).map((parts) => parts.join('')) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      'connection: close',
      'Connection: Keep-Alive',
      'connection: x, close ,y',
      'connection: upgrade',
      'upgrade: h2c',
    ),
  },
)
const headers = fc.array(header, { maxLength: 5 })
const statusLine = fc
  .tuple(
    fc.constantFrom('1.1', '1.1', '1.1', '1.0'),
    fc.constantFrom(200, 200, 200, 201, 204, 205, 304, 400, 404, 429, 500, 599, 999),
    fc.constantFrom(' OK', ' ', '', ' \xe9t\xe9', ' a  b'),
  )
  .map(([version, status, reason]) => `HTTP/${version} ${status}${reason}`)
const interim = fc
  .tuple(
    fc.constantFrom('100 Continue', '102 Processing', '103 Early Hints', '199'),
    headers.filter((lines) => !lines.some((line) => /close/.test(line))),
  )
  .map(([status, lines]) => `HTTP/1.1 ${status}\r\n${lines.map((line) => `${line}\r\n`).join('')}\r\n`)
const bodyText = fc.oneof(
  fc.string({ maxLength: 40 }).map((text) => Buffer.from(text).toString('latin1')),
  fc.constantFrom('', '\r\n', '\r\n\r\n', '0\r\n\r\n', 'HTTP/1.1 200 OK\r\n\r\n', 'x'.repeat(300), 'data: {"a":1}\n\n'),
)
const sizeOf = (text: string, style: number): string => {
  const hex = text.length.toString(16)
  return style === 0 ? hex : style === 1 ? hex.toUpperCase() : hex.padStart(5, '0')
}
const extension = fc.constantFrom('', '', '', '', ';a', ';a=b', ';a="b c"', ';a="\\"";b')
const chunks = fc
  .tuple(
    fc.array(fc.tuple(bodyText, fc.nat({ max: 2 }), extension), { maxLength: 4 }),
    fc.constantFrom('0', '00', '000'),
    extension,
    fc.array(header, { maxLength: 2 }),
  )
  .map(([parts, zero, ext, trailers]) => {
    const sent = parts.filter(([text]) => text !== '').map(([text, style, more]) => `${sizeOf(text, style)}${more}\r\n${text}\r\n`)
    return `${sent.join('')}${zero}${ext}\r\n${trailers.map((line) => `${line}\r\n`).join('')}\r\n`
  })

/** A response as the standard allows it; the header of its framing stands anywhere among the others. */
const framed = fc.oneof(
  {
    weight: 3,
    arbitrary: fc
      .tuple(fc.constantFrom('Content-Length', 'content-length'), bodyText)
      .map(([name, text]) => [`${name}: ${text.length}`, text] as const),
  },
  {
    weight: 4,
    arbitrary: fc
      .tuple(fc.constantFrom('Transfer-Encoding', 'transfer-encoding'), fc.constantFrom('chunked', 'Chunked', ' chunked '), chunks)
      .map(([name, coding, text]) => [`${name}:${coding}`, text] as const),
  },
  { weight: 1, arbitrary: bodyText.map((text) => [null, text] as const) },
)
const responses = fc
  .tuple(fc.array(interim, { maxLength: 2 }), statusLine, headers, framed, fc.nat({ max: 5 }))
  .map(([before, status, lines, [framing, body], place]) => {
    const all = [...lines]
    if (framing !== null) all.splice(place, 0, framing)
    const isBodiless = / (?:204|304)/.test(status)
    return `${before.join('')}${status}\r\n${all.map((line) => `${line}\r\n`).join('')}\r\n${isBodiless ? '' : body}`
  })

const NASTY = [
  '',
  '\r',
  '\n',
  '\r\n',
  '\r\n\r\n',
  ' ',
  '\t',
  ':',
  ';',
  ',',
  '"',
  '=',
  '\0',
  '\x0b',
  '\x7f',
  '\x80',
  '0',
  '1',
  'a',
  'f',
  '-',
  '+',
  'chunked',
  'HTTP/1.1 ',
  'HTTP/1.1 200 OK\r\n\r\n',
  'content-length: 3\r\n',
  'transfer-encoding: chunked\r\n',
  'transfer-encoding: gzip\r\n',
  'connection: close\r\n',
  '101',
  '204',
  '304',
  '1;a="',
  '0\r\n\r\n',
]

/** Where damage tells most: at the ends of lines and around what stands next to them. */
function placeIn(text: string, at: number, isAtLine: boolean): number {
  if (!isAtLine) return at % (text.length + 1)
  const ends = [...text.matchAll(/\r\n|:|;/g)].map(({ index }) => index)
  return Math.min(text.length, (ends[at % (ends.length || 1)] ?? 0) + (at % 5) - 1 + (ends.length === 0 ? 1 : 0))
}

interface Damage {
  readonly at: number
  readonly isAtLine: boolean
  readonly removed: number
  readonly piece: string
}
const damage = fc.record({ at: fc.nat(), isAtLine: fc.boolean(), removed: fc.nat({ max: 3 }), piece: fc.constantFrom(...NASTY) })
function damaged(text: string, { at, isAtLine, removed, piece }: Damage): string {
  const place = Math.max(0, placeIn(text, at, isAtLine))
  return text.slice(0, place) + piece + text.slice(place + removed)
}

const damages: fc.Arbitrary<readonly Damage[]> = fc.oneof(
  { weight: 1, arbitrary: fc.constant([]) },
  { weight: 2, arbitrary: fc.array(damage, { minLength: 1, maxLength: 3 }) },
)
const cases = fc.record({
  method: fc.constantFrom('POST', 'POST', 'POST', 'GET', 'HEAD'),
  response: responses,
  damages,
  /** Behind the response: mostly nothing. */
  more: fc.constantFrom('', '', '', '', '', '', '', '\r\n', 'x', 'HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n'),
  cuts: fc.array(fc.nat(), { maxLength: 5 }),
})

function piecesOf(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const ends = [...new Set([...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length])].sort((one, other) => one - other)
  let start = 0
  const pieces: Buffer[] = []
  for (const end of ends) {
    if (end > start) pieces.push(bytes.subarray(start, end))
    start = end
  }
  return pieces
}

/** Held against each other. Says what came of it, so that a run can be seen to hold both kinds. */
async function compare(text: string, method: string, cuts: readonly number[]): Promise<'taken' | 'refused' | 'stricter'> {
  const pieces = piecesOf(Buffer.from(text, 'latin1'), cuts)
  const own = ours(pieces, method)
  const node = await nodes(pieces, method)
  const both = `\nbytes: ${JSON.stringify(text)}\nours: ${JSON.stringify(own)}\nNode: ${JSON.stringify(node)}`
  if (own.accepted) {
    assert.ok(node.accepted, `accepted here, and not by Node${both}`)
    assert.equal(own.statusCode, node.statusCode, both)
    assert.deepEqual(own.rawHeaders, node.rawHeaders, both)
    assert.equal(own.body, node.body, both)
    assert.ok(!own.keepsAlive || node.keepsAlive, `kept alive here, and not by Node${both}`)
    return 'taken'
  }
  if (!node.accepted) return 'refused'
  assert.ok(isStricter(text), `refused here, and not by Node${both}`)
  return 'stricter'
}

/** The list at the top, as patterns. */
function isStricter(text: string): boolean {
  return STRICTER.some((pattern) => pattern.test(text))
}
const STRICTER = [
  /^[\r\n]/,
  /\r\n\r\n[\r\n]+HTTP/, // in front of the status line that follows an interim answer
  /^(?:RTSP|ICE)\//m,
  /^HTTP\/(?!1\.[01] )/m,
  /HTTP\/1\.[01] \d{3}[^\r]*[^\t -~\x80-\xff]/,
  /HTTP\/1\.[01] \d{3} ?[^\r]*\r[^\n]/,
  /HTTP\/1\.[01] 101/,
  /HTTP\/1\.0 1/,
  /(?:HTTP\/1\.[01] 1\d\d[^]*?){17}/,
  /transfer-encoding[ \t]*:[ \t]*(?!chunked[ \t]*\r\n)/i,
  /transfer-encoding:[^]*transfer-encoding:/i,
  /content-length:[ \t]*\d{16}/i,
  /(?:^|\n)[0-9a-f]{14}/i,
  /(?:^|\n)[0-9a-f]+;[^\r]*=(?:;|\r)/i,
]

test('holds against the parser of Node', async () => {
  const counts = { taken: 0, refused: 0, stricter: 0 }
  await fc.assert(
    fc.asyncProperty(cases, async ({ method, response, damages, more, cuts }) => {
      const text = damages.reduce(damaged, response) + more
      counts[await compare(text, method, cuts)] += 1
    }),
    { numRuns: 12_000 },
  )
  for (const [kind, least] of [
    ['taken', 3_000],
    ['refused', 3_000],
    ['stricter', 20],
  ] as const)
    assert.ok(counts[kind] > least, JSON.stringify(counts))
})

test('what is not damaged is taken', async () => {
  await fc.assert(
    fc.asyncProperty(responses, fc.array(fc.nat(), { maxLength: 5 }), async (response, cuts) => {
      assert.equal(await compare(response, 'POST', cuts), 'taken')
    }),
    { numRuns: 2_000 },
  )
})
