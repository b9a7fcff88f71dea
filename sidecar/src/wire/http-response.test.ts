import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as fc from 'fast-check'
import { HEAD_BYTES_MAX, MalformedResponse, ResponseReader } from './http-response.ts'

interface Answer {
  statusCode: number
  rawHeaders: readonly string[]
  body: string
  ended: boolean
}
interface Heard {
  readonly answers: Answer[]
  /** What was wrong; null: nothing. */
  readonly refusal: string | null
  /** How the connection ended: null when the response was not over by then. */
  readonly endedWell: boolean
  readonly keepsAlive: boolean
}
interface Feed {
  /** How many responses are asked for, one after the other. */
  readonly requests?: number
  readonly isToHead?: boolean
  /** The connection ends after the bytes. */
  readonly ends?: boolean
}

/** Feeds bytes in pieces that end at `cuts`; the memory of each piece is used for something else afterwards. */
function hear(text: string, cuts: readonly number[], { requests = 1, isToHead = false, ends = false }: Feed = {}): Heard {
  const bytes = Buffer.from(text, 'latin1')
  const answers: Answer[] = []
  let left = requests
  const reader = new ResponseReader({
    head: (statusCode, rawHeaders) => answers.push({ statusCode, rawHeaders, body: '', ended: false }),
    data: (chunk) => {
      assert.ok(chunk.length > 0, 'a piece of a body is never empty')
      last(answers).body += chunk.toString('latin1')
    },
    end: () => {
      last(answers).ended = true
      assert.ok(reader.isIdle)
      left -= 1
    },
  })
  const ask = (): void => {
    if (left > 0 && reader.isIdle) reader.expect({ isToHead })
  }
  ask()
  let refusal: string | null = null
  let start = 0
  for (const end of [...new Set(cuts), bytes.length].sort((one, other) => one - other)) {
    if (end <= start) continue
    const piece = Buffer.from(bytes.subarray(start, end))
    ask()
    try {
      reader.push(piece)
    } catch (error) {
      assert.ok(error instanceof MalformedResponse, String(error))
      refusal = error.message
      break
    }
    piece.fill('#')
    start = end
  }
  const { keepsAlive } = reader
  return { answers, refusal, endedWell: ends && refusal === null && reader.endOfConnection(), keepsAlive }
}

function last(answers: readonly Answer[]): Answer {
  const answer = answers.at(-1)
  assert.ok(answer)
  return answer
}

/** Whole, byte by byte, in two at every place, and at random places. */
function cutsOf(length: number): (readonly number[])[] {
  const every = Array.from({ length }, (_, index) => index)
  const twos = length <= 2_000 ? every.map((cut) => [cut]) : []
  return [[], every, ...twos, ...fc.sample(fc.array(fc.nat({ max: length }), { maxLength: 12 }), { numRuns: 40, seed: length })]
}

/** Pieces come as they come: what was heard is the same, however it was cut. */
function always(text: string, feed: Feed, check: (heard: Heard) => void): void {
  for (const cuts of cutsOf(text.length)) {
    try {
      check(hear(text, cuts, feed))
    } catch (error) {
      throw new Error(`${JSON.stringify(text.slice(0, 300))} cut at ${JSON.stringify(cuts.slice(0, 20))}`, { cause: error })
    }
  }
}

function lines(...parts: readonly string[]): string {
  return `${parts.join('\r\n')}\r\n\r\n`
}
const OK = 'HTTP/1.1 200 OK'
const CHUNKED = lines(OK, 'transfer-encoding: chunked')

