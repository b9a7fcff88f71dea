/** The bound that no body, however nasty, holds up the other conversations of the pod. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseChatRequest, renderChatRequest } from './openai-chat.ts'
import { chainDigests } from '../core/chain.ts'
import { originalDigest } from '../core/digest.ts'
import { driverBytes, inputBound, messagesDigest } from '../core/estimate.ts'
import { KeyedHash } from '../core/keyed-hash.ts'
import { CHAT_CALL } from './testing.ts'

const BODY_BYTES = 4 * 1024 * 1024
const PAUSE_MS_MAX = 50
/** A first attempt compiles, and any may collect garbage: one of these must do. */
const ATTEMPTS = 4

const HEAD = '{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]'
const ROOM = BODY_BYTES - 200

const repeated = (text: string): string => text.repeat(Math.floor(ROOM / Buffer.byteLength(text)))
const said = (content: string): string => `{"model":"gpt-4o","messages":[{"role":"user","content":${content}}]}`
const listed = (element: string, count: number): string => `{"model":"gpt-4o","messages":[${`${element},`.repeat(count)}{"role":"user"}]}`
const keyed = (count: number, nameOf: (index: number) => string): string =>
  `{${Array.from({ length: count }, (_, index) => `"${nameOf(index)}":1`).join(',')}}`
const jpeg = Buffer.concat([Buffer.from([0xff, 0xd8]), Buffer.alloc(97_000, Buffer.from([0xff, 0xe0, 0, 2]))]).toString('base64')

const BODIES: Record<string, string> = {
  'nested lists': said(repeated('[')),
  'nested objects': `${HEAD},"x":${repeated('{"a":')}`,
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
  'a string in an unknown field': `${HEAD},"x":"${repeated('a')}"}`,
  'tiny messages': listed('{"role":"user"}', 250_000),
  'as many messages as there may be': listed(`{"role":"user","content":"${'x'.repeat(380)}"}`, 9_990),
  'tiny elements that are no messages': listed('0', 2_000_000),
  'messages of many parts': listed(
    `{"role":"user","content":[${'{"type":"text","text":"some characters that say nothing, but are there"},'.repeat(3_900)}1]}`,
    12,
  ),
  'many empty lists': `${HEAD},"x":[${repeated('[],')}1]}`,
  'tool calls by the thousand': listed(
    `{"role":"assistant","tool_calls":[${'{"id":"call_with_a_long_name_0123456789"},'.repeat(6_600)}1]}`,
    12,
  ),
  'images by the thousand': listed(
    `{"role":"user","content":[${'{"type":"image_url","image_url":"data:;base64,AAAA"},'.repeat(2_400)}1]}`,
    24,
  ),
  'photos without a size': said(`[${`{"type":"image_url","image_url":"data:image/jpeg;base64,${jpeg}"},`.repeat(31)}1]`),
  'one huge number': `${HEAD},"x":${repeated('9')}}`,
  'one huge fraction': `${HEAD},"x":0.${repeated('9')}}`,
  'many long numbers': listed(`{"role":"user","x":[${'1.7976931348623157e308,'.repeat(9_000)}1]}`, 20),
  'many keys': keyed(300_000, (index) => `k${index}`),
  'many keys in a field': `${HEAD},"x":${keyed(300_000, (index) => `k${index}`)}}`,
  'many keys in each message': listed(`{"role":"user","x":${keyed(9_000, (index) => `${'k'.repeat(26)}${index}`)}}`, 12),
  'keys with backslashes': listed(`{"role":"user","x":${keyed(9_000, (index) => `${'\\\\\\\\'.repeat(6)}${index}`)}}`, 12),
  'a long text beside a key with a backslash': said(`[{"\\\\":1},"${'\\"'.repeat(ROOM / 2 - 10)}"]`),
  'keys that are numbers': listed(`{"role":"user","x":${keyed(9_000, (index) => String(4_294_967_294 - index * 7_919))}}`, 12),
  'one long key': `{"${repeated('k')}":1}`,
  'one long key of escapes': `{"${repeated('\\u006b')}":1}`,
  'white space': `{${repeated(' ')}}`,
  'white space between messages': listed(repeated(' '), 0).replace('[', `[${repeated(' ')}`),
  'white space in a message': `{"model":"gpt-4o","messages":[{"role":"user",${repeated('\n')}"a":1}]}`,
  commas: `{"model":"gpt-4o","messages":[${repeated(',')}`,
  'zero bytes': repeated('\0'),
}

