/** For tests of what no body may do: bodies of 4 MiB in the shape of each wire, and how long one of them holds up everything else. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { chainDigests } from '../core/chain.ts'
import type { Edit } from '../core/conversation.ts'
import { driverBytes } from '../core/drivers.ts'
import { replay } from '../core/edit-log.ts'
import { inputBound } from '../core/estimate.ts'
import { planCut } from '../core/history-cut.ts'
import { messagesDigest } from '../core/message-digests.ts'
import { KeyedHash } from '../core/keyed-hash.ts'
import { readAhead } from '../core/read-ahead.ts'
import type { ModelRequest } from '../core/request.ts'
import { workedMs } from '../core/work.testing.ts'
import { ELEMENTS_MAX, VALUES_TOTAL_MAX } from './json-scan.ts'
import { PACER } from './pacer.ts'
import type { ParsedRequest } from './wire.ts'

export const BODY_BYTES = 4 * 1024 * 1024
export const PAUSE_MS_MAX = 50
/** A first attempt compiles, and any may collect garbage: one of these must do. */
const ATTEMPTS = 4
const ROOM = BODY_BYTES - 400
/** How many messages, and how long each is. */
const HISTORIES = [
  [2_000, 10_000],
  [9_000, 3_000],
  [28, 1_000_000],
] as const

/** How a wire says things, as JSON text. */
export interface WireShape {
  /** A body without its closing brace, to which fields are added. */
  readonly head: string
  /** A body in which the user says `content`: a string, a list of parts, or what should be one. */
  readonly said: (content: string) => string
  /** A body with these elements where messages stand, and a message after them. `elements` ends with a comma, or is white space. */
  readonly listed: (elements: string) => string
  /** A message, with more members: `,"a":1`. */
  readonly message: (more: string) => string
  /** A message that says `content`. */
  readonly saying: (content: string) => string
  /** An answer that says `content`. Absent: the wire has none in its requests. */
  readonly replying?: (content: string) => string
  readonly textPart: string
  readonly imagePart: string
  /** An image of the base64 given. */
  readonly image: (base64: string) => string
  /** A message that calls tools: so many calls, where the wire has several in one. */
  readonly calling: (count: number) => string
  /** A message with results of so many calls that nobody made, where the wire has several in one. */
  readonly answering: (count: number) => string
}