describe('answers that are taken', () => {
  const cases: Record<string, [text: string, expected: Partial<Answer>, keepsAlive: boolean, feed?: Feed]> = {
    'a body of a length': [
      `${lines(OK, 'content-length: 5')}hello`,
      { statusCode: 200, rawHeaders: ['content-length', '5'], body: 'hello' },
      true,
    ],
    'no body by length': [lines(OK, 'content-length: 0'), { body: '' }, true],
    'leading zeros of a length': [`${lines(OK, 'content-length: 005')}hello`, { body: 'hello' }, true],
    'a length of fifteen digits, cut by nobody': [lines(OK, 'content-length: 000000000000000'), { body: '' }, true],
    'a status without reason': [`${lines('HTTP/1.1 200', 'content-length: 1')}x`, { statusCode: 200, body: 'x' }, true],
    'an empty reason': [lines('HTTP/1.1 503 ', 'content-length: 0'), { statusCode: 503 }, true],
    'a reason with tabs and bytes beyond ASCII': [lines('HTTP/1.1 200 \tO\xe9K', 'content-length: 0'), { statusCode: 200 }, true],
    'a status that is not known': [lines('HTTP/1.1 999 Odd', 'content-length: 0'), { statusCode: 999 }, true],
    'HTTP/1.0, which does not stay': [`${lines('HTTP/1.0 200 OK', 'content-length: 2')}ab`, { body: 'ab' }, false],
    'HTTP/1.0, even if it says so': [`${lines('HTTP/1.0 200 OK', 'connection: keep-alive', 'content-length: 2')}ab`, { body: 'ab' }, false],
    'connection: close': [`${lines(OK, 'connection: close', 'content-length: 2')}ab`, { body: 'ab' }, false],
    'close in a list': [`${lines(OK, 'Connection: keep-alive , CLOSE\t, x', 'content-length: 2')}ab`, { body: 'ab' }, false],
    'close in a second header': [lines(OK, 'connection: keep-alive', 'connection: close', 'content-length: 0'), {}, false],
    'a word that only begins with close': [lines(OK, 'connection: closed, not-close', 'content-length: 0'), {}, true],
    'connection: keep-alive': [lines(OK, 'connection: keep-alive', 'content-length: 0'), {}, true],
    'headers as they are written': [
      lines(
        OK,
        'X-Mixed-CASE: a',
        'x-mixed-case:b',
        'x-empty:',
        'x-blank: \t ',
        'x-both:\t in  side \t',
        'x-latin: \xe9\x80',
        'content-length: 0',
      ),
      {
        rawHeaders: [
          'X-Mixed-CASE',
          'a',
          'x-mixed-case',
          'b',
          'x-empty',
          '',
          'x-blank',
          '',
          'x-both',
          'in  side',
          'x-latin',
          '\xe9\x80',
          'content-length',
          '0',
        ],
      },
      true,
    ],
    'every character of a name': [
      lines(OK, "!#$%&'*+-.^_`|~09azAZ: x", 'content-length: 0'),
      { rawHeaders: ["!#$%&'*+-.^_`|~09azAZ", 'x', 'content-length', '0'] },
      true,
    ],
    'colons in a value': [lines(OK, 'x: a:b: c', 'content-length: 0'), { rawHeaders: ['x', 'a:b: c', 'content-length', '0'] }, true],
    'no headers at all, up to the end of the connection': [`${lines(OK)}abc`, { rawHeaders: [], body: 'abc' }, false, { ends: true }],
    'no body up to the end of the connection': [lines(OK), { body: '' }, false, { ends: true }],
    'what looks like another head, up to the end of the connection': [
      `${lines(OK)}${lines(OK)}`,
      { body: lines(OK) },
      false,
      { ends: true },
    ],
    '204 without length': [lines('HTTP/1.1 204 No Content'), { statusCode: 204, body: '' }, true],
    '204 with a length that counts for nothing': [
      lines('HTTP/1.1 204 No Content', 'content-length: 5'),
      { statusCode: 204, body: '' },
      true,
    ],
    '304 with the length of what was not sent': [
      lines('HTTP/1.1 304 Not Modified', 'content-length: 5'),
      { statusCode: 304, body: '' },
      true,
    ],
    '304 as if in chunks': [lines('HTTP/1.1 304 Not Modified', 'transfer-encoding: chunked'), { statusCode: 304, body: '' }, true],
    '205 like any other': [`${lines('HTTP/1.1 205 Reset', 'content-length: 1')}x`, { statusCode: 205, body: 'x' }, true],
    'an answer to HEAD with a length': [lines(OK, 'content-length: 5'), { statusCode: 200, body: '' }, true, { isToHead: true }],
    'an answer to HEAD as if in chunks': [CHUNKED, { statusCode: 200, body: '' }, true, { isToHead: true }],
    'an answer to HEAD without either': [lines(OK), { statusCode: 200, body: '' }, false, { isToHead: true }],
    'interim answers in front': [
      `${lines('HTTP/1.1 100 Continue')}${lines('HTTP/1.1 103 Early Hints', 'link: </x>')}${lines(OK, 'content-length: 1')}x`,
      { statusCode: 200, rawHeaders: ['content-length', '1'], body: 'x' },
      true,
    ],
    'sixteen interim answers': [`${lines('HTTP/1.1 102 Wait').repeat(16)}${lines(OK, 'content-length: 0')}`, { statusCode: 200 }, true],
    'an interim answer with a length, which has no body': [
      `${lines('HTTP/1.1 103 Early Hints', 'content-length: 4')}${lines(OK, 'content-length: 1')}x`,
      { body: 'x' },
      true,
    ],
    chunks: [`${CHUNKED}5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n`, { body: 'hello!' }, true],
    'no chunks': [`${CHUNKED}0\r\n\r\n`, { body: '' }, true],
    'chunks that do not stay': [
      `${lines(OK, 'Transfer-Encoding:  CHUNKED ', 'connection: close')}1\r\nx\r\n0\r\n\r\n`,
      { body: 'x' },
      false,
    ],
    'chunks by HTTP/1.0': [`${lines('HTTP/1.0 200 OK', 'transfer-encoding: chunked')}1\r\nx\r\n0\r\n\r\n`, { body: 'x' }, false],
    'sizes in either case, with zeros in front': [
      `${CHUNKED}0A\r\n0123456789\r\n000000000000a\r\n0123456789\r\n00\r\n\r\n`,
      { body: '01234567890123456789' },
      true,
    ],
    'chunks that hold line ends': [`${CHUNKED}4\r\n\r\n\r\n\r\n2\r\n\r\n\r\n0\r\n\r\n`, { body: '\r\n\r\n\r\n' }, true],
    extensions: [`${CHUNKED}2;a;b=c;d="e \\" ;\t\xe9"\r\nxy\r\n0;last\r\n\r\n`, { body: 'xy' }, true],
    trailers: [`${CHUNKED}1\r\nx\r\n0\r\nx-sum: 1\r\nX-Empty:\r\n\r\n`, { body: 'x', rawHeaders: ['transfer-encoding', 'chunked'] }, true],
    'a large chunk': [`${CHUNKED}1000\r\n${'0123456789abcdef'.repeat(256)}\r\n0\r\n\r\n`, { body: '0123456789abcdef'.repeat(256) }, true],
  }
  for (const [name, [text, expected, keepsAlive, feed = {}]] of Object.entries(cases)) {
    test(name, () => {
      always(text, feed, (heard) => {
        assert.equal(heard.refusal, null)
        const [answer] = heard.answers
        assert.ok(answer !== undefined && heard.answers.length === 1)
        assert.equal(answer.ended, true)
        assert.deepEqual({ ...answer, ...expected }, answer)
        assert.equal(heard.keepsAlive, keepsAlive)
        assert.equal(heard.endedWell, feed.ends === true)
      })
    })
  }
})