/** Time that this thread has worked, in milliseconds: what the machine does meanwhile for others is not held against it. */
function workedMs(): number {
  const { user, system } = process.threadCpuUsage()
  return (user + system) / 1_000
}

/** The longest time for which nothing else could run while `work` did, in milliseconds. */
async function longestPause(work: () => Promise<unknown>): Promise<number> {
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
  await work()
  await new Promise((resolve) => setImmediate(resolve))
  running = false
  return longest
}

async function staysShort(work: () => Promise<unknown>): Promise<void> {
  let best = Infinity
  for (let attempt = 0; attempt < ATTEMPTS && best > PAUSE_MS_MAX; attempt += 1) best = Math.min(best, await longestPause(work))
  assert.ok(best <= PAUSE_MS_MAX, `nothing else could run for ${best.toFixed(0)} ms`)
}

test('a pause is seen by the way it is measured here', async () => {
  const pause = await longestPause(async () => {
    await sleep(1)
    const until = workedMs() + 2 * PAUSE_MS_MAX
    while (workedMs() < until);
  })
  assert.ok(pause > PAUSE_MS_MAX)
})

for (const [name, text] of Object.entries(BODIES)) {
  test(`4 MiB of ${name} never hold up the event loop for more than ${PAUSE_MS_MAX} ms`, async () => {
    const body = Buffer.from(text)
    assert.ok(body.length <= BODY_BYTES && body.length > BODY_BYTES * 0.35, `${body.length} bytes`)
    await staysShort(() => parseChatRequest(body, CHAT_CALL))
  })
}

for (const [name, unit] of Object.entries({ 'one letter': 'a', spaces: ' ', 'three-byte characters': '語' })) {
  test(`nor does a whole turn on 31 MiB of ${name}, which is read in slices and named by its ends`, async () => {
    const text = unit.repeat(Math.floor((31 << 20) / Buffer.byteLength(unit)))
    const body = Buffer.from(JSON.stringify({ model: 'gpt-4o', messages: [{ role: 'user', content: text }] }))
    const key = new KeyedHash(Buffer.alloc(32))
    const pause = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
    await staysShort(async () => {
      const parsed = await parseChatRequest(body, CHAT_CALL)
      assert.equal(parsed.status, 'ok')
      if (parsed.status !== 'ok') return
      const { request } = parsed
      const { messages, fixedBytes, fixedDigest, model } = request
      const steps = [
        () => chainDigests(messages, key, 'scope'),
        () => inputBound({ messages, fixedBytes, fixedDigest, model, exact: null, factor: 1 }).heuristic,
        () => messagesDigest(messages, messages.length),
        () => messages.map((message) => originalDigest(message)),
        () => driverBytes(request, messages, { toolNames: ['search'], tags: ['context'] }),
        () => renderChatRequest(request, { outputLimit: { field: 'max_tokens', tokens: 5 } }),
      ]
      for (const step of steps) {
        await pause() // a turn waits for the store between them
        step()
      }
    })
  })
}

test('nor do several such bodies at once', async () => {
  const names = ['one long string', 'escaped quotes', 'many long numbers', 'many keys in each message', 'as many messages as there may be']
  const bodies = names.map((name) => Buffer.from(BODIES[name] ?? ''))
  await staysShort(() => Promise.all(bodies.map((body) => parseChatRequest(body, CHAT_CALL))))
})