const repeated = (text: string, room = ROOM): string => text.repeat(Math.floor(room / Buffer.byteLength(text)))
const times = (element: string, count: number): string => `${element},`.repeat(count)
/** Keys and values, of what the bodies here are made of. */
const valuesIn = (text: string): number => (text.match(/"[^"]*"|[{[]|\b\d/g) ?? []).length
/** As often as fits into a share of the room, and of the elements and values that a body may hold. */
const filling = (element: string, share = 0.96): string =>
  times(element, Math.floor(share * Math.min(ROOM / (Buffer.byteLength(element) + 1), VALUES_TOTAL_MAX / valuesIn(element), ELEMENTS_MAX)))
/** How many of a part a message may hold: keys and values are bounded, in a message and over all of them. */
const perMessage = (part: string, valuesMax = 19_000): number =>
  Math.floor(Math.min(valuesMax / valuesIn(part), ROOM / 12.5 / (Buffer.byteLength(part) + 1)))
const keyed = (count: number, nameOf: (index: number) => string): string =>
  `{${Array.from({ length: count }, (_, index) => `"${nameOf(index)}":1`).join(',')}}`
const jpeg = Buffer.concat([Buffer.from([0xff, 0xd8]), Buffer.alloc(97_000, Buffer.from([0xff, 0xe0, 0, 2]))]).toString('base64')

export function nastyBodies(shape: WireShape): Readonly<Record<string, string>> {
  const { head, said, listed, message, saying, textPart, imagePart, image, calling, answering } = shape
  const each = (more: string): string => times(message(`,"x":${more}`), 12)
  return {
    'nested lists': said(repeated('[')),
    'nested objects': `${head},"x":${repeated('{"a":')}`,
    'nested lists, as the body': repeated('['),
    'one long string': said(`"${repeated('a')}"`),
    'one long string that does not end': said(`"${repeated('a')}`),
    'escaped quotes': said(`"${repeated('\\"')}"`),
    'escaped quotes without an end': said(`"${repeated('\\"')}`),
    'escaped backslashes': said(`"${repeated('\\\\')}"`),
    'escaped characters': said(`"${repeated('\\u00e9')}"`),
    'two-byte characters': said(`"${repeated('é')}"`),
    'three-byte characters': said(`"${repeated('語')}"`),
    'four-byte characters': said(`"${repeated('😀')}"`),
    'characters of all sizes': said(`"${repeated('aé語😀')}"`),
    'a string in an unknown field': `${head},"x":"${repeated('a')}"}`,
    'tiny messages': listed(times(message(''), 250_000)),
    'as many messages as there may be': listed(times(saying(`"${'x'.repeat(360)}"`), 9_990)),
    'tiny elements that are no messages': listed(times('0', 2_000_000)),
    'messages of many parts': listed(times(saying(`[${times(textPart, perMessage(textPart))}1]`), 12)),
    'many empty lists': `${head},"x":[${repeated('[],')}1]}`,
    'tool calls by the thousand': listed(filling(calling(1_600), 0.8)),
    'results by the thousand, of none of a thousand calls': listed(filling(calling(1_600), 0.4) + filling(answering(1_600), 0.4)),
    'single results, of none of a thousand calls': listed(filling(calling(1_600), 0.4) + filling(answering(1), 0.9)),
    'images by the thousand': listed(times(saying(`[${times(imagePart, perMessage(imagePart, 19_000 / 2))}1]`), 24)),
    'photos without a size': said(`[${times(image(jpeg), 31)}1]`),
    'one huge number': `${head},"x":${repeated('9')}}`,
    'one huge fraction': `${head},"x":0.${repeated('9')}}`,
    'many long numbers': listed(times(message(`,"x":[${'1.7976931348623157e308,'.repeat(9_000)}1]`), 20)),
    'many keys': keyed(300_000, (index) => `k${index}`),
    'many keys in a field': `${head},"x":${keyed(300_000, (index) => `k${index}`)}}`,
    'many keys in each message': listed(each(keyed(9_000, (index) => `${'k'.repeat(26)}${index}`))),
    'keys with backslashes': listed(each(keyed(9_000, (index) => `${'\\\\\\\\'.repeat(6)}${index}`))),
    'a long text beside a key with a backslash': said(`[{"\\\\":1},"${'\\"'.repeat(ROOM / 2 - 10)}"]`),
    'keys that are numbers': listed(each(keyed(9_000, (index) => String(4_294_967_294 - index * 7_919)))),
    'one long key': `{"${repeated('k')}":1}`,
    'one long key in a spelling of its own': `{"${repeated('\u212a')}":1}`,
    'long keys in spellings of their own': keyed(255, (index) => `${'\ufdfa'.repeat(5_400)}${index}`),
    'one long key of escapes': `{"${repeated('\\u006b')}":1}`,
    'white space': `{${repeated(' ')}}`,
    'white space between messages': listed(repeated(' ')),
    'white space in a message': listed(`${message(`,${repeated('\n')}"a":1`)},`),
    commas: listed(repeated(',')),
    'zero bytes': repeated('\0'),
  }
}

/** The longest time for which nothing else could run while `work` did, in milliseconds. */
export async function longestPause(work: () => Promise<unknown>): Promise<number> {
  let longest = 0
  let last = workedMs()
  let running = true
  const look = (): void => {
    const now = workedMs()
    longest = Math.max(longest, now - last)
    last = now
    if (running) setImmediate(look)
  }
  setImmediate(look)
  await sleep(2)
  longest = 0
  try {
    await work()
    await pause()
  } finally {
    running = false
  }
  return longest
}

export async function staysShort(work: () => Promise<unknown>): Promise<void> {
  let best = Infinity
  for (let attempt = 0; attempt < ATTEMPTS && best > PAUSE_MS_MAX; attempt += 1) best = Math.min(best, await longestPause(work))
  assert.ok(best <= PAUSE_MS_MAX, `nothing else could run for ${best.toFixed(0)} ms`)
}

/** What is true of every wire: a whole turn on any such body, on a text of 31 MiB and on long histories, as far as they are not refused. */
export function testPauses(
  shape: WireShape,
  parse: (body: Buffer) => Promise<ParsedRequest>,
  render: (request: ModelRequest) => Buffer,
): void {
  const bodies = nastyBodies(shape)
  /** False where the body is refused. */
  const wholeTurn = async (body: Buffer): Promise<boolean> => {
    const parsed = await parse(body)
    if (parsed.status !== 'ok') return false
    for (const step of stepsOfTurn(parsed.request)) {
      await pause() // a turn waits for the store between them
      await step()
    }
    await pause()
    render(parsed.request)
    return true
  }
  for (const [name, text] of Object.entries(bodies)) {
    test(`a whole turn on up to 4 MiB of ${name} never holds up the event loop for more than ${PAUSE_MS_MAX} ms`, async () => {
      const body = Buffer.from(text)
      assert.ok(body.length <= BODY_BYTES && body.length > BODY_BYTES / 10, `${body.length} bytes`)
      await staysShort(() => wholeTurn(body))
    })
  }

  for (const [name, unit] of Object.entries({ 'one letter': 'a', spaces: ' ', 'three-byte characters': '語' })) {
    test(`nor do 31 MiB of ${name}, which are read in slices and named by their ends`, async () => {
      const body = Buffer.from(shape.said(`"${unit.repeat(Math.floor((31 << 20) / Buffer.byteLength(unit)))}"`))
      await staysShort(async () => assert.ok(await wholeTurn(body)))
    })
  }

  for (const [count, bytes] of HISTORIES) {
    test(`nor does a history of ${count} messages of ${bytes} bytes`, async () => {
      const said = `"${'word '.repeat(bytes / 5)}"`
      const pair = shape.replying === undefined ? [shape.saying(said), shape.saying(said)] : [shape.saying(said), shape.replying(said)]
      const body = Buffer.from(shape.listed(times(pair.join(','), count / 2)))
      await staysShort(async () => assert.ok((await wholeTurn(body)) || shape.replying === undefined))
    })
  }

  test('nor do several such bodies at once', async () => {
    const names = [
      'one long string',
      'escaped quotes',
      'many long numbers',
      'many keys in each message',
      'as many messages as there may be',
    ]
    const several = names.map((name) => Buffer.from(bodies[name] ?? ''))
    await staysShort(() => Promise.all(several.map((body) => parse(body))))
  })
}

const pause = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

function stepsOfTurn(request: ModelRequest): readonly (() => unknown)[] {
  const { messages, fixedBytes, fixedDigest, model } = request
  const key = new KeyedHash(Buffer.alloc(32))
  // It names a message that is not there: all are asked for theirs.
  const replaced = { kind: 'replace', id: 'r', rung: 'DropRetrieval', original: '', text: '{}', savedBytes: 0 } as const
  const told = [70, 80, 90, 95].map((percent) => ({
    kind: 'notice' as const,
    id: `n${percent}`,
    text: `You have used ${percent} percent of what this conversation may cost.`,
  }))
  const edits: readonly Edit[] = [replaced, ...told]
  return [
    () => PACER.run(chainDigests(messages, key, 'scope')),
    () => PACER.run(readAhead(request, { edits, exact: null }, false)),
    () => replay(request, edits),
    () => inputBound({ messages, fixedBytes, fixedDigest, model, exact: null, factor: 1, contextTokens: 128_000 }).heuristic,
    () => messagesDigest(messages, messages.length),
    () => planCut({ request, edits, keepRecentTurns: 1 }),
    () => driverBytes(request, messages, { toolNames: ['search'], tags: ['context'] }),
  ]
}