describe('what is refused, before any of it is taken for an answer', () => {
  const heads: Record<string, string> = {
    'another protocol': lines('ICY 200 OK', 'content-length: 0'),
    'HTTP/2': lines('HTTP/2 200 OK', 'content-length: 0'),
    'HTTP/1.2': lines('HTTP/1.2 200 OK', 'content-length: 0'),
    'lower case': lines('http/1.1 200 OK', 'content-length: 0'),
    'a request': lines('GET / HTTP/1.1', 'host: x'),
    'a status of two digits': lines('HTTP/1.1 20 OK', 'content-length: 0'),
    'a status of four digits': lines('HTTP/1.1 2000 OK', 'content-length: 0'),
    'a status below 100': lines('HTTP/1.1 099 OK', 'content-length: 0'),
    'two spaces': lines('HTTP/1.1  200 OK', 'content-length: 0'),
    'a tab for a space': lines('HTTP/1.1\t200 OK', 'content-length: 0'),
    'a space in front': lines(` ${OK}`, 'content-length: 0'),
    'an empty line in front': `\r\n${lines(OK, 'content-length: 0')}`,
    'nothing but an empty head': '\r\n\r\n',
    'a null in the reason': lines('HTTP/1.1 200 O\0K', 'content-length: 0'),
    'a line feed in the reason': lines('HTTP/1.1 200 O\nK', 'content-length: 0'),
    'a switch of protocols': lines('HTTP/1.1 101 Switching', 'upgrade: x', 'connection: upgrade'),
    'interim answers without end': `${lines('HTTP/1.1 102 Wait').repeat(17)}${lines(OK, 'content-length: 0')}`,
    'an interim answer that is the last': `${lines('HTTP/1.1 103 Hints', 'connection: close')}${lines(OK, 'content-length: 0')}`,
    'an interim answer by HTTP/1.0': `${lines('HTTP/1.0 103 Hints')}${lines(OK, 'content-length: 0')}`,
    'an interim answer with a malformed length': `${lines('HTTP/1.1 103 Hints', 'content-length: x')}${lines(OK, 'content-length: 0')}`,
    'a header without colon': lines(OK, 'nonsense', 'content-length: 0'),
    'a header without name': lines(OK, ': x', 'content-length: 0'),
    'a space in front of the colon': lines(OK, 'x : y', 'content-length: 0'),
    'a space within the name': lines(OK, 'x y: z', 'content-length: 0'),
    'a name beyond ASCII': lines(OK, 'x\xe9: z', 'content-length: 0'),
    'a folded line': lines(OK, 'x: a', ' b', 'content-length: 0'),
    'a folded line by tab': lines(OK, 'x: a', '\tb: c', 'content-length: 0'),
    'a folded line right after the status': lines(OK, ' x: a', 'content-length: 0'),
    'a null in a value': lines(OK, 'x: a\0b', 'content-length: 0'),
    'a bell in a value': lines(OK, 'x: a\x07b', 'content-length: 0'),
    'a DEL in a value': lines(OK, 'x: a\x7fb', 'content-length: 0'),
    'a bare line feed in a value': lines(OK, 'x: a\ny: b', 'content-length: 0'),
    'a bare carriage return in a value': lines(OK, 'x: a\ry: b', 'content-length: 0'),
    'a bare line feed after the status': `${OK}\ncontent-length: 0\r\n\r\n`,
    'two lengths': lines(OK, 'content-length: 1', 'content-length: 1'),
    'a list of lengths': lines(OK, 'content-length: 1, 1'),
    'a negative length': lines(OK, 'content-length: -1'),
    'a signed length': lines(OK, 'content-length: +1'),
    'a length in hex': lines(OK, 'content-length: 0x1'),
    'a length with a fraction': lines(OK, 'content-length: 1.0'),
    'no length for a length': lines(OK, 'content-length: '),
    'a length of digits that are not ASCII': lines(OK, 'content-length: \xb2'),
    'a length of sixteen digits': lines(OK, 'content-length: 1000000000000000'),
    'length and chunks': lines(OK, 'content-length: 1', 'transfer-encoding: chunked'),
    'chunks and length': lines(OK, 'transfer-encoding: chunked', 'content-length: 0'),
    'chunks twice': lines(OK, 'transfer-encoding: chunked', 'transfer-encoding: chunked'),
    'a coding before chunks': lines(OK, 'transfer-encoding: gzip, chunked'),
    'a coding alone': lines(OK, 'transfer-encoding: gzip'),
    'identity as a coding': lines(OK, 'transfer-encoding: identity'),
    'no coding': lines(OK, 'transfer-encoding:'),
    'chunks with a parameter': lines(OK, 'transfer-encoding: chunked;q=1'),
    'a head too long': lines(OK, `x: ${'y'.repeat(HEAD_BYTES_MAX)}`, 'content-length: 0'),
    'a head that does not end': `${OK}\r\n${'x: y\r\n'.repeat(HEAD_BYTES_MAX / 6 + 1)}`,
  }
  for (const [name, text] of Object.entries(heads)) {
    test(`a head: ${name}`, () => {
      const few = [[], [1], [OK.length + 1], fc.sample(fc.nat({ max: text.length }), { numRuns: 8, seed: 1 })]
      for (const cuts of text.length > 2_000 ? few : cutsOf(text.length)) {
        const heard = hear(text, cuts)
        assert.notEqual(heard.refusal, null)
        assert.deepEqual(heard.answers, [])
      }
    })
  }

  const bodies: Record<string, [chunks: string, body: string]> = {
    'no size': ['\r\nx\r\n0\r\n\r\n', ''],
    'a size that is none': ['x\r\nx\r\n0\r\n\r\n', ''],
    'a size with 0x': ['0x1\r\nx\r\n0\r\n\r\n', ''],
    'a negative size': ['-1\r\nx\r\n0\r\n\r\n', ''],
    'a signed size': ['+1\r\nx\r\n0\r\n\r\n', ''],
    'a space in front of the size': [' 1\r\nx\r\n0\r\n\r\n', ''],
    'a space after the size': ['1 \r\nx\r\n0\r\n\r\n', ''],
    'a size of fourteen digits': ['00000000000001\r\nx\r\n0\r\n\r\n', ''],
    'a size beyond every number': [`${'f'.repeat(20)}\r\nx\r\n0\r\n\r\n`, ''],
    'a bare line feed after the size': ['1\nx\r\n0\r\n\r\n', ''],
    'a bare carriage return after the size': ['1\rx\r\n0\r\n\r\n', ''],
    'an extension without name': ['1;\r\nx\r\n0\r\n\r\n', ''],
    'an extension with a space': ['1; a\r\nx\r\n0\r\n\r\n', ''],
    'an extension without value': ['1;a=\r\nx\r\n0\r\n\r\n', ''],
    'an extension whose quotes do not end': ['1;a="b\r\nx\r\n0\r\n\r\n', ''],
    'an extension with a control': ['1;a="\x01"\r\nx\r\n0\r\n\r\n', ''],
    'a line feed within an extension': ['1;a="\n"\r\nx\r\n0\r\n\r\n', ''],
    'a line too long': [`1;${'a'.repeat(5_000)}\r\nx\r\n0\r\n\r\n`, ''],
    'a line too long that does not end': [`1;${'a'.repeat(5_000)}`, ''],
    'a chunk longer than it says': ['1\r\nxy\r\n0\r\n\r\n', 'x'],
    'a chunk shorter than it says': ['3\r\nx\r\n0\r\n\r\n', 'x\r\n'],
    'a chunk that ends with a bare line feed': ['1\r\nx\n0\r\n\r\n', 'x'],
    'a chunk that ends with a bare carriage return': ['1\r\nx\r0\r\n\r\n', 'x'],
    'a chunk that ends with two carriage returns': ['1\r\nx\r\r\n0\r\n\r\n', 'x'],
    'an empty line between chunks': ['1\r\nx\r\n\r\n0\r\n\r\n', 'x'],
    'a trailer without colon': ['1\r\nx\r\n0\r\nnonsense\r\n\r\n', 'x'],
    'a folded trailer': ['1\r\nx\r\n0\r\na: b\r\n c: d\r\n\r\n', 'x'],
    'a trailer with a null': ['1\r\nx\r\n0\r\na: \0\r\n\r\n', 'x'],
    'a trailer that ends with a bare line feed': ['1\r\nx\r\n0\r\na: b\n\r\n', 'x'],
    'a length among the trailers': ['1\r\nx\r\n0\r\nContent-Length: 1\r\n\r\n', 'x'],
    'a coding among the trailers': ['1\r\nx\r\n0\r\ntransfer-encoding: chunked\r\n\r\n', 'x'],
    'a trailer too long': [`1\r\nx\r\n0\r\na: ${'b'.repeat(5_000)}\r\n\r\n`, 'x'],
    'trailers too long': [`1\r\nx\r\n0\r\n${`a: ${'b'.repeat(1_000)}\r\n`.repeat(17)}\r\n`, 'x'],
    'trailers that do not end': [`1\r\nx\r\n0\r\n${'a: b\r\n'.repeat(5_000)}`, 'x'],
  }
  for (const [name, [chunks, body]] of Object.entries(bodies)) {
    test(`chunks: ${name}`, () => {
      const text = CHUNKED + chunks
      const few = [
        [],
        [CHUNKED.length + 1],
        Array.from({ length: 6_000 }, (_, index) => index),
        fc.sample(fc.nat({ max: text.length }), { numRuns: 8, seed: 1 }),
      ]
      for (const cuts of text.length > 2_000 ? few : cutsOf(text.length)) {
        const heard = hear(text, cuts)
        assert.notEqual(heard.refusal, null)
        assert.deepEqual(heard.answers, [{ statusCode: 200, rawHeaders: ['transfer-encoding', 'chunked'], body, ended: false }])
      }
    })
  }

  test('limits, at their bound', () => {
    const head = (bytes: number): string =>
      lines(OK, 'content-length: 0', `x: ${'y'.repeat(bytes - lines(OK, 'content-length: 0', 'x: ').length + 4)}`)
    const sized = (bytes: number): string => `${CHUNKED}1;${'a'.repeat(bytes - 4)}\r\nx\r\n0\r\n\r\n`
    const trailing = (bytes: number): string =>
      `${CHUNKED}0\r\n${`a: ${'b'.repeat(1_021)}\r\n`.repeat(15)}a: ${'b'.repeat(bytes - 15 * 1_024 - 3)}\r\n\r\n`
    for (const [make, bound] of [
      [head, HEAD_BYTES_MAX],
      [sized, 4 * 1024],
      [trailing, 16 * 1024],
    ] as const) {
      const size = make(bound).length
      for (const cuts of [[], [size - 1], [size - 2], [size - 3], [100], fc.sample(fc.nat({ max: size }), { numRuns: 20, seed: 1 })]) {
        assert.equal(hear(make(bound), cuts).refusal, null)
        assert.notEqual(hear(make(bound + 1), cuts).refusal, null)
      }
    }
  })

  test('no message quotes what came', () => {
    for (const text of [...Object.values(heads), ...Object.values(bodies).map(([chunks]) => CHUNKED + chunks)]) {
      const secret = text.replace(/nonsense|x/g, 'SECRET')
      assert.doesNotMatch(hear(secret, []).refusal ?? '', /SECRET/)
    }
  })
})

describe('the end of the connection', () => {
  const cases: Record<string, [text: string, endedWell: boolean]> = {
    'before an answer': ['', false],
    'within the status': ['HTTP/1.1 2', false],
    'within the head': [`${OK}\r\ncontent-length: 0\r\n`, false],
    'after an interim answer': [lines('HTTP/1.1 100 Continue'), false],
    'within a body of a length': [`${lines(OK, 'content-length: 5')}hell`, false],
    'before a body of a length': [lines(OK, 'content-length: 5'), false],
    'before the chunks': [CHUNKED, false],
    'within a size': [`${CHUNKED}5`, false],
    'within a chunk': [`${CHUNKED}5\r\nhell`, false],
    'after a chunk': [`${CHUNKED}5\r\nhello\r\n`, false],
    'before the last line': [`${CHUNKED}0\r\n`, false],
    'within the last line': [`${CHUNKED}0\r\n\r`, false],
    'within the trailers': [`${CHUNKED}0\r\na: b\r\n`, false],
    'after the answer': [`${CHUNKED}0\r\n\r\n`, true],
    'as the end of the body': [`${lines(OK)}hello`, true],
  }
  for (const [name, [text, endedWell]] of Object.entries(cases)) {
    test(name, () => {
      always(text, { ends: true }, (heard) => {
        assert.equal(heard.refusal, null)
        assert.equal(heard.endedWell, endedWell)
        assert.equal(heard.answers.at(-1)?.ended ?? false, endedWell)
      })
    })
  }

  test('keeps nothing alive, and is no surprise when no answer is expected', () => {
    const reader = new ResponseReader({ head: () => undefined, data: () => undefined, end: () => undefined })
    assert.equal(reader.endOfConnection(), true)
    reader.expect()
    reader.push(Buffer.from(lines(OK, 'content-length: 0')))
    assert.equal(reader.keepsAlive, true)
    assert.equal(reader.endOfConnection(), true)
    assert.equal(reader.keepsAlive, false)
  })
})

describe('several answers', () => {
  const one = `${lines('HTTP/1.1 201 Made', 'content-length: 3', 'connection: close')}abc`
  const two = `${CHUNKED}3\r\ndef\r\n0\r\nx: y\r\n\r\n`
  const three = lines('HTTP/1.1 204 None')

  test('one after the other, each asked for', () => {
    const text = one + two + three + two
    const ends = [one.length, one.length + two.length, one.length + two.length + three.length]
    for (const cuts of cutsOf(text.length)) {
      const heard = hear(text, [...ends, ...cuts], { requests: 4 })
      assert.equal(heard.refusal, null)
      assert.deepEqual(
        heard.answers.map(({ statusCode, body, ended }) => [statusCode, body, ended]),
        [
          [201, 'abc', true],
          [200, 'def', true],
          [204, '', true],
          [200, 'def', true],
        ],
      )
      assert.equal(heard.keepsAlive, true)
    }
  })

  test('what nobody asked for is refused, after the answer in front of it was heard', () => {
    for (const answer of [one, two, three, lines(OK, 'content-length: 0')]) {
      for (const more of ['x', '\r\n', one]) {
        always(answer + more, {}, (heard) => {
          assert.match(heard.refusal ?? '', /no request asked for/)
          assert.equal(heard.answers.length, 1)
          assert.equal(heard.answers[0]?.ended, true)
        })
      }
    }
  })

  test('what stands behind an answer is not that of the request which is sent as soon as it ended', () => {
    const heads: number[] = []
    const kept: boolean[] = []
    const reader = new ResponseReader({
      head: (statusCode) => heads.push(statusCode),
      data: () => undefined,
      end: () => {
        kept.push(reader.keepsAlive)
        reader.expect()
      },
    })
    for (const answer of [two, three, `${lines(OK, 'content-length: 1')}x`]) {
      heads.length = 0
      if (reader.isIdle) reader.expect()
      assert.throws(() => reader.push(Buffer.from(answer + lines('HTTP/1.1 418 Smuggled', 'content-length: 0'))), MalformedResponse)
      assert.ok(!heads.includes(418))
    }
    assert.deepEqual(kept, [false, false, false])
  })

  test('nothing is asked for while an answer is out', () => {
    const reader = new ResponseReader({ head: () => undefined, data: () => undefined, end: () => undefined })
    assert.ok(reader.isIdle)
    assert.throws(() => reader.push(Buffer.from('x')), MalformedResponse)
    reader.expect()
    assert.ok(!reader.isIdle)
    assert.throws(() => reader.expect(), TypeError)
  })
})

test('bodies are handed on uncopied, and heads are not kept as views', () => {
  const piece = Buffer.from(`${lines(OK, 'x-kept: value', 'content-length: 10')}01234`)
  const views: Buffer[] = []
  let headers: readonly string[] = []
  const reader = new ResponseReader({
    head: (_, rawHeaders) => (headers = rawHeaders),
    data: (chunk) => views.push(chunk),
    end: () => undefined,
  })
  reader.expect()
  reader.push(piece)
  const rest = Buffer.from('56789')
  reader.push(rest)
  assert.equal(views[0]?.buffer, piece.buffer)
  assert.equal(views[1], rest)
  piece.fill(0)
  assert.deepEqual(headers, ['x-kept', 'value', 'content-length', '10'])
})
